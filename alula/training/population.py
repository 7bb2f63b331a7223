"""Population-based training (Jaderberg et al. 2017, arXiv 1711.09846): settings that change while members learn.

M members train side by side, in generations of equally many updates. After each generation the worst quarter give up:
each goes on from the checkpoint of one of the best quarter (exploit), with settings moved a step away from that one's
(explore)::

    log x' = log x +- STEP (log high - log low),   low <= x' <= high

The paper multiplies by 0.8 or 1.2; a share of the range serves discounts near one as well as learning rates.

All of this is a function of the seed and the scores, so that nothing but checkpoints and scores has to be kept.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alula.errors import AlulaError
from alula.policies.files import write_files
from alula.training.run import CHECKPOINT, read_checkpoint

STEP = 0.15
"""Size of a step, as a share of the range's logarithm [-]."""
SHARE = 0.25
"""Share of the members that give up after a generation, and of those that they may follow [-]."""

Ranges = Mapping[str, tuple[float, float]]
"""Lowest and highest value of each setting, by its name; both positive."""
Score = tuple[float, ...]
"""The larger, the better; compared from the left."""
LOST: Score = (-math.inf,)
"""Score of a training that failed: it has no checkpoint to go on from."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One training run in one generation."""

    settings: dict[str, float]
    """Values of the settings that are searched, by name."""
    parent: int | None
    """The member of the generation before whose checkpoint it goes on from; None in the first generation."""


def check_ranges(ranges: Ranges) -> None:
    """Refuse ranges that have no logarithm.

    Raises:
        AlulaError: names the setting.
    """
    if not ranges:
        raise AlulaError("a population needs settings to search; allowed: --set algo.NAME=LOW,HIGH")
    for name, (low, high) in ranges.items():
        if not 0.0 < low < high:
            raise AlulaError(f"{name} from {low:g} to {high:g}; allowed: 0 < lowest < highest")


def first_generation(ranges: Ranges, size: int, seed: int) -> list[Member]:
    """Members whose settings are spread evenly over the ranges' logarithms (a Latin hypercube)."""
    rng = np.random.default_rng([seed, 0])
    columns = {}
    for name, (low, high) in ranges.items():
        # One member in each of `size` equal parts
        at = (rng.permutation(size) + rng.random(size)) / size
        columns[name] = np.exp(math.log(low) + at * math.log(high / low))
    return [
        Member(settings={name: float(x[i]) for name, x in columns.items()}, parent=None)
        for i in range(size)
    ]


def next_generation(
    members: Sequence[Member], scores: Sequence[Score], ranges: Ranges, seed: int, generation: int
) -> list[Member]:
    """The members of generation `generation` >= 1, from those of the one before and their scores.

    Those that are LOST give up in any case; at least one must not be.
    """
    rng = np.random.default_rng([seed, generation])
    order = ranked(scores)
    quarter = int(SHARE * len(members))
    best, worst = order[:quarter], set(order[len(order) - quarter :])
    best = [i for i in best if scores[i] != LOST]
    worst |= {i for i, score in enumerate(scores) if score == LOST}
    following = []
    for i, member in enumerate(members):
        if i in worst:
            parent = best[int(rng.integers(len(best)))]
            settings = _explored(members[parent].settings, ranges, rng)
        else:
            parent, settings = i, dict(member.settings)
        following.append(Member(settings=settings, parent=parent))
    return following


def ranked(scores: Sequence[Score]) -> list[int]:
    """Members from the best to the worst; of equals the first comes first."""
    return sorted(range(len(scores)), key=lambda i: (tuple(-x for x in scores[i]), i))


def lineage(generations: Sequence[Sequence[Member]], member: int) -> list[dict[str, float]]:
    """Settings in each generation of what led to a member of the last one: the schedule that was found."""
    schedule: list[dict[str, float]] = []
    at: int | None = member
    for members in reversed(generations):
        assert at is not None
        schedule.append(members[at].settings)
        at = members[at].parent
    return schedule[::-1]


def hand_down(parent: Path, folder: Path, config: str) -> None:
    """Give a run the checkpoint of another one, as if it had been made with `config`.

    Raises:
        AlulaError: there is none that can be read, or it cannot be written.
    """
    table = read_checkpoint(parent / CHECKPOINT)
    data = io.BytesIO()
    np.savez(data, allow_pickle=False, **table | {"config": np.array(config)})
    write_files(folder, {CHECKPOINT: data.getvalue()}, overwrite=True)


def _explored(
    settings: Mapping[str, float], ranges: Ranges, rng: np.random.Generator
) -> dict[str, float]:
    found = {}
    for name, (low, high) in ranges.items():
        factor = (high / low) ** (STEP if rng.random() < 0.5 else -STEP)
        found[name] = min(max(settings[name] * factor, low), high)
    return found
