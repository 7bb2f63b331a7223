"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347), asymmetric, on any simulator.

The actor sees what the robot sees, the critic what only the simulator knows. One update flies T steps of N
environments and makes a few passes over them::

    A_t      = sum_k (gamma lambda)^k delta_(t+k),  delta_t = r_t + gamma V(s_(t+1)) - V(s_t)
    L_policy = -mean min(rho A, clip(rho, 1 - c, 1 + c) A),  rho = pi(a|o) / pi_old(a|o)
    L_value  = mean (V - (A + V_old))^2 / 2

A failure is worth nothing after its end, a time-out is worth the value of its final state.
"""

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from alula.policies.network import Network
from alula.sim.protocol import AssistedSimulator, Simulator
from alula.training.config import PpoConfig
from alula.training.environments import Environments
from alula.training.layers import (
    ALONE,
    Mlp,
    Normalizer,
    Workers,
    adam_state,
    average_gradients,
    policy_network,
    squash,
    standardized,
    unsquash,
)
from alula.training.learner import Spaces, check_fits
from alula.training.residual import Corrected
from alula.training.rollout import Rollout

LOG_ROOT_TWO_PI = 0.5 * math.log(2.0 * math.pi)
RATE_FACTOR = 1.5
"""Step of the adaptive learning rate."""


@dataclass(frozen=True, kw_only=True)
class PpoStatistics:
    """What one update saw."""

    cost: float
    """Mean negative reward per step [-]."""
    failed: float
    """Failures per step [-]."""
    value_loss: float
    """Half the mean squared error of the value in units of its spread [-]."""
    kl: float
    """Divergence of the new policy from the old one [nat]."""
    std: float
    """Mean standard deviation of the actions [-]."""
    learning_rate: float
    """Learning rate after the update."""

    @property
    def note(self) -> str:
        """What a progress bar shows beside the cost."""
        return f"{100.0 * self.failed:.2f} % of the steps fail"


def generalized_advantage(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    ended: Tensor,
    gamma: float,
    lambda_: float,
) -> Tensor:
    """Advantages [T, N] (Schulman et al. 2016, arXiv 1506.02438); arguments [T, N].

    `next_value` is that of the state a step led to, at the end of an episode its final one.
    """
    # delta_t = r_t + gamma (1 - terminated_t) V(s_(t+1)) - V(s_t)
    delta = reward + gamma * (1.0 - terminated) * next_value - value
    advantage = torch.empty_like(delta)
    following = torch.zeros_like(delta[0])
    for t in range(len(delta) - 1, -1, -1):
        # A_t = delta_t + gamma lambda (1 - ended_t) A_(t+1)
        following = delta[t] + gamma * lambda_ * (1.0 - ended[t]) * following
        advantage[t] = following
    return advantage


def log_likelihood(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Of actions [..., A] under independent normal distributions [...]."""
    # log N(a; m, s) = -((a - m) / s)^2 / 2 - log s - log sqrt(2 pi)
    z = (action - mean) * torch.exp(-log_std)
    return (-0.5 * z * z - log_std - LOG_ROOT_TWO_PI).sum(-1)


