"""policy_node over real DDS: measurements in, commands out, with numbers worked out by hand."""

from math import pi, sqrt
from pathlib import Path
from runpy import run_path

import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Float32MultiArray, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from alula.robots.arm import load_arm
from alula.robots.multirotor import load_robot

dds = run_path(str(Path(__file__).with_name("bench.py")))
bench, linear_policy = dds["bench"], dds["linear_policy"]
EVERY = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)
H = sqrt(0.5)
ROBOT, ARM = load_robot("crazyflie"), load_arm("ur5e")


@pytest.fixture(scope="module")
def throttle_policy(tmp_path_factory):
    """M1 by the velocity in x, M2 by the body rate about y, M3 by how far the nose points to y, M4 the left to x."""
    entries = [("position_w", 3), ("rot_wb", 9), ("velocity_w", 3), ("angular_velocity_b", 3)]
    weights = [[0.0] * 4 for _ in range(18)]
    weights[12][0] = 0.75  # velocity_w x
    weights[16][1] = 0.75  # angular_velocity_b y
    weights[6][2] = 4 / 3  # rot_wb, second row, first column
    weights[4][3] = 4 / 3  # rot_wb, first row, second column
    low, high = ROBOT.throttle_min, ROBOT.throttle_max
    actions = [(n, low, high, "throttle") for n in ROBOT.rotor_names]
    path = tmp_path_factory.mktemp("throttle") / "policy.onnx"
    return linear_policy(path, ROBOT, entries, actions, weights)


def odometry(stamp):
    """At (0, 0, 1), turned by 90 degrees to the left, 1 m/s to the right, which is +x; -1 rad/s about body y."""
    message = Odometry()
    message.header.stamp = stamp
    message.pose.pose.position.z = 1.0
    q = message.pose.pose.orientation
    q.x, q.y, q.z, q.w = 0.0, 0.0, H, H
    message.twist.twist.linear.y = -1.0
    message.twist.twist.angular.y = -1.0
    return message


def throttle(action):
    return 0.5 * ((1.0 - action) * ROBOT.throttle_min + (1.0 + action) * ROBOT.throttle_max)


def test_odometry_in_throttles_out(throttle_policy):
    heard = []
    with bench(policy=throttle_policy, robot="crazyflie", look=0.002) as b:
        publisher = b.robot.create_publisher(Odometry, "odometry", EVERY)
        b.robot.create_subscription(Float32MultiArray, "command", heard.append, EVERY)

        def tick():
            publisher.publish(odometry(b.robot.get_clock().now().to_msg()))

        b.run(0.3, tick)
        assert heard == []  # configured only
        assert b.node.look == 0.1
        b.activate(tick)
        assert b.node.look == 0.002
        expected = [throttle(0.6), throttle(-0.6), throttle(0.8), throttle(-0.8)]
        # Not at once: measurements that came late on a busy computer repeat an action.
        b.spin(lambda: heard and list(heard[-1].data) == pytest.approx(expected, abs=1e-6), tick)
        assert heard[-1].layout.dim[0].label == "M1,M2,M3,M4"


def test_the_policy_waits_until_the_robot_listens(throttle_policy):
    heard = []
    with bench(policy=throttle_policy, robot="crazyflie") as b:
        publisher = b.robot.create_publisher(Odometry, "odometry", EVERY)
        b.robot.create_subscription(Float32MultiArray, "command", heard.append, EVERY)

        def tick():
            publisher.publish(odometry(b.robot.get_clock().now().to_msg()))

        adapter = b.node._adapter
        adapter.engaged = False
        b.activate(tick)
        b.run(0.5, tick)
        assert heard == []
        steps = b.node._pilot.runner.counters.steps
        assert steps > 5  # kept fresh meanwhile
        adapter.engaged = True
        b.spin(lambda: len(heard) >= 5, tick)
        # Somebody else takes over.
        adapter.engaged = False
        b.run(0.2, tick)
        n = len(heard)
        b.run(0.3, tick)
        assert len(heard) == n
        # And gives it back.
        adapter.engaged = True
        b.spin(lambda: len(heard) >= n + 5, tick)
        # What was given up stays so, whoever flies then.
        b.node._operator = max(type(b.node._operator))  # STOP
        b.spin(lambda: list(heard[-1].data) == [0.0] * 4, tick)
        adapter.engaged = False
        b.run(0.1, tick)
        adapter.engaged = True
        n = len(heard)
        b.spin(lambda: len(heard) >= n + 5, tick)
        assert all(list(m.data) == [0.0] * 4 for m in heard[n:])


@pytest.fixture(scope="module")
def joint_policy(tmp_path_factory):
    """Each joint's command by its own position."""
    names, n = ARM.joint_names, len(ARM.joint_names)
    weights = [[0.0] * n for _ in range(2 * n)]
    for i in range(n):
        weights[i][i] = 0.75 if i < 3 else 4 / 3
    actions = [
        (names[i], ARM.position_low[i], ARM.position_high[i], "joint_position") for i in range(n)
    ]
    entries = [("joint_position", n), ("joint_velocity", n)]
    path = tmp_path_factory.mktemp("joints") / "policy.onnx"
    return linear_policy(path, ARM, entries, actions, weights)


POSITIONS = dict(zip(ARM.joint_names, (1.0, -1.0, 0.0, 1.0, -1.0, 0.0), strict=True))
# Of limits -2 pi to 2 pi; the elbow's are -pi to pi.
COMMANDS = dict(
    zip(ARM.joint_names, (1.2 * pi, -1.2 * pi, 0.0, 1.6 * pi, -1.6 * pi, 0.0), strict=True)
)


