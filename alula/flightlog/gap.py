"""The sim-to-real gap: the recorded commands through our equations, from the recorded state, in short windows."""

from dataclasses import dataclass

import numpy as np

from alula.flightlog.recording import Recording, Series
from alula.frames import quat_from_rot
from alula.identification.motion import QUATERNION, RATES, VELOCITY, attitude
from alula.identification.openloop import QUANTITIES, hold_errors, rotation_vector, turn
from alula.robots.multirotor import Multirotor
from alula.sim.multirotor.equations import Disturbance, Geometry, Params, State, rk4_step
from alula.sim.multirotor.simulator import nominal_params

HORIZONS_S = (0.5, 1.0)
"""Lengths of the predictions [s]."""
STEP_S = 0.05
"""Distance of the windows' starts [s]."""
PHYSICS_S = 0.0025
"""Longest physics step [s]."""
LEAD_S = 0.3
"""Commands needed before a window, from which its rotors' speeds follow [s]."""
GAP_S = 0.06
"""A window with a longer pause in the states or the commands is left out [s]."""
MAX_WINDOWS = 2000
DIVERGED = 1e6
"""A prediction beyond this in any SI unit has diverged."""
POSITION = ("position_x_m", "position_y_m", "position_z_m")


@dataclass(frozen=True, kw_only=True)
class Departure:
    """How far one quantity is from the log at the end of the windows, each axis."""

    sim: tuple[float, float, float]
    """Root mean square of the simulator's error along x, y, z."""
    bias: tuple[float, float, float]
    """Mean of predicted minus recorded: what the model gets wrong every time."""
    hold: tuple[float, float, float]
    """Root mean square error of keeping the window's first state."""
    constant: tuple[float, float, float]
    """Of going on with the window's first velocity and body rate."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The departures after one horizon."""

    horizon_s: float
    """Length of the windows [s]."""
    windows: int
    """Their number."""
    quantities: dict[str, Departure]
    """By quantity: position_m and velocity_m_s along the world's axes, attitude_rad and body_rate_rad_s along
    the body's."""
    time_s: np.ndarray
    """When each window ends [s] (W,)."""
    errors: dict[str, np.ndarray]
    """Predicted minus recorded at the end of each window, by quantity (W, 3)."""
    diverged: int
    """Further windows, left out, in which the prediction left all bounds."""


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """States at regular times, as `hold_errors` takes them."""

    time_s: np.ndarray
    dt: float
    position_w: np.ndarray
    velocity_w: np.ndarray
    quat_wb: np.ndarray
    rot_wb: np.ndarray
    angular_velocity_b: np.ndarray
    rotor_fraction: np.ndarray
    throttle: Series


def measure_gap(recording: Recording, robot: Multirotor) -> tuple[Gap, ...] | str:
    """The gap after each horizon, or in words why it cannot be measured.

    Disturbances are none, the robot is as its file says, commands act when they are stamped. The rotors' speeds
    at the start of a window follow from the commands before it.
    """
    names = (*POSITION, *VELOCITY, *QUATERNION, *RATES)
    missing = [n for n in names if not recording.signals.has(n)]
    throttle = recording.throttle
    if missing:
        return f"the log lacks {', '.join(missing)}"
    if throttle is None or throttle.value.shape[1] != robot.n_rotors:
        found = 0 if throttle is None else throttle.value.shape[1]
        return (
            f"the log has {found} rotor commands, robot {robot.name!r} has {robot.n_rotors} rotors"
        )
    states = {n: recording.signals.signals[n].time_s for n in names}
    lo = max(t[0] for t in (*states.values(), throttle.time_s))
    hi = min(t[-1] for t in (*states.values(), throttle.time_s))
    dt = float(np.clip(np.median(np.diff(states[POSITION[0]])), 0.002, 0.02))
    if hi - lo < LEAD_S + HORIZONS_S[0] + 2 * dt:
        return f"states and commands overlap for {max(hi - lo, 0.0):.2f} s"
    # begin at a sample: of regular samples none is interpolated then
    lo = float(states[POSITION[0]][np.searchsorted(states[POSITION[0]], lo)])
    grid = _grid(recording, throttle, robot, lo, hi, dt)
    streams = {
        "positions": states[POSITION[0]],
        "body rates": states[RATES[0]],
        "commands": throttle.time_s,
    }
    pauses = [_pauses(t) for t in streams.values()]
    gaps = []
    for horizon in HORIZONS_S:
        index = _windows(recording, grid, round(horizon / dt), pauses)
        found = _gap(grid, robot, index, round(horizon / dt)) if len(index) else None
        if found is not None:
            gaps.append(found)
    if gaps:
        return tuple(gaps)
    slow = max((float(np.median(np.diff(t))), n) for n, t in streams.items())
    return (
        f"no {HORIZONS_S[0]:g} s without a pause of more than {1e3 * GAP_S:.0f} ms while the policy flew; the "
        f"{slow[1]} come every {1e3 * slow[0]:.3g} ms"
    )


