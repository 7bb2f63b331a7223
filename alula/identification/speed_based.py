"""Thrust, moments and inertia from measured rotor speeds and motion capture."""

from dataclasses import dataclass, replace

import numpy as np

from alula.errors import AlulaError
from alula.identification.inertia import RatioFit, filtered, fit_ratio
from alula.identification.intervals import bootstrap_fit, interval
from alula.identification.logs import FlightLog, Signal
from alula.identification.motion import ACCELERATION, QUATERNION, RATES, VELOCITY, attitude
from alula.identification.signal_names import POLE_PAIRS
from alula.robots.multirotor import GRAVITY, Multirotor

MAX_SPEED = 1.5e5 / POLE_PAIRS * 2.0 * np.pi / 60.0
"""Rotor speeds above are faults of the speed sensor (150 000 electrical rpm) [rad/s]."""
POSITION = ("position_x_m", "position_y_m", "position_z_m")
TORQUE_BAND_HZ = (2.0, 15.0)
"""Band in which torque accelerates the body; below, it mostly balances aerodynamic moments."""
FLOW_CUTOFF_HZ = 4.0
"""Forces and moments of the airflow are fitted below this frequency [Hz]."""
_DELAYS = range(-2, 7)

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class SpeedFlight:
    """A flight with rotor speeds on a regular grid, held samples and spikes bridged."""

    time_s: np.ndarray
    """(T,) [s]."""
    dt: float
    """Grid step [s]."""
    rotor_speed: np.ndarray
    """(T, R) [rad/s], shifted by the alignment."""
    position_w: np.ndarray
    """(T, 3) [m]."""
    velocity_w: np.ndarray
    """(T, 3) [m/s]."""
    rot_wb: np.ndarray
    """Body -> world (T, 3, 3)."""
    angular_velocity_b: np.ndarray
    """(T, 3) [rad/s]."""
    specific_force_b: np.ndarray
    """(T, 3) [m/s^2]."""
    alignment_s: float
    """By how much the log shows body motion after the rotor speed that caused it [s]."""
    held: float
    """Share of speed samples that repeat their predecessor."""

    @property
    def velocity_b(self) -> np.ndarray:
        """Velocity in body axes (T, 3) [m/s]."""
        return np.einsum("tji,tj->ti", self.rot_wb, self.velocity_w)


@dataclass(frozen=True, kw_only=True)
class SpeedModel:
    """Rigid body driven by measured rotor speeds.

    Thrust_i = kf speed_i^2; force_b = sum thrust - drag * v_b;
    J dw/dt = torque(thrust) + moment of the airflow, about x: (m1 - m2 v_z) v_y, about y:
    -(m1 - m2 v_z) v_x (flapping and in-plane drag of the rotors push the body upright).
    """

    mass: float
    """[kg]."""
    thrust_per_speed2: float
    """kf [N/(rad/s)^2]."""
    inertia: tuple[float, float, float]
    """About x, y, z [kg m^2]; z is borrowed from the base robot."""
    torque_per_thrust: float
    """About z [m]: its ratio to Izz where yaw shows it, else borrowed."""
    drag: tuple[float, float, float]
    """Linear drag [N s/m]."""
    flow_moment: tuple[tuple[float, float], tuple[float, float]]
    """(m1, m2) about x and about y, [N m/(m/s)] and [N m/(m/s)^2]."""
    rotor_position_b: np.ndarray
    """(R, 3) [m]."""
    rotor_spin: np.ndarray
    """(R,)."""
    r2: dict[str, float]
    """Share of variance explained, by fit."""
    intervals: dict[str, Interval]
    """95 % intervals: kf, inertia_x, inertia_y, drag_x, drag_y, drag_z."""
    regressions: dict[str, RatioFit]
    """Torque against angular acceleration about x and y, for plots."""

    def torque(self, thrust: np.ndarray) -> np.ndarray:
        """Torque of the rotors (T, 3) [N m] from their thrusts (T, R) [N]."""
        return np.stack(
            (
                thrust @ self.rotor_position_b[:, 1],
                -thrust @ self.rotor_position_b[:, 0],
                -self.torque_per_thrust * (thrust @ self.rotor_spin),
            ),
            axis=-1,
        )

    def flow_torque(self, velocity_b: np.ndarray) -> np.ndarray:
        """Moment of the airflow (T, 3) [N m] at a velocity (T, 3) [m/s]."""
        vx, vy, vz = velocity_b[..., 0], velocity_b[..., 1], velocity_b[..., 2]
        (x1, x2), (y1, y2) = self.flow_moment
        return np.stack(((x1 - x2 * vz) * vy, -(y1 - y2 * vz) * vx, 0.0 * vz), axis=-1)


