"""PPO: advantages, likelihoods and the clipped loss by hand; the normaliser; and that it learns."""

import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from alula.sim.protocol import Transition  # noqa: E402
from alula.training.config import PpoConfig  # noqa: E402
from alula.training.layers import Mlp, Normalizer, policy_network, squash  # noqa: E402
from alula.training.learner import Spaces  # noqa: E402
from alula.training.ppo import (  # noqa: E402
    PpoLearner,
    clipped_surrogate,
    generalized_advantage,
    log_likelihood,
)


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_advantages_of_an_episode_that_goes_on():
    # delta = (1 + .5 * 4 - 2, 2 + .5 * 6 - 4) = (1, 1); A_1 = 1, A_0 = 1 + .5 * .8 * 1 = 1.4
    advantage = generalized_advantage(
        column(1, 2), column(2, 4), column(4, 6), column(0, 0), column(0, 0), 0.5, 0.8
    )
    assert advantage[:, 0].tolist() == pytest.approx([1.4, 1.0], abs=1e-12)


def test_a_failure_is_worth_nothing_after_it():
    # delta_0 = 1 - 2 = -1, whatever the next value; nothing flows back over the end
    advantage = generalized_advantage(
        column(1, 2), column(2, 4), column(100, 6), column(1, 0), column(1, 0), 0.5, 0.8
    )
    assert advantage[:, 0].tolist() == pytest.approx([-1.0, 1.0], abs=1e-12)


def test_a_time_out_is_worth_its_final_state():
    # delta_0 = 1 + .5 * 10 - 2 = 4 with the final state's value 10; the next row is another episode
    advantage = generalized_advantage(
        column(1, 2), column(2, 4), column(10, 6), column(0, 0), column(1, 0), 0.5, 0.8
    )
    assert advantage[:, 0].tolist() == pytest.approx([4.0, 1.0], abs=1e-12)


def test_likelihood_of_normal_actions():
    # N(1; 0, 2): -1/8 - log 2 - log sqrt(2 pi); N(3; 3, 1): -log sqrt(2 pi)
    got = log_likelihood(
        torch.tensor([1.0, 3.0]), torch.tensor([0.0, 3.0]), torch.tensor([math.log(2.0), 0.0])
    )
    assert float(got) == pytest.approx(-0.125 - math.log(2.0) - math.log(2.0 * math.pi), abs=1e-6)


def test_clipped_loss():
    # min(1.5, 1.2) * 1 = 1.2; min(.5 * -1, .8 * -1) = -.8; min(1.5 * -1, 1.2 * -1) = -1.5; .5 * 1 = .5
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5])
    advantage = torch.tensor([1.0, -1.0, -1.0, 1.0])
    assert float(clipped_surrogate(ratio, advantage, 0.2)) == pytest.approx(
        -(1.2 - 0.8 - 1.5 + 0.5) / 4
    )


def test_no_gradient_where_the_ratio_has_gone_far_enough():
    ratio = torch.tensor([1.5, 0.5, 1.1], requires_grad=True)
    clipped_surrogate(ratio, torch.tensor([1.0, -1.0, 1.0]), 0.2).backward()
    assert ratio.grad is not None
    assert ratio.grad.tolist() == pytest.approx([0.0, 0.0, -1.0 / 3.0])


def test_normaliser_is_the_mean_and_spread_of_all_it_saw():
    x = np.random.default_rng(0).normal([3.0, -1.0], [2.0, 0.5], (70, 2)).astype(np.float32)
    made = Normalizer(2, clip=1.5)
    for part in (x[:10], x[10:11], x[11:]):
        made.update(torch.from_numpy(part))
    expected = ((x - x.mean(0)) / x.std(0)).clip(-1.5, 1.5)
    assert made(torch.from_numpy(x)).numpy() == pytest.approx(expected, abs=1e-5)


def test_a_constant_column_is_not_blown_up():
    made = Normalizer(1, clip=10.0)
    made.update(torch.full((100, 1), 0.3))
    assert float(made(torch.tensor([0.301]))[0]) == pytest.approx(0.1, abs=1e-4)


