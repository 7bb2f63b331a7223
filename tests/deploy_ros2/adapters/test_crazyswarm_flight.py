"""A velocity policy over real DDS with Crazyswarm2's real messages: runs where crazyflie_interfaces is installed."""

from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("crazyflie_interfaces")

from crazyflie_interfaces.msg import Status, VelocityWorld
from crazyflie_interfaces.srv import Land, NotifySetpointsStop
from geometry_msgs.msg import PoseStamped, Twist
from nav_msgs.msg import Odometry

from alula.robots.multirotor import load_robot

dds = run_path(str(Path(__file__).with_name("bench.py")))
ROBOT = load_robot("crazyflie")


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """Velocity against the position error: 1 m gives 1 / sqrt(2) of 0.5 m/s."""
    weights = (-np.eye(3)).tolist()
    actions = [(f"velocity_{x}", -0.5, 0.5, "velocity_w") for x in "xyz"]
    path = tmp_path_factory.mktemp("velocity") / "policy.onnx"
    return dds["linear_policy"](path, ROBOT, [("position_w", 3)], actions, weights)


class Server:
    """Crazyswarm2's side of the wire: a vehicle that follows velocities at once, and the services."""

    def __init__(self, node):
        self.node, self.position, self.velocity = node, np.array([0.0, 0.0, 1.0]), np.zeros(3)
        self.heard, self.called, self.zeros = [], [], []
        self._odometry = node.create_publisher(Odometry, "cf7/odom", 10)
        self._status = node.create_publisher(Status, "cf7/status", 10)
        self.setpoint = node.create_publisher(PoseStamped, "setpoint", 1)
        node.create_subscription(VelocityWorld, "cf7/cmd_velocity_world", self._on_velocity, 10)
        node.create_subscription(Twist, "cf7/cmd_vel_legacy", self.zeros.append, 10)
        for kind, name in [(NotifySetpointsStop, "notify_setpoints_stop"), (Land, "land")]:
            node.create_service(kind, f"cf7/{name}", self._service(name))

    def _on_velocity(self, message):
        self.velocity = np.array([message.vel.x, message.vel.y, message.vel.z])
        self.heard.append(self.velocity)

    def _service(self, name):
        def answer(request, response):
            self.called.append((name, request))
            return response

        return answer

    def tick(self):
        self.position = self.position + 0.01 * self.velocity
        message, stamp = Odometry(), self.node.get_clock().now().to_msg()
        message.header.stamp = stamp
        p, v = message.pose.pose.position, message.twist.twist.linear
        p.x, p.y, p.z = self.position.tolist()
        v.x, v.y, v.z = self.velocity.tolist()
        message.pose.pose.orientation.w = 1.0
        self._odometry.publish(message)
        self._status.publish(Status(supervisor_info=Status.SUPERVISOR_INFO_IS_FLYING))


def test_velocities_out_and_hand_over(policy):
    with dds["bench"](
        policy=policy, robot="crazyflie", adapter="crazyswarm", crazyswarm__name="cf7"
    ) as b:
        server = Server(b.robot)
        b.activate(server.tick)
        b.spin(lambda: server.heard, server.tick)
        goal = PoseStamped()
        goal.pose.position.x, goal.pose.position.z = 0.3, 1.2
        server.setpoint.publish(goal)
        reached = np.array([0.3, 0.0, 1.2])
        b.spin(lambda: np.linalg.norm(server.position - reached) < 0.03, server.tick)
        assert server.called == []
        b.node.trigger_deactivate()
        b.spin(lambda: len(server.called) == 2, server.tick)
        (first, stop), (second, land) = server.called
        assert (first, second) == ("notify_setpoints_stop", "land")
        assert stop.remain_valid_millisecs == 100
        # 1.2 m at 0.35 m/s
        assert land.duration.sec + 1e-9 * land.duration.nanosec == pytest.approx(3.43, abs=0.15)
        n = len(server.heard)
        b.run(0.3, server.tick)
        assert len(server.heard) == n
        assert server.zeros == []


def test_motors_off_by_the_operator(policy):
    with dds["bench"](
        policy=policy, robot="crazyflie", adapter="crazyswarm", crazyswarm__name="cf7"
    ) as b:
        server = Server(b.robot)
        b.activate(server.tick)
        b.spin(lambda: server.heard, server.tick)
        b.node._operator = type(b.node._operator).STOP
        b.spin(lambda: len(server.zeros) > 10, server.tick)
        assert server.called == []
