"""report.html: everything known about one policy on one self-contained page."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import alula
from alula.errors import AlulaError
from alula.evaluation import figures as fig
from alula.evaluation.evaluate import Evaluation
from alula.evaluation.metrics import LAST_S, STARTUP_S, Interval
from alula.evaluation.page import figures, page, section, table
from alula.evaluation.study import SWEEP_S, Study
from alula.policies.contract import Contract
from alula.policies.files import read_bounded, write_files
from alula.policies.onnx_file import Policy
from alula.robots.multirotor import UNITS, Multirotor

MAX_IMAGE_BYTES = 8_000_000
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True)
class Check:
    """A requirement and whether it was met."""

    text: str
    """What was required and what was found, in a line."""
    passed: bool
    """Whether it was met."""


def write_report(
    path: str | Path,
    *,
    policy: Policy,
    study: Study,
    checks: Sequence[Check] = (),
    training_log: str | Path | None = None,
    images: Sequence[tuple[str, str | Path]] = (),
    facts: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the report of a policy; whole or not at all.

    Args:
        path: HTML file to write.
        policy: the loaded policy.
        study: what was flown, from `study.run_study`.
        checks: requirements, listed on top.
        training_log: a run's metrics.csv, for the training curves.
        images: (title, PNG file), such as the plots of an identification.
        facts: further lines of provenance, such as times and export differences.
        overwrite: replace an existing file.

    Returns:
        The path.

    Raises:
        AlulaError: the file exists or cannot be written, or a log or image cannot be read.
    """
    path = Path(path)
    if not study.evaluations:
        raise AlulaError("study holds 0 evaluations; allowed: at least one")
    parts = [
        _headline(policy, study, checks),
        *_flown(study, moving=policy.contract.task != "hover"),
    ]
    if training_log is not None:
        curves = fig.training_figures(Path(training_log))
        parts.append(section("Training", "", figures([f.html() for f in curves], wide=True)))
    if images:
        parts.append(
            section("Identification", "", figures([_image(*item) for item in images], wide=True))
        )
    parts.append(section("What the policy sees and commands", "", contract_tables(policy.contract)))
    parts.append(section("Where it comes from", "", provenance_table(policy, facts or {})))
    parts.append(section("The robot", "", _robot(study.robot)))
    parts.append(f"<footer>Written by alula {html.escape(alula.__version__)}.</footer>")
    text = page(f"{study.robot.name} {policy.contract.task}: flight report", "".join(parts))
    write_files(path.parent, {path.name: text.encode()}, overwrite=overwrite)
    return path


def _flown(study: Study, *, moving: bool) -> list[str]:
    """The sections about flights."""
    step = (*fig.step_figures(study), fig.rotor_figure(study, study.robot))
    return [
        section(
            "The figures",
            "95 % intervals below each figure: Wilson's for success, bootstrap over episodes for means, "
            "order statistics for the percentile. Starts, disturbances and noise come from seeds that "
            "no training uses.",
            _numbers([e for e, _ in study.evaluations]),
        ),
        section(
            "Trajectories", "", figures([f.html() for f in _flights(study, moving)], wide=True)
        ),
        section(
            "Step response and rotor commands",
            "The same manoeuvre in both simulators, which share no physics code.",
            figures([f.html() for f in step]),
        ),
        section(
            "Robustness",
            f"One quantity changed, all else nominal, in alula's physics; "
            f"{study.sweeps[0].metrics[0].episodes} flights of {SWEEP_S:g} s a point, error over the "
            "last second. Shaded: the range met in training.",
            figures(
                [
                    f"<figure>{a.html()}{b.html()}</figure>"
                    for a, b in map(fig.sweep_figures, study.sweeps)
                ]
            ),
        ),
    ]


def _flights(study: Study, moving: bool) -> list[fig.Figure]:
    return [
        *fig.trajectories(study.evaluations[0][1], moving),
        fig.error_over_time(study.evaluations),
        fig.error_distribution(study.evaluations),
    ]


def _headline(policy: Policy, study: Study, checks: Sequence[Check]) -> str:
    contract = policy.contract
    failed = [check for check in checks if not check.passed]
    verdict = ""
    if checks:
        kind = "bad" if failed else "good"
        text = f"{len(failed)} of {len(checks)} checks failed." if failed else "All checks passed."
        verdict = f'<strong class="{kind}">{text}</strong> '
    preset = contract.training.get("preset", "policy")
    tiles = "".join(_tiles(e) for e, _ in study.evaluations[:2])
    items = "".join(
        f"<li{'' if check.passed else ' class=bad'}>{html.escape(check.text)}</li>"
        for check in checks
    )
    return (
        f'<h1>{html.escape(str(preset))}</h1><p class="kind">Task {html.escape(contract.task)} on '
        f"{html.escape(study.robot.name)}, a policy of {policy.parameters} parameters at "
        f"{1.0 / contract.control_dt:g} Hz</p>"
        f'<p class="lead">{verdict}{html.escape(_sentence(study))}</p>'
        f'<div class="tiles">{tiles}</div>' + (f'<ul class="checks">{items}</ul>' if items else "")
    )


def _sentence(study: Study) -> str:
    parts = []
    for e, _ in study.evaluations[:2]:
        m = e.metrics
        where = "alula's physics" if e.sim == "multirotor" else "MuJoCo"
        error = _main_error(e)[0]
        ending = f", on average {_cm(error)} cm off" if error is not None else ""
        parts.append(f"{m.survived} of {m.episodes} flights stayed up in {where}{ending}")
    return "; ".join(parts) + "."


