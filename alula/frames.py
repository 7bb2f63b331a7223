"""Conversions between alula's frames and quaternion order and those of other systems, for the edges.

Inside alula the world is ENU (x east, y north, z up), the body FLU (x forward, y left, z up) and a quaternion
(w, x, y, z). PX4 uses NED (north, east, down) and FRD (forward, right, down). All functions take and return
arrays whose last axis holds the components; leading axes are kept. What tasks need of it takes tensors as well.
"""

import numpy as np

from alula.arrays import namespace

PX4_FROM_ALULA = (0, 2, 3, 1)
"""PX4 quad-x motor k is alula's rotor PX4_FROM_ALULA[k]."""
ALULA_FROM_PX4 = (0, 3, 1, 2)
"""Alula's rotor k is PX4 quad-x motor ALULA_FROM_PX4[k]."""

_SQRT_HALF = 0.5**0.5
_QUAT_NED_ENU = np.array([0.0, _SQRT_HALF, _SQRT_HALF, 0.0])
"""Half a turn about the diagonal between east and north swaps them and turns up into down."""
_QUAT_FLU_FRD = np.array([0.0, 1.0, 0.0, 0.0])
"""Half a turn about forward turns right into left and down into up."""


def ned_from_enu(vector_enu: np.ndarray) -> np.ndarray:
    """World vectors (..., 3) from ENU to NED, and, as the map is its own inverse, from NED to ENU."""
    v = np.asarray(vector_enu)
    # (x, y, z) -> (y, x, -z)
    return np.stack([v[..., 1], v[..., 0], -v[..., 2]], axis=-1)


enu_from_ned = ned_from_enu


def frd_from_flu(vector_flu: np.ndarray) -> np.ndarray:
    """Body vectors (..., 3) from FLU to FRD, and, as the map is its own inverse, from FRD to FLU."""
    # (x, y, z) -> (x, -y, -z)
    return np.asarray(vector_flu) * np.array([1.0, -1.0, -1.0])


flu_from_frd = frd_from_flu


def quat_multiply(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Hamilton product of quaternions (..., 4), scalar first: the rotation q followed by p."""
    xp = namespace(p)
    pw, px, py, pz = _columns(p)
    qw, qx, qy, qz = _columns(q)
    return xp.stack(
        [
            pw * qw - px * qx - py * qy - pz * qz,
            pw * qx + px * qw + py * qz - pz * qy,
            pw * qy - px * qz + py * qw + pz * qx,
            pw * qz + px * qy - py * qx + pz * qw,
        ],
        axis=-1,
    )


def rotation_between(quat_from: np.ndarray, quat_to: np.ndarray) -> np.ndarray:
    """Rotation vectors [rad] (..., 3) in the world's frame that turn one attitude (..., 4) into another, shorter than pi.

    q = q_to conj(q_from),  phi = 2 atan2(|v|, |w|) sign(w) v / |v|
    """
    xp = namespace(quat_from)
    first = xp.asarray(quat_from)
    q = quat_multiply(quat_to, xp.concat([first[..., :1], -first[..., 1:]], axis=-1))
    w, v = q[..., :1], q[..., 1:]
    size = xp.linalg.vector_norm(v, axis=-1, keepdims=True)
    angle = 2.0 * xp.atan2(size, xp.abs(w))
    # angle / |v| -> 2 / |w| where nothing turns
    return xp.where(w < 0.0, -v, v) * xp.where(size > 1e-9, angle / xp.maximum(size, 1e-9), 2.0)


def quat_ned_frd_from_enu_flu(quat_enu_flu: np.ndarray) -> np.ndarray:
    """Attitude (..., 4) that maps FRD to NED, as PX4 has it, from one that maps FLU to ENU; both scalar first.

    q_ned_frd = q_ned_enu q_enu_flu q_flu_frd
    """
    return _canonical(
        quat_multiply(quat_multiply(_QUAT_NED_ENU, np.asarray(quat_enu_flu)), _QUAT_FLU_FRD)
    )


def quat_enu_flu_from_ned_frd(quat_ned_frd: np.ndarray) -> np.ndarray:
    """Attitude (..., 4) that maps FLU to ENU from PX4's, which maps FRD to NED; both scalar first.

    q_enu_flu = q_enu_ned q_ned_frd q_frd_flu; both outer rotations are half turns, their own inverses.
    """
    return quat_ned_frd_from_enu_flu(quat_ned_frd)


def quat_xyzw_from_wxyz(quat_wxyz: np.ndarray) -> np.ndarray:
    """Quaternions (..., 4) from scalar-first to scalar-last order, as ROS messages have it."""
    return np.roll(np.asarray(quat_wxyz), -1, axis=-1)


def quat_wxyz_from_xyzw(quat_xyzw: np.ndarray) -> np.ndarray:
    """Quaternions (..., 4) from scalar-last to scalar-first order."""
    return np.roll(np.asarray(quat_xyzw), 1, axis=-1)


def rot_from_quat(quat: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of unit quaternions (..., 4), scalar first."""
    xp = namespace(quat)
    w, x, y, z = _columns(np.asarray(quat, dtype=np.float64) if xp is np else quat)
    # R = I + 2 w [v]x + 2 [v]x^2 for q = (w, v)
    xx, yy, zz = 2.0 * (x * x), 2.0 * (y * y), 2.0 * (z * z)
    xy, xz, yz = 2.0 * (x * y), 2.0 * (x * z), 2.0 * (y * z)
    wx, wy, wz = 2.0 * (w * x), 2.0 * (w * y), 2.0 * (w * z)
    rows = (
        (1.0 - (yy + zz), xy - wz, xz + wy),
        (xy + wz, 1.0 - (xx + zz), yz - wx),
        (xz - wy, yz + wx, 1.0 - (xx + yy)),
    )
    return xp.stack([xp.stack(row, axis=-1) for row in rows], axis=-2)


def _columns(x: np.ndarray) -> list[np.ndarray]:
    x = namespace(x).asarray(x)
    return [x[..., k] for k in range(x.shape[-1])]


def quat_from_rot(rot: np.ndarray) -> np.ndarray:
    """Unit quaternions (..., 4), scalar first and scalar >= 0, of rotation matrices (..., 3, 3).

    Takes the largest of the four components first, which is never near zero (Shepperd, J. Guidance and
    Control 1(3), 1978).
    """
    r = np.asarray(rot, dtype=np.float64)
    r00, r11, r22 = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    a, b, c = r[..., 2, 1], r[..., 0, 2], r[..., 1, 0]
    d, e, f = r[..., 1, 2], r[..., 2, 0], r[..., 0, 1]
    # Row k is 4 q_k (w, x, y, z)
    candidates = np.stack(
        [
            np.stack([1.0 + r00 + r11 + r22, a - d, b - e, c - f], axis=-1),
            np.stack([a - d, 1.0 + r00 - r11 - r22, c + f, b + e], axis=-1),
            np.stack([b - e, c + f, 1.0 - r00 + r11 - r22, a + d], axis=-1),
            np.stack([c - f, b + e, a + d, 1.0 - r00 - r11 + r22], axis=-1),
        ],
        axis=-2,
    )
    diagonal = np.diagonal(candidates, axis1=-2, axis2=-1)
    best = np.argmax(diagonal, axis=-1)[..., None, None]
    q = np.take_along_axis(candidates, best, axis=-2)[..., 0, :]
    return _canonical(q / np.linalg.norm(q, axis=-1, keepdims=True))


def _canonical(quat: np.ndarray) -> np.ndarray:
    # q and -q are one rotation; keep the scalar part non-negative
    return np.where(quat[..., :1] < 0.0, -quat, quat)
