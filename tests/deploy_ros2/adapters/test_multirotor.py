"""The generic multirotor: messages to samples with numbers worked out by hand, and when a cycle runs."""

from math import pi, sqrt
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped, TwistStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import BatteryState, Imu
from trajectory_msgs.msg import MultiDOFJointTrajectory

from alula.deploy_ros2.adapters.interface import Timing, stamp_of
from alula.deploy_ros2.adapters.multirotor import (
    MultirotorAdapter,
    MultirotorConfig,
    command_message,
    odometry_samples,
)
from alula.deploy_ros2.node_config import NodeConfig, ReferenceConfig
from alula.deploy_ros2.reference_node import ease, window_message
from alula.deploy_ros2.reference_path import figure_eight
from alula.errors import AlulaError
from alula.frames import rot_from_quat

fake = run_path(str(Path(__file__).with_name("fake.py")))
H = sqrt(0.5)
ROTORS = ("M1", "M2", "M3", "M4")


def adapter_of(level="throttle", arrival=False, **config):
    node, cycles = fake["Node"](now=50.0), []
    runner = SimpleNamespace(level=level, names=ROTORS, control_dt=0.01)
    timing = Timing(now=lambda: node.now, arrival=arrival)
    adapter = MultirotorAdapter(node, MultirotorConfig(**config), NodeConfig(), runner, timing, lambda: cycles.append(dict(adapter.samples)))  # fmt: skip
    return node, adapter, cycles


def filled(message, stamp, orientation=(0.0, 0.0, 0.0, 1.0), xyz=(0.0, 0.0, 0.0)):
    """A pose, twist or imu message; orientation x, y, z, w."""
    message.header.stamp = stamp_of(stamp)
    if isinstance(message, PoseStamped):
        p, q = message.pose.position, message.pose.orientation
        p.x, p.y, p.z = xyz
        q.x, q.y, q.z, q.w = orientation
    else:
        v = message.twist.linear if isinstance(message, TwistStamped) else message.angular_velocity
        v.x, v.y, v.z = xyz
    return message


def odometry(orientation, linear=(0.0, 0.0, 0.0), angular=(0.0, 0.0, 0.0), stamp=0.0):
    message = Odometry()
    message.header.stamp = stamp_of(stamp)
    q, t = message.pose.pose.orientation, message.twist.twist
    q.x, q.y, q.z, q.w = orientation
    t.linear.x, t.linear.y, t.linear.z = linear
    t.angular.x, t.angular.y, t.angular.z = angular
    return message


# Orientations in the order of the message: x, y, z, w
@pytest.mark.parametrize(
    ("xyzw", "forward", "left", "up"),
    [
        ((0, 0, 0, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)),
        ((H, 0, 0, H), (1, 0, 0), (0, 0, 1), (0, -1, 0)),  # roll: the left side goes up
        ((0, H, 0, H), (0, 0, -1), (0, 1, 0), (1, 0, 0)),  # pitch: the nose goes down
        ((0, 0, H, H), (0, 1, 0), (-1, 0, 0), (0, 0, 1)),  # yaw: the nose goes left
    ],
)
def test_attitude_and_velocity(xyzw, forward, left, up):
    axes = np.stack([forward, left, up], axis=1)
    message = odometry([float(x) for x in xyzw], (1.0, 2.0, 3.0), (0.1, 0.2, 0.3))
    samples = odometry_samples(message, 4.0)
    assert rot_from_quat(samples["quat_wb"].value) == pytest.approx(axes, abs=1e-12)
    # 1 forward, 2 to the left, 3 upwards
    expected = 1.0 * np.array(forward) + 2.0 * np.array(left) + 3.0 * np.array(up)
    assert samples["velocity_w"].value == pytest.approx(expected)
    assert samples["angular_velocity_b"].value.tolist() == [0.1, 0.2, 0.3]
    assert {s.stamp for s in samples.values()} == {4.0}
    in_world = odometry_samples(message, 4.0, twist_in_body=False)
    assert in_world["velocity_w"].value.tolist() == [1.0, 2.0, 3.0]


