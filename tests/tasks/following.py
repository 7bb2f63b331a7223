"""Scripted motions of one simulated arm, for tests: the tool goes from pose to pose by its inverse kinematics."""

import numpy as np

from alula.robots.inverse_kinematics import joint_positions
from alula.sim.mujoco.arm import MujocoArm


class Follower:
    """Sends one arm along straight lines between joint positions, by the policy's own actions."""

    def __init__(self, simulator: MujocoArm) -> None:
        self.simulator, self.robot = simulator, simulator.robot
        self.size = simulator.config.action_size(self.robot)
        self.sent = simulator.scene.joint_position[0].copy()
        self.near = self.sent

    def go(self, position, rot, finger: float, seconds: float) -> None:
        """Tool to a position [m] (3) and attitude (9), the fingers to half their width [m], in a time [s]."""
        goal = joint_positions(self.robot, position, rot, self.near)
        goal[-1] = finger
        steps = round(seconds / self.simulator.config.control_dt)
        for k in range(steps):
            want = self.near + (goal - self.near) * (k + 1) / steps
            action = np.clip((want - self.sent) / self.size, -1.0, 1.0).astype(np.float32)
            self.sent = self.sent + self.size * action
            self.simulator.step(action[None])
        self.near = goal

    def line(self, first, last, rot, finger: float, seconds: float, parts: int = 10) -> None:
        """Tool along a straight line in the world [m], from where it stands."""
        first, last = np.array(first), np.array(last)
        for k in range(parts):
            self.go(first + (last - first) * (k + 1) / parts, rot, finger, seconds / parts)
