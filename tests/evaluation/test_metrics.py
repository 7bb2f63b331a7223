"""Metrics of made-up flights with hand-computed numbers; interval formulas against scipy."""

import numpy as np
import pytest
from scipy import stats

from alula.evaluation.flight import Flight, Trace
from alula.evaluation.metrics import (
    bootstrap_interval,
    measure,
    quantile_interval,
    wilson_interval,
)


def flight(position_error: np.ndarray, failed_at: list[int], failure: list[int]) -> Flight:
    steps = len(position_error)
    empty = np.zeros((steps, 0, 3))
    return Flight(
        control_dt=0.5,
        position_error=position_error.astype(np.float32),
        failed_at=np.array(failed_at),
        failure=np.array(failure),
        trace=Trace(
            position_w=empty, reference_w=empty, velocity_w=empty, quat_wb=empty,
            angular_velocity_b=empty, rotor_fraction=empty, action=empty,
        ),
    )  # fmt: skip


def test_hand_computed_figures() -> None:
    # steps of 0.5 s: the last second is two steps, the start-up of 2 s four steps
    error = np.array(
        [
            [9.0, 9.0, 9.0],
            [9.0, 9.0, 9.0],
            [9.0, 9.0, 9.0],
            [9.0, 9.0, 9.0],
            [0.3, 0.5, 9.0],
            [0.1, 0.3, 9.0],
            [0.2, 0.6, 9.0],
        ]
    )
    m = measure(flight(error, [7, 7, 3], [0, 0, 2]))
    assert (m.episodes, m.survived) == (3, 2)
    assert m.success == pytest.approx(2 / 3)
    # episode means of the last two steps: 0.15 and 0.45
    assert m.hover_error_m == pytest.approx(0.30, abs=1e-6)
    # linear interpolation at 95 % between 0.15 and 0.45
    assert m.hover_error_p95_m == pytest.approx(0.435, abs=1e-6)
    # mean of 0.09 0.01 0.04 and 0.25 0.09 0.36 is 0.14; its root 0.374166
    assert m.tracking_rmse_m == pytest.approx(0.374166, abs=1e-6)
    assert m.failures == {"position": 0, "velocity": 1, "angular_velocity": 0, "non_finite": 0}
    low, high = m.hover_error_interval_m or (0.0, 0.0)
    assert low == pytest.approx(0.15, abs=1e-6)
    assert high == pytest.approx(0.45, abs=1e-6)


def test_no_survivor_gives_no_error_rather_than_a_number() -> None:
    m = measure(flight(np.ones((4, 2)), [0, 3], [1, 4]))
    assert m.success == 0.0
    assert m.hover_error_m is m.hover_error_p95_m is m.tracking_rmse_m is None
    assert m.hover_error_interval_m is m.tracking_rmse_interval_m is None
    assert m.failures["position"] == m.failures["non_finite"] == 1


def test_a_flight_shorter_than_the_start_up_is_judged_by_its_last_step() -> None:
    m = measure(flight(np.array([[5.0], [0.25]]), [2], [0]))
    assert m.tracking_rmse_m == pytest.approx(0.25)


def test_failed_episodes_do_not_spoil_the_error_of_the_others() -> None:
    error = np.full((6, 2), 0.1)
    error[2:, 1] = np.nan
    m = measure(flight(error, [6, 2], [0, 4]))
    assert m.hover_error_m == pytest.approx(0.1)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (1, 10), (500, 1000), (998, 1000), (1000, 1000)])
def test_wilson_interval_is_scipys(k: int, n: int) -> None:
    expected = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(wilson_interval(k, n), expected, atol=1e-12)


def test_wilson_interval_by_hand() -> None:
    # all of 100: lower end n / (n + z^2) = 100 / 103.8415
    low, high = wilson_interval(100, 100)
    assert low == pytest.approx(0.963006, abs=1e-6)
    assert high == 1.0


def test_bootstrap_interval_is_scipys() -> None:
    values = np.random.default_rng(1).gamma(2.0, 1.0, 300)
    ours = bootstrap_interval(values)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(2)
    ).confidence_interval
    np.testing.assert_allclose(ours, theirs, rtol=0.02)
    assert ours == bootstrap_interval(values)


def test_bootstrap_of_many_values_stays_bounded() -> None:
    low, high = bootstrap_interval(np.repeat([0.0, 1.0], 50_000))
    # standard error 0.5 / sqrt(100000) = 0.00158
    assert low == pytest.approx(0.5 - 1.96 * 0.00158, abs=5e-4)
    assert high == pytest.approx(0.5 + 1.96 * 0.00158, abs=5e-4)


def test_quantile_interval_ranks() -> None:
    # 1..100, q 0.5: ranks 50 +- 1.96 * 5 = 40.2..59.8, outwards 40 and 60
    assert quantile_interval(np.arange(1.0, 101.0), 0.5) == (40.0, 60.0)
    # 1..100, q 0.95: ranks 95 +- 1.96 * 2.1794 = 90.7..99.3, outwards 90 and 100
    assert quantile_interval(np.arange(1.0, 101.0)[::-1], 0.95) == (90.0, 100.0)


def test_quantile_interval_of_one_value() -> None:
    assert quantile_interval(np.array([0.3]), 0.95) == (0.3, 0.3)
