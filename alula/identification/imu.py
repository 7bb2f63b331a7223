"""Thrust, rotor lag and inertia from motor commands and the inertial unit alone."""

from dataclasses import dataclass

import numpy as np

from alula.errors import AlulaError
from alula.identification.findings import Findings
from alula.identification.inertia import (
    RatioFit,
    angular_acceleration,
    fit_ratio,
    low_pass,
    rotor_torques,
)
from alula.identification.logs import FlightLog
from alula.identification.motion import RATES
from alula.identification.resample import Grid, rate_hz, regular
from alula.identification.thrust import (
    LAG_MAX,
    LAG_MIN,
    ThrustFit,
    drifting_thrust,
    fit_asymmetric,
    fit_symmetric,
)
from alula.robots.multirotor import Multirotor

GRID_S = 0.004
"""Finest grid [s]: 20 to 40 times finer than the lags to be found."""
MAX_SAMPLES = 15000
"""Longer flights are put on a coarser grid, so that the time to identify stays bounded."""
MIN_THROTTLE_STD = 0.003
"""Least variation of the mean throttle that shows a thrust curve [-]."""
MIN_R2 = 0.5
"""Least share of variance that a fit must explain."""
MAX_LAG_SPREAD = 0.6
"""A lag whose 95 % interval is wider than +- this share is not observable."""
_ALL_THRUST = ("thrust_curve_n", "rotor_lag_s", "rotor_lag_up_s", "rotor_lag_down_s")


@dataclass(frozen=True)
class ImuThrust:
    """Thrust fits with the grid they were made on."""

    grid: Grid
    """Motors, specific force and, where logged, body rates."""
    symmetric: ThrustFit
    """One lag."""
    best: ThrustFit
    """Separate lags where observable, else the symmetric fit."""


def motor_names(log: FlightLog) -> tuple[str, ...]:
    """motor_1..motor_R."""
    return tuple(f"motor_{k + 1}" for k in range(log.n_motors))


def estimate_thrust(
    log: FlightLog, mass: float, found: Findings, thrust_per_speed2: float | None = None
) -> ImuThrust | None:
    """Thrust curve and lags into `found`; None where the log or the flight does not show them.

    Args:
        log: the flight.
        mass: [kg].
        found: takes the estimates.
        thrust_per_speed2: where rotor speeds are logged and their thrust coefficient is known
            [N/(rad/s)^2], thrust is taken from them instead of from the specific force.
    """
    inputs = _inputs(log, mass, found, thrust_per_speed2)
    if inputs is None:
        return None
    grid, throttle, force, timing = inputs
    varies = float(throttle[grid.valid].mean(axis=1).std()) if grid.valid.sum() > 16 else 0.0
    if varies < MIN_THROTTLE_STD:
        _none(
            found,
            f"mean throttle varies by {varies:.4f} (std) only; allowed: >= {MIN_THROTTLE_STD}, "
            "so fly up and down steps",
        )
        return None
    symmetric = fit_symmetric(throttle, force, grid.valid, grid.dt)
    found.r2["thrust"] = symmetric.r2
    flaw = _flaw(symmetric)
    if flaw:
        _none(found, flaw)
        return None
    _record(found, symmetric, "thrust", ("rotor_lag_s",), timing)
    best = fit_asymmetric(throttle, force, grid.valid, grid.dt, symmetric.lag_up_s)
    found.r2["thrust_up_down"] = best.r2
    flaw = _flaw(best)
    if flaw:
        for key in ("rotor_lag_up_s", "rotor_lag_down_s"):
            found.missing(key, f"separate lags: {flaw}")
        best = symmetric
    else:
        keys = ("rotor_lag_up_s", "rotor_lag_down_s")
        _record(found, best, "thrust_up_down", keys, timing)
    flown = np.percentile(throttle[grid.valid], (1.0, 99.0))
    found.extras["throttle_flown"] = [float(flown[0]), float(flown[1])]
    _series(found, grid, best)
    return ImuThrust(grid=grid, symmetric=symmetric, best=best)


