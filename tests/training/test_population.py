"""Population-based training: who follows whom, and how settings move."""

import math

import numpy as np
import pytest

from alula.errors import AlulaError
from alula.training.population import (
    LOST,
    STEP,
    Member,
    check_ranges,
    first_generation,
    hand_down,
    lineage,
    next_generation,
    ranked,
)
from alula.training.run import CHECKPOINT

RANGES = {"rate": (1e-4, 1e-2), "gamma": (0.9, 0.99)}


def test_the_first_generation_covers_the_ranges() -> None:
    members = first_generation(RANGES, 8, seed=3)
    for name, (low, high) in RANGES.items():
        at = [math.log(m.settings[name] / low) / math.log(high / low) for m in members]
        # one in each eighth
        assert sorted(int(8 * x) for x in at) == list(range(8))
    assert all(m.parent is None for m in members)
    assert members == first_generation(RANGES, 8, seed=3)
    assert members != first_generation(RANGES, 8, seed=4)


def test_the_worst_quarter_follow_the_best() -> None:
    members = first_generation(RANGES, 8, seed=0)
    scores = [(0.5,), (0.9,), (0.1,), (0.6,), (0.8,), (0.2,), (0.7,), (0.3,)]
    following = next_generation(members, scores, RANGES, 0, 1)
    for i, member in enumerate(following):
        if i in (2, 5):
            assert member.parent in (1, 4)
            for name, (low, high) in RANGES.items():
                value, before = member.settings[name], members[member.parent].settings[name]
                # a step up or down, or to the end of the range
                step = math.log(value / before) / math.log(high / low)
                assert value in (low, high) or abs(abs(step) - STEP) < 1e-9
                assert low <= value <= high
        else:
            assert member == Member(settings=members[i].settings, parent=i)
    assert following == next_generation(members, scores, RANGES, 0, 1)


def test_what_failed_follows_in_any_case() -> None:
    members = first_generation(RANGES, 4, seed=0)
    following = next_generation(members, [LOST, LOST, (0.0, -1.0), LOST], RANGES, 0, 1)
    assert [m.parent for m in following] == [2, 2, 2, 2]
    assert following[2].settings == members[2].settings


def test_scores_are_compared_from_the_left() -> None:
    assert ranked([(0.5, -0.1), (0.9, -0.3), (0.9, -0.2), (0.5, -0.1), LOST]) == [2, 1, 0, 3, 4]


def test_the_lineage_is_the_schedule_of_the_member() -> None:
    a = [Member(settings={"x": 1.0}, parent=None), Member(settings={"x": 2.0}, parent=None)]
    b = [Member(settings={"x": 3.0}, parent=1), Member(settings={"x": 2.0}, parent=1)]
    c = [Member(settings={"x": 3.0}, parent=0), Member(settings={"x": 4.0}, parent=0)]
    assert lineage([a, b, c], 1) == [{"x": 2.0}, {"x": 3.0}, {"x": 4.0}]


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0, 1.0)])
def test_ranges_need_a_logarithm(ends: tuple[float, float]) -> None:
    with pytest.raises(AlulaError, match="allowed: 0 < lowest < highest"):
        check_ranges({"x": ends})
    with pytest.raises(AlulaError, match="needs settings"):
        check_ranges({})


def test_a_checkpoint_is_handed_down_with_another_config(tmp_path) -> None:
    parent, child = tmp_path / "parent", tmp_path / "child"
    parent.mkdir()
    weights = np.arange(3.0, dtype=np.float32)
    np.savez(parent / CHECKPOINT, config=np.array("old"), weights=weights)
    hand_down(parent, child, "new and longer")
    with np.load(child / CHECKPOINT, allow_pickle=False) as file:
        assert str(file["config"]) == "new and longer"
        assert np.array_equal(file["weights"], weights)
    with np.load(parent / CHECKPOINT) as file:
        assert str(file["config"]) == "old"
    with pytest.raises(AlulaError, match="cannot be read"):
        hand_down(child / "nowhere", child, "")
