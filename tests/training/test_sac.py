"""SAC: likelihoods, targets, temperature, averages and DSAC-T's loss by hand; and that it learns."""

import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from alula.errors import AlulaError  # noqa: E402
from alula.policies.onnx_file import load_policy  # noqa: E402
from alula.presets import get_preset  # noqa: E402
from alula.sim.protocol import Transition  # noqa: E402
from alula.training.config import SacConfig  # noqa: E402
from alula.training.distributional import distributional_loss  # noqa: E402
from alula.training.layers import Mlp, Normalizer, policy_network, squash  # noqa: E402
from alula.training.learner import Spaces  # noqa: E402
from alula.training.replay import Batch  # noqa: E402
from alula.training.run import train  # noqa: E402
from alula.training.sac import (  # noqa: E402
    SacLearner,
    average_towards,
    sample_action,
    soft_target,
    temperature_loss,
)


class Line:
    """Points on a line that actions push; the reward is their closeness to zero.

    An episode lasts `limit` steps. The first `n_failing` environments fail then, the time of the others is over.
    """

    def __init__(self, n_envs=16, limit=20, n_failing=0, start=1.0):
        self.n_envs, self._limit, self._start = n_envs, limit, start
        self._failing = np.arange(n_envs) < n_failing

    def reset(self, seed):
        self._rng = np.random.default_rng(seed)
        self._x = self._rng.uniform(-1.0, 1.0, (self.n_envs, 1)).astype(np.float32)
        self._t = np.zeros(self.n_envs, int)
        return self._x.copy()

    def step(self, action):
        self._x += 0.2 * action
        self._t += 1
        final = self._x.copy()
        over = self._t >= self._limit
        self._x[over] = self._start * self._rng.uniform(-1.0, 1.0, (int(over.sum()), 1))
        self._t[over] = 0
        return Transition(
            observation=self._x.copy(), privileged=np.hstack([self._x, self._x**2]), reward=1.0 - np.abs(final[:, 0]),
            terminated=over & self._failing, truncated=over & ~self._failing,
            final_observation=final, final_privileged=np.hstack([final, final**2]),
        )  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks this small only wait for their threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SMALL = SacConfig(
    n_envs=16, updates=12, steps_per_update=20, gradient_steps=1, warmup_steps=320, replay_size=5000, batch_size=64,
    hidden=(32,), critic_hidden=(32, 32), learning_rate=3e-3, critic_learning_rate=3e-3, gamma=0.9, tau=0.02, initial_temperature=0.2,
)  # fmt: skip
DISTRIBUTIONAL = replace(SMALL, distributional=True)
TINY = replace(SMALL, steps_per_update=3, warmup_steps=16, batch_size=8)


def weights(learner):
    return np.concatenate([w.ravel() for w in learner.network().weights])


def test_likelihood_of_a_squashed_action():
    # z = 1 + 2 * .5 = 2; a = 2 / sqrt 5; log N = -1/8 - log 2 - log sqrt(2 pi); log da/dz = -3/2 log 5
    action, likelihood = sample_action(
        torch.tensor([[1.0]]), torch.tensor([[math.log(2.0)]]), torch.tensor([[0.5]])
    )
    assert float(action) == pytest.approx(2.0 / math.sqrt(5.0), abs=1e-6)
    expected = -0.125 - math.log(2.0) - 0.5 * math.log(2.0 * math.pi) + 1.5 * math.log(5.0)
    assert float(likelihood) == pytest.approx(expected, abs=1e-6)


def test_likelihoods_of_independent_actions_add_up():
    m, s, e = (torch.randn((2, 3), generator=torch.Generator().manual_seed(i)) for i in range(3))
    each = [sample_action(m[:, [i]], s[:, [i]], e[:, [i]])[1] for i in range(3)]
    assert sample_action(m, s, e)[1].tolist() == pytest.approx(sum(each).tolist(), abs=1e-5)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.5, 0.3), (-0.7, 2.0)])
