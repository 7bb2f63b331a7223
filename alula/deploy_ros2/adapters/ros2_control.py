"""Arms under ros2_control: JointState in by name, goals and an object's pose beside it; forward_command_controller or
joint_trajectory_controller out.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from alula.deploy_ros2.adapters.interface import Timing
from alula.deploy_ros2.adapters.multirotor import NEWEST
from alula.deploy_ros2.joint_targets import JointTargets
from alula.deploy_ros2.node_config import NodeConfig
from alula.deploy_ros2.observation import joint_order, rotation
from alula.deploy_ros2.samples import OBJECT, REFERENCES, Reference, Sample
from alula.errors import AlulaError
from alula.robots.arm import Arm
from alula.robots.target_steps import STEPS

if TYPE_CHECKING:
    from alula.deploy_ros2.runner import PolicyRunner

FLEETING = {"joint_velocity": "velocities", "joint_torque": "efforts"}
"""Levels whose last command must not stand for ever, and what their controllers take."""


@dataclass(frozen=True, kw_only=True)
class Ros2ControlConfig:
    """Which controller takes the commands."""

    controller: Literal["forward", "trajectory"] = "forward"
    """forward: Float64MultiArray for a forward_command_controller; trajectory: JointTrajectory."""
    states: str = "/joint_states"
    """sensor_msgs/JointState in; joints in any order, messages with none of the policy's joints do not count."""
    goal: str = "joint_goal"
    """sensor_msgs/JointState in: where the joints shall be, for policies that see joint_position_error."""
    goal_pose: str = "goal_pose"
    """geometry_msgs/PoseStamped in: where the tool, or what it carries, shall be, for policies that see errors to it."""
    object_pose: str = "object_pose"
    """geometry_msgs/PoseStamped in: where the object was at the time of the stamp, for policies that see one."""
    frame: str = "world"
    """frame_id of both: the frame in which the robot's model stands on its base; poses in another are refused."""
    commands: str = "/forward_position_controller/commands"
    """Where the forward_command_controller listens; the default is one of positions."""
    trajectory: str = "/joint_trajectory_controller/joint_trajectory"
    """Where the joint_trajectory_controller listens; it must have exactly the policy's joints."""
    joints: tuple[str, ...] = ()
    """Joints in the order of the forward_command_controller's own parameter `joints`; empty: the robot file's order."""
    watchdog: bool = False
    """Whether the robot itself stops its joints when commands stay away; policies that command velocities or torques need
    it, since a forward_command_controller goes on with the last one."""
    gravity_compensated: bool = False
    """Whether the robot adds to commanded efforts what holds its links up; policies that command torques need it, since
    theirs come beside that."""

    def __post_init__(self) -> None:
        if self.controller not in ("forward", "trajectory"):
            raise AlulaError(f"controller is {self.controller!r}; allowed: forward, trajectory")
        if not self.frame:
            raise AlulaError("frame is empty; allowed: the frame_id of goal and object poses")


def joint_samples(message: JointState, stamp: float) -> dict[str, Sample]:
    """Samples of a joint state, in the message's order with its names; quantities it lacks are absent."""
    names = tuple(message.name)
    parts = {
        "joint_position": message.position,
        "joint_velocity": message.velocity,
        "joint_effort": message.effort,
    }
    return {
        key: Sample(value=np.array(value, float), stamp=stamp, names=names)
        for key, value in parts.items()
        if len(value)
    }


def pose_samples(thing: str, message: PoseStamped, stamp: float) -> dict[str, Sample]:
    """Position and attitude of a thing, "goal" or "object"; messages have quaternions as x, y, z, w."""
    p, q = message.pose.position, message.pose.orientation
    values = {f"{thing}_position_w": (p.x, p.y, p.z), f"{thing}_quat_w": (q.w, q.x, q.y, q.z)}
    return {name: Sample(value=np.array(v, float), stamp=stamp) for name, v in values.items()}


def forward_message(command: np.ndarray, order: list[int]) -> Float64MultiArray:
    """A command in the robot's order (J) in the controller's: its joint k is our joint order[k]."""
    return Float64MultiArray(data=[float(command[k]) for k in order])


def trajectory_message(
    command: np.ndarray, names: tuple[str, ...], reach_in: float
) -> JointTrajectory:
    """Joint positions (J) to be reached in a time [s] from now."""
    point = JointTrajectoryPoint(positions=[float(x) for x in command])
    point.time_from_start.sec = int(reach_in)
    point.time_from_start.nanosec = round(1e9 * (reach_in - int(reach_in)))
    # A stamp of zero means at once.
    return JointTrajectory(joint_names=list(names), points=[point])


