"""A flight's report for the terminal."""

from alula.flightlog.analyse import FlightReport
from alula.flightlog.figures import GAP_NAMES
from alula.flightlog.gap import Gap
from alula.flightlog.page import agreement_words
from alula.flightlog.timing import Timing
from alula.flightlog.tracking import Tracking

MAX_SHOWN = 12
"""Events in the text; the page and the JSON hold them all."""


def report_text(report: FlightReport) -> str:
    """The figures in lines."""
    r = report.recording
    flown = sum(b - a for a, b in r.flying)
    lines = [f"{r.path}, {r.format}: the policy flew {flown:.2f} s"]
    if report.tracking is not None:
        lines += _tracking(report.tracking)
    if report.timing is not None:
        lines += _timing(report.timing)
    if r.counters:
        lines.append("counters    " + ", ".join(f"{k} {v}" for k, v in r.counters.items()))
    worth = [e for e in r.events if e.level != "info"] or list(r.events)
    lines.append(
        f"events      {len(r.events)}, {sum(e.level == 'error' for e in r.events)} of them errors"
    )
    lines += [f"  {e.time_s:10.3f} s  {e.level:8}{e.source}: {e.text}" for e in worth[:MAX_SHOWN]]
    if len(worth) > MAX_SHOWN:
        lines.append(f"  and {len(worth) - MAX_SHOWN} more")
    for gap in report.gap:
        lines += _gap(gap)
    if report.agreement is not None:
        lines.append(f"policy      {agreement_words(report.agreement)}")
    lines += [f"not known   {gap}" for gap in report.gaps]
    return "\n".join(lines)


def _tracking(t: Tracking) -> list[str]:
    axes = ", ".join(f"{a} {100 * v:.2f}" for a, v in zip("xyz", t.rmse_axes_m, strict=True))
    percentiles = ", ".join(f"{q} %: {100 * v:.2f}" for q, v in t.percentiles_m.items())
    return [
        f"tracking    RMS {100 * t.rmse_m:.2f} cm ({axes}); {percentiles}; largest {100 * t.max_m:.2f}"
    ]


def _timing(t: Timing) -> list[str]:
    lines = []
    for name, spread in (("latency", t.latency), ("period", t.period), ("computing", t.compute)):
        if spread is None:
            continue
        p = spread.percentiles_s
        lines.append(
            f"{name:12}median {1e3 * p[50]:.3f} ms, 99 %: {1e3 * p[99]:.3f} ms, largest {1e3 * spread.max_s:.3f} ms, "
            f"standard deviation {1e3 * spread.std_s:.3f} ms"
        )
    lines.append(f"  latency   {t.latency_meaning}")
    if t.missed is not None:
        whose = "the policy's" if t.control_dt_known else "the log's median"
        lines.append(f"deadlines   {t.missed} missed at {1e3 * t.control_dt:g} ms ({whose})")
    return lines


def _gap(gap: Gap) -> list[str]:
    lines = [
        f"simulator   off after {gap.horizon_s:.2g} s, RMS along x y z in {gap.windows} windows "
        "(bias; nothing changes; goes on as it moved)"
    ]
    for key, (name, unit, scale) in GAP_NAMES.items():
        d = gap.quantities[key]
        sim, bias, hold, constant = (
            " ".join(f"{scale * v:.3g}" for v in values)
            for values in (d.sim, d.bias, d.hold, d.constant)
        )
        lines.append(f"  {name:12}{sim} {unit}  ({bias}; {hold}; {constant})")
    return lines
