"""What a policy sees of an arm: its joints, its tool by forward kinematics, goals and an object; nothing here raises in
flight.
"""

import math
from collections.abc import Collection, Mapping, Sequence

from alula.deploy_ros2.observation import (
    NAN,
    Entries,
    Filled,
    Numbers,
    Source,
    joint_order,
    measured,
    numbers,
    rotation,
)
from alula.deploy_ros2.samples import Reference, Sample
from alula.robots.arm import Arm
from alula.robots.kinematics import Kinematics

OUTSIDE = {
    "joint_position_error": ("joint_position_reference",),
    "tool_position_error_w": ("goal_position_w",),
    "tool_rotation_error_w": ("goal_quat_w",),
    "tool_to_object_w": ("object_position_w",),
    "object_position_error_w": ("goal_position_w", "object_position_w"),
    "goal_position_w": ("goal_position_w",),
    "object_position_w": ("object_position_w",),
    "object_rot_w": ("object_quat_w",),
}
"""Samples that come from elsewhere than the arm, by the entry that is made of them."""


def outside(entries: Collection[str]) -> tuple[str, ...]:
    """Names of the samples from elsewhere than the arm that these entries are made of."""
    return tuple(dict.fromkeys(name for e in entries for name in OUTSIDE.get(e, ())))


def rotation_vector(rot: Sequence[float]) -> Numbers:
    """Axis times angle [rad] (3), the shorter way round, of a rotation matrix, row-major (9)."""
    a, b, c, d, e, f, g, h, i = rot
    # 4 q_k q for the largest component k of the quaternion q = (w, x, y, z), which is never near zero
    if max(a, e, i) <= a + e + i:
        w, v = 1.0 + a + e + i, (h - f, c - g, d - b)
    elif a >= e and a >= i:
        w, v = h - f, (1.0 + a - e - i, b + d, c + g)
    elif e >= i:
        w, v = c - g, (b + d, 1.0 - a + e - i, f + h)
    else:
        w, v = d - b, (c + g, f + h, 1.0 - a - e + i)
    # 2 atan2(|v|, |w|) sign(w) v / |v|, which is 2 v / w where nothing turns
    size = math.hypot(*v)
    turn = 2.0 * math.atan2(size, abs(w)) / size if size > 1e-9 else 2.0 / (abs(w) or NAN)
    turn = math.copysign(turn, w)
    return [turn * x for x in v]