def test_the_quaternion_is_scalar_first_inside():
    samples = odometry_samples(odometry((0.1, 0.2, 0.3, 0.9)), 0.0)
    assert samples["quat_wb"].value.tolist() == [0.9, 0.1, 0.2, 0.3]


def test_an_odometry_is_a_cycle():
    node, adapter, cycles = adapter_of()
    node.heard["odometry"](odometry((0.0, 0.0, 0.0, 1.0), stamp=49.5))
    assert len(cycles) == 1
    assert adapter.samples["quat_wb"].stamp == 49.5
    node, adapter, _ = adapter_of(arrival=True)
    node.heard["odometry"](odometry((0.0, 0.0, 0.0, 1.0), stamp=49.5))
    assert adapter.samples["quat_wb"].stamp == 50.0


@pytest.mark.parametrize(
    "order", ["pose twist imu", "imu pose twist", "twist imu pose", "imu imu pose imu twist"]
)
def test_parts_make_a_cycle_that_sees_the_newest_of_each(order):
    node, _, cycles = adapter_of(source="parts")
    kinds = {"pose": PoseStamped, "twist": TwistStamped, "imu": Imu}
    for k in range(1, 4):
        for name in order.split():
            assert len(cycles) == k - 1
            node.heard[name](filled(kinds[name](), k / 100.0))
        assert len(cycles) == k
        stamps = {name: sample.stamp for name, sample in cycles[-1].items()}
        assert len(stamps) == 4
        assert list(stamps.values()) == pytest.approx([k / 100.0] * 4)


def test_parts_without_one_of_them_make_no_cycle():
    node, _, cycles = adapter_of(source="parts")
    for k in range(10):
        node.heard["pose"](filled(PoseStamped(), k / 100.0))
        node.heard["imu"](filled(Imu(), k / 100.0))
    assert cycles == []


@pytest.mark.parametrize("pose_first", [True, False])
def test_the_attitude_of_the_same_time_turns_the_velocity(pose_first):
    node, adapter, _ = adapter_of(source="parts")
    level, turned = (0.0, 0.0, 0.0, 1.0), (0.0, 0.0, H, H)
    node.heard["pose"](filled(PoseStamped(), 1.00, level))
    messages = [
        ("pose", filled(PoseStamped(), 1.01, turned)),
        ("twist", filled(TwistStamped(), 1.01, xyz=(1.0, 0.0, 0.0))),
    ]
    for name, message in messages if pose_first else reversed(messages):
        node.heard[name](message)
    assert adapter.samples["velocity_w"].value == pytest.approx([0.0, 1.0, 0.0], abs=1e-12)
    # A later attitude is not that of this velocity.
    node.heard["pose"](filled(PoseStamped(), 1.02, level))
    assert adapter.samples["velocity_w"].value == pytest.approx([0.0, 1.0, 0.0], abs=1e-12)


def test_a_velocity_in_the_body_waits_for_the_first_attitude():
    node, adapter, _ = adapter_of(source="parts")
    node.heard["twist"](filled(TwistStamped(), 1.0, xyz=(1.0, 0.0, 0.0)))
    assert "velocity_w" not in adapter.samples
    node.heard["pose"](filled(PoseStamped(), 1.0, (0.0, 0.0, 1.0, 0.0)))
    assert adapter.samples["velocity_w"].value == pytest.approx([-1.0, 0.0, 0.0], abs=1e-12)
    node, adapter, _ = adapter_of(source="parts", twist_frame="world")
    node.heard["twist"](filled(TwistStamped(), 1.0, xyz=(1.0, 2.0, 0.0)))
    assert adapter.samples["velocity_w"].value.tolist() == [1.0, 2.0, 0.0]


