"""Joint positions that bring an arm's tool to a pose, how the tool moves with each joint, and what moves the joints for a
step of the tool: all from the arm's kinematics.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from alula.arrays import namespace
from alula.errors import AlulaError
from alula.frames import quat_from_rot, rotation_between
from alula.robots.arm import Arm
from alula.robots.kinematics import Kinematics

STEPS = 200
"""Most iterations before giving up."""
LONGEST = 0.3
"""Of one iteration, so that a far goal does not throw the joints about [rad or m]."""
DAMPING = 1e-3
"""Keeps steps finite where the arm is stretched [m or -]."""
TOOL_DAMPING = 0.01
"""The same of steps of the tool, which are never repeated until they are exact [m or -]."""
TOOL_STEPS = ("tool_x", "tool_y", "tool_z", "tool_turn_x", "tool_turn_y", "tool_turn_z")
"""Names of the actions that move the tool: a displacement [m] and a rotation vector [rad], in the world."""
TOOL_STEP_MAX = (0.1, 0.5)
"""Longest step along an axis [m], and about one [rad]: beyond these it is not well said by a derivative."""


def tool_jacobian(kinematics: Kinematics, joint_position: ArrayLike) -> np.ndarray:
    """Velocity of the tool [m/s] and its angular velocity [rad/s], both in the world, for each joint's speed 1 (..., 6, J).

    Args:
        kinematics: of the tool.
        joint_position: of one arm (J) or of many (N, J) [rad or m].
    """
    xp = namespace(joint_position)
    q: Any = np.asarray(joint_position, float) if xp is np else joint_position
    position, axes = kinematics.axes(q.tolist() if q.ndim == 1 else list(q.T))
    jacobian = xp.zeros((*q.shape[:-1], 6, q.shape[-1]), dtype=q.dtype, device=q.device)
    for joint, slide, (u, v, w), point in axes:
        x, y, z = (a - b for a, b in zip(position, point, strict=True))
        # A slide moves the tool along its axis n; a hinge by n x (p - point), and turns it about n.
        turned = (v * z - w * y, w * x - u * z, u * y - v * x, u, v, w)
        for row, value in enumerate((u, v, w, 0.0, 0.0, 0.0) if slide else turned):
            jacobian[..., row, joint] = value
    return jacobian


class ToolSteps:
    """The action map of `end_effector_delta`: steps of the tool to steps of the joints, in simulation and on the robot.

    An action is a displacement of the tool [m] (3), a small turn of it as a rotation vector [rad] (3), both in the
    world, and for each joint that does not move the tool, a gripper's, its own step.
    """

    def __init__(
        self, arm: Arm, control_dt: float, asarray: Callable[[Any], Any] = np.asarray
    ) -> None:
        """`control_dt` is the time between two steps [s]; `asarray` as of `TargetSteps`.

        Raises:
            AlulaError: the arm has no model, or no tool in it.
        """
        self._kinematics = Kinematics(arm)
        chain = self._kinematics.chain
        self.others = tuple(j for j in range(len(arm.joint_names)) if j not in chain)
        """Places of the joints that do not move the tool."""
        self.names = (*TOOL_STEPS, *(arm.joint_names[j] for j in self.others))
        """Names of the actions (A)."""
        self._reach = control_dt * asarray(arm.velocity_max)
        self._damping = asarray(TOOL_DAMPING**2 * np.eye(6))

    def joint_steps(self, target: np.ndarray, step: np.ndarray) -> np.ndarray:
        """How far the targets of the joints move [rad or m] (..., J): by damped least squares, none faster than it can.

        ::

            dq = J^T (J J^T + TOOL_DAMPING^2 I)^-1 d        J at the targets, which noise and lag do not touch
            dq <- dq / max(1, max_j |dq_j| / (velocity_max_j control_dt))

        (Y. Nakamura and H. Hanafusa, Inverse kinematic solutions with singularity robustness for robot manipulator
        control, ASME J. Dyn. Syst. Meas. Control 108, 1986; the damping is constant here.)

        Args:
            target: where the joints are sent now, of one arm (J) or of many (N, J).
            step: of the tool, and of the other joints, in the order of `names` (..., A).
        """
        xp, j = namespace(target), tool_jacobian(self._kinematics, target)
        square = j @ j.mT + self._damping
        moved = (j.mT @ xp.linalg.solve(square, step[..., :6, None]))[..., 0]
        # All alike, so that the tool is slowed down and not led elsewhere.
        fastest = xp.max(xp.abs(moved / self._reach), axis=-1, keepdims=True)
        moved = moved / xp.maximum(fastest, 1.0)
        for k, joint in enumerate(self.others):
            moved[..., joint] = step[..., 6 + k]
        return moved


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
        j = tool_jacobian(kinematics, q)
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
