"""view_node: what RViz or Foxglove shows of a flight; apart from the flight, so that it costs it nothing."""

from collections import deque

from geometry_msgs.msg import Point, PoseStamped
from nav_msgs.msg import Odometry, Path
from rclpy.node import Node
from std_msgs.msg import ColorRGBA
from trajectory_msgs.msg import MultiDOFJointTrajectory
from visualization_msgs.msg import Marker, MarkerArray

from alula.deploy_ros2.adapters.multirotor import NEWEST
from alula.deploy_ros2.adapters.process import run

PERIOD = 0.1
"""Time between two pictures [s]."""
KEPT = 600
"""Poses of the path that are kept; a minute."""
ARM = 0.12
"""Half the length of the drawn cross [m]."""


class ViewNode(Node):
    """Takes `odometry` and `trajectory`; gives `path` (nav_msgs/Path) and `markers` (vehicle and way ahead)."""

    def __init__(self) -> None:
        super().__init__("view_node")
        self._latest: Odometry | None = None
        self._way: MultiDOFJointTrajectory | None = None
        self._flown: deque[PoseStamped] = deque(maxlen=KEPT)
        self.create_subscription(Odometry, "odometry", self._on_odometry, NEWEST)
        self.create_subscription(MultiDOFJointTrajectory, "trajectory", self._on_trajectory, 1)
        self._path = self.create_publisher(Path, "path", 1)
        self._markers = self.create_publisher(MarkerArray, "markers", 1)
        self.create_timer(PERIOD, self._draw)

    def _on_odometry(self, message: Odometry) -> None:
        self._latest = message

    def _on_trajectory(self, message: MultiDOFJointTrajectory) -> None:
        self._way = message

    def _draw(self) -> None:
        if self._latest is None:
            return
        header = self._latest.header
        self._flown.append(PoseStamped(header=header, pose=self._latest.pose.pose))
        self._path.publish(Path(header=header, poses=list(self._flown)))
        markers = [vehicle_marker(self._latest)]
        if self._way is not None:
            markers.append(way_marker(self._way))
        self._markers.publish(MarkerArray(markers=markers))


def vehicle_marker(message: Odometry) -> Marker:
    """A cross where the vehicle is, its front arms red."""
    marker = Marker(
        header=message.header, ns="vehicle", type=Marker.LINE_LIST, pose=message.pose.pose
    )
    marker.scale.x = 0.02
    ends = ((1, 1), (1, -1), (-1, 1), (-1, -1))
    marker.points = [p for x, y in ends for p in (Point(), Point(x=ARM * x, y=ARM * y))]
    red, blue = ColorRGBA(r=1.0, a=1.0), ColorRGBA(b=1.0, a=1.0)
    marker.colors = [red if x > 0 else blue for x, _ in ends for _ in range(2)]
    return marker


def way_marker(message: MultiDOFJointTrajectory) -> Marker:
    """The way ahead as a green line."""
    marker = Marker(header=message.header, ns="reference", id=1, type=Marker.LINE_STRIP)
    marker.scale.x, marker.color.g, marker.color.a = 0.01, 0.8, 1.0
    marker.pose.orientation.w = 1.0
    way = [point.transforms[0].translation for point in message.points if point.transforms]
    marker.points = [Point(x=p.x, y=p.y, z=p.z) for p in way]
    return marker


def main() -> None:
    """Entry point of `ros2 run alula view_node`."""
    run(ViewNode)


if __name__ == "__main__":
    main()
