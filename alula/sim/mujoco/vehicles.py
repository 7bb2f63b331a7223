"""Random vehicles and starts for the MuJoCo simulator, drawn with NumPy's generator."""

from dataclasses import dataclass

import numpy as np

from alula.robots.multirotor import GRAVITY, Multirotor
from alula.sim.config import SimConfig, Start


@dataclass(kw_only=True)
class Vehicles:
    """Parameters, delays and constant disturbance of N vehicles, float64."""

    mass: np.ndarray
    """[kg] (N,)."""
    inertia: np.ndarray
    """Principal moments [kg m^2] (N, 3)."""
    thrust_scale: np.ndarray
    """Each rotor's thrust relative to the robot's curve [-] (N, R)."""
    lag_up: np.ndarray
    """Rotor lag while the speed rises [s] (N,)."""
    lag_down: np.ndarray
    """Rotor lag while the speed falls [s] (N,)."""
    torque_per_thrust: np.ndarray
    """[m] (N,)."""
    drag_b: np.ndarray
    """Linear drag [N s/m] (N, 3)."""
    action_delay: np.ndarray
    """[steps] (N,), int."""
    observation_delay: np.ndarray
    """[steps] (N,), int."""
    force_w: np.ndarray
    """Constant force [N] (N, 3)."""
    torque_b: np.ndarray
    """Constant torque [N m] (N, 3)."""

    def put(self, rows: np.ndarray, other: "Vehicles") -> None:
        """Overwrite the vehicles at index `rows` by those of `other`."""
        for name, value in vars(other).items():
            getattr(self, name)[rows] = value


@dataclass(kw_only=True)
class Starts:
    """Initial motion of N vehicles relative to the reference."""

    position: np.ndarray
    """Offset from the reference [m] (N, 3)."""
    velocity: np.ndarray
    """Offset from the reference's velocity [m/s] (N, 3)."""
    quat_wb: np.ndarray
    """Attitude (N, 4)."""
    angular_velocity_b: np.ndarray
    """[rad/s] (N, 3)."""
    rotor_fraction: np.ndarray
    """Rotor speed over its maximum [-] (N, R)."""


def draw_vehicles(
    rng: np.random.Generator, robot: Multirotor, config: SimConfig, n: int
) -> Vehicles:
    """Draw n vehicles around a robot from the ranges of a flight setting."""
    r, d = config.randomization, config.disturbances

    def scale(half_width: float, *shape: int) -> np.ndarray:
        return rng.uniform(1.0 - half_width, 1.0 + half_width, (n, *shape))

    mass_scale = scale(r.mass)
    weight = robot.mass * GRAVITY
    return Vehicles(
        mass=robot.mass * mass_scale,
        inertia=np.asarray(robot.inertia) * mass_scale[:, None] * scale(r.inertia, 3),
        thrust_scale=scale(r.thrust, 1) * scale(r.rotor, robot.n_rotors),
        lag_up=robot.rotor_lag_up * scale(r.lag),
        lag_down=robot.rotor_lag_down * scale(r.lag),
        torque_per_thrust=robot.torque_per_thrust * scale(r.torque),
        drag_b=np.asarray(robot.drag_b) * scale(r.drag, 1),
        action_delay=rng.integers(*r.action_delay_steps, n, endpoint=True),
        observation_delay=rng.integers(*r.observation_delay_steps, n, endpoint=True),
        force_w=d.force * weight * rng.standard_normal((n, 3)),
        torque_b=d.torque * weight * rng.standard_normal((n, 3)),
    )


def draw_starts(rng: np.random.Generator, robot: Multirotor, start: Start, n: int) -> Starts:
    """Draw n starts: a share `at_rest` of them at rest on the reference, at hover."""
    hover = robot.hover_throttle
    fraction = hover if start.rotor_fraction < 0.0 else start.rotor_fraction
    axis = rng.standard_normal((n, 3))
    axis /= np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-12)
    angle = rng.uniform(0.0, start.tilt, (n, 1))
    starts = Starts(
        position=rng.uniform(-start.position, start.position, (n, 3)),
        velocity=rng.uniform(-start.velocity, start.velocity, (n, 3)),
        # q = (cos a/2, axis sin a/2)
        quat_wb=np.concatenate([np.cos(0.5 * angle), axis * np.sin(0.5 * angle)], axis=1),
        angular_velocity_b=rng.uniform(-start.angular_velocity, start.angular_velocity, (n, 3)),
        rotor_fraction=np.full((n, robot.n_rotors), fraction),
    )
    rest = rng.random(n) < start.at_rest
    starts.position[rest] = 0.0
    starts.velocity[rest] = 0.0
    starts.quat_wb[rest] = (1.0, 0.0, 0.0, 0.0)
    starts.angular_velocity_b[rest] = 0.0
    starts.rotor_fraction[rest] = hover
    return starts
