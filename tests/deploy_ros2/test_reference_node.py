"""The way that reference_node shows."""

import pytest

pytest.importorskip("rclpy")

from alula.deploy_ros2.node_config import ReferenceConfig
from alula.deploy_ros2.reference_node import ease, window_message


def numbers(point):
    p, v = point.transforms[0].translation, point.velocities[0].linear
    return (p.x, p.y, p.z), (v.x, v.y, v.z)


def test_the_figure_eight_begins_at_rest_and_comes_to_its_pace():
    # s = t^2 / (2 T) up to T, then t - T / 2, where t counts from 1 s on
    assert ease(0.5, 1.0, 4.0) == (0.0, 0.0)
    assert ease(3.0, 1.0, 4.0) == (0.5, 0.5)
    assert ease(5.0, 1.0, 4.0) == (2.0, 1.0)
    assert ease(11.0, 1.0, 4.0) == (8.0, 1.0)
    assert ease(3.0, 1.0, 0.0) == (2.0, 1.0)


def test_a_window_begins_at_rest_in_the_centre_and_moves_at_its_own_velocity():
    config = ReferenceConfig(shape="figure_eight", window=1.0, spacing=0.005, wait=0.5, ease=2.0)
    points = list(window_message(config, 100.0, 0.0).points)
    assert len(points) == 201
    assert numbers(points[0]) == ((0.0, 0.0, 1.0), (0.0, 0.0, 0.0))
    for before, here, after in zip(points, points[1:], points[2:], strict=False):
        a, b = numbers(before)[0], numbers(after)[0]
        slope = [(y - x) / 0.01 for x, y in zip(a, b, strict=True)]
        # central difference: h^2 / 6 times the third derivative, below 20 m/s^3; where it begins to move h / 4 times the acceleration
        assert numbers(here)[1] == pytest.approx(slope, abs=2e-3)


def test_hover_stays_at_the_centre_and_says_how_far_ahead():
    message = window_message(ReferenceConfig(centre=(1.0, 2.0, 3.0)), 12.5, 7.0)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (12, 500_000_000)
    assert numbers(list(message.points)[-1]) == ((1.0, 2.0, 3.0), (0.0, 0.0, 0.0))
    last = list(message.points)[-1].time_from_start
    assert last.sec + 1e-9 * last.nanosec == pytest.approx(2.0)
