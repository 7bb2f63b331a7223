"""Where an arm's joints are sent by a policy that commands steps; no ROS."""

import numpy as np

from alula.robots.arm import Arm
from alula.robots.target_steps import TargetSteps


class JointTargets:
    """Positions of the joints, moved by steps of theirs or of the tool, as in training."""

    def __init__(self, arm: Arm, level: str, control_dt: float) -> None:
        """Arguments and errors of `TargetSteps`."""
        self._steps = TargetSteps(arm, level, control_dt)
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
        last = measured if self._sent is None else self._sent
        self._sent = self._steps.moved(last, np.asarray(step, float), measured)
        return self._sent
