"""What an arm's task reads and draws: the true state of N arms with their objects, and the starts of episodes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

OBJECT = "object"
"""Name of the body that a task is about, where it is about one."""
ToolPose = Callable[[np.ndarray], np.ndarray]
"""Joint positions [rad or m] (n, J) to the tool's position [m] and quaternion, scalar first, in the world (n, 7)."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """True state of N arms and what is around them."""

    joint_position: np.ndarray
    """[rad or m] (N, J)."""
    joint_velocity: np.ndarray
    """[rad/s or m/s] (N, J)."""
    sensor: Mapping[str, np.ndarray]
    """Values of each sensor of the model by name (N, size)."""
    goal: Mapping[str, np.ndarray]
    """What the task drew for the episode, by name (N, size)."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """Starts of n episodes."""

    joint_position: np.ndarray
    """[rad or m] (n, J)."""
    goal: dict[str, np.ndarray] = field(default_factory=dict)
    """What the episode is for, by name (n, size)."""
    pose_w: dict[str, np.ndarray] = field(default_factory=dict)
    """Position [m] and quaternion, scalar first, of each free body by name (n, 7)."""
