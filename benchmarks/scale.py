"""Two workers beside one, and the model for more: `alula bench scale`, as tables.

    python benchmarks/scale.py [--presets panda-reach panda-lift] [--repeats 80] [--write]

On a quiet machine. `--write` puts them into benchmarks/results/scale.md, and beside it the JSON, scale.json.
"""

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

from alula.bench_scale import bench_scale
from alula.presets import get_preset

RESULTS = Path(__file__).parent / "results"
HEAD = "# Workers\n\nMade by `python benchmarks/scale.py --write`; see [docs/scale.md](../../docs/scale.md)."


def row(name: str, found: dict[str, float]) -> str:
    rate, low, high = (found[f"env_steps_per_s{end}"] for end in ("", "_min", "_max"))
    times, lower, upper = (
        found[f"times_one{end}"] for end in ("", "_lower_quartile", "_upper_quartile")
    )
    return f"| {name} | {rate:.0f} ({low:.0f} to {high:.0f}) | {times:.2f} ({lower:.2f} to {upper:.2f}) |"


def section(data: dict[str, Any]) -> str:
    """The tables: what was measured, and apart from it what the model says."""
    hardware, sizes, messages = (data[k] for k in ("hardware", "sizes", "messages"))
    n = sizes["n_envs"]
    lines = [
        f"## {data['preset']}",
        "",
        f"{datetime.date.today()}, {hardware['cpu']}, {hardware['cores_used']} of {hardware['cores']} cores, load "
        f"{hardware['load_before']:.1f} at the start; {sizes['rollout_steps']} steps an update, steps of "
        f"{1e3 * data['control_dt_s']:g} ms in {1e3 * data['physics_dt_s']:g} ms of physics, {data['precision']}; "
        f"{data['repeats']} updates of each in turns; torch {hardware['torch']}, MuJoCo {hardware['mujoco']}.",
        "",
        "| workers, a core and a thread each | environment steps/s: median (lowest to highest) | times one: median (quartiles) |",
        "| --- | --- | --- |",
        row(f"one, {n} environments", data["one_worker"]),
        row(f"two, {n // 2} each", data["two_workers"]),
        row(f"two, {n} each", data["two_workers_twice_the_environments"]),
        row(f"two, {n} each, no messages", data["two_workers_without_messages"]),
        "",
        f"Messages between the two: {messages['of_an_update']} an update, {messages['bytes_of_an_update']} bytes in all. Times of "
        f"{len(messages['seconds_by_bytes'])} sizes, 4 bytes to 4 MiB, fit 2 alpha + beta b with alpha = "
        f"{1e6 * messages['alpha_s']:.0f} us and 1 / beta = {1e-9 / max(messages['beta_s_per_byte'], 1e-15):.2f} GB/s.",
        "",
        "### By the model, not measured",
        "",
        f"{data['model']['formula']}, with t_1 = {1e3 * data['model']['t_1_s']:.0f} ms, n = {n}, and a core for each worker.",
        "",
        "| workers | environment steps/s | times one | share of messages |",
        "| --- | --- | --- | --- |",
    ]
    for w in data["model"]["workers"]:
        lines.append(
            f"| {w['workers']} | {w['env_steps_per_s']:.0f} | {w['speed_up']:.1f} | {w['share_of_messages']:.1%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["panda-reach", "panda-lift"])
    parser.add_argument("--repeats", type=int, default=80)
    parser.add_argument(
        "--write", action="store_true", help="write results/scale.md and scale.json"
    )
    chosen = parser.parse_args()
    found = [bench_scale(get_preset(name), repeats=chosen.repeats) for name in chosen.presets]
    text = "\n\n".join(section(data) for data in found)
    print(text)
    if chosen.write:
        (RESULTS / "scale.md").write_text(f"{HEAD}\n\n{text}\n")
        (RESULTS / "scale.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
