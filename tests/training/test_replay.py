"""The replay: what goes in comes out whole, the newest stays, and the ring closes at its end."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from alula.errors import AlulaError  # noqa: E402
from alula.training.replay import Replay  # noqa: E402


def ring(capacity, o=2, q=3, a=1, **settings):
    return Replay(capacity, o, q, a, **({"n_envs": 1, "gamma": 0.5} | settings))


def add(replay, *numbers, o=2, q=3, a=1, last=False, explored=False):
    """Transitions that carry their number everywhere, with a sign or a tenth that says where."""
    k = torch.tensor(numbers, dtype=torch.float32)[:, None]
    failed = k[:, 0] % 2 == 1
    replay.add(
        observation=k.expand(-1, o), privileged=-k.expand(-1, q), action=k.expand(-1, a) / 10,
        reward=k[:, 0] + 0.25, terminated=failed, ended=failed | last, explored=torch.as_tensor(explored).expand(len(k)),
        next_observation=k.expand(-1, o) + 0.5, next_privileged=-k.expand(-1, q) - 0.5,
    )  # fmt: skip


def kept(replay):
    return replay.newest(10**9)[:, 0].tolist()


def test_a_transition_comes_out_as_it_went_in():
    replay = ring(8)
    add(replay, 5)
    batch = replay.sample(4, torch.Generator().manual_seed(0))
    assert batch.observation.tolist() == [[5.0, 5.0]] * 4
    assert batch.privileged.tolist() == [[-5.0, -5.0, -5.0]] * 4
    assert batch.action.numpy() == pytest.approx(0.5)
    assert batch.reward.tolist() == [5.25] * 4
    assert batch.terminated.tolist() == [1.0] * 4
    assert batch.discount.tolist() == [0.5] * 4
    assert batch.next_observation.tolist() == [[5.5, 5.5]] * 4
    assert batch.next_privileged.tolist() == [[-5.5, -5.5, -5.5]] * 4


def test_a_critic_that_sees_what_the_actor_sees_takes_no_room():
    replay = ring(8, q=0)
    add(replay, 5, q=2)
    batch = replay.sample(1, torch.Generator().manual_seed(0))
    assert batch.privileged.tolist() == [[5.0, 5.0]]
    assert batch.next_privileged.tolist() == [[5.5, 5.5]]
    assert replay.newest(10**9).shape == (1, 2 + 1 + 4 + 2)


def test_the_ring_keeps_the_newest_across_its_end():
    replay = ring(5)
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
    replay = ring(1000)
    add(replay, 1, 2, 3)
    drawn = replay.sample(300, torch.Generator().manual_seed(0)).reward
    values, counts = np.unique(drawn.numpy(), return_counts=True)
    assert values.tolist() == [1.25, 2.25, 3.25]
    assert counts.min() > 70  # of 100 expected, with a spread of 8


def test_the_newest_go_on_in_another_replay():
    replay, other = ring(5), ring(4)
    add(replay, *range(8))
    row = 4 * (2 + 3 + 1 + 4 + 2 + 3)
    assert replay.newest(3 * row + 1)[:, 0].tolist() == [5, 6, 7]
    add(other, 100)
    other.refill(replay.newest(10**9))
    assert kept(other) == [4, 5, 6, 7]
    add(other, 8)
    assert kept(other) == [5, 6, 7, 8]


def sums(replay):
    """Of each transition: reward summed up, discount, whether that ended in a failure, what followed."""
    drawn = replay.sample(500, torch.Generator().manual_seed(0))
    columns = drawn.reward, drawn.discount, drawn.terminated, drawn.next_observation[:, 0]
    return dict(
        zip(drawn.observation[:, 0].tolist(), torch.stack(columns, 1).tolist(), strict=True)
    )


@pytest.mark.parametrize("capacity", [16, 7])
def test_rewards_are_summed_up_to_the_end_of_the_episode(capacity):
    replay = ring(capacity, n_envs=2, n_step=3)
    add(replay, 2, 4)
    add(replay, 6, 3)  # what follows 4 fails
    add(replay, 8, 10)
    add(replay, 12, 14, last=True)
    add(replay, 16, 18)
    # r = number + 1/4, gamma = 1/2
    expected = {
        2.0: [2.25 + 6.25 / 2 + 8.25 / 4, 0.125, 0.0, 8.5],
        4.0: [4.25 + 3.25 / 2, 0.25, 1.0, 3.5],
        6.0: [6.25 + 8.25 / 2 + 12.25 / 4, 0.125, 0.0, 12.5],
        3.0: [3.25, 0.5, 1.0, 3.5],
        8.0: [8.25 + 12.25 / 2, 0.25, 0.0, 12.5],
        10.0: [10.25 + 14.25 / 2, 0.25, 0.0, 14.5],
        12.0: [12.25, 0.5, 0.0, 12.5],
        14.0: [14.25, 0.5, 0.0, 14.5],
        16.0: [16.25, 0.5, 0.0, 16.5],
        18.0: [18.25, 0.5, 0.0, 18.5],
    }
    assert sums(replay) == dict(list(expected.items())[-capacity:])


def test_nothing_is_summed_up_from_where_nothing_is_yet():
    replay = ring(16, n_envs=2, n_step=3)
    replay._rows.fill_(np.nan)
    add(replay, 2, 4)
    add(replay, 6, 8)
    assert sums(replay) == {
        2.0: [2.25 + 6.25 / 2, 0.25, 0.0, 6.5],
        4.0: [4.25 + 8.25 / 2, 0.25, 0.0, 8.5],
        6.0: [6.25, 0.5, 0.0, 6.5],
        8.0: [8.25, 0.5, 0.0, 8.5],
    }


def test_rewards_are_summed_up_to_the_next_exploring_action():
    replay = ring(16, n_envs=2, n_step=3)
    add(replay, 2, 4)
    add(replay, 6, 8, explored=[True, False])
    add(replay, 10, 12)
    assert sums(replay) == {
        2.0: [2.25, 0.5, 0.0, 2.5],
        4.0: [4.25 + 8.25 / 2 + 12.25 / 4, 0.125, 0.0, 12.5],
        # what it leads to is its own
        6.0: [6.25 + 10.25 / 2, 0.25, 0.0, 10.5],
        8.0: [8.25 + 12.25 / 2, 0.25, 0.0, 12.5],
        10.0: [10.25, 0.5, 0.0, 10.5],
        12.0: [12.25, 0.5, 0.0, 12.5],
    }


def test_episodes_of_an_earlier_replay_do_not_go_on():
    replay, other = ring(16, n_envs=2, n_step=3), ring(16, n_envs=2, n_step=3)
    add(replay, 2, 4)
    add(replay, 6, 8)
    other.refill(replay.newest(10**9))
    add(other, 10, 12)
    found = sums(other)
    assert found[2] == [2.25 + 6.25 / 2, 0.25, 0.0, 6.5]
    assert found[8] == [8.25, 0.5, 0.0, 8.5]


@pytest.mark.parametrize("rows", [np.zeros((2, 16), np.float32), np.zeros((2, 15)), np.zeros(15, np.float32)])  # fmt: skip
def test_rows_of_another_kind(rows):
    replay = ring(5)
    add(replay, 1)
    with pytest.raises(AlulaError, match="checkpoint does not fit: replay"):
        replay.refill(rows)
    assert kept(replay) == [1]
