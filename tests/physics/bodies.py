"""A vehicle of round numbers and float64 helpers around equations.py, for the physics tests."""

from dataclasses import replace
from typing import Any

import numpy as np

from alula.robots.multirotor import Multirotor
from alula.sim.multirotor.equations import (
    Disturbance,
    Geometry,
    Params,
    State,
    body_derivative,
    rk4_step,
    rotor_wrench,
)
from alula.sim.multirotor.simulator import nominal_params

POSITIONS = ((0.1, -0.1, 0.0), (-0.1, -0.1, 0.0), (-0.1, 0.1, 0.0), (0.1, 0.1, 0.0))
"""M1 front-right, M2 rear-right, M3 rear-left, M4 front-left."""
CALM = Disturbance(force_w=[0.0] * 3, torque_b=[0.0] * 3)


def body(**changes: Any) -> Multirotor:
    """1 kg, arms of 0.1 m along x and y, 5 N a rotor at full speed, no drag, massless rotors."""
    values = {
        "name": "test",
        "mass": 1.0,
        "inertia": (0.01, 0.01, 0.02),
        "rotor_names": ("M1", "M2", "M3", "M4"),
        "rotor_position_b": POSITIONS,
        "rotor_spin": (1, -1, 1, -1),
        "thrust_curve": (0.0, 0.0, 5.0),
        "rotor_lag_up": 0.05,
        "rotor_lag_down": 0.1,
        "torque_per_thrust": 0.02,
        "rotor_speed_max": 1000.0,
    }
    return Multirotor(**(values | changes))


def full_body() -> Multirotor:
    """Three different moments of inertia, drag, heavy rotors, a thrust curve with all terms."""
    return body(
        inertia=(0.011, 0.014, 0.021),
        thrust_curve=(0.1, 0.7, 4.2),
        drag_b=(0.3, 0.2, 0.4),
        rotor_inertia=2e-5,
    )


def hexarotor(**changes: Any) -> Multirotor:
    """Six rotors on a circle, no two mirror images of each other."""
    angles = np.deg2rad([30.0, 90.0, 150.0, 210.0, 270.0, 330.0])
    return body(
        rotor_names=tuple(f"M{i}" for i in range(1, 7)),
        rotor_position_b=tuple((0.2 * np.cos(a), 0.17 * np.sin(a) + 0.01, 0.0) for a in angles),
        rotor_spin=(1, -1, 1, -1, 1, -1),
        inertia=(0.015, 0.012, 0.02),
        **changes,
    )


def params(robot: Multirotor, dt: float) -> Params:
    return Params.from_rows(nominal_params(robot, dt))


def geometry(robot: Multirotor) -> Geometry:
    return Geometry(
        rotor_x=[p[0] for p in robot.rotor_position_b],
        rotor_y=[p[1] for p in robot.rotor_position_b],
        spin=robot.rotor_spin,
    )


def state(robot: Multirotor, **changes: Any) -> State:
    """Level at the origin, at rest, rotors still."""
    values = {
        "position_w": [0.0] * 3,
        "velocity_w": [0.0] * 3,
        "quat_wb": [1.0, 0.0, 0.0, 0.0],
        "angular_velocity_b": [0.0] * 3,
        "rotor_fraction": [0.0] * robot.n_rotors,
    }
    return State(**(values | changes))


def derivative(
    robot: Multirotor, s: State, throttle: Any = None, d: Disturbance = CALM, **changes: Any
) -> np.ndarray:
    """The 13 rows of the body's time derivative; `throttle` defaults to settled rotors."""
    p = replace(params(robot, 1e-3), **changes)
    u = s.rotor_fraction if throttle is None else throttle
    error = [a - b for a, b in zip(u, s.rotor_fraction, strict=True)]
    w = rotor_wrench(s.rotor_fraction, error, p, d, geometry(robot))
    return np.array(body_derivative(s.rows()[:13], w, p, d), float)


def fly(
    robot: Multirotor,
    s: State,
    throttle: Any,
    dt: float,
    steps: int,
    d: Disturbance = CALM,
    **changes: Any,
) -> State:
    """`steps` steps of `dt` with the throttle held, in float64."""
    p, g = replace(params(robot, dt), **changes), geometry(robot)
    for _ in range(steps):
        s = rk4_step(s, throttle, p, d, g, dt)
    return s
