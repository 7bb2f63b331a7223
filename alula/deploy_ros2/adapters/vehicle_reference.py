"""Set-points and trajectories for a vehicle, from messages to `Reference`."""

import itertools

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile
from trajectory_msgs.msg import MultiDOFJointTrajectory

from alula.deploy_ros2.adapters.interface import seconds
from alula.deploy_ros2.node_config import NodeConfig
from alula.deploy_ros2.reference_path import MAX_POINTS, Spliced, approach, resting, through
from alula.deploy_ros2.samples import Reference, Trajectory
from alula.errors import AlulaError


def path_of(message: MultiDOFJointTrajectory, now: float) -> tuple[Trajectory, float]:
    """The path of the first body of a trajectory message and when it begins [s]; a zero stamp means from now on.

    Raises:
        AlulaError: no points or too many, no body in one, numbers not finite, or times that do not rise.
    """
    stamp = seconds(message.header.stamp)
    begin = now if stamp == 0.0 else stamp
    points = message.points
    if not 1 <= len(points) <= MAX_POINTS or any(not p.transforms for p in points):
        raise AlulaError(f"a trajectory of {len(points)} points; allowed: 1 to {MAX_POINTS} poses")
    times = [begin + p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in points]
    where = (p.transforms[0].translation for p in points)
    position = np.array([[w.x, w.y, w.z] for w in where])
    if all(p.velocities for p in points):
        moves = (p.velocities[0].linear for p in points)
        velocity = np.array([[m.x, m.y, m.z] for m in moves])
    elif len(points) == 1:
        velocity = np.zeros((1, 3))
    elif any(b <= a for a, b in itertools.pairwise(times)):
        raise AlulaError(
            "a trajectory whose times do not rise; allowed: each later than the one before"
        )
    else:
        velocity = np.gradient(position, np.array(times) - times[0], axis=0)
    return through(times, position, velocity), times[0]


class VehicleReference:
    """Listens to `setpoint` (PoseStamped) and `trajectory` (MultiDOFJointTrajectory); the later one counts."""

    def __init__(self, node: Node, config: NodeConfig) -> None:
        self._node, self._config = node, config
        self.refused = 0
        """Messages refused so far."""
        self._path: Spliced | None = None
        self._goal: np.ndarray | None = None
        self._followed = False
        self._stamp: float | None = None
        qos = QoSProfile(depth=1)
        self._subscriptions = [
            node.create_subscription(PoseStamped, "setpoint", self._on_setpoint, qos),
            node.create_subscription(
                MultiDOFJointTrajectory, "trajectory", self._on_trajectory, qos
            ),
        ]

    def start(self, position_w: np.ndarray) -> None:
        """The policy takes over here [m] (3): from here to the last set-point, or along the last trajectory."""
        if self._followed or not np.isfinite(position_w).all():
            return
        self._path = Spliced(resting(position_w))
        if self._goal is not None:
            self._go(self._goal, self._now())

    def at(self, now: float) -> Reference | None:
        """The reference at time now [s]; None before the first."""
        if self._path is None:
            return None
        position, velocity = self._path(now)
        latched = self._config.reference == "latched"
        return Reference(
            position_w=position,
            velocity_w=velocity,
            acceleration_w=np.zeros(3),
            stamp=now if latched or self._stamp is None else self._stamp,
            trajectory=self._path,
        )

    def close(self) -> None:
        """Give back the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _now(self) -> float:
        return 1e-9 * self._node.get_clock().now().nanoseconds

    def _on_setpoint(self, message: PoseStamped) -> None:
        p = message.pose.position
        goal, now = np.array([p.x, p.y, p.z]), self._now()
        if not np.isfinite(goal).all():
            self.refused += 1
            self._node.get_logger().warning(f"set-point {goal.tolist()} ignored; allowed: finite")
            return
        self._goal, self._followed, self._stamp = goal, False, now
        # Before the policy takes over nobody knows from where.
        if self._path is not None:
            self._go(goal, now)

    def _go(self, goal: np.ndarray, now: float) -> None:
        assert self._path is not None
        path = approach(
            self._path(now)[0],
            goal,
            now,
            speed=self._config.reference_speed,
            acceleration=self._config.reference_acceleration,
        )
        self._path.replace(path, now, now)

    def _on_trajectory(self, message: MultiDOFJointTrajectory) -> None:
        now = self._now()
        try:
            path, begin = path_of(message, now)
        except AlulaError as e:
            self.refused += 1
            self._node.get_logger().warning(f"trajectory ignored: {e}")
            return
        if self._path is None:
            self._path = Spliced(path)
        else:
            self._path.replace(path, begin, now)
        self._goal, self._followed, self._stamp = None, True, now
