"""What a critic that sees more is worth on panda-lift: the same training, its critic privileged or with the actor's view.

    pip install rliable 'pandas<3'    (for the table and its plot; nothing else here needs them)
    python benchmarks/critic_study.py --out results.jsonl [--updates 450] [--seeds 5] [--jobs 2]
    python benchmarks/critic_study.py --out results.jsonl --table [--write]

Both sides have the same seeds, steps, networks and settings, those of the preset with `--updates` updates. Runs have one thread each
and go in pairs, `--jobs` at once, so that both sides meet the same load; each finished run appends a line to the results file, and one that is there is
not made again. After every tenth of the updates the mean action is tried in fresh episodes, whose seeds no training has. The
table shows interquartile means over the seeds with stratified bootstrap intervals (arXiv 2108.13264).
"""

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe

from alula.build import build_learner, build_robot, build_task
from alula.evaluation.arm_episodes import run_episodes
from alula.evaluation.arm_physics import Setting
from alula.presets import get_preset
from alula.robots.arm import Arm
from alula.sim.arm_config import ArmSimConfig
from alula.training.config import PpoConfig

PRESET = "panda-lift"
# No seed of which has tuned the preset.
FIRST_SEED = 300
EVALUATION_SEED = 50_000
EPISODES = 500
TENTHS = 10
VIEWS = {True: "privileged", False: "the actor's view"}
RESULTS = Path(__file__).parent / "results"


def run(privileged: bool, seed: int, updates: int) -> dict[str, Any]:
    """One training on one thread: success and time after every tenth of it."""
    torch.set_num_threads(1)
    preset = get_preset(PRESET)
    assert isinstance(preset.algo, PpoConfig)
    assert isinstance(preset.sim, ArmSimConfig)
    preset = replace(preset, algo=replace(preset.algo, privileged=privileged, updates=updates))
    robot = build_robot(preset)
    assert isinstance(robot, Arm)
    setting = Setting(robot=robot, task=build_task(preset.task), config=preset.sim)
    learner, trained_s = build_learner(preset, robot, seed, threads=1), 0.0
    steps, success, times = [], [], []
    for k in range(1, updates + 1):
        begun = time.perf_counter()
        learner.update()
        trained_s += time.perf_counter() - begun
        if k * TENTHS // updates > (k - 1) * TENTHS // updates:
            network = learner.network()
            flown = run_episodes(
                network, setting.simulator(EPISODES), steps=preset.sim.episode_steps,
                seed=EVALUATION_SEED + seed,
            )  # fmt: skip
            steps.append(learner.env_steps)
            success.append(float(flown.succeeded.mean()))
            times.append(trained_s)
    return {
        "privileged": privileged, "seed": seed, "updates": updates, "env_steps": steps, "success": success,
        "train_s": times, "machine": describe(),
    }  # fmt: skip


def table(results: list[dict[str, Any]], *, write: bool) -> str:
    """The committed page; with `write` its plot too."""
    from rliable import library, metrics

    updates = results[0]["updates"]
    seeds = sorted({r["seed"] for r in results})
    # (seeds, tasks, checkpoints)
    scores = {
        shown: np.array(
            [[r["success"]] for r in results if r["privileged"] is view], dtype=np.float64
        )
        for view, shown in VIEWS.items()
    }

    def means(x: np.ndarray) -> np.ndarray:
        return np.array([metrics.aggregate_iqm(x[..., k]) for k in range(x.shape[-1])])

    point, interval = library.get_interval_estimates(scores, means, reps=5000)
    machines = sorted({r["machine"].rsplit(", load", 1)[0] for r in results})
    lines = [
        f"# What a privileged critic is worth on {PRESET}",
        "",
        f"`python benchmarks/critic_study.py --updates {updates}`: success of the mean action over {EPISODES} fresh episodes, over the",
        f"whole range of the training; interquartile mean over {len(seeds)} seeds ({seeds[0]} to {seeds[-1]}) with its 95 % stratified bootstrap",
        f"interval. Runs: {'; '.join(machines)}, one thread each.",
        "",
        "| steps | " + " | ".join(f"critic: {name}" for name in VIEWS.values()) + " |",
        "| --- | --- | --- |",
    ]
    for k, steps in enumerate(results[0]["env_steps"]):
        cells = [
            f"{point[name][k]:.1%} ({interval[name][0][k]:.1%} to {interval[name][1][k]:.1%})"
            for name in VIEWS.values()
        ]
        lines.append(f"| {steps / 1e6:.1f} M | " + " | ".join(cells) + " |")
    lines += ["", "Each run at its end:", "", "| critic | seed | success | training |", "| --- | --- | --- | --- |"]  # fmt: skip
    for r in sorted(results, key=lambda r: (not r["privileged"], r["seed"])):
        row = (VIEWS[r["privileged"]], str(r["seed"]), f"{r['success'][-1]:.1%}", f"{r['train_s'][-1]:.0f} s")  # fmt: skip
        lines.append(f"| {' | '.join(row)} |")
    if write:
        lines += ["", "![Success over steps](critic_study.png)"]
        _plot(np.array(results[0]["env_steps"]), point, interval)
    return "\n".join(lines) + "\n"


def _plot(steps: np.ndarray, point: dict[str, np.ndarray], interval: dict[str, np.ndarray]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, curve in point.items():
        axes.plot(steps / 1e6, 100.0 * curve, label=f"critic: {name}")
        axes.fill_between(steps / 1e6, *(100.0 * interval[name]), alpha=0.2)
    axes.set(xlabel="environment steps [M]", ylabel="success [%]", ylim=(0.0, 100.0), title=PRESET)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(RESULTS / "critic_study.png", dpi=120)


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--updates", type=int, default=450)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--table", action="store_true")
    parser.add_argument(
        "--write", action="store_true", help="with --table: write the page and plot"
    )
    chosen = parser.parse_args()
    known = chosen.out.read_text().splitlines() if chosen.out.exists() else []
    results = [json.loads(line) for line in known]
    if chosen.table:
        text = table(results, write=chosen.write)
        print(text)
        if chosen.write:
            (RESULTS / "critic_study.md").write_text(text)
        return
    done = {(r["privileged"], r["seed"], r["updates"]) for r in results}
    seeds = range(FIRST_SEED, FIRST_SEED + chosen.seeds)
    wanted = [(view, seed, chosen.updates) for seed in seeds for view in VIEWS]
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(chosen.jobs, mp_context=fresh) as pool:
        runs = [pool.submit(run, *one) for one in wanted if one not in done]
        for finished in as_completed(runs):
            result = finished.result()
            with chosen.out.open("a") as file:
                file.write(json.dumps(result) + "\n")
            print({k: v for k, v in result.items() if k != "machine"}, flush=True)


if __name__ == "__main__":
    main()
