"""What the learners in torch share: dense networks, running normalisers, and their way into a policy file."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from alula.policies.network import Network
from alula.training.config import PpoConfig, SacConfig
from alula.training.learner import Spaces


class Workers(Protocol):
    """The processes that learn together, as one of them sees them (see `training/distributed.py`)."""

    rank: int
    """Which of them this is."""
    count: int
    """How many there are."""

    def average(self, x: Tensor) -> Tensor:
        """The mean of a tensor over all of them."""
        ...


class Alone:
    """One process that learns by itself."""

    rank, count = 0, 1

    def average(self, x: Tensor) -> Tensor:
        """The tensor itself."""
        return x


ALONE = Alone()
LEAST_STD = 1e-2
"""A smaller spread is taken for this one: what has not moved yet must not be blown up."""


def squash(z: Tensor) -> Tensor:
    """The bounded output of every policy: z / sqrt(1 + z^2)."""
    return z * torch.rsqrt(1.0 + z * z)


def unsquash(a: float) -> float:
    """The number in front of the squash that becomes an action in (-1, 1)."""
    return a / math.sqrt(1.0 - a * a)


class Mlp:
    """Dense ReLU layers; the last one is linear."""

    def __init__(
        self,
        sizes: tuple[int, ...],
        random: torch.Generator,
        *,
        last: float,
        bias: float = 0.0,
        normalized: bool = False,
    ) -> None:
        """Orthogonal weights (Saxe et al. 2014, arXiv 1312.6120), those of the last layer scaled by `last`; with
        `normalized` what enters each ReLU has mean 0 and variance 1 over the layer (Ba et al. 2016, arXiv 1607.06450).
        """
        self._normalized = normalized
        self.layers = [nn.Linear(n, m, device=random.device) for n, m in pairwise(sizes)]
        for layer in self.layers:
            final = layer is self.layers[-1]
            nn.init.orthogonal_(layer.weight, last if final else math.sqrt(2.0), generator=random)
            nn.init.constant_(layer.bias, bias if final else 0.0)

    def parameters(self) -> list[Tensor]:
        """Weight and bias of each layer in turn."""
        return [p for layer in self.layers for p in (layer.weight, layer.bias)]

    def frozen(self) -> dict[str, Tensor]:
        """Tensors that belong to it and do not learn, by name: none."""
        return {}

    def dense(self) -> list[tuple[Tensor, Tensor]]:
        """Weight [M, N] and bias [M] of each layer."""
        return [(layer.weight.detach(), layer.bias.detach()) for layer in self.layers]

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs [..., M] of inputs [..., N]."""
        # Calling the layers would do the same, but slower where they are small.
        for layer in self.layers[:-1]:
            x = nn.functional.linear(x, layer.weight, layer.bias)
            if self._normalized:
                x = nn.functional.layer_norm(x, x.shape[-1:])
            x = torch.relu(x)
        return nn.functional.linear(x, self.layers[-1].weight, self.layers[-1].bias)