class Ros2ControlAdapter:
    """See the module. A forward_command_controller has no time-out: whoever leaves has to stop the joints.

    A position stays commanded when commands end, however they do; velocities and torques are taken back when the node
    gives up or is ended by a signal, but a killed node can take back nothing (see Ros2ControlConfig.watchdog).
    """

    def __init__(
        self,
        node: Node,
        config: Ros2ControlConfig,
        node_config: NodeConfig,
        runner: "PolicyRunner",
        arm: Arm,
        timing: Timing,
        on_state: Callable[[], None],
    ) -> None:
        """Subscribe and publish.

        Raises:
            AlulaError: the policy commands no joints, velocities or torques that nothing would stop or that would go to a
                controller of positions, or torques of a robot that does not hold its links up; other joints.
        """
        _check(config, runner)
        names = arm.joint_names
        order = joint_order(config.joints or names, names)
        if order is None or len(order) != len(config.joints or names):
            raise AlulaError(
                f"ros2_control.joints are {', '.join(config.joints)}; allowed: {', '.join(names)} in any order"
            )
        self._node, self._config, self._timing, self._on_state = node, config, timing, on_state
        self._names, self._level = names, runner.level
        # The controller's joint k is our joint _order[k].
        self._order = [names.index(joint) for joint in config.joints or names]
        self._reach_in = runner.control_dt
        steps = runner.level in STEPS
        self._targets = JointTargets(arm, runner.level, runner.control_dt) if steps else None
        self._latched = node_config.reference == "latched"
        self._outside = frozenset(runner.outside)
        self._low = np.array(arm.position_low)
        self._high = np.array(arm.position_high)
        self._moving = False
        self.samples: dict[str, Sample] = {}
        self.battery: float | None = None
        self.landed, self.engaged = False, True
        self.refused = 0
        last = QoSProfile(depth=1)
        heard: list[tuple[type, str, Callable, QoSProfile]] = [
            (JointState, config.states, self._on_states, NEWEST),
            (JointState, config.goal, self._on_goal, last),
        ]
        if not self._outside.isdisjoint(REFERENCES[1:]):
            heard.append((PoseStamped, config.goal_pose, self._on_goal_pose, last))
        if not self._outside.isdisjoint(OBJECT):
            heard.append((PoseStamped, config.object_pose, self._on_object_pose, NEWEST))
        self._subscriptions = [node.create_subscription(*each) for each in heard]
        forward = config.controller == "forward"
        kind = Float64MultiArray if forward else JointTrajectory
        topic = config.commands if forward else config.trajectory
        self._publisher = node.create_publisher(kind, topic, 1)

    def start(self, now: float) -> None:
        """The policy takes over: without a goal for the joints so far, stay here."""
        self._moving = False
        if self._targets is not None:
            self._targets.start()
        here = self.samples["joint_position"]
        if "joint_position_reference" in self._outside:
            self.samples.setdefault("joint_position_reference", here)

    def reference(self, now: float) -> Reference | None:
        """Arms have their goal among the samples; a latched one is as good as new."""
        for name in REFERENCES:
            goal = self.samples.get(name)
            if self._latched and goal is not None:
                self.samples[name] = replace(goal, stamp=now)
        return None

    def send(self, command: np.ndarray, now: float) -> None:
        """Publish a command in the policy's order (A); nothing that is not finite leaves."""
        if self._targets is not None:
            measured = self._measured(self.samples.get("joint_position"))
            moved = self._targets.moved(command, measured)
            if moved is None:
                return
            command = moved
        if not np.isfinite(command).all():
            return
        self._moving = True
        if self._config.controller == "forward":
            self._publisher.publish(forward_message(command, self._order))
        else:
            self._publisher.publish(trajectory_message(command, self._names, self._reach_in))

    def beat(self, now: float) -> None:
        """There is no heartbeat."""

    def release(self) -> None:
        """Joints under position control hold the last command; velocities and torques are taken back, once."""
        self.stop()
        self._moving = False

    def stop(self) -> None:
        """Velocities and torques to zero; positions stay where they were commanded."""
        # Nothing commanded, nothing to take back: somebody else may be in command.
        if self._level in FLEETING and self._moving:
            self.send(np.zeros(len(self._names)), self._timing.now())

    def rivals(self) -> int:
        """Other publishers of commands."""
        return max(0, self._node.count_publishers(self._publisher.topic_name) - 1)

    def close(self) -> None:
        """Give back every subscription and publisher."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._node.destroy_publisher(self._publisher)

    def _measured(self, sample: Sample | None) -> np.ndarray | None:
        """Joint positions of a sample in the robot's order (J); None where they are not all there."""
        names = () if sample is None or sample.names is None else sample.names
        order = joint_order(names, self._names)
        if sample is None or order is None or len(sample.value) != len(names):
            return None
        values = sample.value[order]
        return values if np.isfinite(values).all() else None

    def _on_states(self, message: JointState) -> None:
        if set(self._names).isdisjoint(message.name):
            return
        self.samples |= joint_samples(message, self._timing.of(message.header.stamp))
        self._on_state()

    def _on_goal(self, message: JointState) -> None:
        goal = joint_samples(message, self._timing.now()).get("joint_position")
        values = self._measured(goal)
        log = self._node.get_logger()
        if goal is None or values is None:
            self.refused += 1
            log.warning(
                f"joint goal ignored; allowed: finite positions of {', '.join(self._names)}"
            )
            return
        for name, x, low, high in zip(self._names, values, self._low, self._high, strict=True):
            if not low <= x <= high:
                self.refused += 1
                log.warning(f"joint goal ignored: {name} {x:g}; allowed: {low:g} to {high:g}")
                return
        if "joint_position_reference" in self._outside:
            self.samples["joint_position_reference"] = goal

    def _on_goal_pose(self, message: PoseStamped) -> None:
        # As old as it is here: a goal is no measurement.
        goal = self._needed(pose_samples("goal", message, self._timing.now()))
        why = self._misplaced(message)
        for name, sample in goal.items():
            values = sample.value.tolist()
            whole = rotation(values) if len(values) == 4 else values
            if not np.isfinite(whole).all():
                allowed = "about unit length" if len(values) == 4 else "finite"
                why = why or f"{name} {values}; allowed: {allowed}"
        if why:
            self.refused += 1
            log = self._node.get_logger()
            log.warning(f"goal pose ignored: {why}", throttle_duration_sec=1.0)
            return
        self.samples |= goal

    def _on_object_pose(self, message: PoseStamped) -> None:
        if why := self._misplaced(message):
            self.refused += 1
            log = self._node.get_logger()
            log.warning(f"object pose ignored: {why}", throttle_duration_sec=1.0)
            return
        # A measurement: its numbers are for the safety layer to judge.
        stamp = self._timing.of(message.header.stamp)
        self.samples |= self._needed(pose_samples("object", message, stamp))

    def _needed(self, samples: dict[str, Sample]) -> dict[str, Sample]:
        return {name: sample for name, sample in samples.items() if name in self._outside}

    def _misplaced(self, message: PoseStamped) -> str:
        """What is wrong with the frame of a pose; empty: nothing."""
        frame, allowed = message.header.frame_id, self._config.frame
        return "" if frame == allowed else f"frame {frame!r}; allowed: {allowed!r}"


