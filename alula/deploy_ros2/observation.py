"""From samples by name to the flat observation that a contract asks for; nothing here raises in flight."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from alula.deploy_ros2.samples import Reference, Sample
from alula.errors import AlulaError
from alula.policies.contract import Contract, ObservationEntry

PREVIEW_S = (0.1, 0.2, 0.4, 0.6)
"""How far ahead reference_preview_w looks [s]; those of the tracking task."""
EXTRAPOLATION_S = 0.2
"""A reference without a trajectory is carried on by its velocity and acceleration for at most this long [s]."""
NORM_ERROR = 0.1
"""How far the norm of a quaternion may be from one [-]; beyond, it is no rotation."""

Numbers = list[float]
Filled = tuple[Numbers, float] | None
"""Numbers of an entry and when they were measured; None where the sample is missing."""
Source = Callable[[Mapping[str, Sample], Reference | None, float], Filled]
"""Fills one entry from samples, reference and the time."""
Entries = dict[str, tuple[int, Source]]
"""Size and source of each entry that a robot can fill, by name."""
NAN = math.nan


def numbers(sample: Sample, size: int) -> Numbers:
    """The floats of a sample; NaN where it holds anything but `size` numbers."""
    value = sample.value
    if type(value) is not np.ndarray or value.ndim != 1 or value.dtype != np.float64:
        try:
            value = np.asarray(value, np.float64).ravel()
        except (TypeError, ValueError, OverflowError):
            return [NAN] * size
    values = value.tolist()
    return values if len(values) == size else [NAN] * size


def rotation(quat_wb: Sequence[float]) -> Numbers:
    """Row-major rotation matrix (9) of a quaternion (w, x, y, z) of about unit length; else NaN."""
    w, x, y, z = quat_wb
    n = w * w + x * x + y * y + z * z
    if not (1.0 - NORM_ERROR) ** 2 < n < (1.0 + NORM_ERROR) ** 2:
        return [NAN] * 9
    # R = I + 2 (w [v]x + [v]x^2) / |q|^2 for q = (w, v)
    s = 2.0 / n
    return [
        *(1.0 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)),
        *(s * (x * y + w * z), 1.0 - s * (x * x + z * z), s * (y * z - w * x)),
        *(s * (x * z - w * y), s * (y * z + w * x), 1.0 - s * (x * x + y * y)),
    ]


def reference_at(reference: Reference, time: float) -> tuple[Numbers, Numbers]:
    """Reference position [m] and velocity [m/s] at a time [s]; NaN where they cannot be had."""
    if reference.trajectory is not None:
        # Somebody else's function: whatever it does, the flight goes on.
        try:
            p, v = reference.trajectory(time)
            return _three(p), _three(v)
        except Exception:
            return [NAN] * 3, [NAN] * 3
    p, v, a = map(_three, (reference.position_w, reference.velocity_w, reference.acceleration_w))
    t = min(max(time - reference.stamp, 0.0), EXTRAPOLATION_S)
    return _ahead(p, v, a, t), [v[i] + a[i] * t for i in range(3)]


def preview(reference: Reference, time: float) -> Numbers:
    """Reference position at each of PREVIEW_S ahead minus the present one [m] (3 each)."""
    if reference.trajectory is not None:
        here = reference_at(reference, time)[0]
        return [
            a - b
            for tau in PREVIEW_S
            for a, b in zip(reference_at(reference, time + tau)[0], here, strict=True)
        ]
    _, v = reference_at(reference, time)
    a = _three(reference.acceleration_w)
    # p + v tau + a tau^2 / 2 - p
    return [x for tau in PREVIEW_S for x in _ahead([0.0] * 3, v, a, tau)]


def _ahead(p: Numbers, v: Numbers, a: Numbers, t: float) -> Numbers:
    return [p[i] + v[i] * t + 0.5 * a[i] * t * t for i in range(3)]


def _three(value: object) -> Numbers:
    return numbers(Sample(value=value, stamp=0.0), 3)  # type: ignore[arg-type]


class Observer:
    """Fills the supplied entries of one contract, in its order."""

    def __init__(self, contract: Contract, known: Entries, passed: Sequence[str] = ()) -> None:
        """Choose a source for each entry.

        Args:
            contract: what the policy sees.
            known: what this robot can fill (`vehicle_entries`, or `entries` of `ArmSources`).
            passed: entries that are taken from the sample of their name as they are.

        Raises:
            AlulaError: an entry nobody can fill, or one of another size.
        """
        known = dict(known)
        self._entries: list[tuple[int, Source]] = []
        for e in contract.supplied:
            if e.name in passed:
                known[e.name] = (e.size, measured(e.name, e.size))
            self._entries.append((e.size, _source(e, known)))

    def fill(
        self, samples: Mapping[str, Sample], reference: Reference | None, now: float
    ) -> tuple[Numbers, list[float]]:
        """Floats of all supplied entries in order, and when each entry was measured (NaN: missing)."""
        flat: Numbers = []
        stamps: list[float] = []
        for size, source in self._entries:
            filled = source(samples, reference, now)
            values, stamp = ([0.0] * size, NAN) if filled is None else filled
            flat += values
            stamps.append(stamp)
        return flat, stamps


def vehicle_entries() -> Entries:
    """What a policy may see of a vehicle."""
    return {
        "position_w": (3, _from_reference("position_w", 0)),
        "position_error_w": (3, _from_reference("position_w", 0)),
        "velocity_error_w": (3, _from_reference("velocity_w", 1)),
        "velocity_w": (3, measured("velocity_w", 3)),
        "angular_velocity_b": (3, measured("angular_velocity_b", 3)),
        "rot_wb": (9, _rot_wb),
        "reference_preview_w": (3 * len(PREVIEW_S), _preview),
    }


def measured(name: str, size: int) -> Source:
    """The sample of this name as it is."""

    def source(samples: Mapping[str, Sample], _: Reference | None, now: float) -> Filled:
        sample = samples.get(name)
        return None if sample is None else (numbers(sample, size), sample.stamp)

    return source


def joint_order(names: Sequence[str], joints: Sequence[str]) -> list[int] | None:
    """Place in `names` of each joint; None where one is missing or any name comes twice."""
    if len(set(names)) != len(names) or not set(joints) <= set(names):
        return None
    return [names.index(joint) for joint in joints]


def _source(entry: ObservationEntry, known: Entries) -> Source:
    if entry.name not in known:
        raise AlulaError(
            f"the policy wants to see {entry.name!r}; known on this robot: {', '.join(known)}"
        )
    size, source = known[entry.name]
    if entry.size != size:
        raise AlulaError(
            f"observation entry {entry.name!r} has size {entry.size}; this robot gives {size}"
        )
    return source


def _from_reference(name: str, which: int) -> Source:
    """A measured vector minus that of the reference (0: position, 1: velocity) at the time of the measurement."""

    def source(samples: Mapping[str, Sample], reference: Reference | None, now: float) -> Filled:
        sample = samples.get(name)
        if sample is None or reference is None:
            return None
        # A reference that has gone on since would make a fast vehicle lead by the latency.
        wanted, values = reference_at(reference, sample.stamp)[which], numbers(sample, 3)
        return [a - b for a, b in zip(values, wanted, strict=True)], sample.stamp

    return source


def _rot_wb(samples: Mapping[str, Sample], _: Reference | None, now: float) -> Filled:
    sample = samples.get("quat_wb")
    return None if sample is None else (rotation(numbers(sample, 4)), sample.stamp)


def _preview(samples: Mapping[str, Sample], reference: Reference | None, now: float) -> Filled:
    return None if reference is None else (preview(reference, now), now)
