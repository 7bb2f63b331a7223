"""Parameters of the safety layer: every threshold with its unit, default and range."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from alula.errors import AlulaError
from alula.robots.arm import Arm

Kind = Literal["multirotor", "arm"]
MAX_JOINTS = 64


def _number(default: float, unit: str, low: float, high: float) -> Any:
    """A field with the unit and range that __post_init__ and docs/safety.md go by."""
    return field(default=default, metadata={"unit": unit, "low": low, "high": high})


def _off(default: float, unit: str, low: float, high: float) -> Any:
    """The same, where infinity switches the check off."""
    metadata = {"unit": unit, "low": low, "high": high, "off": True}
    return field(default=default, metadata=metadata)


def _axes(default: tuple[float, ...], unit: str) -> Any:
    return field(default=default, metadata={"unit": unit, "axes": True})


@dataclass(frozen=True, kw_only=True)
class SafetyConfig:
    """Thresholds; times in seconds on the clock of the samples."""

    kind: Kind = "multirotor"
    """What is flown."""

    hold_limit: float = _off(10.0, "s", 0.1, 3600.0)
    """A hold that lasts longer becomes a landing; of an arm, the release."""
    land_limit: float = _number(60.0, "s", 1.0, 3600.0)
    """A landing that lasts longer becomes the release."""
    recover_after: float = _number(1.0, "s", 0.05, 60.0)
    """A hold ends once nothing has asked for it for this long."""
    recoveries: float = _number(3.0, "-", 0.0, 1000.0)
    """So often may a hold end by itself; later ones stay until they become a landing."""
    rejoin: float = _off(0.3, "m", 0.01, 1000.0)
    """A hold ends no farther from the reference: a policy that must catch up may overturn."""
    hysteresis: float = _number(0.8, "-", 0.1, 1.0)
    """A check that applies does so until its value is below this share of its limit."""

    position_age: float = _number(0.1, "s", 0.005, 10.0)
    """Oldest position and velocity."""
    position_lost: float = _number(0.5, "s", 0.01, 10.0)
    """Position and velocity older than this are lost."""
    attitude_age: float = _number(0.06, "s", 0.002, 10.0)
    """Oldest attitude and body rates."""
    attitude_lost: float = _number(0.25, "s", 0.005, 10.0)
    """Attitude and body rates older than this are lost."""
    future: float = _number(0.02, "s", 0.0, 10.0)
    """A stamp may lie ahead of the time by this much; a sample further ahead is not used."""
    rejected_in_a_row: float = _number(5.0, "-", 1.0, 1000.0)
    """So many samples of a quantity may be refused one after another (not finite, out of order, future)."""
    position_jump: float = _number(0.3, "m", 0.01, 100.0)
    """Largest step of the position beside what the velocity explains."""
    attitude_jump: float = _number(0.7, "rad", 0.05, math.pi)
    """Largest step of the attitude beside what the body rate explains."""
    clock_jump: float = _number(0.25, "s", 0.01, 10.0)
    """Longest time between two cycles; the clock never goes back."""

    fence_low: tuple[float, ...] = _axes((-50.0, -50.0, -1.0), "m")
    """Lower corner of the geofence in the world (x, y, z)."""
    fence_high: tuple[float, ...] = _axes((50.0, 50.0, 30.0), "m")
    """Upper corner of the geofence in the world (x, y, z)."""
    fence_margin: float = _off(2.0, "m", 0.05, 1000.0)
    """This far beyond the fence a hold is not enough."""
    reference_radius: float = _off(1.5, "m", 0.05, 1000.0)
    """Largest distance from the reference."""
    tilt: float = _number(1.2, "rad", 0.1, math.pi)
    """Largest angle between body z and up."""
    tilt_lost: float = _number(2.1, "rad", 0.2, math.pi)
    """Beyond this the vehicle is tumbling."""
    speed: float = _number(5.0, "m/s", 0.1, 100.0)
    """Largest speed."""
    body_rate: float = _number(15.0, "rad/s", 0.5, 100.0)
    """Largest body rate."""
    body_rate_lost: float = _number(30.0, "rad/s", 0.5, 200.0)
    """Beyond this the vehicle is tumbling."""

    saturation_time: float = _off(0.5, "s", 0.0, 60.0)
    """Longest time with an action at its limit."""
    held_time: float = _off(0.025, "s", 0.0, 60.0)
    """Longest time for which the policy may repeat its last action."""
    slew: float = _number(0.6, "-", 0.01, 1.0)
    """Largest change of a command between two cycles, of its range."""
    slew_time: float = _off(0.2, "s", 0.0, 60.0)
    """Longest time with such changes in every cycle."""
    lateness: float = _number(0.005, "s", 0.0, 1.0)
    """Largest delay of a cycle; later ones missed their deadline."""
    deadlines_in_a_row: float = _number(10.0, "-", 0.0, 100000.0)
    """So many missed deadlines may follow one another."""
    stall: float = _number(0.1, "s", 0.001, 10.0)
    """Longest single delay of a cycle."""
    stall_lost: float = _off(0.5, "s", 0.01, 3600.0)
    """After a longer one others have the robot, and keep it; no longer than the robot's own time-out for commands."""

    heartbeat_age: float = _off(1.0, "s", 0.01, 3600.0)
    """Oldest sign of life from the operator."""
    heartbeat_lost: float = _off(5.0, "s", 0.01, 3600.0)
    """An operator not heard for longer is lost."""
    reference_age: float = _off(0.5, "s", 0.01, 3600.0)
    """Oldest reference."""
    reference_lost: float = _off(5.0, "s", 0.01, 3600.0)
    """A reference older than this is lost."""
    battery_warning: float = _number(0.3, "-", 0.0, 1.0)
    """Charge below which a warning is given."""
    battery_low: float = _number(0.15, "-", 0.0, 1.0)
    """Charge below which the vehicle lands."""

    joint_names: tuple[str, ...] = ()
    """Joints of an arm in the order of the policy."""
    joint_low: tuple[float, ...] = _axes((), "rad")
    """Lower joint limits [rad or m]."""
    joint_high: tuple[float, ...] = _axes((), "rad")
    """Upper joint limits [rad or m]."""
    joint_velocity_max: tuple[float, ...] = _axes((), "rad/s")
    """Largest joint speeds [rad/s or m/s]."""
    joint_effort_max: tuple[float, ...] = _axes((), "N m")
    """Largest joint efforts [N m or N]."""
    joint_margin: float = _number(0.01, "rad", 0.0, 1.0)
    """A joint may measure this much beyond its limits [rad or m]."""
    joint_age: float = _number(0.05, "s", 0.002, 10.0)
    """Oldest joint positions."""
    joint_lost: float = _number(0.5, "s", 0.005, 10.0)
    """Joint positions older than this are lost."""
    object_age: float = _number(0.2, "s", 0.005, 10.0)
    """Oldest pose of the object that a policy handles."""
    joint_jump: float = _number(0.1, "rad", 0.001, 10.0)
    """Largest step of a joint beside what its largest speed explains [rad or m]."""
    effort_time: float = _number(0.1, "s", 0.0, 10.0)
    """Longest time with an effort beyond its limit."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise AlulaError(f"kind is {self.kind!r}; allowed: multirotor, arm")
        for f in fields(self):
            if "low" in f.metadata:
                self._check_number(f.name, f.metadata)
            elif "axes" in f.metadata:
                self._check_axes(f.name)
        for small, large in ORDERED:
            if not getattr(self, small) <= getattr(self, large):
                raise AlulaError(
                    f"{small} is {getattr(self, small)}; allowed: at most {large}, "
                    f"{getattr(self, large)}"
                )
        self._check_boxes()

    def _check_number(self, name: str, metadata: Any) -> None:
        value, low, high = getattr(self, name), metadata["low"], metadata["high"]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        off = " or inf" if "off" in metadata else ""
        if not number or not (low <= value <= high or (off and value == math.inf)):
            raise AlulaError(
                f"{name} is {value!r} {metadata['unit']}; allowed: {low:g} to {high:g}{off}"
            )

    def _check_axes(self, name: str) -> None:
        values = getattr(self, name)
        joints = len(self.joint_names) if self.kind == "arm" else 0
        size = 3 if name.startswith("fence") else joints
        numbers = isinstance(values, tuple) and all(
            isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)
            for v in values
        )
        if not numbers or len(values) != size:
            raise AlulaError(f"{name} is {values!r}; allowed: {size} finite numbers")

    def _check_boxes(self) -> None:
        for low, high in (("fence_low", "fence_high"), ("joint_low", "joint_high")):
            for a, b in zip(getattr(self, low), getattr(self, high), strict=True):
                if not a < b:
                    raise AlulaError(f"{low} holds {a}; allowed: less than {high}, {b}")
        if min((*self.joint_velocity_max, *self.joint_effort_max, 1.0)) <= 0.0:
            raise AlulaError("joint_velocity_max and joint_effort_max; allowed: > 0")
        names = self.joint_names
        if self.kind == "arm" and not 1 <= len(set(names)) == len(names) <= MAX_JOINTS:
            raise AlulaError(f"joint_names are {names}; allowed: 1 to {MAX_JOINTS} distinct")


ORDERED = (
    ("position_age", "position_lost"),
    ("attitude_age", "attitude_lost"),
    ("tilt", "tilt_lost"),
    ("body_rate", "body_rate_lost"),
    ("heartbeat_age", "heartbeat_lost"),
    ("reference_age", "reference_lost"),
    ("battery_low", "battery_warning"),
    ("joint_age", "joint_lost"),
    ("lateness", "stall"),
    ("stall", "stall_lost"),
)
"""Pairs of which the first may not be the larger."""


def of_arm(arm: Arm) -> dict[str, object]:
    """What the robot file of an arm says, by field of SafetyConfig, so that nobody types it."""
    return {
        "kind": "arm",
        "joint_names": arm.joint_names,
        "joint_low": arm.position_low,
        "joint_high": arm.position_high,
        "joint_velocity_max": arm.velocity_max,
        "joint_effort_max": arm.effort_max,
    }
