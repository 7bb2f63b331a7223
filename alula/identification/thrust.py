"""Thrust curve and rotor lag from throttle and specific force."""

from dataclasses import dataclass

import numpy as np

from alula.identification.intervals import bootstrap_fit, interval

LAG_MIN, LAG_MAX = 0.005, 0.5
"""Range in which a rotor lag is looked for [s]."""
_STEPS = 12
"""Most Gauss-Newton steps of the asymmetric fit."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class ThrustFit:
    """T = c0 + c1 s + c2 s^2 per rotor, ds/dt = (throttle - s) / lag, fitted to m * acc_z."""

    curve_n: tuple[float, float, float]
    """c0, c1, c2 [N]."""
    lag_up_s: float
    """Time constant while the throttle is above s [s]."""
    lag_down_s: float
    """Time constant while the throttle is below s [s]; equal to lag_up_s in a symmetric fit."""
    r2: float
    """Share of the variance of the specific force that the fit explains."""
    intervals: dict[str, Interval]
    """95 % intervals: c0, c1, c2, slope, lag (symmetric) or lag_up, lag_down."""
    deviations: np.ndarray
    """Bootstrap deviations of (c0, c1, c2) (SAMPLES, 3), for the band of the thrust curve."""
    lag_deviations: np.ndarray
    """Bootstrap deviations of the lag(s) (SAMPLES, 1 or 2)."""
    widen: float
    """Student factor for few independent blocks."""
    fitted_n: np.ndarray
    """Total thrust of the model, on all samples (T,)."""
    measured_n: np.ndarray
    """mass * acc_z (T,)."""
    speed: np.ndarray
    """Lagged throttle s of every rotor (T, R)."""


def lagged_throttle(throttle: np.ndarray, dt: float, up: float, down: float) -> np.ndarray:
    """First-order lag with separate time constants; starts settled at the first throttle.

    Exact for a throttle held over each step: s += (1 - exp(-dt / lag)) (u - s). The mean of the
    step's two ends is returned, because measurements on the grid are cell means.

    Args:
        throttle: (T, R).
        dt: step [s].
        up: time constant while u > s [s].
        down: time constant while u < s [s].

    Returns:
        s (T, R).
    """
    return _lagged(throttle, dt, np.array([up]), np.array([down]))[:, 0]


def _lagged(throttle: np.ndarray, dt: float, ups: np.ndarray, downs: np.ndarray) -> np.ndarray:
    """`lagged_throttle` for K pairs of lags at once (T, K, R)."""
    gain_up = -np.expm1(-dt / ups)[:, None]
    gain_down = -np.expm1(-dt / downs)[:, None]
    s = np.repeat(throttle[:1], ups.size, axis=0)
    middle = np.empty((throttle.shape[0], *s.shape))
    for k in range(throttle.shape[0]):
        error = throttle[k] - s
        # half a step to the middle of the cell, half a step to its end
        error *= np.where(error > 0.0, gain_up, gain_down) * 0.5
        s += error
        middle[k] = s
        s += error
    return middle


def _lag_moments(
    throttle: np.ndarray, dt: float, ups: np.ndarray, downs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over rotors of s and s^2 for K pairs of lags: two arrays (T, K)."""
    s = _lagged(throttle, dt, ups, downs)
    return s.sum(axis=2), np.einsum("tkr,tkr->tk", s, s)


def _design(first: np.ndarray, second: np.ndarray, n_rotors: int) -> np.ndarray:
    # total thrust = R c0 + c1 sum(s) + c2 sum(s^2)
    return np.stack([np.full(first.shape, float(n_rotors)), first, second], axis=1)


def _sum_of_squares(design: np.ndarray, force: np.ndarray) -> float:
    coefficients, *_ = np.linalg.lstsq(design, force, rcond=None)
    return float(np.sum((force - design @ coefficients) ** 2))


def fit_symmetric(
    throttle: np.ndarray, force: np.ndarray, valid: np.ndarray, dt: float
) -> ThrustFit:
    """One lag for rise and fall.

    For every lag the curve is a linear fit; the best lag of a coarse grid is refined by
    Gauss-Newton steps on curve and lag together.

    Args:
        throttle: commanded throttle (T, R).
        force: mass * specific force along body z [N] (T,).
        valid: samples to use (T,).
        dt: step [s].
    """
    grid = np.geomspace(LAG_MIN, LAG_MAX, 15)
    lag = _best_pair(*_thinned(throttle, force, valid, dt, max(int(0.012 / dt), 1)), grid, grid)[:1]
    lags = _refined(throttle, force, valid, dt, lag)
    return _finish(throttle, force, valid, dt, (float(lags[0]),))


def fit_asymmetric(
    throttle: np.ndarray, force: np.ndarray, valid: np.ndarray, dt: float, start: float
) -> ThrustFit:
    """Separate lags for rise and fall, around the symmetric lag `start` [s].

    The best pair of a coarse grid, then Gauss-Newton steps on curve and lags together;
    arguments as fit_symmetric.
    """
    factors = start * np.geomspace(0.3, 3.3, 6)
    ups, downs = (a.ravel() for a in np.meshgrid(factors, factors, indexing="ij"))
    thin = max(int(start / 5.0 / dt), 1)
    pair = _best_pair(*_thinned(throttle, force, valid, dt, thin), ups, downs)
    lags = _refined(throttle, force, valid, dt, pair)
    return _finish(throttle, force, valid, dt, (float(lags[0]), float(lags[1])))


