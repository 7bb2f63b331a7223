"""Robots that lend their geometry to logs of vehicles that alula does not ship."""

from alula.robots.multirotor import Multirotor

_SOURCE = "drone-models (MIT), cf21B_500, commit 6b8319a1"
_ARM = 0.035355


def crazyflie_brushless() -> Multirotor:
    """Crazyflie 2.1 Brushless from published numbers; identification replaces what it can."""
    values = {
        "mass": 0.04338,
        "inertia": (25e-6, 28e-6, 49e-6),
        "rotor_position_b": (
            (_ARM, -_ARM, 0.0),
            (-_ARM, -_ARM, 0.0),
            (-_ARM, _ARM, 0.0),
            (_ARM, _ARM, 0.0),
        ),
        "rotor_spin": (1, -1, 1, -1),
        "thrust_curve": (0.0, 0.0, 0.2),
        "throttle_min": 0.0,
        "throttle_max": 1.0,
        "rotor_lag_up": 0.05,
        "rotor_lag_down": 0.05,
        "torque_per_thrust": 0.00593893,
        "rotor_speed_max": 2319.0,
        "rotor_inertia": 0.0,
        "drag_b": (0.0215, 0.0215, 0.0236),
    }
    sources = {key: _SOURCE for key in values}
    sources["rotor_lag_up"] = sources["rotor_lag_down"] = "rotorpy, Crazyflie 2.1 Brushless: 50 ms"
    sources["rotor_speed_max"] = (
        "sqrt(0.2 N / 3.7178e-8 N/(rad/s)^2) with the maximum thrust of cf21B_500 and the thrust "
        "coefficient of Busetto et al. 2026, arXiv 2512.14450"
    )
    for key in ("throttle_min", "throttle_max"):
        sources[key] = "motor command as logged, 0 to 1"
    sources["rotor_inertia"] = "the rotors' angular momentum is not modelled"
    for key in ("position_noise", "orientation_noise", "velocity_noise", "angular_velocity_noise"):
        sources[key] = "arXiv 2311.13081, published training configuration"
    return Multirotor(
        name="crazyflie-brushless",
        rotor_names=("M1", "M2", "M3", "M4"),
        sources=sources,
        **values,
    )