def test_density_of_the_actions_integrates_to_one(mean, std):
    # midpoints of 200 000 equal pieces of (-1, 1), with the noise that leads there
    n = 200_000
    a = (torch.arange(n, dtype=torch.float64) + 0.5) * 2.0 / n - 1.0
    z = a / torch.sqrt(1.0 - a * a)
    noise = (z - mean) / std
    m, log_std = (torch.full((n, 1), x, dtype=torch.float64) for x in (mean, math.log(std)))
    action, likelihood = sample_action(m, log_std, noise[:, None])
    assert float((action[:, 0] - a).abs().max()) < 1e-9
    assert float(likelihood.exp().sum() * 2.0 / n) == pytest.approx(1.0, abs=1e-3)


def test_the_untrained_policy_is_nearly_uniform():
    # uniform on (-1, 1): entropy log 2 = 0.693
    noise = torch.randn((200_000, 1), generator=torch.Generator().manual_seed(0))
    entropy = -float(
        sample_action(torch.zeros_like(noise), torch.zeros_like(noise), noise)[1].mean()
    )
    assert 0.6 < entropy < math.log(2.0)


def test_targets():
    # 1 + .5 (4 - .1 * -2) = 3.1; a failure is worth its reward; 3 + .5 (-4 - .1 * 10) = .5
    target = soft_target(
        torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 1.0, 0.0]), torch.tensor([4.0, 1e6, -4.0]),
        torch.tensor([-2.0, 1e6, 10.0]), torch.tensor(0.1), torch.tensor([0.5, 0.5, 0.5]),
    )  # fmt: skip
    assert target.tolist() == pytest.approx([3.1, 2.0, 0.5])


def test_temperature_rises_where_the_entropy_is_below_its_target():
    # d/dlog alpha = -mean(log pi + H): log pi = 2, so entropy -2 below H = -1 gives -(2 - 1) = -1: upwards
    log_temperature = torch.tensor(math.log(0.2), requires_grad=True)
    loss = temperature_loss(log_temperature, torch.tensor([1.0, 3.0]), -1.0)
    assert float(loss.detach()) == pytest.approx(-math.log(0.2))
    loss.backward()
    assert float(log_temperature.grad) == pytest.approx(-1.0)
    # entropy 3 above H = -1: downwards
    log_temperature.grad = None
    temperature_loss(log_temperature, torch.tensor([-3.0]), -1.0).backward()
    assert float(log_temperature.grad) == pytest.approx(4.0)


def test_targets_follow_slowly():
    average, value = [torch.tensor([1.0, 0.0])], [torch.tensor([3.0, 10.0], requires_grad=True)]
    average_towards(average, value, 0.1)
    assert average[0].tolist() == pytest.approx([1.2, 1.0])
    average_towards(average, value, 0.1)
    assert average[0].tolist() == pytest.approx([1.38, 1.9])


def test_gradient_of_the_distributional_critics():
    """Two critics, two transitions; xi sigma bounds the error of the first at 3, of the second at 1.

    First critic, omega + e = 1.1, mean over 2 transitions:
        transition 0: Q 1, sigma 1, y_Q 2, y_Z 6: dQ = -1.1/2 * 1 / 1.1 = -.5; C - Q = 3, dsigma = -1.1/2 * 8 / 1.1 = -4
        transition 1: Q 2, sigma 2, y_Q 0, y_Z 1: dQ = 1.1/2 * 2 / 4.1; C - Q = -1, dsigma = -1.1/2 * -3 / 8.1
    Second critic, omega + e = .6:
        transition 0: Q 0, sigma 1, y_Z 6: dQ = -.6/2 * 2 / 1.1; C - Q = 1, dsigma = 0
        transition 1: Q 0, sigma .5, y_Q 0: dQ = 0; C - Q = 1, dsigma = -.6/2 * .75 / .225
    """
    mean = torch.tensor([[1.0, 2.0], [0.0, 0.0]], requires_grad=True)
    std = torch.tensor([[1.0, 2.0], [1.0, 0.5]], requires_grad=True)
    target, drawn = torch.tensor([2.0, 0.0]), torch.tensor([6.0, 1.0])
    bound, variance = torch.tensor([[3.0], [1.0]]), torch.tensor([[1.0], [0.5]])
    distributional_loss(mean, std, target, drawn, bound, variance).backward()
    assert mean.grad.numpy() == pytest.approx(np.array([[-0.5, 1.1 / 4.1], [-0.6 / 1.1, 0.0]]))
    assert std.grad.numpy() == pytest.approx(np.array([[-4.0, 1.65 / 8.1], [0.0, -1.0]]), abs=1e-6)


