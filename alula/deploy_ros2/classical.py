"""Hold and land without a policy, from the robot file alone: what the safety layer falls back on.

Position by a PD law, attitude by the geometric law on SO(3) (Lee, Leok, McClamroch, CDC 2010); what pushes and
turns the vehicle beyond its own rotors is observed and countered. Rotor thrusts by least squares over the rotors'
places, throttle by the inverse thrust curve with a lead that makes up for slow rotors. All gains follow from the
rotor lag in the robot file.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from alula.deploy_ros2.observation import Numbers, numbers, rotation
from alula.deploy_ros2.samples import Sample
from alula.errors import AlulaError
from alula.robots.multirotor import GRAVITY, Multirotor

POSITION_AGE = 0.5
"""Position and velocity older than this are not used [s]."""
ATTITUDE_AGE = 0.25
"""Attitude and body rates older than this are not used [s]."""
FUTURE = 0.05
"""Samples from further in the future than this are not used [s]."""
MAX_TILT = math.radians(30.0)
"""Largest tilt that is asked for [rad]."""
LAG_FLOOR = 0.05
"""Rotors slower than this are driven as if they had this lag [s]."""
LOOP_DELAY = 0.035
"""Delay of sensors, loop and actuators that the gains leave room for [s]."""
MAX_DT = 0.05
"""Longest time one cycle integrates over [s]."""
BLIND_DESCENT = 0.97
"""Thrust over weight of a landing whose velocity is not known [-]."""
LEAD = 0.25
"""How far the target of a landing runs ahead of the vehicle, downwards [m]."""
TOUCH_TIME, TOUCH_SPEED = 0.4, 0.1
"""The ground is where a landing has not moved down faster than this [m/s] for this long [s]."""


@dataclass(frozen=True, kw_only=True)
class _State:
    """What is known of the vehicle now; None where a sample is missing, not finite or old."""

    position_w: Numbers | None
    velocity_w: Numbers | None
    rot_wb: np.ndarray | None
    rate_b: Numbers | None


def _state(now: float, samples: Mapping[str, Sample]) -> _State:
    def get(name: str, size: int, age: float) -> Numbers | None:
        sample = samples.get(name)
        if sample is None or not -FUTURE <= now - sample.stamp <= age:
            return None
        values = numbers(sample, size)
        return values if all(abs(x) < 1e6 for x in values) else None

    quat = get("quat_wb", 4, ATTITUDE_AGE)
    rot = None if quat is None else rotation(quat)
    return _State(
        position_w=get("position_w", 3, POSITION_AGE),
        velocity_w=get("velocity_w", 3, POSITION_AGE),
        rot_wb=None if rot is None or math.isnan(rot[0]) else np.array(rot).reshape(3, 3),
        rate_b=get("angular_velocity_b", 3, ATTITUDE_AGE),
    )


class _Disturbance:
    """Observes a constant acceleration beside a known one, from the velocity (linear or angular) (3).

    v' = known + d + 2 q (v_measured - v), d' = q^2 (v_measured - v): both errors decay as exp(-q t).
    """

    def __init__(self, q: float, bound: float) -> None:
        self._q, self._bound = q, bound
        self._velocity: np.ndarray | None = None
        self.value = np.zeros(3)
        """The acceleration d [m/s^2 or rad/s^2] (3)."""

    def update(self, measured: np.ndarray, known: np.ndarray, dt: float) -> None:
        """One cycle of `dt` [s] that began with the acceleration `known`."""
        v = measured if self._velocity is None else self._velocity
        v = v + (known + self.value) * dt
        error = measured - v
        self._velocity = v + 2.0 * self._q * dt * error
        d = self.value + self._q * self._q * dt * error
        self.value = np.clip(d, -self._bound, self._bound)

    def miss(self) -> None:
        """No measurement came: what is known of d stays, the velocity is taken anew."""
        self._velocity = None


class _Rotors:
    """Thrust and torque to throttle: allocation, inverse thrust curve and lead."""

    def __init__(self, robot: Multirotor) -> None:
        self._robot = robot
        spots = np.array(robot.rotor_position_b)
        yaw = -robot.torque_per_thrust * np.array(robot.rotor_spin)
        # [T, tau_x, tau_y, tau_z] = B f: a force f up at (x, y) turns by (y f, -x f)
        effect = np.stack([np.ones(robot.n_rotors), spots[:, 1], -spots[:, 0], yaw])
        if np.linalg.matrix_rank(effect) < 4:
            raise AlulaError(
                f"robot {robot.name!r}: its {robot.n_rotors} rotors cannot hold an attitude; "
                "allowed: rotors that give thrust and all three torques"
            )
        self._effect, self._share = effect, np.linalg.pinv(effect)
        self._least = max(robot.thrust(robot.throttle_min), 0.0)
        self._most = robot.thrust(robot.throttle_max)
        self.hover = np.full(robot.n_rotors, robot.hover_throttle)
        """Hover throttle of each rotor (R)."""
        self.reset()

    def reset(self) -> None:
        """Take the rotors to turn at the hover speed."""
        self._speed = self.hover.copy()

    def throttle(self, force: float, torque: np.ndarray, dt: float) -> np.ndarray:
        """Throttle (R) for a thrust along body z [N] and a torque [N m] (3); roll and pitch come first."""
        least, most = self._least, self._most
        level = self._share[:, 0] * min(max(force, 0.0), most * len(self.hover))
        turn = self._share[:, 1:3] @ torque[:2]
        span = float(turn.max() - turn.min())
        if span > most - least:
            turn *= (most - least) / span
        # The common thrust gives way to roll and pitch, yaw to both.
        f = level + turn
        f += max(least - float(f.min()), 0.0)
        f -= max(float(f.max()) - most, 0.0)
        yaw = self._share[:, 3] * torque[2]
        room = np.where(yaw > 0.0, most - f, f - least) / np.maximum(np.abs(yaw), 1e-12)
        f += yaw * min(max(float(room.min()), 0.0), 1.0)
        return self.send(self._fraction(np.clip(f, least, most)), dt)

    def send(self, wanted: np.ndarray, dt: float) -> np.ndarray:
        """Throttle (R) that brings the rotors to a speed fraction (R), and what they make of it."""
        robot = self._robot
        lag = np.where(wanted > self._speed, robot.rotor_lag_up, robot.rotor_lag_down)
        # ds/dt = (u - s) / lag; u = s + (lag / floor) (s_wanted - s) gives ds/dt = (s_wanted - s) / floor
        lead = np.maximum(lag / LAG_FLOOR, 1.0)
        throttle = np.clip(
            self._speed + lead * (wanted - self._speed), robot.throttle_min, robot.throttle_max
        )
        self._speed += (throttle - self._speed) * -np.expm1(-dt / lag)
        return throttle

    def effort(self) -> np.ndarray:
        """Thrust [N] and torque [N m] that the rotors give now, by the model (4)."""
        c0, c1, c2 = self._robot.thrust_curve
        return self._effect @ (c0 + self._speed * (c1 + c2 * self._speed))

    def _fraction(self, thrust: np.ndarray) -> np.ndarray:
        """Speed fraction (R) of a thrust (R): the root of c2 s^2 + c1 s + c0 = f on the rising branch."""
        c0, c1, c2 = self._robot.thrust_curve
        if abs(c2) < 1e-15:
            return (thrust - c0) / c1
        root = np.sqrt(np.maximum(c1 * c1 - 4.0 * c2 * (c0 - thrust), 0.0))
        return (root - c1) / (2.0 * c2)


class _Flight:
    """The common part: from a wanted acceleration to throttle, and the time between calls."""

    def __init__(self, robot: Multirotor) -> None:
        self._robot, self._rotors = robot, _Rotors(robot)
        lag = max(robot.rotor_lag_up, robot.rotor_lag_down)
        delay = min(lag, LAG_FLOOR) + LOOP_DELAY
        # Attitude: two real poles at w, far enough below 1 / delay; position four times slower than that.
        self._bandwidth = w = min(1.0 / (2.0 * delay), 14.0)
        self._stiffness, self._damping = w * w, 2.0 * w
        p = w / 4.0
        self._position_gain, self._velocity_gain = p * p, 2.0 * p
        self._inertia = np.array(robot.inertia)
        self._begin(0.0)

    def _begin(self, now: float) -> None:
        self._now = now
        self._rotors.reset()
        self._push = _Disturbance(0.3 * self._bandwidth, 3.0)
        self._twist = _Disturbance(0.8 * self._bandwidth, 30.0)
        self._heading: float | None = None

    def _elapsed(self, now: float) -> float:
        dt = min(max(now - self._now, 0.0), MAX_DT) if math.isfinite(now) else 0.0
        self._now = now if math.isfinite(now) else self._now
        return dt

    def _observe(self, s: _State, dt: float) -> None:
        """Learn what acts on the vehicle beside its rotors and gravity."""
        thrust, *torque = self._rotors.effort()
        if s.rate_b is not None:
            self._twist.update(np.array(s.rate_b), np.array(torque) / self._inertia, dt)
        else:
            self._twist.miss()
        if s.velocity_w is not None and s.rot_wb is not None:
            # dv/dt = R e_z T / m - g + d
            lift = s.rot_wb[:, 2] * (thrust / self._robot.mass)
            self._push.update(np.array(s.velocity_w), lift - [0.0, 0.0, GRAVITY], dt)
        else:
            self._push.miss()

    def _position_law(self, s: _State, target_w: np.ndarray, velocity_w: np.ndarray) -> np.ndarray:
        """Wanted acceleration [m/s^2] (3), of which what needs a missing measurement is left out."""
        a = -self._push.value
        # Without the velocity to damp it, a pull towards the target would swing up.
        if s.position_w is not None and s.velocity_w is not None:
            # a = k_p e + k_v (v_t - v) - d, with the error bounded to what 1 m/s asks for
            e = target_w - s.position_w
            bound = self._velocity_gain / self._position_gain
            e *= min(1.0, bound / max(float(np.linalg.norm(e)), 1e-9))
            a += self._position_gain * e
        if s.velocity_w is not None:
            a += self._velocity_gain * (velocity_w - s.velocity_w)
        return a

    def _fly(self, s: _State, acceleration_w: np.ndarray, dt: float) -> np.ndarray:
        """Throttle (R) for a wanted acceleration [m/s^2] (3)."""
        if s.rot_wb is None or s.rate_b is None:
            return self._rotors.send(self._rotors.hover, dt)
        lift = acceleration_w + np.array([0.0, 0.0, GRAVITY])
        lift[2] = min(max(lift[2], 0.3 * GRAVITY), 2.0 * GRAVITY)
        side = math.hypot(lift[0], lift[1])
        lift[:2] *= min(1.0, lift[2] * math.tan(MAX_TILT) / max(side, 1e-9))
        wanted = self._attitude(s.rot_wb, lift / np.linalg.norm(lift))
        # e_R = (R_d^T R - R^T R_d)^v / 2, tau = J (-k_R e_R - k_w w - d) + w x J w
        m = wanted.T @ s.rot_wb
        error = 0.5 * np.array([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]])
        trace = float(np.trace(m))
        if trace < 1.0:
            # Beyond a right angle the sine falls again; keep the full error in its direction.
            error /= max(float(np.linalg.norm(error)), 1e-9)
        rate = np.array(s.rate_b)
        error[2] *= 0.3  # yaw has the least torque
        turn = -self._stiffness * error - self._damping * rate * [1.0, 1.0, 0.6] - self._twist.value
        torque = self._inertia * turn + np.cross(rate, self._inertia * rate)
        # Thrust along the present body z; none while it points down.
        force = self._robot.mass * float(lift @ s.rot_wb[:, 2])
        return self._rotors.throttle(max(force, 0.0), torque, dt)

    def _attitude(self, rot_wb: np.ndarray, up_w: np.ndarray) -> np.ndarray:
        """Wanted attitude: body z along `up_w`, heading as it was when the control began."""
        if self._heading is None:
            self._heading = math.atan2(rot_wb[1, 0], rot_wb[0, 0])
        nose = np.array([math.cos(self._heading), math.sin(self._heading), 0.0])
        left = np.cross(up_w, nose)
        left /= np.linalg.norm(left)
        return np.stack([np.cross(left, up_w), left, up_w], axis=1)


class Hold(_Flight):
    """Holds a multirotor at a position and its present heading.

    Samples: position_w, velocity_w, quat_wb, angular_velocity_b. Where position or velocity are missing, NaN
    or old it flies without them, level at last; where the attitude is, all rotors turn at the hover throttle.
    """

    def __init__(self, robot: Multirotor) -> None:
        super().__init__(robot)
        self._target: np.ndarray | None = None

    def start(
        self, now: float, samples: Mapping[str, Sample], target_w: np.ndarray | None = None
    ) -> None:
        """Take over: hold `target_w` [m] (3), or where the vehicle is where it is None."""
        self._begin(now if math.isfinite(now) else self._now)
        self.move(target_w)

    def move(self, target_w: np.ndarray | None) -> None:
        """Hold another position [m] (3) from now on; None: where the vehicle is at the next step."""
        target = None if target_w is None else np.array(target_w, float)
        good = target is not None and target.shape == (3,) and bool(np.isfinite(target).all())
        self._target = target if good else None

    def step(self, now: float, samples: Mapping[str, Sample]) -> np.ndarray:
        """Throttle [0, 1] of each rotor in the order of the robot file (R); finite whatever comes in."""
        dt, s = self._elapsed(now), _state(now, samples)
        if self._target is None and s.position_w is not None:
            self._target = np.array(s.position_w)
        self._observe(s, dt)
        target = np.zeros(3) if self._target is None else self._target
        a = self._position_law(s, target, np.zeros(3))
        return self._fly(s, a, dt)


class Land(_Flight):
    """Descends from where it is at a constant speed, notices the ground and stops the motors."""

    def __init__(self, robot: Multirotor, *, descent: float = 0.35) -> None:
        """`descent` is the speed downwards [m/s].

        Raises:
            AlulaError: it is not within 0.2 to 1 m/s.
        """
        super().__init__(robot)
        if not 0.2 <= descent <= 1.0:
            raise AlulaError(f"descent is {descent} m/s; allowed: 0.2 to 1")
        self._descent = descent
        self._spot: np.ndarray | None = None
        self.landed = False
        """True from the touch-down on; the throttle is 0 then."""

    def start(self, now: float, samples: Mapping[str, Sample]) -> None:
        """Take over where the vehicle is."""
        self._begin(now if math.isfinite(now) else self._now)
        self._spot, self._still, self.landed = None, 0.0, False

    def step(self, now: float, samples: Mapping[str, Sample]) -> np.ndarray:
        """Throttle [0, 1] of each rotor in the order of the robot file (R); finite whatever comes in."""
        dt, s = self._elapsed(now), _state(now, samples)
        if self.landed:
            return np.zeros(self._robot.n_rotors)
        self._observe(s, dt)
        down = np.array([0.0, 0.0, -self._descent])
        if s.position_w is not None:
            if self._spot is None:
                self._spot = np.array(s.position_w)
            # The target moves down with time, but never far below a vehicle that does not follow.
            self._spot[2] = max(self._spot[2] - self._descent * dt, s.position_w[2] - LEAD)
        a = self._position_law(s, np.zeros(3) if self._spot is None else self._spot, down)
        if s.velocity_w is None:
            a[2] = (BLIND_DESCENT - 1.0) * GRAVITY - self._push.value[2]
        self._notice_ground(s, dt)
        return np.zeros(self._robot.n_rotors) if self.landed else self._fly(s, a, dt)

    def _notice_ground(self, s: _State, dt: float) -> None:
        """Landed once the target has run ahead as far as it may and the vehicle does not go down."""
        if s.velocity_w is None or s.position_w is None or self._spot is None:
            return
        stuck = s.position_w[2] - self._spot[2] > 0.9 * LEAD and s.velocity_w[2] > -TOUCH_SPEED
        self._still = self._still + dt if stuck else 0.0
        self.landed = self._still > TOUCH_TIME


class JointHold:
    """Holds joint positions: goes to a target no faster than the joints may, and stays."""

    def __init__(self, velocity_max: np.ndarray, *, share: float = 0.5) -> None:
        """`velocity_max` [rad/s or m/s] (J); `share` of it is used [-].

        Raises:
            AlulaError: speeds or share out of range.
        """
        speed = share * np.array(velocity_max, float)
        if not (0.0 < share <= 1.0 and speed.ndim == 1 and (speed > 0.0).all()):
            raise AlulaError(
                f"velocity_max {np.asarray(velocity_max).tolist()}, share {share}; allowed: > 0, share at most 1"
            )
        self._speed, self._now = speed, 0.0
        self._position = self._target = np.zeros(len(speed))

    def start(self, now: float, position: np.ndarray, target: np.ndarray | None = None) -> None:
        """Take over at the last commanded or measured `position`, go to `target` [rad or m] (J each).

        Raises:
            AlulaError: numbers that are not finite or not one a joint.
        """
        for values in (position, position if target is None else target):
            if np.shape(values) != self._speed.shape or not np.isfinite(values).all():
                raise AlulaError(
                    f"joint positions {np.asarray(values).tolist()}; allowed: {len(self._speed)} finite numbers"
                )
        self._now = now if math.isfinite(now) else self._now
        self._position = np.array(position, float)
        self._target = np.array(position if target is None else target, float)

    def step(self, now: float) -> np.ndarray:
        """Joint positions to command [rad or m] (J)."""
        dt = min(max(now - self._now, 0.0), MAX_DT) if math.isfinite(now) else 0.0
        self._now = now if math.isfinite(now) else self._now
        reach = self._speed * dt
        self._position = self._position + np.clip(self._target - self._position, -reach, reach)
        return self._position.copy()
