"""Offsets of the tried actions: how often, how long, how large, and that they end with an episode."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from alula.training.config import SacConfig  # noqa: E402
from alula.training.exploration import Exploration  # noqa: E402

N, STEPS = 64, 1000
CONFIG = SacConfig(exploration_std=0.3, exploration_chance=0.05, exploration_steps=8)


def drawn(config, steps=STEPS):
    """Offsets [steps, N, A]."""
    exploration = Exploration(config, N, 2, torch.Generator().manual_seed(0))
    return torch.stack([exploration.draw() for _ in range(steps)]).numpy()


def test_none_are_drawn_without_a_spread():
    random = torch.Generator().manual_seed(0)
    before = random.get_state()
    exploration = Exploration(replace(CONFIG, exploration_std=0.0), N, 2, random)
    assert not exploration.draw().any()
    assert torch.equal(random.get_state(), before)


def test_how_often_and_how_large():
    offset = drawn(CONFIG)
    there = offset.any(-1)
    # one lasts 4.5 steps in the mean, and after it the next one begins after 1 / 0.05 - 1 = 19
    assert there.mean() == pytest.approx(4.5 / (4.5 + 19.0), rel=0.05)
    assert offset[there].std(0) == pytest.approx([0.3, 0.3], rel=0.05)
    assert offset[there].mean(0) == pytest.approx([0.0, 0.0], abs=0.02)


def test_one_lasts_up_to_the_longest():
    lengths = []
    for robot in drawn(CONFIG).swapaxes(0, 1):
        # where another value begins
        edges = np.flatnonzero(np.diff(robot[:, 0])) + 1
        parts = np.split(robot[:, 0], edges)[1:-1]
        lengths += [len(part) for part in parts if part.any()]
    share = np.bincount(lengths, minlength=9)[1:] / len(lengths)
    assert share == pytest.approx(np.full(8, 1.0 / 8.0), abs=0.03)


def test_it_ends_with_the_episode():
    config = replace(CONFIG, exploration_chance=1.0, exploration_steps=1000)
    exploration = Exploration(config, N, 2, torch.Generator().manual_seed(0))
    before = exploration.draw().clone()
    ended = torch.arange(N) < 10
    exploration.end(ended)
    assert torch.equal((exploration.draw() != before).all(1), ended)