def _pauses(time_s: np.ndarray) -> list[tuple[float, float]]:
    k = np.flatnonzero(np.diff(time_s) > GAP_S)
    return [(float(time_s[i]), float(time_s[i + 1])) for i in k]


def _grid(
    recording: Recording, throttle: Series, robot: Multirotor, lo: float, hi: float, dt: float
) -> _Grid:
    time = lo + dt * np.arange(int((hi - lo) / dt) + 1)
    at: dict[str, np.ndarray] = {}
    for name in (*POSITION, *VELOCITY, *QUATERNION, *RATES):
        signal = recording.signals.signals[name]
        at[name] = np.interp(time, signal.time_s, signal.value)
    quat_signal = recording.series(*QUATERNION)
    assert quat_signal is not None
    rot_wb = attitude(Series(quat_signal.time_s, _continuous(quat_signal.value)).at(time))
    return _Grid(
        time_s=time,
        dt=dt,
        position_w=np.stack([at[n] for n in POSITION], axis=1),
        velocity_w=np.stack([at[n] for n in VELOCITY], axis=1),
        quat_wb=quat_from_rot(rot_wb),
        rot_wb=rot_wb,
        angular_velocity_b=np.stack([at[n] for n in RATES], axis=1),
        rotor_fraction=rotor_speeds(throttle, robot, time),
        throttle=throttle,
    )


def _continuous(quat: np.ndarray) -> np.ndarray:
    """The same attitudes with signs such that neighbours are near each other; q and -q are one rotation."""
    flips = np.sum(quat[1:] * quat[:-1], axis=1) < 0.0
    signs = np.concatenate(([1.0], np.where(np.cumsum(flips) % 2, -1.0, 1.0)))
    return quat * signs[:, None]


def rotor_speeds(throttle: Series, robot: Multirotor, time_s: np.ndarray) -> np.ndarray:
    """Rotor speeds over their maximum (len(time_s), R) that held commands lead to, from rest in the first one."""
    speed = np.empty_like(throttle.value)
    speed[0] = throttle.value[0]

    def after(start: np.ndarray, target: np.ndarray, span: np.ndarray | float) -> np.ndarray:
        # s(t) = u + (s0 - u) exp(-t / lag)
        lag = np.where(target > start, robot.rotor_lag_up, robot.rotor_lag_down)
        return target + (start - target) * np.exp(-span / lag)

    for k, span in enumerate(np.diff(throttle.time_s)):
        speed[k + 1] = after(speed[k], throttle.value[k], span)
    k = np.maximum(np.searchsorted(throttle.time_s, time_s, side="right") - 1, 0)
    return after(speed[k], throttle.value[k], (time_s - throttle.time_s[k])[:, None])


