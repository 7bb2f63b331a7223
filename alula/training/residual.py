"""Residual learning: a correction on top of a frozen controller, each step (arXiv 2407.16677, 2509.19301).

The controller is a network; one that was written by hand is cloned into a network first. Both sums are made before the
squash::

    a = squash(z_base(o) + z_correction(o)),  squash(z) = z / sqrt(1 + z^2)

so that base and correction together are again one dense network, and the policy file needs nothing new.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from alula.errors import AlulaError
from alula.policies.network import Network
from alula.sim.protocol import Simulator
from alula.training.layers import Mlp, Normalizer, policy_network, squash

Controller = Callable[[np.ndarray], np.ndarray]
"""Observations [N, O] to actions [N, A] in [-1, 1]."""
EDGE = 0.98
"""Cloned actions are kept this far within (-1, 1), where the squash still has a slope."""


class Corrected:
    """A frozen base and what is learned on top of it; called like an Mlp."""

    def __init__(self, base: Network, correction: Mlp) -> None:
        """`correction` has the hidden layers of the base, and its outputs; further ones of it are its own.

        Its hidden layers begin as the base's: they tell apart what matters for the base, and so what is near it.
        """
        hidden, own = (
            [len(bias) for bias in biases[:-1]]
            for biases in (base.biases, [layer.bias for layer in correction.layers])
        )
        if base.gru is not None or hidden != own:
            raise AlulaError(f"the base has hidden layers of {hidden}; allowed: {own}, no GRU")
        for layer, w, b in zip(correction.layers[:-1], base.weights, base.biases, strict=False):
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(w.T.copy()))
                layer.bias.copy_(torch.from_numpy(b.copy()))
        self.correction = correction
        like = correction.layers[0].weight.device
        self._weights = [torch.from_numpy(w.T.copy()).to(like) for w in base.weights]
        self._biases = [torch.from_numpy(b.copy()).to(like) for b in base.biases]

    def parameters(self) -> list[Tensor]:
        """Those of the correction."""
        return self.correction.parameters()

    def frozen(self) -> dict[str, Tensor]:
        """Those of the base, by name. A clone is another one on another computer, and no correction fits it."""
        base = enumerate([*self._weights, *self._biases])
        return {f"base_{i}": x for i, x in base}

    def base(self, x: Tensor) -> Tensor:
        """The base's outputs [..., A] of normalised observations [..., O]."""
        for weight, bias in zip(self._weights[:-1], self._biases[:-1], strict=True):
            x = torch.relu(nn.functional.linear(x, weight, bias))
        return nn.functional.linear(x, self._weights[-1], self._biases[-1])

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs [..., M] of normalised observations [..., O]."""
        z, out = self.base(x), self.correction(x)
        return torch.cat((out[..., : z.shape[-1]] + z, out[..., z.shape[-1] :]), -1)

    def dense(self) -> list[tuple[Tensor, Tensor]]:
        """Weight [M, N] and bias [M] of each layer of the one network that both are.

        The hidden layers stand side by side::

            W_1 = [B_1; C_1],  W_k = diag(B_k, C_k),  W_n = [B_n, C_n],  b_n = beta_n + gamma_n
        """
        own, last, out = self.correction.dense(), len(self._weights) - 1, []
        for k, (b, beta) in enumerate(zip(self._weights, self._biases, strict=True)):
            c, gamma = own[k]
            if k < last:
                # Both read the same observation, and then each its own.
                weight = torch.cat((b, c)) if k == 0 else torch.block_diag(b, c)
                out.append((weight, torch.cat((beta, gamma))))
                continue
            more = len(c) - len(b)
            b, beta = nn.functional.pad(b, (0, 0, 0, more)), nn.functional.pad(beta, (0, more))
            out.append((b + c if k == 0 else torch.cat((b, c), 1), beta + gamma))
        return out


@dataclass(frozen=True, kw_only=True)
class Clone:
    """A network that imitates a controller."""

    network: Network
    """What it does."""
    error: float
    """Root mean square of the difference in the last round, before that was learned from [-]."""


def clone(
    controller: Controller,
    simulator: Simulator,
    *,
    hidden: tuple[int, ...],
    seed: int = 0,
    rounds: int = 8,
    steps: int = 100,
    updates: int = 500,
    batch_size: int = 256,
) -> Clone:
    """Imitate a controller where the imitation leads (DAgger: Ross et al. 2011, arXiv 1011.0686).

    In the first round the controller acts, in each later one the network so far; the controller says in each state what
    it would have done, and the network learns from all rounds.

    Args:
        controller: what to imitate, on the actor's observations.
        simulator: where; its environments restart by themselves.
        hidden: widths of the hidden layers.
        seed: seeds network and environments.
        rounds: how often to fly and learn.
        steps: of each environment in a round.
        updates: steps of the optimiser in a round.
        batch_size: samples of a step, drawn from all rounds so far.
    """
    random = torch.Generator().manual_seed(seed)
    observation = simulator.reset(seed)
    first = controller(observation)
    sizes = (observation.shape[1], *hidden, first.shape[1])
    mlp, normalizer = Mlp(sizes, random, last=0.01), Normalizer(observation.shape[1], 10.0)
    adam = torch.optim.Adam(mlp.parameters(), 1e-3, fused=True)
    seen: list[Tensor] = []
    wanted: list[Tensor] = []
    error = np.inf
    for n in range(rounds):
        network, difference = policy_network(mlp, normalizer), []
        for _ in range(steps):
            target = np.clip(controller(observation), -EDGE, EDGE).astype(np.float32)
            own = network(observation)
            difference.append(np.square(own - target).mean())
            seen.append(torch.from_numpy(observation.copy()))
            wanted.append(torch.from_numpy(target))
            observation = simulator.step(own if n else target).observation
        error = float(np.sqrt(np.mean(difference)))
        normalizer.update(torch.cat(seen[-steps:]))
        x, action = normalizer(torch.cat(seen)), torch.cat(wanted)
        for _ in range(updates):
            part = torch.randint(len(x), (batch_size,), generator=random)
            # L = mean (squash(z(o)) - a)^2
            loss = (squash(mlp(x[part])) - action[part]).square().mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
    return Clone(network=policy_network(mlp, normalizer), error=error)
