"""What a GPU reaches: physics alone, whole flights with what is stored of them, and the floor under both."""

import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alula.build import build_task
from alula.errors import AlulaError
from alula.presets import Preset
from alula.robots.multirotor import load_robot
from alula.sim.config import SimConfig
from alula.sim.multirotor.cuda import CudaMultirotor, Kernels, find_gpu
from alula.sim.multirotor.kernels import Features, physics_flops

SIZES = (2**16, 2**18, 2**20)
"""Environments flown at once; the fastest size is reported, and all are listed."""
PHYSICS_STEPS = 1000
"""Physics steps a call, with throttle and disturbance held."""
FLIGHT_STEPS = 32
"""Steps of a stored rollout, with the action held."""
FMA_STEPS = 500
"""Steps of 128 multiplications and additions each, in every thread."""
WARM_UP = 3
"""Calls before the measured ones."""
CALLS = 5
"""Calls in a measurement."""


def bench_gpu(
    preset: Preset,
    *,
    repeats: int,
    kernels: Kernels | None = None,
    sizes: tuple[int, ...] = SIZES,
) -> dict[str, Any]:
    """Steps per second on a GPU, as plain JSON values.

    Args:
        preset: a multirotor's; its robot, task and flight setting are measured.
        repeats: measurements; the median and the spread are reported.
        kernels: in place of the GPU's own, as tests do.
        sizes: numbers of environments.

    Raises:
        AlulaError: no GPU, or a preset of an arm.
    """
    if not 1 <= repeats <= 1000:
        raise AlulaError(f"repeats is {repeats}; allowed: 1 to 1000")
    if not isinstance(preset.sim, SimConfig):
        raise AlulaError(f"preset {preset.name} is an arm's; allowed: a multirotor's")
    if kernels is None:
        find_gpu("cuda")
    robot, task, config = load_robot(preset.robot), build_task(preset.task), preset.sim

    def simulator(n: int) -> CudaMultirotor:
        made = CudaMultirotor(robot, task, config, n, kernels=kernels)
        made.reset(0)
        return made

    flops = physics_flops(Features.of(robot), task)
    physics = [_measured(_physics(simulator(n)), n * PHYSICS_STEPS, repeats) for n in sizes]
    flights = [_measured(_flight(simulator(n)), n * FLIGHT_STEPS, repeats) for n in sizes]
    fused = _measured(_multiply_add(simulator(sizes[-1])), sizes[-1] * FMA_STEPS * 256, repeats)
    floor = fused["per_s"] / flops
    best = max(physics, key=lambda m: m["per_s"])
    return {
        "preset": preset.name,
        **hardware(simulator(1).device),
        "precision": "float32",
        "dt_s": config.control_dt / config.substeps,
        "control_dt_s": config.control_dt,
        "substeps": config.substeps,
        "warm_up_calls": WARM_UP,
        "calls": CALLS,
        "repeats": repeats,
        "physics_steps_a_call": PHYSICS_STEPS,
        "physics": [{"n_envs": n, **m} for n, m in zip(sizes, physics, strict=True)],
        "flight_steps_a_call": FLIGHT_STEPS,
        "flight": [{"n_envs": n, **m} for n, m in zip(sizes, flights, strict=True)],
        "flops_a_physics_step": flops,
        "fp32_flops_per_s": fused["per_s"],
        "floor_steps_per_s": floor,
        "physics_share_of_floor": best["per_s"] / floor,
    }  # fmt: skip


def lack() -> str:
    """Why nothing can be measured here, in one line; empty where it can."""
    try:
        find_gpu("cuda")
    except AlulaError as e:
        return str(e)
    return ""


def text(data: dict[str, Any]) -> str:
    """The same for people."""

    def line(name: str) -> str:
        best = max(data[name], key=lambda m: m["per_s"])
        spread = f"{best['per_s_min']:.2e} to {best['per_s_max']:.2e}"
        return f"{best['per_s']:.3e} steps/s ({spread}, {best['n_envs']} environments)"

    return (
        f"{data['preset']} on {data['gpu']}\n"
        f"physics alone, constant action       {line('physics')}, "
        f"{100.0 * data['physics_share_of_floor']:.0f} % of what "
        f"{data['flops_a_physics_step']} operations a step allow\n"
        f"whole flights, rollouts stored       {line('flight')}"
    )


def hardware(device: torch.device) -> dict[str, Any]:
    """The GPU, its driver and what compiled for it."""
    if device.type != "cuda":
        return {"gpu": "none", "torch": torch.__version__}
    about = torch.cuda.get_device_properties(device)
    return {
        "gpu": about.name,
        "multiprocessors": about.multi_processor_count,
        "memory_bytes": about.total_memory,
        "compute_capability": f"{about.major}.{about.minor}",
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
    }


def _driver() -> str:
    try:
        found = re.search(r"\d+\.\d[\d.]*", Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        return "unknown"
    return found.group() if found else "unknown"


def _physics(sim: CudaMultirotor) -> Callable[[], object]:
    throttle = torch.full((sim.rows.rotors, sim.n_envs), sim.robot.hover_throttle)
    throttle = throttle.to(sim.device)
    disturbance = torch.zeros((6, sim.n_envs), device=sim.device)
    return lambda: sim.physics(throttle, disturbance, PHYSICS_STEPS)


def _flight(sim: CudaMultirotor) -> Callable[[], object]:
    action = _hover(sim)
    recording = sim.recording(FLIGHT_STEPS)
    return lambda: sim.fly(action, FLIGHT_STEPS, recording)


def _multiply_add(sim: CudaMultirotor) -> Callable[[], object]:
    return lambda: sim.multiply_add(FMA_STEPS)


def _hover(sim: CudaMultirotor) -> Tensor:
    return torch.full((sim.n_envs, sim.rows.rotors), sim.robot.hover_action, device=sim.device)


def _measured(run: Callable[[], object], work: int, repeats: int) -> dict[str, float]:
    """Median and spread of the work per second."""
    for _ in range(WARM_UP):
        run()
    rates = [CALLS * work / _seconds(run) for _ in range(repeats)]
    return {"per_s": statistics.median(rates), "per_s_min": min(rates), "per_s_max": max(rates)}


def _seconds(run: Callable[[], object]) -> float:
    """Time of CALLS calls, from the device's idling to its idling again."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(CALLS):
        run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