class ArmSources:
    """Fills the entries that are known of one arm."""

    def __init__(self, arm: Arm, entries: Collection[str]) -> None:
        """Read the arm's model where these entries need it.

        Raises:
            AlulaError: they need the tool, and there is no model with one.
        """
        self._joints = arm.joint_names
        self._order: dict[tuple[str, ...], list[int] | None] = {}
        # Policies of joints alone serve arms without a model, or without a tool in it.
        seen = any(name.startswith("tool_") for name in entries)
        self._kinematics = Kinematics(arm) if seen else None
        self._posed: Sample | None = None
        self._pose: Numbers | None = None

    def entries(self) -> Entries:
        """Size and source of each entry by name."""
        n = len(self._joints)
        tool, tool_rot = _part(self._tool, 0, 3), _part(self._tool, 3, 12)
        goal, thing = _goal("goal_position_w", 3), measured("object_position_w", 3)
        return {
            "joint_position": (n, self._joint("joint_position")),
            "joint_velocity": (n, self._joint("joint_velocity")),
            "joint_effort": (n, self._joint("joint_effort")),
            "joint_position_error": (n, self._joint_error),
            "tool_position_w": (3, tool),
            "tool_rot_w": (9, tool_rot),
            "tool_position_error_w": (3, _minus(goal, tool)),
            "tool_rotation_error_w": (3, _turn(_rotation(_goal("goal_quat_w", 4)), tool_rot)),
            "tool_to_object_w": (3, _minus(thing, tool)),
            "goal_position_w": (3, _lasting(goal)),
            "object_position_w": (3, thing),
            "object_rot_w": (9, _rotation(measured("object_quat_w", 4))),
            "object_position_error_w": (3, _minus(goal, thing)),
        }

    def in_order(self, sample: Sample) -> Numbers | None:
        """A quantity of the joints in the order of the robot; None where one is missing or named twice."""
        n = len(self._joints)
        if sample.names is None:
            return numbers(sample, n)
        names = tuple(sample.names)
        if names not in self._order:
            # Only the last order is kept: a stream of odd messages must not fill the memory.
            self._order = {names: joint_order(names, self._joints)}
        order = self._order[names]
        if order is None:
            return None
        values = numbers(sample, len(names))
        return [values[i] for i in order]

    def _joint(self, name: str) -> Source:
        def source(samples: Mapping[str, Sample], _: Reference | None, now: float) -> Filled:
            sample = samples.get(name)
            values = None if sample is None else self.in_order(sample)
            return None if sample is None or values is None else (values, sample.stamp)

        return source

    def _joint_error(
        self, samples: Mapping[str, Sample], reference: Reference | None, now: float
    ) -> Filled:
        here = self._joint("joint_position")(samples, reference, now)
        wanted = self._joint("joint_position_reference")(samples, reference, now)
        if here is None or wanted is None:
            return None
        return [a - b for a, b in zip(here[0], wanted[0], strict=True)], here[1]

    def _tool(self, samples: Mapping[str, Sample], _: Reference | None, now: float) -> Filled:
        """Position (3) and rotation (9) of the tool, as old as the joint positions."""
        sample = samples.get("joint_position")
        if sample is None:
            return None
        # Several entries are made of one pose.
        if sample is not self._posed:
            self._posed, self._pose = sample, self._pose_at(self.in_order(sample))
        return None if self._pose is None else (self._pose, sample.stamp)

    def _pose_at(self, joint_position: Numbers | None) -> Numbers | None:
        if joint_position is None or self._kinematics is None:
            return None
        if not all(map(math.isfinite, joint_position)):
            return [NAN] * 12
        position, rot = self._kinematics.forward(joint_position)
        return [*position, *rot]


def _part(source: Source, first: int, end: int) -> Source:
    def part(samples: Mapping[str, Sample], reference: Reference | None, now: float) -> Filled:
        filled = source(samples, reference, now)
        return None if filled is None else (filled[0][first:end], filled[1])

    return part


def _goal(name: str, size: int) -> Source:
    """A goal holds until the next one comes: how old it may be is not for the policy to judge but for safety."""

    def source(samples: Mapping[str, Sample], _: Reference | None, now: float) -> Filled:
        sample = samples.get(name)
        return None if sample is None else (numbers(sample, size), math.inf)

    return source


def _lasting(source: Source) -> Source:
    """What holds until further notice is of now."""

    def lasting(samples: Mapping[str, Sample], reference: Reference | None, now: float) -> Filled:
        filled = source(samples, reference, now)
        return None if filled is None else (filled[0], now)

    return lasting


def _rotation(quat: Source) -> Source:
    """The rotation matrix (9) of a quaternion."""

    def source(samples: Mapping[str, Sample], reference: Reference | None, now: float) -> Filled:
        filled = quat(samples, reference, now)
        return None if filled is None else (rotation(filled[0]), filled[1])

    return source


def _minus(to: Source, start: Source) -> Source:
    """From one vector to another; as old as the older."""

    def source(samples: Mapping[str, Sample], reference: Reference | None, now: float) -> Filled:
        a, b = to(samples, reference, now), start(samples, reference, now)
        if a is None or b is None:
            return None
        return [p - q for p, q in zip(a[0], b[0], strict=True)], min(a[1], b[1])

    return source


def _turn(to: Source, start: Source) -> Source:
    """The rotation vector from one attitude to another, in the world's frame; as old as the older."""

    def source(samples: Mapping[str, Sample], reference: Reference | None, now: float) -> Filled:
        a, b = to(samples, reference, now), start(samples, reference, now)
        if a is None or b is None:
            return None
        p, q = a[0], b[0]
        # R = R_to R_start^T: rows of the one times rows of the other
        rows = range(0, 9, 3)
        rot = [p[i] * q[j] + p[i + 1] * q[j + 1] + p[i + 2] * q[j + 2] for i in rows for j in rows]
        return rotation_vector(rot), min(a[1], b[1])

    return source
