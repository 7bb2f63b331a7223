"""Decides every cycle who flies: the policy, a hold, a landing, the autopilot, or nobody. Pure: no clock, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from alula.deploy_ros2.safety_config import SafetyConfig
from alula.deploy_ros2.samples import Reference, Sample


class Reaction(IntEnum):
    """What a check asks for, ordered: a higher one wins."""

    NONE = 0
    WARN = 1
    """Report; the policy flies on."""
    HOLD = 2
    """Hold position with the classical controller, or the joint positions."""
    LAND = 3
    """Land with the classical controller; of arms, as RELEASE."""
    RELEASE = 4
    """Send nothing, not even the heartbeat: the autopilot or the robot's own watchdog takes over."""
    STOP = 5
    """Motors off: on the ground, or by the operator's hand."""


class State(IntEnum):
    """Who is in command, in the order of escalation."""

    POLICY = 0
    HOLD = 2
    LAND = 3
    RELEASE = 4
    STOP = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class SafetyInputs:
    """Everything known at one cycle of the control loop."""

    now: float
    """Time on the clock of the stamps [s]."""
    samples: Mapping[str, Sample]
    """The latest sample of each quantity; the same sample may come again."""
    status: int | None
    """Status of the runner in this cycle; None where it failed to give one."""
    command: np.ndarray | None = None
    """Command that the runner would send, in the unit of the contract (A)."""
    reference: Reference | None = None
    """The latest reference of a vehicle (an arm's is the sample joint_position_reference)."""
    heartbeat_stamp: float | None = None
    """When the operator was last heard [s]; None: never."""
    battery: float | None = None
    """Charge left, 0 to 1 [-]; None where it is not measured."""
    lateness: float = 0.0
    """How much this cycle began after it was due [s]."""
    self_test_ok: bool = True
    """Whether the policy reproduced its golden sequences."""
    landed: bool = False
    """Whether the robot stands on the ground, by `Land.landed` or the autopilot."""
    operator: Reaction = Reaction.NONE
    """What the operator asks for: HOLD, LAND, RELEASE or STOP."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """One check that applies."""

    code: str
    """Code of the check (docs/safety.md)."""
    reaction: Reaction
    """What it asks for."""
    value: float
    """What was measured."""
    limit: float
    """What is allowed."""
    text: str
    """One line for diagnostics and the log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What to do in this cycle."""

    state: State
    """Who is in command."""
    changed: bool
    """Whether the state differs from the last cycle's."""
    reaction: Reaction
    """The state as a reaction; WARN where the policy flies and a check warns."""
    reasons: tuple[Reason, ...]
    """Checks that apply now, most severe first, then in the order of the table."""
    text: str
    """One line for diagnostics and the log."""
    hold_target: np.ndarray | None
    """Position [m] (3) or joint positions (J) to hold or to land from; None where none is known."""
    counts: Mapping[str, int]
    """How often each check has begun to apply since the start."""


class Safety:
    """The state machine; one object is one flight. `samples` are the last accepted ones, by name."""

    samples: Mapping[str, Sample]

    def __init__(self, config: SafetyConfig) -> None:
        raise NotImplementedError

    def reset(self) -> None:
        """Begin anew: the policy is in command. Only on the ground and by the operator's hand."""
        raise NotImplementedError

    def update(self, inputs: SafetyInputs) -> Decision:
        """Decide; never raises, whatever the inputs hold."""
        raise NotImplementedError