def test_averages_of_the_spread_start_with_the_first_batch():
    learner = SacLearner(
        Line(), replace(TINY, distributional=True, tau=0.1), 0, Spaces(n_actions=1)
    )
    # critic 0: mean sigma 2, mean sigma^2 5; critic 1: 1 and 1
    bound, variance = learner._scales(torch.tensor([[1.0, 3.0], [1.0, 1.0]]))
    assert bound.tolist() == [[6.0], [3.0]]
    assert variance.tolist() == [[5.0], [1.0]]
    # then 90 % of that and 10 % of the next: sigma 4 and 1
    bound, variance = learner._scales(torch.tensor([[4.0, 4.0], [1.0, 1.0]]))
    assert bound.numpy() == pytest.approx(np.array([[6.6], [3.0]]))
    assert variance.numpy() == pytest.approx(np.array([[6.1], [1.0]]))


def one_batch(**others):
    rows = {
        "observation": [[0.0]], "privileged": [[0.0, 0.0]], "action": [[0.0]], "reward": [1.0], "terminated": [0.0],
        "next_observation": [[0.5]], "next_privileged": [[0.5, 0.25]], "discount": [0.9],
    }  # fmt: skip
    return Batch(**{name: torch.tensor(x) for name, x in (rows | others).items()})


def set_constant(net, *values):
    """A network with the same outputs everywhere."""
    with torch.no_grad():
        net.layers[-1].weight.zero_()
        net.layers[-1].bias.copy_(torch.tensor(values))


@pytest.mark.parametrize("config", [TINY, replace(TINY, distributional=True)])
def test_target_takes_the_critic_that_expects_less(config):
    learner = SacLearner(Line(), replace(config, initial_temperature=1e-9), 0, Spaces(n_actions=1))
    # sigma = softplus(-30) = 1e-13: the drawn return is the mean
    spread = [-30.0] if config.distributional else []
    set_constant(learner.targets[0], 7.0, *spread)
    set_constant(learner.targets[1], 5.0, *spread)
    target, drawn, _ = learner.target(one_batch())
    assert target.tolist() == pytest.approx([1.0 + 0.9 * 5.0])
    assert drawn.tolist() == pytest.approx([1.0 + 0.9 * 5.0])
    target, drawn, _ = learner.target(one_batch(terminated=[1.0]))
    assert (target.tolist(), drawn.tolist()) == ([1.0], [1.0])


def test_scaled_rewards():
    learner = SacLearner(Line(), replace(TINY, reward_scale=0.2, initial_temperature=1e-9), 0, Spaces(n_actions=1))  # fmt: skip
    for target in learner.targets:
        set_constant(target, 5.0)
    assert learner.target(one_batch())[0].tolist() == pytest.approx([0.2 * 1.0 + 0.9 * 5.0])


def test_critics_see_scaled_actions():
    learner, scaled = (
        SacLearner(Line(), replace(TINY, critic_action_scale=scale), 0, Spaces(n_actions=1))
        for scale in (1.0, 3.0)
    )
    q, action = torch.randn(8, 2), torch.rand(8, 1)
    large = learner._returns(learner.critics, q, 3.0 * action)[0]
    assert torch.equal(scaled._returns(learner.critics, q, action)[0], large)


