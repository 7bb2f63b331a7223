"""flightlog.html: everything a log says about a flight, on one self-contained page."""

import html
import json
from pathlib import Path

import alula
from alula.evaluation.page import figures, page, section, table
from alula.flightlog import figures as fig
from alula.flightlog.agreement import Agreement
from alula.flightlog.analyse import FlightReport
from alula.flightlog.gap import Gap
from alula.flightlog.recording import Event
from alula.policies.files import write_files

PAGE, FIGURES = "flightlog.html", "flightlog.json"
MAX_SHOWN = 200
"""Events on the page."""


def write_page(folder: Path, report: FlightReport, *, overwrite: bool = False) -> Path:
    """Write a report into a folder: the page, and its figures as JSON beside it.

    Args:
        folder: where to; made where it is missing.
        report: what was found.
        overwrite: replace an earlier page.

    Raises:
        AlulaError: the page exists or cannot be written.
    """
    parts = [_headline(report)]
    if report.tracking is not None:
        shown = [f.html() for f in fig.tracking_figures(report.tracking)]
        parts.append(section("Tracking", _tracking_words(report), figures(shown)))
    if report.timing is not None:
        shown = [f.html() for f in fig.timing_figures(report.timing)]
        parts.append(section("Latency and jitter", _timing_words(report), figures(shown)))
    parts.append(section("Safety events and counters", "", _events(report)))
    if report.gap:
        shown = [f.html() for f in fig.gap_figures(report.gap[0])]
        body = "".join(_gap_table(g) + "<br>" for g in report.gap) + figures(shown, wide=True)
        parts.append(section("Departure from the simulator", _GAP_WORDS, body))
    if report.agreement is not None:
        shown = [f.html() for f in fig.agreement_figures(report.agreement)]
        words = agreement_words(report.agreement)
        parts.append(section("Agreement with the policy file", words, figures(shown, wide=True)))
    if report.gaps:
        items = "".join(f"<li class=bad>{html.escape(g)}</li>" for g in report.gaps)
        words = "What the log does not tell, and what is odd in it."
        parts.append(section("Not known", words, f'<ul class="checks">{items}</ul>'))
    parts.append(section("Where it comes from", "", _provenance(report)))
    parts.append(f"<footer>Written by alula {html.escape(alula.__version__)}.</footer>")
    name = Path(report.recording.path).name
    text = page(f"{name}: flight log", "".join(parts))
    figures_json = json.dumps(report.to_json(), indent=1) + "\n"
    files = {PAGE: text.encode(), FIGURES: figures_json.encode()}
    write_files(folder, files, overwrite=overwrite)
    return folder / PAGE


_GAP_WORDS = (
    "The recorded commands flown by the simulator from the recorded state, in short windows; root mean square at "
    "their end. Bias: predicted minus recorded on average, which is what the model gets wrong every time. Beside "
    "it two predictions that know no physics: nothing changes, and everything goes on as it was moving."
)


def _headline(report: FlightReport) -> str:
    r = report.recording
    flown = sum(b - a for a, b in r.flying)
    robot = f", robot {html.escape(report.robot)}" if report.robot else ""
    return (
        f"<h1>{html.escape(Path(r.path).name)}</h1>"
        f'<p class="kind">{html.escape(r.format)}, {flown:.1f} s flown by the policy{robot}</p>'
        f'<div class="tiles">{"".join(_tile(*t) for t in _tiles(report))}</div>'
    )


def _tiles(report: FlightReport) -> list[tuple[str, str, str]]:
    """(what, figure, more) of the most telling figures."""
    tiles = []
    if (t := report.tracking) is not None:
        more = f"95 % within {100 * t.percentiles_m[95]:.3g} cm"
        tiles.append(("Tracking error, RMS", f"{100 * t.rmse_m:.3g} cm", more))
    if (timing := report.timing) is not None:
        if timing.latency is not None:
            p = timing.latency.percentiles_s
            tiles.append(
                ("Latency, median", f"{1e3 * p[50]:.3g} ms", f"99 %: {1e3 * p[99]:.3g} ms")
            )
        if timing.missed is not None:
            more = f"longest gap {1e3 * (timing.worst_gap_s or 0.0):.3g} ms"
            tiles.append(("Missed deadlines", str(timing.missed), more))
    bad = [e for e in report.recording.events if e.level == "error"]
    tiles.append(("Errors said", str(len(bad)), f"{len(report.recording.events)} events in all"))
    if report.gap:
        g = report.gap[0]
        sim = sum(v * v for v in g.quantities["position_m"].sim) ** 0.5
        constant = sum(v * v for v in g.quantities["position_m"].constant) ** 0.5
        more = f"{100 * constant:.3g} cm without physics"
        tiles.append((f"Simulator off after {g.horizon_s:.2g} s", f"{100 * sim:.3g} cm", more))
    if (a := report.agreement) is not None:
        tiles.append(("Actions off the policy", f"{a.rms:.2g}", f"{100 * a.close:.3g} % agree"))
    return tiles