def _inputs(
    log: FlightLog, mass: float, found: Findings, thrust_per_speed2: float | None
) -> tuple[Grid, np.ndarray, np.ndarray, float] | None:
    """Grid, throttle (T, R), total thrust (T,) [N], timing uncertainty [s]; None: see `found`."""
    motors = motor_names(log)
    measured = ("acc_z_m_s2",)
    if thrust_per_speed2 is not None:
        measured = tuple(f"rotor_speed_{k + 1}_rad_s" for k in range(log.n_rotor_speeds))
    if not motors or not log.has(*measured):
        lacking = "specific force along body z" if motors else "motor commands"
        _none(found, f"no {lacking} in the log")
        return None
    try:
        grid = _grid(log, (*motors, *measured))
    except AlulaError as e:
        _none(found, str(e))
        return None
    if thrust_per_speed2 is None:
        force = mass * grid.values["acc_z_m_s2"]
    else:
        force = thrust_per_speed2 * np.sum(grid.stack(*measured) ** 2, axis=1)
    # A command may have been given up to one sample before it was logged, a force measured so.
    timing = 0.5 * max(1.0 / rate_hz(log.signals[n]) for n in (*motors, *measured))
    return grid, grid.stack(*motors), force, timing


def _grid(log: FlightLog, names: tuple[str, ...]) -> Grid:
    """All the names, and the body rates where they are, on one grid of bounded length."""
    names = names + tuple(n for n in RATES if log.has(n))
    dt = max([GRID_S, *(1.0 / rate_hz(log.signals[n]) for n in names)])
    return regular(log, names, max(dt, (log.end_s - log.start_s) / MAX_SAMPLES))


def _none(found: Findings, reason: str) -> None:
    for quantity in _ALL_THRUST:
        found.missing(quantity, reason)


def _flaw(fit: ThrustFit) -> str:
    """Why a thrust fit cannot be trusted; empty when it can."""
    if fit.r2 < MIN_R2:
        return f"throttle explains R2 {fit.r2:.2f} of the specific force; allowed: >= {MIN_R2}"
    if fit.intervals["slope"][0] <= 0.0:
        lo, hi = fit.intervals["slope"]
        return f"slope of the thrust curve {lo:.3g}..{hi:.3g} N includes 0"
    names = ("lag",) if "lag" in fit.intervals else ("lag_up", "lag_down")
    for name, lag in zip(names, (fit.lag_up_s, fit.lag_down_s), strict=False):
        lo, hi = fit.intervals[name]
        if not 1.05 * LAG_MIN < lag < 0.95 * LAG_MAX or hi - lag > MAX_LAG_SPREAD * lag:
            return f"{name} {lag:.3f} s with interval {lo:.3f}..{hi:.3f} s is not determined"
    return ""


def _record(
    found: Findings, fit: ThrustFit, prefix: str, lag_keys: tuple[str, ...], timing_s: float
) -> None:
    """Curve and lags with intervals; those of the lags grow by half a sample of the log."""
    for i in range(3):
        found.found(f"{prefix}_c{i}_n", fit.curve_n[i], fit.intervals[f"c{i}"])
    names = ("lag",) if len(lag_keys) == 1 else ("lag_up", "lag_down")
    for key, name, lag in zip(lag_keys, names, (fit.lag_up_s, fit.lag_down_s), strict=False):
        half = float(np.hypot(fit.intervals[name][1] - lag, timing_s))
        found.found(key, lag, (lag - half, lag + half))


def _series(found: Findings, grid: Grid, fit: ThrustFit) -> None:
    found.series |= {
        "time_s": grid.time_s,
        "valid": grid.valid,
        "measured_force_n": fit.measured_n,
        "fitted_force_n": fit.fitted_n,
        "rotor_speed": fit.speed,
        "curve_n": np.asarray(fit.curve_n),
        "curve_deviations_n": fit.deviations * fit.widen,
    }


