"""Episodes of a toy arm: success at the end, kinds of failure that add up, divergence, Ctrl-C; figures by hand."""

from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula.errors import AlulaError
from alula.evaluation import arm_evaluate
from alula.evaluation.arm_episodes import DIVERGED, LEFT, OTHER, Episodes, join, run_episodes
from alula.evaluation.arm_evaluate import block_seed, gap, measure, run_blocks
from alula.evaluation.evaluate import evaluation_seed

toy = run_path(str(Path(__file__).parent / "toy_arm.py"))
toy_setting = toy["toy_setting"]
STEPS = 60


def still(observation: np.ndarray) -> np.ndarray:
    return np.zeros((len(observation), 1), np.float32)


def forward(observation: np.ndarray) -> np.ndarray:
    return np.ones((len(observation), 1), np.float32)


def turn(observation: np.ndarray) -> np.ndarray:
    """To the goal, at most at full speed."""
    return np.clip(10.0 * (observation[:, 1:] - observation[:, :1]), -1.0, 1.0)


def run(act, n: int = 6, **keywords) -> Episodes:
    setting = toy_setting(**keywords)
    return run_episodes(act, setting.simulator(n), steps=STEPS, seed=0, traced=2)


def test_a_policy_that_turns_to_the_goal_succeeds_everywhere() -> None:
    episodes = run(turn)
    assert episodes.succeeded.all()
    assert episodes.failures == {LEFT: 0, DIVERGED: 0, "close": 0, "not at the goal": 0, OTHER: 0}
    assert (episodes.measures["angle"] < 0.01).all()
    # 60 steps worth 1 each
    assert episodes.episode_return.tolist() == [60.0] * 6
    assert episodes.qpos.shape == (61, 2, 8)
    # the first goal is where it stands, the second 0.1 rad away
    assert episodes.qpos[-1, :, 0] == pytest.approx([0.0, 0.1], abs=0.01)
    assert episodes.goal["angle"].tolist() == [[0.0], [0.1]]


def test_a_policy_that_stands_still_succeeds_where_it_begins() -> None:
    episodes = run(still)
    assert episodes.succeeded.tolist() == [True, False, False] * 2
    # the first kind that applies: 0.1 rad is close, 0.3 rad is not
    assert episodes.failures == {LEFT: 0, DIVERGED: 0, "close": 2, "not at the goal": 2, OTHER: 0}
    assert episodes.measures["angle"] == pytest.approx([0.0, 0.1, 0.3] * 2, abs=1e-3)


def test_what_the_task_does_not_name_is_something_else() -> None:
    episodes = run(still, failures=lambda scene: {})
    assert episodes.failures == {LEFT: 0, DIVERGED: 0, OTHER: 4}


def test_an_episode_that_ends_early_has_failed_and_nothing_after_counts() -> None:
    def passing(observation: np.ndarray) -> np.ndarray:
        # only the first arm moves, at full speed beyond the limit
        return np.where(np.arange(len(observation))[:, None] == 0, 1.0, 0.0)

    episodes = run(passing, succeeded=lambda scene: np.ones(len(scene.joint_position), bool))
    assert episodes.failures[LEFT] == 1
    assert episodes.succeeded.tolist() == [False] + [True] * 5
    assert episodes.finished.tolist() == [False] + [True] * 5
    # 0.8 rad at 0.02 rad a step, and the servo lags by kv / kp = 0.1 s, 5 steps
    ended = int(episodes.ended_at[0])
    assert 40 <= ended <= 55
    assert episodes.episode_return.tolist() == [ended + 1.0] + [60.0] * 5
    assert np.isnan(episodes.measures["angle"][0])


