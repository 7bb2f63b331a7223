"""The multirotor's equations of motion, written once.

Every function takes and returns plain scalars in short lists. A scalar is whatever supports + - * / and the
NumPy functions used here: a float, an array over environments, or a symbol of `trace.py`, from which the
compiled kernels and their vector-Jacobian products are generated.

Rows are the flat order in which the kernels store these quantities; units are SI.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alula.robots.multirotor import GRAVITY

Scalar = Any
Rows = Sequence[Scalar]


@dataclass(kw_only=True)
class State:
    """State of one multirotor; 13 + R rows in the order of the fields."""

    position_w: Rows
    """Position [m] (3)."""
    velocity_w: Rows
    """Velocity [m/s] (3)."""
    quat_wb: Rows
    """Attitude, scalar first, unit norm (4)."""
    angular_velocity_b: Rows
    """Body rate [rad/s] (3)."""
    rotor_fraction: Rows
    """Rotor speed over its maximum [-] (R)."""

    @staticmethod
    def size(n_rotors: int) -> int:
        """Number of rows."""
        return 13 + n_rotors

    @staticmethod
    def from_rows(rows: Rows) -> "State":
        """The state whose flat order is `rows`."""
        return State(
            position_w=rows[0:3],
            velocity_w=rows[3:6],
            quat_wb=rows[6:10],
            angular_velocity_b=rows[10:13],
            rotor_fraction=rows[13:],
        )

    def rows(self) -> list[Scalar]:
        """Flat order."""
        return [
            *self.position_w,
            *self.velocity_w,
            *self.quat_wb,
            *self.angular_velocity_b,
            *self.rotor_fraction,
        ]


@dataclass(kw_only=True)
class Params:
    """Parameters of one environment's vehicle; 17 + R rows in the order of the fields."""

    mass_inv: Scalar
    """1 / mass [1/kg]."""
    inertia: Rows
    """Principal moments of inertia [kg m^2] (3)."""
    inertia_inv: Rows
    """Their reciprocals (3)."""
    thrust_curve: Rows
    """c0, c1, c2 of one rotor [N] (3)."""
    lag_up_inv: Scalar
    """1 / rotor lag while the speed rises [1/s]."""
    lag_down_inv: Scalar
    """1 / rotor lag while the speed falls [1/s]."""
    torque_per_thrust: Scalar
    """Reaction torque per thrust [m]."""
    rotor_momentum: Scalar
    """Angular momentum of one rotor at full speed [kg m^2/s]."""
    drag_b: Rows
    """Linear drag along body axes [N s/m] (3)."""
    thrust_scale: Rows
    """Each rotor's thrust relative to the curve [-] (R)."""

    @staticmethod
    def size(n_rotors: int) -> int:
        """Number of rows."""
        return 17 + n_rotors

    @staticmethod
    def from_rows(rows: Rows) -> "Params":
        """The parameters whose flat order is `rows`."""
        return Params(
            mass_inv=rows[0],
            inertia=rows[1:4],
            inertia_inv=rows[4:7],
            thrust_curve=rows[7:10],
            lag_up_inv=rows[10],
            lag_down_inv=rows[11],
            torque_per_thrust=rows[12],
            rotor_momentum=rows[13],
            drag_b=rows[14:17],
            thrust_scale=rows[17:],
        )


@dataclass(kw_only=True)
class Disturbance:
    """What acts on the vehicle from outside, constant over one step; 6 rows."""

    force_w: Rows
    """Force [N] (3)."""
    torque_b: Rows
    """Torque [N m] (3)."""

    @staticmethod
    def from_rows(rows: Rows) -> "Disturbance":
        """The disturbance whose flat order is `rows`."""
        return Disturbance(force_w=rows[0:3], torque_b=rows[3:6])


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Where the rotors are and how they turn; the same for all environments."""

    rotor_x: Rows
    """Rotor positions along body x [m] (R)."""
    rotor_y: Rows
    """Rotor positions along body y [m] (R)."""
    spin: Sequence[int]
    """+1 counter-clockwise seen from above, -1 clockwise (R)."""


def cross(a: Rows, b: Rows) -> list[Scalar]:
    """Cross product of two 3-vectors."""
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]


def rotation(quat_wb: Rows) -> list[Scalar]:
    """Rotation matrix body -> world, row-major (9), of a unit quaternion (w, x, y, z)."""
    w, x, y, z = quat_wb
    x2, y2, z2 = 2.0 * x, 2.0 * y, 2.0 * z
    xx, yy, zz = x2 * x, y2 * y, z2 * z
    xy, xz, yz = x2 * y, x2 * z, y2 * z
    wx, wy, wz = x2 * w, y2 * w, z2 * w
    return [
        1.0 - (yy + zz), xy - wz, xz + wy,
        xy + wz, 1.0 - (xx + zz), yz - wx,
        xz - wy, yz + wx, 1.0 - (xx + yy),
    ]  # fmt: skip


def rotor_thrust(rotor_fraction: Rows, p: Params) -> list[Scalar]:
    """Thrust of each rotor [N]."""
    c0, c1, c2 = p.thrust_curve
    # T = k (c0 + c1 s + c2 s^2)
    return [
        k * (c0 + s * (c1 + c2 * s)) for k, s in zip(p.thrust_scale, rotor_fraction, strict=True)
    ]


def rotor_acceleration(rotor_fraction: Rows, throttle: Rows, p: Params) -> list[Scalar]:
    """Rate of change of each rotor's speed fraction [1/s]."""
    # ds/dt = max(u - s, 0) / lag_up + min(u - s, 0) / lag_down
    return [
        np.maximum(u - s, 0.0) * p.lag_up_inv + np.minimum(u - s, 0.0) * p.lag_down_inv
        for u, s in zip(throttle, rotor_fraction, strict=True)
    ]


