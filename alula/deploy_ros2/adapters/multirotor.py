"""Any multirotor: nav_msgs/Odometry (or PoseStamped, TwistStamped and Imu) in, an array of throttles out."""

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import BatteryState, Imu
from std_msgs.msg import Float32MultiArray, MultiArrayDimension

from alula.deploy_ros2.adapters.interface import Timing, seconds
from alula.deploy_ros2.adapters.vehicle_reference import VehicleReference
from alula.deploy_ros2.node_config import NodeConfig
from alula.deploy_ros2.observation import rotation
from alula.deploy_ros2.samples import Reference, Sample
from alula.errors import AlulaError

if TYPE_CHECKING:
    from alula.deploy_ros2.runner import PolicyRunner

NEWEST = QoSProfile(
    depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT
)
"""Only the newest message counts; one that was lost is of no use later."""


@dataclass(frozen=True, kw_only=True)
class MultirotorConfig:
    """How the robot's messages are to be read."""

    source: Literal["odometry", "parts"] = "odometry"
    """odometry: nav_msgs/Odometry on `odometry`; parts: PoseStamped on `pose`, TwistStamped on `twist`, Imu on `imu` with
    the body's axes; a cycle runs once each of the three has come anew."""
    twist_frame: Literal["body", "world"] = "body"
    """Frame of the linear velocity in `odometry` or `twist`; body is what nav_msgs/Odometry says."""
    reliable: bool = False
    """Whether commands go out RELIABLE, for robots that accept nothing else."""

    def __post_init__(self) -> None:
        if self.source not in ("odometry", "parts"):
            raise AlulaError(f"source is {self.source!r}; allowed: odometry, parts")
        if self.twist_frame not in ("body", "world"):
            raise AlulaError(f"twist_frame is {self.twist_frame!r}; allowed: body, world")


def odometry_samples(
    message: Odometry, stamp: float, *, twist_in_body: bool = True
) -> dict[str, Sample]:
    """Samples of an odometry message; the pose maps body FLU to world ENU."""
    pose, twist = message.pose.pose, message.twist.twist
    return pose_samples(pose, stamp) | {
        "velocity_w": velocity_sample(twist.linear, pose.orientation, stamp, twist_in_body),
        "angular_velocity_b": _vector(twist.angular, stamp),
    }


def pose_samples(pose, stamp: float) -> dict[str, Sample]:
    """Position and attitude of a geometry_msgs/Pose, which has quaternions as x, y, z, w."""
    q = pose.orientation
    return {
        "position_w": _vector(pose.position, stamp),
        "quat_wb": Sample(value=np.array([q.w, q.x, q.y, q.z]), stamp=stamp),
    }


def velocity_sample(linear, orientation, stamp: float, in_body: bool) -> Sample:
    """Velocity in the world of a linear velocity in body or world."""
    v = [linear.x, linear.y, linear.z]
    if in_body:
        q = orientation
        r = rotation((q.w, q.x, q.y, q.z))
        # v_w = R_wb v_b
        v = [r[k] * v[0] + r[k + 1] * v[1] + r[k + 2] * v[2] for k in (0, 3, 6)]
    return Sample(value=np.array(v), stamp=stamp)


def command_message(throttle: np.ndarray, label: str) -> Float32MultiArray:
    """Throttles [0, 1] in the robot's order (R), its rotor names in the label."""
    n = len(throttle)
    message = Float32MultiArray(data=array("f", throttle.tolist()))
    message.layout.dim = [MultiArrayDimension(label=label, size=n, stride=n)]
    return message


def _vector(v, stamp: float) -> Sample:
    return Sample(value=np.array([v.x, v.y, v.z]), stamp=stamp)


def _apart(pose: PoseStamped, twist: TwistStamped) -> float:
    return abs(seconds(pose.header.stamp) - seconds(twist.header.stamp))


