"""Hold the origin, level, at heading zero: the task of "Learning to Fly in Seconds"."""

from alula.policies.contract import ObservationEntry
from alula.sim.multirotor.equations import Rows, Scalar
from alula.sim.sensors import Sensed
from alula.tasks.track import WEIGHTS_SIZE, CostWeights, Reference, cost, privileged

__all__ = [
    "ENTRIES",
    "NAME",
    "REFERENCE_SIZE",
    "SCALE",
    "TRAJECTORY_SIZE",
    "WEIGHTS_SIZE",
    "CostWeights",
    "Reference",
    "cost",
    "observe",
    "privileged",
    "reference",
]

NAME = "hover"
TRAJECTORY_SIZE = 0
REFERENCE_SIZE = 6


def reference(t: Scalar, trajectory: Rows) -> list[Scalar]:
    """The rows of `Reference`: the origin at rest, with no preview."""
    return [0.0 * t] * REFERENCE_SIZE


ENTRIES: tuple[ObservationEntry, ...] = (
    ObservationEntry(name="position_w", unit="m", frame="w", size=3),
    ObservationEntry(name="rot_wb", unit="-", frame="wb", size=9),
    ObservationEntry(name="velocity_w", unit="m/s", frame="w", size=3),
    ObservationEntry(name="angular_velocity_b", unit="rad/s", frame="b", size=3),
)
"""What the actor sees, in order; noise and delay are filled in from the simulator's settings."""

SCALE: tuple[float, ...] = (*[2.0] * 3, *[1.0] * 9, *[1.0] * 3, *[0.3] * 3)
"""Reciprocal typical size of each observation row."""


def observe(sensed: Sensed, r: Reference) -> list[Scalar]:
    """Actor rows in the order of ENTRIES: the measured state."""
    return [*sensed.position_w, *sensed.rot_wb, *sensed.velocity_w, *sensed.angular_velocity_b]
