"""The whole identification on made-up flights with known truth."""

import json
import math

import numpy as np
import pytest

from alula.errors import AlulaError
from alula.identification.identify import identify
from alula.identification.plots import plot_identification
from alula.identification.robot_file import write_robot
from alula.robots.multirotor import load_robot


@pytest.fixture(scope="module")
def path(tmp_path_factory, flight, truth, csv_log):
    return csv_log(tmp_path_factory.mktemp("log") / "a.csv", flight(truth, seconds=25.0, rest=3.0))


@pytest.fixture(scope="module")
def found(path, truth):
    return identify(path, mass=truth.mass, base="crazyflie-l2f", name="made-up")


def test_truth_lies_in_the_intervals(found, truth):
    expected = {
        "thrust_up_down_c0_n": truth.curve[0],
        "thrust_up_down_c1_n": truth.curve[1],
        "thrust_up_down_c2_n": truth.curve[2],
        "rotor_lag_up_s": truth.lag_up,
        "rotor_lag_down_s": truth.lag_down,
        "inertia_x_kg_m2": truth.inertia[0],
        "inertia_y_kg_m2": truth.inertia[1],
        "noise.gyro_x_rad_s": truth.gyro_noise,
    }
    for key, value in expected.items():
        lo, hi = found.intervals[key]
        assert lo < value < hi, (key, lo, value, hi)
        assert hi - lo < 1.2 * value or key.endswith(("c0_n", "c1_n")), f"{key}: useless interval"


def test_estimates_are_close(found, truth):
    assert found.rotor_lag_up_s == pytest.approx(truth.lag_up, rel=0.05)
    assert found.rotor_lag_down_s == pytest.approx(truth.lag_down, rel=0.05)
    assert found.inertia_kg_m2[0] == pytest.approx(truth.inertia[0], rel=0.08)
    assert found.inertia_kg_m2[1] == pytest.approx(truth.inertia[1], rel=0.08)


def test_what_is_not_there_is_said(found):
    assert found.inertia_kg_m2[2] is None
    assert found.torque_per_thrust_m is None
    said = " ".join(found.unobservable)
    for word in ("inertia_z_kg_m2", "torque_per_thrust_m", "drag_n_s_m"):
        assert word in said


def test_json_is_plain(found):
    back = json.loads(json.dumps(found.to_json(), allow_nan=False))
    for key in (
        "thrust_curve_n",
        "rotor_lag_s",
        "rotor_lag_up_s",
        "rotor_lag_down_s",
        "inertia_kg_m2",
        "torque_per_thrust_m",
        "r2",
        "intervals",
        "unobservable",
        "noise",
        "log",
        "from_s",
        "to_s",
        "mass_kg",
    ):
        assert key in back
    assert back["inertia_kg_m2"][2] is None


