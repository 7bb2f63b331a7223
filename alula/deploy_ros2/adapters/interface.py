"""What policy_node needs of an interface to a robot."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from builtin_interfaces.msg import Time

from alula.deploy_ros2.samples import Reference, Sample

Clock = Callable[[], float]
"""Time now on the node's clock [s]."""


class Adapter(Protocol):
    """Messages in to samples, commands out to messages; made at configure, closed at clean-up."""

    samples: Mapping[str, Sample]
    """The latest sample of each quantity."""
    battery: float | None
    """Charge left, 0 to 1; None where it is not measured."""
    landed: bool
    """Whether the robot says that it stands on the ground."""
    period: float
    """Longest time between two messages that trigger a cycle, beyond which the node's timer takes over [s]."""

    def start(self, now: float) -> None:
        """The policy takes over at time now [s]."""
        ...

    def reference(self, now: float) -> Reference | None:
        """The reference of a vehicle at time now [s]."""
        ...

    def send(self, command: np.ndarray, now: float) -> None:
        """Send a command in the unit of the contract, in the order of the robot (A)."""
        ...

    def beat(self, now: float) -> None:
        """Called every cycle while somebody of ours is in command, sent or not: the place of heartbeats."""
        ...

    def release(self) -> None:
        """Send nothing from now on."""
        ...

    def stop(self) -> None:
        """Motors off, now."""
        ...

    def rivals(self) -> int:
        """Other publishers on the topic of the commands."""
        ...

    def close(self) -> None:
        """Give back every subscription and publisher."""
        ...


def seconds(stamp: Time) -> float:
    """A message's time [s]."""
    return stamp.sec + 1e-9 * stamp.nanosec


def stamp_of(time: float) -> Time:
    """The message's time of a time [s]."""
    nanoseconds = round(1e9 * time)
    return Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


@dataclass(kw_only=True)
class Timing:
    """Which time a measurement gets."""

    now: Clock
    """The node's clock [s]."""
    arrival: bool = False
    """Whether the time of arrival counts instead of the message's own."""

    def of(self, stamp: Time) -> float:
        """Time of a message with this stamp [s]."""
        return self.now() if self.arrival else seconds(stamp)
