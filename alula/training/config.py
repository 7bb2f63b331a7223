"""Settings of the learners."""

from dataclasses import dataclass, field

from alula.errors import AlulaError
from alula.tasks.track import CostWeights


@dataclass(frozen=True, kw_only=True)
class ShortHorizonConfig:
    """Short-horizon actor-critic with analytic gradients (see `training/short_horizon.py`)."""

    n_envs: int = 32
    """Environments flown at once."""
    updates: int = 500
    """Gradient updates of the actor."""
    horizon_start: int = 16
    """Steps per update at the start [steps]."""
    horizon_end: int = 40
    """Steps per update from `horizon_ramp` of the updates on [steps]."""
    horizon_ramp: float = 0.5
    """Share of the updates over which the horizon grows [-]."""
    hidden: tuple[int, int] = (64, 64)
    """Widths of the actor's hidden layers."""
    learning_rate: float = 1e-2
    """Peak learning rate of the actor; falls to zero along a cosine."""
    history_rate: float = 0.05
    """Learning rate and initial weights of the action history's inputs, relative to the others' [-]."""
    betas: tuple[float, float] = (0.8, 0.95)
    """Adam's averaging factors."""
    gamma: float = 0.95
    """Discount per step beyond the horizon, in the critic; within the horizon nothing is discounted [-]."""
    critic_ramp: float = 0.3
    """Share of the updates over which the critic's weight in the actor's objective grows to one [-]."""
    max_grad_norm: float = 1.0
    """Bound on the global norm of the actor's gradient."""
    critic: bool = True
    """Bootstrap the end of each horizon with a critic; without it the horizon just ends."""
    privileged: bool = True
    """The critic sees the true state, disturbance and parameters; else only what the actor sees."""
    critic_hidden: tuple[int, int] = (32, 32)
    """Widths of the critic's hidden layers."""
    critic_learning_rate: float = 5e-3
    """Learning rate of the critic."""
    cotangent_limit: float = 100.0
    """Bound on the norm of one flight's state cotangent on the way back [costs per state unit]."""
    failure_cost: float = 2.0
    """Cost per step that the critic expects after a failure [-]."""
    td_lambda: float = 0.95
    """Mixing of the critic's n-step targets [-]."""
    weights: CostWeights = field(default_factory=CostWeights)
    """Weights of the cost."""

    def __post_init__(self) -> None:
        if self.n_envs < 16 or self.n_envs % 16:
            raise AlulaError(f"n_envs is {self.n_envs}; allowed: a positive multiple of 16")
        if not 1 <= self.horizon_start <= self.horizon_end <= 128:
            raise AlulaError(
                f"horizons are {self.horizon_start}..{self.horizon_end}; "
                "allowed: 1 <= start <= end <= 128"
            )
        if self.updates < 1:
            raise AlulaError(f"updates is {self.updates}; allowed: >= 1")
        bounds = {
            "horizon_ramp": (0.0, 1.0),
            "learning_rate": (0.0, 1.0),
            "critic_learning_rate": (0.0, 1.0),
            "critic_ramp": (0.0, 1.0),
            "history_rate": (0.0, 1.0),
            # gamma of one would make a value of the critic infinite
            "gamma": (0.0, 0.9999),
            "td_lambda": (0.0, 1.0),
            "max_grad_norm": (1e-9, 1e9),
            "cotangent_limit": (1e-9, 1e30),
            "failure_cost": (0.0, 1e6),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise AlulaError(f"{name} is {getattr(self, name)}; allowed: {low:g} to {high:g}")
        if len(self.betas) != 2 or not all(0.0 <= b < 1.0 for b in self.betas):
            raise AlulaError(f"betas are {self.betas}; allowed: two numbers, 0 <= beta < 1")
        if min(self.hidden + self.critic_hidden) < 1 or max(self.hidden + self.critic_hidden) > 512:
            raise AlulaError(
                f"hidden widths {self.hidden}, {self.critic_hidden}; allowed: 1 to 512"
            )