def estimate_inertia(
    log: FlightLog, robot: Multirotor | None, fit: ImuThrust | None, found: Findings
) -> None:
    """Roll and pitch inertia, and the yaw torque ratio, into `found`."""
    keys = ("inertia_x_kg_m2", "inertia_y_kg_m2")
    reason = ""
    if fit is None:
        reason = "needs the rotors' thrust, which this log does not show"
    elif not all(n in fit.grid.values for n in RATES):
        reason = "no body rates in the log"
    elif robot is None:
        reason = "needs the rotors' positions: name a base robot"
    elif robot.n_rotors != log.n_motors:
        reason = f"base robot {robot.name} has {robot.n_rotors} rotors, the log {log.n_motors}"
    if reason or fit is None or robot is None:
        for key in (*keys, "inertia_z_kg_m2", "torque_per_thrust_m"):
            found.missing(key, reason)
        return
    grid, thrust_fit = fit.grid, fit.best
    # Speed carries errors too, so the slope of the thrust curve lies between the regression of
    # force on speed and its inverse (a factor 1/R2); take the middle as for the inertia itself.
    steeper = 1.0 / np.sqrt(thrust_fit.r2)
    thrust = steeper * drifting_thrust(thrust_fit, grid.time_s, grid.valid)
    torque = rotor_torques(
        thrust, np.asarray(robot.rotor_position_b), np.asarray(robot.rotor_spin, dtype=float)
    )
    torque = low_pass(torque, grid.dt)
    acceleration = angular_acceleration(grid.stack(*RATES), grid.dt)
    sigma = _scale_sigma(thrust_fit)
    for axis, key in enumerate(keys):
        ratio = fit_ratio(
            torque[:, axis], acceleration[:, axis], grid.valid, grid.dt, relative_sigma=sigma
        )
        name = "xy"[axis]
        found.r2[f"inertia_{name}"] = ratio.r2
        found.series |= {f"torque_{name}": ratio.x, f"angular_acceleration_{name}": ratio.y}
        if ratio.observable:
            span = (ratio.interval[0] / steeper, ratio.interval[1] * steeper)
            found.found(key, ratio.value, span)
            found.extras[f"torque_delay_{name}_s"] = ratio.delay_s
            found.series[f"inertia_{name}"] = np.array([ratio.value, ratio.low, ratio.high])
        else:
            found.missing(key, _weak(ratio, "kg m^2"))
    _yaw(fit_ratio(acceleration[:, 2], torque[:, 2], grid.valid, grid.dt, delay_s=0.0), found)


def _scale_sigma(fit: ThrustFit) -> float:
    """Relative uncertainty of torque * lag: of the curve's slope and of the lag, together."""
    lo, hi = fit.intervals["slope"]
    slope = (hi - lo) / (hi + lo) / 1.96
    lag = float(np.mean(np.std(fit.lag_deviations, axis=0)) * fit.widen)
    return float(np.hypot(slope, lag / (0.5 * (fit.lag_up_s + fit.lag_down_s))))


def _weak(ratio: RatioFit, unit: str) -> str:
    if not np.isfinite(ratio.value) or ratio.low <= 0.0:
        return "torque and angular acceleration are not related in this flight"
    return (
        f"only bounded to {ratio.low:.3g}..{ratio.high:.3g} {unit} (torque explains R2 "
        f"{ratio.r2:.2f} of the angular acceleration; needed: > 0.5); fly quick rolls and pitches"
    )


def _yaw(ratio: RatioFit, found: Findings) -> None:
    """Yaw shows at most torque_per_thrust / Izz, never one of them alone."""
    found.r2["yaw"] = ratio.r2
    found.missing("inertia_z_kg_m2", "yaw shows only the ratio torque_per_thrust / Izz")
    if ratio.observable:
        lo, hi = ratio.interval
        found.extras["torque_per_thrust_per_izz"] = ratio.value
        found.intervals["torque_per_thrust_per_izz"] = ratio.interval
        found.missing(
            "torque_per_thrust_m",
            f"only its ratio to Izz is seen: {ratio.value:.4g} (95 %: {lo:.4g}..{hi:.4g}) 1/(kg m)",
        )
    else:
        found.missing("torque_per_thrust_m", _weak(ratio, "1/(kg m) over Izz"))
