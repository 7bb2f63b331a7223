"""Decides every cycle who flies: the policy, a hold, a landing, the autopilot, or nobody. Pure: no clock, no I/O."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from alula.deploy_ros2.checks import CHECKS, Check, Reaction
from alula.deploy_ros2.intake import Intake
from alula.deploy_ros2.measures import (
    Timers,
    Values,
    finite,
    flight_values,
    joint_values,
    link_values,
    loop_values,
    policy_values,
)
from alula.deploy_ros2.safety_config import SafetyConfig
from alula.deploy_ros2.samples import Reference, Sample
from alula.errors import AlulaError

__all__ = ["Decision", "Reaction", "Reason", "Safety", "SafetyInputs", "State"]

JUMPS = ("position_jump", "joint_jump")
"""Checks after which a hold takes its target anew."""
LIMITS = {"joint_velocity": 1.0}
"""Limits that are no parameters; the others without a parameter are 0."""


class State(IntEnum):
    """Who is in command, in the order of escalation; the numbers are those of Reaction."""

    POLICY = 0
    """The policy."""
    HOLD = 2
    """The classical controller holds position or joints."""
    LAND = 3
    """The classical controller lands."""
    RELEASE = 4
    """Nobody: the autopilot or the robot's own watchdog has it. Final, but for the operator's STOP."""
    STOP = 5
    """Motors off. Final."""


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
    """The latest reference of a vehicle (an arm's is among the samples)."""
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
    """Whether controllers shall start anew: the state differs from the last cycle's, or the position jumped."""
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
    """The state machine; one object is one flight."""

    def __init__(
        self, config: SafetyConfig, low: np.ndarray | None = None, high: np.ndarray | None = None
    ) -> None:
        """`low` and `high` are the range of the commands (A); without it slew and range are not checked.

        Raises:
            AlulaError: a range that is none.
        """
        self._config = config
        checks = [c for c in CHECKS if config.kind in c.kinds]
        # Looked up once: hundreds of times a second is too often.
        self._checks = tuple((c, c.code, _limit(c, config), c.below) for c in checks)
        self._lasting = {c.code for c in checks if not c.recovers}
        self._commands = None
        if low is not None and high is not None:
            if np.shape(low) != np.shape(high) or not np.less(low, high).all():
                raise AlulaError(
                    f"commands from {np.asarray(low).tolist()} to {np.asarray(high).tolist()}; "
                    "allowed: low < high, each"
                )
            limits = zip(np.ravel(low).tolist(), np.ravel(high).tolist(), strict=True)
            self._commands = list(limits)
        self.reset()

    def reset(self) -> None:
        """Begin anew: the policy is in command. Only on the ground and by the operator's hand."""
        self.state = State.POLICY
        """Who is in command."""
        self._intake, self._timers = Intake(self._config), Timers()
        self._counts = dict.fromkeys((code for _, code, _, _ in self._checks), 0)
        self._active: set[str] = set()
        self._now = math.nan
        self._taken, self._dt, self._jump, self._distance = False, 0.0, 0.0, 0.0
        self._in_state = self._quiet = 0.0
        self._stuck, self._recoveries = False, 0
        self._target: np.ndarray | None = None

    @property
    def samples(self) -> Mapping[str, Sample]:
        """The last accepted sample of each quantity, by name."""
        return self._intake.samples

    def take(self, now: float, samples: Mapping[str, Sample]) -> dict[str, Sample]:
        """Begin a cycle: look at its samples; `update` follows, with the same. Never raises.

        Returns what a policy may see: the last accepted ones, and what is not looked at here.
        """
        self._dt, self._jump = self._tick(now)
        self._intake.take(self._now, samples)
        self._taken = True
        others = {n: s for n, s in samples.items() if n not in self._intake.names}
        return others | self._intake.samples

    def update(self, inputs: SafetyInputs) -> Decision:
        """Decide; never raises, whatever the inputs hold. Looks at the samples unless `take` just did."""
        with np.errstate(all="ignore"):
            if not self._taken:
                self.take(inputs.now, inputs.samples)
            self._taken = False
            dt, jump = self._dt, self._jump
            values = self._measure(inputs, dt)
            # Of an arm, and without a position, there is none.
            self._distance = values.get("reference_far") or 0.0
            if jump > 0.0:
                values["clock_jump"] = jump
            reasons = self._apply(values, inputs)
            before = self.state
            self._next(reasons, dt, inputs.landed)
            jumped = any(r.code in JUMPS for r in reasons)
            changed = self.state is not before
            if changed or (jumped and self.state is not State.POLICY):
                self._latch()
                changed = True
        return self._decision(changed, reasons)

    def _tick(self, now: float) -> tuple[float, float]:
        """Time since the last cycle, bounded, and by how much the clock jumped (0: it did not) [s]."""
        limit = self._config.clock_jump
        now = finite(now, math.inf)
        if math.isinf(now):
            if math.isnan(self._now):
                self._now = 0.0
            return 0.0, math.inf
        if math.isnan(self._now):
            self._now = now
        dt, self._now = now - self._now, now
        if 0.0 <= dt <= limit:
            return dt, 0.0
        # Ages across a jump mean nothing: they count anew.
        self._intake.restart(self._now)
        self._timers.heartbeat = self._timers.reference = math.nan
        return min(max(dt, 0.0), limit), dt if dt > 0.0 else limit - dt

    def _measure(self, inputs: SafetyInputs, dt: float) -> Values:
        config, intake, timers, now = self._config, self._intake, self._timers, self._now
        values = dict(intake.found)
        values |= policy_values(inputs, self._commands, config.slew, timers, dt)
        values |= loop_values(inputs, config, timers)
        values |= link_values(inputs, config, timers, now)
        if config.kind == "arm":
            values |= joint_values(config, intake, timers, dt, now)
        else:
            values |= flight_values(inputs, config, intake, now)
        in_state = self._in_state + dt
        values["hold_limit"] = in_state if self.state is State.HOLD else 0.0
        values["land_limit"] = in_state if self.state is State.LAND else 0.0
        values["operator"] = float(_asked(inputs.operator))
        return values

    def _apply(self, values: Values, inputs: SafetyInputs) -> list[Reason]:
        """The checks that apply, most severe first; counts those that begin to."""
        active: set[str] = set()
        reasons: list[Reason] = []
        for check, code, limit, below in self._checks:
            value = values.get(code)
            if value is None:
                continue
            # What applies goes on until it is clearly over.
            share = self._config.hysteresis if code in self._active else 1.0
            applies = value < limit / share if below else value > limit * share
            if not applies:
                continue
            active.add(code)
            asked = _asked(inputs.operator) if code == "operator" else check.reaction
            reasons.append(_reason(check, asked, value, limit))
        for code in active - self._active:
            self._counts[code] += 1
        self._active = active
        # sort is stable: within a reaction the order of the table
        reasons.sort(key=lambda r: -r.reaction)
        return reasons

    def _next(self, reasons: list[Reason], dt: float, landed: bool) -> None:
        """The transition of this cycle: only upwards, but for a hold that may end."""
        wanted = reasons[0].reaction if reasons else Reaction.NONE
        if self._config.kind == "arm" and wanted is Reaction.LAND:
            wanted = Reaction.RELEASE
        target = State(wanted) if wanted >= Reaction.HOLD else State.POLICY
        if landed and State.LAND in (target, self.state) and self.state < State.RELEASE:
            target = max(target, State.STOP)
        self._quiet = 0.0 if wanted >= Reaction.HOLD else self._quiet + dt
        self._in_state += dt
        if any(r.code in self._lasting for r in reasons):
            self._stuck = True
        if target > self.state:
            self._enter(target)
        elif self.state is State.HOLD and self._may_end():
            self._recoveries += 1
            self._enter(State.POLICY)

    def _may_end(self) -> bool:
        config = self._config
        rested = self._quiet >= config.recover_after and self._distance <= config.rejoin
        return rested and not self._stuck and self._recoveries < config.recoveries

    def _enter(self, state: State) -> None:
        self.state, self._in_state = state, 0.0

    def _latch(self) -> None:
        """Take the present position as the target of a hold, brought back inside the limits."""
        config = self._config
        arm = config.kind == "arm"
        known = self._intake.numbers.get("joint_position" if arm else "position_w")
        if known is None:
            return
        low, high = (
            (config.joint_low, config.joint_high) if arm else (config.fence_low, config.fence_high)
        )
        self._target = np.clip(known, low, high)

    def _decision(self, changed: bool, reasons: list[Reason]) -> Decision:
        state = self.state
        reaction = Reaction(state)
        if state is State.POLICY and reasons:
            reaction = Reaction.WARN
        texts = "; ".join(r.text for r in reasons[:4]) or "no check applies"
        return Decision(
            state=state,
            changed=changed,
            reaction=reaction,
            reasons=tuple(reasons),
            text=f"{state.name.lower()}: {texts}",
            hold_target=None if state is State.POLICY or self._target is None else self._target,
            counts=dict(self._counts),
        )


def _limit(check: Check, config: SafetyConfig) -> float:
    return getattr(config, check.limit) if check.limit else LIMITS.get(check.code, 0.0)


def _asked(operator: object) -> Reaction:
    """What the operator asks for; anything unknown is a hold."""
    try:
        asked = Reaction(operator)  # type: ignore[arg-type]
    except ValueError:
        return Reaction.HOLD
    return asked if asked >= Reaction.HOLD else Reaction.NONE


def _reason(check: Check, reaction: Reaction, value: float, limit: float) -> Reason:
    unit = "" if check.unit == "-" else f" {check.unit}"
    return Reason(
        code=check.code,
        reaction=reaction,
        value=value,
        limit=limit,
        text=f"{check.code}: {check.about} ({value:.3g}{unit}, limit {limit:.3g})",
    )
