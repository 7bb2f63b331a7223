"""Physics steps per second of simulated arms, and which share that is of bare `mj_step`.

    python benchmarks/arm_simulator.py [--repeats 15] [--write]

Bare: one MjData, the same model and commands, no task, no observations, the loop over the steps in Python. Full:
`MujocoArm.step` with reward, privileged and noisy observations, randomised models and resets: every 15 steps a tenth
of the environments begins a new episode. The rows are measured in turn, `repeats` times over, each between two bare
runs, so that a busy neighbour disturbs both; shares are those of neighbours. `--write` puts the tables into
benchmarks/results/arm_simulator.md.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import mujoco
import numpy as np
from machine import describe

from alula.presets import ARM_RANDOMIZED
from alula.robots.arm import Arm, load_arm
from alula.sim.arm_config import ArmSimConfig
from alula.sim.mujoco.arm import MujocoArm
from alula.sim.mujoco.arm_model import build_arm_model
from alula.tasks import lift, reach

SECONDS = 0.4
"""Least duration of one measurement."""
N_ENVS = (32, 128, 512, 1024)
EPISODE = 150
CONFIG = ArmSimConfig(randomization=ARM_RANDOMIZED, episode_steps=EPISODE)
PLAIN = ArmSimConfig(episode_steps=EPISODE)
"""Without randomisation: what bare `mj_step` steps."""
Run = Callable[[], int]
"""Some policy steps; returns how many physics steps they were."""


def bare(robot: Arm, task: ModuleType) -> Run:
    """One MjData in a loop, episode by episode from the task's starts, with random actions like the others."""
    model = build_arm_model(robot, task, PLAIN)
    starts = MujocoArm(robot, task, PLAIN, 64, threads=1)
    starts.reset(0)
    data, rng, joints = mujoco.MjData(model), np.random.default_rng(0), len(robot.joint_names)
    size, low, high = (
        PLAIN.action_size(robot), np.array(robot.position_low), np.array(robot.position_high),
    )  # fmt: skip
    # Drawn before: only the steps are measured.
    actions = rng.uniform(-1, 1, (64, EPISODE, joints)).astype(np.float32)
    targets = np.empty(actions.shape)
    for e in range(64):
        target = starts.scene.joint_position[e]
        for k in range(EPISODE):
            targets[e, k] = target = np.clip(target + size * actions[e, k], low, high)
    episode = 0

    def run() -> int:
        nonlocal episode
        e = episode % 64
        mujoco.mj_resetData(model, data)
        data.qpos[:] = starts.qpos[e]
        for target in targets[e]:
            data.ctrl[:] = target
            mujoco.mj_step(model, data, PLAIN.substeps)
        episode += 1
        return EPISODE * PLAIN.substeps

    return run


def full(robot: Arm, task: ModuleType, config: ArmSimConfig, n: int, threads: int) -> Run:
    """`MujocoArm.step` with random actions. In each run a tenth of the environments begins a new episode."""
    sim = MujocoArm(robot, task, config, n, threads=threads)
    sim.reset(0)
    sim._steps[:] = EPISODE // 10 * (np.arange(n) * 10 // n)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (EPISODE // 10, n, sim.n_actions)).astype(np.float32)

    def run() -> int:
        for action in actions:
            sim.step(action)
        return len(actions) * n * config.substeps

    return run


def rate(run: Run) -> float:
    """Physics steps per second."""
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        steps += run()
    return steps / (time.perf_counter() - start)


def measure(robot: Arm, task: ModuleType, repeats: int) -> list[str]:
    """The table of one robot and task."""
    base = bare(robot, task)
    rows = {
        (n, threads, name): full(robot, task, config, n, threads)
        for n in N_ENVS
        for threads in (1, 2)
        for name, config in (("randomised", CONFIG), ("plain", PLAIN))
        if name == "randomised" or n == 128
    }
    for run in (base, *rows.values()):
        run()
    rates: dict[tuple, list[float]] = {key: [] for key in rows}
    shares: dict[tuple, list[float]] = {key: [] for key in rows}
    bares: list[float] = []
    for _ in range(repeats):
        bares.append(rate(base))
        for key, run in rows.items():
            rates[key].append(rate(run))
            bares.append(rate(base))
            shares[key].append(rates[key][-1] / (0.5 * (bares[-2] + bares[-1])) / key[1])
    low, middle, high = np.percentile(bares, [25, 50, 75]) / 1e3
    lines = [
        f"## {robot.name}, {task.NAME}",
        "",
        f"Bare `mj_step`, one core: {middle:.1f} k steps/s ({low:.1f} to {high:.1f}).",
        "",
        "| N | threads | models | k physics steps/s | quartiles | of bare `mj_step`, per core | quartiles |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (n, threads, name), values in rates.items():
        a, b, c = np.percentile(values, [25, 50, 75]) / 1e3
        p, q, r = 100 * np.percentile(shares[n, threads, name], [25, 50, 75])
        lines.append(
            f"| {n} | {threads} | {name} | {b:.1f} | {a:.1f} to {c:.1f} | {q:.0f} % | {p:.0f} to {r:.0f} |"
        )
    return [*lines, ""]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    lines = [
        "# Speed of simulated arms",
        "",
        f"{describe()}; MuJoCo {mujoco.__version__}; {arguments.repeats} interleaved measurements of {SECONDS} s. "
        f"Physics steps of {1e3 * CONFIG.control_dt / CONFIG.substeps:g} ms, {CONFIG.substeps} in a policy step.",
        "Made by `python benchmarks/arm_simulator.py --write`.",
        "",
    ]
    for name, task in (("panda", lift), ("ur5e", reach)):
        lines += measure(load_arm(name), task, arguments.repeats)
    text = "\n".join(lines).rstrip() + "\n"
    print(text)
    if arguments.write:
        out = Path(__file__).parent / "results" / "arm_simulator.md"
        out.parent.mkdir(exist_ok=True)
        out.write_text(text)


if __name__ == "__main__":
    main()
