"""Figures of merit of a flight, with 95 % intervals.

The interval formulas are written out because `scipy.stats` takes over a second to import, which is a
quarter of a whole `alula fly`; tests compare them with it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from alula.evaluation.flight import FAILURES, Flight

Z95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""
LAST_S = 1.0
"""The hover error is averaged over this much of the end of an episode [s]."""
STARTUP_S = 2.0
"""The tracking error leaves out this much of the beginning of an episode [s]."""
RESAMPLES = 1000
"""Bootstrap resamples."""
_BLOCK = 2_000_000

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What N episodes say; errors are None where no episode survived."""

    episodes: int
    """Episodes flown N."""
    survived: int
    """Episodes that never left the limits."""
    success: float
    """survived / episodes [-]."""
    success_interval: Interval
    """Wilson score interval."""
    hover_error_m: float | None
    """Mean over surviving episodes of the mean position error in the last second [m]."""
    hover_error_interval_m: Interval | None
    """Bootstrap over episodes."""
    hover_error_p95_m: float | None
    """95th percentile of the same over surviving episodes [m]."""
    hover_error_p95_interval_m: Interval | None
    """From order statistics."""
    tracking_rmse_m: float | None
    """Root of the mean squared position error of surviving episodes after the start-up [m]."""
    tracking_rmse_interval_m: Interval | None
    """Bootstrap over episodes."""
    failures: dict[str, int]
    """Failed episodes by kind: position, velocity, angular_velocity, non_finite."""


def wilson_interval(successes: int, n: int) -> Interval:
    """95 % score interval of a proportion (Wilson, JASA 22, 1927)."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = successes / n, Z95 * Z95
    # (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)
    centre = p + z2 / (2 * n)
    half = Z95 * math.sqrt(p * (1.0 - p) / n + z2 / (4 * n * n))
    low, high = (centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)
    return max(0.0, low) if successes else 0.0, min(1.0, high) if successes < n else 1.0


def bootstrap_interval(
    values: np.ndarray, of_mean: Callable[[np.ndarray], np.ndarray] = lambda mean: mean
) -> Interval:
    """95 % percentile bootstrap of a monotone function of the mean of independent values (N,).

    Reproducible: the resampling is seeded with a constant.
    """
    rng = np.random.default_rng(0)
    n = len(values)
    block = max(1, min(RESAMPLES, _BLOCK // n))
    means = [
        values[rng.integers(n, size=(min(block, RESAMPLES - done), n))].mean(axis=1)
        for done in range(0, RESAMPLES, block)
    ]
    low, high = np.percentile(of_mean(np.concatenate(means)), [2.5, 97.5])
    return float(low), float(high)


def quantile_interval(values: np.ndarray, q: float) -> Interval:
    """95 % interval of a quantile from order statistics (Conover, 1999, section 3.2).

    The ranks are the normal approximation n q +- 1.96 sqrt(n q (1 - q)), rounded outwards.
    """
    ordered, n = np.sort(values), len(values)
    half = Z95 * math.sqrt(n * q * (1.0 - q))
    low, high = math.floor(n * q - half), math.ceil(n * q + half)
    return float(ordered[min(max(low - 1, 0), n - 1)]), float(ordered[min(max(high - 1, 0), n - 1)])


def measure(flight: Flight) -> Metrics:
    """The metrics of a flight."""
    survived = flight.survived
    n, count = len(survived), int(survived.sum())
    failures = {name: int((flight.failure == k).sum()) for k, name in enumerate(FAILURES) if k > 0}
    errors = flight.position_error[:, survived].astype(np.float64)
    last = max(1, round(LAST_S / flight.control_dt))
    hover = errors[-last:].mean(axis=0)
    # a flight shorter than the start-up is judged by its last step
    first = min(round(STARTUP_S / flight.control_dt), len(errors) - 1)
    squares = (errors[first:] ** 2).mean(axis=0)
    return Metrics(
        episodes=n,
        survived=count,
        success=count / n,
        success_interval=wilson_interval(count, n),
        hover_error_m=float(hover.mean()) if count else None,
        hover_error_interval_m=bootstrap_interval(hover) if count else None,
        hover_error_p95_m=float(np.percentile(hover, 95)) if count else None,
        hover_error_p95_interval_m=quantile_interval(hover, 0.95) if count else None,
        tracking_rmse_m=float(np.sqrt(squares.mean())) if count else None,
        tracking_rmse_interval_m=bootstrap_interval(squares, np.sqrt) if count else None,
        failures=failures,
    )