def _windows(
    recording: Recording, grid: _Grid, horizon: int, pauses: list[list[tuple[float, float]]]
) -> np.ndarray:
    """Grid indices at which windows start."""
    first = round(LEAD_S / grid.dt)
    index = np.arange(first, len(grid.time_s) - horizon, max(round(STEP_S / grid.dt), 1))
    start, end = grid.time_s[index], grid.time_s[index + horizon]
    good = np.zeros(len(index), bool)
    for a, b in recording.flying:
        good |= (start >= a) & (end <= b)
    for stream in pauses:
        for a, b in stream:
            good &= (end <= a) | (start - LEAD_S >= b)
    index = index[good]
    return index[:: -(-len(index) // MAX_WINDOWS)] if len(index) else index


def _gap(grid: _Grid, robot: Multirotor, index: np.ndarray, horizon: int) -> Gap | None:
    """The departures; None where every prediction diverged."""
    end = _predict(grid, robot, index, horizon)
    rows = np.stack(end.rows()[:13], axis=1)
    sound = np.isfinite(rows).all(axis=1) & (np.abs(rows) < DIVERGED).all(axis=1)
    diverged, index, rows = int((~sound).sum()), index[sound], rows[sound]
    if not len(index):
        return None
    stop = index + horizon
    errors = {
        "position_m": rows[:, 0:3] - grid.position_w[stop],
        "velocity_m_s": rows[:, 3:6] - grid.velocity_w[stop],
        "attitude_rad": rotation_vector(grid.rot_wb[stop], attitude(rows[:, 6:10])),
        "body_rate_rad_s": rows[:, 10:13] - grid.angular_velocity_b[stop],
    }
    hold = hold_errors(grid, index, horizon)
    constant = _constant(grid, index, horizon) | {
        key: hold[key] for key in ("velocity_m_s", "body_rate_rad_s")
    }
    return Gap(
        horizon_s=horizon * grid.dt,
        windows=len(index),
        quantities={
            key: Departure(
                sim=_rms(errors[key]),
                bias=_axes(errors[key].mean(axis=0)),
                hold=_rms(hold[key]),
                constant=_rms(constant[key]),
            )
            for key in QUANTITIES
        },
        time_s=grid.time_s[stop],
        errors=errors,
        diverged=diverged,
    )


def _predict(grid: _Grid, robot: Multirotor, index: np.ndarray, horizon: int) -> State:
    """The states (each row (W,)) at the ends of the windows."""
    substeps = int(np.ceil(grid.dt / PHYSICS_S))
    dt = grid.dt / substeps
    params = Params.from_rows(nominal_params(robot, dt))
    geometry = Geometry(
        rotor_x=[p[0] for p in robot.rotor_position_b],
        rotor_y=[p[1] for p in robot.rotor_position_b],
        spin=robot.rotor_spin,
    )
    calm = Disturbance(force_w=[0.0] * 3, torque_b=[0.0] * 3)
    state = State(
        position_w=list(grid.position_w[index].T),
        velocity_w=list(grid.velocity_w[index].T),
        quat_wb=list(grid.quat_wb[index].T),
        angular_velocity_b=list(grid.angular_velocity_b[index].T),
        rotor_fraction=list(grid.rotor_fraction[index].T),
    )
    time, value = grid.throttle.time_s, np.clip(grid.throttle.value, 0.0, 1.0)
    # Integral of the held commands up to each: linear in between, so a step's mean is exact.
    area = np.zeros_like(value)
    area[1:] = np.cumsum(value[:-1] * np.diff(time)[:, None], axis=0)
    edges = grid.time_s[index] + dt * np.arange(horizon * substeps + 1)[:, None]
    integral = np.stack([np.interp(edges, time, column) for column in area.T])
    mean_throttle = np.diff(integral, axis=1) / dt
    # A diverging prediction is a finding, not an error.
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(horizon * substeps):
            state = rk4_step(state, list(mean_throttle[:, step]), params, calm, geometry, dt)
    return state


def _constant(grid: _Grid, index: np.ndarray, horizon: int) -> dict[str, np.ndarray]:
    span, stop = horizon * grid.dt, index + horizon
    position = grid.position_w[index] + span * grid.velocity_w[index]
    turned = grid.rot_wb[index] @ turn(span * grid.angular_velocity_b[index])
    return {
        "position_m": position - grid.position_w[stop],
        "attitude_rad": rotation_vector(grid.rot_wb[stop], turned),
    }


def _rms(errors: np.ndarray) -> tuple[float, float, float]:
    return _axes(np.sqrt(np.mean(errors**2, axis=0)))


def _axes(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z
