"""A whole robot from what was found and a base robot for what was not."""

import math
from dataclasses import replace

from alula.errors import AlulaError
from alula.identification.bases import crazyflie_brushless
from alula.identification.findings import Findings
from alula.identification.logs import FlightLog
from alula.robots.multirotor import Multirotor, known_robots, load_robot

YAW_RATIO = 1.832
"""Izz / mean(Ixx, Iyy) of the Crazyflie (Eschmann 2024, data-driven-system-identification)."""
_BORROWED = "not observable in this log; "
_CRAZYFLIES = ("crazyflie", "crazyflie-l2f")


def base_robot(base: str | None, log: FlightLog) -> Multirotor | None:
    """The robot that lends geometry and whatever the flight does not show.

    Without a name: for a log with four motors that does not come from PX4 the Crazyflie 2.1
    Brushless where rotor speeds are logged, else the shipped `crazyflie` (its inertia fits the
    flights; `crazyflie-l2f`'s does not); for any other log none.

    Raises:
        AlulaError: a named robot does not exist or is broken.
    """
    if base is not None:
        return load_robot(base)
    if log.format == "ulog" or log.n_motors != 4:
        return None
    if log.n_rotor_speeds == 4:
        return crazyflie_brushless()
    known = known_robots()
    for name in _CRAZYFLIES:
        if name in known:
            return load_robot(name)
    return None


def complete_robot(
    found: Findings,
    base: Multirotor | None,
    log: FlightLog,
    *,
    mass: float,
    name: str | None,
    noise: dict[str, dict[str, float]],
) -> Multirotor | None:
    """The identified robot; None, with the reason among `found.reasons`, where it cannot be made.

    Whatever the flight does not show comes from the base robot, and its source says so.
    """
    curve = found.get("thrust_up_down_c0_n", "thrust_up_down_c1_n", "thrust_up_down_c2_n")
    curve = curve or found.get("thrust_c0_n", "thrust_c1_n", "thrust_c2_n")
    inertia = found.get("inertia_x_kg_m2", "inertia_y_kg_m2")
    if curve is None and inertia is None:
        found.missing("robot", "neither thrust nor inertia is observable in this log")
        return None
    if base is None:
        found.missing("robot", "no base robot for geometry and the rest: name one")
        return None
    if log.n_motors not in (0, base.n_rotors):
        found.missing(
            "robot", f"base {base.name} has {base.n_rotors} rotors, the log {log.n_motors} motors"
        )
        return None
    here = f"identified from log sha256 {log.sha256[:16]}, {log.start_s:.1f}..{log.end_s:.1f} s"
    values: dict = {"mass": float(mass)}
    sources = {
        key: f"{_BORROWED}taken from {base.name}{_onward(source)}"
        for key, source in base.sources.items()
    }
    sources["mass"] = "given by the user; a log cannot tell it"
    if curve is not None:
        _thrust(values, sources, found, curve, here)
    _inertia(values, sources, found, base, here)
    _rest(values, sources, found, noise, here)
    try:
        return replace(base, name=name or f"{base.name}-identified", sources=sources, **values)
    except AlulaError as e:
        found.missing("robot", str(e))
        return None


def _onward(source: str) -> str:
    """Where the base robot has a number from, without repeating why it was borrowed there."""
    borrowed = source.removeprefix(_BORROWED)
    return f", there {borrowed}" if borrowed != source else f": {source}"


def _thrust(
    values: dict, sources: dict[str, str], found: Findings, curve: tuple[float, ...], here: str
) -> None:
    split = found.get("rotor_lag_up_s", "rotor_lag_down_s")
    prefix = "thrust_up_down" if split else "thrust"
    values["thrust_curve"] = curve
    spans = "; ".join(f"c{i} {_span(found, f'{prefix}_c{i}_n')}" for i in range(3))
    r2 = found.r2[prefix]
    sources["thrust_curve"] = f"{here}; 95 % intervals {spans} N; R2 {r2:.4f}"
    lags = split or (found.values["rotor_lag_s"],) * 2
    for key, lag, shown in (
        ("rotor_lag_up", lags[0], "rotor_lag_up_s"),
        ("rotor_lag_down", lags[1], "rotor_lag_down_s"),
    ):
        values[key] = lag
        label = shown if split else "rotor_lag_s"
        kind = "" if split else " (rise and fall not told apart)"
        sources[key] = f"{here}; 95 % interval {_span(found, label)} s{kind}"
    lo, hi, why = rising_range(curve)
    values["throttle_min"], values["throttle_max"] = lo, hi
    sources["throttle_min"] = f"{here}; {why}"
    flown = found.extras["throttle_flown"]
    sources["throttle_max"] = (
        f"full command, or the end of the rising branch; {here} the throttle lay 98 % of the time "
        f"in {flown[0]:.2f}..{flown[1]:.2f}, beyond it the curve is extrapolated"  # type: ignore
    )


