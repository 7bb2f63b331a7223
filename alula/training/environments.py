"""Environments as a learner in torch sees them: tensors on its device, and what its critic sees already chosen."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alula.sim.protocol import Simulator
from alula.training.learner import Spaces


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one moment of N environments shows."""

    observation: Tensor
    """To the actor [N, O]."""
    privileged: Tensor
    """To the critic [N, Q]; what the actor sees where it is to see no more."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """The outcome of one step of N environments, see `Transition`."""

    now: Seen
    """After the step, of the next episode where one ended."""
    final: Seen
    """What the step led to, before any reset."""
    reward: Tensor
    """Rewards [N]."""
    terminated: Tensor
    """Failures [N], bool."""
    ended: Tensor
    """Failures and time-outs [N], bool."""


class Environments:
    """A simulator that takes and hands out arrays, or tensors on the learner's device."""

    def __init__(
        self, simulator: Simulator, spaces: Spaces, *, privileged: bool, device: str
    ) -> None:
        self._simulator, self._privileged, self._device = simulator, privileged, device
        n_acting = spaces.n_actions + spaces.assisting_actions
        self._first = torch.full(
            (simulator.n_envs, n_acting), spaces.first_action, device=device
        )  # fmt: skip
        self._in_tensors = False

    def begin(self, seed: int) -> Seen:
        """New episodes; what their first step shows, since only a step tells what the critic sees."""
        self._in_tensors = isinstance(self._simulator.reset(seed), Tensor)
        return self.step(self._first).now

    def step(self, action: Tensor) -> Moved:
        """Apply actions [N, A + P] in [-1, 1]."""
        given: Any = action if self._in_tensors else action.cpu().numpy()
        moved = self._simulator.step(given)
        terminated, truncated = self._tensor(moved.terminated), self._tensor(moved.truncated)
        return Moved(
            now=self._seen(moved.observation, moved.privileged),
            final=self._seen(moved.final_observation, moved.final_privileged),
            reward=self._tensor(moved.reward),
            terminated=terminated,
            ended=terminated | truncated,
        )

    def _seen(self, observation: Any, privileged: Any) -> Seen:
        o = self._tensor(observation)
        return Seen(observation=o, privileged=self._tensor(privileged) if self._privileged else o)

    def _tensor(self, x: "np.ndarray | Tensor") -> Tensor:
        # A simulator's own tensors are overwritten by its next step.
        return x.clone() if isinstance(x, Tensor) else torch.from_numpy(x).to(self._device)