def test_a_lost_environment_is_counted_as_diverged() -> None:
    simulator = toy_setting().simulator(3)
    calls = 0

    def broken(observation: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == 5:
            simulator.qpos[1] = np.nan
        return turn(observation)

    episodes = run_episodes(broken, simulator, steps=STEPS, seed=0)
    assert simulator.diverged == 1
    assert episodes.failures[DIVERGED] == 1
    assert episodes.succeeded.tolist() == [True, False, True]
    assert episodes.ended_at.tolist() == [60, 4, 60]
    # four steps worth 1; the lost one is worth nothing
    assert episodes.episode_return.tolist() == [60.0, 4.0, 60.0]


@pytest.mark.parametrize(("steps", "n"), [(0, 1), (50_000_001, 1)])
def test_lengths_that_make_no_sense(steps: int, n: int) -> None:
    with pytest.raises(AlulaError, match="allowed: 1 to 50000000 in all"):
        run_episodes(still, toy_setting().simulator(n), steps=steps, seed=0)


def test_blocks_are_seeded_apart_and_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arm_evaluate, "BLOCK", 4)
    told: list[tuple[int, int]] = []
    whole = run_blocks(
        lambda n: still, toy_setting(), episodes=10, steps=5, seed=3, traced=5,
        told=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert whole.n == 10
    # the course of the first five, over the edge of a block
    assert whole.qpos.shape == (6, 5, 8)
    assert whole.goal["angle"][:, 0] == pytest.approx([0, 0.1, 0.3, 0, 0])
    assert told[0] == (4, 50)
    assert told[-1] == (50, 50)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    # blocks of 4, 4 and 2, each of which begins with the first goal
    assert whole.measures["angle"] == pytest.approx([0, 0.1, 0.3, 0] * 2 + [0, 0.1], abs=1e-3)
    seeds = {block_seed(s, b) for s in (0, 1, 2**64 - 1) for b in range(4)}
    assert len(seeds) == 12
    assert block_seed(7, 0) == evaluation_seed(7)
    # training seeds are below 2^64
    assert min(seeds) >= 2**64


def test_ctrl_c_loses_nothing_that_was_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arm_evaluate, "BLOCK", 4)
    blocks = 0

    def controller(n: int):
        nonlocal blocks
        blocks += 1
        if blocks == 3:
            raise KeyboardInterrupt
        return still

    assert run_blocks(controller, toy_setting(), episodes=100, steps=3, seed=0).n == 8
    blocks = 2
    with pytest.raises(KeyboardInterrupt):
        run_blocks(controller, toy_setting(), episodes=100, steps=3, seed=0)


def hand_made(success: list[int], angle: list[float], kinds: list[int]) -> Episodes:
    """Episodes of which nothing but the outcome is known."""
    n = len(success)
    return Episodes(
        succeeded=np.array(success, bool),
        failure=np.array(kinds),
        kinds=(LEFT, DIVERGED, "lost", OTHER),
        ended_at=np.full(n, 5),
        episode_return=np.arange(n, dtype=float),
        measures={"angle": np.array(angle)},
        qpos=np.zeros((6, 0, 1), np.float32),
        goal={},
    )


def test_figures_by_hand() -> None:
    run = hand_made(
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0],
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, np.nan, np.nan],
        [-1, -1, -1, -1, 2, 2, 2, 3, 0, 1],
    )
    m = measure(run)
    assert (m.episodes, m.succeeded, m.success, m.diverged) == (10, 4, 0.4, 1)
    # Wilson by hand: z^2 = 3.8415; centre (0.4 + 0.19207) / 1.38415, half 1.95996 sqrt(0.024 + 0.0096036) / 1.38415
    assert m.success_interval == pytest.approx((0.16818, 0.68733), abs=1e-5)
    assert m.failures == {LEFT: 1, DIVERGED: 1, "lost": 3, OTHER: 1}
    assert sum(m.failures.values()) == m.episodes - m.succeeded
    assert m.episode_return == 4.5
    angle = m.measures["angle"]
    assert angle is not None
    # of the eight that came to their end: the middle of 0.4 and 0.5
    assert angle.median == pytest.approx(0.45)
    # ranks 8 / 2 -+ 1.96 sqrt(8 / 4) = 1.23 and 6.77, outwards 1 and 7
    assert angle.median_interval == pytest.approx((0.1, 0.7))
    # 0.7 + 0.65 * 0.1, linear between order statistics
    assert angle.p95 == pytest.approx(0.765)


def test_no_measures_where_all_ended_early() -> None:
    assert measure(hand_made([0, 0], [np.nan] * 2, [0, 1])).measures == {"angle": None}


def test_gap_by_hand() -> None:
    trained = hand_made([0, 0, 1, 1], [0.5, 0.5, 0.1, np.nan], [2, 2, -1, 0])
    other = hand_made([1, 0, 1, 1], [0.1, np.nan, 0.2, 0.1], [-1, 1, -1, -1])
    found = gap(trained, other)
    assert found.success == 0.25
    assert found.success_interval == pytest.approx((0.0, 0.75))
    # pairs 0 and 2: -0.4 and +0.1
    change = found.measures["angle"]
    assert change is not None
    assert change[0] == pytest.approx(-0.15)
    assert change[1] == pytest.approx((-0.4, 0.1))
    # an interrupted run is compared as far as it came
    first_two = replace(
        other,
        succeeded=other.succeeded[:2], failure=other.failure[:2],
        measures={"angle": other.measures["angle"][:2]},
    )  # fmt: skip
    assert gap(trained, first_two).success == 0.5


def test_join_keeps_order() -> None:
    a, b = run(still, 2), run(turn, 3)
    both = join([a, b])
    assert both.succeeded.tolist() == [True, False, True, True, True]
    assert both.kinds == a.kinds
    assert both.qpos.shape == (61, 4, 8)
