"""PX4's frames and orders against numbers worked out by hand.

PX4: world NED, body FRD, q maps body to world. Here: world ENU, body FLU. Facing north and level, PX4's q is one.
"""

from math import pi, sqrt
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula.deploy_ros2.adapters import px4_messages as px4
from alula.errors import AlulaError
from alula.frames import PX4_FROM_ALULA, rot_from_quat

fake = run_path(str(Path(__file__).with_name("fake.py")))
Odometry, MSG = fake["VehicleOdometry"], fake["PX4"]
H = sqrt(0.5)
NAN = float("nan")
NORTH, EAST = [1.0, 0.0, 0.0, 0.0], [H, 0.0, 0.0, H]


def value(name, **fields):
    return px4.odometry_samples(Odometry(**fields), 1.0)[name].value


@pytest.mark.parametrize(
    ("q", "forward", "left", "up"),
    [
        # facing north: forward is north (y), left is west (-x)
        (NORTH, (0, 1, 0), (-1, 0, 0), (0, 0, 1)),
        # yaw 90 degrees is clockwise from north: facing east, our heading zero
        (EAST, (1, 0, 0), (0, 1, 0), (0, 0, 1)),
        # roll 90 degrees, right side down: the left side points up, the top to the east
        ([H, H, 0, 0], (0, 1, 0), (0, 0, 1), (1, 0, 0)),
        # pitch 90 degrees, nose up: the top points to the south
        ([H, 0, H, 0], (0, 0, 1), (-1, 0, 0), (0, -1, 0)),
        # on its back, rolled by 180 degrees
        ([0, 1, 0, 0], (0, 1, 0), (1, 0, 0), (0, 0, -1)),
    ],
)
def test_attitude(q, forward, left, up):
    rot_wb = rot_from_quat(value("quat_wb", q=q))
    assert rot_wb == pytest.approx(np.stack([forward, left, up], axis=1), abs=1e-12)


@pytest.mark.parametrize(
    ("ned", "enu"),
    [((1, 0, 0), (0, 1, 0)), ((0, 1, 0), (1, 0, 0)), ((0, 0, 1), (0, 0, -1)), ((1, 2, 3), (2, 1, -3))],
)  # fmt: skip
def test_position_and_velocity_in_the_world(ned, enu):
    assert value("position_w", position=list(ned)).tolist() == list(enu)
    assert value("velocity_w", velocity=list(ned), q=EAST).tolist() == list(enu)


@pytest.mark.parametrize(
    ("q", "frd", "enu"),
    [
        # facing north: forward is north, right is east
        (NORTH, (1, 0, 0), (0, 1, 0)),
        (NORTH, (0, 1, 0), (1, 0, 0)),
        (NORTH, (0, 0, 1), (0, 0, -1)),
        # facing east: forward is east, right is south
        (EAST, (1, 2, 3), (1, -2, -3)),
        # nose up: forward is up, down through the belly is north
        ([H, 0, H, 0], (1, 0, 0), (0, 0, 1)),
        ([H, 0, H, 0], (0, 0, 1), (0, 1, 0)),
    ],
)
def test_velocity_in_the_body(q, frd, enu):
    v = value("velocity_w", velocity=list(frd), velocity_frame=3, q=q)
    assert v == pytest.approx(enu, abs=1e-12)


@pytest.mark.parametrize(
    ("frd", "flu"),
    [((0.1, 0, 0), (0.1, 0, 0)), ((0, 0.2, 0), (0, -0.2, 0)), ((0, 0, 0.3), (0, 0, -0.3))],
)
def test_body_rates(frd, flu):
    assert value("angular_velocity_b", angular_velocity=list(frd)) == pytest.approx(flu)


def test_what_is_invalid_stays_so():
    assert np.isnan(value("quat_wb", q=[NAN, 0, 0, 0])).any()
    assert np.isnan(value("position_w", position=[NAN] * 3)).all()
    assert np.isnan(value("velocity_w", velocity=[1, 0, 0], velocity_frame=3, q=[NAN] * 4)).all()
    assert value("position_w", position=[1, 2, 3], velocity=[NAN] * 3).tolist() == [2, 1, -3]


@pytest.mark.parametrize(("pose", "velocity"), [(0, 1), (2, 1), (1, 0), (1, 2)])
def test_frames_without_north_are_refused(pose, velocity):
    with pytest.raises(
        AlulaError, match=f"pose_frame {pose}, velocity_frame {velocity}; allowed: 1"
    ):
        px4.odometry_samples(Odometry(pose_frame=pose, velocity_frame=velocity), 0.0)


# PX4 quad-x: 1 front right, 2 rear left, 3 front left, 4 rear right; ours: front right, rear right, rear left, front left
@pytest.mark.parametrize(("rotor", "motor"), [(0, 0), (1, 3), (2, 1), (3, 2)])
def test_each_rotor_alone(rotor, motor):
    throttle = np.zeros(4)
    throttle[rotor] = 0.7
    message = px4.actuator_motors(MSG, throttle, PX4_FROM_ALULA, 5, 4)
    expected = [0.0] * 4
    expected[motor] = 0.7
    assert message.control[:4] == expected
    assert len(message.control) == 12
    assert np.isnan(message.control[4:]).all()
    assert (message.timestamp, message.timestamp_sample) == (5, 4)


def test_motors_off_is_nan_and_not_zero():
    assert np.isnan(px4.motors_off(MSG, 0).control).all()


def test_body_rates_and_throttle_out():
    message = px4.rates_setpoint(MSG, np.array([1.0, 2.0, 3.0, 0.5]), 7)
    assert (message.roll, message.pitch, message.yaw) == (1.0, -2.0, -3.0)
    assert message.thrust_body == [0.0, 0.0, -0.5]


def test_velocity_out():
    message = px4.velocity_setpoint(MSG, np.array([1.0, 2.0, 3.0]), 7)
    assert message.velocity == [2.0, 1.0, -3.0]
    assert message.yaw == pytest.approx(pi / 2)  # heading zero is east
    assert np.isnan(
        [*message.position, *message.acceleration, *message.jerk, message.yawspeed]
    ).all()


@pytest.mark.parametrize(
    ("level", "kind"),
    [("throttle", "direct_actuator"), ("rates", "body_rate"), ("velocity", "velocity")],
)
def test_the_heartbeat_names_the_kind_of_command(level, kind):
    flags = {k: v for k, v in vars(px4.offboard_mode(MSG, level, 3)).items() if v is True}
    assert flags == {kind: True}


def test_other_levels_are_refused():
    with pytest.raises(AlulaError, match="commands joint_position; PX4 takes: throttle, rates, velocity"):  # fmt: skip
        px4.offboard_mode(MSG, "joint_position", 0)


def test_the_request_for_offboard_mode():
    message = px4.vehicle_command(MSG, px4.SET_MODE, px4.CUSTOM_MODE, px4.OFFBOARD_MODE, 9)
    assert (message.command, message.param1, message.param2) == (176, 1.0, 6.0)
    assert message.from_external
