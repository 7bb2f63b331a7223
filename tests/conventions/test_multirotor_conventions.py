"""docs/conventions.md, row by row, checked on the equations of motion and the shipped robots."""

import dataclasses

import numpy as np
import pytest

from alula import frames
from alula.policies.contract import Contract
from alula.presets import PRESETS
from alula.robots.multirotor import GRAVITY, Multirotor, known_robots, load_robot
from alula.sim.config import SimConfig
from alula.sim.multirotor.equations import (
    Disturbance,
    Geometry,
    Params,
    body_derivative,
    rotation,
    rotor_wrench,
)
from alula.sim.multirotor.simulator import nominal_params

# Motors of each corner, by the order M1 front-right, M2 rear-right, M3 rear-left, M4 front-left
FRONT, REAR, LEFT, RIGHT = (0, 3), (1, 2), (2, 3), (0, 1)
CCW, CW = (0, 2), (1, 3)
FLIGHTS = [p for p in PRESETS if isinstance(p.sim, SimConfig)]
UPRIGHT = [1.0, 0.0, 0.0, 0.0]


@dataclasses.dataclass
class Rates:
    """What changes in a vehicle at rest."""

    velocity_w: np.ndarray
    angular_velocity_b: np.ndarray


def rates(robot: Multirotor, speed: np.ndarray, quat_wb=UPRIGHT, velocity_w=(0.0, 0.0, 0.0)):
    """Accelerations without body rate at the given rotor speed fractions, rotors settled."""
    params = Params.from_rows(nominal_params(robot, 0.01))
    geometry = Geometry(
        rotor_x=[p[0] for p in robot.rotor_position_b],
        rotor_y=[p[1] for p in robot.rotor_position_b],
        spin=robot.rotor_spin,
    )
    calm = Disturbance(force_w=[0.0] * 3, torque_b=[0.0] * 3)
    wrench = rotor_wrench(list(speed), [0.0] * robot.n_rotors, params, calm, geometry)
    body = [0.0, 0.0, 0.0, *velocity_w, *quat_wb, 0.0, 0.0, 0.0]
    change = np.array(body_derivative(body, wrench, params, calm))
    return Rates(velocity_w=change[3:6], angular_velocity_b=change[10:13])


@pytest.fixture(params=known_robots())
def robot(request) -> Multirotor:
    return load_robot(request.param)


def faster(robot: Multirotor, rotors: tuple[int, ...]) -> np.ndarray:
    speed = np.full(robot.n_rotors, robot.hover_throttle)
    speed[list(rotors)] += 0.05
    return speed


def test_rotors_stand_in_crazyflie_order(robot):
    x, y, _ = np.array(robot.rotor_position_b).T
    assert robot.rotor_names == ("M1", "M2", "M3", "M4")
    assert (np.sign(x) == [1, -1, -1, 1]).all(), "front, rear, rear, front (x forward)"
    assert (np.sign(y) == [-1, -1, 1, 1]).all(), "right, right, left, left (y left)"
    assert robot.rotor_spin == (1, -1, 1, -1), "M1 and M3 counter-clockwise from above"


def test_hover_holds_still(robot):
    d = rates(robot, np.full(4, robot.hover_throttle))
    np.testing.assert_allclose(d.velocity_w, 0.0, atol=1e-9)
    np.testing.assert_allclose(d.angular_velocity_b, 0.0, atol=1e-9)


def test_gravity_points_along_minus_z_of_the_world(robot):
    still = dataclasses.replace(robot, drag_b=(0.0, 0.0, 0.0))
    half_turn = [0.0, 1.0, 0.0, 0.0]
    # upside down at hover thrust, both pull down: -2 g
    d = rates(still, np.full(4, still.hover_throttle), quat_wb=half_turn)
    np.testing.assert_allclose(d.velocity_w, [0.0, 0.0, -2.0 * GRAVITY], atol=1e-9)


