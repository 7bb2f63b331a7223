"""Follow a moving reference with level heading: random smooth trajectories and Lissajous figures.

A trajectory is a sum of two sinusoids an axis, given by 18 rows: for axis x, y, z and sinusoid 1, 2 the
amplitude [m], angular frequency [rad/s] and phase [rad]. A figure-eight is x = a sin(w t), y = b sin(2 w t).
"""

import math
from dataclasses import dataclass, fields

import numpy as np

from alula.errors import AlulaError
from alula.policies.contract import ObservationEntry
from alula.robots.multirotor import GRAVITY
from alula.sim.multirotor.equations import Disturbance, Params, Rows, Scalar, State, rotation
from alula.sim.sensors import Sensed

NAME = "track"
PREVIEW_S = (0.1, 0.2, 0.4, 0.6)
"""How far ahead the actor sees the reference [s]."""
TRAJECTORY_SIZE = 18


@dataclass(kw_only=True)
class Reference:
    """The reference now and shortly ahead; 6 + 3 * len(PREVIEW_S) rows in the order of the fields."""

    position_w: Rows
    """Reference position [m] (3)."""
    velocity_w: Rows
    """Reference velocity [m/s] (3)."""
    preview_w: Rows
    """Reference position at each of PREVIEW_S minus the present one [m] (3 each)."""

    @staticmethod
    def from_rows(rows: Rows) -> "Reference":
        """The reference whose flat order is `rows`."""
        return Reference(position_w=rows[0:3], velocity_w=rows[3:6], preview_w=rows[6:])


REFERENCE_SIZE = 6 + 3 * len(PREVIEW_S)


def _position(t: Scalar, trajectory: Rows) -> list[Scalar]:
    # p(t) = sum_k A_k sin(w_k t + phi_k) on each axis
    return [
        sum(
            trajectory[6 * axis + 3 * k] * np.sin(trajectory[6 * axis + 3 * k + 1] * t + trajectory[6 * axis + 3 * k + 2])
            for k in range(2)
        )
        for axis in range(3)
    ]  # fmt: skip


def _velocity(t: Scalar, trajectory: Rows) -> list[Scalar]:
    # v(t) = sum_k A_k w_k cos(w_k t + phi_k), with cos x = sin(x + pi/2)
    return [
        sum(
            trajectory[6 * axis + 3 * k] * trajectory[6 * axis + 3 * k + 1]
            * np.sin(trajectory[6 * axis + 3 * k + 1] * t + (trajectory[6 * axis + 3 * k + 2] + math.pi / 2))
            for k in range(2)
        )
        for axis in range(3)
    ]  # fmt: skip


def reference(t: Scalar, trajectory: Rows) -> list[Scalar]:
    """The rows of `Reference` at time t [s]."""
    now = _position(t, trajectory)
    preview = [
        ahead - here
        for tau in PREVIEW_S
        for ahead, here in zip(_position(t + tau, trajectory), now, strict=True)
    ]
    return [*now, *_velocity(t, trajectory), *preview]


ENTRIES: tuple[ObservationEntry, ...] = (
    ObservationEntry(name="position_error_w", unit="m", frame="w", size=3),
    ObservationEntry(name="rot_wb", unit="-", frame="wb", size=9),
    ObservationEntry(name="velocity_error_w", unit="m/s", frame="w", size=3),
    ObservationEntry(name="angular_velocity_b", unit="rad/s", frame="b", size=3),
    ObservationEntry(name="reference_preview_w", unit="m", frame="w", size=3 * len(PREVIEW_S)),
)
"""What the actor sees, in order; noise and delay are filled in from the simulator's settings."""

SCALE: tuple[float, ...] = (*[2.0] * 3, *[1.0] * 9, *[1.0] * 3, *[0.3] * 3, *[2.0] * 12)
"""Reciprocal typical size of each observation row."""


def observe(sensed: Sensed, r: Reference) -> list[Scalar]:
    """Actor rows in the order of ENTRIES: measured state relative to the reference, and its preview."""
    return [
        *(a - b for a, b in zip(sensed.position_w, r.position_w, strict=True)),
        *sensed.rot_wb,
        *(a - b for a, b in zip(sensed.velocity_w, r.velocity_w, strict=True)),
        *sensed.angular_velocity_b,
        *r.preview_w,
    ]


def privileged(state: State, p: Params, d: Disturbance, delay: Rows, r: Reference) -> list[Scalar]:
    """Critic rows, all of order one: true state, disturbance, parameters, delays [steps], reference."""
    weight_inv = p.mass_inv * (1.0 / GRAVITY)
    full_thrust = sum(p.thrust_scale) * sum(p.thrust_curve)
    e = [a - b for a, b in zip(state.position_w, r.position_w, strict=True)]
    return [
        *(2.0 * x for x in e),
        *(4.0 * np.sqrt(_squares(e) + s * s) for s in (0.02, 0.1)),
        *(a - b for a, b in zip(state.velocity_w, r.velocity_w, strict=True)),
        *rotation(state.quat_wb),
        *(0.3 * w for w in state.angular_velocity_b),
        *(4.0 * s - 2.0 for s in state.rotor_fraction),
        *(10.0 * f * weight_inv for f in d.force_w),
        *(0.05 * t * i for t, i in zip(d.torque_b, p.inertia_inv, strict=True)),
        full_thrust * weight_inv - 2.0,
        # bounded for any lag: -1 for none, 1/3 for 0.1 s, 3 for an endless one
        *(2.0 / (0.1 * rate + 0.5) - 1.0 for rate in (p.lag_up_inv, p.lag_down_inv)),
        *delay,
        *(2.0 * x for x in r.preview_w),
    ]


