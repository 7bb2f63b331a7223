"""The results of a sweep: intervals over seeds, tables for people and for programs."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from alula.evaluation.metrics import bootstrap_interval
from alula.settings import settings_text
from alula.sweep.run import measure_of

Row = dict[str, Any]


def row_of(settings: dict[str, Any], results: Sequence[Row]) -> Row:
    """One row of a table: some settings over the runs with them, one a seed.

    Intervals are 95 % bootstrap intervals of the mean over seeds; one seed has none. A training that failed is no
    success.
    """
    evaluations = [r["evaluation"] for r in results if "evaluation" in r]
    success = [r["evaluation"]["success"] if "evaluation" in r else 0.0 for r in results]
    measured = [measure_of(e) for e in evaluations]
    name = measured[0][0] if measured else "error_m"
    values = [v for _, v in measured if v is not None]
    times = [r["train_s"] for r in results if r.get("train_s") is not None]
    return {
        "settings": settings,
        "seeds": len(results),
        "failed": len(results) - len(evaluations),
        "success": _mean(success),
        "success_interval": _interval(success),
        "success_lowest": min(success, default=None),
        name: _mean(values),
        f"{name}_interval": _interval(values),
        "env_steps": _mean([r["env_steps"] for r in results if "env_steps" in r]),
        "train_s": float(np.median(times)) if times else None,
    }


def run_row(result: Row) -> Row:
    """One row of the list of runs."""
    if "error" in result:
        named = {"settings": result["settings"], "seed": result["seed"]}
        return named | {"success": 0.0, "error": result["error"]}
    evaluation = result["evaluation"]
    name, value = measure_of(evaluation)
    return {
        "settings": result["settings"],
        "seed": result["seed"],
        "evaluation_seed": evaluation["seed"],
        "episodes": evaluation["episodes"],
        "success": evaluation["success"],
        "success_interval": evaluation["success_interval"],
        name: value,
        "env_steps": result["env_steps"],
        "train_s": result["train_s"],
    }


def to_csv(rows: Sequence[Row]) -> str:
    """Rows as CSV: settings as text, the ends of an interval in two columns."""
    flat: list[Row] = []
    for row in rows:
        columns: Row = {}
        for name, value in row.items():
            if name == "settings":
                columns[name] = settings_text(value)
            elif name.endswith("_interval"):
                columns[f"{name}_low"], columns[f"{name}_high"] = value or ("", "")
            else:
                columns[name] = "" if value is None else value
        flat.append(columns)
    names = list(dict.fromkeys(name for columns in flat for name in columns))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def sweep_text(data: dict[str, Any]) -> str:
    """The result of a sweep for people."""
    seeds, lines = data["seeds"], []
    if data["chosen_by"]:
        used = seeds["chosen_with"]
        title = f"chosen from these, which are no results (training seeds {used['training']}, evaluation seeds {used['evaluation']})"
        lines += [to_text(data["chosen_by"], title), ""]
    used = seeds["stated_with"]
    fresh = f"fresh seeds, used for no choice (training {used['training']}, evaluation {used['evaluation']})"
    lines += [to_text(data["table"], f"{data['preset']}: {fresh}; 95 % intervals over seeds")]
    schedule = data["schedules"][0] if data["schedules"] else []
    if len(schedule) > 1:
        lines += ["schedule: " + ", then ".join(map(settings_text, schedule))]
    lines += [f"tables in {data['out']}: table.csv, runs.csv, result.json"]
    return "\n".join(lines)


def to_text(rows: Sequence[Row], title: str) -> str:
    """Rows as a table for people."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    measure = "return" if any("return" in row for row in rows) else "error_m"
    unit = 1.0 if measure == "return" else 100.0
    table = Table()
    table.add_column("settings", overflow="fold")
    columns = ("seeds", "success", "lowest", "return" if unit == 1.0 else "error [cm]")
    failed = any(row["failed"] for row in rows)
    for name in (*columns, "steps", "training", *(["failed"] if failed else [])):
        table.add_column(escape(name), justify="right")
    for row in rows:
        seconds = row["train_s"]
        table.add_row(
            escape(settings_text(row["settings"])),
            str(row["seeds"]),
            _percent(row["success"], row["success_interval"]),
            _percent(row["success_lowest"]),
            _shown(row.get(measure), row.get(f"{measure}_interval"), unit),
            "" if row["env_steps"] is None else f"{row['env_steps'] / 1e6:.2f} M",
            "" if seconds is None else f"{seconds:.1f} s",
            *([str(row["failed"])] if failed else []),
        )
    text = io.StringIO()
    Console(file=text, width=120, color_system=None).print(table)
    return "\n".join([title, *(line.rstrip() for line in text.getvalue().splitlines())])


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _interval(values: Sequence[float]) -> tuple[float, float] | None:
    return bootstrap_interval(np.array(values, np.float64)) if len(values) > 1 else None


def _percent(value: float | None, interval: tuple[float, float] | None = None) -> str:
    return _shown(value, interval, 100.0, ".1f", " %")


def _shown(
    value: float | None,
    interval: tuple[float, float] | None,
    factor: float,
    form: str = ".2f",
    unit: str = "",
) -> str:
    if value is None:
        return ""
    text = f"{factor * value:{form}}{unit}"
    if interval is None:
        return text
    low, high = (factor * x for x in interval)
    return f"{text} ({low:{form}} to {high:{form}})"
