"""What this machine reaches: simulator steps per second on one core, and training time."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from alula.build import build_task
from alula.errors import AlulaError
from alula.presets import Preset
from alula.robots.multirotor import load_robot
from alula.sim.multirotor.kernels import LANES
from alula.sim.multirotor.simulator import MultirotorSimulator

SIM_ENVS = 1024
"""Environments flown at once."""
SIM_SECONDS = 0.5
"""Shortest time of one measurement [s]."""


def bench_sim(preset: Preset, *, repeats: int) -> dict[str, Any]:
    """Full steps (RK4, reward, reset, observation) per second on one core, in one process and thread.

    The actions are random around hover and change from step to step; episodes end and start anew as they do in training.
    """
    _check(repeats)
    robot = load_robot(preset.robot)
    sim = MultirotorSimulator(robot, build_task(preset.task), preset.sim, SIM_ENVS)
    sim.reset(0)
    rng = np.random.default_rng(0)
    shape = (8, sim.batch.n_blocks, robot.n_rotors, LANES)
    actions = np.clip(robot.hover_action + 0.3 * rng.standard_normal(shape), -1.0, 1.0)
    actions = actions.astype(np.float32)
    rates = []
    for repeat in range(repeats + 1):
        steps, start = 0, time.perf_counter()
        while time.perf_counter() - start < SIM_SECONDS:
            for action in actions:
                sim.step_blocks(action)
            steps += len(actions)
        if repeat:  # the first one warms up
            rates.append(steps * SIM_ENVS / (time.perf_counter() - start))
    return {"preset": preset.name, "n_envs": SIM_ENVS, **_spread("steps_per_s", rates)}


def bench_train(preset: Preset, *, repeats: int) -> dict[str, Any]:
    """Training time of a preset, one run a seed, after a first run that fills the kernel cache."""
    from alula.training.run import train

    _check(repeats)
    times, rates = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(repeats + 1):
            out = Path(folder) / str(seed)
            result = train(preset, robot=None, seed=seed, out=out, progress=False, resume=None)
            if seed:
                times.append(result.train_s)
                rates.append(result.env_steps / result.train_s)
    return {
        "preset": preset.name,
        **_spread("train_s", times),
        "train_env_steps_per_s": statistics.median(rates),
    }


def _check(repeats: int) -> None:
    if not 1 <= repeats <= 1000:
        raise AlulaError(f"repeats is {repeats}; allowed: 1 to 1000")


def _spread(name: str, values: list[float]) -> dict[str, Any]:
    return {
        name: statistics.median(values),
        f"{name}_min": min(values),
        f"{name}_max": max(values),
        "repeats": len(values),
    }