def without_spikes(log: FlightLog) -> tuple[FlightLog, int]:
    """Drop rotor speeds that no rotor has; also how many samples went."""
    signals, dropped = dict(log.signals), 0
    for name, s in log.signals.items():
        if not name.startswith("rotor_speed_"):
            continue
        good = (s.value <= MAX_SPEED) & (s.value >= 0.0)
        if np.count_nonzero(good) < max(0.5 * good.size, 2):
            raise AlulaError(
                f"log {log.path}: {name} is outside 0..{MAX_SPEED:.0f} rad/s in most samples; "
                "allowed: mechanical rad/s, or map rotor_speed_1_rpm / rotor_speed_1_erpm"
            )
        dropped += int(good.size - np.count_nonzero(good))
        signals[name] = Signal(s.time_s[good], s.value[good])
    return replace(log, signals=signals), dropped


def prepare(log: FlightLog, dt: float = 0.01) -> SpeedFlight:
    """Bring a log with rotor speeds (spikes gone) onto a grid and align its streams.

    Raises:
        AlulaError: a signal is missing, or fewer than 2 s remain.
    """
    speeds = tuple(f"rotor_speed_{k + 1}_rad_s" for k in range(log.n_rotor_speeds))
    groups = (speeds, POSITION, VELOCITY, QUATERNION, RATES, ACCELERATION)
    needed = [name for group in groups for name in group]
    missing = [name for name in needed if not log.has(name)]
    if missing or not speeds:
        raise AlulaError(
            f"log {log.path}: no {missing[0] if missing else 'rotor_speed_1_rad_s'}; a fit on "
            "rotor speeds needs them with pose, velocity, body rates and specific force"
        )
    start = max(log.signals[n].time_s[0] for n in needed)
    end = min(log.signals[n].time_s[-1] for n in needed)
    n = int((end - start) / dt)
    if n * dt < 2.0:
        raise AlulaError(f"log {log.path}: {n * dt:.2f} s of rotor speeds; allowed: at least 2 s")
    time = start + dt * np.arange(n)
    held = float(np.mean([np.mean(np.diff(log.signals[s].value) == 0.0) for s in speeds]))
    values = [_sampled(log, group, time) for group in groups]
    flight = SpeedFlight(
        time_s=time,
        dt=dt,
        rotor_speed=values[0],
        position_w=values[1],
        velocity_w=values[2],
        rot_wb=attitude(values[3]),
        angular_velocity_b=values[4],
        specific_force_b=values[5],
        alignment_s=0.0,
        held=held,
    )
    return _aligned(flight)


def _sampled(log: FlightLog, names: tuple[str, ...], time: np.ndarray) -> np.ndarray:
    """A group of signals at the grid's times; held rows are bridged linearly.

    Rows that repeat their predecessor in every signal of the group are a logger holding its last
    message, not measurements; positions and attitudes may rest, so they are left alone.
    """
    signals = [log.signals[name] for name in names]
    if names[0].startswith(("rotor_speed", "gyro", "acc")):
        stamps = signals[0].time_s
        rows = np.stack([np.interp(stamps, s.time_s, s.value) for s in signals], axis=1)
        fresh = np.concatenate(([True], np.any(np.diff(rows, axis=0) != 0.0, axis=1)))
        return np.stack(
            [np.interp(time, stamps[fresh], rows[fresh, i]) for i in range(len(names))], axis=1
        )
    return np.stack([np.interp(time, s.time_s, s.value) for s in signals], axis=1)


