"""Real flight logs against published figures (sources: the logs' projects, named in docs/identify.md)."""

import time

import numpy as np
import pytest

from alula.identification.bases import crazyflie_brushless
from alula.identification.effectiveness import control_effectiveness
from alula.identification.identify import flight_window, identify
from alula.identification.logs import read_log
from alula.identification.merge import with_inertia
from alula.identification.motion import body_acceleration
from alula.identification.openloop import evaluate
from alula.identification.robot_file import write_robot
from alula.identification.speed_based import fit_speed_model, prepare, without_spikes
from alula.robots.multirotor import load_robot

BRUSHLESS_WINDOWS = {"square": (49.5, 67.3), "multisine": (2.0, 61.5)}


@pytest.fixture(scope="module")
def log10(data_dir):
    path = data_dir / "cf2_arpl" / "log10.xz"
    return identify(path, mass=0.027, from_s=35, to_s=65, base="crazyflie-l2f")


@pytest.fixture(scope="module")
def log15(data_dir):
    path = data_dir / "cf2_arpl" / "log15.xz"
    return identify(path, mass=0.027, from_s=55, to_s=90, base="crazyflie-l2f")


def brushless(data_dir, name: str):
    log = read_log(data_dir / "cf21bl_nanodrone" / f"{name}_20251017_run1.raw.parquet")
    log, _ = without_spikes(body_acceleration(log).window(*BRUSHLESS_WINDOWS[name]))
    return prepare(log)


@pytest.fixture(scope="module")
def flights(data_dir):
    return {name: brushless(data_dir, name) for name in BRUSHLESS_WINDOWS}


@pytest.fixture(scope="module")
def models(flights):
    robot = crazyflie_brushless()
    return {name: fit_speed_model(flight, 0.045, robot) for name, flight in flights.items()}


def test_log10_thrust_and_lag(log10):
    # published fit with g = 9.81: c = [0.022725, -0.011942, 0.128374] N, lag 0.0716 s, R2 0.967
    c = log10.thrust_curve_n
    assert c[2] == pytest.approx(0.128374, rel=0.05)
    assert c[0] == pytest.approx(0.022725, rel=0.05)
    assert c[1] == pytest.approx(-0.011942, abs=0.002)
    assert log10.rotor_lag_s == pytest.approx(0.072, abs=0.01)
    assert log10.r2["thrust"] >= 0.96
    # asymmetric: 0.065 up, 0.10 down, R2 0.9706
    assert log10.rotor_lag_up_s == pytest.approx(0.065, abs=0.005)
    assert log10.rotor_lag_down_s == pytest.approx(0.10, abs=0.01)
    assert log10.r2["thrust_up_down"] == pytest.approx(0.9706, abs=0.002)
    for key, value in (("thrust_c2_n", 0.128374), ("rotor_lag_s", 0.0716)):
        lo, hi = log10.intervals[key]
        assert lo < value < hi


def test_log10_does_not_show_inertia_and_says_so(log10):
    assert log10.inertia_kg_m2 == (None, None, None)
    assert any(r.startswith("inertia_x_kg_m2: only bounded to") for r in log10.unobservable)
    assert log10.robot.inertia == load_robot("crazyflie-l2f").inertia


def test_log15_inertia(log15):
    assert 1.10e-5 <= log15.inertia_kg_m2[0] <= 1.33e-5
    assert 1.18e-5 <= log15.inertia_kg_m2[1] <= 1.71e-5
    for key, published in (("inertia_x_kg_m2", 1.0993e-5), ("inertia_y_kg_m2", 1.1815e-5)):
        lo, hi = log15.intervals[key]
        assert lo < published < hi


def test_identify_is_quick_enough_for_fly(data_dir):
    start = time.perf_counter()
    identify(data_dir / "cf2_arpl" / "log10.xz", mass=0.027, from_s=35, to_s=65)
    # about 0.7 s on a quiet core; generous, because cores are shared
    assert time.perf_counter() - start < 6.0


def test_flight_is_found_without_a_window(data_dir):
    lo, hi = flight_window(read_log(data_dir / "cf2_arpl" / "log10.xz"))
    assert 30.0 < lo < 35.0
    assert 65.0 < hi < 70.0


def test_effectiveness(data_dir):
    fit = control_effectiveness(read_log(data_dir / "cf2_indi_1901" / "data_1901.csv.xz"))
    published = {"g1_p": 0.0066146, "g1_q": 0.0052125, "g1_r": -0.001497, "g2_r": 4.3475e-5}
    for key, value in published.items():
        assert fit.values[key] == pytest.approx(value, rel=0.001)
        lo, hi = fit.intervals[key]
        assert lo < value < hi
    # the time stamps have 227 longer steps: respecting them moves the estimates by some per cent
    assert fit.resampled["g1_p"] == pytest.approx(0.0066146, rel=0.05)


def test_resting_noise(data_dir):
    found = identify(data_dir / "cf_imu_static" / "log05.xz", mass=0.027)
    for axis, expected in zip("xyz", (0.115, 0.171, 0.119), strict=True):
        assert np.degrees(found.noise[f"gyro_{axis}_rad_s"]["std"]) == pytest.approx(
            expected, rel=0.02
        )
        assert abs(np.degrees(found.noise[f"gyro_{axis}_rad_s"]["mean"])) < 0.005
    for axis, expected in zip("xyz", (1.2, 1.1, 1.3), strict=True):
        mg = found.noise[f"acc_{axis}_m_s2"]["std"] / 9.81 * 1000
        assert mg == pytest.approx(expected, abs=0.06)
    assert found.robot is None
    assert found.thrust_curve_n is None