def _main_error(e: Evaluation) -> tuple[float | None, Interval | None, str]:
    m = e.metrics
    if e.task == "hover":
        return m.hover_error_m, m.hover_error_interval_m, "error"
    return m.tracking_rmse_m, m.tracking_rmse_interval_m, "tracking RMSE"


def _tiles(e: Evaluation) -> str:
    error, interval, name = _main_error(e)
    low, high = e.metrics.success_interval
    shown = f"{_cm(error)} cm" if error is not None else "\u2013"
    span = f"{_cm(interval[0])} to {_cm(interval[1])} cm" if interval else "no flight survived"
    label = html.escape(fig.label(e))
    return (
        f'<div class="tile"><span>{label}: success</span><b>{100 * e.metrics.success:.4g} %</b>'
        f"<span>{100 * low:.1f} to {100 * high:.1f} %</span></div>"
        f'<div class="tile"><span>{label}: {name}</span><b>{shown}</b><span>{span}</span></div>'
    )


def _numbers(evaluations: Sequence[Evaluation]) -> str:
    def errors(key: str) -> list[str]:
        cells = []
        for e in evaluations:
            value = getattr(e.metrics, f"{key}_m")
            interval = getattr(e.metrics, f"{key}_interval_m")
            cells.append(
                "\u2013"
                if value is None
                else f"{_cm(value)} cm<small>{_cm(interval[0])} \u2013 {_cm(interval[1])}</small>"
            )
        return cells

    success = [
        f"{100 * e.metrics.success:.4g} %<small>{100 * e.metrics.success_interval[0]:.1f} \u2013 "
        f"{100 * e.metrics.success_interval[1]:.1f}</small>"
        for e in evaluations
    ]
    failures = [
        ", ".join(f"{n} {k.replace('_', ' ')}" for k, n in e.metrics.failures.items() if n)
        or "none"
        for e in evaluations
    ]
    rows = [
        [
            "Episodes",
            *(f"{e.metrics.episodes} \u00d7 {e.steps * e.control_dt:g} s" for e in evaluations),
        ],
        ["Success", *success],
        [f"Mean error, last {LAST_S:g} s", *errors("hover_error")],
        ["its 95th percentile", *errors("hover_error_p95")],
        [f"RMSE after {STARTUP_S:g} s", *errors("tracking_rmse")],
        ["Failures by limit", *failures],
        ["Seed", *(str(e.seed) for e in evaluations)],
    ]
    return table(["", *(html.escape(fig.label(e)) for e in evaluations)], rows)


def contract_tables(contract: Contract) -> str:
    """What the policy observes and commands."""
    observed = [
        [
            html.escape(e.name),
            f"{e.size}" + (f"&nbsp;\u00d7&nbsp;{e.history}" if e.history > 1 else ""),
            html.escape(e.unit),
            html.escape(e.frame),
            f"{e.noise:.3g}",
            f"{1e3 * e.delay:g} ms",
        ]
        for e in contract.observation
    ]
    commanded = [
        [
            html.escape(a.name),
            html.escape(a.meaning),
            f"{a.low:g} to {a.high:g} {html.escape(a.unit.strip('-'))}",
        ]
        for a in contract.action
    ]
    return (
        table(["Observation", "Size", "Unit", "Frame", "Noise", "Delay"], observed)
        + "<br>"
        + table(["Action", "Meaning", "Range"], commanded)
    )


def provenance_table(policy: Policy, facts: Mapping[str, str]) -> str:
    """Hashes, golden sequences and the training; `facts` are further lines."""
    contract = policy.contract
    rows = {
        "Policy SHA-256": policy.sha256,
        "Robot hash": contract.robot_hash,
        "Golden sequences": f"{policy.golden.action.shape[0]} of {policy.golden.action.shape[1]} steps, "
        f"replayed within {policy.golden_max_abs_diff:.2g}",
    }
    rows |= {
        "Training time [s]" if key == "train_s" else f"Training {key.replace('_', ' ')}": str(value)
        for key, value in contract.training.items()
        if isinstance(value, str | int | float)
    }
    # what the caller states goes last, and wins
    rows |= dict(facts)
    cells = [[html.escape(key), html.escape(value)] for key, value in rows.items()]
    return table(["", ""], cells, breakable=True)


def _robot(robot: Multirotor) -> str:
    rows = [
        [
            html.escape(key.replace("_", " ")),
            f"{html.escape(_value(getattr(robot, key)))} {html.escape(unit) if 1 < len(unit) < 8 else ''}",
            html.escape(robot.sources.get(key, "not stated")),
        ]
        for key, unit in UNITS.items()
    ]
    return table(["Quantity", "Value", "Source"], rows)


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(_value(v) for v in value) + ")"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _image(title: str, path: str | Path) -> str:
    data = read_bounded(path, kind="image", max_bytes=MAX_IMAGE_BYTES)
    if not data.startswith(_PNG):
        raise AlulaError(f"image {path}: not a PNG file")
    encoded = base64.b64encode(data).decode()
    name = html.escape(title)
    return (
        f"<figure><figcaption><b>{name}</b></figcaption>"
        f'<img alt="{name}" src="data:image/png;base64,{encoded}"></figure>'
    )


def _cm(metres: float) -> str:
    """Centimetres in three significant digits."""
    return f"{100.0 * metres:#.3g}".removesuffix(".")
