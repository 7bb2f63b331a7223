"""Attitude, body-frame velocity and drag from logs that hold them."""

from dataclasses import dataclass, replace

import numpy as np

from alula.frames import rot_from_quat
from alula.identification.inertia import fit_ratio, low_pass
from alula.identification.logs import FlightLog, Signal
from alula.identification.resample import Grid

QUATERNION = ("quat_w", "quat_x", "quat_y", "quat_z")
VELOCITY = ("velocity_x_m_s", "velocity_y_m_s", "velocity_z_m_s")
ACCELERATION = ("acc_x_m_s2", "acc_y_m_s2", "acc_z_m_s2")
WORLD_ACCELERATION = ("acc_w_x_m_s2", "acc_w_y_m_s2", "acc_w_z_m_s2")
RATES = ("gyro_x_rad_s", "gyro_y_rad_s", "gyro_z_rad_s")
DRAG_CUTOFF_HZ = 4.0
"""Drag is looked for below this frequency, where vehicles move [Hz]."""


@dataclass(frozen=True)
class DragFit:
    """Linear drag along one body axis: m a = -d v."""

    value: float
    """d [N s/m]."""
    interval: tuple[float, float]
    """95 % interval [N s/m]."""
    r2: float
    """Squared correlation of specific force and velocity."""
    observable: bool
    """Whether the flight shows it."""


def attitude(quaternion: np.ndarray) -> np.ndarray:
    """Rotations body -> world (T, 3, 3) of quaternions (T, 4) of any length, scalar first."""
    return rot_from_quat(quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True))


def body_acceleration(log: FlightLog) -> FlightLog:
    """Turn world-frame specific force into body axes where a log has only that."""
    if log.has(*ACCELERATION) or not log.has(*WORLD_ACCELERATION, *QUATERNION):
        return log
    time = log.signals[WORLD_ACCELERATION[0]].time_s
    quat = np.stack(
        [np.interp(time, log.signals[n].time_s, log.signals[n].value) for n in QUATERNION], axis=1
    )
    acc_w = np.stack(
        [np.interp(time, log.signals[n].time_s, log.signals[n].value) for n in WORLD_ACCELERATION],
        axis=1,
    )
    # a_b = R^T a_w
    acc_b = np.einsum("tji,tj->ti", attitude(quat), acc_w)
    signals = log.signals | {n: Signal(time, acc_b[:, i]) for i, n in enumerate(ACCELERATION)}
    return replace(log, signals=signals)


def body_velocity(grid: Grid) -> np.ndarray:
    """Velocity in body axes (T, 3) [m/s]."""
    rot_wb = attitude(grid.stack(*QUATERNION))
    return np.einsum("tji,tj->ti", rot_wb, grid.stack(*VELOCITY))


def fit_drag(grid: Grid, mass: float) -> tuple[DragFit, DragFit]:
    """Drag along body x and y; along z thrust hides it.

    Args:
        grid: quaternion, velocity and specific force, resampled.
        mass: [kg].
    """
    velocity = low_pass(body_velocity(grid), grid.dt, DRAG_CUTOFF_HZ)
    force = low_pass(mass * grid.stack(*ACCELERATION), grid.dt, DRAG_CUTOFF_HZ)
    fits = []
    for axis in range(2):
        ratio = fit_ratio(-force[:, axis], velocity[:, axis], grid.valid, grid.dt, delay_s=0.0)
        # Velocity is the cleaner of the two: d = regression of force on velocity.
        fits.append(
            DragFit(
                value=ratio.low,
                interval=ratio.interval,
                r2=ratio.r2,
                observable=ratio.observable,
            )
        )
    return fits[0], fits[1]
