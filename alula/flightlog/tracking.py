"""How far the robot was from its reference."""

from dataclasses import dataclass

import numpy as np

from alula.flightlog.recording import Recording, Series

HELD_S = 0.15
"""A reference that comes less often than this is taken as held between its samples, else as moving [s]."""
PERCENTILES = (50, 90, 95, 99)
POSITION = ("position_x_m", "position_y_m", "position_z_m")
VELOCITY = ("velocity_x_m_s", "velocity_y_m_s", "velocity_z_m_s")


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Position error while the policy flew."""

    rmse_m: float
    """Root of the mean squared distance [m]."""
    rmse_axes_m: tuple[float, float, float]
    """The same along world x, y, z [m]."""
    mean_axes_m: tuple[float, float, float]
    """Mean error along world x, y, z [m]: what stays off."""
    percentiles_m: dict[int, float]
    """Of the distance [m]."""
    max_m: float
    """Largest distance [m]."""
    velocity_rmse_m_s: float | None
    """Root of the mean squared velocity error [m/s]; None where the reference has no velocity."""
    samples: int
    """Positions that count."""
    time_s: np.ndarray
    """Their times [s] (T,)."""
    position_w: np.ndarray
    """[m] (T, 3)."""
    reference_w: np.ndarray
    """Reference at the same times [m] (T, 3)."""

    @property
    def distance_m(self) -> np.ndarray:
        """[m] (T,)."""
        return np.linalg.norm(self.position_w - self.reference_w, axis=1)


def reference_at(reference: Series, time_s: np.ndarray) -> np.ndarray:
    """The reference at other times (len(time_s), K): held where it comes seldom, else linear; NaN before it."""
    sparse = len(reference.time_s) < 2 or float(np.median(np.diff(reference.time_s))) > HELD_S
    value = reference.held(time_s) if sparse else reference.at(time_s)
    return np.where((time_s >= reference.time_s[0])[:, None], value, np.nan)


def track(recording: Recording) -> Tracking | None:
    """The error at every position in the log while the policy flew; None without position or reference."""
    position = recording.series(*POSITION)
    if position is None or recording.reference_w is None:
        return None
    reference = reference_at(recording.reference_w, position.time_s)
    last = recording.reference_w.time_s[-1]
    counts = recording.is_flying(position.time_s) & np.isfinite(reference).all(axis=1)
    if recording.reference_w.time_s.size > 1:
        # a reference that has ended is none; one sent once holds for ever
        period = float(np.median(np.diff(recording.reference_w.time_s)))
        counts &= position.time_s <= last + max(5.0 * period, HELD_S)
    if counts.sum() < 2:
        return None
    error = (position.value - reference)[counts]
    distance = np.linalg.norm(error, axis=1)
    return Tracking(
        rmse_m=float(np.sqrt(np.mean(distance**2))),
        rmse_axes_m=_axes(np.sqrt(np.mean(error**2, axis=0))),
        mean_axes_m=_axes(error.mean(axis=0)),
        percentiles_m={q: float(np.percentile(distance, q)) for q in PERCENTILES},
        max_m=float(distance.max()),
        velocity_rmse_m_s=_velocity(recording, position.time_s[counts]),
        samples=int(counts.sum()),
        time_s=position.time_s[counts],
        position_w=position.value[counts],
        reference_w=reference[counts],
    )


def _velocity(recording: Recording, time_s: np.ndarray) -> float | None:
    velocity = recording.series(*VELOCITY)
    if velocity is None or recording.reference_velocity_w is None:
        return None
    error = velocity.at(time_s) - reference_at(recording.reference_velocity_w, time_s)
    known = np.isfinite(error).all(axis=1)
    return float(np.sqrt(np.mean(np.sum(error[known] ** 2, axis=1)))) if known.any() else None


def _axes(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z