def _check(config: Ros2ControlConfig, runner: "PolicyRunner") -> None:
    """Refuse what this interface cannot do, or not safely."""
    level = runner.level
    takes = ("joint_position", *STEPS, *FLEETING)
    if level not in takes:
        raise AlulaError(f"the policy commands {level}; ros2_control takes: {', '.join(takes)}")
    if level not in FLEETING:
        return
    if config.controller == "trajectory":
        raise AlulaError(
            f"ros2_control.controller is trajectory, which takes positions, and the policy commands {level}; "
            "allowed: forward"
        )
    if not config.watchdog:
        raise AlulaError(
            f"the policy commands {level} and ros2_control.watchdog is false; allowed: true, where the robot "
            "stops its joints by itself when commands stay away"
        )
    if level == "joint_torque" and not config.gravity_compensated:
        raise AlulaError(
            "the policy commands joint_torque beside what holds the links up and ros2_control.gravity_compensated is "
            "false; allowed: true, where the robot adds that by itself"
        )
    if config.commands == Ros2ControlConfig.commands:
        # A torque of 80 N m would be a position of 80 rad, a velocity of zero the way to position zero.
        raise AlulaError(
            f"the policy commands {level} and ros2_control.commands is {config.commands}, which takes positions; "
            f"allowed: the topic of a controller of {FLEETING[level]}"
        )
