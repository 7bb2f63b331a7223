"""Move arms through whole episodes and record what the statistics and the pictures need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from alula.errors import AlulaError
from alula.evaluation.flight import Act

if TYPE_CHECKING:
    from alula.sim.mujoco.arm import MujocoArm
    from alula.sim.mujoco.arm_warp import HostedArm

MAX_SAMPLES = 50_000_000
"""Largest episodes x steps of one run."""
LEFT, DIVERGED, OTHER = "left the task's bounds", "diverged", "something else"
"""Kinds of failure beside the task's own: ended early by the task, lost by the integration, and not named by the task."""

Progress = Callable[[int], None]
"""Told how many steps of the run are done."""


@dataclass(frozen=True, kw_only=True)
class Episodes:
    """N episodes, the first K of them with their whole course of T steps."""

    succeeded: np.ndarray
    """Whether the task was done at the end (N,), bool."""
    failure: np.ndarray
    """What became of the others, index into `kinds`; -1 where the episode succeeded (N,), int."""
    kinds: tuple[str, ...]
    """Names of the kinds of failure."""
    ended_at: np.ndarray
    """Step at which the episode ended early; T where it did not (N,), int."""
    episode_return: np.ndarray
    """Sum of the rewards [-] (N,)."""
    measures: dict[str, np.ndarray]
    """What the task measures at the end, by name; NaN where the episode ended early (N,)."""
    qpos: np.ndarray
    """Generalised positions of the whole model from the start on (T + 1, K, nq), float32."""
    goal: dict[str, np.ndarray]
    """What the task drew for the first K episodes, by name (K, size)."""

    @property
    def n(self) -> int:
        """Number of episodes N."""
        return len(self.succeeded)

    @property
    def finished(self) -> np.ndarray:
        """Whether the episode did not end early (N,), bool."""
        early = [self.kinds.index(LEFT), self.kinds.index(DIVERGED)]
        return ~np.isin(self.failure, early)

    @property
    def failures(self) -> dict[str, int]:
        """Failed episodes by kind."""
        return {kind: int((self.failure == k).sum()) for k, kind in enumerate(self.kinds)}


def run_episodes(
    act: Act,
    simulator: "MujocoArm | HostedArm",
    *,
    steps: int,
    seed: int,
    traced: int = 0,
    progress: Progress = lambda done: None,
) -> Episodes:
    """Move the arm of each environment through one episode.

    Args:
        act: the policy, freshly reset; gets the simulator's observation, histories included.
        simulator: made with `auto_reset=False`, so that an episode that has ended stays ended.
        steps: length of the episodes T [steps].
        seed: seed of starts, goals, parameters and noise.
        traced: episodes K whose course is kept.
        progress: told after each step.

    Raises:
        AlulaError: steps < 1, or more than MAX_SAMPLES samples.
    """
    n, task = simulator.n_envs, simulator.task
    check_samples(n, steps)
    observation = simulator.reset(seed)
    k = min(traced, n)
    ended_at, diverged, total = np.full(n, steps), np.zeros(n, bool), np.zeros(n)
    qpos = np.empty((steps + 1, k, simulator.qpos.shape[1]), np.float32)
    qpos[0] = simulator.qpos[:k]
    for t in range(steps):
        going = ended_at == steps
        # An ended episode moves on without the policy, and nothing of it counts.
        transition = simulator.step(np.where(going[:, None], act(observation), np.float32(0.0)))
        observation = transition.observation
        total[going] += transition.reward[going]
        fresh = transition.terminated & going
        if fresh.any():
            ended_at[fresh] = t
            # A lost environment is back at home, where no task has failed.
            diverged |= fresh & ~task.failed(simulator.scene)
        qpos[t + 1] = simulator.qpos[:k]
        progress(t + 1)
    scene = simulator.scene
    early = ended_at < steps
    own = task.failures(scene)
    kinds = (LEFT, DIVERGED, *own, OTHER)
    succeeded = task.succeeded(scene) & ~early
    # The first that applies.
    holds = [early & ~diverged, diverged, *own.values(), np.ones(n, bool)]
    failure = np.where(succeeded, -1, np.argmax(holds, axis=0))
    return Episodes(
        succeeded=succeeded,
        failure=failure,
        kinds=kinds,
        ended_at=ended_at,
        episode_return=total,
        measures={name: np.where(early, np.nan, m) for name, m in task.measures(scene).items()},
        qpos=qpos,
        goal={name: value[:k].copy() for name, value in scene.goal.items()},
    )


def check_samples(episodes: int, steps: int) -> None:
    """Refuse runs without steps, and those that would not end."""
    if steps < 1 or steps * episodes > MAX_SAMPLES:
        raise AlulaError(
            f"{episodes} episodes of {steps} steps; allowed: 1 to {MAX_SAMPLES} in all"
        )


def join(parts: Sequence[Episodes]) -> Episodes:
    """Runs of the same task and length as one."""

    def together(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        if isinstance(values[0], dict):
            return {key: np.concatenate([v[key] for v in values]) for key in values[0]}
        if isinstance(values[0], tuple):
            return values[0]
        return np.concatenate(values, axis=1 if name == "qpos" else 0)

    return Episodes(**{f.name: together(f.name) for f in fields(Episodes)})