class Normalizer:
    """Running mean and spread of vectors, and what they make of one; columns of known size are left at that."""

    def __init__(
        self, size: int, clip: float, scale: Sequence[float] = (), device: str = "cpu"
    ) -> None:
        """`scale` is the reciprocal size of the first columns, where it is known."""
        self.mean, self.variance = torch.zeros(size, device=device), torch.ones(size, device=device)
        self.variance[: len(scale)] = torch.tensor(scale, device=device) ** -2.0
        self.weight = torch.ones(size, device=device)
        """How much each column speaks beside the others."""
        self.count = torch.zeros((), dtype=torch.float64)
        self.clip, self._known = clip, len(scale)

    @classmethod
    def frozen(cls, mean: np.ndarray, scale: np.ndarray, clip: float, device: str) -> "Normalizer":
        """One that stays as it is."""
        made = cls(len(mean), clip, scale.tolist(), device)
        made.mean.copy_(torch.from_numpy(mean))
        return made

    @classmethod
    def of_actor(
        cls,
        size: int,
        config: PpoConfig | SacConfig,
        spaces: Spaces,
        base: Network | None,
        device: str,
    ) -> "Normalizer":
        """That of an actor's observations, the base's own if there is one."""
        if base is not None:
            return cls.frozen(base.mean, base.scale, base.clip, device)
        made = cls(size, config.observation_clip, spaces.scale, device)
        # The history's many noisy inputs speak together; at full weight they drown the rest.
        made.weight[size - spaces.past_actions :] = config.history_weight
        return made

    @classmethod
    def of_critic(
        cls, size: int, config: PpoConfig | SacConfig, spaces: Spaces, device: str
    ) -> "Normalizer":
        """That of what critics see, privileged or not."""
        made = cls(size, config.observation_clip, device=device)
        if config.privileged:
            # At full weight many columns that stay through an episode are its name, and its return is learned by heart.
            made.weight[size - spaces.parameters :] = config.parameter_weight
        return made

    @property
    def std(self) -> Tensor:
        """Spread [size], at least LEAST_STD."""
        return self.variance.sqrt().clamp(min=LEAST_STD)

    @property
    def scale(self) -> Tensor:
        """Factor of each column [size]."""
        return self.weight / self.std

    def __call__(self, x: Tensor) -> Tensor:
        """(x - mean) * scale, limited to `clip` [..., size]."""
        return ((x - self.mean) * self.scale).clamp(-self.clip, self.clip)

    def update(self, x: Tensor, workers: Workers = ALONE) -> None:
        """Take in vectors [N, size] of each worker (Chan et al. 1979, parallel mean and variance)."""
        if self._known == len(self.mean):
            return
        x = x[:, self._known :]
        mean, variance = self.mean[self._known :], self.variance[self._known :]
        own, spread = x.mean(0), x.var(0, correction=0)
        new = workers.average(own)
        if workers.count > 1:
            # v_b = mean over workers of v_w + (m_w - m_b)^2, as all have equally many
            spread = workers.average(spread + (own - new) ** 2)
        self.count += len(x) * workers.count
        share = len(x) * workers.count / float(self.count)
        delta = new - mean
        # v = (1 - s) v_a + s v_b + s (1 - s) delta^2,  s = n_b / (n_a + n_b)
        variance += share * (spread - variance) + share * (1.0 - share) * delta**2
        mean += share * delta

    def live(self) -> dict[str, Tensor]:
        """What changes in training."""
        return {"mean": self.mean, "variance": self.variance, "count": self.count}


def standardized(x: Tensor, workers: Workers) -> Tensor:
    """(x - mean) / std, both over the tensors of all workers."""
    mean = workers.average(x.mean())
    total = x.numel() * workers.count
    variance = workers.average((x - mean).square().mean()) * total / max(total - 1, 1)
    return (x - mean) / (variance.sqrt() + 1e-8)


def average_gradients(parameters: Sequence[Tensor], workers: Workers) -> None:
    """Replace every gradient by its mean over all workers, in one message."""
    if workers.count == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = workers.average(torch.cat([g.flatten() for g in gradients]))
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


class Actor(Protocol):
    """What a policy is made of: dense layers, however they came about."""

    def dense(self) -> list[tuple[Tensor, Tensor]]:
        """Weight [M, N] and bias [M] of each layer."""
        ...


def policy_network(actor: Actor, normalizer: Normalizer, rows: slice = slice(None)) -> Network:
    """The policy that acts by the squashed outputs (of these rows) of an actor on normalised observations."""
    layers = [(weight.cpu().numpy().T, bias.cpu().numpy()) for weight, bias in actor.dense()]
    weights, biases = [w for w, _ in layers], [b for _, b in layers]
    weights[-1], biases[-1] = weights[-1][:, rows], biases[-1][rows]
    return Network(
        mean=normalizer.mean.cpu().numpy().copy(),
        scale=normalizer.scale.cpu().numpy(),
        clip=normalizer.clip,
        weights=tuple(np.array(w, np.float32, order="C") for w in weights),
        biases=tuple(np.array(b, np.float32) for b in biases),
    )


def adam_state(adam: torch.optim.Adam, parameters: Sequence[Tensor]) -> dict[str, Tensor]:
    """Every parameter and what Adam keeps of it, by name; not copies."""
    live: dict[str, Tensor] = {}
    for i, parameter in enumerate(parameters):
        live[f"parameter_{i}"] = parameter
        state = adam.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state |= {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
        live |= {f"{key}_{i}": state[key] for key in ("step", "exp_avg", "exp_avg_sq")}
    return live
