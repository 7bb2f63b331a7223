"""What a robot tells its controllers: measured quantities and the reference, each with its time."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

REFERENCES = ("joint_position_reference", "goal_position_w", "goal_quat_w")
"""Samples that say where an arm, or what it carries, shall be; they measure nothing."""
OBJECT = {"object_position_w": 3, "object_quat_w": 4}
"""Samples of the object's pose, and their sizes."""
Trajectory = Callable[[float], tuple[np.ndarray, np.ndarray]]
"""Reference position [m] (3) and velocity [m/s] (3), world ENU, at a time on the clock of the stamps [s]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One measured quantity. Samples travel in mappings by name, as in the contract: position_w [m] (3),
    velocity_w [m/s] (3), quat_wb (w, x, y, z) (4), angular_velocity_b [rad/s] (3); of arms joint_position
    [rad or m], joint_velocity, joint_effort [N m or N] and joint_position_reference (J each), and poses in the
    world, the frame in which its model stands: goal_position_w [m] (3), goal_quat_w (4), object_position_w [m] (3) and
    object_quat_w (4).
    """

    value: np.ndarray
    """Numbers in SI units, world ENU, body FLU."""
    stamp: float
    """When it was measured [s]."""
    names: tuple[str, ...] | None = None
    """Joint of each number, in the order of the message; None for quantities that have no joints."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """Where a vehicle shall be, level and at heading zero."""

    position_w: np.ndarray
    """Position [m] (3)."""
    velocity_w: np.ndarray
    """Velocity [m/s] (3)."""
    acceleration_w: np.ndarray
    """Acceleration [m/s^2] (3)."""
    stamp: float
    """The time these hold for [s]; it is also what the loss of the reference is judged by."""
    trajectory: Trajectory | None = None
    """The whole reference as a function of time, where it is known; it replaces the extrapolation."""
