"""The charts of a flight's report."""

from collections.abc import Sequence

import numpy as np

from alula.evaluation.figures import Figure
from alula.evaluation.plots import Axes, Line, chart
from alula.flightlog.agreement import Agreement
from alula.flightlog.gap import Gap
from alula.flightlog.timing import Spread, Timing
from alula.flightlog.tracking import Tracking

BINS = 60
AXES = ("x", "y", "z")
TAIL = 99.8
"""A histogram ends at this percentile, its last bin holding the rest."""


def histogram(
    spread: Spread, title: str, x_label: str, *, scale: float = 1e3, mark: float | None = None
) -> Figure:
    """How often each time occurred; the last bin holds what lies beyond.

    Args:
        spread: the times.
        title: heading.
        x_label: with unit.
        scale: from seconds to that unit.
        mark: a value to point out, such as the nominal period [s].
    """
    values = scale * spread.values_s
    low, high = float(values.min()), float(np.percentile(values, TAIL))
    if mark is not None:
        low, high = min(low, scale * mark), max(high, 1.02 * scale * mark)
    high = max(high, low + 1e-3 * max(abs(low), 1e-3))
    counts, edges = np.histogram(np.minimum(values, high), bins=BINS, range=(low, high))
    share = 100.0 * counts / len(values)
    x = np.repeat(edges, 2)
    y = np.concatenate(([0.0], np.repeat(share, 2), [0.0]))
    lines = [Line(x=x, y=y, style="s0", low=np.zeros_like(y), high=y)]
    legend: list[tuple[str, str]] = []
    top = max(float(share.max()), 1.0)
    marks = [
        ("s1 dashed", spread.percentiles_s[50], "median"),
        ("s3 dashed", spread.percentiles_s[99], "99 %"),
    ]
    if mark is not None:
        marks.append(("s2", mark, "nominal"))
    for style, value, text in marks:
        at = min(scale * value, high)
        lines.append(Line(x=np.array([at, at]), y=np.array([0.0, top]), style=f"{style} thin"))
        legend.append((style, f"{text} {scale * value:.3g}"))
    axes = Axes(x_label=x_label, y_label="share [%]", y_range=(0.0, 1.05 * top))
    beyond = int(np.sum(values > high))
    note = f"{spread.samples} values, largest {scale * spread.max_s:.3g}."
    if beyond:
        note += f" The last bin holds {beyond} beyond the axis."
    return Figure(title=title, svg=chart(lines, axes, title), legend=tuple(legend), note=note)


def timing_figures(timing: Timing) -> list[Figure]:
    """Histograms of latency, period and computing time, as far as they are known."""
    found = []
    if timing.latency is not None:
        figure = histogram(timing.latency, "Latency", "latency [ms]")
        found.append(
            _noted(figure, f"{timing.latency_meaning[:1].upper()}{timing.latency_meaning[1:]}.")
        )
    if timing.period is not None:
        found.append(
            histogram(
                timing.period, "Period of the commands", "period [ms]", mark=timing.control_dt
            )
        )
    if timing.compute is not None:
        found.append(histogram(timing.compute, "Computing time of a step", "time [µs]", scale=1e6))
    return found


def _noted(figure: Figure, more: str) -> Figure:
    return Figure(
        title=figure.title, svg=figure.svg, legend=figure.legend, note=f"{more} {figure.note}"
    )


