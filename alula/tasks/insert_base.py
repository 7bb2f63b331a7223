"""A controller of the task insert, written by hand, to be frozen and corrected by learning: straight down, then a search.

The tip goes over where the hole is said to be, upright, and down. At the height of the rim it presses no further but moves
along a spiral that widens up to a circle; a tip that drops below the rim is pushed down. It has no memory, all follows
from where the tool is, and it searches slowly: many episodes end before it has found the hole.
"""

from functools import lru_cache

import numpy as np

from alula.robots.arm import Arm
from alula.robots.inverse_kinematics import tool_jacobian
from alula.robots.kinematics import Kinematics
from alula.sim.arm_config import ArmSimConfig
from alula.tasks.insert import DEPTH, TIP, above

GAIN = 4.0
"""Of errors of place and attitude [1/s]."""
FAST, DOWN = 0.05, 0.03
"""Largest speeds sideways and down [m/s]."""
LIP, SOFT = 0.001, 0.0003
"""A tip is at the rim within LIP of its height; it becomes so over about SOFT [m]."""
TURN, GROWTH, WIDEST = 3.5, 0.6, 0.002
"""Of the spiral: angular speed [rad/s], rate at which it widens [1/s], and its largest radius [m]."""


@lru_cache
def _inverse(robot: Arm) -> tuple[np.ndarray, float]:
    """Joint speeds for each of the tool's speeds (J, 6) where the task starts, and the first joint there [rad]."""
    q = above(robot)
    return np.linalg.pinv(tool_jacobian(Kinematics(robot), q)), q[0]


def base_action(observation: np.ndarray, robot: Arm, config: ArmSimConfig) -> np.ndarray:
    """Actions (N, A) in [-1, 1] for observations (N, O) of the actor, as joint-position deltas; the gripper rests.

    ::

        r    = tip - measured hole, horizontally;  h = height of the tip above the rim;  s(x) = 1 / (1 + exp(-x))
        up   = s((h - LIP) / SOFT);  below = s(-(h + LIP) / SOFT);  rim = (1 - up) (1 - below)
        v_xy = -up min(GAIN, FAST / |r|) r + rim (TURN z x r + GROWTH (1 - |r|^2 / WIDEST^2) r)
        v_z  = -(up + below) min(DOWN, GAIN max(h + DEPTH, 0))
        w    = GAIN phi
        a    = J^+ (v, w) control_dt / action_size, made shorter where an action is beyond 1
    """
    joints = len(robot.joint_names)
    rows = observation.astype(np.float64)
    error, phi = rows[:, 2 * joints : 2 * joints + 3], rows[:, 2 * joints + 3 : 2 * joints + 6]
    # The tip of a peg that still has to turn by phi is beside the tool's axis: phi x z TIP.
    r = TIP * np.stack([phi[:, 1], -phi[:, 0]], axis=1) - error[:, :2]
    h = -error[:, 2:] - DEPTH
    up, below = _step((h - LIP) / SOFT), _step(-(h + LIP) / SOFT)
    rim = (1.0 - up) * (1.0 - below)
    size = np.linalg.norm(r, axis=1, keepdims=True)
    back = -np.minimum(GAIN, FAST / np.maximum(size, 1e-9)) * r
    around = np.stack([-r[:, 1], r[:, 0]], axis=1)
    spiral = TURN * around + GROWTH * (1.0 - size**2 / WIDEST**2) * r
    down = -(up + below) * np.minimum(DOWN, GAIN * np.maximum(h + DEPTH, 0.0))
    twist = np.concatenate([up * back + rim * spiral, down, GAIN * phi], axis=1)
    return _actions(twist, rows[:, 0], robot, config)


def _actions(twist: np.ndarray, first: np.ndarray, robot: Arm, config: ArmSimConfig) -> np.ndarray:
    """Actions (N, A) that move the tool with a velocity and an angular velocity (N, 6), the first joint at `first` (N).

    The Jacobian is that of the pose where the task starts, turned with the first joint, whose axis is vertical.
    """
    inverse, at = _inverse(robot)
    # R_z(at - q_1) v
    c, s = np.cos(at - first), np.sin(at - first)
    vx, vy, vz, wx, wy, wz = twist.T
    turned = np.stack(
        [c * vx - s * vy, s * vx + c * vy, vz, c * wx - s * wy, s * wx + c * wy, wz], axis=1
    )
    action = turned @ inverse.T * config.control_dt / config.action_size(robot)
    most = np.abs(action).max(axis=1, keepdims=True)
    return (action / np.maximum(most, 1.0)).astype(np.float32)


def _step(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))
