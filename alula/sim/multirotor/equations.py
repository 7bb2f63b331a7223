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
    """Parameters of one environment's vehicle; 19 + R rows in the order of the fields."""

    mass_inv: Scalar
    """1 / mass [1/kg]."""
    inertia_inv: Rows
    """Reciprocals of the principal moments of inertia [1/(kg m^2)] (3)."""
    gyroscopic: Rows
    """(J_z - J_y) / J_x, (J_x - J_z) / J_y, (J_y - J_x) / J_z [-] (3)."""
    thrust_curve: Rows
    """c0, c1, c2 of one rotor [N] (3)."""
    lag_up_inv: Scalar
    """1 / rotor lag while the speed rises [1/s]."""
    lag_down_inv: Scalar
    """1 / rotor lag while the speed falls [1/s]."""
    rise: Scalar
    """exp(-dt / (2 lag_up)): what is left of a rising rotor's speed error after half a step [-]."""
    fall: Scalar
    """exp(-dt / (2 lag_down)), likewise for a falling rotor [-]."""
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
        return 19 + n_rotors

    @staticmethod
    def from_rows(rows: Rows) -> "Params":
        """The parameters whose flat order is `rows`."""
        return Params(
            mass_inv=rows[0],
            inertia_inv=rows[1:4],
            gyroscopic=rows[4:7],
            thrust_curve=rows[7:10],
            lag_up_inv=rows[10],
            lag_down_inv=rows[11],
            rise=rows[12],
            fall=rows[13],
            torque_per_thrust=rows[14],
            rotor_momentum=rows[15],
            drag_b=rows[16:19],
            thrust_scale=rows[19:],
        )

    def rows(self) -> list[Scalar]:
        """Flat order."""
        return [
            self.mass_inv, *self.inertia_inv, *self.gyroscopic, *self.thrust_curve, self.lag_up_inv,
            self.lag_down_inv, self.rise, self.fall, self.torque_per_thrust, self.rotor_momentum,
            *self.drag_b, *self.thrust_scale,
        ]  # fmt: skip


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


@dataclass(kw_only=True)
class Wrench:
    """What the rotors do to the body at one instant."""

    thrust: Scalar
    """Sum of the thrusts along body z [N]."""
    torque_b: Rows
    """Torque [N m] (3)."""
    momentum: Scalar
    """Angular momentum of all rotors along body z [kg m^2/s]."""


def rotor_wrench(fraction: Rows, error: Rows, p: Params, d: Disturbance, g: Geometry) -> Wrench:
    """Thrust, torque (with the disturbance's) and angular momentum of the rotors.

    Args:
        fraction: rotor speeds over their maximum [-] (R).
        error: throttle minus fraction [-] (R), which accelerates the rotors.
        p: parameters.
        d: disturbance.
        g: rotor placement.
    """
    t = rotor_thrust(fraction, p)
    # r x T e_z = (y T, -x T, 0)
    torque_x = sum(y * f for y, f in zip(g.rotor_y, t, strict=True)) + d.torque_b[0]
    torque_y = d.torque_b[1] - sum(x * f for x, f in zip(g.rotor_x, t, strict=True))
    # ds/dt = max(u - s, 0) / lag_up + min(u - s, 0) / lag_down
    acceleration = sum(
        c * (np.maximum(e, 0.0) * p.lag_up_inv + np.minimum(e, 0.0) * p.lag_down_inv)
        for c, e in zip(g.spin, error, strict=True)
    )
    # The air and the motors answer the rotors: tau_z = -sum spin (kappa T + h ds/dt)
    spun = sum(c * f for c, f in zip(g.spin, t, strict=True))
    torque_z = d.torque_b[2] - p.torque_per_thrust * spun - p.rotor_momentum * acceleration
    momentum = p.rotor_momentum * sum(c * s for c, s in zip(g.spin, fraction, strict=True))
    return Wrench(thrust=sum(t), torque_b=[torque_x, torque_y, torque_z], momentum=momentum)


