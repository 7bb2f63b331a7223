"""What a training run needs of a learner, whichever it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from alula.errors import AlulaError
from alula.policies.network import Network


@dataclass(frozen=True, kw_only=True)
class Spaces:
    """What is known of actions, observations and privileged rows before anything is learned."""

    n_actions: int
    """Number of actions A."""
    assisting_actions: int = 0
    """Further actions, which only an `AssistedSimulator` takes; the policy does not have them."""
    first_action: float = 0.0
    """Mean action of the untrained policy in (-1, 1)."""
    scale: Sequence[float] = ()
    """Reciprocal size of the first columns of the actor's observation where it is known; mean and spread of the others are
    measured."""
    past_actions: int = 0
    """Last columns of the actor's observation that hold past actions."""
    parameters: int = 0
    """Last columns of the privileged rows that hold parameters drawn for the episode."""


class Statistics(Protocol):
    """What one update saw: a frozen dataclass of numbers."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def cost(self) -> float:
        """Mean cost per step; the smaller, the better the policy."""
        ...

    @property
    def note(self) -> str:
        """What else a progress bar should show."""
        ...


class Learner(Protocol):
    """A policy in training, with the environments it learns from."""

    updates_done: int
    """Updates so far."""
    env_steps: int
    """Policy steps of all environments together."""
    statistics: type[Any]
    """The dataclass that `update` returns."""

    @property
    def settled(self) -> bool:
        """Whether the cost of the last update can be compared with later ones."""
        ...

    @property
    def diverged(self) -> int:
        """Episodes since the start, or since it was restored, in which physics diverged; in this process."""
        ...

    def update(self) -> Statistics:
        """One update."""
        ...

    def network(self) -> Network:
        """The policy as it is now."""
        ...

    def snapshot(self) -> dict[str, np.ndarray]:
        """Everything a run needs to go on, as plain arrays."""
        ...

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Go on from a snapshot.

        Raises:
            AlulaError: an array is missing or has another shape or type.
        """
        ...


def check_fits(own: Mapping[str, np.ndarray], snapshot: Mapping[str, np.ndarray]) -> None:
    """Refuse a checkpoint that lacks an array of a learner, or has it in another shape or type.

    Raises:
        AlulaError: names the first one.
    """
    for name, array in own.items():
        stored = snapshot.get(name)
        if stored is None or stored.shape != array.shape or stored.dtype != array.dtype:
            raise AlulaError(f"checkpoint does not fit: {name}")
