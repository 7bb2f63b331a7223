"""Train every preset with several seeds and fly each policy file on fresh evaluation seeds in both simulators.

    python benchmarks/training.py [--seeds 10] [--episodes 1000] [--presets l2f-hover ...] [--write]

Seeds 0 to 2 were used while the defaults were chosen; this starts at 100. Training times are those of the updates
alone with a warm kernel cache; the first run of each preset, which may compile, is not counted. `--write` puts the
table into benchmarks/results/training.md.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from machine import describe

from alula.evaluation.evaluate import evaluate_policy
from alula.firmware_export.c_export import export_c
from alula.firmware_export.host import c_max_abs_diff
from alula.policies.onnx_file import load_policy
from alula.presets import PRESETS, Preset, get_preset
from alula.training.config import ShortHorizonConfig
from alula.training.run import train

FIRST_SEED = 100
MUJOCO_EPISODES = 200


def one_seed(preset: Preset, seed: int, episodes: int) -> dict[str, Any]:
    """Train once; every figure of the table for this seed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = train(preset, seed=seed, out=folder)
        policy = load_policy(result.policy_path)
        export_c(result.policy_path, folder / "c")
        row: dict[str, Any] = {
            "train_s": result.train_s,
            "env_steps": result.env_steps,
            "onnx": policy.golden_max_abs_diff,
            "c": c_max_abs_diff(policy, folder / "c"),
        }
        kinds = {
            "nominal": {"sim": "multirotor", "nominal": True, "episodes": episodes},
            "range": {"sim": "multirotor", "nominal": False, "episodes": episodes},
            "mujoco": {"sim": "mujoco", "nominal": True, "episodes": MUJOCO_EPISODES},
        }
        if preset.task == "track":
            kinds["fast"] = {**kinds["nominal"], "lap": 3.5}
        for kind, settings in kinds.items():
            found = evaluate_policy(result.policy_path, seed=seed, **settings).to_json()
            row[kind] = found["success"]
            error = "tracking_rmse_m" if preset.task == "track" else "hover_error_m"
            row[kind + "_m"] = found[error]
    return row


def summary(preset: Preset, rows: list[dict[str, Any]]) -> list[str]:
    """Table lines of a preset: median and worst of the seeds."""
    what = "tracking RMSE" if preset.task == "track" else "position error in the last second"
    names = {
        "nominal": "the robot as its file says",
        "range": "over the whole training range",
        "mujoco": f"MuJoCo, {MUJOCO_EPISODES} episodes a seed",
        "fast": "lap in 3.5 s instead of 5.5 s",
    }
    times = [r["train_s"] for r in rows]
    steps = rows[0]["env_steps"] / 1e6
    lines = [
        f"| **{preset.name}** training time | {median(times):.2f} s | {max(times):.2f} s | "
        f"{steps:.2f} M environment steps; fastest {min(times):.2f} s |"
    ]
    for kind, name in names.items():
        if kind not in rows[0]:
            continue
        success, errors = [r[kind] for r in rows], [r[kind + "_m"] for r in rows]
        lines.append(f"| success, {name} | {median(success):.2%} | {min(success):.2%} | |")
        lines.append(
            f"| {what}, {name} | {100 * median(errors):.2f} cm | {100 * max(errors):.2f} cm | |"
        )
    for key, name in (("onnx", "ONNX Runtime"), ("c", "C")):
        values = [r[key] for r in rows]
        lines.append(
            f"| {name} against the golden actions | {median(values):.1e} | {max(values):.1e} | |"
        )
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument(
        "--presets",
        nargs="*",
        default=[p.name for p in PRESETS if isinstance(p.algo, ShortHorizonConfig)],
    )
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    lines = [
        "# Training: every preset, fresh seeds",
        "",
        f"{describe()}; seeds {FIRST_SEED} to {FIRST_SEED + arguments.seeds - 1}, {arguments.episodes} episodes of "
        "each kind a seed, with the robot's noise and the preset's disturbances. Tracking flies a figure-eight of "
        "2 m x 1 m; its RMSE leaves out the start-up.",
        "Made by `python benchmarks/training.py --write`.",
        "",
        "| what | median of the seeds | worst seed | |",
        "| --- | --- | --- | --- |",
    ]
    for name in arguments.presets:
        preset = get_preset(name)
        with tempfile.TemporaryDirectory() as folder:
            train(preset, seed=FIRST_SEED - 1, out=Path(folder))
        rows = []
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds):
            rows.append(one_seed(preset, seed, arguments.episodes))
            print(name, seed, rows[-1], flush=True)
        lines += summary(preset, rows)
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.write:
        out = Path(__file__).parent / "results" / "training.md"
        out.parent.mkdir(exist_ok=True)
        out.write_text(text)


if __name__ == "__main__":
    main()
