"""Charts as inline SVG: small, sharp on any screen, and coloured by the page's light or dark style.

Written by hand because the report may take no more than a moment: a matplotlib figure costs as much time as
all of these together. Colours are CSS classes s0, s1, ... which `report.py` defines.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WIDTH = 360
MARGIN = (44, 10, 12, 34)
"""Left, right, top, bottom of the plot area [px]."""
BINS = 32
"""Of a histogram."""
MAX_POINTS = 240
"""Points a drawn line keeps; the screen shows no more."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve."""

    x: np.ndarray
    """(n,); where x or y is not finite the curve is interrupted."""
    y: np.ndarray
    """(n,)."""
    style: str = "s0"
    """CSS classes: colour s0..s5, optionally `thin`, `dashed`."""
    low: np.ndarray | None = None
    """Lower edge of a band around it (n,)."""
    high: np.ndarray | None = None
    """Upper edge."""
    dots: bool = False
    """Mark each point."""


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What a chart is drawn on."""

    x_label: str
    """With unit."""
    y_label: str
    """With unit."""
    height: int = 220
    """[px] at a width of WIDTH."""
    x_range: tuple[float, float] | None = None
    """None: from the data."""
    y_range: tuple[float, float] | None = None
    """None: from the data."""
    equal: bool = False
    """Same scale on both axes."""
    shaded: tuple[float, float] | None = None
    """Interval of x drawn as a backdrop."""
    marks: Sequence[float] = ()
    """Horizontal dotted lines."""
    x_ticks: Sequence[float] | None = None
    """None: round numbers."""


def histograms(values: Sequence[np.ndarray]) -> list[Line]:
    """The share of each sample [%] in bins that all share, as an outline each; the largest 0.5 % are left out, and zero is in."""
    known = [v for v in values if len(v)]
    high = 1.05 * max((float(np.percentile(v, 99.5)) for v in known), default=1.0)
    low = min((float(v.min()) for v in known), default=0.0)
    edges = np.linspace(min(low, 0.0), max(high, 1e-3), BINS + 1)
    lines = []
    for k, value in enumerate(values):
        if len(value):
            share = np.repeat(100.0 * np.histogram(value, edges)[0] / len(value), 2)
            x, none = np.repeat(edges, 2)[1:-1], np.zeros(len(share))
            lines.append(Line(x=x, y=share, style=f"s{k}", low=none, high=share))
    return lines


def chart(lines: Sequence[Line], axes: Axes, title: str) -> str:
    """The lines on axes as one `<svg>`; `title` is what a screen reader says."""
    left, right, top, bottom = MARGIN
    (x0, x1), (y0, y1) = _ranges(lines, axes)
    width, height = WIDTH - left - right, axes.height - top - bottom

    def px(x: np.ndarray) -> np.ndarray:
        return left + (np.asarray(x, float) - x0) / (x1 - x0) * width

    def py(y: np.ndarray) -> np.ndarray:
        return top + height - (np.asarray(y, float) - y0) / (y1 - y0) * height

    body = [_shade(px, axes, (x0, x1), top, height)]
    for value in axes.x_ticks or ticks(x0, x1, 6):
        x = float(px(np.array(value)))
        body.append(
            f'<path class="grid" d="M{x:.1f} {top}V{top + height}"/>'
            f'<text x="{x:.1f}" y="{top + height + 14}" text-anchor="middle">{_number(value)}</text>'
        )
    for value in ticks(y0, y1, 5):
        y = float(py(np.array(value)))
        body.append(
            f'<path class="grid" d="M{left} {y:.1f}H{left + width}"/>'
            f'<text x="{left - 6}" y="{y + 3.5:.1f}" text-anchor="end">{_number(value)}</text>'
        )
    for value in axes.marks:
        y = float(py(np.array(value)))
        body.append(f'<path class="mark" d="M{left} {y:.1f}H{left + width}"/>')
    # a nested svg clips what leaves the plot area
    body.append(f'<svg x="{left}" y="{top}" width="{width}" height="{height}" '
                f'viewBox="{left} {top} {width} {height}">')  # fmt: skip
    for line in lines:
        body.append(_draw(line, px, py))
    body.append("</svg>")
    body.append(
        f'<text class="label" x="{left + width / 2:.0f}" y="{axes.height - 4}" '
        f'text-anchor="middle">{html.escape(axes.x_label)}</text>'
        f'<text class="label" transform="translate(10 {top + height / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{html.escape(axes.y_label)}</text>'
    )
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {axes.height}" role="img" '
        f'aria-label="{html.escape(title, quote=True)}">{"".join(body)}</svg>'
    )


def _shade(px, axes: Axes, x_range: tuple[float, float], top: int, height: int) -> str:
    if axes.shaded is None:
        return ""
    a, b = (float(px(np.array(min(max(x, x_range[0]), x_range[1])))) for x in axes.shaded)
    return f'<rect class="shade" x="{a:.1f}" y="{top}" width="{max(b - a, 2.0):.1f}" height="{height}"/>'


def _draw(line: Line, px, py) -> str:
    x, y, style = _thin(line.x), _thin(line.y), html.escape(line.style, quote=True)
    out = ""
    if line.low is not None and line.high is not None:
        low, high = _thin(line.low), _thin(line.high)
        known = np.isfinite(low) & np.isfinite(high)
        edge = _points(px(x[known]), py(high[known])) + _points(
            px(x[known][::-1]), py(low[known][::-1])
        )
        if edge:
            out += f'<polygon class="band {style}" points="{" ".join(edge)}"/>'
    for run in _runs(np.isfinite(x) & np.isfinite(y)):
        points = _points(px(x[run]), py(y[run]))
        out += f'<polyline class="line {style}" points="{" ".join(points)}"/>'
        if line.dots:
            out += "".join(
                f'<circle class="dot {style}" cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="2.6"/>'
                for p in points
            )
    return out


def _points(x: np.ndarray, y: np.ndarray) -> list[str]:
    # far outside of the picture one number is as good as another, and shorter
    x, y = np.clip(x, -2000, 4000), np.clip(y, -2000, 4000)
    return [f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]


def _runs(known: np.ndarray) -> list[slice]:
    """Slices of consecutive true entries."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(np.int8)))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _thin(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, float)
    if len(values) <= MAX_POINTS:
        return values
    return values[np.linspace(0, len(values) - 1, MAX_POINTS).round().astype(int)]


