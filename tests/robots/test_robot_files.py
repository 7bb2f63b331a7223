"""The shipped robots against numbers worked out by hand, and the reader against bad files."""

import dataclasses
import math

import pytest
import tomli_w

from alula.errors import AlulaError
from alula.robots.multirotor import (
    MAX_FILE_BYTES,
    UNITS,
    Multirotor,
    known_robots,
    load_robot,
    robot_table,
)

SHIPPED = ["crazyflie-l2f", "x500"]


def table() -> dict:
    """A good robot's TOML table, to be spoilt."""
    return robot_table(load_robot("crazyflie-l2f"), description="test")


def load_table(path, content: dict) -> Multirotor:
    path.write_text(tomli_w.dumps(content))
    return load_robot(path)


@pytest.mark.parametrize("name", known_robots())
def test_every_shipped_robot_loads_and_is_named_like_its_file(name):
    robot = load_robot(name)
    assert robot.name == name
    assert set(robot.sources) == set(UNITS), "every number needs a source"
    assert all(len(source) > 10 for source in robot.sources.values())


def test_known_robots():
    assert set(SHIPPED) <= set(known_robots())


def test_l2f_numbers():
    robot = load_robot("crazyflie-l2f")
    # 3.16e-10 N/rpm^2 * (21702 rpm)^2 = 0.1488287 N; four of them over 0.027 * 9.81 N: 2.2475 weights
    assert robot.thrust(1.0) == pytest.approx(3.16e-10 * 21702**2, rel=1e-12)
    assert 4 * robot.thrust(1.0) / (0.027 * 9.81) == pytest.approx(2.2475, abs=1e-4)
    # 21702 rpm = 361.7 1/s = 2272.63 rad/s
    assert robot.rotor_speed_max == pytest.approx(2272.63, abs=0.01)
    # u = sqrt(0.06621675 / 0.14882867) = 0.66703; action 2 u - 1 = 0.33405, the 0.334 of the paper's reward
    assert robot.hover_throttle == pytest.approx(0.66703, abs=1e-5)
    assert robot.hover_action == pytest.approx(0.334, abs=1e-4)


def test_x500_numbers():
    robot = load_robot("x500")
    # 2.0 + 4 * 0.016076923 = 2.0643077 kg
    assert robot.mass == pytest.approx(2.0643077, abs=1e-7)
    # common centre of mass: 4 * 0.016076923 * 0.06 / 2.0643077 = 0.0018691 m above base_link, so the hubs
    # are 0.0581309 m above it
    assert robot.rotor_position_b[0][2] == pytest.approx(0.0581309, abs=1e-7)
    # Izz = 0.04 + 4 (0.016076923 (0.174^2 + 0.174^2) + 2.649858e-5) = 0.04 + 0.0038940 + 0.0001060
    assert robot.inertia[2] == pytest.approx(0.0440000, abs=1e-7)
    # Ixx = 0.0216667 + 2 * 0.0018691^2 + 4 (0.016076923 (0.030276 + 0.0033792) + 1.325018e-5)
    #     = 0.0216667 + 0.0000070 + 0.0021643 + 0.0000530 = 0.0238909
    assert robot.inertia[0] == pytest.approx(0.0238909, abs=1e-7)
    assert robot.inertia[1] == robot.inertia[0]
    # 8.54858e-6 * 1000^2 = 8.54858 N; hover at sqrt(2.0643077 * 9.81 / 4 / 8.54858) = 0.76956
    assert robot.thrust(1.0) == pytest.approx(8.54858, abs=1e-9)
    assert robot.hover_throttle == pytest.approx(0.76956, abs=1e-5)
    # action = 2 (0.76956 - 0.15) / 0.85 - 1 = 0.45780
    assert robot.hover_action == pytest.approx(0.45780, abs=1e-5)
    # drag: 4 * 8.06428e-5 * 769.56 = 0.24824 N s/m
    assert robot.drag_b == (pytest.approx(0.24824, abs=1e-5),) * 2 + (0.0,)
    # arm length 0.174 * sqrt(2) = 0.24607 m
    assert math.hypot(*robot.rotor_position_b[0][:2]) == pytest.approx(0.24607, abs=1e-5)


