"""From a flight log to a robot: estimate what the flight shows, name what it does not."""

import math
from pathlib import Path

import numpy as np

import alula
from alula.errors import AlulaError
from alula.identification.complete import base_robot, complete_robot
from alula.identification.effectiveness import SIGNALS, control_effectiveness
from alula.identification.findings import Findings
from alula.identification.imu import estimate_inertia, estimate_thrust
from alula.identification.logs import FlightLog, read_log
from alula.identification.motion import (
    ACCELERATION,
    QUATERNION,
    VELOCITY,
    body_acceleration,
    fit_drag,
)
from alula.identification.noise import resting_interval, resting_noise
from alula.identification.resample import rate_hz, regular
from alula.identification.result import Identification
from alula.identification.speed_based import (
    SpeedModel,
    fit_speed_model,
    prepare,
    without_spikes,
)
from alula.robots.multirotor import Multirotor

MIN_FLIGHT_S = 2.0
"""Shortest flight that is looked for when no window is given [s]."""


def identify(
    path: str | Path,
    *,
    mass: float,
    from_s: float | None = None,
    to_s: float | None = None,
    columns: dict[str, str] | None = None,
    name: str | None = None,
    base: str | None = None,
) -> Identification:
    """Identify a multirotor from a flight log.

    Args:
        path: the log; see `alula.identification.logs.read_log` for formats.
        mass: take-off mass in that flight [kg]; a log cannot tell it.
        from_s: start of the part to use, in the log's own clock [s]; None finds the flight.
        to_s: end of the part to use [s].
        columns: our signal name -> the file's column.
        name: name of the robot; None takes the base robot's name with "-identified".
        base: robot (name or file) that gives rotor geometry and whatever the flight does not
            show; None chooses by the kind of log (docs/identify.md).

    Returns:
        Estimates with 95 % intervals and the completed robot.

    Raises:
        AlulaError: bad mass, window or log.
    """
    if not (isinstance(mass, int | float) and math.isfinite(mass) and mass > 0.0):
        raise AlulaError(f"mass is {mass} kg; allowed: a finite mass > 0")
    whole, spikes = without_spikes(body_acceleration(read_log(path, columns)))
    start, end = flight_window(whole) if from_s is None and to_s is None else (from_s, to_s)
    log = whole.window(start, end)
    robot = base_robot(base, log)
    found = Findings()
    noise = _noise(whole, found)
    model = _speed_model(log, mass, robot, found, spikes)
    if model is None:
        fit = estimate_thrust(log, mass, found)
        estimate_inertia(log, robot, fit, found)
        _drag(log, mass, found)
    else:
        estimate_thrust(log, mass, found, model.thrust_per_speed2)
    _effectiveness(log, found)
    completed = complete_robot(found, robot, log, mass=mass, name=name, noise=noise)
    return _freeze(found, whole, log, mass, completed, noise)


def flight_window(log: FlightLog) -> tuple[float, float]:
    """Longest stretch with running motors, half a second shorter at each end [s].

    A motor counts as running above half of the level that it exceeds a tenth of the time; pauses
    up to half a second belong to the flight. A log without motors, or without such a stretch, is
    used whole.
    """
    whole = (log.start_s, log.end_s)
    if log.n_motors == 0:
        return whole
    names = tuple(f"motor_{k + 1}" for k in range(log.n_motors))
    try:
        grid = regular(log, names, 0.1)
    except AlulaError:
        return whole
    level = grid.stack(*names).mean(axis=1)
    running = np.flatnonzero(level > max(0.5 * np.percentile(level, 90), 0.02))
    if running.size == 0:
        return whole
    runs = np.split(running, np.flatnonzero(np.diff(running) > 5) + 1)
    longest = max(runs, key=len)
    lo, hi = grid.time_s[longest[0]] + 0.5, grid.time_s[longest[-1]] - 0.5
    return (float(lo), float(hi)) if hi - lo >= MIN_FLIGHT_S else whole


def _noise(log: FlightLog, found: Findings) -> dict[str, dict[str, float]]:
    span = resting_interval(log)
    if span is None:
        found.missing(
            "noise", "no stretch of 2 s at rest with motors off; log some seconds on the ground"
        )
        return {}
    found.extras["rest_s"] = list(span)
    out: dict[str, dict[str, float]] = {}
    for key, value in resting_noise(log, span).items():
        out[key] = {"std": value.std, "mean": value.mean}
        found.intervals[f"noise.{key}"] = value.interval
    return out


