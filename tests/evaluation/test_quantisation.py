"""The choice of formats: figures by hand, a network made to fail in int8, refusals, and the C that is flown."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from alula.errors import AlulaError
from alula.evaluation import quantisation
from alula.evaluation.flight import Flight, Trace
from alula.evaluation.quantisation import (
    Quantisation,
    _growth,
    check_formats,
    choose_formats,
    sign_test,
)
from alula.policies.onnx_file import Policy, load_policy, write_policy

QUICK: dict[str, Any] = {"episodes": 48, "steps": 250}
NOTHING = Trace(*(np.zeros((0, 0, 3)),) * 7)


@pytest.fixture(scope="module")
def two_layers(hover_policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """The linear feedback z as relu(z) - relu(-z), where relu(z) is 2^-12 of itself between the layers.

    In float32 that is the same policy to the last bit; in the second matrix 1 stands beside 2^12 in every column.
    """
    network = hover_policy.network
    (w,), (b,) = network.weights, network.biases
    eye = np.eye(4, dtype=np.float32)
    small = np.float32(2.0**-12)
    split = replace(
        network,
        weights=(np.hstack([w * small, -w]), np.vstack([eye / small, -eye])),
        biases=(np.hstack([b * small, -b]), np.zeros(4, np.float32)),
    )
    path = tmp_path_factory.mktemp("two") / "policy.onnx"
    write_policy(path, split, hover_policy.contract)
    return load_policy(path)


def flight(errors: list[list[float]], failed_at: list[int]) -> Flight:
    """Episodes of two steps of 0.5 s; errors are [step][episode]."""
    return Flight(
        control_dt=0.5,
        position_error=np.array(errors, np.float32),
        failed_at=np.array(failed_at),
        failure=np.zeros(len(failed_at), int),
        trace=NOTHING,
    )


def test_growth_by_hand() -> None:
    # means of the last second 2, 3 and 3, 3; the third episode fails in one of the flights
    before = flight([[1.0, 3.0, 9.0], [3.0, 3.0, 9.0]], [2, 2, 2])
    after = flight([[2.0, 3.0, 1.0], [4.0, 3.0, 1.0]], [2, 2, 0])
    hover = _growth(before, after, False)
    assert (hover["float32_m"], hover["quantised_m"]) == (2.5, 3.0)
    assert hover["growth"] == pytest.approx(0.2)
    # pairs are drawn together: growth lies between that of one episode and that of the other
    assert hover["growth_interval"] == pytest.approx((0.0, 0.5))
    # squares of the last step (the flight is shorter than the start-up): (9 + 9) / 2 and (16 + 9) / 2
    track = _growth(before, after, True)
    assert track["growth"] == pytest.approx(np.sqrt(12.5 / 9.0) - 1.0)


def test_no_common_survivor_is_an_infinite_growth() -> None:
    before, after = flight([[1.0]] * 2, [2]), flight([[1.0]] * 2, [0])
    assert _growth(before, after, False)["growth"] == np.inf


def test_a_benign_policy_is_all_int8(hover_policy: Policy) -> None:
    result = choose_formats(hover_policy, **QUICK)
    assert result.formats == ("int8-int16",)
    assert result.tried == 1
    assert abs(result.growth) < 0.1
    assert result.growth_interval[0] <= result.growth <= result.growth_interval[1]
    assert 0.0 < result.flight_max_abs_diff == result.matrix_max_abs_diff[0] < 0.2
    assert result.flight_rms_diff < result.flight_max_abs_diff
    assert 1e-6 < result.golden_max_abs_diff < 0.3
    # four outputs and their scales take 37 words each, instead of 147
    saved = result.float32_flash_bytes - result.quantised_flash_bytes
    inputs = hover_policy.contract.observation_size
    padded = inputs + -inputs % 4
    assert saved == 4 * (inputs + 1) * 4 - (4 * padded + 8 * 4) - 4 * inputs


def test_the_matrix_that_int8_ruins_stays_float32(two_layers: Policy) -> None:
    result = choose_formats(two_layers, **QUICK)
    assert result.formats == ("int8-int16", "float32")
    assert result.tried == 3
    assert result.matrix_max_abs_diff[1] == 0.0
    assert result.acceptable


def test_given_formats_are_flown_too(two_layers: Policy) -> None:
    assert check_formats(two_layers, ("int8-float", "float32"), **QUICK).acceptable
    with pytest.raises(
        AlulaError, match="with matrix formats int8-int16, int8-float, the error grows"
    ):
        check_formats(two_layers, ("int8-int16", "int8-float"), **QUICK)


def test_float32_in_c_flies_as_float32_in_onnx(hover_policy: Policy) -> None:
    result = check_formats(hover_policy, ("float32",), **QUICK)
    assert abs(result.growth) < 1e-3
    assert result.float32_success == result.quantised_success
    assert result.flight_max_abs_diff == 0.0
    assert result.golden_max_abs_diff < 1e-5
    assert result.float32_flash_bytes == result.quantised_flash_bytes


def test_refused_when_only_float32_remains(
    hover_policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantisation, "GROWTH_LIMIT", -1.0)
    with pytest.raises(AlulaError, match="no matrix of the policy can be int8"):
        choose_formats(hover_policy, episodes=8, steps=20)


def test_sign_test_by_hand() -> None:
    assert sign_test(0, 0) == 1.0
    assert sign_test(4, 0) == 1 / 16
    # 3 or 4 of 4: (4 + 1) / 16
    assert sign_test(3, 1) == 5 / 16
    assert sign_test(10, 3) == pytest.approx(binomtest(10, 13, alternative="greater").pvalue)


def test_what_is_acceptable(hover_policy: Policy) -> None:
    result = choose_formats(hover_policy, **QUICK)
    good = replace(result, growth=0.02, episodes=256, lost=0, gained=0)
    assert good.acceptable
    assert not replace(good, lost=4).acceptable
    assert replace(good, lost=2).acceptable
    assert replace(good, lost=24, gained=20).acceptable
    assert not replace(good, lost=24, gained=12).acceptable
    assert not replace(good, growth=0.11).acceptable
    assert not replace(good, growth=float("nan")).acceptable


def test_bad_input(hover_policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        AlulaError, match="matrix formats int4; allowed: one of float32, int8-float"
    ):
        check_formats(hover_policy, ("int4",), **QUICK)  # pyright: ignore[reportArgumentType]
    with pytest.raises(AlulaError, match="allowed: one of"):
        check_formats(hover_policy, ("float32", "float32"), **QUICK)
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(AlulaError, match="no C compiler found"):
        choose_formats(hover_policy, **QUICK)


def test_a_policy_that_cannot_fly_is_refused(hover_policy: Policy, tmp_path: Path) -> None:
    network = hover_policy.network
    dead = replace(network, biases=(np.full(4, -50.0, np.float32),))
    write_policy(tmp_path / "policy.onnx", dead, hover_policy.contract)
    with pytest.raises(AlulaError, match="survives none of 8 episodes"):
        choose_formats(load_policy(tmp_path / "policy.onnx"), episodes=8)


def test_json(hover_policy: Policy) -> None:
    result = choose_formats(hover_policy, episodes=8, steps=20)
    assert isinstance(result, Quantisation)
    data = result.to_json()
    assert data["formats"] == ("int8-int16",)
    assert data["matrices"] == ("layer 0",)
    assert data["error"] == "hover_error_m"