def derivative(state: State, throttle: Rows, p: Params, d: Disturbance, g: Geometry) -> State:
    """Time derivative of the state, with the throttle [0, 1] (R) and the disturbance held.

    Newton-Euler with rotors along body z; Mahony, Kumar and Corke, IEEE RAM 19(3), 2012::

        dp/dt = v
        m dv/dt = R (thrust e_z - D R' v) + f - m g e_z
        dq/dt = 1/2 q (0, w)
        J dw/dt = sum r x T e_z - spin (kappa T + h ds/dt) e_z + tau - w x (J w + spin h s e_z)
    """
    x, y, z = state.velocity_w
    r = rotation(state.quat_wb)
    wx, wy, wz = state.angular_velocity_b
    thrusts = rotor_thrust(state.rotor_fraction, p)
    ds = rotor_acceleration(state.rotor_fraction, throttle, p)

    # f_b = thrust e_z - D R' v
    dx, dy, dz = p.drag_b
    f_x = -dx * (r[0] * x + r[3] * y + r[6] * z)
    f_y = -dy * (r[1] * x + r[4] * y + r[7] * z)
    f_z = sum(thrusts) - dz * (r[2] * x + r[5] * y + r[8] * z)
    acceleration = [
        p.mass_inv * (r[3 * i] * f_x + r[3 * i + 1] * f_y + r[3 * i + 2] * f_z + d.force_w[i])
        for i in range(3)
    ]
    acceleration[2] = acceleration[2] - GRAVITY

    # dq/dt = 1/2 q (0, w)
    qw, qx, qy, qz = state.quat_wb
    hx, hy, hz = 0.5 * wx, 0.5 * wy, 0.5 * wz
    dq = [
        -(qx * hx + qy * hy + qz * hz),
        qw * hx + qy * hz - qz * hy,
        qw * hy + qz * hx - qx * hz,
        qw * hz + qx * hy - qy * hx,
    ]

    # r x T e_z = (y T, -x T, 0); the air and the motors answer the rotors' torque about z
    torque_x = sum(ry * t for ry, t in zip(g.rotor_y, thrusts, strict=True)) + d.torque_b[0]
    torque_y = d.torque_b[1] - sum(rx * t for rx, t in zip(g.rotor_x, thrusts, strict=True))
    spun_thrust = sum(c * t for c, t in zip(g.spin, thrusts, strict=True))
    spun_acceleration = sum(c * a for c, a in zip(g.spin, ds, strict=True))
    spun_fraction = sum(c * s for c, s in zip(g.spin, state.rotor_fraction, strict=True))
    torque_z = (
        d.torque_b[2] - p.torque_per_thrust * spun_thrust - p.rotor_momentum * spun_acceleration
    )

    # J dw/dt = torque - w x (J w + h e_z), with h = rotor_momentum sum spin s
    momentum = [
        p.inertia[0] * wx,
        p.inertia[1] * wy,
        p.inertia[2] * wz + p.rotor_momentum * spun_fraction,
    ]
    gyroscopic = cross(state.angular_velocity_b, momentum)
    dw = [
        p.inertia_inv[i] * (t - gyroscopic[i]) for i, t in enumerate((torque_x, torque_y, torque_z))
    ]
    return State(
        position_w=[x, y, z],
        velocity_w=acceleration,
        quat_wb=dq,
        angular_velocity_b=dw,
        rotor_fraction=ds,
    )


def rk4_step(
    state: State, throttle: Rows, p: Params, d: Disturbance, g: Geometry, dt: Scalar
) -> State:
    """State one `dt` later by the classical fourth-order Runge-Kutta method.

    The quaternion's norm drifts by O(dt^6) a step and is pulled back to first order,
    q <- q (3 - |q|^2) / 2, which needs no square root.
    """

    def f(rows: Rows) -> list[Scalar]:
        return derivative(State.from_rows(rows), throttle, p, d, g).rows()

    x = state.rows()
    half = 0.5 * dt
    k1 = f(x)
    k2 = f([a + half * b for a, b in zip(x, k1, strict=True)])
    k3 = f([a + half * b for a, b in zip(x, k2, strict=True)])
    k4 = f([a + dt * b for a, b in zip(x, k3, strict=True)])
    # x' = x + dt/6 (k1 + 2 k2 + 2 k3 + k4)
    sixth, third = dt * (1.0 / 6.0), dt * (1.0 / 3.0)
    nxt = State.from_rows(
        [
            a + sixth * (b1 + b4) + third * (b2 + b3)
            for a, b1, b2, b3, b4 in zip(x, k1, k2, k3, k4, strict=True)
        ]
    )
    q = nxt.quat_wb
    pull = 1.5 - 0.5 * (q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3])
    nxt.quat_wb = [pull * c for c in q]
    return nxt
