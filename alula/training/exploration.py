"""What an off-policy learner tries beside its own noise: offsets of the action that last (arXiv 2006.01782).

Noise that is new in each step averages out in a robot's motion, so that it tells critics little of what an action is
worth. An offset that lasts moves the robot, and the policy goes on from there. In an environment without one, the next
begins with a chance p in each step::

    z = z_policy(o) + d,  d ~ N(0, s^2) in each action for L steps,  L uniform in 1 ... L_max
"""

import torch
from torch import Tensor

from alula.training.config import SacConfig


class Exploration:
    """The offsets of N environments' actions before the squash."""

    def __init__(
        self, config: SacConfig, n_envs: int, n_actions: int, random: torch.Generator
    ) -> None:
        """None at first.

        Args:
            config: settings; nothing is drawn where `exploration_std` is zero.
            n_envs: number of environments N.
            n_actions: number of actions A.
            random: source of all draws; its device is that of the offsets.
        """
        self._config, self._random = config, random
        self._offset = torch.zeros((n_envs, n_actions), device=random.device)
        self._left = torch.zeros((n_envs, 1), dtype=torch.int64, device=random.device)

    def draw(self) -> Tensor:
        """Offsets of the next step [N, A]."""
        c, like = self._config, self._left
        if c.exploration_std == 0.0:
            return self._offset
        drawn = {"generator": self._random, "device": like.device}
        begins = (like == 0) & (torch.rand(like.shape, **drawn) < c.exploration_chance)
        lasts = torch.randint(1, c.exploration_steps + 1, like.shape, **drawn)
        new = c.exploration_std * torch.randn(self._offset.shape, **drawn)
        left = torch.where(begins, lasts, like)
        self._offset = torch.where(begins, new, self._offset) * (left > 0)
        self._left = (left - 1).clamp(min=0)
        return self._offset

    def end(self, ended: Tensor) -> None:
        """Episodes [N] that have ended take theirs with them."""
        self._left.masked_fill_(ended[:, None], 0)