def test_the_same_physics_has_the_same_hash():
    robot = load_robot("crazyflie-l2f")
    assert dataclasses.replace(robot, sources={}).hash == robot.hash
    assert dataclasses.replace(robot, mass=0.0271).hash != robot.hash


def test_a_written_robot_reads_back_equal(tmp_path):
    robot = load_robot("x500")
    again = load_table(tmp_path / "r.toml", robot_table(robot, description="copy"))
    assert again == robot
    assert again.hash == robot.hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mass": 0.0}, "mass is 0.0; allowed: > 0"),
        ({"mass": float("nan")}, "mass is nan; allowed: finite"),
        ({"mass": 0.07}, "hover"),
        ({"mass": 1e-9, "thrust_curve": (1.0, 0.0, 1.0)}, "less than the weight"),
        ({"inertia": (1e-5, 1e-5, 3e-5)}, "largest <= sum of the other two"),
        ({"inertia": (0.0, 1e-5, 1e-5)}, "> 0 on each axis"),
        ({"thrust_curve": (0.2, 0.1, -0.1)}, "rising over throttle 0..1"),
        ({"rotor_lag_up": -0.1}, "> 0"),
        ({"rotor_spin": (1, -1, 1)}, "one for each of the 4 rotors"),
        ({"rotor_spin": (1, -1, 1, 2)}, r"\+1 or -1"),
        ({"rotor_names": ("M1", "M1", "M3", "M4")}, "distinct names"),
        ({"drag_b": (0.0, -1.0, 0.0)}, ">= 0 on each axis"),
        ({"throttle_min": 0.9, "throttle_max": 0.5}, "0 <= min < max <= 1"),
        ({"position_noise": -1.0}, ">= 0"),
    ],
)
def test_impossible_robots_are_refused(change, message):
    with pytest.raises(AlulaError, match=message):
        dataclasses.replace(load_robot("crazyflie-l2f"), **change)


def test_a_thrust_curve_may_fall_below_the_smallest_throttle():
    # dT/du = -0.02 + 0.36 u is negative below 0.056 only
    robot = dataclasses.replace(
        load_robot("crazyflie-l2f"), thrust_curve=(0.0, -0.02, 0.18), throttle_min=0.1
    )
    assert robot.thrust(0.5) == pytest.approx(0.035)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kind", "boat", "kind must be 'multirotor'"),
        ("wings", {}, "unknown quantity 'wings'"),
        ("mass", 0.027, "needs value, unit and source"),
        ("mass", {"value": 27.0, "unit": "g", "source": "x"}, "unit 'g'; allowed: 'kg'"),
        ("mass", {"value": "heavy", "unit": "kg", "source": "x"}, "mass is 'heavy'"),
        ("mass", {"value": True, "unit": "kg", "source": "x"}, "mass is True"),
        ("inertia", {"value": [1.0], "unit": "kg m^2", "source": "x"}, "allowed: 3 numbers"),
        ("name", 3, "name must be a string"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, key, value, message):
    with pytest.raises(AlulaError, match=message) as caught:
        load_table(tmp_path / "r.toml", {**table(), key: value})
    assert "\n" not in str(caught.value)
    assert "r.toml" in str(caught.value)


def test_a_missing_quantity_is_named(tmp_path):
    content = table()
    del content["thrust_curve"]
    with pytest.raises(AlulaError, match="thrust_curve"):
        load_table(tmp_path / "r.toml", content)


def test_unreadable_files(tmp_path):
    with pytest.raises(AlulaError, match=r"unknown robot 'cf3'; known: .*crazyflie-l2f.*x500"):
        load_robot("cf3")
    broken = tmp_path / "broken.toml"
    broken.write_bytes(b"\xff\xfe = [")
    with pytest.raises(AlulaError, match="not readable as TOML"):
        load_robot(broken)
    large = tmp_path / "large.toml"
    large.write_text("#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(AlulaError, match="larger than"):
        load_robot(large)