def _tile(what: str, figure: str, more: str) -> str:
    return (
        f'<div class="tile"><span>{html.escape(what)}</span><b>{html.escape(figure)}</b>'
        f"<span>{html.escape(more)}</span></div>"
    )


def _tracking_words(report: FlightReport) -> str:
    t = report.tracking
    assert t is not None
    axes = ", ".join(f"{a} {100 * v:.3g}" for a, v in zip("xyz", t.rmse_axes_m, strict=True))
    mean = ", ".join(f"{a} {100 * v:+.2g}" for a, v in zip("xyz", t.mean_axes_m, strict=True))
    return f"Root mean square along each axis: {axes} cm; mean: {mean} cm. {t.samples} positions."


def _timing_words(report: FlightReport) -> str:
    t = report.timing
    assert t is not None
    source = (
        "the policy's" if t.control_dt_known else "the median of the log, as no policy was given"
    )
    words = f"Nominal period {1e3 * t.control_dt:g} ms, {source}."
    if t.latency is None:
        words += f" No latency: {t.latency_meaning}."
    if t.missed is None:
        words += " No jitter: the log need not hold every command."
    return words


def _events(report: FlightReport) -> str:
    r = report.recording
    parts = []
    if r.counters:
        rows = [[html.escape(k.replace("_", " ")), str(v)] for k, v in r.counters.items()]
        parts.append(table(["The policy's counter", "Growth in the log"], rows))
    if r.events:
        rows = [_event_row(e) for e in r.events[:MAX_SHOWN]]
        more = len(r.events) - MAX_SHOWN
        parts.append(table(["Time [s]", "", "Who", "What"], rows))
        parts.append(f"<p>{more} more are in the JSON.</p>" if more > 0 else "")
    return "<br>".join(p for p in parts if p) or "<p>The log holds no events and no counters.</p>"


def _event_row(e: Event) -> list[str]:
    level = f'<span class="bad">{e.level}</span>' if e.level == "error" else e.level
    return [f"{e.time_s:.3f}", level, html.escape(e.source), html.escape(e.text)]


def _gap_table(g: Gap) -> str:
    rows = []
    for key, (name, unit, scale) in fig.GAP_NAMES.items():
        d = g.quantities[key]
        cells = [d.sim, d.bias, d.hold, d.constant]
        rows.append([f"{name} [{unit}]", *(_triple(c, scale) for c in cells)])
    title = f"After {g.horizon_s:.2g} s, {g.windows} windows: x, y, z"
    return table([title, "Simulator", "Bias", "Nothing changes", "Goes on as it moved"], rows)


def _triple(values: tuple[float, float, float], scale: float) -> str:
    return "&ensp;".join(f"{scale * v:.3g}" for v in values)


def agreement_words(a: Agreement) -> str:
    """The agreement in a sentence or two."""
    verdict = "The recorded actions are the policy's" if a.agrees else (
        "The recorded actions are NOT those of the policy"
    )  # fmt: skip
    words = (
        f"{verdict}: root mean square difference {a.rms:.3g} where they vary by {a.varies:.2g}, {100 * a.close:.3g} % within 0.02, "
        f"{a.steps} steps; {a.source}."
    )
    if a.suspicion:
        words += f" They would agree to {a.suspicion_rms:.3g} if this were so: {a.suspicion}."
    return words


def _provenance(report: FlightReport) -> str:
    r = report.recording
    rows = {
        "Log": r.path,
        "SHA-256": r.sha256,
        "From, to [s]": f"{r.flown[0]:.3f}, {r.flown[1]:.3f}",
        "Robot": report.robot or "not given",
        "Policy file": report.policy or "not given",
    }
    cells = [[html.escape(k), html.escape(v)] for k, v in rows.items()]
    return table(["", ""], cells, breakable=True)
