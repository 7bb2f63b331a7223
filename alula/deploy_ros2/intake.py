"""Which samples are used: finite, in order, not from the future; their ages, and where they jump."""

import math
from collections.abc import Mapping

from alula.deploy_ros2.observation import Numbers, joint_order, numbers, rotation
from alula.deploy_ros2.safety_config import SafetyConfig
from alula.deploy_ros2.samples import OBJECT, Sample

VEHICLE = {"position_w": 3, "velocity_w": 3, "quat_wb": 4, "angular_velocity_b": 3}
SIZES = VEHICLE | OBJECT
JOINT_QUANTITIES = ("joint_position", "joint_velocity", "joint_effort")
HUGE = 1e9
"""Numbers beyond this are not measurements."""
ACCELERATION = 10.0
"""What a vehicle may do between two samples beside its velocity [m/s^2]."""


class Intake:
    """The last accepted sample of each quantity, and what was wrong with the others in this cycle."""

    def __init__(self, config: SafetyConfig) -> None:
        self._config = config
        arm = config.kind == "arm"
        self.names = (*JOINT_QUANTITIES, *OBJECT) if arm else tuple(VEHICLE)
        """What is looked at."""
        self.samples: dict[str, Sample] = {}
        """Accepted samples by name."""
        self.numbers: dict[str, Numbers] = {}
        """Their numbers; of joints in the order of the configuration."""
        self.found: dict[str, float] = {}
        """Checks that samples of this cycle failed, by code, with the measured value."""
        self._looked: dict[str, float] = {}
        self._refused = dict.fromkeys(self.names, 0)
        self._since = math.nan

    def restart(self, now: float) -> None:
        """The clock jumped: what was measured before counts no more, and any other stamp is in order."""
        self._since = now
        self.samples.clear()
        self.numbers.clear()

    def take(self, now: float, samples: Mapping[str, Sample]) -> None:
        """Look at the latest sample of each quantity."""
        self.found = {}
        if math.isnan(self._since):
            self._since = now
        for name in self.names:
            sample = samples.get(name)
            # The same stamp is the same sample; NaN never is.
            if sample is not None and sample.stamp != self._looked.get(name):
                self._looked[name] = sample.stamp
                self._look(now, name, sample)
        refused = max(self._refused.values())
        if refused:
            self.found["rejected"] = float(refused)

    def age(self, now: float, name: str) -> float:
        """Age of the accepted sample [s]; without one, since the start or the last jump of the clock."""
        sample = self.samples.get(name)
        return now - (self._since if sample is None else sample.stamp)

    def _look(self, now: float, name: str, sample: Sample) -> None:
        before = self.samples.get(name)
        last = -math.inf if before is None else before.stamp
        values = self._values(name, sample)
        wrong = values is None or not math.isfinite(sample.stamp)
        ahead = sample.stamp - now
        if wrong:
            self._worst("not_finite", 1.0)
        elif ahead > self._config.future:
            self._worst("future", ahead)
        elif sample.stamp < last:
            self._worst("out_of_order", last - sample.stamp)
        elif values:
            self._accept(name, sample, values)
            return
        elif name == "joint_position":
            self._worst("joint_missing", 1.0)
        self._refused[name] += 1

    def _accept(self, name: str, sample: Sample, values: Numbers) -> None:
        before, old = self.samples.get(name), self.numbers.get(name)
        if before is not None and old is not None:
            self._jump(name, old, values, sample.stamp - before.stamp)
        self.samples[name], self.numbers[name] = sample, values
        self._refused[name] = 0

    def _values(self, name: str, sample: Sample) -> Numbers | None:
        """Numbers of a sample; none (an empty list) where joints are missing; None where they are no numbers."""
        if name in SIZES:
            values = numbers(sample, SIZES[name])
            if SIZES[name] == 4 and math.isnan(rotation(values)[0]):
                return None
        else:
            joints = self._config.joint_names
            names = joints if sample.names is None else tuple(sample.names)
            order = joint_order(names, joints)
            if order is None:
                return []
            raw = numbers(sample, len(names))
            values = [raw[i] for i in order]
        return values if all(abs(v) < HUGE for v in values) else None

    def _jump(self, name: str, old: Numbers, new: Numbers, dt: float) -> None:
        c = self._config
        if name == "position_w":
            # |p' - p - v dt| beside what an acceleration explains, a dt^2 / 2
            v = self.numbers.get("velocity_w") or [0.0] * 3
            step = math.dist(new, [p + u * dt for p, u in zip(old, v, strict=True)])
            self._beyond("position_jump", step - 0.5 * ACCELERATION * dt * dt, c.position_jump)
        elif name == "quat_wb":
            # angle = 2 acos |<q, q'>|
            dot = abs(sum(a * b for a, b in zip(old, new, strict=True)))
            cosine = min(dot / (math.hypot(*old) * math.hypot(*new)), 1.0)
            turn = 2.0 * math.acos(cosine) - c.body_rate * dt
            self._beyond("attitude_jump", turn, c.attitude_jump)
        elif name == "joint_position":
            steps = zip(old, new, c.joint_velocity_max, strict=True)
            self._beyond("joint_jump", max(abs(b - a) - v * dt for a, b, v in steps), c.joint_jump)

    def _beyond(self, code: str, value: float, limit: float) -> None:
        if value > limit:
            self._worst(code, value)

    def _worst(self, code: str, value: float) -> None:
        self.found[code] = max(value, self.found.get(code, 0.0))