def test_what_is_tried_goes_further_than_the_policy():
    """The replay has the actions as they were made."""
    sure = replace(TINY, initial_std=1e-3, exploration_std=1.0, exploration_chance=0.5)
    for config, spread in ((sure, 0.5), (replace(sure, exploration_std=0.0), 0.002)):
        learner = SacLearner(Line(), replace(config, warmup_steps=320), 0, Spaces(n_actions=1))
        action = learner.replay.sample(1000, torch.Generator().manual_seed(0)).action
        assert float(action.std()) == pytest.approx(spread, rel=0.6)
        # whose rows say so: reward, failure, end, exploring action after o, q, a
        explored = learner.replay.newest(10**6)[:, 1 + 2 + 1 + 3]
        assert 0.5 < explored.mean() < 1.0 if config.exploration_std else not explored.any()


def test_drawn_return_has_the_spread_of_the_chosen_critic():
    config = replace(TINY, distributional=True, initial_temperature=1e-9)
    learner = SacLearner(Line(), config, 0, Spaces(n_actions=1))
    # softplus(log(e^2 - 1)) = 2, of the one with the smaller mean
    set_constant(learner.targets[0], 7.0, 100.0)
    set_constant(learner.targets[1], 5.0, math.log(math.exp(2.0) - 1.0))
    rows = {name: x.repeat(20_000, *[1] * (x.ndim - 1)) for name, x in vars(one_batch()).items()}
    target, drawn, _ = learner.target(Batch(**rows))
    assert float(target.std()) < 1e-5
    assert float(drawn.mean()) == pytest.approx(5.5, abs=0.05)
    assert float(drawn.std()) == pytest.approx(0.9 * 2.0, rel=0.02)


def test_the_replay_holds_final_states_and_only_failures_end():
    line = Line(n_envs=4, limit=4, n_failing=2, start=100.0)
    learner = SacLearner(line, replace(TINY, n_envs=4, warmup_steps=16), 0, Spaces(n_actions=1))
    # an idle step, three steps to the end of all episodes, and one of the next ones
    o, q, action, _, terminated, ended, explored, next_o, next_q = np.split(
        learner.replay.newest(10**6), np.cumsum([1, 2, 1, 1, 1, 1, 1, 1]), axis=1
    )
    assert np.abs(o[:12]).max() < 2.0 < np.abs(o[12:]).min()
    assert terminated.ravel().tolist() == [0] * 8 + [1, 1, 0, 0] + [0] * 4
    assert ended.ravel().tolist() == [0] * 8 + [1] * 4 + [0] * 4
    assert not explored.any()
    # what follows is what the action led to, never the next episode
    assert next_o == pytest.approx(o + 0.2 * action, abs=1e-5)
    assert q == pytest.approx(np.hstack([o, o**2]))
    assert next_q == pytest.approx(np.hstack([next_o, next_o**2]))


@pytest.mark.parametrize("config", [SMALL, DISTRIBUTIONAL])
def test_learns_to_come_to_rest_at_zero(config):
    learner = SacLearner(Line(), config, 0, Spaces(n_actions=1))
    seen = [learner.update() for _ in range(config.updates)]
    x = np.array([[-0.8], [-0.2], [0.2], [0.8]], np.float32)
    action = learner.network()(x)[:, 0]
    assert np.all(np.sign(action) == -np.sign(x[:, 0]))
    assert np.mean([s.cost for s in seen[-3:]]) < seen[0].cost - 0.2
    assert seen[-1].temperature < 0.2
    assert learner.env_steps == (20 + 12 * 20) * 16  # 320 transitions to look around


