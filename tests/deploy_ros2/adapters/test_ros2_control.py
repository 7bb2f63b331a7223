"""Arms under ros2_control: joints by name whatever their order, what goes to which controller, and how it ends."""

import re
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from alula.deploy_ros2.adapters.interface import Timing, stamp_of
from alula.deploy_ros2.adapters.robots import required
from alula.deploy_ros2.adapters.ros2_control import Ros2ControlAdapter, Ros2ControlConfig
from alula.deploy_ros2.node_config import NodeConfig
from alula.errors import AlulaError
from alula.robots.arm import Arm, load_arm
from alula.robots.kinematics import Kinematics
from alula.robots.target_steps import LEASH

fake = run_path(str(Path(__file__).with_name("fake.py")))
CONFIG = Ros2ControlConfig()
JOINTS = ("base", "shoulder", "elbow")
ARM = Arm(
    name="three-joint",
    joint_names=JOINTS,
    position_low=(-1.0, -2.0, -3.0),
    position_high=(1.0, 2.0, 3.0),
    velocity_max=(1.0, 1.0, 1.0),
    effort_max=(1.0, 1.0, 1.0),
)


def adapter_of(
    level="joint_position",
    reference="latched",
    outside=("joint_position_reference",),
    arm=ARM,
    **config,
):
    node, cycles = fake["Node"](now=50.0), []
    runner = SimpleNamespace(level=level, control_dt=0.02, outside=outside)
    timing = Timing(now=lambda: node.now)
    settings = Ros2ControlConfig(**config)
    nodes = NodeConfig(reference=reference)
    adapter = Ros2ControlAdapter(node, settings, nodes, runner, arm, timing, lambda: cycles.append(1))  # fmt: skip
    return node, adapter, cycles


def joints(names, position=(), velocity=(), effort=(), stamp=50.0):
    message = JointState(name=list(names), position=list(position), velocity=list(velocity), effort=list(effort))  # fmt: skip
    message.header.stamp = stamp_of(stamp)
    return message


def test_names_travel_with_the_numbers():
    node, adapter, cycles = adapter_of()
    names = ("elbow", "gripper", "base", "shoulder")
    node.heard[CONFIG.states](joints(names, (0.3, 9.0, 0.1, 0.2), (3.0, 9.0, 1.0, 2.0), stamp=49.5))
    assert len(cycles) == 1
    sample = adapter.samples["joint_position"]
    assert dict(zip(sample.names, sample.value, strict=True))["shoulder"] == 0.2
    assert sample.stamp == 49.5
    assert "joint_effort" not in adapter.samples


def test_messages_about_other_joints_do_not_count():
    node, adapter, cycles = adapter_of()
    node.heard[CONFIG.states](joints(("left_finger", "right_finger"), (0.0, 0.0)))
    assert (cycles, adapter.samples) == ([], {})


@pytest.mark.parametrize(
    ("joint_order", "data"),
    [
        ((), [0.1, 0.2, 0.3]),
        (("elbow", "base", "shoulder"), [0.3, 0.1, 0.2]),
        (("shoulder", "elbow", "base"), [0.2, 0.3, 0.1]),
    ],
)
def test_forward_commands_go_in_the_order_of_the_controller(joint_order, data):
    node, adapter, _ = adapter_of(joints=joint_order)
    adapter.send(np.array([0.1, 0.2, 0.3]), 50.0)
    (message,) = node.sent(CONFIG.commands)
    assert isinstance(message, Float64MultiArray)
    assert list(message.data) == data


def test_trajectory_commands_name_the_joints():
    node, adapter, _ = adapter_of(controller="trajectory")
    adapter.send(np.array([0.1, 0.2, 0.3]), 50.0)
    (message,) = node.sent(CONFIG.trajectory)
    assert isinstance(message, JointTrajectory)
    assert tuple(message.joint_names) == JOINTS
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (0, 0)  # now
    (point,) = message.points
    assert list(point.positions) == [0.1, 0.2, 0.3]
    assert len(point.velocities) == 0  # a last velocity that is not zero is refused
    assert (point.time_from_start.sec, point.time_from_start.nanosec) == (0, 20_000_000)