def test_policy_file_network_is_the_actor():
    random = torch.Generator().manual_seed(0)
    actor, normalizer = Mlp((5, 8, 3), random, last=1.0, bias=0.3), Normalizer(5, 2.0)
    normalizer.update(3.0 + 2.0 * torch.randn((50, 5), generator=random))
    normalizer.weight[2:] = 0.1
    x = 3.0 + 4.0 * torch.randn((20, 5), generator=random)
    expected = squash(actor(normalizer(x))).detach().numpy()
    assert policy_network(actor, normalizer)(x.numpy()) == pytest.approx(expected, abs=1e-6)


class Point:
    """A point on a line that actions push; the reward is its closeness to zero; time-outs after 20 steps."""

    n_envs = 16

    def reset(self, seed):
        self._rng = np.random.default_rng(seed)
        self._x = self._rng.uniform(-1.0, 1.0, (self.n_envs, 1)).astype(np.float32)
        self._t = np.zeros(self.n_envs, int)
        return self._x.copy()

    def step(self, action):
        self._x += 0.2 * action
        self._t += 1
        final = self._x.copy()
        reward = 1.0 - np.abs(final[:, 0])
        truncated = self._t >= 20
        n = int(truncated.sum())
        self._x[truncated] = self._rng.uniform(-1.0, 1.0, (n, 1))
        self._t[truncated] = 0
        return Transition(
            observation=self._x.copy(), privileged=np.hstack([self._x, self._x**2]), reward=reward,
            terminated=np.zeros(self.n_envs, bool), truncated=truncated,
            final_observation=final, final_privileged=np.hstack([final, final**2]),
        )  # fmt: skip


SMALL = PpoConfig(n_envs=16, updates=40, rollout_steps=20, hidden=(16,), critic_hidden=(16,), learning_rate=3e-3, gamma=0.9)  # fmt: skip


def test_learns_to_come_to_rest_at_zero():
    learner = PpoLearner(Point(), SMALL, 0, Spaces(n_actions=1))
    costs = [learner.update().cost for _ in range(SMALL.updates)]
    x = np.array([[-0.8], [-0.2], [0.2], [0.8]], np.float32)
    action = learner.network()(x)[:, 0]
    assert np.all(np.sign(action) == -np.sign(x[:, 0]))
    assert np.mean(costs[-5:]) < np.mean(costs[:5]) - 0.2
    assert learner.env_steps == 41 * 20 * 16  # one rollout to look around


class Helped(Point):
    """The same; a second action pushes too, as far as the assistance goes."""

    assistance = 0.0

    def __init__(self):
        self.given = []

    def step(self, action):
        assert action.shape == (self.n_envs, 2)
        self.given.append(self.assistance)
        return super().step(action[:, :1] + self.assistance * action[:, 1:])


def test_assistance_falls_to_none_and_the_policy_does_without():
    simulator = Helped()
    config = replace(SMALL, updates=4, assisted=0.5)
    learner = PpoLearner(simulator, config, 0, Spaces(n_actions=1, assisting_actions=1))
    for _ in range(4):
        learner.update()
    # One step and a look around, then 1 - (0, 1/4, 2/4, 3/4) / 0.5 during the updates, never below zero
    assert simulator.given[:21] == [1.0] * 21
    assert simulator.given[21::20] == [1.0, 0.5, 0.0, 0.0]
    assert learner.network()(np.zeros((3, 1), np.float32)).shape == (3, 1)
    # and so it is where a run goes on
    later = PpoLearner(Helped(), config, 0, Spaces(n_actions=1, assisting_actions=1))
    assert not later.settled
    later.restore(learner.snapshot())
    assert later.simulator.given[21:] == [0.0]  # type: ignore
    assert later.settled


def test_no_help_from_the_start():
    simulator = Helped()
    PpoLearner(simulator, replace(SMALL, assisted=0.0), 0, Spaces(n_actions=1, assisting_actions=1))
    assert simulator.given == [0.0] * 21