def test_policy_file_network_is_the_mean_of_the_policy():
    learner = SacLearner(Line(), TINY, 0, Spaces(n_actions=1, first_action=0.3))
    assert learner.network()(np.zeros((1, 1), np.float32))[0, 0] == pytest.approx(0.3, abs=0.05)
    learner.update()
    x = np.linspace(-2.0, 2.0, 20, dtype=np.float32)[:, None]
    with torch.no_grad():
        mean, _ = learner.policy(learner.actor_normalizer(torch.from_numpy(x)))
    assert learner.network()(x) == pytest.approx(squash(mean).numpy(), abs=1e-6)


def test_critics_see_the_privileged_state_on_request():
    assert (
        SacLearner(Line(), TINY, 0, Spaces(n_actions=1)).critics[0].layers[0].in_features == 2 + 1
    )
    symmetric = SacLearner(Line(), replace(TINY, privileged=False), 0, Spaces(n_actions=1))
    assert symmetric.critics[0].layers[0].in_features == 1 + 1
    assert math.isfinite(symmetric.update().critic_loss)


def test_same_seed_same_policy():
    def trained(seed):
        learner = SacLearner(Line(), replace(TINY, distributional=True), seed, Spaces(n_actions=1))
        for _ in range(3):
            learner.update()
        return weights(learner)

    assert np.array_equal(trained(1), trained(1))
    assert not np.array_equal(trained(1), trained(2))


@pytest.mark.parametrize("with_replay", [True, False])
def test_goes_on_from_a_snapshot(with_replay):
    exploring = {"exploration_std": 0.5, "exploration_chance": 0.5}
    config = replace(TINY, distributional=True, warmup_steps=64, **exploring)
    learner = SacLearner(Line(), config, 0, Spaces(n_actions=1))
    learner.update()
    snapshot = learner.snapshot()
    if not with_replay:
        del snapshot["replay"]
    stored = {name: array.copy() for name, array in snapshot.items()}
    others = [SacLearner(Line(), config, seed, Spaces(n_actions=1)) for seed in (5, 6)]
    for other in others:
        other._seed = 0
        other.restore(snapshot)
        assert np.array_equal(weights(other), weights(learner))
        # 64 to begin with and 48 of an update; without them 64 new ones, flown by the policy
        assert other.replay.size == (112 if with_replay else 64)
        assert other.env_steps == 112 + (0 if with_replay else 64)
        assert other.updates_done == 1
        other.update()
    assert np.array_equal(weights(others[0]), weights(others[1]))
    assert all(np.array_equal(snapshot[name], array) for name, array in stored.items())


def test_snapshot_of_another_network():
    learner = SacLearner(Line(), TINY, 0, Spaces(n_actions=1))
    snapshot = SacLearner(Line(), replace(TINY, hidden=(8,)), 0, Spaces(n_actions=1)).snapshot()
    before = weights(learner)
    with pytest.raises(AlulaError, match="checkpoint does not fit: parameter_0"):
        learner.restore(snapshot)
    assert np.array_equal(weights(learner), before)


@pytest.mark.parametrize(
    ("name", "value"),
    [("tau", 0.0), ("gamma", 1.0), ("warmup_steps", 6000), ("replay_size", 15), ("target_entropy", 0.7), ("hidden", ())],
)  # fmt: skip
def test_settings_out_of_range(name, value):
    with pytest.raises(AlulaError, match=name):
        replace(SMALL, **{name: value})


