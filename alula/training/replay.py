"""The transitions an off-policy learner has seen, the newest `capacity` of them, one row each."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from alula.errors import AlulaError


@dataclass(kw_only=True)
class Batch:
    """B transitions; `next_*` is what a step led to before any reset, so also the final state of an episode."""

    observation: Tensor
    """Actor observations [B, O]."""
    privileged: Tensor
    """Critic observations [B, Q]."""
    action: Tensor
    """Actions [B, A]."""
    reward: Tensor
    """Rewards [B]."""
    terminated: Tensor
    """Failures, after which nothing follows; not time-outs [B]."""
    next_observation: Tensor
    """Actor observations after the step [B, O]."""
    next_privileged: Tensor
    """Critic observations after the step [B, Q]."""


class Replay:
    """A ring of transitions in one float32 matrix, so that a sample is one gathering of whole rows."""

    def __init__(
        self, capacity: int, n_observed: int, n_privileged: int, n_actions: int, device: str = "cpu"
    ) -> None:
        """An empty ring.

        Args:
            capacity: transitions kept.
            n_observed: numbers O the actor sees.
            n_privileged: numbers Q the critic sees; 0 if it sees what the actor sees.
            n_actions: number of actions A.
            device: where the rows lie.
        """
        self.capacity, self.size, self._next = capacity, 0, 0
        self._widths = [n_observed, n_privileged, n_actions, 1, 1, n_observed, n_privileged]
        # Untouched memory costs nothing; the ring fills as it is written.
        self._rows = torch.empty((capacity, sum(self._widths)), device=device)

    def add(
        self,
        *,
        observation: np.ndarray,
        privileged: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        next_observation: np.ndarray,
        next_privileged: np.ndarray,
    ) -> None:
        """Take in N transitions, arrays as in `Batch`; they replace the oldest ones if there is no room."""
        numbers = reward[:, None], terminated[:, None]
        parts = [observation, privileged, action, *numbers, next_observation, next_privileged]
        if not self._widths[1]:
            parts[1] = parts[-1] = np.zeros((len(action), 0))
        self._put(np.concatenate(parts, 1, dtype=np.float32))

    def _put(self, rows: np.ndarray) -> None:
        rows = rows[-self.capacity :]
        here = torch.from_numpy(rows)
        # up to the end of the ring, and on from its beginning
        first = min(len(rows), self.capacity - self._next)
        self._rows[self._next : self._next + first] = here[:first]
        self._rows[: len(rows) - first] = here[first:]
        self._next = (self._next + len(rows)) % self.capacity
        self.size = min(self.size + len(rows), self.capacity)

    def sample(self, n: int, random: torch.Generator) -> Batch:
        """`n` of the transitions, all equally likely, with replacement."""
        index = torch.randint(self.size, (n,), generator=random, device=self._rows.device)
        o, q, action, reward, terminated, next_o, next_q = self._rows[index].split(self._widths, 1)
        symmetric = not self._widths[1]
        return Batch(
            observation=o,
            privileged=o if symmetric else q,
            action=action,
            reward=reward[:, 0],
            terminated=terminated[:, 0],
            next_observation=next_o,
            next_privileged=next_o if symmetric else next_q,
        )

    def newest(self, max_bytes: int) -> np.ndarray:
        """The newest rows that fit into `max_bytes`, oldest first [n, columns]."""
        n = min(self.size, max_bytes // (4 * sum(self._widths)))
        index = (self._next - n + torch.arange(n)) % self.capacity
        return self._rows[index.to(self._rows.device)].cpu().numpy()

    def refill(self, rows: np.ndarray) -> None:
        """Forget everything but these rows of `newest`.

        Raises:
            AlulaError: rows of another kind.
        """
        if rows.ndim != 2 or rows.shape[1] != sum(self._widths) or rows.dtype != np.float32:
            raise AlulaError("checkpoint does not fit: replay")
        self.size = self._next = 0
        self._put(rows)