def body_derivative(body: Rows, w: Wrench, p: Params, d: Disturbance) -> list[Scalar]:
    """Time derivative of position, velocity, attitude and body rate (13 rows, as in `State`).

    Newton-Euler with rotors along body z; Mahony, Kumar and Corke, IEEE RAM 19(3), 2012::

        dp/dt = v
        m dv/dt = R (thrust e_z - D R' v) + f - m g e_z
        dq/dt = 1/2 q (0, w)
        J dw/dt = torque - w x (J w + h e_z)
    """
    vx, vy, vz = body[3:6]
    qw, qx, qy, qz = body[6:10]
    wx, wy, wz = body[10:13]
    r = rotation(body[6:10])

    # f_b = thrust e_z - D R' v, per mass
    dx, dy, dz = (p.mass_inv * c for c in p.drag_b)
    a_x = -(dx * (r[0] * vx + r[3] * vy + r[6] * vz))
    a_y = -(dy * (r[1] * vx + r[4] * vy + r[7] * vz))
    a_z = p.mass_inv * w.thrust - dz * (r[2] * vx + r[5] * vy + r[8] * vz)
    outside = [p.mass_inv * f for f in d.force_w]
    outside[2] = outside[2] - GRAVITY
    acceleration = [
        r[3 * i] * a_x + r[3 * i + 1] * a_y + (r[3 * i + 2] * a_z + outside[i]) for i in range(3)
    ]

    # dq/dt = 1/2 q (0, w)
    hx, hy, hz = 0.5 * wx, 0.5 * wy, 0.5 * wz
    dq = [
        -(qx * hx + qy * hy + qz * hz),
        qw * hx + qy * hz - qz * hy,
        qw * hy + qz * hx - qx * hz,
        qw * hz + qx * hy - qy * hx,
    ]

    # dw_x/dt = (tau_x - w_y h) / J_x - w_y w_z (J_z - J_y) / J_x, and cyclic; h is along z only
    jx, jy, jz = p.inertia_inv
    gx, gy, gz = p.gyroscopic
    dw = [
        jx * (w.torque_b[0] - wy * w.momentum) - gx * (wy * wz),
        jy * (w.torque_b[1] + wx * w.momentum) - gy * (wx * wz),
        jz * w.torque_b[2] - gz * (wx * wy),
    ]
    return [vx, vy, vz, *acceleration, *dq, *dw]


def rk4_step(
    state: State, throttle: Rows, p: Params, d: Disturbance, g: Geometry, dt: Scalar
) -> State:
    """State one `dt` later, with the throttle [0, 1] (R) and the disturbance held.

    The rotors' lag has an exact solution at the middle and the end of the step, so the classical
    fourth-order Runge-Kutta method is left with the rigid body alone; `p.rise` and `p.fall` belong to this
    `dt`. The quaternion's norm drifts by O(dt^5) a step and is pulled back to first order,
    q <- q (3 - |q|^2) / 2, which needs no square root.
    """
    start = [u - s for u, s in zip(throttle, state.rotor_fraction, strict=True)]
    rising = [np.maximum(e, 0.0) for e in start]
    falling = [np.minimum(e, 0.0) for e in start]
    # e(t) = e(0) exp(-t / lag)
    middle = [a * p.rise + b * p.fall for a, b in zip(rising, falling, strict=True)]
    full_rise, full_fall = p.rise * p.rise, p.fall * p.fall
    end = [a * full_rise + b * full_fall for a, b in zip(rising, falling, strict=True)]
    at_middle = [u - e for u, e in zip(throttle, middle, strict=True)]
    at_end = [u - e for u, e in zip(throttle, end, strict=True)]

    wrench = [
        rotor_wrench(fraction, error, p, d, g)
        for fraction, error in ((state.rotor_fraction, start), (at_middle, middle), (at_end, end))
    ]
    x = state.rows()[:13]
    half = 0.5 * dt
    k1 = body_derivative(x, wrench[0], p, d)
    k2 = body_derivative(_along(x, half, k1), wrench[1], p, d)
    k3 = body_derivative(_along(x, half, k2), wrench[1], p, d)
    k4 = body_derivative(_along(x, dt, k3), wrench[2], p, d)
    # x' = x + dt/6 (k1 + 2 k2 + 2 k3 + k4)
    sixth, third = dt * (1.0 / 6.0), dt * (1.0 / 3.0)
    body = [
        a + sixth * (b1 + b4) + third * (b2 + b3)
        for a, b1, b2, b3, b4 in zip(x, k1, k2, k3, k4, strict=True)
    ]
    q = body[6:10]
    pull = 1.5 - 0.5 * (q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3])
    return State.from_rows([*body[:6], *(pull * c for c in q), *body[10:], *at_end])


def _along(x: Rows, step: Scalar, slope: Rows) -> list[Scalar]:
    return [a + step * b for a, b in zip(x, slope, strict=True)]
