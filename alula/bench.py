"""What this machine reaches: simulator steps per second on one core, and training time."""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from alula.build import build_task
from alula.command_base import Outcome
from alula.errors import AlulaError
from alula.options import Bench
from alula.presets import Preset, get_preset
from alula.robots.multirotor import load_robot
from alula.sim.arm_config import ArmSimConfig
from alula.sim.config import Limits, SimConfig
from alula.sim.multirotor.kernels import LANES
from alula.sim.multirotor.simulator import MultirotorSimulator

DEFAULT_PRESETS = {"scale": "panda-reach"}
"""What is measured where no preset is named; else l2f-hover."""
SIM_ENVS = 512
"""Environments flown at once."""
SIM_HELD = 16
"""Steps a call, for which an action is held."""
SIM_SECONDS = 0.3
"""Shortest time of one measurement [s]."""


def bench(command: Bench) -> Outcome:
    """What `alula bench` does.

    Raises:
        AlulaError: nothing that can be measured, or not here; repeats out of range.
    """
    preset = get_preset(command.preset or DEFAULT_PRESETS.get(command.what, "l2f-hover"))
    match command.what:
        case "sim":
            data = bench_sim(preset, repeats=command.repeats)
            return Outcome(data=data, text=sim_text(data))
        case "train":
            data = bench_train(preset, repeats=command.repeats)
            return Outcome(data=data, text=train_text(data))
        case "gpu":
            data, text, lacks = bench_gpu(preset, repeats=command.repeats)
            return Outcome(data=data, text=text, failures=lacks)
        case "scale":
            from alula.bench_scale import bench_scale, scale_text

            data = bench_scale(preset, repeats=command.repeats)
            return Outcome(data=data, text=scale_text(data))


def bench_sim(preset: Preset, *, repeats: int) -> dict[str, Any]:
    """Full steps (RK4, reward, reset, observation) per second on one core, in one process and thread.

    The actions are random around hover. As no policy flies, the limits are lifted, so that an episode lasts
    as long as it does with one. Measured without and with sensor noise, in turn.
    """
    check_repeats(repeats)
    if not isinstance(preset.sim, SimConfig):
        raise AlulaError(f"preset {preset.name} is an arm's; allowed: a multirotor's")
    far = Limits(position=1e6, velocity=1e6, angular_velocity=1e6)
    settings = {
        "steps_per_s": replace(preset.sim, noise=0.0, limits=far),
        "noisy_steps_per_s": replace(preset.sim, limits=far),
    }
    runs = {name: _simulator_run(preset, config) for name, config in settings.items()}
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            rate = run()
            if repeat:  # the first one warms up
                rates[name].append(rate)
    spreads = [_spread(name, values) for name, values in rates.items()]
    return {"preset": preset.name, "n_envs": SIM_ENVS, **spreads[0], **spreads[1]}


def _simulator_run(preset: Preset, config: SimConfig) -> Callable[[], float]:
    """A function that flies for a while and returns the steps per second."""
    robot = load_robot(preset.robot)
    sim = MultirotorSimulator(robot, build_task(preset.task), config, SIM_ENVS)
    sim.reset(0)
    rng = np.random.default_rng(0)
    shape = (16, sim.batch.n_blocks, robot.n_rotors, LANES)
    actions = (robot.hover_action + 0.02 * rng.standard_normal(shape)).astype(np.float32)

    def run() -> float:
        steps, start = 0, time.perf_counter()
        while time.perf_counter() - start < SIM_SECONDS:
            for action in actions:
                sim.step_blocks(action, SIM_HELD)
            steps += len(actions) * SIM_HELD * SIM_ENVS
        return steps / (time.perf_counter() - start)

    return run


def sim_text(data: dict[str, Any]) -> str:
    """What `bench_sim` found, for people."""
    return (
        f"{data['preset']}: {data['steps_per_s'] / 1e6:.1f} M full steps/s on one core "
        f"({data['steps_per_s_min'] / 1e6:.1f} to {data['steps_per_s_max'] / 1e6:.1f}, "
        f"{data['repeats']} measurements, {data['n_envs']} environments), "
        f"{data['noisy_steps_per_s'] / 1e6:.1f} M with sensor noise"
    )


def train_text(data: dict[str, Any]) -> str:
    """What `bench_train` found, for people."""
    return (
        f"{data['preset']}: trained in {data['train_s']:.2f} s "
        f"({data['train_s_min']:.2f} to {data['train_s_max']:.2f}, {data['repeats']} seeds)"
    )


def bench_train(preset: Preset, *, repeats: int) -> dict[str, Any]:
    """Training time of a preset, one run a seed, after a first run that fills the kernel cache."""
    from alula.training.run import train

    check_repeats(repeats)
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


def bench_gpu(preset: Preset, *, repeats: int) -> tuple[dict[str, Any], str, tuple[str, ...]]:
    """Steps per second on a GPU, the same for people, and what is lacking where nothing can be measured."""
    check_repeats(repeats)
    try:
        from alula import bench_gpu as gpu
    except ImportError:
        raise AlulaError(
            "torch is not installed; allowed: after pip install 'alula[cuda]'"
        ) from None

    lack = gpu.lack()
    if lack:
        return {"preset": preset.name, "gpu": "none"}, "nothing measured", (lack,)
    if isinstance(preset.sim, ArmSimConfig):
        from alula import bench_warp as warp

        data = warp.bench_warp(preset, repeats=repeats)
        return data, warp.text(data), ()
    data = gpu.bench_gpu(preset, repeats=repeats)
    return data, gpu.text(data), ()


def check_repeats(repeats: int) -> None:
    """Refuse a number of measurements that is out of range."""
    if not 1 <= repeats <= 1000:
        raise AlulaError(f"repeats is {repeats}; allowed: 1 to 1000")


def _spread(name: str, values: list[float]) -> dict[str, Any]:
    return {
        name: statistics.median(values),
        f"{name}_min": min(values),
        f"{name}_max": max(values),
        "repeats": len(values),
    }
