"""The report's charts, from flights, sweeps and training logs to SVG with a caption."""

import csv
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from alula.errors import AlulaError
from alula.evaluation.evaluate import Evaluation
from alula.evaluation.flight import Flight
from alula.evaluation.metrics import LAST_S
from alula.evaluation.plots import Axes, Line, chart, histograms
from alula.evaluation.study import STEP_M, STEP_S, Study, Sweep, distance_apart
from alula.policies.files import read_bounded
from alula.robots.multirotor import Multirotor

SIM_LABELS = {"multirotor": "alula", "mujoco": "MuJoCo"}
PATHS = 6
"""Flights drawn in the trajectory views."""
MAX_LOG_BYTES = 20_000_000


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart with what is written above and below it."""

    title: str
    """Short heading."""
    svg: str
    """The chart."""
    legend: tuple[tuple[str, str], ...] = ()
    """(style, text) of each curve."""
    note: str = ""
    """What it shows, in a sentence."""

    def html(self) -> str:
        """As a `<figure>`."""
        keys = "".join(
            f'<span class="key"><i class="{style}"></i>{html.escape(text)}</span>'
            for style, text in self.legend
        )
        legend = f'<div class="legend">{keys}</div>' if keys else ""
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        return (
            f"<figure><figcaption><b>{html.escape(self.title)}</b>{legend}</figcaption>"
            f"{self.svg}{note}</figure>"
        )


def label(evaluation: Evaluation) -> str:
    """Name of an evaluation in tables and legends."""
    return SIM_LABELS[evaluation.sim] + ("" if evaluation.nominal else ", randomised")


def _legend(evaluations: Sequence[Evaluation]) -> tuple[tuple[str, str], ...]:
    return tuple((f"s{k}", label(e)) for k, e in enumerate(evaluations))


def trajectories(flight: Flight, moving: bool) -> list[Figure]:
    """Top and side view of the first flights."""
    trace = flight.trace
    figures = []
    for title, axis, name in (("Seen from above", 1, "y"), ("Seen from the side", 2, "z")):
        lines = [
            Line(x=trace.position_w[:, k, 0], y=trace.position_w[:, k, axis], style=f"s{k} thin")
            for k in range(min(PATHS, trace.position_w.shape[1]))
            # a flight that failed leaves the picture; it is counted in the table
            if flight.survived[k]
        ]
        if moving:
            lines.append(
                Line(
                    x=trace.reference_w[:, 0, 0], y=trace.reference_w[:, 0, axis],
                    style="ink thin",
                )
            )  # fmt: skip
        axes = Axes(x_label="x [m]", y_label=f"{name} [m]", height=300, equal=True)
        figures.append(
            Figure(
                title=title,
                svg=chart(lines, axes, f"Trajectories, x against {name}"),
                note=f"{len(lines) - moving} of the evaluated flights from random starts"
                + (
                    ", and the reference on top of them."
                    if moving
                    else " to the set-point at the origin."
                ),
            )
        )
    return figures


def error_over_time(runs: Sequence[tuple[Evaluation, Flight]]) -> Figure:
    """Median and 5 to 95 % band of the position error of flights that are still alive."""
    lines = []
    for k, (_, flight) in enumerate(runs):
        # the screen shows no more rows than these, and percentiles are not free
        rows = np.linspace(0, len(flight.time) - 1, min(len(flight.time), 120)).astype(int)
        survivors = flight.position_error[np.ix_(rows, flight.survived)]
        if not survivors.size:
            continue
        low, middle, high = 100.0 * np.percentile(survivors, [5, 50, 95], axis=1)
        lines.append(Line(x=flight.time[rows], y=middle, low=low, high=high, style=f"s{k}"))
    return Figure(
        title="Position error over time",
        legend=_legend([e for e, _ in runs]),
        svg=chart(
            lines,
            Axes(
                x_label="time [s]", y_label="error [cm]", x_range=(0.0, float(runs[0][1].time[-1]))
            ),
            "Position error over time",
        ),
        note="Median of the surviving flights; the band holds 90 % of them.",
    )


def error_distribution(runs: Sequence[tuple[Evaluation, Flight]]) -> Figure:
    """Histogram of the mean error in the last second, one outline an evaluation."""
    values = []
    for _, flight in runs:
        last = max(1, round(LAST_S / flight.control_dt))
        values.append(100.0 * flight.position_error[-last:, flight.survived].mean(axis=0))
    return Figure(
        title="Distribution of the error",
        legend=_legend([e for e, _ in runs]),
        svg=chart(
            histograms(values),
            Axes(x_label="mean error in the last second [cm]", y_label="flights [%]"),
            "Distribution of the error in the last second",
        ),
        note="Surviving flights; the most distant 0.5 % are not drawn.",
    )


def step_figures(study: Study) -> list[Figure]:
    """Response to the step in both simulators, and how far they are apart."""
    lines = [
        Line(x=flight.time, y=flight.trace.position_w[:, 0, 0], style=style)
        for flight, style in zip(study.steps.values(), ("s0", "s1 dashed"), strict=True)
    ]
    apart = 1e3 * distance_apart(study.steps)
    time = next(iter(study.steps.values())).time
    legend = tuple(
        (style, SIM_LABELS[sim])
        for sim, style in zip(study.steps, ("s0", "s1 dashed"), strict=True)
    )
    span = (0.0, STEP_S)
    return [
        Figure(
            title=f"Step of {STEP_M:g} m in x",
            legend=legend,
            svg=chart(
                lines,
                Axes(x_label="time [s]", y_label="x [m]", marks=(STEP_M,), x_range=span),
                "Step response in both simulators",
            ),
            note="From rest, without noise or disturbance; the dotted line is the set-point.",
        ),
        Figure(
            title="The two simulators apart",
            svg=chart(
                [Line(x=time, y=apart, style="s2")],
                Axes(x_label="time [s]", y_label="distance [mm]", x_range=span),
                "Distance between the two simulators during the step",
            ),
            note=f"Same start, same policy, closed loop: at most {apart.max():.2g} mm.",
        ),
    ]


def rotor_figure(study: Study, robot: Multirotor) -> Figure:
    """Commanded throttle and rotor speed of each rotor during the step."""
    flight = study.steps["multirotor"]
    trace = flight.trace
    low, high = robot.throttle_min, robot.throttle_max
    throttle = low + 0.5 * (np.clip(trace.action[:, 0], -1.0, 1.0) + 1.0) * (high - low)
    lines = []
    for r in range(robot.n_rotors):
        lines.append(Line(x=flight.time, y=throttle[:, r], style=f"s{r % 6} thin"))
        lines.append(Line(x=flight.time, y=trace.rotor_fraction[:, 0, r], style=f"s{r % 6}"))
    return Figure(
        title="Rotor commands during the step",
        legend=tuple((f"s{r % 6}", name) for r, name in enumerate(robot.rotor_names)),
        svg=chart(
            lines,
            Axes(
                x_label="time [s]", y_label="fraction of full [-]", x_range=(0.0, STEP_S / 2),
                marks=(robot.hover_throttle,),
            ),
            "Throttle and rotor speed during the step",
        ),
        note="Thin: commanded throttle. Bold: rotor speed, which follows with the rotor lag. Dotted: hover.",
    )  # fmt: skip


def sweep_figures(sweep: Sweep) -> tuple[Figure, Figure]:
    """Success and error over one varied quantity; the training's range is shaded."""
    success = np.array([100.0 * m.success for m in sweep.metrics])
    band = np.array([[100.0 * s for s in m.success_interval] for m in sweep.metrics]).T
    error = np.array([_cm(m.hover_error_m) for m in sweep.metrics])
    error_band = np.array(
        [
            [_cm(v) for v in m.hover_error_interval_m or (None, None)]
            for m in sweep.metrics
        ]
    ).T  # fmt: skip
    return success_and(sweep, (success, band), (error, error_band), "error", "cm")


