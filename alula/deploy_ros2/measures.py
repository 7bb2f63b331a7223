"""The measured value of every check in one cycle."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from alula.deploy_ros2.intake import Intake
from alula.deploy_ros2.observation import reference_at
from alula.deploy_ros2.safety_config import SafetyConfig
from alula.deploy_ros2.samples import OBJECT, REFERENCES
from alula.deploy_ros2.steps import BETWEEN, DAMAGED, HELD, LOST, SATURATED

if TYPE_CHECKING:
    from alula.deploy_ros2.safety import SafetyInputs

RANGE_ERROR = 1e-5
"""A command may lie beyond its range by this much, of the range [-]."""
Values = dict[str, float]


def finite(value: object, otherwise: float) -> float:
    """A finite number as it is; anything else is `otherwise`."""
    if isinstance(value, int | float | np.floating) and math.isfinite(value):
        return float(value)
    return otherwise


@dataclass
class Timers:
    """How long something has lasted, over cycles."""

    saturated: float = 0.0
    """Time with an action at its limit [s]."""
    held: float = 0.0
    """Time for which the policy has repeated its last action [s]."""
    leaping: float = 0.0
    """Time with commands that leap in every cycle [s]."""
    straining: float = 0.0
    """Time with an effort beyond its limit [s]."""
    late_in_a_row: int = 0
    """Missed deadlines one after another."""
    last_command: list[float] | None = None
    """Command of the last step."""
    heartbeat: float = math.nan
    """When the operator was last heard [s]."""
    reference: float = math.nan
    """When the reference was last given [s]."""
    seen: set[str] = field(default_factory=set)
    """Which of heartbeat, reference and the object's pose have ever come."""


Range = list[tuple[float, float]]
"""Smallest and largest command of each action (A)."""


def policy_values(
    i: "SafetyInputs", commands: Range | None, slew: float, t: Timers, dt: float
) -> Values:
    """Checks of what the runner says; `slew` is the largest change of a command, of its range."""
    if not isinstance(i.status, int):
        t.saturated = t.held = t.leaping = 0.0
        t.last_command = None
        return {"policy_failed": 1.0}
    values: Values = {}
    bits = int(i.status)
    for code, bit in (("policy_damaged", DAMAGED), ("policy_lost", LOST), ("policy_held", HELD)):
        values[code] = float(bits & bit != 0)
    between = bits & BETWEEN != 0
    if bits & SATURATED or (between and t.saturated > 0.0):
        t.saturated += dt
    else:
        t.saturated = 0.0
    values["saturation"] = t.saturated
    if bits & HELD or (between and t.held > 0.0):
        t.held += dt
    else:
        t.held = 0.0
    values["policy_blind"] = t.held
    command = _list(i.command)
    values["command"] = _beyond_range(command, commands)
    if not between:
        leap = _leap(command, t.last_command, commands)
        t.leaping = t.leaping + dt if leap > slew else 0.0
        t.last_command = command
    elif t.leaping > 0.0:
        t.leaping += dt
    values["slew"] = t.leaping
    return values


def _list(command: object) -> list[float] | None:
    """A command's numbers, for which plain arithmetic is faster than numpy's."""
    return None if command is None else np.asarray(command, float).ravel().tolist()


def _beyond_range(command: list[float] | None, commands: Range | None) -> float:
    """How far a command lies beyond its range, of the range; infinity where it is not finite."""
    if command is None:
        return 0.0
    if not all(map(math.isfinite, command)):
        return math.inf
    if commands is None:
        return 0.0
    if len(command) != len(commands):
        return math.inf
    beyond = max(
        max(low - u, u - high) / (high - low)
        for u, (low, high) in zip(command, commands, strict=True)
    )
    return beyond if beyond > RANGE_ERROR else 0.0


def _leap(command: list[float] | None, last: list[float] | None, commands: Range | None) -> float:
    if command is None or last is None or commands is None:
        return 0.0
    if not len(command) == len(last) == len(commands):
        return 0.0
    steps = zip(command, last, commands, strict=True)
    return max(abs(u - before) / (high - low) for u, before, (low, high) in steps)


def loop_values(i: "SafetyInputs", config: SafetyConfig, t: Timers) -> Values:
    """Checks of the loop, the operator and the battery."""
    late = finite(i.lateness, math.inf)
    t.late_in_a_row = t.late_in_a_row + 1 if late > config.lateness else 0
    values = {
        "self_test": float(not i.self_test_ok),
        "deadline": late,
        "deadlines": float(t.late_in_a_row),
        "stall": late,
        "stall_lost": late,
    }
    charge = finite(i.battery, math.inf)
    return values | {"battery_low": charge, "battery_warning": charge}