def clipped_surrogate(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """The policy's loss for likelihood ratios and advantages of the same shape."""
    limited = ratio.clamp(1.0 - clip, 1.0 + clip)
    return -torch.minimum(ratio * advantage, limited * advantage).mean()


class PpoLearner:
    """Actor, critic, normalisers, optimiser and the environments they learn from."""

    statistics = PpoStatistics

    def __init__(
        self,
        simulator: Simulator,
        config: PpoConfig,
        seed: int,
        spaces: Spaces,
        *,
        base: Network | None = None,
        device: str = "cpu",
        workers: Workers = ALONE,
    ) -> None:
        """Start all environments.

        Args:
            simulator: N environments with auto-reset; they may take and hand out tensors on `device`.
            config: settings.
            seed: seeds networks, actions and environments.
            spaces: what is known of actions and observations.
            base: frozen policy that the actor corrects (see `training/residual.py`); its normaliser serves both.
            device: where networks and rollouts lie.
            workers: those that learn the same from environments of their own.
        """
        self.config, self.simulator, self.workers = config, simulator, workers
        self.updates_done = self.env_steps = 0
        self._seed, self._n_actions, self.device = seed, spaces.n_actions, device
        acting = self._n_acting = spaces.n_actions + spaces.assisting_actions
        self._random = torch.Generator(device).manual_seed(seed)
        self._environments = Environments(
            simulator, spaces, privileged=config.privileged, device=device
        )
        self._assist()
        self._now = self._environments.begin(self._own_seed())
        o, q = self._now.observation.shape[1], self._now.privileged.shape[1]
        bias = 0.0 if base else unsquash(spaces.first_action)
        actor = Mlp((o, *config.hidden, acting), self._random, last=0.01, bias=bias)
        self.actor = Corrected(base, actor) if base else actor
        self.critic = Mlp((q, *config.critic_hidden, 1), self._random, last=1.0)
        log_std = math.log(config.initial_std)
        self.log_std = torch.full((acting,), log_std, device=device, requires_grad=True)
        self._parameters = [*self.actor.parameters(), *self.critic.parameters(), self.log_std]
        self.learning_rate = config.learning_rate
        self._adam = torch.optim.Adam(self._parameters, self.learning_rate, eps=1e-5, fused=True)
        self.actor_normalizer = Normalizer.of_actor(o, config, spaces, base, device)
        self.critic_normalizer = Normalizer.of_critic(q, config, spaces, device)
        self.value_normalizer = Normalizer(1, math.inf, device=device)
        self._draw_apart()
        # A look around, so that the first rollout is seen in the right proportions.
        self._take_in(self.collect())

    def _own_seed(self) -> int:
        """Another one for each worker and update; seeds of trainings are below 2^32."""
        return self._seed + self.updates_done + (self.workers.rank << 40)

    def _draw_apart(self) -> None:
        """Other actions than worker 0's; torch takes 32 bits of a seed, so it is hashed."""
        if self.workers.rank:
            hashed = np.random.SeedSequence(self._own_seed()).generate_state(1)
            self._random.manual_seed(int(hashed[0]))

    def _assist(self) -> None:
        """Less help from update to update, and in the end none."""
        # Without help, actions that only help would be nothing but noise in the gradients.
        self._acting = self._n_actions
        if self._n_acting > self._n_actions:
            helped = self.config.assisted * self.config.updates
            assistance = max(0.0, 1.0 - self.updates_done / helped) if helped else 0.0
            cast(AssistedSimulator, self.simulator).assistance = assistance
            self._acting = self._n_acting if assistance else self._n_actions

    @property
    def settled(self) -> bool:
        """As `Learner.settled`: with help everything costs less."""
        return self._acting == self._n_actions

    def _take_in(self, rollout: Rollout) -> None:
        self.actor_normalizer.update(rollout.observation.flatten(0, 1), self.workers)
        self.critic_normalizer.update(rollout.privileged.flatten(0, 1), self.workers)

    @torch.no_grad()
    def collect(self) -> Rollout:
        """Fly `rollout_steps` steps with the present policy."""
        steps, log_std = self.config.rollout_steps, self.log_std.detach()
        rows: list[tuple[Tensor, ...]] = []
        for _ in range(steps):
            seen = self._now
            mean = squash(self.actor(self.actor_normalizer(seen.observation)))
            noise = torch.randn(mean.shape, generator=self._random, device=self.device)
            action = mean + log_std.exp() * noise
            moved = self._environments.step(action.clamp(-1.0, 1.0))
            outcome = (moved.reward, moved.terminated, moved.ended, moved.final.privileged)
            rows.append((seen.observation, action, mean, seen.privileged, *outcome))
            self._now = moved.now
        self.env_steps += steps * self.simulator.n_envs * self.workers.count
        o, action, mean, q, reward, terminated, ended, final = (
            torch.stack(column) for column in zip(*rows, strict=True)
        )
        action = action[..., : self._acting]
        value = self.value(q)
        # A step leads to the next row's state, at the end of an episode to its final one.
        apart = ended.clone()
        apart[-1] = True
        next_value = value.roll(-1, 0)
        next_value[apart] = self.value(final[apart])
        return Rollout(
            observation=o,
            action=action,
            log_likelihood=self._likelihood(action, mean),
            privileged=q,
            reward=reward.float(),
            terminated=terminated.float(),
            ended=ended.float(),
            value=value,
            next_value=next_value,
        )

    def _likelihood(self, action: Tensor, mean: Tensor) -> Tensor:
        """Of actions that do something [..., _acting], by what the actor makes of all [..., _n_acting]."""
        n = self._acting
        return log_likelihood(action, mean[..., :n], self.log_std[:n])

    def value(self, seen: Tensor) -> Tensor:
        """Values [...] of what the critic sees [..., Q]."""
        v = self.critic(self.critic_normalizer(seen)).squeeze(-1)
        return v * self.value_normalizer.std + self.value_normalizer.mean

    def update(self) -> PpoStatistics:
        """One rollout and the passes over it."""
        self._assist()
        c, rollout = self.config, self.collect()
        advantage = generalized_advantage(
            rollout.reward, rollout.value, rollout.next_value, rollout.terminated, rollout.ended,
            c.gamma, c.gae_lambda,
        )  # fmt: skip
        target = advantage + rollout.value
        self.value_normalizer.update(target.reshape(-1, 1), self.workers)
        batch = (
            self.actor_normalizer(rollout.observation),
            rollout.action,
            rollout.log_likelihood,
            self.critic_normalizer(rollout.privileged),
            standardized(advantage, self.workers),
            (target - self.value_normalizer.mean) / self.value_normalizer.std,
        )
        value_loss, kl = self._learn([x.flatten(0, 1) for x in batch])
        self._take_in(rollout)
        self.updates_done += 1
        seen = torch.stack([rollout.reward.mean(), rollout.terminated.mean()])
        reward, failed = self.workers.average(seen).tolist()
        return PpoStatistics(
            cost=-reward,
            failed=failed,
            value_loss=value_loss,
            kl=kl,
            std=float(self.log_std[: self._acting].detach().exp().mean()),
            learning_rate=self.learning_rate,
        )

    def _learn(self, batch: list[Tensor]) -> tuple[float, float]:
        """Passes over the samples of a rollout; mean value loss and divergence of the last pass."""
        c, size = self.config, len(batch[0])
        found = torch.zeros(2, device=self.device)
        for _ in range(c.epochs):
            order = torch.randperm(size, generator=self._random, device=self.device)
            parts = [self._descend(*(x[p] for x in batch)) for p in order.chunk(c.minibatches)]
            found = self.workers.average(torch.stack(parts).mean(0))
            self._adapt(float(found[1]))
        return float(found[0]), float(found[1])

    def _descend(
        self, o: Tensor, action: Tensor, old: Tensor, q: Tensor, advantage: Tensor, target: Tensor
    ) -> Tensor:
        """One step of the optimiser; value loss and divergence of this minibatch [2]."""
        c = self.config
        mean = squash(self.actor(o))
        log_ratio = self._likelihood(action, mean) - old
        ratio = log_ratio.exp()
        policy_loss = clipped_surrogate(ratio, advantage, c.clip)
        value_loss = 0.5 * (self.critic(q).squeeze(-1) - target).square().mean()
        # entropy of a normal distribution: log std + log sqrt(2 pi e); worth less and less, for who explores is not exact
        entropy = self.log_std[: self._acting].sum()
        weight = c.entropy_weight * max(0.0, 1.0 - self.updates_done / c.updates)
        loss = policy_loss + c.value_weight * value_loss - weight * entropy
        self._adam.zero_grad()
        loss.backward()
        average_gradients(self._parameters, self.workers)
        torch.nn.utils.clip_grad_norm_(self._parameters, c.max_grad_norm)
        self._adam.step()
        # KL(old | new) = E[rho - 1 - log rho], never negative (Schulman 2020)
        kl = (ratio.detach() - 1.0 - log_ratio.detach()).mean()
        return torch.stack([value_loss.detach(), kl])

    def _adapt(self, kl: float) -> None:
        """Slower where the policy moves too far in a pass, faster where it hardly moves."""
        c, rate = self.config, self.learning_rate
        if c.target_kl <= 0.0:
            rate = c.learning_rate * (1.0 - self.updates_done / c.updates)
        elif kl > 2.0 * c.target_kl:
            rate = max(rate / RATE_FACTOR, 1e-5)
        elif kl < 0.5 * c.target_kl:
            rate = min(rate * RATE_FACTOR, c.learning_rate)
        self._set_rate(rate)

    def _set_rate(self, rate: float) -> None:
        self.learning_rate = self._adam.param_groups[0]["lr"] = rate

    @property
    def diverged(self) -> int:
        """As `Learner.diverged`; only simulators of arms count them."""
        return getattr(self.simulator, "diverged", 0)

    def network(self) -> Network:
        """The actor as it is now."""
        return policy_network(self.actor, self.actor_normalizer, slice(0, self._n_actions))

    def snapshot(self) -> dict[str, np.ndarray]:
        """Everything a run needs to go on but the episodes, which begin anew."""
        counts = np.array([self.updates_done, self.env_steps], np.int64)
        return {name: x.detach().cpu().numpy().copy() for name, x in self._live().items()} | {
            "counts": counts,
            "learning_rate": np.array(self.learning_rate),
            "random": self._random.get_state().numpy(),
        }

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Go on from a snapshot, with new episodes.

        Raises:
            AlulaError: an array is missing or has another shape or type.
        """
        live = self._live()
        own = {name: x.detach().cpu().numpy() for name, x in live.items()}
        own |= {"counts": np.zeros(2, np.int64), "learning_rate": np.zeros(())}
        own |= {"random": self._random.get_state().numpy()}
        check_fits(own, snapshot)
        for name, x in live.items():
            x.detach().copy_(torch.from_numpy(snapshot[name]))
        self.updates_done, self.env_steps = (int(n) for n in snapshot["counts"])
        self._set_rate(float(snapshot["learning_rate"]))
        self._random.set_state(torch.from_numpy(snapshot["random"]))
        self._draw_apart()
        self._assist()
        self._now = self._environments.begin(self._own_seed())

    def _live(self) -> dict[str, Tensor]:
        """Every tensor that changes in training, and a base, by name; views, not copies."""
        live = adam_state(self._adam, self._parameters) | self.actor.frozen()
        for name in ("actor", "critic", "value"):
            normalizer = getattr(self, f"{name}_normalizer")
            live |= {f"{name}_{key}": x for key, x in normalizer.live().items()}
        return live