class Varied(Protocol):
    """What was varied in a sweep, of whichever robot."""

    @property
    def name(self) -> str:
        """Quantity."""
        ...

    @property
    def unit(self) -> str:
        """Its unit."""
        ...

    @property
    def values(self) -> tuple[float, ...]:
        """Where it was tried."""
        ...

    @property
    def trained(self) -> tuple[float, float]:
        """The training's range."""
        ...


def success_and(
    varied: Varied,
    success: tuple[np.ndarray, np.ndarray],
    measure: tuple[np.ndarray, np.ndarray],
    label: str,
    unit: str,
) -> tuple[Figure, Figure]:
    """Success [%] and a measure over what was varied, each with its interval (2, n); the training's range is shaded."""
    x = np.array(varied.values)
    upper = Axes(
        x_label="", y_label="success [%]", height=150, y_range=(0.0, 105.0), x_ticks=varied.values,
        shaded=varied.trained,
    )  # fmt: skip
    lower = Axes(
        x_label=f"{varied.name} [{varied.unit}]", y_label=f"{label} [{unit}]", height=170,
        x_ticks=varied.values, shaded=varied.trained,
    )  # fmt: skip
    charts = (
        (varied.name.capitalize(), success, "s0", upper, f"Success over {varied.name}"),
        ("", measure, "s1", lower, f"{label.capitalize()} over {varied.name}"),
    )
    first, second = (
        Figure(
            title=title,
            svg=chart([Line(x=x, y=y, low=band[0], high=band[1], style=style, dots=True)], axes, alt),
        )
        for title, (y, band), style, axes, alt in charts
    )  # fmt: skip
    return first, second


def _cm(value: float | None) -> float:
    return math.nan if value is None else 100.0 * value


def training_figures(path: Path) -> list[Figure]:
    """Cost and position error over the updates, from a run's metrics.csv.

    Raises:
        AlulaError: the file cannot be read, or is not such a table of numbers.
    """
    columns = _read_columns(path)
    steps = np.array(columns["update"])
    figures = []
    for column, title, y_label, factor in (
        ("cost", "Cost per step", "cost [-]", 1.0),
        ("position_error", "Error at the end of the horizon", "error [cm]", 100.0),
    ):
        if column in columns:
            line = Line(x=steps, y=factor * np.array(columns[column]), style="s0 thin")
            svg = chart(
                [line],
                Axes(x_label="update", y_label=y_label, x_range=(0.0, float(steps[-1]))),
                f"{title} over training",
            )
            figures.append(Figure(title=title, svg=svg))
    return figures


def _read_columns(path: Path) -> dict[str, list[float]]:
    try:
        data = read_bounded(path, kind="training log", max_bytes=MAX_LOG_BYTES)
        rows = list(csv.DictReader(io.StringIO(data.decode())))
        columns = {key: [float(row[key]) for row in rows] for key in (rows[0] if rows else {})}
    except (TypeError, ValueError, csv.Error) as e:
        if isinstance(e, AlulaError):
            raise
        raise AlulaError(f"training log {path}: not a table of numbers: {e}") from None
    if "update" not in columns:
        raise AlulaError(f"training log {path}: has no column 'update'")
    return columns