def _ranges(lines: Sequence[Line], axes: Axes) -> tuple[tuple[float, float], tuple[float, float]]:
    xs = [line.x for line in lines]
    ys = [part for line in lines for part in (line.y, line.low, line.high) if part is not None]
    x_range = axes.x_range or _spread(xs, margin=0.0)
    y_range = axes.y_range or _spread([*ys, np.array(axes.marks, float)], margin=0.05)
    if not axes.equal:
        return x_range, y_range
    left, right, top, bottom = MARGIN
    ratio = (WIDTH - left - right) / (axes.height - top - bottom)
    scale = max((x_range[1] - x_range[0]) * 1.1, (y_range[1] - y_range[0]) * 1.1 * ratio)
    (xc, yc) = (sum(x_range) / 2, sum(y_range) / 2)
    return (xc - scale / 2, xc + scale / 2), (yc - scale / ratio / 2, yc + scale / ratio / 2)


def _spread(parts: Sequence[np.ndarray], margin: float) -> tuple[float, float]:
    known = [np.asarray(p, float)[np.isfinite(p)] for p in parts]
    flat = np.concatenate(known) if known else np.zeros(0)
    if not len(flat):
        return 0.0, 1.0
    low, high = float(flat.min()), float(flat.max())
    # a flat line still needs a scale
    pad = max((high - low) * margin, (high == low) * max(abs(high) * 0.1, 1e-3))
    # errors and shares start at zero, not below
    return (0.0 if 0.0 <= low < 0.4 * high and margin else low - pad), high + pad


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` + 1 round numbers (1, 2 or 5 times a power of ten) in [low, high]."""
    raw = max(high - low, 1e-12) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((m * power for m in (1, 2, 5) if m * power >= raw * 0.999), 10 * power)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    text = f"{value:.4g}"
    return ("0" if float(text) == 0.0 else text).replace("-", "\u2212")
