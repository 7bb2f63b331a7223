"""An arm that brings its tool to a pose by a linear law, as a policy file; loaded by several tests."""

import numpy as np

from alula.frames import quat_from_rot, rot_from_quat
from alula.policies.contract import ActionEntry, Contract, ObservationEntry
from alula.policies.network import Network
from alula.policies.onnx_file import load_policy, write_policy
from alula.robots.inverse_kinematics import TOOL_STEPS
from alula.robots.kinematics import Kinematics

CONTROL_DT = 0.01
"""Period of the policy [s]."""
OFFSET = (0.25, -0.15, 0.2, -0.2, 0.15, 0.3)
"""Joint positions at which the tool is at the goal, from home [rad]."""
SPEED, GAIN = 1.0, 3.0
"""Largest speed of a joint [rad/s], and how fast the error dies away [1/s]."""


def pose(arm, joint_position):
    """Position [m] (3) and quaternion (4) of the tool."""
    position, rot = Kinematics(arm).forward([float(q) for q in joint_position])
    return np.array(position), quat_from_rot(np.reshape(rot, (3, 3)))


def jacobian(arm, joint_position):
    """How the tool's position and attitude, as a rotation vector in the world, change with the joints (6, J)."""
    step, columns = 1e-6, []
    for k in range(len(joint_position)):
        move = step * np.eye(len(joint_position))[k]
        p, rp = pose(arm, joint_position + move)
        n, rn = pose(arm, joint_position - move)
        turn = rot_from_quat(rp) @ rot_from_quat(rn).T
        w = [turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]
        columns.append(np.concatenate([p - n, 0.5 * np.array(w)]) / (2.0 * step))
    return np.array(columns).T


def tool_policy(path, arm, meaning="joint_position_delta"):
    """z = GAIN / SPEED pinv(J(home)) (position error, rotation error), action = z / sqrt(1 + z^2); through its file.

    By steps of the tool, of up to SPEED in m/s and rad/s, the errors themselves take the place of pinv(J(home)) times them.
    """
    by_joints = meaning == "joint_position_delta"
    names = arm.joint_names if by_joints else TOOL_STEPS
    inverse = np.linalg.pinv(jacobian(arm, np.array(arm.home))) if by_joints else np.eye(6)
    contract = Contract(
        robot=arm.name,
        robot_hash=arm.hash,
        task="tool-reach",
        control_dt=CONTROL_DT,
        observation=(
            ObservationEntry(name="tool_position_error_w", unit="m", frame="w", size=3),
            ObservationEntry(name="tool_rotation_error_w", unit="rad", frame="w", size=3),
        ),
        action=tuple(
            ActionEntry(
                name=name, low=-SPEED * CONTROL_DT, high=SPEED * CONTROL_DT, unit="rad or m",
                meaning=meaning,
            )
            for name in names
        ),
        training={},
    )  # fmt: skip
    law = GAIN / SPEED * inverse
    network = Network(
        mean=np.zeros(6), scale=np.ones(6), clip=20.0, weights=(law.T,), biases=(np.zeros(len(law)),)
    )  # fmt: skip
    write_policy(path, network, contract)
    return load_policy(path, robot=arm)