class MultirotorAdapter:
    """Subscribes relative topics, so that they can be remapped; publishes throttles on `command`."""

    def __init__(
        self,
        node: Node,
        config: MultirotorConfig,
        node_config: NodeConfig,
        runner: "PolicyRunner",
        timing: Timing,
        on_state: Callable[[], None],
    ) -> None:
        """Subscribe and publish.

        Args:
            node: the node that owns everything.
            config: how messages are to be read.
            node_config: reference and rates.
            runner: the policy, which must command throttles.
            timing: which time a measurement gets.
            on_state: called after a message that is worth a cycle.

        Raises:
            AlulaError: the policy does not command throttles.
        """
        if runner.level != "throttle":
            raise AlulaError(
                f"the policy commands {runner.level}; the adapter multirotor takes: throttle"
            )
        self._node, self._config, self._timing, self._on_state = node, config, timing, on_state
        self.samples: dict[str, Sample] = {}
        self.battery: float | None = None
        self.landed, self.engaged = False, True
        self._pose: PoseStamped | None = None
        self._twist: TwistStamped | None = None
        self._apart = np.inf
        self._come: set[str] = set()
        self._zero = np.zeros(len(runner.names))
        self._command = command_message(self._zero, ",".join(runner.names))
        self._references = VehicleReference(node, node_config)
        reliability = ReliabilityPolicy.RELIABLE if config.reliable else NEWEST.reliability
        qos = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=reliability)
        self._publisher = node.create_publisher(Float32MultiArray, "command", qos)
        subscribe = node.create_subscription
        self._subscriptions: list[Subscription] = [
            subscribe(BatteryState, "battery", self._on_battery, NEWEST)
        ]
        if config.source == "odometry":
            self._subscriptions.append(subscribe(Odometry, "odometry", self._on_odometry, NEWEST))
        else:
            self._subscriptions += [
                subscribe(PoseStamped, "pose", self._on_pose, NEWEST),
                subscribe(TwistStamped, "twist", self._on_twist, NEWEST),
                subscribe(Imu, "imu", self._on_imu, NEWEST),
            ]

    @property
    def refused(self) -> int:
        """Set-points and trajectories that were refused so far."""
        return self._references.refused

    def start(self, now: float) -> None:
        """The policy takes over."""
        self._references.start(self.samples["position_w"].value)

    def reference(self, now: float) -> Reference | None:
        """Where the vehicle shall be at time now [s]."""
        return self._references.at(now)

    def send(self, command: np.ndarray, now: float) -> None:
        """Publish throttles (R)."""
        # One message for all: to make one takes longer than to send it.
        self._command.data = array("f", command.tolist())
        self._publisher.publish(self._command)

    def beat(self, now: float) -> None:
        """This interface has no heartbeat: the commands are it."""

    def release(self) -> None:
        """Nothing to take back: silence is all, and the robot's own time-out acts on it."""

    def stop(self) -> None:
        """Zero throttle on every rotor."""
        self.send(self._zero, 0.0)

    def rivals(self) -> int:
        """Other publishers on `command`."""
        return max(0, self._node.count_publishers(self._publisher.topic_name) - 1)

    def close(self) -> None:
        """Give back every subscription and publisher."""
        self._references.close()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._node.destroy_publisher(self._publisher)

    def _on_odometry(self, message: Odometry) -> None:
        stamp = self._timing.of(message.header.stamp)
        in_body = self._config.twist_frame == "body"
        self.samples |= odometry_samples(message, stamp, twist_in_body=in_body)
        self._on_state()

    def _on_pose(self, message: PoseStamped) -> None:
        self.samples |= pose_samples(message.pose, self._timing.of(message.header.stamp))
        self._pose = message
        if self._twist is not None and _apart(message, self._twist) < self._apart:
            self._turn(message, self._twist)
        self._part("pose")

    def _on_twist(self, message: TwistStamped) -> None:
        self._twist = message
        # A velocity in the body waits for the first attitude.
        if self._pose is not None or self._config.twist_frame == "world":
            self._turn(self._pose or PoseStamped(), message)
        self._part("twist")

    def _turn(self, pose: PoseStamped, twist: TwistStamped) -> None:
        """Velocity in the world; of the attitudes so far, the one that was measured nearest to it turns it."""
        stamp, in_body = self._timing.of(twist.header.stamp), self._config.twist_frame == "body"
        self._apart = _apart(pose, twist)
        self.samples["velocity_w"] = velocity_sample(
            twist.twist.linear, pose.pose.orientation, stamp, in_body
        )

    def _on_imu(self, message: Imu) -> None:
        stamp = self._timing.of(message.header.stamp)
        self.samples["angular_velocity_b"] = _vector(message.angular_velocity, stamp)
        self._part("imu")

    def _part(self, name: str) -> None:
        # The last of the three to come finds the newest of the others.
        self._come.add(name)
        if len(self._come) == 3:
            self._come.clear()
            self._on_state()

    def _on_battery(self, message: BatteryState) -> None:
        # NaN means that it is not measured.
        known = np.isfinite(message.percentage)
        self.battery = float(message.percentage) if known else None