def test_a_run_leaves_a_policy_that_flies_on_after_an_interrupt(tmp_path, monkeypatch):
    config = replace(TINY, n_envs=16, updates=4)
    preset = replace(get_preset("l2f-hover"), algo=config)
    real = SacLearner.update

    def interrupt(self):
        if self.updates_done == 2:
            monkeypatch.setattr(SacLearner, "update", real)
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(SacLearner, "update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(preset, out=tmp_path)
    result = train(preset, out=tmp_path, resume=tmp_path)
    assert (result.updates, len(result.history)) == (4, 4)
    assert result.env_steps == (1 + 4 * 3) * 16
    network = load_policy(result.policy_path).network
    assert all(
        np.array_equal(a, b) for a, b in zip(network.weights, result.network.weights, strict=True)
    )


@pytest.mark.parametrize("warmup", [0, 1])
def test_the_policy_learns_in_every_third_step_alone_after_the_critics(warmup):
    config = replace(TINY, policy_delay=3, gradient_steps=2, critic_warmup=warmup)
    learner = SacLearner(Line(), config, 0, Spaces(n_actions=1))
    moved = []
    steps = learner._learn

    def learn(*, policy: bool):
        watched = learner._actor_parameters[0], learner._critic_parameters[0], learner.log_temperature  # fmt: skip
        old = [x.detach().clone() for x in watched]
        seen = steps(policy=policy)
        moved.append([not torch.equal(x, y) for x, y in zip(watched, old, strict=True)])
        return seen

    learner._learn = learn
    # actor, critic, temperature: 3 steps of the environments with 2 of the optimisers each
    turn, others = [True, True, True], [False, True, False]
    if warmup:
        assert math.isfinite(learner.update().entropy)
        assert moved == 6 * [others]
        moved.clear()
    learner.update()
    assert moved == 2 * [turn, others, others]


def test_the_policys_learning_rate_falls_to_zero():
    config = replace(TINY, rate_falls=True, updates=4, learning_rate=0.1, critic_learning_rate=0.2)
    learner, rates = SacLearner(Line(), config, 0, Spaces(n_actions=1)), []
    for _ in range(4):
        learner.update()
        rates += [group["lr"] for group in learner._adam.param_groups]
    assert rates == pytest.approx([0.1, 0.2, 0.075, 0.2, 0.05, 0.2, 0.025, 0.2])


def test_normalised_critics_say_the_same_of_what_is_twice_as_large():
    learner = SacLearner(Line(), replace(TINY, critic_norm=True), 0, Spaces(n_actions=1))
    critic = learner.critics[0]
    x = torch.tensor([[0.3, 0.2, -0.7]])
    # (W x) / std(W x) does not change with the size of x; biases are zero at the start
    assert critic(x).item() == pytest.approx(critic(2.0 * x).item(), rel=1e-3)
    layer = critic.layers[0]
    h = layer.weight.detach().numpy() @ x[0].numpy()
    second = (h - h.mean()) / np.sqrt(h.var() + 1e-5)
    second = critic.layers[1].weight.detach().numpy() @ np.maximum(second, 0.0)
    last = (second - second.mean()) / np.sqrt(second.var() + 1e-5)
    out = critic.layers[2].weight.detach().numpy() @ np.maximum(last, 0.0)
    assert critic(x).item() == pytest.approx(out[0], rel=1e-4)


def test_a_correction_starts_from_its_base():
    # squash(0.3 x) by relu(x) and relu(-x)
    random = torch.Generator().manual_seed(0)
    mlp, normalizer = Mlp((1, 16, 1), random, last=0.0), Normalizer(1, 5.0)
    with torch.no_grad():
        mlp.layers[0].weight[:2, 0] = torch.tensor([1.0, -1.0])
        mlp.layers[1].weight[0, :2] = torch.tensor([0.3, -0.3])
    base = policy_network(mlp, normalizer)
    learner = SacLearner(Line(), replace(SMALL, hidden=(16,)), 0, Spaces(n_actions=1), base=base)
    x = np.array([[-0.8], [0.8]], np.float32)
    assert learner.network()(x) == pytest.approx(base(x), abs=0.05)
    # what corrects much costs much
    moved = []
    for weight in (0.0, 1e4):
        config = replace(SMALL, hidden=(16,), correction_weight=weight)
        learner = SacLearner(Line(), config, 0, Spaces(n_actions=1), base=base)
        for _ in range(8):
            learner.update()
        moved.append(np.abs(learner.network()(x) - base(x)).max())
    assert moved[0] > 0.2
    assert moved[1] < 0.02
