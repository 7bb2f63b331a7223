"""The fit of one joint against numbers that are known."""

import numpy as np
import pytest

from alula.identification.arm_samples import SMOOTHING
from alula.identification.joint_friction import (
    Problem,
    deviations,
    fit,
    held_out_rms,
    rms,
    unit_rms,
)

S = 1000


def problem(y=None, links=None, *, coulomb=1.5, smoothing=0.05, noise=0.0, seed=0) -> Problem:
    """A joint that swings: y = coulomb tanh(qd / s) + 0.8 qd - 0.3 + 0.2 qdd."""
    t = np.linspace(0.0, 20.0, S)
    qd = np.sin(2.0 * t) + 0.4 * np.sin(5.3 * t)
    qdd = 2.0 * np.cos(2.0 * t) + 2.12 * np.cos(5.3 * t)
    rest = np.column_stack((qd, np.ones(S), qdd))
    own = coulomb * np.tanh(qd / smoothing) + rest @ [0.8, -0.3, 0.2]
    own = own + noise * np.random.default_rng(seed).standard_normal(S)
    return Problem(
        signs=np.column_stack([np.tanh(qd / s) for s in SMOOTHING]),
        rest=rest,
        names=("viscous", "offset", "acceleration"),
        links=np.zeros((S, 0)) if links is None else links,
        y=own if y is None else y,
    )


def test_without_noise_the_truth_is_found():
    fitted = fit(problem())
    assert SMOOTHING[fitted.smoothing] == 0.05
    assert fitted.shrink is None
    np.testing.assert_allclose(fitted.own, [1.5, 0.8, -0.3, 0.2], atol=1e-6)
    assert held_out_rms(problem()) < 1e-6


def test_links_are_corrected_only_where_that_predicts_better():
    t = np.linspace(0.0, 20.0, S)
    links = unit_rms(np.column_stack((np.sin(0.7 * t), np.cos(1.1 * t))))
    noisy = problem(links=links, noise=0.1)
    assert fit(noisy).shrink is None
    wrong = problem(y=noisy.y + links @ [0.5, -2.0], links=links)
    fitted = fit(wrong)
    assert fitted.shrink is not None
    assert fitted.shrink <= 0.01
    np.testing.assert_allclose(fitted.links, [0.5, -2.0], atol=0.03)
    np.testing.assert_allclose(fitted.own, [1.5, 0.8, -0.3, 0.2], atol=0.03)
    # with links as they are, what is wrong with them stays: sqrt(0.5^2 + 2^2) = 2.06
    assert held_out_rms(wrong, (None,)) > 1.8
    assert held_out_rms(wrong) == pytest.approx(0.1, abs=0.01)


def test_unit_rms_drops_columns_of_nothing():
    columns = np.array([[3.0, 0.0, 1e-9], [-3.0, 0.0, 1e-9]])
    np.testing.assert_array_equal(unit_rms(columns), [[1.0], [-1.0]])
    assert rms(np.array([3.0, 4.0])) == pytest.approx(12.5**0.5)


def test_deviations_of_white_noise_are_those_of_the_textbook():
    noisy = problem(noise=0.3)
    fitted = fit(noisy)
    steps, widen = deviations(noisy, fitted)
    k = fitted.smoothing
    neighbour = noisy.signs[:, k + 1] - noisy.signs[:, k]
    x = np.column_stack((noisy.signs[:, k], noisy.rest, neighbour))
    # sigma^2 (X'X)^-1
    expected = 0.3 * np.sqrt(np.diag(np.linalg.inv(x.T @ x)))[:-1]
    np.testing.assert_allclose(np.std(steps, axis=0), expected, rtol=0.35)
    assert widen >= 1.0
