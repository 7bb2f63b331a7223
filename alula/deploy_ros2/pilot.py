"""One robot under way: runner, safety and classical controllers together, one cycle at a time; no ROS."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from alula.deploy_ros2.classical import Hold, JointHold, Land
from alula.deploy_ros2.observation import joint_order
from alula.deploy_ros2.runner import PolicyRunner, Status, Step
from alula.deploy_ros2.safety import Decision, Reaction, Safety, SafetyInputs, State
from alula.deploy_ros2.samples import Reference, Sample
from alula.robots.arm import Arm
from alula.robots.multirotor import Multirotor

ALONE = ("rates", "joint_torque")
"""Levels beneath which there is no controller of ours."""
SINK = 0.35
"""Speed of a landing by velocity commands [m/s]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Around:
    """What the node knows beside samples and reference."""

    heartbeat_stamp: float | None = None
    """When the operator was last heard [s]."""
    battery: float | None = None
    """Charge left, 0 to 1 [-]."""
    lateness: float = 0.0
    """How late this cycle began [s]."""
    landed: bool = False
    """Whether the autopilot says that the robot stands on the ground."""
    operator: Reaction = Reaction.NONE
    """What the operator asks for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """What the node has to send in this cycle."""

    command: np.ndarray | None
    """Command in the unit of the contract (A); None: nothing new in this cycle."""
    silent: bool
    """Whether nobody of ours is in command: no heartbeat either."""
    decision: Decision
    """Who is in command, and why."""
    step: Step
    """What the policy said."""


class Pilot:
    """Asks the policy, lets safety decide, and flies what was decided.

    A policy that commands throttles or joint positions has classical controllers beneath it. One that commands
    velocities is replaced by zero velocity, or by a slow descent; one that commands body rates or torques of joints
    by nobody, so that the autopilot takes over, or the robot's own watchdog.
    """

    def __init__(self, runner: PolicyRunner, safety: Safety, robot: Multirotor | Arm) -> None:
        self.runner, self.safety, self.robot = runner, safety, robot
        self._joints_held = False
        self._here: np.ndarray | None = None

    def start(self) -> None:
        """Begin anew: the policy is in command."""
        self.runner.reset()
        self.safety.reset()
        self._joints_held, self._here = False, None
        if isinstance(self.robot, Arm):
            self._joint_hold = JointHold(np.asarray(self.robot.velocity_max))
        else:
            self._hold, self._land = Hold(self.robot), Land(self.robot)

    def cycle(
        self,
        now: float,
        samples: Mapping[str, Sample],
        reference: Reference | None,
        around: Around,
    ) -> Output:
        """One cycle at time now [s]; never raises for what samples, reference and time hold."""
        # What safety refuses the policy does not see either: it flies on what was last accepted, until that is old.
        step = self.runner.step(now, self.safety.take(now, samples), reference)
        landed = not isinstance(self.robot, Arm) and self._land.landed
        decision = self.safety.update(
            SafetyInputs(
                now=now,
                samples=samples,
                status=int(step.status),
                command=step.command,
                reference=reference,
                heartbeat_stamp=around.heartbeat_stamp,
                battery=around.battery,
                lateness=around.lateness,
                landed=landed or around.landed,
                operator=around.operator,
            )
        )
        if isinstance(self.robot, Arm):
            self._note_joints(decision)
        silent = decision.state is State.RELEASE or (
            self.runner.level in ALONE and decision.state in (State.HOLD, State.LAND)
        )
        command = None if silent else self._command(now, decision, step)
        return Output(command=command, silent=silent, decision=decision, step=step)

    def _command(self, now: float, decision: Decision, step: Step) -> np.ndarray | None:
        if decision.state is State.POLICY:
            # Between two steps the last command stands.
            return None if step.status & Status.BETWEEN else step.command
        if decision.state is State.STOP:
            return None
        match self.runner.level:
            case "throttle":
                return self._rotors(now, decision)
            case "velocity":
                return np.array([0.0, 0.0, -SINK if decision.state is State.LAND else 0.0])
            case "joint_position":
                return self._joint_positions(now, decision)
            case _:
                # Velocities, or steps of the joints or of the tool: none is at rest.
                return np.zeros(len(self.runner.names))

    def _rotors(self, now: float, decision: Decision) -> np.ndarray:
        samples = self.safety.samples
        if decision.state is State.HOLD:
            if decision.changed:
                self._hold.start(now, samples, decision.hold_target)
            return self._hold.step(now, samples)
        if decision.changed:
            self._land.start(now, samples)
        return self._land.step(now, samples)

    def _joint_positions(self, now: float, decision: Decision) -> np.ndarray | None:
        # Held is where the arm was when the hold began, whatever is measured later: the arm follows its set-point, so a
        # jump is the sensor's, and its number must not become a command.
        if not self._joints_held and self._here is not None:
            self._joint_hold.start(now, self._here)
            self._joints_held = True
        # Where the arm is was never known: nothing can be held.
        return self._joint_hold.step(now) if self._joints_held else None

    def _note_joints(self, decision: Decision) -> None:
        """Remember where the arm is, within its limits, unless its measurements just jumped."""
        if decision.state is State.POLICY:
            self._joints_held = False
        elif self._joints_held:
            return
        measured = self._measured()
        if measured is not None and not any(r.code == "joint_jump" for r in decision.reasons):
            assert isinstance(self.robot, Arm)
            self._here = np.clip(measured, self.robot.position_low, self.robot.position_high)

    def _measured(self) -> np.ndarray | None:
        """Measured joint positions in the order of the robot (J); None where they are not all known."""
        assert isinstance(self.robot, Arm)
        sample, names = self.safety.samples.get("joint_position"), self.robot.joint_names
        if sample is None:
            return None
        value = np.asarray(sample.value, float)
        order = list(range(len(names)))
        if sample.names is not None:
            order = joint_order(sample.names, names)
        if order is None or value.size <= max(order) or not np.isfinite(value[order]).all():
            return None
        return value[order]
