"""The transitions an off-policy learner has seen, the newest `capacity` of them, one row each."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from alula.errors import AlulaError


@dataclass(kw_only=True)
class Batch:
    """B transitions; `next_*` is what the steps led to before any reset, so also the final state of an episode."""

    observation: Tensor
    """Actor observations [B, O]."""
    privileged: Tensor
    """Critic observations [B, Q]."""
    action: Tensor
    """Actions [B, A]."""
    reward: Tensor
    """Discounted sums of the rewards of up to `n_step` steps [B]."""
    terminated: Tensor
    """Failures, after which nothing follows; not time-outs [B]."""
    next_observation: Tensor
    """Actor observations after the last of these steps [B, O]."""
    next_privileged: Tensor
    """Critic observations after the last of these steps [B, Q]."""
    discount: Tensor
    """gamma to the number of these steps [B]."""


class Replay:
    """A ring of transitions in one float32 matrix, so that a sample is one gathering of whole rows.

    Those of one environment are `n_envs` rows apart, and a sample looks up to `n_step` of them ahead::

        R = sum_(k < m) gamma^k r_(t+k),  m <= n_step: up to the end of the episode, to the newest transition, or to the
                                          next action that the policy would not have chosen

    The last as in Watkins' Q(lambda): what an exploring action leads to is no merit of the policy's action before it.
    """

    def __init__(
        self,
        capacity: int,
        n_observed: int,
        n_privileged: int,
        n_actions: int,
        *,
        n_envs: int,
        gamma: float,
        n_step: int = 1,
        device: str = "cpu",
    ) -> None:
        """An empty ring.

        Args:
            capacity: transitions kept.
            n_observed: numbers O the actor sees.
            n_privileged: numbers Q the critic sees; 0 if it sees what the actor sees.
            n_actions: number of actions A.
            n_envs: transitions taken in at once.
            gamma: discount per step [-].
            n_step: steps summed up [steps].
            device: where the rows lie.
        """
        self.capacity, self.size, self._next = capacity, 0, 0
        self._widths = [n_observed, n_privileged, n_actions, 4, n_observed, n_privileged]
        self._n_envs = n_envs
        # where reward, failure, end of an episode and an exploring action stand in a row
        first = sum(self._widths[:3])
        self._reward, self._terminated, self._ended, self._explored = range(first, first + 4)
        self._ahead = n_envs * torch.arange(n_step, device=device)
        self._powers = gamma ** torch.arange(n_step + 1, device=device)
        # Untouched memory costs nothing; the ring fills as it is written.
        self._rows = torch.empty((capacity, sum(self._widths)), device=device)

    def add(
        self,
        *,
        observation: Tensor,
        privileged: Tensor,
        action: Tensor,
        reward: Tensor,
        terminated: Tensor,
        ended: Tensor,
        explored: Tensor,
        next_observation: Tensor,
        next_privileged: Tensor,
    ) -> None:
        """Take in one transition of each environment, tensors [N, ...] of it; they replace the oldest if there is no room.

        `explored` says where the action was not the policy's own.
        """
        numbers = torch.stack([x.float() for x in (reward, terminated, ended, explored)], 1)
        parts = [observation, privileged, action, numbers, next_observation, next_privileged]
        if not self._widths[1]:
            parts[1] = parts[-1] = action[:, :0]
        self._put(torch.cat(parts, 1))

    def _put(self, rows: Tensor) -> None:
        rows = rows[-self.capacity :]
        # up to the end of the ring, and on from its beginning
        first = min(len(rows), self.capacity - self._next)
        self._rows[self._next : self._next + first] = rows[:first]
        self._rows[: len(rows) - first] = rows[first:]
        self._next = (self._next + len(rows)) % self.capacity
        self.size = min(self.size + len(rows), self.capacity)

    def sample(self, n: int, random: torch.Generator) -> Batch:
        """`n` of the transitions, all equally likely, with replacement."""
        age = torch.randint(self.size, (n,), generator=random, device=self._rows.device)
        later = age[:, None] + self._ahead
        made = later < self.size
        # What has not been made is not read either: memory never written may hold NaN, which no factor of zero takes away.
        rows = (self._next - self.size + later.where(made, age[:, None])) % self.capacity
        stays, own = (1.0 - self._rows[rows, column] for column in (self._ended, self._explored))
        # A step counts where it has been made, and where since the first none was an episode's last or explored.
        counts = made.float()
        counts[:, 1:] *= (stays[:, :-1] * own[:, 1:]).cumprod(1)
        steps = counts.sum(1).long()
        final = rows.gather(1, steps[:, None] - 1)[:, 0]
        before, _, after = self._rows.split((self._reward, 4, sum(self._widths[4:])), 1)
        o, q, action = before[rows[:, 0]].split(self._widths[:3], 1)
        next_o, next_q = after[final].split(self._widths[4:], 1)
        symmetric = not self._widths[1]
        return Batch(
            observation=o,
            privileged=o if symmetric else q,
            action=action,
            reward=(self._rows[rows, self._reward] * counts * self._powers[:-1]).sum(1),
            terminated=self._rows[final, self._terminated],
            next_observation=next_o,
            next_privileged=next_o if symmetric else next_q,
            discount=self._powers[steps],
        )

    def newest(self, max_bytes: int) -> np.ndarray:
        """The newest rows that fit into `max_bytes`, oldest first [n, columns]."""
        n = min(self.size, max_bytes // (4 * sum(self._widths)))
        index = (self._next - n + torch.arange(n)) % self.capacity
        return self._rows[index.to(self._rows.device)].cpu().numpy()

    def refill(self, rows: np.ndarray) -> None:
        """Forget everything but these rows of `newest`, whose episodes do not go on.

        Raises:
            AlulaError: rows of another kind.
        """
        if rows.ndim != 2 or rows.shape[1] != sum(self._widths) or rows.dtype != np.float32:
            raise AlulaError("checkpoint does not fit: replay")
        rows = rows.copy()
        rows[-self._n_envs :, self._ended] = 1.0
        self.size = self._next = 0
        self._put(torch.from_numpy(rows))
