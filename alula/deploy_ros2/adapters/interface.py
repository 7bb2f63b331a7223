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

    @property
    def samples(self) -> Mapping[str, Sample]:
        """The latest sample of each quantity."""
        ...

    @property
    def battery(self) -> float | None:
        """Charge left, 0 to 1; None where it is not measured."""
        ...

    @property
    def landed(self) -> bool:
        """Whether the robot says that it stands on the ground."""
        ...

    @property
    def engaged(self) -> bool:
        """Whether the robot listens to the node now; while it does not, the policy waits and nothing is sent."""
        ...

    @property
    def refused(self) -> int:
        """Set-points, goals and poses that were refused so far, with a warning each."""
        ...

    def start(self, now: float) -> None:
        """The policy takes over at time now [s]; called in every cycle while it waits."""
        ...

    def reference(self, now: float) -> Reference | None:
        """The reference of a vehicle at time now [s]."""
        ...

    def send(self, command: np.ndarray, now: float) -> None:
        """Send a command in the unit of the contract, in the order of the robot (A)."""
        ...

    def beat(self, now: float) -> None:
        """Called every cycle while somebody of ours is in command or ready to be: the place of heartbeats."""
        ...

    def release(self) -> None:
        """Send nothing from now on."""
        ...

    def stop(self) -> None:
        """Motors off; called in every cycle from then on."""
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