def joint_state(stamp):
    """By the alphabet, and a gripper amid."""
    names = sorted([*ARM.joint_names, "gripper"])
    message = JointState(name=names)
    message.header.stamp = stamp
    message.position = [POSITIONS.get(n, 9.0) for n in names]
    message.velocity = [0.0 if n in POSITIONS else 9.0 for n in names]
    return message


@pytest.mark.parametrize("controller", ["forward", "trajectory"])
def test_joint_states_in_joint_commands_out_in_other_orders(joint_policy, controller):
    assert ARM.position_low[2] == pytest.approx(-pi)
    heard, controllers = [], tuple(reversed(ARM.joint_names))
    forward = controller == "forward"
    kind = Float64MultiArray if forward else JointTrajectory
    with bench(
        policy=joint_policy,
        robot="ur5e",
        adapter="ros2_control",
        ros2_control__controller=controller,
        ros2_control__joints=controllers,
        ros2_control__commands="commands",
        ros2_control__trajectory="trajectory",
    ) as b:
        publisher = b.robot.create_publisher(JointState, "/joint_states", 1)
        topic = "commands" if forward else "trajectory"
        b.robot.create_subscription(kind, topic, heard.append, 1000)

        def tick():
            publisher.publish(joint_state(b.robot.get_clock().now().to_msg()))

        def found():
            names = controllers if forward else tuple(heard[-1].joint_names)
            values = heard[-1].data if forward else heard[-1].points[0].positions
            return dict(zip(names, values, strict=True))

        b.activate(tick)
        # Not at once: measurements that came late on a busy computer repeat an action.
        b.spin(lambda: heard and found() == pytest.approx(COMMANDS, abs=1e-5), tick)


def test_a_missing_joint_is_held(joint_policy):
    heard = []
    with bench(
        policy=joint_policy,
        robot="ur5e",
        adapter="ros2_control",
        ros2_control__commands="commands",
    ) as b:
        publisher = b.robot.create_publisher(JointState, "/joint_states", 1)
        b.robot.create_subscription(Float64MultiArray, "commands", heard.append, 1000)
        missing = []

        def tick():
            message = joint_state(b.robot.get_clock().now().to_msg())
            if missing:
                k = list(message.name).index("elbow_joint")
                for values in (message.name, message.position, message.velocity):
                    values.pop(k)
            publisher.publish(message)

        b.activate(tick)
        b.spin(lambda: len(heard) >= 3, tick)
        missing.append("elbow_joint")
        b.spin(lambda: "joint_missing" in str(b.node._output.decision.reasons), tick)
        b.run(0.3, tick)
        # Held where the arm was when the joint was last seen.
        assert list(heard[-1].data) == pytest.approx(list(POSITIONS.values()), abs=0.2)
        assert all(len(m.data) == 6 for m in heard)


def pose(stamp, x, y, z):
    message = PoseStamped()
    message.header.frame_id, message.header.stamp = "world", stamp
    p = message.pose.position
    p.x, p.y, p.z = x, y, z
    return message


def test_goal_and_object_in_joint_commands_out_and_held_without_the_object(tmp_path):
    names, n = ARM.joint_names, len(ARM.joint_names)
    weights = [[0.0] * n for _ in range(n + 3)]
    for i in range(3):
        weights[n + i][i] = 1.0
    actions = [
        (names[i], ARM.position_low[i], ARM.position_high[i], "joint_position") for i in range(n)
    ]
    entries = [("joint_position", n), ("object_position_error_w", 3)]
    path = linear_policy(tmp_path / "policy.onnx", ARM, entries, actions, weights)
    heard = []
    with bench(
        policy=path, robot="ur5e", adapter="ros2_control", ros2_control__commands="commands"
    ) as b:
        states = b.robot.create_publisher(JointState, "/joint_states", 1)
        goals = b.robot.create_publisher(PoseStamped, "goal_pose", 1)
        objects = b.robot.create_publisher(PoseStamped, "object_pose", 1)
        b.robot.create_subscription(Float64MultiArray, "commands", heard.append, 1000)
        seen = []

        def tick():
            stamp = b.robot.get_clock().now().to_msg()
            if seen:
                objects.publish(pose(stamp, *seen[-1]))
            states.publish(joint_state(stamp))

        b.spin(lambda: "no goal_position_w" in b.node._obstacle(), tick)
        # Once is enough for a goal, but it must be heard.
        b.spin(lambda: goals.get_subscription_count() > 0, tick)
        goals.publish(pose(b.robot.get_clock().now().to_msg(), 0.5, 0.2, 1.0))
        b.spin(lambda: "no object_position_w" in b.node._obstacle(), tick)
        # goal - object = (3/4, -3/4, 4/3)
        seen.append((-0.25, 0.95, 1.0 - 4 / 3))
        b.activate(tick)
        wanted = [1.2 * pi, -1.2 * pi, 0.8 * pi, 0.0, 0.0, 0.0]
        b.spin(lambda: heard and list(heard[-1].data) == pytest.approx(wanted, abs=1e-5), tick)
        seen.clear()
        b.spin(lambda: "object_stale" in str(b.node._output.decision.reasons), tick)
        # Held where the arm is
        here = list(POSITIONS.values())
        b.spin(lambda: list(heard[-1].data) == pytest.approx(here, abs=1e-5), tick)
