"""Settings of the learners."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from alula.errors import AlulaError
from alula.tasks.track import CostWeights

MAX_WIDTH = 512
"""Widest hidden layer."""


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
    device: str = "cpu"
    """Where robots fly and gradients are taken: cpu, cuda, cuda:1, ..."""

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
        _check_bounds(self, bounds)
        if len(self.betas) != 2 or not all(0.0 <= b < 1.0 for b in self.betas):
            raise AlulaError(f"betas are {self.betas}; allowed: two numbers, 0 <= beta < 1")
        _check_widths(self.hidden, self.critic_hidden)
        _check_device(self.device)


@dataclass(frozen=True, kw_only=True)
class PpoConfig:
    """Proximal policy optimisation (see `training/ppo.py`)."""

    n_envs: int = 512
    """Environments flown at once."""
    updates: int = 100
    """Rollouts, each with its passes."""
    rollout_steps: int = 32
    """Steps of each environment in a rollout [steps]."""
    epochs: int = 5
    """Passes over a rollout."""
    minibatches: int = 4
    """Parts of a pass, each one step of the optimiser."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the actor's hidden layers."""
    critic_hidden: tuple[int, ...] = (64, 64)
    """Widths of the critic's hidden layers."""
    learning_rate: float = 1e-3
    """Learning rate at the start, and its bound."""
    target_kl: float = 0.0
    """Divergence of a pass that the learning rate aims at [nat]; 0 lets the rate fall linearly to zero."""
    gamma: float = 0.99
    """Discount per step [-]."""
    gae_lambda: float = 0.95
    """Mixing of the advantages [-]."""
    clip: float = 0.2
    """Bound on the likelihood ratio's distance from one [-]."""
    entropy_weight: float = 0.0
    """Weight of the policy's entropy at the start; it falls to zero with the updates."""
    value_weight: float = 1.0
    """Weight of the value's loss."""
    max_grad_norm: float = 1.0
    """Bound on the global norm of the gradient."""
    history_weight: float = 0.05
    """Size of a vehicle's normalised past actions beside the other inputs [-]; an arm's have full size."""
    parameter_weight: float = 0.1
    """Size of the normalised parameters drawn for an arm's episode beside what else the critic sees [-]; a vehicle's have full
    size."""
    initial_std: float = 0.5
    """Standard deviation of the first actions [-]."""
    observation_clip: float = 10.0
    """Bound of a normalised observation."""
    device: str = "cpu"
    """Where networks and rollouts lie, and robots are simulated: cpu, cuda, cuda:1, ..."""
    assisted: float = 0.5
    """Share of the updates over which the help of assisting actions, where a task has them, falls to none [-]."""
    privileged: bool = True
    """The critic sees the true state, disturbance and parameters; else only what the actor sees."""

    def __post_init__(self) -> None:
        bounds = {
            "n_envs": (1, 1_000_000),
            "updates": (1, 10_000_000),
            "rollout_steps": (1, 100_000),
            "epochs": (1, 1000),
            "minibatches": (1, self.n_envs * self.rollout_steps),
            "learning_rate": (0.0, 1.0),
            "target_kl": (0.0, 10.0),
            # gamma of one would make a value of the critic infinite
            "gamma": (0.0, 0.9999),
            "gae_lambda": (0.0, 1.0),
            "clip": (1e-6, 1.0),
            "entropy_weight": (0.0, 100.0),
            "value_weight": (0.0, 100.0),
            "max_grad_norm": (1e-9, 1e9),
            "history_weight": (0.0, 1.0),
            "parameter_weight": (0.0, 1.0),
            "initial_std": (1e-3, 10.0),
            "observation_clip": (1e-3, 1e6),
            "assisted": (0.0, 1.0),
        }
        _check_bounds(self, bounds)
        _check_widths(self.hidden, self.critic_hidden)
        _check_device(self.device)