def rising_range(curve: tuple[float, ...]) -> tuple[float, float, str]:
    """Throttle range in which a thrust curve rises, and why it starts where it does.

    The parabola's vertex -c1 / (2 c2) is rounded to the next hundredth into the rising branch.
    """
    _, c1, c2 = curve
    if abs(c2) < 1e-12:
        return 0.0, 1.0, "the curve rises everywhere"
    vertex = -c1 / (2.0 * c2)
    if c2 < 0.0:
        top = math.floor(100.0 * min(vertex, 1.0) - 1e-9) / 100.0 if vertex < 1.0 else 1.0
        return 0.0, max(top, 0.01), "the curve rises from 0"
    if vertex <= 0.0:
        return 0.0, 1.0, "the curve rises from 0"
    low = min(math.ceil(100.0 * vertex) / 100.0, 0.99)
    why = f"the fitted parabola has its vertex at throttle {vertex:.4f} and rises only above it"
    return low, 1.0, why


def _inertia(
    values: dict, sources: dict[str, str], found: Findings, base: Multirotor, here: str
) -> None:
    pair = found.get("inertia_x_kg_m2", "inertia_y_kg_m2")
    if pair is None:
        return
    mean = 0.5 * (pair[0] + pair[1])
    if base.name in _CRAZYFLIES:
        ratio, where = YAW_RATIO, "published ratio Izz = 1.832 mean(Ixx, Iyy), Eschmann 2024"
    else:
        ratio = base.inertia[2] / (0.5 * (base.inertia[0] + base.inertia[1]))
        where = f"ratio Izz = {ratio:.3f} mean(Ixx, Iyy) of {base.name}"
    values["inertia"] = (*pair, min(ratio * mean, pair[0] + pair[1]))
    sources["inertia"] = (
        f"Ixx, Iyy {here}; 95 % intervals {_span(found, 'inertia_x_kg_m2')}, "
        f"{_span(found, 'inertia_y_kg_m2')} kg m^2; Izz not observable in this log, {where}"
    )
    per_izz = found.extras.get("torque_per_thrust_per_izz")
    if isinstance(per_izz, float):
        values["torque_per_thrust"] = per_izz * values["inertia"][2]
        sources["torque_per_thrust"] = (
            f"torque_per_thrust / Izz = {per_izz:.4g} 1/(kg m) {here}, times the Izz above"
        )


def _rest(
    values: dict,
    sources: dict[str, str],
    found: Findings,
    noise: dict[str, dict[str, float]],
    here: str,
) -> None:
    gyro = [v["std"] for key, v in noise.items() if key.startswith("gyro_")]
    if gyro:
        values["angular_velocity_noise"] = max(gyro)
        sources["angular_velocity_noise"] = (
            f"largest gyro standard deviation at rest on the ground; {here.split(',')[0]}"
        )
    drag = found.get("drag_x_n_s_m", "drag_y_n_s_m")
    along = found.get("drag_z_n_s_m")
    if drag is not None:
        values["drag_b"] = (
            max(drag[0], 0.0),
            max(drag[1], 0.0),
            max(along[0], 0.0) if along else 0.0,
        )
        z = "" if along else "; z not observable in this log, hidden by thrust, set 0"
        sources["drag_b"] = f"x, y{', z' if along else ''} {here}{z}"
    kf = found.get("thrust_per_speed2")
    if kf is not None:
        top = sum(values.get("thrust_curve", (0.0, 0.0, 0.0)))
        if top > 0.0:
            # thrust at throttle 1 = kf speed_max^2
            values["rotor_speed_max"] = math.sqrt(top / kf[0])
            sources["rotor_speed_max"] = (
                f"{here}: thrust at full throttle over {kf[0]:.4g} N/(rad/s)^2 "
                f"({_span(found, 'thrust_per_speed2')})"
            )


def _span(found: Findings, key: str) -> str:
    lo, hi = found.intervals[key]
    return f"{lo:.4g}..{hi:.4g}"
