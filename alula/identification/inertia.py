"""Moments of inertia, and the yaw torque ratio, from rotor thrusts and body rates."""

from dataclasses import dataclass

import numpy as np

from alula.identification.intervals import SAMPLES, block_length, block_sums

CUTOFF_HZ = 25.0
"""Low-pass of torque and angular acceleration, the same for both [Hz]."""
MAX_SPREAD = 2.0
"""An estimate whose two regressions differ by more than this factor is called unobservable."""
_DELAYS_S = np.arange(-0.008, 0.0301, 0.001)


@dataclass(frozen=True)
class RatioFit:
    """k in x = k y, both noisy, between its two regressions."""

    value: float
    """Geometric mean of both regressions."""
    low: float
    """Regression of x on y: too small where y has noise."""
    high: float
    """Inverse regression of y on x: too large where x has noise."""
    interval: tuple[float, float]
    """From the 2.5 % point of the low to the 97.5 % point of the high regression."""
    r2: float
    """Squared correlation of x and y = low / high."""
    delay_s: float
    """By how much y comes after x [s]."""
    x: np.ndarray
    """Filtered, mean-free x on the valid samples, delayed."""
    y: np.ndarray
    """Filtered, mean-free y on the valid samples."""

    @property
    def observable(self) -> bool:
        """Whether both regressions agree within MAX_SPREAD and have the expected sign."""
        return (
            bool(np.isfinite(self.value)) and self.low > 0.0 and self.high < MAX_SPREAD * self.low
        )


def fit_ratio(
    x: np.ndarray,
    y: np.ndarray,
    valid: np.ndarray,
    dt: float,
    *,
    delay_s: float | None = None,
    relative_sigma: float = 0.0,
) -> RatioFit:
    """Slope between two noisy series, with its Frisch bounds.

    The regressions of x on y and of y on x bound the slope whichever of the two carries the
    noise (Frisch 1934); the truth lies between them as long as their errors are independent.

    Args:
        x: e.g. torque (T,).
        y: e.g. angular acceleration (T,).
        valid: samples to use (T,).
        dt: step [s].
        delay_s: delay of y behind x; searched for when None.
        relative_sigma: relative standard deviation of the scale of x, added to the interval.
    """
    if delay_s is None:
        candidates = [(abs(_correlation(_delayed(x, d, dt), y, valid)), d) for d in _DELAYS_S]
        delay_s = float(max(candidates)[1])
    a, b = _delayed(x, delay_s, dt)[valid], y[valid]
    a, b = a - a.mean(), b - b.mean()
    xx, xy, yy = float(a @ a), float(a @ b), float(b @ b)
    if xx <= 0.0 or yy <= 0.0 or xy == 0.0:
        nan = float("nan")
        return RatioFit(nan, nan, nan, (nan, nan), 0.0, delay_s, a, b)
    low, high = xy / yy, xx / xy
    terms = np.stack((a * a, a * b, b * b), axis=1)
    rng = np.random.default_rng(0)
    sums = block_sums(terms, block_length(terms - terms.mean(axis=0)), rng)
    scale = 1.0 + relative_sigma * rng.standard_normal(SAMPLES)
    span = (
        float(np.percentile(sums[:, 1] / sums[:, 2] * scale, 2.5)),
        float(np.percentile(sums[:, 0] / sums[:, 1] * scale, 97.5)),
    )
    return RatioFit(
        value=float(np.sign(xy) * np.sqrt(low * high)),
        low=low,
        high=high,
        interval=span,
        r2=xy * xy / (xx * yy),
        delay_s=delay_s,
        x=a,
        y=b,
    )


def rotor_torques(
    thrust: np.ndarray, rotor_position_b: np.ndarray, rotor_spin: np.ndarray
) -> np.ndarray:
    """Roll and pitch torque [N m] and yaw torque per torque_per_thrust [N] (T, 3).

    torque = sum r x (0, 0, T): x = sum y T, y = -sum x T; about z: sum -spin T.

    Args:
        thrust: of every rotor [N] (T, R).
        rotor_position_b: hubs, FLU [m] (R, 3).
        rotor_spin: +1 counter-clockwise (R,).
    """
    return np.stack(
        (thrust @ rotor_position_b[:, 1], -thrust @ rotor_position_b[:, 0], -thrust @ rotor_spin),
        axis=1,
    )


def angular_acceleration(rates: np.ndarray, dt: float) -> np.ndarray:
    """Low-passed derivative of the body rates (T, 3) [rad/s^2]; zero phase."""
    return np.gradient(low_pass(rates, dt), dt, axis=0)


def low_pass(x: np.ndarray, dt: float, cutoff_hz: float = CUTOFF_HZ) -> np.ndarray:
    """Zero-phase low-pass along the first axis; see `filtered`."""
    return filtered(x, dt, 0.0, cutoff_hz)


def filtered(x: np.ndarray, dt: float, low_hz: float, high_hz: float) -> np.ndarray:
    """What a second-order Butterworth, run forth and back, passes between two frequencies.

    gain = 1 / (1 + (f / high)^4) * 1 / (1 + (low / f)^4), applied to the spectrum of the series
    continued by point reflection at both ends. (scipy.signal does the same but takes more than a
    second to import.)

    Args:
        x: (T,) or (T, K).
        dt: step [s].
        low_hz: lower limit; 0 passes all slow changes.
        high_hz: upper limit, at most 0.4 / dt is used.
    """
    n = x.shape[0]
    pad = min(n - 1, max(int(2.0 / dt / max(low_hz, 1.0)), 1))
    front, back = 2.0 * x[:1] - x[pad:0:-1], 2.0 * x[-1:] - x[-2 : -pad - 2 : -1]
    series = np.concatenate((front, x, back))
    f = np.fft.rfftfreq(series.shape[0], dt)
    gain = 1.0 / (1.0 + (f / min(high_hz, 0.4 / dt)) ** 4)
    if low_hz > 0.0:
        gain *= f**4 / (f**4 + low_hz**4)
    gain = gain.reshape(-1, *([1] * (x.ndim - 1)))
    out = np.fft.irfft(np.fft.rfft(series, axis=0) * gain, series.shape[0], axis=0)
    return out[pad : pad + n]


def _delayed(x: np.ndarray, delay_s: float, dt: float) -> np.ndarray:
    at = np.arange(x.size) - delay_s / dt
    return np.interp(at, np.arange(x.size), x)


def _correlation(a: np.ndarray, b: np.ndarray, valid: np.ndarray) -> float:
    a, b = a[valid] - a[valid].mean(), b[valid] - b[valid].mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0.0 else 0.0