def test_steps_add_to_what_was_commanded_and_end_at_the_limits():
    node, adapter, _ = adapter_of("joint_position_delta")
    here = joints(("elbow", "base", "shoulder"), (0.3, 0.85, 0.2))
    node.heard[CONFIG.states](here)
    for _ in range(2):
        # Although the arm does not follow
        adapter.send(np.array([0.1, 0.1, -0.1]), 50.0)
    first, second = (list(m.data) for m in node.sent(CONFIG.commands))
    assert first == pytest.approx([0.95, 0.3, 0.2])
    assert second == pytest.approx([1.0, 0.4, 0.1])
    # Steps of zero move nothing, whatever is measured.
    node.heard[CONFIG.states](joints(("elbow", "base", "shoulder"), (0.0, 0.0, 0.0)))
    adapter.send(np.zeros(3), 50.0)
    assert list(node.sent(CONFIG.commands)[-1].data) == pytest.approx(second)


def test_steps_of_a_blocked_arm_wind_up_no_more_than_the_leash():
    node, adapter, _ = adapter_of("joint_position_delta")
    node.heard[CONFIG.states](joints(JOINTS, (0.0, 0.0, 0.0)))
    for _ in range(50):
        adapter.send(np.array([0.01, -0.01, 0.01]), 50.0)
    assert list(node.sent(CONFIG.commands)[-1].data) == pytest.approx([LEASH, -LEASH, LEASH])
    # Begun anew, steps start from where the arm is.
    adapter.start(60.0)
    adapter.send(np.array([0.01, 0.0, 0.0]), 60.0)
    assert list(node.sent(CONFIG.commands)[-1].data) == pytest.approx([0.01, 0.0, 0.0])


def test_steps_of_the_tool_become_positions_of_the_joints():
    panda = load_arm("panda")
    node, adapter, _ = adapter_of("end_effector_delta", arm=panda)
    node.heard[CONFIG.states](joints(panda.joint_names[::-1], panda.home[::-1]))
    # A millimetre up, then the gripper closes by a millimetre.
    adapter.send(np.array([0.0, 0.0, 0.001, 0.0, 0.0, 0.0, 0.0]), 50.0)
    adapter.send(np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.001]), 50.0)
    up, closed = (list(m.data) for m in node.sent(CONFIG.commands))
    (_, _, before), (x, y, z) = (Kinematics(panda).forward(q)[0] for q in (panda.home, up))
    assert (x, y) == pytest.approx(Kinematics(panda).forward(panda.home)[0][:2], abs=1e-5)
    assert z - before == pytest.approx(0.001, abs=2e-5)
    assert closed[:7] == up[:7]
    assert closed[7] == pytest.approx(0.039)


@pytest.mark.parametrize(
    ("names", "positions"),
    [
        (("base", "elbow"), (0.1, 0.3)),
        (("base", "shoulder", "elbow", "base"), (0.1, 0.2, 0.3, 0.1)),
        (JOINTS, (0.1, 0.2)),
        (JOINTS, (0.1, float("nan"), 0.3)),
    ],
)
def test_no_step_from_positions_that_are_not_all_known(names, positions):
    node, adapter, _ = adapter_of("joint_position_delta")
    node.heard[CONFIG.states](joints(names, positions))
    adapter.send(np.array([0.1, 0.1, 0.1]), 50.0)
    assert node.sent(CONFIG.commands) == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nothing_that_is_not_finite_leaves(bad):
    node, adapter, _ = adapter_of()
    adapter.send(np.array([0.1, bad, 0.3]), 50.0)
    assert node.sent(CONFIG.commands) == []