def test_more_thrust_on_the_left_rolls_right_side_down(robot):
    # positive rotation about x (forward) lifts the left side
    roll, pitch, _ = rates(robot, faster(robot, LEFT)).angular_velocity_b
    assert roll > 1.0
    assert pitch == pytest.approx(0.0, abs=1e-9)
    assert rates(robot, faster(robot, RIGHT)).angular_velocity_b[0] == pytest.approx(-roll)


def test_more_thrust_in_the_rear_pitches_the_nose_down(robot):
    # positive rotation about y (left) takes the nose down
    roll, pitch, _ = rates(robot, faster(robot, REAR)).angular_velocity_b
    assert pitch > 1.0
    assert roll == pytest.approx(0.0, abs=1e-9)
    assert rates(robot, faster(robot, FRONT)).angular_velocity_b[1] == pytest.approx(-pitch)


def test_faster_counter_clockwise_rotors_yaw_the_body_clockwise(robot):
    yaw = rates(robot, faster(robot, CCW)).angular_velocity_b[2]
    assert yaw < -0.1
    assert rates(robot, faster(robot, CW)).angular_velocity_b[2] == pytest.approx(-yaw)


def test_nose_down_accelerates_forward(robot):
    tilt = 0.1
    quat_wb = [np.cos(tilt / 2), 0.0, np.sin(tilt / 2), 0.0]
    forward, left, _ = rates(robot, np.full(4, robot.hover_throttle), quat_wb).velocity_w
    # g sin(0.1) = 9.81 * 0.0998334 = 0.979366 m/s^2
    assert forward == pytest.approx(0.979366, abs=1e-6)
    assert left == pytest.approx(0.0, abs=1e-12)


def test_drag_opposes_motion():
    robot = load_robot("x500")
    d = rates(robot, np.full(4, robot.hover_throttle), velocity_w=(2.0, 0.0, 0.0))
    # -0.24824 * 2 / 2.0643077 = -0.240507 m/s^2
    assert d.velocity_w[0] == pytest.approx(-0.240507, abs=1e-6)


def test_quaternions_are_scalar_first_and_map_body_to_world():
    half = 0.5**0.5
    quarter_turn_left = [half, 0.0, 0.0, half]
    rot_wb = np.array(rotation(quarter_turn_left)).reshape(3, 3)
    # the nose (body x) points along world y
    np.testing.assert_allclose(rot_wb @ [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], atol=1e-15)
    np.testing.assert_allclose(rot_wb, frames.rot_from_quat(np.array(quarter_turn_left)))


def test_px4_order_keeps_corner_and_spin():
    """Our x500 in PX4's order and frame is PX4's quad-x: corners and spins of its motors 1 to 4."""
    robot = load_robot("x500")
    order = list(frames.PX4_FROM_ALULA)
    position_frd = frames.frd_from_flu(np.array(robot.rotor_position_b))[order]
    assert (np.sign(position_frd[:, 0]) == [1, -1, 1, -1]).all(), "front, rear, front, rear"
    assert (np.sign(position_frd[:, 1]) == [1, -1, -1, 1]).all(), "right, left, left, right"
    assert list(np.array(robot.rotor_spin)[order]) == [1, 1, -1, -1], "CCW, CCW, CW, CW"


@pytest.mark.parametrize("preset", FLIGHTS, ids=lambda p: p.name)
def test_every_observation_name_carries_its_frame(preset):
    from alula.build import build_contract, build_task

    robot = load_robot("crazyflie-l2f")
    contract: Contract = build_contract(preset, robot, build_task(preset.task), {})
    for entry in contract.supplied:
        assert entry.frame != "-", f"{entry.name} has no frame"
        assert entry.name.endswith(f"_{entry.frame}")
    assert not any("quat" in e.name for e in contract.observation), "policies see a matrix"
    assert [a.meaning for a in contract.action] == ["throttle"] * 4
    assert [a.name for a in contract.action] == list(robot.rotor_names)
