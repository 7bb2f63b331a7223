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
    if up == down:
        from scipy.signal import lfilter

        a = np.exp(-dt / up)
        end, _ = lfilter([1.0 - a], [1.0, -a], throttle, axis=0, zi=a * throttle[:1])
        return 0.5 * (np.concatenate((throttle[:1], end[:-1])) + end)
    gain_up, gain_down = -np.expm1(-dt / up), -np.expm1(-dt / down)
    s = throttle[0].copy()
    out = np.empty_like(throttle)
    for k in range(throttle.shape[0]):
        error = throttle[k] - s
        step = np.where(error > 0.0, gain_up, gain_down) * error
        out[k] = s + 0.5 * step
        s = s + step
    return out


def _lag_moments(
    throttle: np.ndarray, dt: float, ups: np.ndarray, downs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over rotors of s and s^2 for K pairs of lags at once: two arrays (T, K)."""
    gain_up = -np.expm1(-dt / ups)[:, None]
    gain_down = -np.expm1(-dt / downs)[:, None]
    s = np.repeat(throttle[:1], ups.size, axis=0)
    first = np.empty((throttle.shape[0], ups.size))
    second = np.empty_like(first)
    for k in range(throttle.shape[0]):
        error = throttle[k] - s
        step = np.where(error > 0.0, gain_up, gain_down) * error
        middle = s + 0.5 * step
        s += step
        first[k] = middle.sum(axis=1)
        second[k] = np.einsum("kr,kr->k", middle, middle)
    return first, second


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

    Variable projection: for every lag the curve is a linear fit; the lag is found by a bounded
    scalar search.

    Args:
        throttle: commanded throttle (T, R).
        force: mass * specific force along body z [N] (T,).
        valid: samples to use (T,).
        dt: step [s].
    """
    from scipy.optimize import minimize_scalar

    r = throttle.shape[1]

    def cost(log_lag: float) -> float:
        lag = float(np.exp(log_lag))
        s = lagged_throttle(throttle, dt, lag, lag)
        return _sum_of_squares(_design(s.sum(1), (s * s).sum(1), r)[valid], force[valid])

    grid = np.log(np.geomspace(LAG_MIN, LAG_MAX, 15))
    best = int(np.argmin([cost(x) for x in grid]))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)])
    found = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    lag = float(np.exp(found.x))
    return _finish(throttle, force, valid, dt, (lag,))


def fit_asymmetric(
    throttle: np.ndarray, force: np.ndarray, valid: np.ndarray, dt: float, start: float
) -> ThrustFit:
    """Separate lags for rise and fall, around the symmetric lag `start` [s].

    The best pair of a coarse grid, then Gauss-Newton steps on curve and lags together;
    arguments as fit_symmetric.
    """
    r = throttle.shape[1]
    lags = _coarse_lags(throttle, force, valid, dt, start)
    for _ in range(_STEPS):
        # Columns: the curve's design and the model's derivative by each lag (differences).
        h = 1e-3 * lags
        first, second = _lag_moments(
            throttle, dt, lags[0] + np.array([0, h[0], 0]), lags[1] + np.array([0, 0, h[1]])
        )
        designs = [_design(first[valid, k], second[valid, k], r) for k in range(3)]
        c, *_ = np.linalg.lstsq(designs[0], force[valid], rcond=None)
        moved = [(designs[k + 1] - designs[0]) @ c / h[k] for k in range(2)]
        jacobian = np.column_stack((designs[0], *moved))
        step, *_ = np.linalg.lstsq(jacobian, force[valid] - designs[0] @ c, rcond=None)
        new = np.clip(lags + step[3:], lags / 1.5, lags * 1.5)
        new = np.clip(new, LAG_MIN, LAG_MAX)
        if np.all(np.abs(new - lags) < 1e-4 * lags):
            break
        lags = new
    return _finish(throttle, force, valid, dt, (float(lags[0]), float(lags[1])))


def _coarse_lags(
    throttle: np.ndarray, force: np.ndarray, valid: np.ndarray, dt: float, start: float
) -> np.ndarray:
    """Best pair of a grid around `start` [s], on the data thinned to about start / 5."""
    thin = max(int(start / 5.0 / dt), 1)
    n = throttle.shape[0] // thin * thin

    def thinned(x: np.ndarray) -> np.ndarray:
        return x[:n].reshape(n // thin, thin, *x.shape[1:]).mean(axis=1)

    u, y, ok = thinned(throttle), thinned(force), thinned(valid.astype(float)) == 1.0
    factors = np.geomspace(0.3, 3.3, 6)
    ups, downs = (a.ravel() for a in np.meshgrid(start * factors, start * factors, indexing="ij"))
    first, second = _lag_moments(u, thin * dt, ups, downs)
    costs = [
        _sum_of_squares(_design(first[ok, k], second[ok, k], u.shape[1]), y[ok])
        for k in range(ups.size)
    ]
    best = int(np.argmin(costs))
    return np.clip(np.array([ups[best], downs[best]]), LAG_MIN, LAG_MAX)


def _finish(
    throttle: np.ndarray,
    force: np.ndarray,
    valid: np.ndarray,
    dt: float,
    lags: tuple[float, ...],
) -> ThrustFit:
    """Curve, R2 and intervals at given lags."""
    r = throttle.shape[1]
    s = lagged_throttle(throttle, dt, lags[0], lags[-1])
    design = _design(s.sum(1), (s * s).sum(1), r)
    c, *_ = np.linalg.lstsq(design[valid], force[valid], rcond=None)
    fitted = design @ c
    residual = (force - fitted)[valid]
    columns = [design]
    for i, lag in enumerate(lags):
        h = 1e-3 * lag
        moved = list(lags)
        moved[i] += h
        s_moved = lagged_throttle(throttle, dt, moved[0], moved[-1])
        moved_fit = _design(s_moved.sum(1), (s_moved * s_moved).sum(1), r) @ c
        columns.append(((moved_fit - fitted) / h)[:, None])
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
