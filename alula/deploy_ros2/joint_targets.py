"""Where an arm's joints are sent by a policy that commands steps; no ROS."""

import numpy as np

from alula.robots.arm import LEASH, Arm
from alula.robots.inverse_kinematics import ToolSteps

STEPS = ("joint_position_delta", "end_effector_delta")
"""Levels whose commands are steps from where the joints were sent last."""


class JointTargets:
    """Positions of the joints, moved by steps of theirs or of the tool, as in training."""

    def __init__(self, arm: Arm, level: str, control_dt: float) -> None:
        """`level` is one of STEPS, `control_dt` the time between two steps [s].

        Raises:
            AlulaError: steps of a tool that the arm's model does not have.
        """
        moves_tool = level == "end_effector_delta"
        self._tool_steps = ToolSteps(arm, control_dt) if moves_tool else None
        self._low, self._high = np.array(arm.position_low), np.array(arm.position_high)
        self._sent: np.ndarray | None = None

    def start(self) -> None:
        """Begin anew from where the arm is."""
        self._sent = None

    def moved(self, step: np.ndarray, measured: np.ndarray | None) -> np.ndarray | None:
        """Joint positions to be sent [rad or m] (J); None where nothing can be.

        Args:
            step: command in the policy's order (A).
            measured: joint positions now, finite, in the order of the robot file (J); None where they are not known.
        """
        if measured is None or not np.isfinite(step).all():
            return None
        base = measured if self._sent is None else self._sent
        if self._tool_steps is not None:
            step = self._tool_steps.joint_steps(base, np.asarray(step, float))
        # From what was commanded, not from where the arm is: a wrong measurement would go straight to the joints, and a
        # hold (steps of zero) would follow an arm that sags. A blocked arm winds up no more than the leash, which never
        # moves the command by itself, whatever is measured.
        low, high = np.minimum(base, measured - LEASH), np.maximum(base, measured + LEASH)
        self._sent = np.clip(np.clip(base + step, low, high), self._low, self._high)
        return self._sent
