"""Short-horizon actor-critic with analytic gradients, asymmetric.

Each update flies all environments for a short horizon with the present actor, takes the gradient of the
cost back through physics, sensors, delays and action history, and adds the critic's value of the last
state, so that a horizon well below a second still sees the whole future (Xu et al. 2022, arXiv 2204.07137)::

    J(theta) = 1/(N T) sum_envs [ sum_{t<T} c_t + V(s_T) ],   V = E sum_{t>=T} gamma^(t-T) c_t

The critic sees what the robot cannot: true state, disturbance, vehicle parameters and delays. It is trained on
lambda-returns of the same flights. Episodes end only between horizons.
"""

import ctypes
import itertools
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from alula.errors import AlulaError
from alula.policies.network import Network
from alula.robots.multirotor import Multirotor
from alula.sim.config import SimConfig
from alula.sim.multirotor.kernels import LANES, Features, aligned, pointer
from alula.sim.multirotor.simulator import FlightBatch
from alula.training.adam import Adam
from alula.training.config import ShortHorizonConfig
from alula.training.learner import check_fits
from alula.training.short_horizon_kernels import Learner, learner_library

OBSERVATION_CLIP = 5.0
LOST_UPDATES = 20
"""Updates without a finite gradient after which training gives up; each of them is skipped."""


@dataclass(frozen=True, kw_only=True)
class UpdateStatistics:
    """What one update saw."""

    horizon: int
    """Steps flown by each environment."""
    cost: float
    """Mean cost per step [-]."""
    critic_loss: float
    """Mean squared error of the critic (of the value times 1 - gamma) [-]."""
    position_error: float
    """Mean distance from the reference at the end of the horizon, failed flights excluded [m]."""
    failed: float
    """Share of the flights that had left the limits at the end of the horizon [-]."""
    gradient_norm: float
    """Norm of the actor's gradient before it is bounded [-]."""

    @property
    def note(self) -> str:
        """What a progress bar shows beside the cost."""
        return f"error {self.position_error:.3f} m"