def _aligned(flight: SpeedFlight) -> SpeedFlight:
    """Shift the rotor speeds to where they explain the body's acceleration best.

    Speeds come by another path than pose and rates; the shift is the one with the largest
    correlation of summed squared speed and specific force, to whole samples.
    """
    square = np.sum(flight.rotor_speed**2, axis=1)
    force = flight.specific_force_b[:, 2]
    # Fast variation only: slow drift of the battery says nothing about timing.
    a, b = _band(square, flight.dt), _band(force, flight.dt)
    edge = max(_DELAYS) + 1
    scores = [
        np.corrcoef(np.roll(a, k)[edge:-edge], b[edge:-edge])[0, 1] if a.std() > 0 else 0.0
        for k in _DELAYS
    ]
    shift = list(_DELAYS)[int(np.argmax(scores))]
    at = np.clip(np.arange(flight.time_s.size) - shift, 0, flight.time_s.size - 1)
    return replace(flight, rotor_speed=flight.rotor_speed[at], alignment_s=float(shift * flight.dt))


def _band(x: np.ndarray, dt: float) -> np.ndarray:
    return filtered(x, dt, *TORQUE_BAND_HZ)


def _low(x: np.ndarray, dt: float) -> np.ndarray:
    return filtered(x, dt, 0.0, FLOW_CUTOFF_HZ)


def fit_speed_model(flight: SpeedFlight, mass: float, robot: Multirotor) -> SpeedModel:
    """Fit thrust, drag, inertia and the airflow's moments to one flight.

    Args:
        flight: prepared.
        mass: [kg]; all forces and moments scale with it.
        robot: lends rotor positions, spins and Izz.

    Raises:
        AlulaError: the robot's rotor count differs from the log's.
    """
    if robot.n_rotors != flight.rotor_speed.shape[1]:
        raise AlulaError(
            f"robot {robot.name} has {robot.n_rotors} rotors; "
            f"the log {flight.rotor_speed.shape[1]} rotor speeds"
        )
    r2: dict[str, float] = {}
    spans: dict[str, Interval] = {}
    kf, drag = _fit_force(flight, mass, r2, spans)
    positions, spin = np.asarray(robot.rotor_position_b), np.asarray(robot.rotor_spin, float)
    thrust = kf * flight.rotor_speed**2
    lever = np.stack((thrust @ positions[:, 1], -thrust @ positions[:, 0], -thrust @ spin), axis=1)
    acceleration = np.gradient(flight.angular_velocity_b, flight.dt, axis=0)
    inertia, flow = [], []
    regressions: dict[str, RatioFit] = {}
    for axis in range(2):
        ratio = _fit_inertia(flight, lever[:, axis], acceleration[:, axis], axis)
        name = f"inertia_{'xy'[axis]}"
        r2[name], spans[name] = ratio.r2, ratio.interval
        regressions["xy"[axis]] = ratio
        inertia.append(ratio.value)
        flow.append(_fit_flow(flight, lever[:, axis], acceleration[:, axis], axis, ratio.value))
    yaw = _fit_yaw(flight, lever[:, 2], acceleration[:, 2])
    r2["yaw"], spans["torque_per_thrust_per_izz"] = yaw.r2, yaw.interval
    izz = robot.inertia[2]
    return SpeedModel(
        mass=mass,
        thrust_per_speed2=kf,
        inertia=(inertia[0], inertia[1], izz),
        torque_per_thrust=yaw.value * izz if yaw.observable else robot.torque_per_thrust,
        drag=drag,
        flow_moment=(flow[0], flow[1]),
        rotor_position_b=positions,
        rotor_spin=spin,
        r2=r2,
        intervals=spans,
        regressions=regressions,
    )