@pytest.mark.parametrize("level", ["joint_position", "joint_position_delta"])
@pytest.mark.parametrize("controller", ["forward", "trajectory"])
def test_positions_stay_commanded_when_it_ends(level, controller):
    node, adapter, _ = adapter_of(level, controller=controller)
    node.heard[CONFIG.states](joints(JOINTS, (0.0, 0.0, 0.0)))
    adapter.send(np.array([0.1, 0.2, 0.3]), 50.0)
    adapter.stop()
    adapter.release()
    (publisher,) = node.publishers.values()
    assert len(publisher.sent) == 1


def test_velocities_are_taken_back_when_it_ends():
    topic = "/velocities/commands"
    node, adapter, _ = adapter_of("joint_velocity", watchdog=True, commands=topic)
    adapter.release()
    assert node.sent(topic) == []  # somebody else may be in command
    adapter.send(np.array([0.1, 0.2, 0.3]), 50.0)
    adapter.release()
    adapter.release()
    assert [list(m.data) for m in node.sent(topic)] == [[0.1, 0.2, 0.3], [0.0, 0.0, 0.0]]
    adapter.send(np.array([0.1, 0.2, 0.3]), 50.0)
    adapter.stop()
    assert list(node.sent(topic)[-1].data) == [0.0, 0.0, 0.0]


def test_velocities_that_nothing_would_stop_are_refused():
    with pytest.raises(AlulaError, match=r"joint_velocity and ros2_control\.watchdog is false"):
        adapter_of("joint_velocity")
    with pytest.raises(AlulaError, match="trajectory, which takes positions"):
        adapter_of("joint_velocity", controller="trajectory", watchdog=True)
    with pytest.raises(AlulaError, match=r"which takes positions; allowed: .* of velocities"):
        adapter_of("joint_velocity", watchdog=True)


EFFORTS = {"watchdog": True, "gravity_compensated": True, "commands": "/efforts/commands"}


def test_torques_go_to_a_controller_of_efforts_and_are_taken_back_when_it_ends():
    node, adapter, _ = adapter_of("joint_torque", **EFFORTS, joints=("elbow", "base", "shoulder"))
    adapter.send(np.array([0.1, 0.2, 0.3]), 50.0)
    adapter.release()
    adapter.release()
    assert [list(m.data) for m in node.sent("/efforts/commands")] == [[0.3, 0.1, 0.2], [0.0] * 3]
    adapter.send(np.array([0.1, 0.2, 0.3]), 50.0)
    adapter.stop()
    assert list(node.sent("/efforts/commands")[-1].data) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"watchdog": False}, r"joint_torque and ros2_control\.watchdog is false; allowed: true"),
        ({"gravity_compensated": False}, r"ros2_control\.gravity_compensated is false; allowed: true"),
        ({"commands": CONFIG.commands}, r"which takes positions; allowed: .* of efforts"),
        ({"controller": "trajectory"}, "trajectory, which takes positions, .* joint_torque; allowed"),
    ],
)  # fmt: skip
def test_torques_that_are_not_safe_are_refused(change, text):
    with pytest.raises(AlulaError, match=text):
        adapter_of("joint_torque", **EFFORTS | change)


def test_a_goal_is_taken_by_name_and_checked():
    node, adapter, _ = adapter_of()
    node.heard[CONFIG.states](joints(JOINTS, (0.1, 0.2, 0.3)))
    adapter.start(50.0)
    here = adapter.samples["joint_position_reference"]
    assert here.value.tolist() == [0.1, 0.2, 0.3]
    for names, goal, why in [
        (("base", "elbow"), (0.0, 0.0), "allowed: finite positions of base, shoulder, elbow"),
        (JOINTS, (0.0, float("nan"), 0.0), "allowed: finite positions"),
        (JOINTS, (), "allowed: finite positions"),
        (JOINTS, (0.0, 2.5, 0.0), "shoulder 2.5; allowed: -2 to 2"),
    ]:
        node.heard["joint_goal"](joints(names, goal))
        assert adapter.samples["joint_position_reference"] is here
        assert why in node.said[-1]
    assert adapter.refused == 4
    node.heard["joint_goal"](joints(("elbow", "base", "shoulder"), (3.0, -1.0, 0.5)))
    goal = adapter.samples["joint_position_reference"]
    assert dict(zip(goal.names, goal.value, strict=True)) == {"elbow": 3.0, "base": -1.0, "shoulder": 0.5}  # fmt: skip
    adapter.start(51.0)
    assert adapter.samples["joint_position_reference"] is goal


