"""What every simulator does, whichever physics it stands on."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Transition:
    """The outcome of one policy step for N environments.

    Where an episode ended (`terminated | truncated`) and auto-reset is on, `observation` and `privileged`
    already belong to the next episode, and the `final_*` rows hold the last ones of the ended episode;
    elsewhere the `final_*` rows equal the plain ones. A time-out is bootstrapped from `final_privileged`.
    """

    observation: np.ndarray
    """Actor observation [N, O], with noise, delay and histories, in contract order."""
    privileged: np.ndarray
    """Critic observation [N, Q]: true state, disturbances, parameters."""
    reward: np.ndarray
    """Reward [N]."""
    terminated: np.ndarray
    """The task failed or ended in a terminal state [N], bool."""
    truncated: np.ndarray
    """The time limit was reached [N], bool."""
    final_observation: np.ndarray
    """Actor observation before the reset [N, O]."""
    final_privileged: np.ndarray
    """Critic observation before the reset [N, Q]."""


@dataclass(frozen=True, kw_only=True)
class RigidBodyState:
    """True state of N vehicles, float64 or float32."""

    position_w: np.ndarray
    """Position [m] (N, 3)."""
    velocity_w: np.ndarray
    """Velocity [m/s] (N, 3)."""
    quat_wb: np.ndarray
    """Attitude quaternion, scalar first (N, 4)."""
    angular_velocity_b: np.ndarray
    """Body rate [rad/s] (N, 3)."""
    rotor_fraction: np.ndarray
    """Rotor speed over its maximum [-] (N, R)."""
    reference_position_w: np.ndarray
    """Where the task wants the vehicle now [m] (N, 3)."""


class Simulator(Protocol):
    """N environments stepped together; bitwise reproducible by seed."""

    @property
    def n_envs(self) -> int:
        """Number of environments N."""
        ...

    def reset(self, seed: int) -> np.ndarray:
        """Start all episodes anew; returns the actor observation [N, O]."""
        ...

    def step(self, action: np.ndarray) -> Transition:
        """Apply actions [N, A] in [-1, 1] for one `control_dt`."""
        ...


class AssistedSimulator(Simulator, Protocol):
    """N environments that take further actions, which help the robot and which no robot has."""

    assistance: float
    """How much of them is done, 0 (none) to 1."""


class FlightSimulator(Simulator, Protocol):
    """N vehicles."""

    def state(self) -> RigidBodyState:
        """True state now."""
        ...
