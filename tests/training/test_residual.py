"""Residual learning: the sum of base and correction is one network, and a clone does what it has seen."""

import re
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from alula.errors import AlulaError  # noqa: E402
from alula.sim.protocol import Transition  # noqa: E402
from alula.training.config import PpoConfig, SacConfig  # noqa: E402
from alula.training.layers import Mlp, Normalizer, policy_network, squash  # noqa: E402
from alula.training.learner import Spaces  # noqa: E402
from alula.training.ppo import PpoLearner  # noqa: E402
from alula.training.residual import Corrected, clone  # noqa: E402
from alula.training.sac import SacLearner  # noqa: E402


def made(sizes, seed, last=1.0):
    return Mlp(sizes, torch.Generator().manual_seed(seed), last=last, bias=0.1)


@pytest.mark.parametrize("hidden", [(), (7,), (7, 6)])
@pytest.mark.parametrize("more", [0, 3])
def test_base_and_correction_are_one_network(hidden, more):
    normalizer = Normalizer(5, 2.0)
    normalizer.update(3.0 + 2.0 * torch.randn((50, 5), generator=torch.Generator().manual_seed(0)))
    base = made((5, *hidden, 3), 1)
    correction = made((5, *hidden, 3 + more), 2)
    both = Corrected(policy_network(base, normalizer), correction)
    # it begins with the base's hidden layers
    for layer, like in zip(correction.layers[:-1], base.layers, strict=False):
        assert torch.equal(layer.weight, like.weight)
        assert torch.equal(layer.bias, like.bias)
        torch.nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(4))
    x = 3.0 + 4.0 * torch.randn((20, 5), generator=torch.Generator().manual_seed(3))
    n = normalizer(x)
    expected = correction(n).detach()
    expected[:, :3] += base(n).detach()
    assert both(n).detach().numpy() == pytest.approx(expected.numpy(), abs=1e-5)
    network = policy_network(both, normalizer)
    assert network(x.numpy()) == pytest.approx(squash(expected).numpy(), abs=1e-5)
    assert len(network.weights) == len(hidden) + 1


def test_only_the_correction_learns():
    normalizer = Normalizer(5, 2.0)
    both = Corrected(policy_network(made((5, 4, 3), 1), normalizer), made((5, 4, 3), 2))
    assert [tuple(p.shape) for p in both.parameters()] == [(4, 5), (4,), (3, 4), (3,)]


def test_layers_must_match():
    base = policy_network(made((5, 4, 4, 3), 1), Normalizer(5, 2.0))
    with pytest.raises(AlulaError, match=re.escape("layers of [4, 4]; allowed: [4], no GRU")):
        Corrected(base, made((5, 4, 3), 2))


class Line:
    """A point on a line that actions push away from zero at 2 a step; it starts anew after 30 steps."""

    n_envs = 8

    def reset(self, seed):
        self._rng = np.random.default_rng(seed)
        self._x = self._rng.uniform(-1.0, 1.0, (self.n_envs, 1)).astype(np.float32)
        self._t = 0
        return self._x.copy()

    def step(self, action):
        self._t += 1
        # Unstable: who only ever saw the controller's own states drifts away.
        self._x = 1.2 * self._x + 0.5 * action
        if self._t % 30 == 0:
            self._x = self._rng.uniform(-1.0, 1.0, self._x.shape).astype(np.float32)
        x, none = self._x.copy(), np.zeros(self.n_envs, bool)
        return Transition(
            observation=x, privileged=x, reward=x[:, 0], terminated=none, truncated=none,
            final_observation=x, final_privileged=x,
        )  # fmt: skip


def test_a_clone_does_the_same():
    controller = lambda x: -0.8 * x  # noqa: E731
    cloned = clone(controller, Line(), hidden=(32,), rounds=3, steps=60)
    x = np.linspace(-1.0, 1.0, 21, dtype=np.float32)[:, None]
    assert cloned.network(x) == pytest.approx(controller(x), abs=0.1)
    assert cloned.error < 0.1


@pytest.mark.parametrize("learner", [PpoLearner, SacLearner])
def test_a_run_goes_on_with_the_base_it_began_with(learner):
    def made_on(base: Mlp):
        algo = PpoConfig if learner is PpoLearner else partial(SacConfig, warmup_steps=16)
        config = algo(n_envs=8, updates=5, hidden=(4,), critic_hidden=(4,))
        return learner(Line(), config, 0, Spaces(n_actions=1), base=policy_network(base, Normalizer(1, 5.0)))  # fmt: skip

    first, second = (made_on(made((1, 4, 1), seed)) for seed in (1, 2))
    x = np.linspace(-1.0, 1.0, 21, dtype=np.float32)[:, None]
    assert np.abs(second.network()(x) - first.network()(x)).max() > 0.1
    second.restore(first.snapshot())
    np.testing.assert_array_equal(second.network()(x), first.network()(x))
