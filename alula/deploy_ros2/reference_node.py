"""reference_node: shows a vehicle its way, window by window, so that its loss is noticed."""

import math

import numpy as np
from geometry_msgs.msg import Transform, Twist
from rclpy.node import Node
from trajectory_msgs.msg import MultiDOFJointTrajectory, MultiDOFJointTrajectoryPoint

from alula.deploy_ros2.adapters.interface import stamp_of
from alula.deploy_ros2.adapters.parameters import declare, read
from alula.deploy_ros2.adapters.process import run
from alula.deploy_ros2.node_config import ReferenceConfig
from alula.deploy_ros2.reference_path import figure_eight


class ReferenceNode(Node):
    """The node; parameters are the fields of ReferenceConfig. The figure begins when the node does."""

    def __init__(self) -> None:
        super().__init__("reference_node")
        declare(self, ReferenceConfig)
        self._config = read(self, ReferenceConfig)
        self._publisher = self.create_publisher(MultiDOFJointTrajectory, "trajectory", 1)
        self._begin = self._now()
        self.create_timer(1.0 / self._config.rate, self._on_timer)

    def _now(self) -> float:
        return 1e-9 * self.get_clock().now().nanoseconds

    def _on_timer(self) -> None:
        now = self._now()
        self._publisher.publish(window_message(self._config, now, now - self._begin))


def ease(time: float, wait: float, duration: float) -> tuple[float, float]:
    """Where along a figure [s], and at what pace [-], one is at a time [s]: at rest for `wait` [s], at pace 1 `duration` [s] later."""
    t = max(time - wait, 0.0)
    if t >= duration:
        return t - 0.5 * duration, 1.0
    # s' = t / T, s = t^2 / (2 T)
    return 0.5 * t * t / duration, t / duration


def window_message(config: ReferenceConfig, now: float, time: float) -> MultiDOFJointTrajectory:
    """The way from time now [s] on, `time` [s] after its beginning."""
    message = MultiDOFJointTrajectory(joint_names=["base_link"])
    message.header.frame_id = "world"
    message.header.stamp = stamp_of(now)
    points = []
    for k in range(math.ceil(config.window / config.spacing) + 1):
        ahead = k * config.spacing
        if config.shape == "hover":
            position, velocity = np.array(config.centre), np.zeros(3)
        else:
            along, pace = ease(time + ahead, config.wait, config.ease)
            position, velocity = figure_eight(
                config.length, config.width, config.lap, config.centre, along
            )
            velocity = pace * velocity
        pose, twist = Transform(), Twist()
        for vector, value in ((pose.translation, position), (twist.linear, velocity)):
            vector.x, vector.y, vector.z = (float(x) for x in value)
        point = MultiDOFJointTrajectoryPoint(transforms=[pose], velocities=[twist])
        point.time_from_start.sec = int(ahead)
        point.time_from_start.nanosec = round(1e9 * (ahead - int(ahead)))
        points.append(point)
    message.points = points
    return message


def main() -> None:
    """Entry point of `ros2 run alula reference_node`."""
    run(ReferenceNode)


if __name__ == "__main__":
    main()