def _fit_force(
    flight: SpeedFlight, mass: float, r2: dict[str, float], spans: dict[str, Interval]
) -> tuple[float, tuple[float, float, float]]:
    """Kf and drag: m a_z = kf sum speed^2 - d_z v_z; m a_xy = -d v_xy + offset (tilted sensor)."""
    force = _low(mass * flight.specific_force_b, flight.dt)
    velocity = _low(flight.velocity_b, flight.dt)
    square = _low(np.sum(flight.rotor_speed**2, axis=1), flight.dt)
    scale = square.mean()
    drag = [0.0, 0.0, 0.0]
    kf = 0.0
    for axis, name in enumerate("xyz"):
        first = square / scale if name == "z" else np.ones_like(square)
        design = np.stack((first, -velocity[:, axis]), axis=1)
        c, *_ = np.linalg.lstsq(design, force[:, axis], rcond=None)
        residual = force[:, axis] - design @ c
        deviations, widen = bootstrap_fit(design, residual)
        drag[axis] = max(float(c[1]), 0.0)
        spans[f"drag_{name}"] = interval(float(c[1]), deviations[:, 1], widen)
        r2[f"force_{name}"] = float(1.0 - residual.var() / force[:, axis].var())
        if name == "z":
            kf = float(c[0] / scale)
            spans["kf"] = interval(kf, deviations[:, 0] / scale, widen)
    return kf, (drag[0], drag[1], drag[2])


def _fit_inertia(
    flight: SpeedFlight, torque: np.ndarray, acceleration: np.ndarray, axis: int
) -> RatioFit:
    """Moment of inertia in the band where torque accelerates, airflow's moment projected out."""
    x, y = _band(torque, flight.dt), _band(acceleration, flight.dt)
    flow = _band(flight.velocity_b[:, 1 - axis], flight.dt)[:, None]

    def without_flow(series: np.ndarray) -> np.ndarray:
        coefficient, *_ = np.linalg.lstsq(flow, series, rcond=None)
        return series - flow @ coefficient

    valid = np.ones(x.size, dtype=bool)
    return fit_ratio(without_flow(x), without_flow(y), valid, flight.dt, delay_s=0.0)


def _fit_yaw(flight: SpeedFlight, lever: np.ndarray, acceleration: np.ndarray) -> RatioFit:
    """torque_per_thrust / Izz [1/(kg m)]: yaw acceleration over signed thrust."""
    valid = np.ones(flight.time_s.size, dtype=bool)
    x, y = _band(acceleration, flight.dt), _band(lever, flight.dt)
    return fit_ratio(x, y, valid, flight.dt, delay_s=0.0)


def _fit_flow(
    flight: SpeedFlight, torque: np.ndarray, acceleration: np.ndarray, axis: int, inertia: float
) -> tuple[float, float]:
    """(m1, m2): J dw/dt - torque = +-(m1 - m2 v_z) v_across, below FLOW_CUTOFF_HZ."""
    sign = 1.0 if axis == 0 else -1.0
    across = sign * flight.velocity_b[:, 1 - axis]
    moment = _low(inertia * acceleration - torque, flight.dt)
    design = np.stack(
        (
            _low(across, flight.dt),
            _low(-across * flight.velocity_b[:, 2], flight.dt),
            np.ones(across.size),
        ),
        axis=1,
    )
    c, *_ = np.linalg.lstsq(design, moment, rcond=None)
    return float(c[0]), float(c[1])


def gravity_w() -> np.ndarray:
    """Gravity in world axes (3,) [m/s^2]."""
    return np.array([0.0, 0.0, -GRAVITY])
