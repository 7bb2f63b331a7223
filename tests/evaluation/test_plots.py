"""Charts: where a point is drawn, what is left out, and that text is escaped."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from alula.evaluation.plots import (
    BINS,
    MARGIN,
    MAX_POINTS,
    WIDTH,
    Axes,
    Line,
    chart,
    histograms,
    ticks,
)


def test_points_are_drawn_to_scale() -> None:
    axes = Axes(x_label="x", y_label="y", height=220, x_range=(0.0, 2.0), y_range=(0.0, 10.0))
    svg = chart([Line(x=np.array([0.0, 1.0, 2.0]), y=np.array([0.0, 5.0, 10.0]))], axes, "t")
    points = re.search(r'<polyline class="line s0" points="([^"]*)"', svg)
    assert points
    left, right, top, bottom = MARGIN
    x1, y0 = WIDTH - right, 220 - bottom
    expected = [(left, y0), ((left + x1) / 2, (top + y0) / 2), (x1, top)]
    found = [tuple(map(float, p.split(","))) for p in points[1].split()]
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_histograms_share_their_bins() -> None:
    # 99.5 % lie below 1.1 + 0.985 (32 - 1.1) = 31.5365, and 1.05 times that is the last edge
    last = 1.05 * 31.5365
    a, b = histograms([np.array([0.5, 1.0, 1.1, 32.0]), np.array([]), np.array([2.0])])
    assert (a.style, b.style) == ("s0", "s2")
    np.testing.assert_allclose(a.x, b.x)
    np.testing.assert_allclose(a.x[[0, 1, 2, -1]], [0.0, last / BINS, last / BINS, last])
    assert a.y[:4].tolist() == [50.0, 50.0, 25.0, 25.0]
    assert b.y[2:4].tolist() == [100.0, 100.0]
    assert len(a.y) == len(b.y) == 2 * BINS
    (c,) = histograms([np.array([-3.0, 1.0])])
    assert c.x[0] == -3.0
    assert histograms([np.array([])]) == []


def test_holes_interrupt_the_curve_and_svg_is_well_formed() -> None:
    y = np.array([1.0, 2.0, np.nan, 3.0, np.inf, 4.0, 5.0])
    svg = chart(
        [Line(x=np.arange(7.0), y=y, low=y - 1, high=y + 1, dots=True)],
        Axes(x_label="a<b", y_label="&", shaded=(1.0, 2.0), marks=(2.0,)),
        'say "<>"',
    )
    assert svg.count("<polyline") == 3
    assert "nan" not in svg
    assert "inf" not in svg
    root = ET.fromstring(svg)
    assert root.attrib["aria-label"] == 'say "<>"'


@pytest.mark.parametrize("values", [[], [np.nan], [3.0], [0.0, 0.0], [1e9, -1e9]])
def test_degenerate_data_still_draws(values: list[float]) -> None:
    x = np.arange(float(len(values)))
    ET.fromstring(chart([Line(x=x, y=np.array(values))], Axes(x_label="x", y_label="y"), "t"))


def test_long_lines_are_thinned() -> None:
    x = np.arange(10_000.0)
    svg = chart([Line(x=x, y=x)], Axes(x_label="x", y_label="y"), "t")
    points = re.search(r'points="([^"]*)"', svg)
    assert points
    assert len(points[1].split()) == MAX_POINTS


def test_equal_axes_have_one_scale() -> None:
    square = Line(x=np.array([0.0, 1.0, 1.0, 0.0]), y=np.array([0.0, 0.0, 1.0, 1.0]))
    svg = chart([square], Axes(x_label="x", y_label="y", height=300, equal=True), "t")
    points = re.search(r'points="([^"]*)"', svg)
    assert points
    (ax, ay), (bx, by), (cx, cy), _ = (map(float, p.split(",")) for p in points[1].split())
    assert bx - ax == pytest.approx(by - cy, abs=0.2)
    assert ay == by
    assert bx == cx


def test_ticks_are_round_and_inside() -> None:
    np.testing.assert_allclose(ticks(0.0, 1.0, 5), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(ticks(-0.13, 0.29, 5), [-0.1, 0.0, 0.1, 0.2])
    np.testing.assert_allclose(ticks(3.0, 47.0, 6), [10, 20, 30, 40])
