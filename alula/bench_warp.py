"""What MuJoCo Warp reaches on a GPU beside C MuJoCo on all cores of the same machine: arms with what stands around them."""

import os
import statistics
import time
from typing import Any

import numpy as np
import torch

from alula.bench_gpu import hardware
from alula.build import build_task
from alula.errors import AlulaError
from alula.machine import processor_name
from alula.presets import Preset
from alula.robots.arm import load_arm
from alula.sim.arm_config import ArmSimConfig
from alula.sim.mujoco.arm import MujocoArm
from alula.sim.mujoco.arm_warp import WarpArm
from alula.sim.multirotor.cuda import find_gpu

SIZES = (64, 256, 1024, 4096, 16384)
"""Environments moved at once."""
STEPS = 20
"""Policy steps in a measurement, each with its physics, reward, observations and new episodes."""
WARM_UP = 3
"""Policy steps before the first measurement."""


def bench_warp(
    preset: Preset, *, repeats: int, device: str = "cuda", sizes: tuple[int, ...] = SIZES
) -> dict[str, Any]:
    """Physics steps per second of both, in turn, as plain JSON values.

    Args:
        preset: an arm's; its robot, task and setting are measured, with random actions.
        repeats: measurements; the median and the spread are reported.
        device: where Warp simulates.
        sizes: numbers of environments.

    Raises:
        AlulaError: no GPU, MuJoCo Warp is not installed, or a preset of a multirotor.
    """
    if not 1 <= repeats <= 1000:
        raise AlulaError(f"repeats is {repeats}; allowed: 1 to 1000")
    sim = preset.sim
    if not isinstance(sim, ArmSimConfig):
        raise AlulaError(f"preset {preset.name} is a multirotor's; allowed: an arm's")
    robot, task = load_arm(preset.robot), build_task(preset.task)
    rows = []
    for n in sizes:
        warp = WarpArm(robot, task, sim, n, staggered=True, device=device)
        arms = {"warp": warp, "c": MujocoArm(robot, task, sim, n, staggered=True)}
        rng = np.random.default_rng(0)
        actions = rng.uniform(-1.0, 1.0, (STEPS, n, warp.n_actions)).astype(np.float32)
        given = {"warp": list(torch.tensor(actions, device=warp.device)), "c": list(actions)}
        for name, arm in arms.items():
            arm.reset(0)
            _seconds(arm, given[name][:WARM_UP])
        work, rates = n * STEPS * sim.substeps, {name: [] for name in arms}
        for _ in range(repeats):
            for name, arm in arms.items():
                rates[name].append(work / _seconds(arm, given[name]))
        rows.append({"n_envs": n, "diverged": warp.diverged, **_spreads(rates)})
    return {
        "preset": preset.name,
        **hardware(find_gpu(device) if device != "cpu" else torch.device("cpu")),
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0)),
        "precision": {"warp": "float32", "c": "float64"},
        "dt_s": sim.control_dt / sim.substeps,
        "substeps": sim.substeps,
        "warm_up_steps": WARM_UP,
        "steps": STEPS,
        "repeats": repeats,
        "worlds": rows,
    }


def _seconds(arm: MujocoArm, actions: list[Any]) -> float:
    """Time of these policy steps, from the device's idling to its idling again."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    for action in actions:
        arm.step(action)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _spreads(rates: dict[str, list[float]]) -> dict[str, float]:
    """Median and range of physics steps per second, and their ratio."""
    found: dict[str, float] = {}
    for name, values in rates.items():
        found[f"{name}_per_s"] = statistics.median(values)
        found |= {f"{name}_per_s_min": min(values), f"{name}_per_s_max": max(values)}
    return found | {"ratio": found["warp_per_s"] / found["c_per_s"]}


def text(data: dict[str, Any]) -> str:
    """The same for people."""
    lines = [
        f"{data['preset']}: MuJoCo Warp on {data['gpu']}, C MuJoCo on {data['cores']} cores of {data['processor']}; "
        "physics steps/s with reward, observations, randomisation and new episodes",
        f"{'worlds':>8}{'Warp':>12}{'C MuJoCo':>12}{'ratio':>8}",
    ]
    lines += [
        f"{row['n_envs']:8d}{row['warp_per_s']:12.3g}{row['c_per_s']:12.3g}{row['ratio']:8.2f}"
        for row in data["worlds"]
    ]
    return "\n".join(lines)