def tracking_figures(tracking: Tracking) -> list[Figure]:
    """Path from above, position over time and distance over time."""
    t = tracking.time_s
    p, r = tracking.position_w, tracking.reference_w
    above = chart(
        [
            # a point that stays is no line
            Line(
                x=r[:, 0],
                y=r[:, 1],
                style="ink thin dashed",
                dots=bool(np.ptp(r, axis=0).max() < 0.01),
            ),
            Line(x=p[:, 0], y=p[:, 1], style="s0 thin"),
        ],
        Axes(x_label="x [m]", y_label="y [m]", equal=True, height=260),
        "Path from above",
    )
    lines = []
    for k in range(3):
        lines += [
            Line(x=t, y=r[:, k], style="ink thin dashed"),
            Line(x=t, y=p[:, k], style=f"s{k}"),
        ]
    over_time = chart(
        lines, Axes(x_label="time [s]", y_label="position [m]", height=260), "Position"
    )
    apart = chart(
        [Line(x=t, y=_peaks(100.0 * tracking.distance_m), style="s3 thin")],
        Axes(
            x_label="time [s]",
            y_label="distance [cm]",
            y_range=(0.0, 105.0 * tracking.max_m + 1e-6),
        ),
        "Distance from the reference",
    )
    reference = ("ink dashed", "reference")
    return [
        Figure(title="Path from above", svg=above, legend=(("s0", "flown"), reference)),
        Figure(
            title="Position",
            svg=over_time,
            legend=(*((f"s{k}", axis) for k, axis in enumerate(AXES)), reference),
        ),
        Figure(
            title="Distance from the reference",
            svg=apart,
            note=f"Root mean square {100 * tracking.rmse_m:.3g} cm, largest {100 * tracking.max_m:.3g} cm.",
        ),
    ]


def _peaks(values: np.ndarray, points: int = 120) -> np.ndarray:
    """The same with each stretch at its largest value, so that a thinned curve still shows its peaks."""
    if len(values) <= 2 * points:
        return values
    out = values.copy()
    for part in np.array_split(np.arange(len(values)), points):
        out[part] = values[part].max()
    return out


GAP_NAMES = {
    "position_m": ("Position", "cm", 100.0),
    "velocity_m_s": ("Velocity", "m/s", 1.0),
    "attitude_rad": ("Attitude", "deg", float(np.rad2deg(1.0))),
    "body_rate_rad_s": ("Body rate", "rad/s", 1.0),
}
"""Title, shown unit and factor of each quantity of the gap."""


def gap_figures(gap: Gap) -> list[Figure]:
    """The simulator's error at the end of each window over time, one chart a quantity."""
    found = []
    for key, (name, unit, scale) in GAP_NAMES.items():
        lines = [
            Line(x=gap.time_s, y=scale * gap.errors[key][:, k], style=f"s{k} thin")
            for k in range(3)
        ]
        limit = _limit([line.y for line in lines])
        svg = chart(
            lines,
            Axes(x_label="time [s]", y_label=f"predicted - recorded [{unit}]", y_range=(-limit, limit), marks=(0.0,)),
            name,
        )  # fmt: skip
        legend = tuple((f"s{k}", axis) for k, axis in enumerate(AXES))
        found.append(Figure(title=f"{name} after {gap.horizon_s:.2g} s", svg=svg, legend=legend))
    return found


def _limit(parts: Sequence[np.ndarray]) -> float:
    known = np.abs(np.concatenate(list(parts)))
    known = known[np.isfinite(known)]
    return 1.1 * float(known.max()) + 1e-9 if len(known) else 1.0


def agreement_figures(agreement: Agreement) -> list[Figure]:
    """Recorded against computed action, one chart an action, over the first seconds."""
    keep = agreement.time_s <= agreement.time_s[0] + 4.0
    t = agreement.time_s[keep]
    found = []
    for k, name in enumerate(agreement.names):
        lines = [
            Line(x=t, y=agreement.recorded[keep, k], style="s0"),
            Line(x=t, y=agreement.policy[keep, k], style="s1 dashed"),
        ]
        svg = chart(lines, Axes(x_label="time [s]", y_label="action [-]", height=180), name)
        note = f"Root mean square difference {agreement.rms_actions[k]:.3g}."
        legend = (("s0", "recorded"), ("s1 dashed", "policy file"))
        found.append(Figure(title=name, svg=svg, legend=legend, note=note))
    return found
