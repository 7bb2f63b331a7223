"""What each part of the training is worth: three presets with one part left out at a time.

    python benchmarks/ablation.py [--seeds 5] [--episodes 500] [--write]

Every variant of a preset is flown on the same vehicles: the robot with its real rotor lag, over the preset's whole
range of masses, inertias, thrusts, lags and delays (`l2f-hover` has none). `--write` puts the table into docs/ablation.md.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
from machine import describe

from alula.build import build_simulator, build_task
from alula.evaluation.flight import fly
from alula.evaluation.metrics import measure
from alula.presets import Preset, get_preset
from alula.robots.multirotor import Multirotor, load_robot
from alula.sim.config import Randomization
from alula.tasks.track import figure_eight
from alula.training.short_horizon import ShortHorizonLearner

FIRST_SEED = 200
ERRORS = {
    "l2f-hover": "error in the last second",
    "crazyflie-hover": "error in the last second",
    "crazyflie-track": "figure-eight RMSE, 5.5 s lap",
}
"""Presets, and what is measured on each."""
Variant = Callable[[Preset, Multirotor], tuple[Preset, Multirotor]]

VARIANTS: dict[str, Variant] = {
    "everything": lambda p, r: (p, r),
    "critic sees only what the actor sees": lambda p, r: (
        replace(p, algo=replace(p.algo, privileged=False)),
        r,
    ),
    "no critic: the horizon just ends": lambda p, r: (
        replace(p, algo=replace(p.algo, critic=False)),
        r,
    ),
    "no action history": lambda p, r: (replace(p, sim=replace(p.sim, history=0)), r),
    "history learns as fast as the rest": lambda p, r: (
        replace(p, algo=replace(p.algo, history_rate=1.0)),
        r,
    ),
    "no rotor lag in training": lambda p, r: (
        p,
        replace(r, rotor_lag_up=1e-3, rotor_lag_down=1e-3),
    ),
    "no randomisation in training": lambda p, r: (
        replace(p, sim=replace(p.sim, randomization=Randomization())),
        r,
    ),
}


def flown(preset: Preset, variant: Variant, seed: int, episodes: int) -> tuple[float, float]:
    """Success and error [m] of one training of a variant, flown on the full problem."""
    robot, task = load_robot(preset.robot), build_task(preset.task)
    changed, training_robot = variant(preset, robot)
    learner = ShortHorizonLearner(training_robot, task, changed.sim, changed.algo, seed)
    for _ in range(changed.algo.updates):
        learner.update()
    history = changed.sim.history
    track = preset.task == "track"
    steps = 1200 if track else preset.sim.episode_steps
    setting = replace(preset.sim, history=history, episode_steps=steps)
    simulator = build_simulator(
        "multirotor",
        robot,
        task,
        setting,
        episodes,
        trajectories=np.array([figure_eight(2.0, 1.0, 5.5)], np.float32) if track else None,
        auto_reset=False,
    )
    network = learner.network()

    def act(observation: np.ndarray) -> np.ndarray:
        return network(observation).astype(np.float32)

    found = measure(fly(act, simulator, setting, steps=steps, seed=seed + 10_000))
    return found.success, (found.tracking_rmse_m if track else found.hover_error_m) or float("nan")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    lines = [
        "# What each part is worth",
        "",
        f"{describe()}. {arguments.seeds} trainings a row (seeds {FIRST_SEED} on, none of them used for tuning), "
        f"{arguments.episodes} flights each, over the whole training range, with noise, disturbance, delays and the "
        "robot's rotor lag: median of the seeds, in brackets the worst. A failed flight counts in the success only.",
        "Made by `python benchmarks/ablation.py --write`.",
    ]
    for name, error in ERRORS.items():
        lines += ["", f"## {name}", "", f"| left out | success | {error} |", "| --- | --- | --- |"]
        preset = get_preset(name)
        for label, variant in VARIANTS.items():
            if "randomisation" in label and preset.sim.randomization == Randomization():
                continue
            found = [
                flown(preset, variant, FIRST_SEED + i, arguments.episodes)
                for i in range(arguments.seeds)
            ]
            success, errors = [f[0] for f in found], [f[1] for f in found]
            finite = [e for e in errors if np.isfinite(e)]
            error_text = (
                f"{100 * median(finite):.2f} cm ({100 * max(finite):.2f})"
                if len(finite) == len(errors)
                else "in some seeds no flight lasted"
            )
            lines.append(
                f"| {'nothing' if label == 'everything' else label} | {median(success):.1%} ({min(success):.1%}) | "
                f"{error_text} |"
            )
            print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    if arguments.write:
        (Path(__file__).parents[1] / "docs" / "ablation.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