def test_robot_file(found, tmp_path, truth):
    target = write_robot(found, tmp_path / "made-up.toml")
    robot = load_robot(target)
    assert robot == found.robot
    assert robot.mass == truth.mass
    assert robot.sources["rotor_position_b"].startswith("not observable in this log; taken from")
    assert "identified from log sha256" in robot.sources["thrust_curve"]
    with pytest.raises(AlulaError, match="exists"):
        write_robot(found, target)
    write_robot(found, target, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["made-up.toml"]


def test_unwritable_folder_leaves_nothing(found, tmp_path):
    with pytest.raises(AlulaError, match="cannot be written"):
        write_robot(found, tmp_path / "none" / "a.toml")
    assert list(tmp_path.iterdir()) == []


def test_plot(found, tmp_path):
    target = plot_identification(found, tmp_path / "a.png")
    assert target.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(AlulaError, match="cannot be written"):
        plot_identification(found, tmp_path / "none" / "a.png")


@pytest.mark.parametrize("mass", [0.0, -1.0, math.nan, math.inf])
def test_bad_mass(path, mass):
    with pytest.raises(AlulaError, match=r"mass is .* allowed: a finite mass > 0"):
        identify(path, mass=mass)


def test_window_outside_the_log(path):
    with pytest.raises(AlulaError, match="outside"):
        identify(path, mass=0.03, from_s=100.0, to_s=200.0)


def test_constant_motors_show_nothing(tmp_path, flight, csv_log):
    log = csv_log(tmp_path / "a.csv", flight(seconds=8.0, excite=False))
    found = identify(log, mass=0.03, base="crazyflie-l2f")
    assert found.thrust_curve_n is None
    assert found.rotor_lag_s is None
    assert found.inertia_kg_m2 == (None, None, None)
    assert found.robot is None
    assert any(r.startswith("rotor_lag_s: mean throttle varies") for r in found.unobservable)
    with pytest.raises(AlulaError, match="no robot to write"):
        write_robot(found, tmp_path / "a.toml")
    plot_identification(found, tmp_path / "a.png")


def test_no_motors(tmp_path, flight, csv_log):
    columns = {k: v for k, v in flight(seconds=8.0).items() if not k.startswith("motor")}
    found = identify(csv_log(tmp_path / "a.csv", columns), mass=0.03)
    assert any(r == "thrust_curve_n: no motor commands in the log" for r in found.unobservable)


def test_hover_without_rolls_shows_thrust_but_no_inertia(tmp_path, flight, csv_log):
    columns = flight(seconds=20.0)
    mean = np.mean([columns[f"motor_{k}"] for k in range(1, 5)], axis=0)
    rng = np.random.default_rng(0)
    columns |= {f"motor_{k}": mean for k in range(1, 5)}
    columns |= {f"gyro_{a}_rad_s": 0.1 * rng.standard_normal(mean.size) for a in "xyz"}
    found = identify(csv_log(tmp_path / "a.csv", columns), mass=0.03, base="crazyflie-l2f")
    assert found.thrust_curve_n is not None
    assert found.inertia_kg_m2 == (None, None, None)
    assert found.robot is not None
    assert found.robot.inertia == load_robot("crazyflie-l2f").inertia
    assert found.robot.sources["inertia"].startswith("not observable in this log; taken from")


def test_another_rotor_count(tmp_path, flight, csv_log):
    columns = flight(seconds=15.0)
    columns |= {"motor_5": columns["motor_1"], "motor_6": columns["motor_3"]}
    log = csv_log(tmp_path / "a.csv", columns)
    found = identify(log, mass=0.03)
    assert found.robot is None
    assert any("no base robot" in r for r in found.unobservable)
    found = identify(log, mass=0.03, base="crazyflie-l2f")
    assert found.thrust_curve_n is not None
    assert any("4 rotors, the log 6" in r for r in found.unobservable)


def test_gaps_jitter_and_nan_do_little_harm(tmp_path, flight, truth, csv_log):
    columns = flight(truth, seconds=25.0)
    rng = np.random.default_rng(0)
    n = columns["time_s"].size
    columns["time_s"] = columns["time_s"] + rng.uniform(-0.0008, 0.0008, n)
    keep = (rng.uniform(size=n) > 0.03) & ~((np.arange(n) > 5000) & (np.arange(n) < 5300))
    columns = {k: v[keep].copy() for k, v in columns.items()}
    columns["acc_z_m_s2"][100:110] = np.nan
    log = csv_log(tmp_path / "a.csv", columns)
    found = identify(log, mass=truth.mass, base="crazyflie-l2f")
    assert found.rotor_lag_up_s == pytest.approx(truth.lag_up, rel=0.08)
    assert found.rotor_lag_down_s == pytest.approx(truth.lag_down, rel=0.08)
    assert found.inertia_kg_m2[0] == pytest.approx(truth.inertia[0], rel=0.1)
    assert found.thrust_curve_up_down_n[2] == pytest.approx(truth.curve[2], rel=0.15)


def test_slow_log(tmp_path, flight, truth, csv_log):
    columns = {k: v[::5] for k, v in flight(truth, seconds=40.0).items()}
    found = identify(csv_log(tmp_path / "a.csv", columns), mass=truth.mass, base="crazyflie-l2f")
    assert found.rotor_lag_s == pytest.approx(0.067, rel=0.2)


def test_unknown_base(path):
    with pytest.raises(AlulaError, match="unknown robot 'cf3'"):
        identify(path, mass=0.03, base="cf3")
