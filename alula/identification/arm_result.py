"""What an identification of an arm's joints found, with intervals, and what it could not see."""

from dataclasses import dataclass

import numpy as np

from alula.identification.findings import Interval
from alula.robots.arm import Arm


@dataclass(frozen=True, kw_only=True)
class JointResult:
    """What the log says about one joint; values in N m (or N), rad (or m), s, A."""

    joint: str
    """Joint's name."""
    explained: str
    """What was explained and what with: docs/identify-arm.md."""
    unit: str
    """Unit of the measured effort and of all rms: "N m" or "A"."""
    values: dict[str, float | None]
    """coulomb, viscous, offset, armature, drive_gain, and coulomb_a, viscous_a, offset_a in A; None: not seen."""
    intervals: dict[str, Interval]
    """95 % intervals by the same keys, also of what cannot be told from 0."""
    reasons: dict[str, str]
    """Why a quantity is not observable."""
    smoothing: float | None = None
    """Speed s of the friction coulomb tanh(qd / s) [rad/s or m/s]."""
    link_freedom: float | None = None
    """Ridge with which the links' masses were corrected; None: they are the model's."""
    r2: float | None = None
    """Share of the measured effort's variance explained."""
    effort_rms: float | None = None
    """Root-mean-square of the measured effort."""
    residual_rms: float | None = None
    """The same of what stays unexplained."""
    residual_rms_without_friction: float | None = None
    """The same where friction is left out."""
    held_out_rms: float | None = None
    """The same where each half of the log is predicted by the fit on the other."""
    samples: int = 0
    """Samples that the fit used."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmIdentification:
    """What one log says about an arm's joints."""

    log: dict[str, str]
    """path, format and sha256 of the log, and the version of alula that read it."""
    from_s: float
    """Start of the part used, in the log's own clock [s]."""
    to_s: float
    """End of the part used [s]."""
    robot: Arm
    """The robot as its file gives it."""
    dropped: dict[str, int]
    """Rows left out: not_finite, same_time, repeated."""
    joints: tuple[JointResult, ...]
    """Results, joint by joint."""
    series: dict[str, np.ndarray]
    """Series for plots, by `joint.quantity`."""

    @property
    def unobservable(self) -> list[str]:
        """`joint.quantity: reason`, for everything that the log does not show."""
        return [f"{j.joint}.{key}: {why}" for j in self.joints for key, why in j.reasons.items()]

    def to_json(self) -> dict:
        """Plain values, ready for json.dumps."""
        skipped = ("values", "intervals", "reasons")
        joints = [
            {k: v for k, v in vars(j).items() if k not in skipped}
            | j.values
            | {"intervals": {k: list(v) for k, v in j.intervals.items()}}
            for j in self.joints
        ]
        return {
            "log": self.log,
            "from_s": self.from_s,
            "to_s": self.to_s,
            "robot": self.robot.name,
            "dropped": self.dropped,
            "joints": joints,
            "unobservable": self.unobservable,
        }
