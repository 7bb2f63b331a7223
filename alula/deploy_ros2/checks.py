"""The table of all checks: what each asks for, what it is measured against, whether a hold may end by itself."""

from dataclasses import dataclass
from enum import IntEnum

from alula.deploy_ros2.safety_config import Kind


class Reaction(IntEnum):
    """What a check asks for, ordered: a higher one wins."""

    NONE = 0
    """Nothing."""
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


@dataclass(frozen=True, kw_only=True)
class Check:
    """One row of the table: it applies where the measured value is above the limit (charge: below)."""

    code: str
    """Its name in diagnostics, log and counts."""
    about: str
    """When it applies."""
    limit: str
    """Field of SafetyConfig that holds its limit; empty where the limit is 0."""
    unit: str
    """Unit of value and limit."""
    reaction: Reaction
    """What it asks for."""
    kinds: tuple[Kind, ...]
    """What it is for."""
    recovers: bool = True
    """Whether a hold that it asked for may end by itself."""

    @property
    def below(self) -> bool:
        """Whether it applies below its limit."""
        return self.code.startswith("battery")


BOTH: tuple[Kind, ...] = ("multirotor", "arm")
FLYING: tuple[Kind, ...] = ("multirotor",)
ARMS: tuple[Kind, ...] = ("arm",)
WARN, HOLD, LAND, RELEASE = Reaction.WARN, Reaction.HOLD, Reaction.LAND, Reaction.RELEASE


def _check(
    code: str,
    about: str,
    limit: str,
    unit: str,
    reaction: Reaction,
    kinds: tuple[Kind, ...],
    recovers: bool = True,
) -> Check:
    return Check(
        code=code, about=about, limit=limit, unit=unit, reaction=reaction, kinds=kinds,
        recovers=recovers,
    )  # fmt: skip


CHECKS: tuple[Check, ...] = (
    _check("operator", "the operator asks for a reaction", "", "-", HOLD, BOTH),
    _check("self_test", "the policy did not reproduce its golden sequences", "", "-", LAND, BOTH),
    _check("attitude_lost", "no usable attitude or body rate", "attitude_lost", "s", RELEASE, FLYING),
    _check("tumbling_tilt", "tilted beyond recovery", "tilt_lost", "rad", RELEASE, FLYING),
    _check("tumbling_rate", "turning beyond recovery", "body_rate_lost", "rad/s", RELEASE, FLYING),
    _check("joint_lost", "no usable joint positions", "joint_lost", "s", RELEASE, ARMS),
    _check("stall_lost", "silent for so long that the robot's own time-out has it", "stall_lost", "s", RELEASE, BOTH),
    _check("land_limit", "the landing takes too long", "land_limit", "s", RELEASE, FLYING),
    _check("hold_limit", "the hold lasts too long", "hold_limit", "s", LAND, BOTH),
    _check("position_lost", "no usable position or velocity", "position_lost", "s", LAND, FLYING),
    _check("geofence_far", "far outside of the geofence", "fence_margin", "m", LAND, FLYING),
    _check("battery_low", "charge used up", "battery_low", "-", LAND, FLYING),
    _check("heartbeat_lost", "the operator is gone", "heartbeat_lost", "s", LAND, FLYING),
    _check("reference_lost", "the reference is gone", "reference_lost", "s", LAND, FLYING),
    _check("attitude_stale", "attitude or body rate is old", "attitude_age", "s", HOLD, FLYING),
    _check("position_stale", "position or velocity is old", "position_age", "s", HOLD, FLYING),
    _check("joint_stale", "joint positions are old", "joint_age", "s", HOLD, ARMS),
    _check("object_stale", "the object's pose is old", "object_age", "s", HOLD, ARMS),
    _check("joint_missing", "a joint is missing or named twice", "", "-", HOLD, ARMS),
    _check("rejected", "samples refused one after another", "rejected_in_a_row", "-", HOLD, BOTH),
    _check("position_jump", "the position jumped", "position_jump", "m", HOLD, FLYING, False),
    _check("attitude_jump", "the attitude jumped", "attitude_jump", "rad", HOLD, FLYING, False),
    _check("joint_jump", "a joint position jumped", "joint_jump", "rad", HOLD, ARMS, False),
    _check("clock_jump", "the clock jumped or went back", "clock_jump", "s", HOLD, BOTH),
    _check("geofence", "outside of the geofence", "", "m", HOLD, FLYING),
    _check("reference_far", "far from the reference", "reference_radius", "m", HOLD, FLYING),
    _check("tilt", "tilted too far", "tilt", "rad", HOLD, FLYING),
    _check("speed", "too fast", "speed", "m/s", HOLD, FLYING),
    _check("body_rate", "turning too fast", "body_rate", "rad/s", HOLD, FLYING),
    _check("joint_position", "a joint is beyond its limits", "joint_margin", "rad", HOLD, ARMS),
    _check("joint_velocity", "a joint is too fast, of its limit", "", "-", HOLD, ARMS),
    _check("joint_effort", "a joint's effort is beyond its limit for too long", "effort_time", "s", HOLD, ARMS),
    _check("command", "a command is not finite or beyond its range, of the range", "", "-", HOLD, BOTH, False),
    _check("saturation", "an action stays at its limit", "saturation_time", "s", HOLD, BOTH),
    _check("slew", "commands leap in every cycle", "slew_time", "s", HOLD, BOTH),
    _check("policy_failed", "the runner gave no status", "", "-", HOLD, BOTH, False),
    _check("policy_damaged", "the network's result was not finite", "", "-", HOLD, BOTH, False),
    _check("policy_lost", "the policy had no valid input for too long", "", "-", HOLD, BOTH),
    _check("policy_blind", "the policy repeats its last action for too long", "held_time", "s", HOLD, BOTH),
    _check("deadlines", "missed deadlines one after another", "deadlines_in_a_row", "-", HOLD, BOTH),
    _check("stall", "a cycle came much too late", "stall", "s", HOLD, BOTH),
    _check("heartbeat", "the operator is silent", "heartbeat_age", "s", HOLD, BOTH),
    _check("reference_stale", "the reference is old", "reference_age", "s", HOLD, BOTH),
    _check("not_finite", "a sample was not finite or of the wrong size: not used", "", "-", WARN, BOTH),
    _check("out_of_order", "a sample was older than the one before: not used", "", "s", WARN, BOTH),
    _check("future", "a stamp lies in the future: not used", "future", "s", WARN, BOTH),
    _check("policy_held", "the policy repeats its last action", "", "-", WARN, BOTH),
    _check("deadline", "a cycle missed its deadline", "lateness", "s", WARN, BOTH),
    _check("battery_warning", "little charge left", "battery_warning", "-", WARN, FLYING),
)  # fmt: skip
"""Every check, most severe first."""