class ShortHorizonLearner:
    """Actor, critic, their optimisers and the flights they learn from."""

    statistics = UpdateStatistics
    diverged = 0

    def __init__(
        self,
        robot: Multirotor,
        task: ModuleType,
        sim: SimConfig,
        config: ShortHorizonConfig,
        seed: int,
        *,
        trajectories: np.ndarray | None = None,
        threads: int | None = None,
    ) -> None:
        self.config, self.task = config, task
        self.updates_done = 0
        self._lost = 0
        self.env_steps = 0
        self._library = learner_library(Features.of(robot), task)
        self.longest = longest = _multiple_of_4(config.horizon_end)
        self.batch = batch = FlightBatch(
            robot, task, sim, config.n_envs, trajectories=trajectories, tape_room=longest,
            weights=config.weights.rows(robot.hover_action),
        )  # fmt: skip
        self._struct = Learner(
            horizon=longest, max_horizon=longest, h1=config.hidden[0], h2=config.hidden[1],
            critic_h1=config.critic_hidden[0], critic_h2=config.critic_hidden[1],
            use_critic=config.critic, privileged=config.privileged, gamma=config.gamma,
            lambda_=config.td_lambda, clip=OBSERVATION_CLIP,
            cotangent_limit=config.cotangent_limit, failure=config.failure_cost,
        )  # fmt: skip
        n_actor = self._size("alula_actor_size")
        n_critic = self._size("alula_critic_size")
        inputs = self._size("alula_critic_inputs")
        blocks = batch.n_blocks
        self.actor, self.critic = aligned((n_actor,)), aligned((n_critic,))
        self._arrays = {
            "actor": self.actor, "critic": self.critic,
            "scale": np.array(task.SCALE, np.float32),
            "actor_gradient": aligned((blocks, n_actor)),
            "critic_gradient": aligned((blocks, n_critic)),
            "features": aligned((blocks, longest + 1, inputs, LANES)),
            "targets": aligned((blocks, longest, LANES)),
            "statistics": aligned((blocks, 4)),
        }  # fmt: skip
        for name, array in self._arrays.items():
            setattr(self._struct, name, pointer(array))
        rng = np.random.default_rng([seed, 1])
        columns = batch.rows.observed + sim.history * batch.rows.rotors
        self.sizes = (columns, *config.hidden, batch.rows.rotors)
        self.actor[:] = initial_weights(rng, self.sizes, last=0.1, bias=squash_inverse(robot))
        self.critic[:] = initial_weights(rng, (inputs, *config.critic_hidden, 1), last=0.1)
        # The history's many small inputs speak together; at full rate they drown the rest.
        self._rates = np.ones(n_actor, np.float32)
        history = slice(batch.rows.observed * config.hidden[0], columns * config.hidden[0])
        self.actor[history] *= config.history_rate
        self._rates[history] = config.history_rate
        self.actor_adam = Adam(n_actor, config.betas)
        self.critic_adam = Adam(n_critic, (0.9, 0.99))
        threads = min(threads or os.cpu_count() or 1, blocks)
        self._parts = [(blocks * i // threads, blocks * (i + 1) // threads) for i in range(threads)]
        room = self._size("alula_room")
        self._rooms = [aligned((room,)) for _ in self._parts]
        self._pool = ThreadPoolExecutor(max(1, threads - 1))
        batch.seed(seed)
        self._library.alula_start(ctypes.byref(batch.struct), 0, blocks, batch.first_tape)

    def _size(self, name: str) -> int:
        return getattr(self._library, name)(
            ctypes.byref(self.batch.struct), ctypes.byref(self._struct)
        )

    def _fly(self) -> None:
        """One horizon on all blocks, shared among the threads (ctypes releases the interpreter lock)."""
        batch, learner = ctypes.byref(self.batch.struct), ctypes.byref(self._struct)

        def part(i: int) -> None:
            self._library.alula_horizon(
                batch, learner, *self._parts[i], self.batch.first_tape, pointer(self._rooms[i])
            )

        others = [self._pool.submit(part, i) for i in range(1, len(self._parts))]
        part(0)
        for other in others:
            other.result()

    @property
    def settled(self) -> bool:
        """Whether the last update had the full horizon: costs of shorter ones are others."""
        return self._struct.horizon == self.longest

    def horizon(self) -> int:
        """Steps of the next update: a linear ramp, rounded to the measurement ring's length."""
        c = self.config
        done = min(1.0, self.updates_done / max(1.0, c.horizon_ramp * c.updates))
        return _multiple_of_4(c.horizon_start + done * (c.horizon_end - c.horizon_start))

    def update(self) -> UpdateStatistics:
        """One update of the actor and one of the critic."""
        c = self.config
        self._struct.horizon = horizon = self.horizon()
        ramp = max(1.0, c.critic_ramp * c.updates)
        self._struct.critic_weight = min(1.0, self.updates_done / ramp)
        self._fly()
        gradient = self._arrays["actor_gradient"].sum(axis=0)
        # not np.linalg.norm: its BLAS wakes threads that spin on the cores that fly
        norm = math.sqrt(float(np.square(gradient).sum()))
        self._lost = 0 if math.isfinite(norm) else self._lost + 1
        if self._lost >= LOST_UPDATES:
            raise AlulaError(
                f"the gradient has not been finite for {LOST_UPDATES} updates; allowed: a robot, task and "
                "settings whose flights stay finite (try narrower limits or a smaller learning rate)"
            )
        if not self._lost:
            gradient *= min(1.0, c.max_grad_norm / (norm + 1e-12))
            self.actor_adam.step(self.actor, gradient, self.learning_rate() * self._rates)
        if c.critic:
            gradient = self._arrays["critic_gradient"].sum(axis=0)
            if np.isfinite(gradient).all():
                rate = c.critic_learning_rate * self._cosine()
                self.critic_adam.step(self.critic, gradient, rate)
        self.updates_done += 1
        n = self.config.n_envs
        self.env_steps += n * horizon
        total = self._arrays["statistics"].sum(axis=0)
        return UpdateStatistics(
            horizon=horizon,
            cost=float(total[0]) / (n * horizon),
            critic_loss=float(total[1]) / (n * horizon),
            position_error=float(total[2]) / max(1.0, n - float(total[3])),
            failed=float(total[3]) / n,
            gradient_norm=norm,
        )

    def learning_rate(self) -> float:
        """The actor's rate at this update: the peak times half a cosine over the run."""
        return self.config.learning_rate * self._cosine()

    def _cosine(self) -> float:
        # lr = lr_max (1 + cos(pi k / K)) / 2
        done = min(1.0, self.updates_done / self.config.updates)
        return 0.5 * (1.0 + math.cos(math.pi * done))

    def snapshot(self) -> dict[str, np.ndarray]:
        """Everything a run needs to go on, as plain arrays."""
        return {name: array.copy() for name, array in self._live().items()} | {
            "counts": np.array(
                [self.updates_done, self.env_steps, self.actor_adam.steps, self.critic_adam.steps]
            )
        }

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Go on from `snapshot`, bit for bit.

        Raises:
            AlulaError: an array is missing or has another shape or type.
        """
        live = self._live()
        check_fits(live, snapshot)
        for name, array in live.items():
            array[:] = snapshot[name]
        counts = snapshot.get("counts")
        if counts is None or counts.shape != (4,) or counts.dtype.kind != "i" or counts.min() < 0:
            raise AlulaError("checkpoint does not fit: counts")
        self.updates_done, self.env_steps = int(counts[0]), int(counts[1])
        self.actor_adam.steps, self.critic_adam.steps = int(counts[2]), int(counts[3])

    def _live(self) -> dict[str, np.ndarray]:
        return {f"batch_{name}": array for name, array in self.batch.arrays.items()} | {
            "actor": self.actor,
            "critic": self.critic,
            "actor_first": self.actor_adam.first,
            "actor_second": self.actor_adam.second,
            "critic_first": self.critic_adam.first,
            "critic_second": self.critic_adam.second,
        }

    def network(self) -> Network:
        """The actor as it is now."""
        inputs, h1, h2, outputs = self.sizes
        parts = np.split(
            self.actor.copy(),
            np.cumsum([inputs * h1, h1, h1 * h2, h2, h2 * outputs]),
        )
        scale = np.ones(inputs, np.float32)
        scale[: len(self.task.SCALE)] = self.task.SCALE
        return Network(
            mean=np.zeros(inputs, np.float32),
            scale=scale,
            clip=OBSERVATION_CLIP,
            weights=(
                parts[0].reshape(inputs, h1),
                parts[2].reshape(h1, h2),
                parts[4].reshape(h2, outputs),
            ),
            biases=(parts[1], parts[3], parts[5]),
        )


def _multiple_of_4(steps: float) -> int:
    return max(4, 4 * round(steps / 4))


def squash_inverse(robot: Multirotor) -> float:
    """The z whose squash z / sqrt(1 + z^2) is the hover action."""
    a = robot.hover_action
    return a / math.sqrt(1.0 - a * a)


def initial_weights(
    rng: np.random.Generator, sizes: tuple[int, ...], *, last: float, bias: float = 0.0
) -> np.ndarray:
    """He-normal layers (He et al. 2015), the last one scaled down, flat as short_horizon.c reads them."""
    parts = []
    for i, (n, m) in enumerate(itertools.pairwise(sizes)):
        final = i == len(sizes) - 2
        spread = math.sqrt(2.0 / n) * (last if final else 1.0)
        parts += [rng.normal(0.0, spread, n * m), np.full(m, bias if final else 0.0)]
    return np.concatenate(parts).astype(np.float32)
