"""Train presets of the learners in torch with several seeds and evaluate each policy file on fresh episodes.

    python benchmarks/learners.py [--presets panda-reach ...] [--seeds 3] [--episodes 1000] [--write]

Seed 0 was used while the settings were chosen; this starts at 100. The training time is that of `alula train`'s updates, the
time of making environments, networks and clones apart. Curves are in the `metrics.csv` of each run; `--keep DIR` keeps
the runs. `--write` puts the table into benchmarks/results/learners.md, a section a preset.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from machine import describe

FIRST_SEED = 100
RESULTS = Path(__file__).parent / "results" / "learners.md"
HEAD = """# Learners in torch

Made by `python benchmarks/learners.py --write`. Each row is one training seed; success with its 95 % interval over fresh episodes,
as the robot and its objects are in their files, and over the whole range of the training. Error: median at the end for arms,
mean position error in the last second for multirotors.
"""


def alula(*arguments: str) -> dict[str, Any]:
    """The JSON of a command."""
    command = [sys.executable, "-m", "alula.cli", *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def figures(found: dict[str, Any]) -> str:
    """Success and error of an evaluation, as two cells."""
    low, high = found["success_interval"]
    error = found.get("hover_error_m")
    if error is None:
        error = found["measures"].get("error", {}).get("median")
    shown = "" if error is None else f"{100 * error:.2f} cm"
    return f"{found['success']:.1%} ({low:.1%} to {high:.1%}) | {shown}"


def section(preset: str, seeds: int, episodes: int, keep: Path) -> str:
    """The table of a preset."""
    machine, rows, nominal, ranged, times = describe(), [], [], [], []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        folder = keep / f"{preset}-{seed}"
        trained = alula("train", preset, "--seed", str(seed), "--out", str(folder))
        policy = trained["policy"]
        flown = [
            alula("evaluate", policy, "--episodes", str(episodes), "--seed", str(seed), *more)
            for more in ((), ("--randomized",))
        ]
        times.append(trained["train_s"])
        nominal.append(flown[0]["success"])
        ranged.append(flown[1]["success"])
        rows.append(
            f"| {seed} | {trained['train_s']:.0f} s + {trained['setup_s']:.0f} s | {trained['env_steps'] / 1e6:.2f} M | "
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
    return f"## {preset}\n\n{machine}; {episodes} episodes.\n\n{head}\n" + "\n".join(rows) + "\n"


def write(preset: str, text: str) -> None:
    """Put a section in its place, or behind the others."""
    old = RESULTS.read_text() if RESULTS.is_file() else HEAD
    others = [s for s in re.split(r"(?m)^(?=## )", old) if not s.startswith(f"## {preset}\n")]
    parts = [s.rstrip() for s in (*others, text)]
    RESULTS.write_text("\n\n".join(parts) + "\n")


def main() -> None:
    """Train, evaluate, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["crazyflie-hover-ppo", "panda-reach"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--keep", type=Path, help="folder for the runs")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for preset in chosen.presets:
            text = section(preset, chosen.seeds, chosen.episodes, chosen.keep or Path(scratch))
            print(text)
            if chosen.write:
                write(preset, text)


if __name__ == "__main__":
    main()
