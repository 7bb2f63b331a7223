"""report.html of an arm's policy: everything that was run, on one self-contained page."""

import base64
import html
from dataclasses import replace
from pathlib import Path

import numpy as np

import alula
from alula.errors import AlulaError
from alula.evaluation import arm_figures as fig
from alula.evaluation.arm_episodes import Episodes
from alula.evaluation.arm_evaluate import ArmEvaluation, Measured
from alula.evaluation.arm_pictures import FRAMES, frames_of, strips, with_sky
from alula.evaluation.arm_study import ArmStudy
from alula.evaluation.figures import training_figures
from alula.evaluation.page import figures, page, section, table
from alula.evaluation.report import contract_tables, provenance_table
from alula.policies.files import write_files
from alula.policies.onnx_file import Policy


def write_arm_report(
    path: str | Path,
    *,
    policy: Policy,
    study: ArmStudy,
    training_log: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the report of an arm's policy; whole or not at all.

    Args:
        path: HTML file to write.
        policy: the loaded policy.
        study: what was run, from `arm_study.run_arm_study`.
        training_log: a run's metrics.csv, for the learning curve.
        overwrite: replace an existing file.

    Returns:
        The path.

    Raises:
        AlulaError: the file exists or cannot be written, or the log cannot be read.
    """
    path = Path(path)
    if not study.runs:
        raise AlulaError("study holds 0 evaluations; allowed: at least one")
    first = study.runs[0][0]
    histograms = [fig.final_errors(study.runs, measure) for measure in first.metrics.measures]
    parts = [
        _headline(policy, study),
        section(
            "The figures",
            "95 % intervals below each figure: Wilson's for success, order statistics for median and percentile, "
            "bootstrap over episodes for the rest. Starts, goals, parameters and noise come from seeds that no training "
            "uses. Success is judged at the end of an episode.",
            _numbers(study),
        ),
        section("How it ends", "", figures([f.html() for f in histograms], wide=True)),
        _pictures(study),
    ]
    if study.sweeps:
        parts.append(_robustness(study))
    if training_log is not None:
        curves = training_figures(Path(training_log))
        parts.append(section("Training", "", figures([f.html() for f in curves], wide=True)))
    parts.append(section("What the policy sees and commands", "", contract_tables(policy.contract)))
    parts.append(section("Where it comes from", "", provenance_table(policy, {})))
    parts.append(f"<footer>Written by alula {html.escape(alula.__version__)}.</footer>")
    text = page(f"{first.robot} {first.task}: report", "".join(parts))
    write_files(path.parent, {path.name: text.encode()}, overwrite=overwrite)
    return path


def _headline(policy: Policy, study: ArmStudy) -> str:
    e, contract = study.runs[0][0], policy.contract
    m = e.metrics
    title = html.escape(str(contract.training.get("preset", "policy")))
    measure, found = next(iter(m.measures.items()))
    factor, unit = fig.shown(measure)
    off = (
        ""
        if found is None
        else f", with a median {measure} of {_value(found.median, factor)} {unit}"
    )
    other = "" if e.same_robot else " Not the robot that the policy was trained for."
    short = " Interrupted: only what was finished is here." if study.interrupted else ""
    tiles = "".join(_tiles(run) for run, _ in study.runs)
    return (
        f'<h1>{title}</h1><p class="kind">Task {html.escape(contract.task)} on {html.escape(e.robot)}, a policy of '
        f"{policy.parameters} parameters at {1.0 / contract.control_dt:g} Hz</p>"
        f'<p class="lead">{m.succeeded} of {m.episodes} episodes succeed as trained'
        f"{html.escape(off)}.{other}{short}</p>"
        f'<div class="tiles">{tiles}</div>'
    )


def _tiles(e: ArmEvaluation) -> str:
    low, high = e.metrics.success_interval
    return (
        f'<div class="tile"><span>{html.escape(fig.label(e))}: success</span><b>{100 * e.metrics.success:.4g} %</b>'
        f"<span>{100 * low:.1f} to {100 * high:.1f} %</span></div>"
    )


def _numbers(study: ArmStudy) -> str:
    runs = [e for e, _ in study.runs]
    head = ["", *(html.escape(fig.label(e)) for e in runs)]
    rows = [
        ["Episodes", *(f"{e.metrics.episodes} \u00d7 {e.steps * e.control_dt:g} s" for e in runs)],
        ["Success", *(_percent(e.metrics.success, e.metrics.success_interval) for e in runs)],
    ]
    for measure in runs[0].metrics.measures:
        found = [e.metrics.measures[measure] for e in runs]
        factor, unit = fig.shown(measure)
        name = html.escape(measure.capitalize())
        rows.append(
            [f"{name} at the end, median", *(_cell(m, "median", factor, unit) for m in found)]
        )
        rows.append(["its 95th percentile", *(_cell(m, "p95", factor, unit) for m in found)])
    rows.append(
        [
            "Return",
            *(
                f"{e.metrics.episode_return:.4g}<small>{e.metrics.episode_return_interval[0]:.4g} \u2013 "
                f"{e.metrics.episode_return_interval[1]:.4g}</small>"
                for e in runs
            ),
        ]
    )
    for kind in runs[0].metrics.failures:
        counts = [e.metrics.failures[kind] for e in runs]
        if any(counts):
            rows.append([html.escape(f"Failed: {kind}"), *map(str, counts)])
    rows.append(["Seed", *(str(e.seed) for e in runs)])
    if study.gap is not None:
        head.append("change by other physics")
        _append_gap(rows, study)
    return table(head, rows)


def _append_gap(rows: list[list[str]], study: ArmStudy) -> None:
    """The change of success, and the mean change of each measure beside its median."""
    assert study.gap is not None
    changes = {"Success": _percent(study.gap.success, study.gap.success_interval, signed=True)}
    for measure, change in study.gap.measures.items():
        factor, unit = fig.shown(measure)
        if change is not None:
            low, high = (_value(v, factor) for v in change[1])
            changes[f"{html.escape(measure.capitalize())} at the end, median"] = (
                f"mean {_value(change[0], factor)} {unit}<small>{low} \u2013 {high}</small>"
            )
    for row in rows:
        row.append(changes.get(row[0], ""))


def _percent(value: float, interval: tuple[float, float], *, signed: bool = False) -> str:
    low, high = (100.0 * v for v in interval)
    shown = f"{100.0 * value:+.3g}" if signed else f"{100.0 * value:.4g}"
    return f"{shown} %<small>{low:.1f} \u2013 {high:.1f}</small>"


def _cell(found: Measured | None, what: str, factor: float, unit: str) -> str:
    if found is None:
        return "\u2013"
    low, high = (_value(v, factor) for v in getattr(found, f"{what}_interval"))
    return f"{_value(getattr(found, what), factor)} {unit}<small>{low} \u2013 {high}</small>"


def _value(value: float, factor: float) -> str:
    """Three significant digits."""
    return f"{factor * value:#.3g}".removesuffix(".")


def chosen(run: Episodes) -> dict[str, int]:
    """The first success and the first failure among the traced episodes, by name."""
    traced = run.qpos.shape[1]
    found: dict[str, int] = {}
    for name, holds in (("a success", run.succeeded), ("a failure", ~run.succeeded)):
        which = np.flatnonzero(holds[:traced])
        if len(which):
            found[name] = int(which[0])
    return found


def _pictures(study: ArmStudy) -> str:
    """A success and a failure as rendered pictures; else, with the reason, as paths."""
    evaluation, run = study.runs[0]
    episodes = chosen(run)
    if not episodes:
        return ""
    goal = run.goal.get("position_w")
    names = {
        name: name.capitalize() + (f": {run.kinds[run.failure[k]]}" if not run.succeeded[k] else "")
        for name, k in episodes.items()
    }
    drawn = replace(study.setting, edit=with_sky).simulator(1).model
    files, reason = strips(
        drawn,
        [run.qpos[:, k] for k in episodes.values()],
        [None if goal is None else goal[k] for k in episodes.values()],
    )
    if files:
        times = frames_of(evaluation.steps) * evaluation.control_dt
        about = (
            f"The first success and the first failure as trained, where there is one, after {', '.join(f'{t:.2g}' for t in times)} s, "
            "row by row. The green ball is the goal."
        )
        # Each over the whole width.
        items = [
            figures([_strip(names[name], data)]) for name, data in zip(episodes, files, strict=True)
        ]
        return section("Episodes", about, "<br>".join(items))
    about = f"No pictures could be drawn here ({reason}); the paths instead, as trained."
    items = [
        f.html()
        for name, k in episodes.items()
        for f in fig.paths(study.setting, run, k, names[name])
    ]
    return section("Episodes", about, figures(items, wide=True))


def _strip(title: str, data: bytes) -> str:
    name = html.escape(title)
    encoded = base64.b64encode(data).decode()
    return (
        f"<figure><figcaption><b>{name}</b></figcaption>"
        f'<img alt="{name}, {FRAMES} pictures" src="data:image/png;base64,{encoded}"></figure>'
    )


def _robustness(study: ArmStudy) -> str:
    n = study.sweeps[0].metrics[0].episodes
    return section(
        "Robustness",
        f"One factor changed, all else nominal; {n} episodes a point, the same in all. Success, and the median of the "
        "first measure. Shaded: the range met in training.",
        figures(
            [
                f"<figure>{a.html()}{b.html()}</figure>"
                for a, b in map(fig.sweep_figures, study.sweeps)
            ]
        ),
    )
