"""Crazyswarm2: velocities out, hand-over to the firmware when it ends. The messages are restated in fake.py."""

from math import pi, sqrt
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from nav_msgs.msg import Odometry

from alula.deploy_ros2.adapters import crazyswarm as module
from alula.deploy_ros2.adapters.crazyswarm import CrazyswarmAdapter, CrazyswarmConfig, body_rate
from alula.deploy_ros2.adapters.interface import Timing, stamp_of
from alula.deploy_ros2.node_config import NodeConfig
from alula.errors import AlulaError

fake = run_path(str(Path(__file__).with_name("fake.py")))
H = sqrt(0.5)


def adapter_of(level="velocity", interfaces=fake["CRAZYFLIE"], **config):
    node, cycles = fake["Node"](now=50.0), []
    runner = SimpleNamespace(level=level, names=("velocity_x", "velocity_y", "velocity_z"))
    timing = Timing(now=lambda: node.now)
    adapter = CrazyswarmAdapter(
        node, CrazyswarmConfig(**config), NodeConfig(), runner, timing, lambda: cycles.append(1), interfaces
    )  # fmt: skip
    return node, adapter, cycles


def odometry(stamp, z=1.0, xyzw=(0.0, 0.0, 0.0, 1.0), linear=(0.0, 0.0, 0.0)):
    message = Odometry()
    message.header.stamp = stamp_of(stamp)
    q, v = message.pose.pose.orientation, message.twist.twist.linear
    message.pose.pose.position.z = z
    q.x, q.y, q.z, q.w = xyzw
    v.x, v.y, v.z = linear
    return message


def test_velocity_out():
    node, adapter, _ = adapter_of()
    adapter.send(np.array([1.0, 2.0, 3.0]), 50.25)
    (message,) = node.sent("cf231/cmd_velocity_world")
    assert (message.vel.x, message.vel.y, message.vel.z) == (1.0, 2.0, 3.0)
    assert message.yaw_rate == 0.0
    assert message.header.frame_id == "world"
    assert message.header.stamp == stamp_of(50.25)


def test_odometry_has_velocities_in_the_world_and_no_rates():
    node, adapter, cycles = adapter_of()
    # Turned by 90 degrees to the left: a velocity in the body would come out as (-2, 1, 3).
    node.heard["cf231/odom"](odometry(49.9, xyzw=(0.0, 0.0, H, H), linear=(1.0, 2.0, 3.0)))
    assert adapter.samples["velocity_w"].value.tolist() == [1.0, 2.0, 3.0]
    assert "angular_velocity_b" not in adapter.samples
    assert len(cycles) == 1
    # Back by 90 degrees in 0.1 s: pi / 2 / 0.1 about -z
    node.heard["cf231/odom"](odometry(50.0))
    rate = adapter.samples["angular_velocity_b"]
    assert rate.value == pytest.approx([0.0, 0.0, -5.0 * pi])
    assert rate.stamp == 50.0
    # After a gap nothing is known of the rate.
    node.heard["cf231/odom"](odometry(50.3))
    assert adapter.samples["angular_velocity_b"] is rate


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_body_rate(axis, sign):
    # From rolled by 90 degrees on by 0.2 rad about a body axis in 0.1 s; q and -q are the same.
    before = np.array([H, H, 0.0, 0.0])
    turn = np.array([np.cos(0.1), *(np.sin(0.1) * np.array(axis))])
    after = sign * np.array(
        [
            H * turn[0] - H * turn[1],
            H * turn[1] + H * turn[0],
            H * turn[2] - H * turn[3],
            H * turn[3] + H * turn[2],
        ]
    )
    assert body_rate(before, after, 0.1) == pytest.approx(2.0 * np.array(axis))


def test_no_turn_is_no_rate():
    assert body_rate(np.array([1.0, 0, 0, 0]), np.array([1.0, 0, 0, 0]), 0.1).tolist() == [0, 0, 0]


def test_release_hands_over_to_the_firmware_and_lets_it_land():
    node, adapter, _ = adapter_of()
    adapter.release()
    assert node.clients["cf231/land"].asked == []  # nothing was taken over
    node.heard["cf231/odom"](odometry(50.0, z=1.4))
    adapter.start(50.0)
    adapter.release()
    adapter.release()
    (stop,) = node.clients["cf231/notify_setpoints_stop"].asked
    assert stop.remain_valid_millisecs == 100
    (land,) = node.clients["cf231/land"].asked
    # 1.4 m at 0.35 m/s
    assert land.height == 0.0
    assert land.duration.sec + 1e-9 * land.duration.nanosec == pytest.approx(4.0, abs=1e-6)
    assert node.sent("cf231/cmd_velocity_world") == []


def test_release_without_landing():
    node, adapter, _ = adapter_of(land=False)
    node.heard["cf231/odom"](odometry(50.0))
    adapter.start(50.0)
    adapter.release()
    assert len(node.clients["cf231/notify_setpoints_stop"].asked) == 1
    assert node.clients["cf231/land"].asked == []


def test_stop_is_no_thrust():
    node, adapter, _ = adapter_of()
    adapter.stop()
    (message,) = node.sent("cf231/cmd_vel_legacy")
    assert (message.linear.x, message.linear.y, message.linear.z, message.angular.z) == (0, 0, 0, 0)


def test_status():
    node, adapter, _ = adapter_of()
    assert (adapter.battery, adapter.landed) == (None, False)
    Status = fake["Status"]
    node.heard["cf231/status"](Status(supervisor_info=16 + 2, pm_state=0))
    assert (adapter.battery, adapter.landed) == (None, False)
    node.heard["cf231/status"](Status(supervisor_info=2, pm_state=3))
    assert (adapter.battery, adapter.landed) == (0.0, True)


@pytest.mark.parametrize("level", ["throttle", "rates"])
def test_other_policies_run_on_board(level):
    with pytest.raises(AlulaError, match=f"commands {level}; Crazyswarm2 takes: velocity .*docs/crazyflie.md"):  # fmt: skip
        adapter_of(level)


def test_another_commander_is_seen_and_everything_is_given_back():
    node, adapter, _ = adapter_of(name="cf5")
    node.others["cf5/cmd_velocity_world"] = 1
    assert adapter.rivals() == 1
    adapter.close()
    assert node.alive == set()


def test_without_crazyflie_interfaces_the_error_says_what_is_needed(monkeypatch):
    def missing(_):
        raise ImportError

    monkeypatch.setattr(module, "import_module", missing)
    with pytest.raises(AlulaError, match="needs the package crazyflie_interfaces of Crazyswarm2"):
        adapter_of(interfaces=None)
