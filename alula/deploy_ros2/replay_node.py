"""replay_node: publishes what a bag recorded of a robot, as if it happened now; no robot and no `ros2 bag` needed."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from rclpy.node import Node
from rclpy.serialization import deserialize_message

from alula.bag_file import bag_errors, open_bag
from alula.deploy_ros2.adapters.interface import seconds, stamp_of
from alula.deploy_ros2.adapters.parameters import declare, read
from alula.deploy_ros2.adapters.process import run
from alula.deploy_ros2.record_node import message_class
from alula.errors import AlulaError

TOPICS = (
    "odometry", "pose", "twist", "imu", "battery", "setpoint", "trajectory", "joint_states"
)  # fmt: skip
"""What a robot and its operator said through the generic interface; the commands are what a policy has to say anew."""
Message = TypeVar("Message", bound=Any)
TICK = 0.001
"""Time between two looks for messages that are due [s]."""


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """What is replayed."""

    bag: str = ""
    """Folder of the bag, or its .mcap or .db3 file."""
    topics: tuple[str, ...] = TOPICS
    """Topics of the bag that are published; relative names can be remapped."""
    wait: float = 2.0
    """Time before the first message, for others to get ready [s]."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.wait <= 60.0:
            raise AlulaError(f"wait is {self.wait}; allowed: 0 to 60")


class ReplayNode(Node):
    """The node; parameters are the fields of ReplayConfig. It ends with the bag.

    Stamps in headers are moved by as much as the recorder's clock, so that latencies stay what they were.
    """

    def __init__(self) -> None:
        super().__init__("replay_node")
        declare(self, ReplayConfig)
        config = read(self, ReplayConfig)
        if not config.bag:
            raise AlulaError("parameter bag is empty; allowed: folder or file of a bag")
        self._bag = BagReader(config.bag, {self.resolve_topic_name(t) for t in config.topics})
        self._out = {
            topic: (message_class(kind), self.create_publisher(message_class(kind), topic, 10))
            for topic, kind in self._bag.topics.items()
        }
        self.get_logger().info(f"replaying {', '.join(self._out)} of {config.bag}")
        self._begin = self._now() + round(1e9 * config.wait)
        self._messages = self._bag.messages()
        self._next = next(self._messages, None)
        self.create_timer(TICK, self._on_timer)

    def _now(self) -> int:
        return self.get_clock().now().nanoseconds

    def _on_timer(self) -> None:
        shift = self._begin - self._bag.start
        while self._next is not None and self._next[0] + shift <= self._now():
            _, topic, data = self._next
            kind, publisher = self._out[topic]
            publisher.publish(moved(deserialize_message(data, kind), 1e-9 * shift))
            self._next = next(self._messages, None)
        if self._next is None:
            self.get_logger().info("the bag is at its end")
            signal.raise_signal(signal.SIGINT)


class BagReader:
    """Messages of some topics of a bag."""

    def __init__(self, bag: str, topics: set[str]) -> None:
        """Open it.

        Raises:
            AlulaError: no bag, broken, or without any of the topics.
        """
        self._name = bag
        self._reader = open_bag(bag)
        self._connections = [c for c in self._reader.connections if c.topic in topics]
        self.topics = {c.topic: c.msgtype for c in self._connections}
        """Type of each topic."""
        self.start = self._reader.start_time
        """When the bag begins [ns]."""
        if not self.topics:
            there = ", ".join(sorted({c.topic for c in self._reader.connections}))
            raise AlulaError(f"bag {bag} has none of {', '.join(sorted(topics))}; it has: {there}")

    def messages(self) -> Iterator[tuple[int, str, bytes]]:
        """(time [ns], topic, serialised message) in the order of their recording."""
        with bag_errors(self._name):
            for connection, when, data in self._reader.messages(self._connections):
                yield when, connection.topic, bytes(data)


def moved(message: Message, by: float) -> Message:
    """The message with the stamp of its header moved [s], where it has one that is not zero."""
    header = getattr(message, "header", None)
    if header is not None and (header.stamp.sec or header.stamp.nanosec):
        header.stamp = stamp_of(seconds(header.stamp) + by)
    return message


def main() -> None:
    """Entry point of `ros2 run alula replay_node`."""
    run(ReplayNode)


if __name__ == "__main__":
    main()