def link_values(i: "SafetyInputs", config: SafetyConfig, t: Timers, now: float) -> Values:
    """Ages of the operator's sign of life and of the reference; from the start where they never came."""
    stamps = {"heartbeat": i.heartbeat_stamp, "reference": None}
    if config.kind == "multirotor":
        stamps["reference"] = None if i.reference is None else i.reference.stamp
    else:
        # The oldest of what the policy follows
        given = (finite(i.samples[n].stamp, -math.inf) for n in REFERENCES if n in i.samples)
        stamps["reference"] = min(given, default=None)
    for name, stamp in stamps.items():
        stamp = finite(stamp, -math.inf)
        # A stamp from the future tells no age.
        if stamp > -math.inf and stamp - now <= config.future:
            setattr(t, name, stamp)
            t.seen.add(name)
        elif math.isnan(getattr(t, name)):
            setattr(t, name, now)
    values = {"heartbeat": now - t.heartbeat, "heartbeat_lost": now - t.heartbeat}
    # Not every policy of an arm follows a reference.
    if config.kind == "multirotor" or "reference" in t.seen:
        values |= {"reference_stale": now - t.reference, "reference_lost": now - t.reference}
    return values


def flight_values(i: "SafetyInputs", config: SafetyConfig, intake: Intake, now: float) -> Values:
    """Checks of a vehicle's motion, from the accepted samples."""
    position_age = max(intake.age(now, n) for n in ("position_w", "velocity_w"))
    attitude_age = max(intake.age(now, n) for n in ("quat_wb", "angular_velocity_b"))
    values = {
        "position_stale": position_age,
        "position_lost": position_age,
        "attitude_stale": attitude_age,
        "attitude_lost": attitude_age,
    }
    known = intake.numbers
    if (p := known.get("position_w")) is not None:
        outside = outside_box(p, config.fence_low, config.fence_high)
        values |= {"geofence": outside, "geofence_far": outside}
        if i.reference is not None:
            r = reference_at(i.reference, now)[0]
            distance = math.dist(p, r)
            # A reference that is no position is far from everywhere.
            values["reference_far"] = distance if math.isfinite(distance) else math.inf
    if (v := known.get("velocity_w")) is not None:
        values["speed"] = math.hypot(*v)
    if (q := known.get("quat_wb")) is not None:
        # cos(tilt) = R_zz = 1 - 2 (x^2 + y^2) / |q|^2
        cosine = 1.0 - 2.0 * (q[1] * q[1] + q[2] * q[2]) / sum(x * x for x in q)
        values["tilt"] = values["tumbling_tilt"] = math.acos(min(max(cosine, -1.0), 1.0))
    if (w := known.get("angular_velocity_b")) is not None:
        values["body_rate"] = values["tumbling_rate"] = math.hypot(*w)
    return values


def outside_box(p: Sequence[float], low: Sequence[float], high: Sequence[float]) -> float:
    """Largest distance over the axes by which a point lies beyond a box; 0 inside."""
    return max(0.0, *(max(a - x, x - b) for x, a, b in zip(p, low, high, strict=True)))


def joint_values(config: SafetyConfig, intake: Intake, t: Timers, dt: float, now: float) -> Values:
    """Checks of an arm's motion, from the accepted samples."""
    age = intake.age(now, "joint_position")
    values = {"joint_stale": age, "joint_lost": age}
    known = intake.numbers
    # Not every policy of an arm handles an object.
    t.seen |= OBJECT.keys() & known.keys()
    values["object_stale"] = max((intake.age(now, n) for n in OBJECT.keys() & t.seen), default=0.0)
    if (q := known.get("joint_position")) is not None:
        values["joint_position"] = outside_box(q, config.joint_low, config.joint_high)
    if (v := known.get("joint_velocity")) is not None:
        limits = zip(v, config.joint_velocity_max, strict=True)
        values["joint_velocity"] = max(abs(a) / b for a, b in limits)
    strained = False
    if (e := known.get("joint_effort")) is not None:
        strained = any(abs(a) > b for a, b in zip(e, config.joint_effort_max, strict=True))
    t.straining = t.straining + dt if strained else 0.0
    values["joint_effort"] = t.straining
    return values