@pytest.mark.parametrize(("reference", "stamp"), [("latched", 60.0), ("streamed", 50.0)])
def test_a_latched_goal_does_not_age(reference, stamp):
    node, adapter, _ = adapter_of(reference=reference)
    node.heard["joint_goal"](joints(JOINTS, (0.1, 0.2, 0.3)))
    assert adapter.reference(60.0) is None
    assert adapter.samples["joint_position_reference"].stamp == stamp


def pose(position, quat=(1.0, 0.0, 0.0, 0.0), frame="world", stamp=50.0):
    message = PoseStamped()
    message.header.frame_id, message.header.stamp = frame, stamp_of(stamp)
    p, q = message.pose.position, message.pose.orientation
    p.x, p.y, p.z = position
    q.w, q.x, q.y, q.z = quat
    return message


POSES = ("goal_position_w", "goal_quat_w", "object_position_w", "object_quat_w")


def test_poses_become_samples_scalar_first():
    node, adapter, cycles = adapter_of(outside=POSES)
    node.heard["goal_pose"](pose((0.1, 0.2, 0.3), (0.8, 0.6, 0.0, 0.0), stamp=3.0))
    node.heard["object_pose"](pose((0.4, 0.5, 0.6), (0.0, 0.0, 0.0, 1.0), stamp=49.9))
    values = {name: adapter.samples[name].value.tolist() for name in POSES}
    assert values == {
        "goal_position_w": [0.1, 0.2, 0.3],
        "goal_quat_w": [0.8, 0.6, 0.0, 0.0],
        "object_position_w": [0.4, 0.5, 0.6],
        "object_quat_w": [0.0, 0.0, 0.0, 1.0],
    }
    # An object's pose was measured, a goal holds from when it comes; neither is a cycle.
    stamps = [adapter.samples[name].stamp for name in POSES]
    assert stamps == pytest.approx([50.0, 50.0, 49.9, 49.9])
    assert (cycles, adapter.refused, node.said) == ([], 0, [])
    adapter.reference(60.0)
    stamps = [adapter.samples[name].stamp for name in POSES]
    assert stamps == pytest.approx([60.0, 60.0, 49.9, 49.9])


def test_a_streamed_goal_pose_ages():
    node, adapter, _ = adapter_of(reference="streamed", outside=POSES)
    node.heard["goal_pose"](pose((0.1, 0.2, 0.3)))
    adapter.reference(60.0)
    assert adapter.samples["goal_position_w"].stamp == 50.0


@pytest.mark.parametrize("frame", ["", "camera", "/world"])
@pytest.mark.parametrize("topic", ["goal_pose", "object_pose"])
def test_poses_in_other_frames_are_refused(topic, frame):
    node, adapter, _ = adapter_of(outside=POSES)
    node.heard[topic](pose((0.1, 0.2, 0.3), frame=frame))
    assert (adapter.samples, adapter.refused) == ({}, 1)
    assert f"{topic.replace('_', ' ')} ignored: frame {frame!r}; allowed: 'world'" in node.said[-1]


def test_the_frame_and_the_topics_are_parameters():
    config = {"frame": "base", "goal_pose": "/there", "object_pose": "/cube"}
    node, adapter, _ = adapter_of(outside=POSES, **config)
    node.heard["/there"](pose((0.1, 0.2, 0.3), frame="base"))
    node.heard["/cube"](pose((0.1, 0.2, 0.3), frame="base"))
    assert set(adapter.samples) == set(POSES)
    with pytest.raises(AlulaError, match="frame is empty"):
        Ros2ControlConfig(frame="")