def test_actions_that_no_longer_help_are_no_part_of_the_loss():
    config = replace(SMALL, updates=4, assisted=0.5, entropy_weight=0.02)
    learner = PpoLearner(Helped(), config, 0, Spaces(n_actions=1, assisting_actions=1))
    for update in range(4):
        learner.update()
        helping = learner.log_std.grad, learner.actor.layers[-1].weight.grad
        for own, assisting in helping:
            assert bool(own.any())
            assert bool(assisting.any()) is (update < 2)


def test_losses_are_means_where_minibatches_differ_in_number():
    # 9 samples in minibatches of 2: five of them where seven are asked for. A critic that says 0 of returns of 1 is off by 1 / 2.
    config = replace(SMALL, minibatches=7, epochs=1, learning_rate=0.0)
    learner = PpoLearner(Point(), config, 0, Spaces(n_actions=1))
    with torch.no_grad():
        learner.critic.layers[-1].weight.zero_()
    o, action, seen = torch.zeros(9, 1), torch.zeros(9, 1), torch.zeros(9, len(learner.critic_normalizer.mean))  # fmt: skip
    old = log_likelihood(action, squash(learner.actor(o)), learner.log_std).detach()
    found = learner._learn([o, action, old, seen, torch.zeros(9), torch.ones(9)])
    assert found == pytest.approx((0.5, 0.0), abs=1e-6)


def test_a_correction_starts_from_its_base_and_goes_beyond_it():
    # A base that pushes the wrong way; squash(0.3 x)
    random = torch.Generator().manual_seed(0)
    mlp, normalizer = Mlp((1, 16, 1), random, last=0.0), Normalizer(1, 5.0)
    with torch.no_grad():
        mlp.layers[0].weight[:2, 0], mlp.layers[1].weight[0, :2] = torch.tensor([[1.0, -1.0], [0.3, -0.3]])  # fmt: skip
    base = policy_network(mlp, normalizer)
    x = np.array([[-0.8], [0.8]], np.float32)
    assert base(x)[:, 0] == pytest.approx([-0.24 / 1.0576**0.5, 0.24 / 1.0576**0.5], abs=1e-6)
    learner = PpoLearner(Point(), SMALL, 0, Spaces(n_actions=1), base=base)
    assert learner.network()(x) == pytest.approx(base(x), abs=0.05)
    for _ in range(SMALL.updates):
        learner.update()
    assert np.all(np.sign(learner.network()(x)) == -np.sign(x))


@pytest.mark.parametrize(("done", "weight"), [(0, 0.02), (15, 0.01)])
def test_entropy_is_worth_less_and_less(done, weight):
    config = replace(SMALL, updates=30, entropy_weight=0.02)
    learner = PpoLearner(Point(), config, 0, Spaces(n_actions=1))
    learner.updates_done = done
    o, action = learner.actor_normalizer(torch.zeros(4, 1)), torch.zeros(4, 1)
    old = log_likelihood(action, squash(learner.actor(o)), learner.log_std).detach()
    seen = torch.zeros(4, len(learner.critic_normalizer.mean))
    # Nothing to gain by any action, and a critic that is right: what is left is -weight log std.
    learner._descend(
        o, action, old, seen, torch.zeros(4), learner.critic(seen).squeeze(-1).detach()
    )
    assert learner.log_std.grad is not None
    assert float(learner.log_std.grad) == pytest.approx(-weight, rel=1e-6)


def test_same_seed_same_policy():
    def weights(seed):
        learner = PpoLearner(Point(), SMALL, seed, Spaces(n_actions=1))
        for _ in range(3):
            learner.update()
        return np.concatenate([w.ravel() for w in learner.network().weights])

    assert np.array_equal(weights(1), weights(1))
    assert not np.array_equal(weights(1), weights(2))


def test_a_resumed_learner_keeps_its_learning_rate():
    config = replace(SMALL, updates=4)
    learner = PpoLearner(Point(), config, 0, Spaces(n_actions=1))
    learner.update()
    learner.update()
    other = PpoLearner(Point(), config, 0, Spaces(n_actions=1))
    other.restore(learner.snapshot())
    # falls linearly: after two updates the second one's, of 3e-3 (1 - 1/4)
    assert other.learning_rate == pytest.approx(2.25e-3)
    assert [group["lr"] for group in other._adam.param_groups] == pytest.approx([2.25e-3])