@dataclass(frozen=True, kw_only=True)
class CostWeights:
    """Weights of the cost; the reward of a step is one minus the cost."""

    position: float = 1.0
    """On sqrt(|position error|^2 + position_scale^2) - position_scale [1/m]."""
    position_scale: float = 0.02
    """Below this the position cost is quadratic [m]."""
    velocity: float = 0.05
    """On the squared velocity error [s^2/m^2]."""
    tilt: float = 0.0
    """On 1 - R_zz, the tilt [-]."""
    heading: float = 0.05
    """On 1 - R_xx / R_yy mean, turning away from heading zero [-]."""
    angular_velocity: float = 0.002
    """On the squared body rate [s^2/rad^2]."""
    action: float = 0.02
    """On the squared distance of each action from hover [-]."""
    action_change: float = 0.05
    """On the squared change of each action per step [-]."""

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            # the square root has no derivative at zero
            low = 1e-4 if f.name == "position_scale" else 0.0
            if not low <= value <= 1e6:
                raise AlulaError(f"cost weight {f.name} is {value}; allowed: {low:g} to 1e+06")

    def rows(self, hover_action: float) -> list[float]:
        """Flat order in which `cost` reads them."""
        return [
            self.position, self.position_scale, self.velocity, self.tilt, self.heading,
            self.angular_velocity, self.action, self.action_change, hover_action,
        ]  # fmt: skip


WEIGHTS_SIZE = 9


def cost(state: State, action: Rows, previous: Rows, r: Reference, weights: Rows) -> Scalar:
    """Cost of one step [-]; zero at rest on the reference, level, heading zero, at hover action."""
    w_p, scale, w_v, w_tilt, w_heading, w_rate, w_action, w_change, hover = weights
    e = [a - b for a, b in zip(state.position_w, r.position_w, strict=True)]
    v = [a - b for a, b in zip(state.velocity_w, r.velocity_w, strict=True)]
    rot = rotation(state.quat_wb)
    # c = w_p (sqrt(|e|^2 + s^2) - s) + w_v |v|^2 + w_t (1 - R_zz) + w_h (1 - (R_xx + R_yy)/2)
    #     + w_r |w|^2 + w_a |a - a_hover|^2 + w_c |a - a_prev|^2
    return (
        w_p * (np.sqrt(_squares(e) + scale * scale) - scale)
        + w_v * _squares(v)
        + w_tilt * (1.0 - rot[8])
        + w_heading * (1.0 - 0.5 * (rot[0] + rot[4]))
        + w_rate * _squares(state.angular_velocity_b)
        + w_action * _squares([a - hover for a in action])
        + w_change * _squares([a - b for a, b in zip(action, previous, strict=True)])
    )


def _squares(rows: Rows) -> Scalar:
    return sum(x * x for x in rows)


def figure_eight(length: float, width: float, lap: float, height: float = 0.0) -> list[float]:
    """Trajectory rows of a horizontal figure-eight: `length` x `width` [m], one lap in `lap` [s]."""
    w = 2.0 * math.pi / lap
    rows = [0.0] * TRAJECTORY_SIZE
    rows[0:3] = [length / 2.0, w, 0.0]
    rows[6:9] = [width / 2.0, 2.0 * w, 0.0]
    rows[12:15] = [height, 0.0, math.pi / 2]
    return rows


def random_trajectories(rng: np.random.Generator, n: int) -> np.ndarray:
    """Trajectory rows (n, 18): half random smooth motions, half Lissajous figures.

    Every amplitude is bounded by A w <= 2.4 m/s and A w^2 <= 8 m/s^2 (half of both for an axis' second
    sinusoid), so that a vehicle can follow: no axis exceeds 3.6 m/s; the median peak speed is 2.2 m/s.
    """
    out = np.zeros((n, 3, 2, 3), np.float32)
    frequency = rng.uniform(0.3, 3.6, (n, 3, 2))
    # Lissajous: the frequencies of an axis are small multiples of one lap's
    lap = 2.0 * np.pi / rng.uniform(3.0, 9.0, (n, 1, 1))
    figure = rng.random(n) < 0.5
    frequency[figure] = (lap * rng.integers(1, 3, (n, 3, 2)))[figure]
    amplitude = rng.uniform(0.0, 1.2, (n, 3, 2)) * [[[1.0, 0.5]]]
    amplitude[:, 2] *= 0.5
    bound = np.minimum(2.4 / frequency, 8.0 / frequency**2)
    out[..., 0] = np.minimum(amplitude, bound * [[[1.0, 0.5]]])
    out[..., 1] = frequency
    out[..., 2] = rng.uniform(-np.pi, np.pi, (n, 3, 2))
    return out.reshape(n, TRAJECTORY_SIZE)
