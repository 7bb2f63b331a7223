"""Signals of different rates, with jitter and gaps, brought onto one regular grid."""

from dataclasses import dataclass

import numpy as np

from alula.errors import AlulaError
from alula.identification.logs import FlightLog, Signal

GAP_FACTOR = 5.0
"""A step longer than this many median steps is a gap."""
GAP_MIN_S = 0.02
"""Shorter steps are never gaps [s]."""

HELD_HZ = 250.0
"""Motor commands logged faster are taken as complete and held between samples [Hz]."""


@dataclass(frozen=True)
class Grid:
    """Regularly sampled signals."""

    time_s: np.ndarray
    """Middle of each cell [s] (T,)."""
    dt: float
    """Cell width [s]."""
    values: dict[str, np.ndarray]
    """Signal name -> mean over each cell (T,)."""
    valid: np.ndarray
    """False where any of the signals has a gap (T,)."""

    def stack(self, *names: str) -> np.ndarray:
        """Named signals as columns (T, len(names))."""
        return np.stack([self.values[name] for name in names], axis=1)


def rate_hz(signal: Signal) -> float:
    """Median sampling rate [Hz]."""
    return 1.0 / float(np.median(np.diff(signal.time_s)))


def regular(log: FlightLog, names: tuple[str, ...], dt: float) -> Grid:
    """Cell means of the named signals where all of them exist.

    A cell mean is the difference of the signal's running integral at the cell's edges: for a
    dense signal it averages noise, for a sparse one it interpolates, and jitter in the time stamps
    does no harm. Measurements are taken as linear between samples; motor commands logged faster
    than HELD_HZ as held from their time stamp to the next, as the motors see them (a slower log
    leaves out commands, and linear is the better guess).

    Args:
        log: the flight.
        names: signals to bring together.
        dt: cell width [s].

    Raises:
        AlulaError: the signals overlap in fewer than 16 cells.
    """
    signals = [log.signals[name] for name in names]
    start = max(s.time_s[0] for s in signals)
    end = min(s.time_s[-1] for s in signals)
    n = int((end - start) / dt) if end > start else 0
    if n < 16:
        raise AlulaError(
            f"log {log.path}: {', '.join(names)} overlap for {max(end - start, 0.0):.3f} s; "
            f"allowed: at least {16 * dt:.3f} s"
        )
    edges = start + dt * np.arange(n + 1)
    valid = np.ones(n, dtype=bool)
    values: dict[str, np.ndarray] = {}
    for name, signal in zip(names, signals, strict=True):
        values[name] = _cell_means(signal, edges, held=_held(name, signal))
        for lo, hi in _gaps(signal):
            valid[max(int((lo - start) / dt), 0) : max(int((hi - start) / dt) + 1, 0)] = False
    return Grid(time_s=edges[:-1] + 0.5 * dt, dt=dt, values=values, valid=valid)


def _held(name: str, signal: Signal) -> bool:
    return name.startswith("motor_") and rate_hz(signal) > HELD_HZ


def _cell_means(signal: Signal, edges: np.ndarray, held: bool) -> np.ndarray:
    step = np.diff(signal.time_s)
    following = signal.value[:-1] if held else signal.value[1:]
    # Integral of the held or linearly joined samples up to each sample.
    area = np.concatenate(([0.0], np.cumsum(0.5 * step * (following + signal.value[:-1]))))
    k = np.clip(np.searchsorted(signal.time_s, edges, side="right") - 1, 0, step.size - 1)
    ahead = edges - signal.time_s[k]
    slope = (following[k] - signal.value[k]) / step[k]
    integral = area[k] + ahead * (signal.value[k] + 0.5 * slope * ahead)
    return np.diff(integral) / np.diff(edges)


def _gaps(signal: Signal) -> list[tuple[float, float]]:
    step = np.diff(signal.time_s)
    at = np.flatnonzero(step > max(GAP_FACTOR * float(np.median(step)), GAP_MIN_S))
    return [(float(signal.time_s[i]), float(signal.time_s[i + 1])) for i in at]