def _speed_model(
    log: FlightLog, mass: float, robot: Multirotor | None, found: Findings, spikes: int
) -> SpeedModel | None:
    """Fit on measured rotor speeds where the log has all that it takes."""
    if log.n_rotor_speeds == 0 or robot is None or robot.n_rotors != log.n_rotor_speeds:
        return None
    try:
        flight = prepare(log)
    except AlulaError as e:
        found.missing("rotor_speed_model", str(e))
        return None
    model = fit_speed_model(flight, mass, robot)
    found.found("thrust_per_speed2", model.thrust_per_speed2, model.intervals["kf"])
    found.r2 |= model.r2
    for i, axis in enumerate("xyz"):
        found.found(f"drag_{axis}_n_s_m", model.drag[i], model.intervals[f"drag_{axis}"])
    for axis in "xy":
        key = f"inertia_{axis}_kg_m2"
        span = model.intervals[f"inertia_{axis}"]
        fit = model.regressions[axis]
        found.series |= {f"torque_{axis}": fit.x, f"angular_acceleration_{axis}": fit.y}
        if fit.observable:
            found.found(key, fit.value, span)
            found.series[f"inertia_{axis}"] = np.array([fit.value, fit.low, fit.high])
        else:
            found.missing(key, f"only bounded to {span[0]:.3g}..{span[1]:.3g} kg m^2")
    found.missing("inertia_z_kg_m2", "yaw shows only the ratio torque_per_thrust / Izz")
    found.missing(
        "torque_per_thrust_m",
        f"yaw torque explains R2 {model.r2['yaw']:.2f} of the yaw acceleration, and only as a "
        "ratio to Izz",
    )
    found.extras["rotor_speed_model"] = {
        "thrust_per_speed2": model.thrust_per_speed2,
        "alignment_s": flight.alignment_s,
        "speed_spikes_dropped": spikes,
        "speed_samples_held": flight.held,
        "flow_moment": model.flow_moment,
    }
    return model


def _drag(log: FlightLog, mass: float, found: Findings) -> None:
    needed = (*ACCELERATION, *VELOCITY, *QUATERNION)
    if not log.has(*needed):
        found.missing("drag_n_s_m", "needs velocity and attitude beside specific force")
        return
    dt = max(1.0 / rate_hz(log.signals[n]) for n in needed)
    try:
        grid = regular(log, needed, dt)
    except AlulaError as e:
        found.missing("drag_n_s_m", str(e))
        return
    for axis, fit in zip("xy", fit_drag(grid, mass), strict=True):
        if fit.observable:
            found.found(f"drag_{axis}_n_s_m", fit.value, fit.interval)
            found.r2[f"drag_{axis}"] = fit.r2
        else:
            found.missing(f"drag_{axis}_n_s_m", f"velocity explains R2 {fit.r2:.2f} of the force")
    found.missing("drag_z_n_s_m", "thrust hides the drag along its own axis")


def _effectiveness(log: FlightLog, found: Findings) -> None:
    if not log.has(*SIGNALS):
        return
    fit = control_effectiveness(log)
    found.extras["effectiveness"] = {
        "values": fit.values,
        "resampled": fit.resampled,
        "unit": "(rad/s^2) per PWM unit",
    }
    for key, span in fit.intervals.items():
        found.intervals[f"effectiveness.{key}"] = span
    for axis, r2 in fit.r2.items():
        found.r2[f"effectiveness_{axis}"] = r2


def _freeze(
    found: Findings,
    whole: FlightLog,
    log: FlightLog,
    mass: float,
    robot,
    noise: dict[str, dict[str, float]],
) -> Identification:
    v = found.values
    return Identification(
        log={
            "path": whole.path,
            "format": whole.format,
            "sha256": whole.sha256,
            "alula": alula.__version__,
        },
        from_s=log.start_s,
        to_s=log.end_s,
        mass_kg=float(mass),
        robot=robot,
        thrust_curve_n=found.get("thrust_c0_n", "thrust_c1_n", "thrust_c2_n"),  # type: ignore
        thrust_curve_up_down_n=found.get(  # type: ignore
            "thrust_up_down_c0_n", "thrust_up_down_c1_n", "thrust_up_down_c2_n"
        ),
        rotor_lag_s=v.get("rotor_lag_s"),
        rotor_lag_up_s=v.get("rotor_lag_up_s"),
        rotor_lag_down_s=v.get("rotor_lag_down_s"),
        inertia_kg_m2=(
            v.get("inertia_x_kg_m2"),
            v.get("inertia_y_kg_m2"),
            v.get("inertia_z_kg_m2"),
        ),
        torque_per_thrust_m=v.get("torque_per_thrust_m"),
        drag_n_s_m=(v.get("drag_x_n_s_m"), v.get("drag_y_n_s_m"), v.get("drag_z_n_s_m")),
        r2=found.r2,
        noise=noise,
        intervals=found.intervals,
        unobservable=[f"{quantity}: {reason}" for quantity, reason in found.reasons.items()],
        extras=found.extras,
        series=found.series,
    )
