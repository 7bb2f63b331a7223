"""Frame conversions against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from alula import frames

H = 0.5**0.5

# Attitudes FLU -> ENU and what PX4 calls the same pose (FRD -> NED), (w, x, y, z). A FLU axis along east is
# heading 90 degrees for PX4, so the identity of one is a quarter turn about z of the other.
POSES = {
    # x east, y north, z up: PX4 is level and heads east, yaw +90 deg
    "upright": ([1.0, 0.0, 0.0, 0.0], [H, 0.0, 0.0, H]),
    # nose north in ENU is yaw +90 deg; for PX4 it is no rotation at all
    "yaw_left_90": ([H, 0.0, 0.0, H], [1.0, 0.0, 0.0, 0.0]),
    # roll right side down by 90 deg, heading east: PX4 yaw 90 deg followed by roll 90 deg about forward
    "roll_right_90": ([H, H, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5]),
    # nose down by 90 deg is +y (left) in FLU and -y (right) in FRD: PX4 yaw 90 deg, then pitch -90 deg
    "pitch_down_90": ([H, 0.0, H, 0.0], [0.5, 0.5, -0.5, 0.5]),
}


def test_world_vector():
    np.testing.assert_array_equal(frames.ned_from_enu(np.array([1.0, 2.0, 3.0])), [2.0, 1.0, -3.0])
    np.testing.assert_array_equal(frames.enu_from_ned(np.array([2.0, 1.0, -3.0])), [1.0, 2.0, 3.0])


def test_body_vector():
    np.testing.assert_array_equal(
        frames.frd_from_flu(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])),
        [[1.0, -2.0, -3.0], [4.0, -5.0, -6.0]],
    )
    np.testing.assert_array_equal(frames.flu_from_frd(np.array([1.0, -2.0, -3.0])), [1.0, 2.0, 3.0])


@pytest.mark.parametrize("pose", POSES)
def test_attitude(pose):
    ours, px4 = POSES[pose]
    np.testing.assert_allclose(frames.quat_ned_frd_from_enu_flu(np.array(ours)), px4, atol=1e-15)
    np.testing.assert_allclose(frames.quat_enu_flu_from_ned_frd(np.array(px4)), ours, atol=1e-15)


@pytest.mark.parametrize(
    ("quat", "rot"),
    [
        ([1.0, 0.0, 0.0, 0.0], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        # roll +90: body y (left) points up, body z points to world -y (right)
        ([H, H, 0.0, 0.0], [[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
        # pitch +90 about left: the nose points down, body z points forward
        ([H, 0.0, H, 0.0], [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]),
        # yaw +90: the nose points along world y
        ([H, 0.0, 0.0, H], [[0, -1, 0], [1, 0, 0], [0, 0, 1]]),
        # upside down about forward: the scalar part is zero
        ([0.0, 1.0, 0.0, 0.0], [[1, 0, 0], [0, -1, 0], [0, 0, -1]]),
    ],
)
def test_quaternion_and_matrix(quat, rot):
    np.testing.assert_allclose(frames.rot_from_quat(np.array(quat)), rot, atol=1e-15)
    np.testing.assert_allclose(frames.quat_from_rot(np.array(rot, float)), quat, atol=1e-15)


def test_quaternion_orders():
    wxyz = np.array([[0.1, 0.2, 0.3, 0.4]])
    np.testing.assert_array_equal(frames.quat_xyzw_from_wxyz(wxyz), [[0.2, 0.3, 0.4, 0.1]])
    np.testing.assert_array_equal(
        frames.quat_wxyz_from_xyzw(np.array([0.2, 0.3, 0.4, 0.1])), [0.1, 0.2, 0.3, 0.4]
    )


def test_product_follows_right_to_left():
    # i j = k, j i = -k
    i, j = np.array([0.0, 1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0, 0.0])
    np.testing.assert_array_equal(frames.quat_multiply(i, j), [0.0, 0.0, 0.0, 1.0])
    np.testing.assert_array_equal(frames.quat_multiply(j, i), [0.0, 0.0, 0.0, -1.0])


def test_rotor_orders_are_inverse():
    ours = np.array(["front-right", "rear-right", "rear-left", "front-left"])
    px4 = ours[list(frames.PX4_FROM_ALULA)]
    # PX4 quad-x: 1 front-right, 2 rear-left, 3 front-left, 4 rear-right
    assert list(px4) == ["front-right", "rear-left", "front-left", "rear-right"]
    assert list(px4[list(frames.ALULA_FROM_PX4)]) == list(ours)


unit_quaternions = (
    hnp.arrays(np.float64, (4,), elements=st.floats(-1.0, 1.0))
    .filter(lambda q: np.linalg.norm(q) > 0.1)
    .map(lambda q: q / np.linalg.norm(q))
)


@given(unit_quaternions)
def test_matrix_round_trip(quat):
    back = frames.quat_from_rot(frames.rot_from_quat(quat))
    assert abs(np.dot(back, quat)) == pytest.approx(1.0, abs=1e-12)


@given(unit_quaternions, hnp.arrays(np.float64, (3,), elements=st.floats(-10.0, 10.0)))
def test_attitude_maps_vectors_alike(quat, vector_flu):
    """A body vector taken to the world and then to NED equals the same vector taken to FRD and rotated."""
    through_enu = frames.ned_from_enu(frames.rot_from_quat(quat) @ vector_flu)
    px4 = frames.quat_ned_frd_from_enu_flu(quat)
    through_frd = frames.rot_from_quat(px4) @ frames.frd_from_flu(vector_flu)
    np.testing.assert_allclose(through_enu, through_frd, atol=1e-12)


def test_rotation_between_attitudes():
    # From 30 degrees about z to 120 degrees about z: 90 degrees about z; the negated quaternion is the same attitude.
    half = np.radians([15.0, 60.0])
    before, after = ([np.cos(h), 0.0, 0.0, np.sin(h)] for h in half)
    for sign in (1.0, -1.0):
        got = frames.rotation_between(np.array(before), sign * np.array(after))
        np.testing.assert_allclose(got, [0.0, 0.0, np.pi / 2], atol=1e-12)
    # 1e-12 rad about x is no 0 / 0
    tiny = np.array([1.0, 0.5e-12, 0.0, 0.0])
    np.testing.assert_allclose(
        frames.rotation_between(np.array([1.0, 0, 0, 0]), tiny), [1e-12, 0, 0]
    )
    # In the world's frame: an upside-down body (half a turn about x) turned by 90 degrees about the world's z
    down = np.array([0.0, 1.0, 0.0, 0.0])
    turn = np.array([np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)])
    got = frames.rotation_between(down, frames.quat_multiply(turn, down))
    np.testing.assert_allclose(got, [0.0, 0.0, np.pi / 2], atol=1e-12)