@pytest.mark.parametrize(
    ("position", "quat", "why"),
    [
        ((0.1, float("nan"), 0.3), (1.0, 0.0, 0.0, 0.0), "goal_position_w .*; allowed: finite"),
        ((0.1, 0.2, 0.3), (0.0, 0.0, 0.0, 0.0), "goal_quat_w .*; allowed: about unit length"),
        ((0.1, 0.2, 0.3), (1.0, float("inf"), 0.0, 0.0), "goal_quat_w .*; allowed: about unit"),
    ],
)
def test_a_goal_pose_that_is_none_is_refused_and_the_last_one_stays(position, quat, why):
    node, adapter, _ = adapter_of(outside=POSES)
    node.heard["goal_pose"](pose((1.0, 2.0, 3.0)))
    before = dict(adapter.samples)
    node.heard["goal_pose"](pose(position, quat))
    assert adapter.samples == before
    assert adapter.refused == 1
    assert re.search(why, node.said[-1])


def test_an_objects_numbers_are_for_the_safety_layer_to_judge():
    node, adapter, _ = adapter_of(outside=POSES)
    node.heard["object_pose"](pose((0.1, float("nan"), 0.3), (0.0, 0.0, 0.0, 0.0)))
    assert np.isnan(adapter.samples["object_position_w"].value[1])
    assert adapter.samples["object_quat_w"].value.tolist() == [0.0] * 4


def test_only_what_the_policy_sees_is_listened_to():
    node, adapter, _ = adapter_of(outside=("object_position_w",))
    assert set(node.heard) == {CONFIG.states, CONFIG.goal, CONFIG.object_pose}
    # A tracker that knows no attitude serves a policy that sees none.
    node.heard["object_pose"](pose((0.1, 0.2, 0.3), (0.0, 0.0, 0.0, 0.0)))
    node.heard[CONFIG.states](joints(JOINTS, (0.1, 0.2, 0.3)))
    node.heard["joint_goal"](joints(JOINTS, (0.1, 0.2, 0.3)))
    adapter.start(50.0)
    assert set(adapter.samples) == {"joint_position", "object_position_w"}
    node, adapter, _ = adapter_of(outside=("goal_position_w",))
    assert set(node.heard) == {CONFIG.states, CONFIG.goal, CONFIG.goal_pose}
    node.heard["goal_pose"](pose((0.1, 0.2, 0.3), (0.0, 0.0, 0.0, 0.0)))
    assert set(adapter.samples) == {"goal_position_w"}


def test_what_must_be_there_before_the_policy_takes_over():
    wanted = ("joint_position", "joint_velocity", "goal_position_w", "object_position_w")
    outside = ("goal_position_w", "joint_position_reference", "object_position_w")
    assert required("ros2_control", outside) == wanted


@pytest.mark.parametrize("names", [("base", "elbow"), ("base", "elbow", "wrist"), ("base", "elbow", "elbow"), (*JOINTS, "wrist")])  # fmt: skip
def test_the_controllers_joints_must_be_the_policys(names):
    with pytest.raises(AlulaError, match="allowed: base, shoulder, elbow in any order"):
        adapter_of(joints=names)


def test_other_policies_and_controllers_are_refused():
    with pytest.raises(AlulaError, match="commands throttle; ros2_control takes: joint_position"):
        adapter_of("throttle")
    with pytest.raises(AlulaError, match="controller is 'pid'; allowed: forward, trajectory"):
        Ros2ControlConfig(controller="pid")  # type: ignore[arg-type]


def test_another_commander_is_seen_and_everything_is_given_back():
    node, adapter, _ = adapter_of()
    node.others[CONFIG.commands] = 1
    assert adapter.rivals() == 1
    adapter.close()
    assert node.alive == set()
