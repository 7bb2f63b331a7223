"""Where joints are sent by steps, of theirs or of the tool: the same rule in simulation and on the robot."""

from collections.abc import Callable
from typing import Any

import numpy as np

from alula.arrays import namespace
from alula.robots.arm import Arm
from alula.robots.inverse_kinematics import ToolSteps

STEPS = ("joint_position_delta", "end_effector_delta")
"""Meanings of actions that are steps from where the joints were sent last."""
LEASH = 0.2
"""No step takes a target further than this from the measured position, so that a blocked arm does not wind up [rad or m]."""


class TargetSteps:
    """Moves the positions that joints are sent to."""

    def __init__(
        self,
        arm: Arm,
        action: str,
        control_dt: float,
        asarray: Callable[[Any], Any] = np.asarray,
    ) -> None:
        """Steps are of the tool where `action` says so, else of the joints; `control_dt` is the time between two [s].

        `asarray` makes of numbers what `moved` is going to be given, a tensor on some device for example.

        Raises:
            AlulaError: steps of a tool that the arm's model does not have.
        """
        moves_tool = action == "end_effector_delta"
        self._tool_steps = ToolSteps(arm, control_dt, asarray) if moves_tool else None
        self._low, self._high = asarray(arm.position_low), asarray(arm.position_high)

    def moved(self, target: np.ndarray, step: np.ndarray, position: np.ndarray) -> np.ndarray:
        """The next targets [rad or m] (..., J).

        Args:
            target: where the joints were sent last [rad or m] (..., J).
            step: what the actions ask for, in their units (..., A).
            position: measured joint positions [rad or m] (..., J).
        """
        if self._tool_steps is not None:
            step = self._tool_steps.joint_steps(target, step)
        # From the target, not from where the arm is: a wrong measurement would go straight to the joints, and a hold
        # (steps of zero) would follow an arm that sags. The leash holds steps back and moves no target by itself,
        # whatever is measured.
        xp = namespace(target)
        low, high = xp.minimum(target, position - LEASH), xp.maximum(target, position + LEASH)
        return xp.clip(xp.clip(target + step, low, high), self._low, self._high)
