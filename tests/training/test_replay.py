"""The replay: what goes in comes out whole, the newest stays, and the ring closes at its end."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from alula.errors import AlulaError  # noqa: E402
from alula.training.replay import Replay  # noqa: E402


def add(replay, *numbers, o=2, q=3, a=1):
    """Transitions that carry their number everywhere, with a sign or a tenth that says where."""
    k = np.array(numbers, np.float64)[:, None]
    replay.add(
        observation=np.repeat(k, o, 1), privileged=np.repeat(-k, q, 1), action=np.repeat(k / 10, a, 1),
        reward=k[:, 0] + 0.25, terminated=k[:, 0] % 2 == 1,
        next_observation=np.repeat(k + 0.5, o, 1), next_privileged=np.repeat(-k - 0.5, q, 1),
    )  # fmt: skip


def kept(replay):
    return replay.newest(10**9)[:, 0].tolist()


def test_a_transition_comes_out_as_it_went_in():
    replay = Replay(8, 2, 3, 1)
    add(replay, 5)
    batch = replay.sample(4, torch.Generator().manual_seed(0))
    assert batch.observation.tolist() == [[5.0, 5.0]] * 4
    assert batch.privileged.tolist() == [[-5.0, -5.0, -5.0]] * 4
    assert batch.action.numpy() == pytest.approx(0.5)
    assert batch.reward.tolist() == [5.25] * 4
    assert batch.terminated.tolist() == [1.0] * 4
    assert batch.next_observation.tolist() == [[5.5, 5.5]] * 4
    assert batch.next_privileged.tolist() == [[-5.5, -5.5, -5.5]] * 4


def test_a_critic_that_sees_what_the_actor_sees_takes_no_room():
    replay = Replay(8, 2, 0, 1)
    add(replay, 5, q=2)
    batch = replay.sample(1, torch.Generator().manual_seed(0))
    assert batch.privileged.tolist() == [[5.0, 5.0]]
    assert batch.next_privileged.tolist() == [[5.5, 5.5]]
    assert replay.newest(10**9).shape == (1, 2 + 1 + 1 + 1 + 2)


def test_the_ring_keeps_the_newest_across_its_end():
    replay = Replay(5, 2, 3, 1)
    add(replay, 1, 2, 3)
    assert (replay.size, kept(replay)) == (3, [1, 2, 3])
    add(replay, 4, 5, 6)  # 6 takes the place of 1
    assert (replay.size, kept(replay)) == (5, [2, 3, 4, 5, 6])
    add(replay, 7, 8, 9, 10)
    assert kept(replay) == [6, 7, 8, 9, 10]
    add(replay, *range(11, 24))  # more than there is room for
    assert kept(replay) == [19, 20, 21, 22, 23]
    add(replay, 24)
    assert kept(replay) == [20, 21, 22, 23, 24]
    drawn = replay.sample(200, torch.Generator().manual_seed(0)).observation[:, 0]
    assert sorted(set(drawn.tolist())) == [20, 21, 22, 23, 24]


def test_nothing_is_drawn_from_where_nothing_is_yet():
    replay = Replay(1000, 2, 3, 1)
    add(replay, 1, 2, 3)
    drawn = replay.sample(300, torch.Generator().manual_seed(0)).reward
    values, counts = np.unique(drawn.numpy(), return_counts=True)
    assert values.tolist() == [1.25, 2.25, 3.25]
    assert counts.min() > 70  # of 100 expected, with a spread of 8


def test_the_newest_go_on_in_another_replay():
    replay, other = Replay(5, 2, 3, 1), Replay(4, 2, 3, 1)
    add(replay, *range(8))
    row = 4 * (2 + 3 + 1 + 1 + 1 + 2 + 3)
    assert replay.newest(3 * row + 1)[:, 0].tolist() == [5, 6, 7]
    add(other, 100)
    other.refill(replay.newest(10**9))
    assert kept(other) == [4, 5, 6, 7]
    add(other, 8)
    assert kept(other) == [5, 6, 7, 8]


@pytest.mark.parametrize("rows", [np.zeros((2, 14), np.float32), np.zeros((2, 13)), np.zeros(13, np.float32)])  # fmt: skip
def test_rows_of_another_kind(rows):
    replay = Replay(5, 2, 3, 1)
    add(replay, 1)
    with pytest.raises(AlulaError, match="checkpoint does not fit: replay"):
        replay.refill(rows)
    assert kept(replay) == [1]
