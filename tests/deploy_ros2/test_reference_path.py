"""Paths one after another."""

import numpy as np
import pytest

from alula.deploy_ros2.reference_path import MAX_PATHS, PAST, Spliced, resting, through


def straight(begin, speed=1.0, origin=0.0, duration=1.0):
    """Along x from `begin` on, at x = speed (t - origin)."""
    times = [begin, begin + duration]
    positions = np.array([[speed * (t - origin), 0.0, 0.0] for t in times])
    return through(times, positions, np.array([[speed, 0.0, 0.0]] * 2))


def at(path, time):
    position, velocity = path(time)
    return position[0], velocity[0]


def test_a_measurement_from_before_the_newest_window_meets_the_window_of_its_time():
    path = Spliced(straight(10.0))
    path.replace(straight(10.1), 10.1, now=10.1)
    # by the window of 10.1 alone it would rest at 10.1
    assert at(path, 10.098) == pytest.approx((10.098, 1.0))
    assert at(path, 10.1) == pytest.approx((10.1, 1.0))
    assert at(path, 10.5) == pytest.approx((10.5, 1.0))


def test_a_path_to_come_leaves_the_present_one_until_it_begins():
    path = Spliced(resting(np.array([5.0, 0.0, 0.0])))
    path.replace(straight(12.0), 12.0, now=10.0)
    path.replace(straight(13.0, speed=2.0), 13.0, now=10.1)
    assert at(path, 11.9) == (5.0, 0.0)
    assert at(path, 12.5) == pytest.approx((12.5, 1.0))
    assert at(path, 13.5) == pytest.approx((27.0, 2.0))


def test_a_path_that_begins_earlier_takes_the_place_of_those_to_come():
    path = Spliced(resting(np.zeros(3)))
    path.replace(straight(12.0), 12.0, now=10.0)
    path.replace(straight(11.0, speed=3.0, origin=11.0), 11.0, now=10.5)
    assert at(path, 12.5) == pytest.approx((3.0, 0.0))


def test_what_is_past_is_forgotten_and_a_flood_is_bounded():
    path = Spliced(resting(np.zeros(3)))
    for k in range(50):
        now = 10.0 + 0.1 * k
        path.replace(straight(now), now, now)
    assert len(path._paths) == pytest.approx(PAST / 0.1 + 1, abs=1)
    assert at(path, 13.95) == pytest.approx((13.95, 1.0))
    for k in range(1000):
        path.replace(straight(100.0 + k), 100.0 + k, now=20.0)
    assert len(path._paths) == MAX_PATHS
