"""Settings of an arm's episodes, whichever physics moves it: rates, actions, randomisation, delays, noise."""

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from alula.errors import AlulaError
from alula.policies.contract import ActionEntry
from alula.robots.arm import Arm
from alula.robots.inverse_kinematics import TOOL_STEP_MAX, ToolSteps

ActionKind = Literal["joint_position_delta", "joint_torque", "end_effector_delta"]
MAX_SUBSTEPS = 100


@dataclass(frozen=True, kw_only=True)
class ArmRandomization:
    """Per-episode parameters: relative half-widths of uniform ranges around the robot's and the objects'."""

    mass: float = 0.0
    """Of every moving body, drawn apart [-]."""
    friction: float = 0.0
    """Of sliding, common to all shapes [-]."""
    damping: float = 0.0
    """Of each joint [-]."""
    armature: float = 0.0
    """Of each joint [-]."""
    frictionloss: float = 0.0
    """Of each joint [-]."""
    gain: float = 0.0
    """Of each actuator; stiffness and damping of a servo together [-]."""
    actuator_lag: tuple[float, float] = (0.0, 0.0)
    """Time constant of the actuators' first-order lag, lowest and highest [s]."""
    actuator_delay: tuple[float, float] = (0.0, 0.0)
    """Age of a command when the actuators get it, lowest and highest [s]; whole physics steps."""
    observation_delay_steps: tuple[int, int] = (0, 0)
    """Age of the measurements, lowest and highest [control steps]."""

    def __post_init__(self) -> None:
        for name in ("mass", "friction", "damping", "armature", "frictionloss", "gain"):
            _check(f"randomization {name}", getattr(self, name), 0.0, 0.99)
        for name, most in (("actuator_lag", 1.0), ("actuator_delay", 0.1)):
            low, high = getattr(self, name)
            _check(f"randomization {name}", low, 0.0, high)
            _check(f"randomization {name}", high, low, most)
        low, high = self.observation_delay_steps
        if not (isinstance(low, int) and isinstance(high, int) and 0 <= low <= high <= 8):
            raise AlulaError(
                f"observation_delay_steps is {(low, high)}; allowed: 0 <= low <= high <= 8"
            )


