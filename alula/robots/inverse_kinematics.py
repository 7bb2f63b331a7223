"""Joint positions that bring an arm's tool to a pose, and how the tool moves with each joint: from the arm's kinematics."""

from collections.abc import Sequence

import numpy as np

from alula.errors import AlulaError
from alula.frames import quat_from_rot, rotation_between
from alula.robots.arm import Arm
from alula.robots.kinematics import Kinematics

DIFFERENCE = 1e-5
"""Of a joint's position, for derivatives [rad or m]."""
STEPS = 200
"""Most iterations before giving up."""
LONGEST = 0.3
"""Of one iteration, so that a far goal does not throw the joints about [rad or m]."""
DAMPING = 1e-3
"""Keeps steps finite where the arm is stretched [m or -]."""


def tool_jacobian(kinematics: Kinematics, joint_position: Sequence[float]) -> np.ndarray:
    """Velocity of the tool [m/s] and its angular velocity [rad/s], both in the world, for each joint's speed 1 (6, J)."""
    q = np.array(joint_position, float)
    columns = []
    for step in DIFFERENCE * np.eye(len(q)):
        # (x(q + h) - x(q - h)) / 2 h
        (low, low_rot), (high, high_rot) = (kinematics.forward(p) for p in (q - step, q + step))
        columns.append([*(np.array(high) - low), *_turn(low_rot, high_rot)])
    return np.array(columns).T / (2.0 * DIFFERENCE)


def joint_positions(
    arm: Arm, position: Sequence[float], rot: Sequence[float], near: Sequence[float]
) -> np.ndarray:
    """Joint positions [rad or m] (J) within the limits that bring the tool to a pose, sought from others.

    Damped steps of Newton: dq = J^T (J J^T + damping^2 I)^-1 e.

    Args:
        arm: limits and model.
        position: of the tool in the world [m] (3).
        rot: rotation matrix that maps tool to world, row-major (9).
        near: where the search begins (J).

    Raises:
        AlulaError: none was found.
    """
    kinematics = Kinematics(arm)
    low, high = np.array(arm.position_low), np.array(arm.position_high)
    q = np.clip(np.array(near, float), low, high)
    for _ in range(STEPS):
        here, here_rot = kinematics.forward(q.tolist())
        error = np.concatenate([np.array(position) - here, _turn(here_rot, rot)])
        if np.abs(error).max() < 1e-7:
            return q
        j = tool_jacobian(kinematics, q.tolist())
        step = j.T @ np.linalg.solve(j @ j.T + DAMPING**2 * np.eye(6), error)
        q = np.clip(q + step * min(1.0, LONGEST / np.abs(step).max()), low, high)
    miss = float(np.linalg.norm(np.array(position) - kinematics.forward(q.tolist())[0]))
    raise AlulaError(
        f"robot {arm.name!r}: the tool comes no closer than {miss:.3f} m to {tuple(np.round(position, 3).tolist())} "
        "with that attitude; allowed: poses within reach"
    )


def _turn(rot_from: Sequence[float], rot_to: Sequence[float]) -> np.ndarray:
    """Rotation vector [rad] (3) in the world from one matrix, row-major (9), to another."""
    first, second = (quat_from_rot(np.reshape(r, (3, 3))) for r in (rot_from, rot_to))
    return rotation_between(first, second)
