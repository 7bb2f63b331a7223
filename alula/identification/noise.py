"""Sensor noise from the parts of a log in which the robot rests."""

import math
from dataclasses import dataclass

import numpy as np

from alula.identification.intervals import chi_square, correlation_time
from alula.identification.logs import FlightLog, Signal

REST_WINDOW_S = 0.25
"""Rest is judged over windows of this length [s]."""
REST_GYRO_STD = 0.02
"""Most body-rate scatter of a resting robot [rad/s]."""
REST_GYRO_MEAN = 0.1
"""Most mean body rate (bias included) of a resting robot [rad/s]."""
REST_ACC_STD = 0.2
"""Most specific-force scatter of a resting robot [m/s^2]."""
MIN_REST_S = 2.0
"""Shortest rest from which noise is reported [s]."""


@dataclass(frozen=True)
class Noise:
    """Scatter of one signal at rest."""

    std: float
    """Standard deviation, in the signal's unit."""
    mean: float
    """Mean; the bias of a gyro."""
    interval: tuple[float, float]
    """95 % interval of the standard deviation (chi-square with effective sample size)."""


def resting_interval(log: FlightLog) -> tuple[float, float] | None:
    """Longest stretch in which the robot lies still with motors off [s], None if there is none."""
    gyro = [log.signals[n] for n in _names(log, "gyro_{}_rad_s")]
    if not gyro:
        return None
    start = max(s.time_s[0] for s in gyro)
    end = min(s.time_s[-1] for s in gyro)
    edges = np.arange(start, end, REST_WINDOW_S)
    if edges.size < 2:
        return None
    still = np.ones(edges.size - 1, dtype=bool)
    for signal in gyro:
        mean, std = _window_moments(signal, edges)
        still &= (std < REST_GYRO_STD) & (np.abs(mean) < REST_GYRO_MEAN)
    for name in _names(log, "acc_{}_m_s2"):
        still &= _window_moments(log.signals[name], edges)[1] < REST_ACC_STD
    for k in range(log.n_motors):
        mean, std = _window_moments(log.signals[f"motor_{k + 1}"], edges)
        still &= ~(mean > 0.02) & ~(std > 0.001)
    best, run = (0, 0), 0
    for k, calm in enumerate(still):
        run = run + 1 if calm else 0
        if run > best[1] - best[0]:
            best = (k + 1 - run, k + 1)
    # The outermost windows may touch the motion beside them.
    lo, hi = edges[best[0]] + REST_WINDOW_S, edges[best[1]] - REST_WINDOW_S
    return (float(lo), float(hi)) if hi - lo >= MIN_REST_S else None


def resting_noise(log: FlightLog, span: tuple[float, float]) -> dict[str, Noise]:
    """Scatter of gyro, specific force and position while resting, by signal name."""
    rest = log.window(*span)
    out: dict[str, Noise] = {}
    for pattern in ("gyro_{}_rad_s", "acc_{}_m_s2", "position_{}_m"):
        for name in _names(rest, pattern):
            out[name] = _noise(rest.signals[name].value)
    return out


def _names(log: FlightLog, pattern: str) -> list[str]:
    return [pattern.format(axis) for axis in "xyz" if pattern.format(axis) in log.signals]


def _window_moments(signal: Signal, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation in each window; infinite where a window has no sample."""
    at = np.searchsorted(signal.time_s, edges)
    count = np.diff(at).astype(np.float64)
    offset = signal.value.mean()
    running = np.concatenate(([0.0], np.cumsum(signal.value - offset)))
    squares = np.concatenate(([0.0], np.cumsum((signal.value - offset) ** 2)))
    safe = np.maximum(count, 1.0)
    mean = np.diff(running[at]) / safe
    var = np.maximum(np.diff(squares[at]) / safe - mean**2, 0.0)
    empty = count == 0
    return np.where(empty, np.inf, mean + offset), np.where(empty, np.inf, np.sqrt(var))


def _noise(value: np.ndarray) -> Noise:
    std = float(value.std(ddof=1))
    deviation = (value - value.mean()) ** 2
    n = max(value.size / correlation_time(deviation) - 1.0, 15.0)
    # n s^2 / sigma^2 ~ chi2(n)
    low, high = chi_square(n)
    span = (std * math.sqrt(n / high), std * math.sqrt(n / low))
    return Noise(std=std, mean=float(value.mean()), interval=span)
