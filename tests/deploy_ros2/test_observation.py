"""Observation entries from samples and the reference, on numbers worked out by hand."""

import math
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula import frames
from alula.deploy_ros2.observation import PREVIEW_S, joint_order, preview, reference_at, rotation
from alula.deploy_ros2.samples import Reference
from alula.tasks import track

flying = run_path(str(Path(__file__).parent / "flying.py"))
at = flying["at"]


def test_rotation_of_a_quarter_turn_about_x():
    half = math.sqrt(0.5)
    assert rotation([half, half, 0, 0]) == pytest.approx([1, 0, 0, 0, 0, -1, 0, 1, 0])


def test_rotation_agrees_with_frames_and_forgives_a_length_of_about_one():
    for q in np.random.default_rng(0).normal(size=(20, 4)):
        q /= np.linalg.norm(q)
        assert rotation(1.09 * q) == pytest.approx(frames.rot_from_quat(q).ravel(), abs=1e-12)
        assert all(math.isnan(x) for x in rotation(1.11 * q))
        assert all(math.isnan(x) for x in rotation(0.89 * q))


def test_a_reference_is_carried_on_by_velocity_and_acceleration():
    reference = at((1.0, 2.0, 3.0), 10.0, (1.0, 0.0, -2.0), (0.0, 4.0, 0.0))
    position, velocity = reference_at(reference, 10.1)
    # p + v t + a t^2 / 2 with t = 0.1
    assert position == pytest.approx([1.1, 2.02, 2.8])
    assert velocity == pytest.approx([1.0, 0.4, -2.0])
    # for at most 0.2 s, and not into the past
    assert reference_at(reference, 13.0)[0] == pytest.approx([1.2, 2.08, 2.6])
    assert reference_at(reference, 9.0)[0] == pytest.approx([1.0, 2.0, 3.0])


def test_preview_without_a_trajectory():
    reference = at((1.0, 2.0, 3.0), 10.0, (1.0, 0.0, 0.0), (0.0, 2.0, 0.0))
    # v tau + a tau^2 / 2 at 0.1, 0.2, 0.4, 0.6 s
    wanted = [0.1, 0.01, 0, 0.2, 0.04, 0, 0.4, 0.16, 0, 0.6, 0.36, 0]
    assert preview(reference, 10.0) == pytest.approx(wanted)
    # 0.1 s later the velocity in y is 0.2
    assert preview(reference, 10.1)[1::3] == pytest.approx([0.03, 0.08, 0.24, 0.48])


def test_preview_of_a_trajectory_is_the_tracking_tasks():
    rows = np.array(track.figure_eight(2.0, 1.0, 5.5), float)

    def trajectory(t):
        r = track.reference(t, rows)
        return np.array(r[0:3]), np.array(r[3:6])

    still = at()
    reference = Reference(
        position_w=still.position_w,
        velocity_w=still.velocity_w,
        acceleration_w=still.acceleration_w,
        stamp=0.0,
        trajectory=trajectory,
    )
    wanted = track.reference(1.3, rows)
    assert np.concatenate(reference_at(reference, 1.3)) == pytest.approx(wanted[:6])
    assert preview(reference, 1.3) == pytest.approx(wanted[6:])
    assert PREVIEW_S == track.PREVIEW_S


@pytest.mark.parametrize(
    "trajectory", [lambda t: 1 / 0, lambda t: None, lambda t: ("a", "b"), lambda t: ([1.0], [2.0])]
)
def test_a_bad_trajectory_gives_nan_and_no_error(trajectory):
    still = at()
    reference = Reference(
        position_w=still.position_w,
        velocity_w=still.velocity_w,
        acceleration_w=still.acceleration_w,
        stamp=0.0,
        trajectory=trajectory,
    )
    assert all(map(math.isnan, reference_at(reference, 0.0)[0]))
    assert all(map(math.isnan, preview(reference, 0.0)))


def test_joint_order():
    assert joint_order(("c", "a", "b"), ("a", "b")) == [1, 2]
    assert joint_order(("a", "c"), ("a", "b")) is None
    assert joint_order(("a", "b", "a"), ("a", "b")) is None