@dataclass(frozen=True, kw_only=True)
class SacConfig:
    """Soft actor-critic, on request with the distributional critics of DSAC-T (see `training/sac.py`)."""

    n_envs: int = 16
    """Environments flown at once."""
    updates: int = 200
    """Updates, each of `steps_per_update` steps and the learning between them."""
    steps_per_update: int = 50
    """Steps of each environment in an update [steps]."""
    gradient_steps: int = 8
    """Steps of the optimisers after each step of all environments."""
    warmup_steps: int = 2000
    """Transitions gathered by the untrained policy before anything is learned [steps]."""
    replay_size: int = 500_000
    """Transitions kept [steps]."""
    batch_size: int = 256
    """Transitions in a step of the optimisers."""
    n_step: int = 1
    """Rewards summed up in the critics' targets: more make what is far away known sooner, as seen under older policies [steps]."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the actor's hidden layers."""
    critic_hidden: tuple[int, ...] = (256, 256)
    """Widths of the critics' hidden layers."""
    critic_norm: bool = False
    """Hidden layers of the critics are normalised, so that what they say of actions never tried stays bounded (arXiv
    2302.02948)."""
    critic_action_scale: float = 1.0
    """Factor of the actions in what critics see: small corrections of a base differ little beside all that states do [-]."""
    critic_warmup: int = 0
    """Updates at the start in which the critics learn alone: what they do not know yet would lead a base's correction astray."""
    policy_delay: int = 1
    """The policy learns in every so many-th step of the optimisers alone (TD3, arXiv 1802.09477) [steps]."""
    learning_rate: float = 3e-4
    """Learning rate of the actor and the temperature."""
    critic_learning_rate: float = 3e-4
    """Learning rate of the critics."""
    rate_falls: bool = False
    """The learning rate of actor and temperature falls linearly to zero with the updates."""
    gamma: float = 0.99
    """Discount per step [-]."""
    reward_scale: float = 1.0
    """Factor of the rewards in what critics learn: values of about ten are learned sooner than such of a hundred [-]."""
    tau: float = 0.005
    """Share of the critics in their targets' next weights, and of a new value in a moving average [-]."""
    initial_std: float = 1.0
    """Standard deviation of the first actions before the squash: small where a base is to be corrected [-]."""
    exploration_std: float = 0.0
    """Standard deviation of offsets that the tried actions get beside the policy's own noise, before the squash, some
    steps long (see `training/exploration.py`); none at zero [-]."""
    exploration_chance: float = 0.05
    """Chance that one begins in a step without [-]."""
    exploration_steps: int = 8
    """How long one lasts at most [steps]."""
    initial_temperature: float = 1.0
    """Reward of a nat of entropy at the start."""
    target_entropy: float = -1.0
    """Entropy per action that the temperature is adjusted to [nat]; uniform actions have log 2."""
    correction_weight: float = 0.0
    """Weight of the square of a base's correction before the squash, in the policy's loss [-]."""
    distributional: bool = False
    """Critics that learn mean and spread of the return (DSAC-T) instead of the mean alone."""
    history_weight: float = 0.05
    """Size of a vehicle's normalised past actions beside the other inputs [-]; an arm's have full size."""
    parameter_weight: float = 0.1
    """Size of the normalised parameters drawn for an arm's episode beside what else the critic sees [-]; a vehicle's have full
    size."""
    observation_clip: float = 10.0
    """Bound of a normalised observation."""
    privileged: bool = True
    """The critics see the true state, disturbance and parameters; else only what the actor sees."""
    device: str = "cpu"
    """Where networks and replay lie, and robots are simulated: cpu, cuda, cuda:1, ..."""

    def __post_init__(self) -> None:
        bounds = {
            "n_envs": (1, 100_000),
            "updates": (1, 10_000_000),
            "steps_per_update": (1, 1_000_000),
            "gradient_steps": (1, 1000),
            "replay_size": (self.n_envs, 100_000_000),
            "warmup_steps": (1, self.replay_size),
            "batch_size": (1, 1_000_000),
            "n_step": (1, 1000),
            "critic_action_scale": (1e-3, 1e3),
            "critic_warmup": (0, 10_000_000),
            "policy_delay": (1, 1000),
            "learning_rate": (0.0, 1.0),
            "critic_learning_rate": (0.0, 1.0),
            # gamma of one would make a value of the critics infinite
            "gamma": (0.0, 0.9999),
            "tau": (1e-9, 1.0),
            "initial_std": (1e-3, 10.0),
            "exploration_std": (0.0, 10.0),
            "exploration_chance": (0.0, 1.0),
            "exploration_steps": (1, 1000),
            "reward_scale": (1e-6, 1e6),
            "initial_temperature": (1e-9, 1e9),
            "correction_weight": (0.0, 1e6),
            # what actions within -1 and 1 can have
            "target_entropy": (-100.0, math.log(2.0)),
            "history_weight": (0.0, 1.0),
            "parameter_weight": (0.0, 1.0),
            "observation_clip": (1e-3, 1e6),
        }
        _check_bounds(self, bounds)
        _check_widths(self.hidden, self.critic_hidden)
        _check_device(self.device)


def _check_device(device: str) -> None:
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", device):
        raise AlulaError(f"device is {device!r}; allowed: cpu, cuda, cuda:0, cuda:1, ...")


def _check_bounds(config: object, bounds: Mapping[str, tuple[float, float]]) -> None:
    for name, (low, high) in bounds.items():
        # Never true for NaN
        if not low <= getattr(config, name) <= high:
            raise AlulaError(f"{name} is {getattr(config, name)}; allowed: {low:g} to {high:g}")


def _check_widths(*hidden: tuple[int, ...]) -> None:
    for widths in hidden:
        if not widths or min(widths) < 1 or max(widths) > MAX_WIDTH:
            raise AlulaError(f"hidden widths {widths}; allowed: one or more of 1 to {MAX_WIDTH}")