@pytest.mark.parametrize("name", ["sample_log_small", "sample_appended_multiple"])
def test_ulog_without_motion_shows_nothing(data_dir, name):
    found = identify(data_dir / "px4_ulog" / f"{name}.ulg.xz", mass=1.0)
    assert found.thrust_curve_n is None
    assert found.inertia_kg_m2 == (None, None, None)
    assert found.drag_n_s_m == (None, None, None)
    assert found.robot is None
    quantities = {r.split(":")[0] for r in found.unobservable}
    assert {"thrust_curve_n", "rotor_lag_s", "inertia_x_kg_m2", "robot"} <= quantities


def test_brushless_streams_are_aligned_by_estimate(flights):
    # the authors of the data found 3 samples for the square flight
    assert flights["square"].alignment_s == pytest.approx(0.03)
    assert flights["multisine"].alignment_s in (0.0, 0.01)


@pytest.mark.parametrize("name", list(BRUSHLESS_WINDOWS))
def test_brushless_parameters(models, name):
    model = models[name]
    # published: kF 3.7178e-8; J 3.3e-5, 3.6e-5 (rotorpy) and 2.5e-5, 2.8e-5 (drone-models)
    assert model.thrust_per_speed2 == pytest.approx(3.7178e-8, rel=0.03)
    assert 2.5e-5 < model.inertia[0] < 3.6e-5
    assert 2.8e-5 < model.inertia[1] < 4.0e-5
    assert model.drag[0] == pytest.approx(0.0215, rel=0.2)
    for axis in range(2):
        lo, hi = model.intervals[f"inertia_{'xy'[axis]}"]
        assert lo < model.inertia[axis] < hi


def test_both_brushless_flights_agree_on_inertia(models):
    for axis in "xy":
        a, b = (m.intervals[f"inertia_{axis}"] for m in models.values())
        assert max(a[0], b[0]) < min(a[1], b[1])


def test_command_to_speed_lag(data_dir):
    lags = []
    for name, window in BRUSHLESS_WINDOWS.items():
        path = data_dir / "cf21bl_nanodrone" / f"{name}_20251017_run1.raw.parquet"
        found = identify(path, mass=0.045, from_s=window[0], to_s=window[1])
        assert found.robot is not None
        lags.append((found.rotor_lag_s, found.intervals["rotor_lag_s"]))
    # rotorpy simulates this vehicle with 0.050 s; both flights here show less, and agree
    assert all(lag == pytest.approx(0.045, abs=0.008) for lag, _ in lags)
    assert max(span[0] for _, span in lags) < min(span[1] for _, span in lags)


@pytest.mark.parametrize(
    ("fitted", "predicted"), [("square", "multisine"), ("multisine", "square")]
)
def test_one_flight_predicts_the_other(models, flights, fitted, predicted):
    result = evaluate(models[fitted], flights[predicted])
    assert all(ratio < 0.85 for ratio in result.ratio.values()), result.ratio
    # a strong simple predictor, for scale: the robot has stopped turning
    assert 0.5 < result.zero_rate_rad_s / result.hold["body_rate_rad_s"] < 0.8
    assert result.windows > 100


def test_plain_model_beats_holding_on_the_lively_flight(models, flights):
    result = evaluate(models["multisine"], flights["square"], variant="plain")
    assert all(ratio < 1.0 for ratio in result.ratio.values()), result.ratio


def test_prediction_uses_nothing_but_rotor_speeds_from_inside_a_window(models, flights):
    from dataclasses import replace

    flight = flights["square"]
    horizon = 50
    # spoil all states after the start of the last window: its prediction must not move
    late = flight.time_s.size - horizon
    spoilt = replace(
        flight,
        angular_velocity_b=flight.angular_velocity_b.copy(),
        velocity_w=flight.velocity_w.copy(),
    )
    spoilt.angular_velocity_b[late + 1 :] += 7.0
    spoilt.velocity_w[late + 1 :] += 7.0
    clean, dirty = (evaluate(models["multisine"], f) for f in (flight, spoilt))
    assert clean.windows == dirty.windows
    for key in ("position_m", "attitude_rad"):
        assert clean.model[key] == pytest.approx(dirty.model[key], rel=1e-9)


def test_the_shipped_crazyflie_is_what_the_logs_give(log10, log15, tmp_path):
    merged = with_inertia(log10, log15, name="crazyflie")
    again = load_robot(write_robot(merged, tmp_path / "crazyflie.toml"))
    shipped = load_robot("crazyflie")
    assert shipped.thrust_curve == pytest.approx(again.thrust_curve, rel=1e-6)
    assert shipped.inertia == pytest.approx(again.inertia, rel=1e-6)
    assert shipped.rotor_lag_up == pytest.approx(again.rotor_lag_up, rel=1e-6)
    assert shipped.rotor_lag_down == pytest.approx(again.rotor_lag_down, rel=1e-6)
    assert shipped.throttle_min == again.throttle_min