def _thinned(
    throttle: np.ndarray, force: np.ndarray, valid: np.ndarray, dt: float, factor: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """The same data on a coarser grid, good enough to find where to start."""
    n = throttle.shape[0] // factor * factor

    def means(x: np.ndarray) -> np.ndarray:
        return x[:n].reshape(n // factor, factor, *x.shape[1:]).mean(axis=1)

    whole = means(valid.astype(float)) == 1.0
    return means(throttle), means(force), whole, factor * dt


def _best_pair(
    throttle: np.ndarray,
    force: np.ndarray,
    valid: np.ndarray,
    dt: float,
    ups: np.ndarray,
    downs: np.ndarray,
) -> np.ndarray:
    """Of K pairs of lags [s] the one (2,) with the least sum of squares."""
    first, second = _lag_moments(throttle, dt, ups, downs)
    costs = [
        _sum_of_squares(_design(first[valid, k], second[valid, k], throttle.shape[1]), force[valid])
        for k in range(ups.size)
    ]
    best = int(np.argmin(costs))
    return np.clip(np.array([ups[best], downs[best]]), LAG_MIN, LAG_MAX)


def _refined(
    throttle: np.ndarray, force: np.ndarray, valid: np.ndarray, dt: float, lags: np.ndarray
) -> np.ndarray:
    """Gauss-Newton on curve and lags together; one lag (1,) stands for both, two (2,) for each."""
    r = throttle.shape[1]
    for _ in range(_STEPS):
        # Columns: the curve's design and the model's derivative by each lag (differences).
        h = 1e-3 * lags
        trials = np.vstack((lags, lags + np.diag(h)))
        first, second = _lag_moments(throttle, dt, trials[:, 0], trials[:, -1])
        designs = [_design(first[valid, k], second[valid, k], r) for k in range(len(trials))]
        c, *_ = np.linalg.lstsq(designs[0], force[valid], rcond=None)
        moved = [(designs[k + 1] - designs[0]) @ c / h[k] for k in range(lags.size)]
        jacobian = np.column_stack((designs[0], *moved))
        step, *_ = np.linalg.lstsq(jacobian, force[valid] - designs[0] @ c, rcond=None)
        new = np.clip(lags + step[3:], lags / 1.5, lags * 1.5)
        new = np.clip(new, LAG_MIN, LAG_MAX)
        done = np.all(np.abs(new - lags) < 1e-3 * lags)
        lags = new
        if done:
            break
    return lags


def _finish(
    throttle: np.ndarray,
    force: np.ndarray,
    valid: np.ndarray,
    dt: float,
    lags: tuple[float, ...],
) -> ThrustFit:
    """Curve, R2 and intervals at given lags."""
    r = throttle.shape[1]
    h = 1e-3 * np.asarray(lags)
    trials = np.vstack((lags, np.asarray(lags) + np.diag(h)))
    speeds = _lagged(throttle, dt, trials[:, 0], trials[:, -1])
    designs = [_design(v.sum(1), (v * v).sum(1), r) for v in np.moveaxis(speeds, 1, 0)]
    s, design = speeds[:, 0], designs[0]
    c, *_ = np.linalg.lstsq(design[valid], force[valid], rcond=None)
    fitted = design @ c
    residual = (force - fitted)[valid]
    columns = [
        design,
        *(((d @ c - fitted) / step)[:, None] for d, step in zip(designs[1:], h, strict=True)),
    ]
    deviations, widen = bootstrap_fit(np.concatenate(columns, axis=1)[valid], residual)
    mean_s = float(s[valid].mean())
    # slope of the curve at the mean working point: dT/ds = c1 + 2 c2 s
    slope, slope_dev = c[1] + 2 * c[2] * mean_s, deviations[:, 1] + 2 * mean_s * deviations[:, 2]
    names = ("lag",) if len(lags) == 1 else ("lag_up", "lag_down")
    spans = {f"c{i}": interval(float(c[i]), deviations[:, i], widen) for i in range(3)}
    spans["slope"] = interval(float(slope), slope_dev, widen)
    for i, name in enumerate(names):
        spans[name] = interval(lags[i], deviations[:, 3 + i], widen)
    return ThrustFit(
        curve_n=(float(c[0]), float(c[1]), float(c[2])),
        lag_up_s=lags[0],
        lag_down_s=lags[-1],
        r2=float(1.0 - residual.var() / force[valid].var()),
        intervals=spans,
        deviations=deviations[:, :3],
        lag_deviations=deviations[:, 3:],
        widen=widen,
        fitted_n=fitted,
        measured_n=force,
        speed=s,
    )


def drifting_thrust(fit: ThrustFit, time_s: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Thrust of every rotor with the battery's slow fall allowed for (T, R) [N].

    T = c0 + c1 s + c2 s^2 + (t - t_mid) (d0 + d1 s), all five fitted to the total: a discharging
    battery lowers thrust during the flight, which otherwise bends the curve and flattens the
    slope that moments are computed with.
    """
    s, r = fit.speed, fit.speed.shape[1]
    t = (time_s - time_s[valid].mean())[:, None]
    total = np.concatenate(
        (
            _design(s.sum(1), (s * s).sum(1), r),
            float(r) * t,
            t * s.sum(1, keepdims=True),
        ),
        axis=1,
    )
    c, *_ = np.linalg.lstsq(total[valid], fit.measured_n[valid], rcond=None)
    return c[0] + c[1] * s + c[2] * s * s + t * (c[3] + c[4] * s)
