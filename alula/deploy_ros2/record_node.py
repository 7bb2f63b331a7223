"""record_node: writes a flight to a rosbag2 (mcap) as it comes, where there is no `ros2 bag` too; `alula flightlog` reads it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib import import_module
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from alula.deploy_ros2.adapters.parameters import declare, read
from alula.deploy_ros2.adapters.process import run
from alula.errors import AlulaError

TOPICS = (
    "odometry", "pose", "twist", "imu", "battery", "command", "setpoint", "trajectory",
    "joint_states", "joint_goal", "goal_pose", "object_pose",
    "/forward_position_controller/commands", "/joint_trajectory_controller/joint_trajectory",
    "/diagnostics", "/rosout",
)  # fmt: skip
"""What the nodes of this package say and hear through the generic interface and, by default, that of arms."""
LOOK = 0.2
"""Time between two looks for topics that have come up [s]."""
ANY = QoSProfile(depth=200, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)  # fmt: skip
"""Hears publishers of every kind."""


@dataclass(frozen=True, kw_only=True)
class RecordConfig:
    """What is recorded, and where to."""

    folder: str = ""
    """Folder of the bag, which must not exist; empty: flight-DATE-TIME in the working directory."""
    topics: tuple[str, ...] = TOPICS
    """Topics, recorded from when they come up; relative names can be remapped."""
    size_max: float = 2000.0
    """The recording ends at this size [MB]; flightlog reads up to 2 GiB."""

    def __post_init__(self) -> None:
        if not self.topics or not all(isinstance(t, str) and t for t in self.topics):
            raise AlulaError(f"topics is {list(self.topics)}; allowed: at least one name")
        if not 1.0 <= self.size_max <= 1e6:
            raise AlulaError(f"size_max is {self.size_max}; allowed: 1 to 1e6")


class RecordNode(Node):
    """The node; parameters are the fields of RecordConfig. A signal closes the bag."""

    def __init__(self) -> None:
        super().__init__("record_node")
        declare(self, RecordConfig)
        self._config = read(self, RecordConfig)
        folder = self._config.folder or f"flight-{datetime.now():%Y%m%d-%H%M%S}"
        self._bag = BagWriter(Path(folder))
        self._waiting = {self.resolve_topic_name(t) for t in self._config.topics}
        self._timer = self.create_timer(LOOK, self._look)
        self.get_logger().info(f"recording to {folder}")
        self._look()

    def _look(self) -> None:
        for topic, kinds in self.get_topic_names_and_types():
            # A subscription alone is no reason to think that its type is the right one.
            if topic not in self._waiting or not self.count_publishers(topic):
                continue
            self._waiting.remove(topic)
            try:
                write = self._bag.add(topic, kinds[0])
                message = message_class(kinds[0])
            except AlulaError as e:
                self.get_logger().error(f"{topic} is not recorded: {e}")
                continue
            self.create_subscription(message, topic, partial(self._write, write), ANY, raw=True)
            self.get_logger().info(f"recording {topic}")

    def _write(self, write: Callable[[int, bytes], None], message: bytes) -> None:
        if self._bag.closed:
            return
        try:
            write(self.get_clock().now().nanoseconds, message)
        except OSError as e:
            self.close(f"cannot write: {e.strerror or e}")
        if self._bag.size > 1e6 * self._config.size_max:
            self.close(f"the bag has {self._config.size_max:g} MB")

    def close(self, why: str) -> None:
        """End the recording: the bag is complete."""
        if not self._bag.closed:
            self.get_logger().warning(f"{why}: {self._bag.close()}")


class BagWriter:
    """A bag that grows; complete once it is closed."""

    def __init__(self, folder: Path) -> None:
        """Make its folder.

        Raises:
            AlulaError: the folder exists or cannot be made.
        """
        self.folder = folder
        self.size = 0
        self.closed = False
        self._messages = 0
        self._store = get_typestore(Stores.LATEST)
        try:
            self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
        except (OSError, WriterError) as e:
            raise AlulaError(f"folder {folder}: {e}; allowed: a new folder") from None

    def add(self, topic: str, kind: str) -> Callable[[int, bytes], None]:
        """A topic of a type `package/msg/Name`; what is returned takes time [ns] and serialised message.

        Raises:
            AlulaError: nobody knows the type's definition.
        """
        define(self._store, kind)
        return partial(self._write, self._writer.add_connection(topic, kind, typestore=self._store))

    def close(self) -> str:
        """Complete the bag; what became of it."""
        self.closed = True
        try:
            self._writer.close()
        except OSError as e:
            return f"{self.folder} is incomplete, to be recovered ({e.strerror or e})"
        return f"{self._messages} messages in {self.folder}"

    def _write(self, connection: Connection, time_ns: int, message: bytes) -> None:
        self._writer.write(connection, time_ns, message)
        self._messages += 1
        self.size += len(message)


def define(store: Typestore, kind: str) -> None:
    """Add the definition of a type that ROS itself does not have, from its installed package.

    Raises:
        AlulaError: it is not installed, or made of other types that ROS does not have.
    """
    if kind in store.fielddefs:
        return
    package, _, name = kind.split("/")
    try:
        file = Path(get_package_share_directory(package)) / "msg" / f"{name}.msg"
        store.register(get_types_from_msg(file.read_text(), kind))
        store.generate_msgdef(kind, ros_version=2)
    except (PackageNotFoundError, OSError):
        raise AlulaError(
            f"type {kind} is not installed; allowed: types of installed packages"
        ) from None
    except Exception as e:
        # The library lets through whatever a definition provokes.
        raise AlulaError(f"type {kind} cannot be written ({type(e).__name__})") from None


def message_class(kind: str) -> type:
    """The class of a type `package/msg/Name`.

    Raises:
        AlulaError: its package is not installed.
    """
    package, _, name = kind.split("/")
    try:
        return getattr(import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError):
        raise AlulaError(f"type {kind} is not installed; allowed: types of installed packages") from None  # fmt: skip


def main() -> None:
    """Entry point of `ros2 run alula record_node`."""
    run(RecordNode, lambda node: node.close("stopped by a signal"))


if __name__ == "__main__":
    main()
