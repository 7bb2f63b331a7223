"""Whether a policy is for this robot: name, hash, names and order of the actions, limits, rate."""

from typing import TYPE_CHECKING, Literal

from alula.errors import AlulaError
from alula.policies.contract import Contract
from alula.robots.arm import Arm
from alula.robots.inverse_kinematics import TOOL_STEP_MAX, TOOL_STEPS, ToolSteps
from alula.robots.multirotor import Multirotor

if TYPE_CHECKING:
    from alula.policies.onnx_file import Robot

Level = Literal[
    "throttle", "rates", "velocity",
    "joint_position", "joint_position_delta", "joint_velocity", "joint_torque", "end_effector_delta",
]  # fmt: skip
"""What the policy commands."""
RATES = ("angular_velocity_x", "angular_velocity_y", "angular_velocity_z", "throttle")
"""Names and order of the actions of a policy that commands body rates [rad/s] and the common throttle [-]."""
VELOCITY = ("velocity_x", "velocity_y", "velocity_z")
"""Names and order of the actions of a policy that commands the velocity in the world [m/s]."""
MEANINGS: dict[Level, tuple[str, ...]] = {
    "rates": ("angular_velocity_b", "angular_velocity_b", "angular_velocity_b", "throttle"),
    "velocity": ("velocity_w",) * 3,
}
OWN_STEPS = {"joint_position_delta"}
"""What joints that do not move the tool are told beside it."""
TOOL_ALLOWED = ", or end_effector_delta for the tool and joint_position_delta for other joints"
LIMIT_ERROR = 1e-6
"""How far a command range may lie beyond the robot's [of its width]."""


def check_robot(contract: Contract, robot: "Robot") -> tuple[Level, tuple[str, ...]]:
    """What the policy commands, and the names of its actions in order.

    Raises:
        AlulaError: the policy is for another robot, or its actions are not this robot's.
    """
    if (contract.robot, contract.robot_hash) != (robot.name, robot.hash):
        raise AlulaError(
            f"the policy is for robot {contract.robot!r} (hash {contract.robot_hash[:12]}), "
            f"this is {robot.name!r} (hash {robot.hash[:12]})"
        )
    if isinstance(robot, Arm) and contract.control_dt < robot.control_dt * (1.0 - 1e-6):
        raise AlulaError(
            f"the policy's control_dt is {contract.control_dt:g} s; allowed: at least "
            f"{robot.control_dt:g}, the time between two commands that the robot takes"
        )
    names, level = tuple(a.name for a in contract.action), _level(contract, robot)
    expected = {"rates": RATES, "velocity": VELOCITY}.get(level) or _parts(robot)
    if isinstance(robot, Arm) and level == "end_effector_delta":
        expected = ToolSteps(robot, contract.control_dt).names
    if names != expected:
        raise AlulaError(
            f"the policy commands {', '.join(names)}; allowed on this robot, in this order: "
            f"{', '.join(expected)}"
        )
    for action in contract.action:
        low, high = _limits(robot, level, action.name)
        slack = LIMIT_ERROR * (high - low)
        if not low - slack <= action.low < action.high <= high + slack:
            raise AlulaError(
                f"action {action.name!r} ranges from {action.low:g} to {action.high:g} {action.unit}; "
                f"allowed on this robot: {low:g} to {high:g}"
            )
    return level, names


def check_rate(contract: Contract, loop_dt: float | None) -> None:
    """Refuse a native rate that no clock keeps, and a loop slower than it.

    Raises:
        AlulaError: as said.
    """
    dt = contract.control_dt
    if not 1e-4 <= dt <= 1.0:
        raise AlulaError(f"the policy's control_dt is {dt:g} s; allowed: 0.0001 to 1")
    if loop_dt is not None and not 0.0 < loop_dt <= dt * (1.0 + 1e-6):
        raise AlulaError(
            f"the control loop has a period of {loop_dt:g} s; allowed: > 0 and at most the policy's "
            f"{dt:g}"
        )


def _level(contract: Contract, robot: "Robot") -> Level:
    meanings = tuple(a.meaning for a in contract.action)
    for level, expected in MEANINGS.items():
        if meanings == expected and isinstance(robot, Multirotor):
            return level
    # Of the joints that do not move the tool, a gripper's, the steps are their own.
    tool, others = set(meanings[:6]), set(meanings[6:])
    if isinstance(robot, Arm) and tool == {"end_effector_delta"} and others <= OWN_STEPS:
        return "end_effector_delta"
    plain: tuple[Level, ...] = (
        "joint_position", "joint_position_delta", "joint_velocity", "joint_torque",
    )  # fmt: skip
    allowed: tuple[Level, ...] = ("throttle",) if isinstance(robot, Multirotor) else plain
    for level in allowed:
        if set(meanings) == {level}:
            return level
    raise AlulaError(
        f"the policy's actions mean {', '.join(dict.fromkeys(meanings))}; allowed on this robot: "
        f"{', '.join(allowed)}, the same for all{TOOL_ALLOWED if isinstance(robot, Arm) else ''}"
    )


def _parts(robot: "Robot") -> tuple[str, ...]:
    if isinstance(robot, Multirotor):
        return robot.rotor_names
    if isinstance(robot, Arm):
        return robot.joint_names
    raise AlulaError(f"robot {robot.name!r} is neither a multirotor nor an arm")


def _limits(robot: "Robot", level: Level, name: str) -> tuple[float, float]:
    """What the robot file allows for an action; levels that it does not speak of have wide limits."""
    if isinstance(robot, Multirotor) and (level == "throttle" or name == "throttle"):
        return robot.throttle_min, robot.throttle_max
    if isinstance(robot, Multirotor):
        return (-35.0, 35.0) if level == "rates" else (-30.0, 30.0)
    assert isinstance(robot, Arm)
    if name in TOOL_STEPS and level == "end_effector_delta":
        limit = TOOL_STEP_MAX[TOOL_STEPS.index(name) // 3]
        return -limit, limit
    i = robot.joint_names.index(name)
    low, high = robot.position_low[i], robot.position_high[i]
    if level == "joint_position":
        return low, high
    limits = {"joint_velocity": robot.velocity_max[i], "joint_torque": robot.effort_max[i]}
    limit = limits.get(level, high - low)
    return -limit, limit
