"""A learner whose environments are shared among processes of this machine."""

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from alula.build import Robot, build_base, build_environments, build_task, needs_torch
from alula.errors import AlulaError
from alula.presets import Preset
from alula.training.config import PpoConfig

if TYPE_CHECKING:
    from alula.training.distributed import DataParallelPpo
    from alula.training.layers import Workers
    from alula.training.ppo import PpoLearner

MAX_WORKERS = 256


def build_workers(preset: Preset, robot: Robot, seed: int, workers: int) -> "DataParallelPpo":
    """The preset's learner, worker 0 of at least two.

    Raises:
        AlulaError: another learner than PPO on the CPU, or environments that cannot be shared equally; no torch.
    """
    algo = preset.algo
    if not isinstance(algo, PpoConfig) or algo.device != "cpu":
        raise AlulaError(
            f"preset {preset.name} with {workers} workers; allowed: one, or a preset that learns by PPO on the CPU"
        )
    if not 2 <= workers <= MAX_WORKERS or algo.n_envs % workers:
        raise AlulaError(
            f"workers is {workers}; allowed: 1 to {MAX_WORKERS}, a divisor of the {algo.n_envs} environments"
        )
    try:
        from alula.training.distributed import DataParallelPpo
    except ImportError:
        raise needs_torch(preset) from None
    return DataParallelPpo(partial(build_share, preset, robot, seed), workers)


def build_share(preset: Preset, robot: Robot, seed: int, workers: "Workers") -> "PpoLearner":
    """The learner of one of the workers, with its share of environments and cores."""
    from alula.training.ppo import PpoLearner

    assert isinstance(preset.algo, PpoConfig)
    algo = replace(preset.algo, n_envs=preset.algo.n_envs // workers.count)
    threads = max(1, len(os.sched_getaffinity(0)) // workers.count)
    task = build_task(preset.task)
    simulator, spaces = build_environments(replace(preset, algo=algo), robot, task, threads)
    base = build_base(preset, robot, task)
    return PpoLearner(simulator, algo, seed, spaces, base=base, workers=workers)
