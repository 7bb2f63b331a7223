"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905), asymmetric, on any simulator.

The actor sees what the robot sees, the critics what only the simulator knows. Between the steps of N environments
a few batches of B past transitions are learned from::

    y          = R + gamma^m (1 - failed) (min_i Q'_i(s', a') - alpha log pi(a'|o')),  a' ~ pi(.|o')
    L_critic_i = mean (Q_i(s, a) - y)^2 / 2
    L_policy   = mean (alpha log pi(a|o) - min_i Q_i(s, a)),  a ~ pi(.|o)
    L_alpha    = -log alpha mean (log pi(a|o) + H)

Where a base is corrected, L_policy has w mean |m - m_base|^2 beside it: what critics say of a correction is the less
sure the larger it is.

R is the discounted sum of m rewards, m = `n_step` where the episode goes on for so long, after which comes s', and
Q' follows Q slowly. A failure is worth nothing after its end; a time-out is worth the value of its final state,
which the replay holds as what followed.

The policy is a squashed normal distribution, z ~ N(m(o), s(o)), a = z / sqrt(1 + z^2): the squash of every policy
file, whose slope da/dz = (1 + z^2)^(-3/2) makes

    log pi(a|o) = log N(z; m, s) - sum log da/dz = log N(z; m, s) + 3/2 sum log(1 + z^2)

With s = 1 and m = 0 it is almost uniform, so the untrained policy explores; on request offsets that last are tried
beside it (`training/exploration.py`). With `distributional`, the critics are
those of DSAC-T, see `training/distributional.py`.
"""

import copy
import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from alula.policies.network import Network
from alula.sim.protocol import Simulator
from alula.training.config import SacConfig
from alula.training.distributional import XI, distributional_loss
from alula.training.environments import Environments, Moved, Seen
from alula.training.exploration import Exploration
from alula.training.layers import Mlp, Normalizer, adam_state, policy_network, squash, unsquash
from alula.training.learner import Spaces, check_fits
from alula.training.replay import Batch, Replay
from alula.training.residual import Corrected

LOG_ROOT_TWO_PI = 0.5 * math.log(2.0 * math.pi)
LOG_STD = (-10.0, 2.0)
"""Range of the logarithm of the policy's standard deviation before the squash."""
MAX_REPLAY_BYTES = 32_000_000
"""The newest transitions that fit go into a checkpoint; the rest is flown anew after a resume."""


@dataclass(frozen=True, kw_only=True)
class SacStatistics:
    """What one update saw."""

    cost: float
    """Mean negative reward per step [-]."""
    failed: float
    """Failures per step [-]."""
    critic_loss: float
    """Mean squared error of the critics to their targets."""
    value: float
    """Mean of the critics."""
    temperature: float
    """Reward of a nat of entropy after the update."""
    entropy: float
    """Mean entropy of the policy [nat]."""

    @property
    def note(self) -> str:
        """What a progress bar shows beside the cost."""
        return f"{100.0 * self.failed:.2f} % of the steps fail"


def sample_action(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Actions [..., A] of standard normal noise [..., A], and their log-likelihoods [...]."""
    # z = m + s e,  a = z / sqrt(1 + z^2)
    z = mean + log_std.exp() * noise
    # log pi(a) = sum -e^2 / 2 - log s - log sqrt(2 pi) + 3/2 log(1 + z^2)
    each = -0.5 * noise * noise - log_std - LOG_ROOT_TWO_PI + 1.5 * torch.log1p(z * z)
    return squash(z), each.sum(-1)


def soft_target(
    reward: Tensor,
    terminated: Tensor,
    next_value: Tensor,
    next_likelihood: Tensor,
    temperature: Tensor,
    discount: Tensor,
) -> Tensor:
    """Targets of the critics; all arguments [B] but the temperature []."""
    # y = R + gamma^m (1 - failed) (Q'(s', a') - alpha log pi(a'|o'))
    return reward + discount * (1.0 - terminated) * (next_value - temperature * next_likelihood)


def temperature_loss(log_temperature: Tensor, likelihood: Tensor, target_entropy: float) -> Tensor:
    """Falls with the temperature where the policy's entropy is above its target, and the other way round."""
    # L = -log alpha mean (log pi + H)
    return -log_temperature * (likelihood + target_entropy).mean()


def average_towards(averages: list[Tensor], values: list[Tensor], tau: float) -> None:
    """Polyak averaging in place: x' <- (1 - tau) x' + tau x."""
    for average, value in zip(averages, values, strict=True):
        average.lerp_(value.detach(), tau)


class SacLearner:
    """Actor, critics and their targets, temperature, replay, and the environments they learn from."""

    statistics = SacStatistics
    settled = True

    def __init__(
        self,
        simulator: Simulator,
        config: SacConfig,
        seed: int,
        spaces: Spaces,
        *,
        base: Network | None = None,
        device: str = "cpu",
    ) -> None:
        """Start all environments and fill the replay with `warmup_steps` transitions.

        Args:
            simulator: N environments with auto-reset.
            config: settings.
            seed: seeds networks, actions and environments.
            spaces: what is known of actions and observations.
            base: frozen policy that the actor corrects (see `training/residual.py`); its normaliser serves both.
            device: where networks and replay lie.
        """
        self.config, self.simulator, self.device = config, simulator, device
        self.updates_done = self.env_steps = 0
        self._seed = seed
        n_actions = self._n_actions = spaces.n_actions
        self._random = torch.Generator(device).manual_seed(seed)
        self._environments = Environments(
            simulator, spaces, privileged=config.privileged, device=device
        )
        self._exploration = Exploration(config, simulator.n_envs, n_actions, self._random)
        self._now = self._environments.begin(seed)
        o, q = self._now.observation.shape[1], self._now.privileged.shape[1]
        actor = Mlp((o, *config.hidden, 2 * n_actions), self._random, last=0.01)
        bias = 0.0 if base else unsquash(spaces.first_action)
        torch.nn.init.constant_(actor.layers[-1].bias[:n_actions], bias)
        torch.nn.init.constant_(actor.layers[-1].bias[n_actions:], math.log(config.initial_std))
        self.actor = Corrected(base, actor) if base else actor
        sizes = (q + n_actions, *config.critic_hidden, 2 if config.distributional else 1)
        critic = partial(Mlp, sizes, self._random, last=1.0, normalized=config.critic_norm)
        self.critics = [critic(), critic()]
        self.targets = copy.deepcopy(self.critics)
        self._actor_parameters = self.actor.parameters()
        self._critic_parameters = [p for c in self.critics for p in c.parameters()]
        self._target_parameters = [p.detach() for t in self.targets for p in t.parameters()]
        temperature = math.log(config.initial_temperature)
        self.log_temperature = torch.tensor(temperature, device=device, requires_grad=True)
        # DSAC-T's moving averages of sigma and sigma^2, zero before the first batch
        self._averages = torch.zeros((2, 2, 1), device=device)
        self._adam = torch.optim.Adam(
            [
                {"params": [*self._actor_parameters, self.log_temperature]},
                {"params": self._critic_parameters, "lr": config.critic_learning_rate},
            ],
            config.learning_rate,
            fused=True,
        )
        self.actor_normalizer = Normalizer.of_actor(o, config, spaces, base, device)
        self.critic_normalizer = Normalizer.of_critic(q, config, spaces, device)
        n_privileged = q if config.privileged else 0
        self.replay = Replay(
            config.replay_size, o, n_privileged, n_actions,
            n_envs=simulator.n_envs, gamma=config.gamma, n_step=config.n_step, device=device,
        )  # fmt: skip
        self._fill()

    def _fill(self) -> None:
        """Fly until there is enough to learn from."""
        flown = []
        while self.replay.size < self.config.warmup_steps:
            flown.append(self._now)
            self._step()
        self._take_in(flown)

    def _take_in(self, flown: list[Seen]) -> None:
        """What actor and critics have seen, for their normalisers."""
        # nothing was flown where a checkpoint held enough transitions
        if flown:
            self.actor_normalizer.update(torch.cat([seen.observation for seen in flown]))
            self.critic_normalizer.update(torch.cat([seen.privileged for seen in flown]))

    @torch.no_grad()
    def _step(self) -> Moved:
        """One step of all environments, into the replay."""
        seen = self._now
        mean, log_std = self.policy(self.actor_normalizer(seen.observation))
        offset = self._exploration.draw()
        action = sample_action(mean + offset, log_std, self._noise(mean))[0]
        moved = self._environments.step(action)
        self._exploration.end(moved.ended)
        self.replay.add(
            observation=seen.observation,
            privileged=seen.privileged,
            action=action,
            reward=moved.reward,
            terminated=moved.terminated,
            ended=moved.ended,
            explored=offset.any(1),
            next_observation=moved.final.observation,
            next_privileged=moved.final.privileged,
        )
        self.env_steps += len(action)
        self._now = moved.now
        return moved

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self._random, device=self.device)

    def policy(self, o: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the standard deviation [..., A] before the squash, of normalised observations."""
        mean, log_std = self.actor(o).chunk(2, -1)
        return mean, log_std.clamp(*LOG_STD)

    def _returns(self, critics: list[Mlp], q: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and spread of the return [C, B] (no spread: zero columns) by each critic."""
        seen = torch.cat((q, self.config.critic_action_scale * action), 1)
        out = torch.stack([critic(seen) for critic in critics])
        return out[..., 0], softplus(out[..., 1:].squeeze(-1))

    def update(self) -> SacStatistics:
        """`steps_per_update` steps of all environments, with batches learned from after each."""
        c = self.config
        if c.rate_falls:
            # The critics' does not: as the policy gets better, they have new values to learn up to the end.
            rate = (1.0 - self.updates_done / c.updates) * c.learning_rate
            self._adam.param_groups[0]["lr"] = rate
        flown, moved, learned = [], [], []
        for k in range(c.steps_per_update):
            flown.append(self._now)
            moved.append(self._step())
            for turn in range(k * c.gradient_steps, (k + 1) * c.gradient_steps):
                policy = self.updates_done >= c.critic_warmup and turn % c.policy_delay == 0
                learned.append(self._learn(policy=policy))
        self._take_in(flown)
        self.updates_done += 1
        critic_loss, value, entropy = torch.stack(learned).mean(0).tolist()
        return SacStatistics(
            cost=-float(torch.stack([m.reward for m in moved]).mean()),
            failed=float(torch.stack([m.terminated for m in moved]).float().mean()),
            critic_loss=critic_loss,
            value=value,
            temperature=float(self.log_temperature.detach().exp()),
            entropy=entropy,
        )

    def _learn(self, *, policy: bool) -> Tensor:
        """One step of the optimiser; critics' error, their value and the policy's entropy [3]."""
        batch = self.replay.sample(self.config.batch_size, self._random)
        o, q = self.actor_normalizer(batch.observation), self.critic_normalizer(batch.privileged)
        self._adam.zero_grad()
        statistics = self._learn_critics(batch, q)
        if policy:
            self._learn_policy(o, q)
        # What has no gradient stays as it is.
        self._adam.step()
        average_towards(self._target_parameters, self._critic_parameters, self.config.tau)
        return statistics

    def _learn_critics(self, batch: Batch, q: Tensor) -> Tensor:
        """Gradients of the critics; their mean squared error and mean value, and the entropy they expect [3]."""
        mean, std = self._returns(self.critics, q, batch.action)
        target, drawn, entropy = self.target(batch)
        error = 0.5 * (mean - target).square().mean(1).sum()
        loss = error
        if self.config.distributional:
            loss = distributional_loss(mean, std, target, drawn, *self._scales(std.detach()))
        loss.backward(inputs=self._critic_parameters)
        return torch.stack((error.detach(), mean.detach().mean(), entropy))

    @torch.no_grad()
    def target(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Targets of the critics' mean and, with a drawn return, of their spread [B]; the policy's entropy there []."""
        mean, log_std = self.policy(self.actor_normalizer(batch.next_observation))
        action, likelihood = sample_action(mean, log_std, self._noise(mean))
        q = self.critic_normalizer(batch.next_privileged)
        value, std = self._returns(self.targets, q, action)
        # the critic that expects less, for the mean and for the draw
        value, least = value.min(0)
        drawn = value
        if self.config.distributional:
            drawn = value + std.gather(0, least[None])[0] * self._noise(value)
        temperature = self.log_temperature.detach().exp()
        reward = self.config.reward_scale * batch.reward
        target, drawn = (
            soft_target(reward, batch.terminated, x, likelihood, temperature, batch.discount)
            for x in (value, drawn)
        )  # fmt: skip
        return target, drawn, -likelihood.mean()

    def _scales(self, std: Tensor) -> tuple[Tensor, Tensor]:
        """DSAC-T's bound b and variance omega [C, 1] after a batch of spreads [C, B]."""
        # b <- (1 - tau) b + tau xi mean sigma,  omega <- (1 - tau) omega + tau mean sigma^2
        new = torch.stack((std.mean(1, keepdim=True), std.square().mean(1, keepdim=True)))
        first = self._averages == 0.0
        self._averages.copy_(torch.where(first, new, self._averages.lerp(new, self.config.tau)))
        return XI * self._averages[0], self._averages[1]

    def _learn_policy(self, o: Tensor, q: Tensor) -> None:
        """Gradients of policy and temperature."""
        mean, log_std = self.policy(o)
        action, likelihood = sample_action(mean, log_std, self._noise(mean))
        value = self._returns(self.critics, q, action)[0].amin(0)
        loss = (self.log_temperature.detach().exp() * likelihood - value).mean()
        if isinstance(self.actor, Corrected):
            away = (mean - self.actor.base(o)).square().sum(1).mean()
            loss = loss + self.config.correction_weight * away
        # not into the critics, which saves a third of the way back
        loss.backward(inputs=self._actor_parameters)
        least = self.config.target_entropy * self._n_actions
        temperature_loss(self.log_temperature, likelihood.detach(), least).backward()

    @property
    def diverged(self) -> int:
        """As `Learner.diverged`; only simulators of arms count them."""
        return getattr(self.simulator, "diverged", 0)

    def network(self) -> Network:
        """The actor's mean as it is now."""
        return policy_network(self.actor, self.actor_normalizer, slice(0, self._n_actions))

    def snapshot(self) -> dict[str, np.ndarray]:
        """Everything a run needs to go on but the episodes, which begin anew, and old transitions."""
        return {name: x.detach().cpu().numpy().copy() for name, x in self._live().items()} | {
            "counts": np.array([self.updates_done, self.env_steps], np.int64),
            "random": self._random.get_state().numpy(),
            "replay": self.replay.newest(MAX_REPLAY_BYTES),
        }

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Go on from a snapshot, with new episodes.

        Transitions missing up to `warmup_steps`, all of them if there is no array "replay", are flown anew.

        Raises:
            AlulaError: an array is missing or has another shape or type.
        """
        live = self._live()
        own = {name: x.detach().cpu().numpy() for name, x in live.items()}
        own |= {"counts": np.zeros(2, np.int64), "random": self._random.get_state().numpy()}
        check_fits(own, snapshot)
        self.replay.refill(snapshot.get("replay", self.replay.newest(0)))
        for name, x in live.items():
            x.detach().copy_(torch.from_numpy(snapshot[name]))
        self.updates_done, self.env_steps = (int(n) for n in snapshot["counts"])
        self._random.set_state(torch.from_numpy(snapshot["random"]))
        self._exploration.end(
            torch.ones(self.simulator.n_envs, dtype=torch.bool, device=self.device)
        )
        self._now = self._environments.begin(self._seed + self.updates_done)
        self._fill()

    def _live(self) -> dict[str, Tensor]:
        """Every tensor that changes in training, and a base, by name; not copies."""
        learned = [*self._actor_parameters, *self._critic_parameters, self.log_temperature]
        live = adam_state(self._adam, learned) | self.actor.frozen()
        live |= {"averages": self._averages}
        live |= {f"target_{i}": x for i, x in enumerate(self._target_parameters)}
        for name in ("actor", "critic"):
            normalizer = getattr(self, f"{name}_normalizer")
            live |= {f"{name}_{key}": x for key, x in normalizer.live().items()}
        return live
