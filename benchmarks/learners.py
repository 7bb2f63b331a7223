"""Train presets of the learners in torch with several seeds and evaluate each policy file on fresh episodes.

    python benchmarks/learners.py [--presets panda-reach ...] [--seeds 3] [--episodes 1000] [--jobs 1] [--write]

Seeds 0 and 1 were used while the settings were chosen, 103 to 105 of panda-reach, of panda-push 200 and 201, of panda-lift 200 and 201, of panda-insert-sac 101, 102, 200 and 201 (its 100 was
seen too), of panda-pivot-lift 100, 114 and 200 to 203 (and of its 118 was learned where it fails), and what counts as held was changed after its 110 to 112; seeds count from 100, or from
`--first-seed`. The training time is that of `alula train`'s updates, the time of making environments, networks and clones apart. Curves are in the `metrics.csv` of each run; `--keep DIR` keeps
the runs, and one that is there is not made again. `--jobs` trainings go at once, each on cores of its own. `--write` puts the table into
benchmarks/results/learners.md, a section a preset, and into docs/results/PRESET the curves of all seeds and the first one's policy,
settings and metrics. A preset with something to show beside it (BESIDE) is trained so too, in sections of their own.
"""

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from statistics import median
from typing import Any

import numpy as np
from machine import describe

RESULTS = Path(__file__).parent / "results" / "learners.md"
KEPT = Path(__file__).parents[1] / "docs" / "results"
FILES = ("policy.onnx", "config.json", "metrics.csv")
BESIDE = {
    "panda-pivot-lift": {
        "plain PPO": ("--set", "sim.assisting_force=0", "--set", "sim.head_start=0"),
        "head starts alone": ("--set", "sim.assisting_force=0"),
    }
}
"""What a preset is compared with: options of `alula train` by name."""
HEAD = """# Learners in torch

Made by `python benchmarks/learners.py --write`. Each row is one training seed; success with its 95 % interval over fresh episodes,
as the robot and its objects are in their files, and over the whole range of the training. Error: median at the end for arms,
mean position error in the last second for multirotors.
"""


def alula(*arguments: str, cores: str = "") -> dict[str, Any]:
    """The JSON of a command, on some of the cores."""
    command = [sys.executable, "-m", "alula.cli", *arguments, "--json"]
    if cores:
        command = ["taskset", "--cpu-list", cores, *command]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def trained(
    preset: str, options: Sequence[str], seed: int, folder: Path, cores: str
) -> dict[str, Any]:
    """The result of a training, of an earlier call if it is there."""
    result = folder / "result.json"
    if result.is_file():
        return json.loads(result.read_text())
    return alula("train", preset, *options, "--seed", str(seed), "--out", str(folder), cores=cores)


def figures(found: dict[str, Any]) -> str:
    """Success and error of an evaluation, as two cells."""
    low, high = found["success_interval"]
    error = found.get("hover_error_m")
    if error is None:
        error = found["measures"].get("error", {}).get("median")
    shown = "" if error is None else f"{100 * error:.2f} cm"
    return f"{found['success']:.1%} ({low:.1%} to {high:.1%}) | {shown}"


def section(
    title: str, preset: str, options: Sequence[str], runs: dict[int, Path], episodes: int, jobs: int
) -> str:
    """The table of a preset with options; `runs` are the folders of its trainings by seed."""
    machine, rows, nominal, ranged, times = describe(), [], [], [], []
    every = sorted(os.sched_getaffinity(0))
    share = len(every) // jobs
    free: Queue[str] = Queue()
    for k in range(jobs):
        free.put(",".join(map(str, every[k * share : (k + 1) * share])))

    def train(seed: int) -> dict[str, Any]:
        cores = free.get()
        try:
            return trained(preset, options, seed, runs[seed], cores)
        finally:
            free.put(cores)

    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(train, runs))
    for seed, result in zip(runs, results, strict=True):
        policy = result["policy"]
        flown = [
            alula("evaluate", policy, "--episodes", str(episodes), "--seed", str(seed), *more)
            for more in ((), ("--randomized",))
        ]
        times.append(result["train_s"])
        nominal.append(flown[0]["success"])
        ranged.append(flown[1]["success"])
        rows.append(
            f"| {seed} | {result['train_s']:.0f} s + {result['setup_s']:.0f} s | {result['env_steps'] / 1e6:.2f} M | "
            f"{figures(flown[0])} | {figures(flown[1])} |"
        )
        print(rows[-1], flush=True)
    rows.append(
        f"| median | {median(times):.0f} s | | {median(nominal):.1%} | | {median(ranged):.1%} | |"
    )
    head = (
        "| seed | training + making | steps | success | error | success over the range | error |\n"
        "| --- | --- | --- | --- | --- | --- | --- |"
    )
    cores = f"each training on {share} of the cores"
    command = " ".join(("alula train", preset, *options))
    return (
        f"## {title}\n\n`{command}`: {machine}; {episodes} episodes; {cores}.\n\n{head}\n"
        + "\n".join(rows)
        + "\n"
    )


def write(title: str, text: str) -> None:
    """Put a section in its place, behind the others."""
    old = RESULTS.read_text() if RESULTS.is_file() else HEAD
    others = [s for s in re.split(r"(?m)^(?=## )", old) if not s.startswith(f"## {title}\n")]
    parts = [s.rstrip() for s in (*others, text)]
    RESULTS.write_text("\n\n".join(parts) + "\n")


def publish(preset: str, runs: list[Path]) -> None:
    """Curves of all runs; policy, settings and metrics of the first."""
    from matplotlib.figure import Figure

    folder = KEPT / preset
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(runs[0] / name, folder / name)
    figure = Figure(figsize=(6.0, 3.5), layout="constrained")
    axes = figure.subplots()
    for run in runs:
        with (run / "metrics.csv").open() as file:
            cost = [float(row["cost"]) for row in csv.DictReader(file)]
        steps = json.loads((run / "result.json").read_text())["env_steps"]
        axes.plot(steps * np.arange(1, len(cost) + 1) / len(cost) / 1e6, -np.array(cost), lw=0.8,
                  label=f"seed {run.name.rsplit('-', 1)[1]}")  # fmt: skip
    axes.set(xlabel="environment steps [M]", ylabel="mean reward per step", title=preset)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(folder / "curves.png", dpi=120)


def main() -> None:
    """Train, evaluate, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["crazyflie-hover-ppo", "panda-reach"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    parser.add_argument("--keep", type=Path, help="folder for the runs")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    chosen = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    if not 1 <= chosen.jobs <= cores:
        parser.error(f"--jobs is {chosen.jobs}; allowed: 1 to {cores}")
    with tempfile.TemporaryDirectory() as scratch:
        for preset in chosen.presets:
            for beside, options in {"": (), **BESIDE.get(preset, {})}.items():
                title = f"{preset}, {beside}" if beside else preset
                name = title.replace(", ", "-").replace(" ", "-")
                keep = chosen.keep or Path(scratch)
                seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
                runs = {seed: keep / f"{name}-{seed}" for seed in seeds}
                text = section(title, preset, options, runs, chosen.episodes, chosen.jobs)
                print(text)
                if chosen.write:
                    write(title, text)
                    if not beside:
                        publish(preset, list(runs.values()))


if __name__ == "__main__":
    main()
