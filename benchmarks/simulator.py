"""Simulator steps per second on one core, and how far that is from the floor.

    python benchmarks/simulator.py [--repeats 15] [--write]

The rows are measured in turn, `repeats` times over, so that a busy neighbour disturbs all of them alike; the table
gives median and quartiles. `--write` puts it into benchmarks/results/simulator.md.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from machine import describe, peak_flops

from alula.build import build_task
from alula.presets import get_preset
from alula.robots.multirotor import load_robot
from alula.sim.config import Limits
from alula.sim.multirotor.equations import Disturbance, Geometry, State, rk4_step
from alula.sim.multirotor.kernels import LANES, Features, RowCounts, aligned, pointer
from alula.sim.multirotor.simulator import MultirotorSimulator
from alula.sim.trace import count_flops

SECONDS = 0.15
N_ENVS = 512


def rk4_flops() -> int:
    """Additions, multiplications, divisions, maxima and minima of one RK4 step of a plain quadrotor."""
    robot, task = load_robot("crazyflie-l2f"), build_task("hover")
    n, features = RowCounts(4, task), Features.of(robot)

    def build(x: list, u: list, p: list, d: list, g: list) -> dict[str, list]:
        geometry = Geometry(rotor_x=g[:4], rotor_y=g[4:8], spin=features.spin)
        state = rk4_step(
            State.from_rows(x), u, features.params(p), Disturbance.from_rows(d), geometry, g[8]
        )
        return {"next": state.rows()}

    return count_flops(build, [n.state, 4, n.params, 6, 9])


def simulators() -> dict[str, Callable[[], int]]:
    """Row name -> a function that flies some steps and returns how many."""
    preset = get_preset("l2f-hover")
    robot, task = load_robot(preset.robot), build_task(preset.task)
    rng = np.random.default_rng(0)
    blocks = N_ENVS // LANES
    shape = (blocks, robot.n_rotors, LANES)
    actions = [
        (robot.hover_action + 0.02 * rng.standard_normal(shape)).astype(np.float32)
        for _ in range(16)
    ]
    # Without a policy every flight would soon leave the limits; without limits an episode lasts its 500 steps, as it
    # does with one. The work of a step does not depend on the numbers.
    far = Limits(position=1e6, velocity=1e6, angular_velocity=1e6)
    calm = replace(preset.sim, noise=0.0, limits=far)

    def full(config: object, repeat: int) -> Callable[[], int]:
        sim = MultirotorSimulator(robot, task, config, N_ENVS)  # type: ignore[arg-type]
        sim.reset(0)

        def run() -> int:
            for action in actions:
                sim.step_blocks(action, repeat)
            return len(actions) * repeat * N_ENVS

        return run

    def physics() -> Callable[[], int]:
        sim = MultirotorSimulator(robot, task, calm, N_ENVS)
        sim.reset(0)
        throttle, still = aligned(shape), aligned((blocks, 6, LANES))
        throttle[:] = robot.hover_throttle

        def run() -> int:
            sim._library.alula_physics(
                sim._struct, 0, blocks, 100, pointer(throttle), pointer(still)
            )
            return 100 * N_ENVS

        return run

    return {
        "RK4 alone, constant throttle": physics(),
        "RK4, reward, reset, observation; episodes of 500 steps": full(calm, 16),
        "the same with sensor noise (18 normal deviates a step)": full(
            replace(calm, noise=1.0), 16
        ),
        "the same with the limits on and no policy: an episode lasts about 60 steps": full(
            preset.sim, 16
        ),
        "the same, one step a call from Python": full(preset.sim, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    machine = describe()
    runs = simulators()
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    width = 0
    for _ in range(arguments.repeats):
        for name, run in runs.items():
            steps, start = 0, time.perf_counter()
            while time.perf_counter() - start < SECONDS:
                steps += run()
            rates[name].append(steps / (time.perf_counter() - start) / 1e6)
    sim = MultirotorSimulator(
        load_robot("crazyflie-l2f"), build_task("hover"), get_preset("l2f-hover").sim, 16
    )
    width = int(sim._library.alula_vector_width())
    peak, flops = peak_flops(width), rk4_flops()
    lines = [
        "# Simulator speed, one core",
        "",
        f"{machine}; {N_ENVS} environments, `crazyflie-l2f`, float32, {width} lanes a vector; "
        f"{arguments.repeats} interleaved measurements of {SECONDS} s.",
        "Made by `python benchmarks/simulator.py --write`.",
        "",
        "| what | median M steps/s | quartiles | best |",
        "| --- | --- | --- | --- |",
    ]
    for name, values in rates.items():
        low, middle, high = np.percentile(values, [25, 50, 75])
        lines.append(f"| {name} | {middle:.1f} | {low:.1f} to {high:.1f} | {max(values):.1f} |")
    floor = peak / flops / 1e6
    share = np.median(rates["RK4 alone, constant throttle"]) / floor
    lines += [
        "",
        f"Floor: one RK4 step is {flops} floating-point operations as the generator counts them (each addition, "
        f"multiplication, maximum or minimum is one). This core reaches {peak / 1e9:.0f} GFLOP/s in fused "
        f"multiply-adds, so no RK4 step can be faster than {floor:.0f} M steps/s; RK4 alone runs at "
        f"{100 * share:.0f} % of that. Not every addition has a product to be fused with, and a third of the "
        "instructions move operands: the equations have more live values than the processor has registers.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.write:
        out = Path(__file__).parent / "results" / "simulator.md"
        out.parent.mkdir(exist_ok=True)
        out.write_text(text)


if __name__ == "__main__":
    main()