@dataclass(frozen=True, kw_only=True)
class ArmSimConfig:
    """What every episode has in common."""

    control_dt: float = 0.02
    """Policy step [s]."""
    substeps: int = 4
    """Physics steps in a policy step."""
    episode_steps: int = 150
    """Time limit [policy steps]."""
    action: ActionKind = "joint_position_delta"
    """joint_position_delta: each step moves the servos' targets; joint_torque: beside what holds the links up;
    end_effector_delta: each step moves the tool that the servos' targets stand for, and the gripper's target."""
    action_scale: float = 0.5
    """Action 1: the share of a joint's largest speed at which its target moves, or of its largest torque [-]."""
    tool_speed: float = 0.5
    """Action 1 of end_effector_delta: speed of the tool along an axis of the world [m/s]."""
    tool_turn_speed: float = 1.5
    """Action 1 of end_effector_delta: angular velocity of the tool about an axis of the world [rad/s]."""
    gripper_scale: float = 0.0
    """The same for the last joint where that is a gripper, whose target may run ahead of its fingers: what closes at half of
    a slow speed is closed by no random actions; torques have no part in it [-]; 0: as the others."""
    assisting_force: float = 0.0
    """Three further actions push the body `object`, at 1 with this force, as far as the simulator's `assistance` goes, for
    a policy to find out what is worth doing (privileged actions, arXiv 2502.15442) [N]; 0: there are none."""
    relaxed_contacts: float = 0.0
    """With an assisting force: episodes begin with contacts whose time constants are longer by up to this share, as far as the
    `assistance` goes then; those that a model gives as stiffness stay as they are [-]."""
    head_start: float = 0.0
    """Share of a training's episodes that begin as the task's `head_start` says, with part of the task done, so that its end is
    learned before its beginning is; episodes of an evaluation never do [-]."""
    history: int = 1
    """Past actions in the observation [steps]."""
    noise: float = 1.0
    """Factor on the sensor noise of the robot file [-]."""
    randomization: ArmRandomization = field(default_factory=ArmRandomization)
    """Per-episode parameters."""

    def __post_init__(self) -> None:
        _check("control_dt", self.control_dt, 1e-4, 1.0)
        _check("substeps", self.substeps, 1, MAX_SUBSTEPS)
        _check("episode_steps", self.episode_steps, 1, 10_000_000)
        if self.action not in get_args(ActionKind):
            raise AlulaError(
                f"action is {self.action!r}; allowed: {', '.join(get_args(ActionKind))}"
            )
        _check("action_scale", self.action_scale, 1e-3, 1.0)
        _check("gripper_scale", self.gripper_scale, 0.0, 100.0)
        for name, most in zip(("tool_speed", "tool_turn_speed"), TOOL_STEP_MAX, strict=True):
            moves_tool = self.action == "end_effector_delta"
            _check(name, getattr(self, name), 1e-3, most / self.control_dt if moves_tool else 100.0)
        _check("assisting_force", self.assisting_force, 0.0, 1000.0)
        _check("relaxed_contacts", self.relaxed_contacts, 0.0, 100.0)
        if self.relaxed_contacts > 0.0 and self.assisting_force == 0.0:
            raise AlulaError(
                f"relaxed_contacts is {self.relaxed_contacts}; allowed: 0 without an assisting_force"
            )
        _check("head_start", self.head_start, 0.0, 1.0)
        _check("history", self.history, 0, 64)
        _check("noise", self.noise, 0.0, 100.0)

    @property
    def assisting_actions(self) -> int:
        """Number of further actions P."""
        return 3 if self.assisting_force > 0.0 else 0

    def action_size(self, robot: Arm) -> np.ndarray:
        """What action 1 means (A): a step of each joint's target [rad or m], or its torque [N m or N], or steps of the
        tool along and about the world's axes [m, rad] and of the targets of the joints that do not move it.
        """
        share = np.full(len(robot.joint_names), self.action_scale)
        if self.action == "joint_torque":
            return share * np.array(robot.effort_max)
        if self.gripper_scale > 0.0:
            share[-1] = self.gripper_scale
        joint_step = share * self.control_dt * np.array(robot.velocity_max)
        if self.action == "joint_position_delta":
            return joint_step
        tool_step = self.control_dt * np.repeat([self.tool_speed, self.tool_turn_speed], 3)
        others = list(ToolSteps(robot, self.control_dt).others)
        return np.concatenate([tool_step, joint_step[others]])

    def action_entries(self, robot: Arm) -> tuple[ActionEntry, ...]:
        """The actions as a policy's contract states them (A).

        Raises:
            AlulaError: steps of a tool that the robot's model does not have.
        """
        names, meanings = robot.joint_names, [self.action] * len(robot.joint_names)
        units = ["N m or N" if self.action == "joint_torque" else "rad or m"] * len(names)
        if self.action == "end_effector_delta":
            names = ToolSteps(robot, self.control_dt).names
            others = len(names) - 6
            meanings = [self.action] * 6 + ["joint_position_delta"] * others
            units = ["m"] * 3 + ["rad"] * 3 + ["rad or m"] * others
        sizes = self.action_size(robot).tolist()
        return tuple(
            ActionEntry(name=name, low=-size, high=size, unit=unit, meaning=meaning)
            for name, size, unit, meaning in zip(names, sizes, units, meanings, strict=True)
        )


def _check(name: str, value: float, low: float, high: float) -> None:
    # Never true for NaN
    if not low <= value <= high:
        raise AlulaError(f"{name} is {value!r}; allowed: {low:g} to {high:g}")