def test_imu_rates_are_taken_as_they_are():
    node, adapter, _ = adapter_of(source="parts")
    node.heard["imu"](filled(Imu(), 1.0, xyz=(0.1, -0.2, pi)))
    assert adapter.samples["angular_velocity_b"].value.tolist() == [0.1, -0.2, pi]


def test_commands():
    message = command_message(np.array([0.1, 0.2, 0.3, 0.4]), "M1,M2,M3,M4")
    assert message.data == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert message.layout.dim[0].label == "M1,M2,M3,M4"
    node, adapter, _ = adapter_of()
    adapter.stop()
    assert list(node.sent("command")[0].data) == [0.0] * 4
    node.others["command"] = 1
    assert adapter.rivals() == 1
    adapter.close()
    assert node.alive == set()


@pytest.mark.parametrize(("charge", "known"), [(0.5, 0.5), (float("nan"), None)])
def test_battery(charge, known):
    node, adapter, _ = adapter_of()
    node.heard["battery"](BatteryState(percentage=charge))
    assert adapter.battery == known


def test_what_is_not_for_this_interface_is_refused():
    with pytest.raises(AlulaError, match="commands velocity; the adapter multirotor takes: throttle"):  # fmt: skip
        adapter_of("velocity")
    with pytest.raises(AlulaError, match="source is 'gps'; allowed: odometry, parts"):
        MultirotorConfig(source="gps")  # type: ignore[arg-type]


def setpoint(x):
    return filled(PoseStamped(), 0.0, xyz=(x, 0.0, 1.0))


def test_a_set_point_from_before_is_approached_from_here():
    node, adapter, _ = adapter_of()
    node.heard["setpoint"](setpoint(3.0))
    node.heard["odometry"](odometry((0.0, 0.0, 0.0, 1.0), stamp=50.0))
    adapter.start(50.0)
    begin = adapter.reference(50.0)
    assert begin.position_w.tolist() == [0.0, 0.0, 0.0]
    # 3.16 m at 0.5 m/s: 15/8 * 3.162 / 0.5 = 11.86 s
    assert adapter.reference(61.8).position_w[0] < 3.0
    assert adapter.reference(61.9).position_w == pytest.approx([3.0, 0.0, 1.0])


def test_without_a_set_point_the_vehicle_stays():
    node, adapter, _ = adapter_of()
    node.heard["odometry"](odometry((0.0, 0.0, 0.0, 1.0), stamp=50.0))
    adapter.start(50.0)
    assert adapter.reference(60.0).position_w.tolist() == [0.0, 0.0, 0.0]


def test_a_window_of_a_trajectory_that_came_since_does_not_stop_the_vehicle_for_a_step():
    node, adapter, _ = adapter_of()
    node.heard["odometry"](odometry((0.0, 0.0, 0.0, 1.0), stamp=50.0))
    adapter.start(50.0)
    eight = ReferenceConfig(shape="figure_eight")
    for stamp in (50.0, 50.1):
        node.now = stamp
        node.heard["trajectory"](window_message(eight, stamp, 20.0 + stamp))
    wanted, velocity = figure_eight(
        eight.length, eight.width, eight.lap, eight.centre, ease(70.098, eight.wait, eight.ease)[0]
    )
    # measured 2 ms before the window of 50.1, used after it came
    found, speed = adapter.reference(50.105).trajectory(50.098)
    assert found == pytest.approx(wanted, abs=1e-4)
    assert speed == pytest.approx(velocity, abs=1e-2)


def test_set_points_that_are_none_are_refused_and_counted():
    node, adapter, _ = adapter_of()
    node.heard["setpoint"](setpoint(float("nan")))
    node.heard["trajectory"](MultiDOFJointTrajectory())
    assert adapter.refused == 2
    assert "ignored; allowed: finite" in node.said[0]
    assert "trajectory ignored: a trajectory of 0 points" in node.said[1]
