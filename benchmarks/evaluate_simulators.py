"""Do the two simulators agree about the policies? Success and error of each preset in both, and how fast.

    python benchmarks/evaluate_simulators.py [--presets l2f-hover ...] [--episodes 1000] [--write]

Trains each preset once with seed 0 and evaluates it on fresh seeds. `--write` puts the table into
benchmarks/results/evaluate_simulators.md.
"""

import argparse
import tempfile
import time
from pathlib import Path

from machine import describe

from alula.build import SimName
from alula.evaluation.evaluate import Evaluation, evaluate, flight_setting, policy_task
from alula.evaluation.study import distance_apart, step_response, sweeps
from alula.policies.onnx_file import Policy, load_policy
from alula.presets import PRESETS, get_preset
from alula.robots.multirotor import load_robot
from alula.training.config import ShortHorizonConfig
from alula.training.run import train

HEAD = """| preset | flown | sim | episodes | success | error, last 1 s [cm] | 95th percentile [cm] | RMSE [cm] | time [s] |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def row(preset: str, flown: str, e: Evaluation, seconds: float) -> str:
    """One line of the table."""
    m = e.metrics
    low, high = m.success_interval
    errors = [
        "-"
        if value is None or span is None
        else f"{100 * value:.2f} ({100 * span[0]:.2f}-{100 * span[1]:.2f})"
        for value, span in (
            (m.hover_error_m, m.hover_error_interval_m),
            (m.hover_error_p95_m, m.hover_error_p95_interval_m),
            (m.tracking_rmse_m, m.tracking_rmse_interval_m),
        )
    ]
    success = f"{100 * m.success:.1f} % ({100 * low:.1f}-{100 * high:.1f})"
    cells = [preset, flown, e.sim, str(m.episodes), success, *errors, f"{seconds:.2f}"]
    return "| " + " | ".join(cells) + " |\n"


def rows_of(preset: str, policy: Policy, episodes: int) -> str:
    """All evaluations of one policy."""
    text = ""
    laps = (5.5, 3.5) if policy.contract.task == "track" else (5.5,)
    for sim in ("multirotor", "mujoco"):
        for nominal in (True, False):
            for lap in laps:
                begun = time.perf_counter()
                result, _ = evaluate(policy, sim=sim, episodes=episodes, nominal=nominal, lap=lap)
                seconds = time.perf_counter() - begun
                flown = "nominal" if nominal else "randomised"
                flown += f", lap {lap:g} s" if len(laps) > 1 else ""
                text += row(preset, flown, result, seconds)
    return text


def differences(preset: str, policy: Policy) -> str:
    """Step response apart, and the times of what the report flies."""
    robot = load_robot(policy.contract.robot)
    task, config = policy_task(policy.contract), flight_setting(policy.contract)
    sims: tuple[SimName, ...] = ("multirotor", "mujoco")
    steps = {sim: step_response(policy, sim, robot, task, config) for sim in sims}
    apart = 1e3 * distance_apart(steps).max()
    begun = time.perf_counter()
    sweeps(policy, robot, task, config, seed=0, episodes=64)
    swept = time.perf_counter() - begun
    begun = time.perf_counter()
    evaluate(policy, sim="mujoco", episodes=100, steps=500)
    hundred = time.perf_counter() - begun
    return f"| {preset} | {apart:.3f} | {swept:.2f} | {hundred:.2f} |\n"


def main() -> None:
    """Train, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--presets",
        nargs="+",
        default=[p.name for p in PRESETS if isinstance(p.algo, ShortHorizonConfig)],
    )
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    machine, table, second = describe(), HEAD, ""
    for name in arguments.presets:
        with tempfile.TemporaryDirectory() as folder:
            policy = load_policy(train(get_preset(name), out=Path(folder)).policy_path)
        table += rows_of(name, policy, arguments.episodes)
        second += differences(name, policy)
    text = (
        f"# Both simulators about the same policies\n\n{machine}. Each preset trained once, seed 0; intervals "
        "are 95 %. The episodes of the two simulators are drawn apart.\n\n"
        f"{table}\n"
        "Largest distance of the two simulators in a closed-loop step of 0.5 m (3 s, no noise), and times.\n\n"
        "| preset | apart [mm] | five sweeps, 64 flights a point [s] | MuJoCo, 100 x 500 steps [s] |\n"
        f"| --- | --- | --- | --- |\n{second}"
    )
    print(text)
    if arguments.write:
        out = Path(__file__).parent / "results" / "evaluate_simulators.md"
        out.parent.mkdir(exist_ok=True)
        out.write_text(text)


if __name__ == "__main__":
    main()
