"""What an identification found, with intervals, and what it could not see."""

import math
from dataclasses import dataclass, field

import numpy as np

from alula.robots.multirotor import Multirotor

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Identification:
    """Everything that one flight log says about a robot."""

    log: dict[str, str]
    """path, format and sha256 of the log, and the version of alula that read it."""
    from_s: float
    """Start of the part used, in the log's own clock [s]."""
    to_s: float
    """End of the part used [s]."""
    mass_kg: float
    """Mass as given by the user [kg]; thrust and inertia scale with it."""
    robot: Multirotor | None
    """The completed robot, or None with the reason in `unobservable`."""
    thrust_curve_n: tuple[float, float, float] | None
    """c0, c1, c2 against throttle of one rotor, with the symmetric lag [N]."""
    thrust_curve_up_down_n: tuple[float, float, float] | None
    """The same, fitted with separate lags up and down: the robot file's curve [N]."""
    rotor_lag_s: float | None
    """Symmetric rotor lag [s]."""
    rotor_lag_up_s: float | None
    """Rotor lag while the speed rises [s]."""
    rotor_lag_down_s: float | None
    """Rotor lag while the speed falls [s]."""
    inertia_kg_m2: tuple[float | None, float | None, float | None]
    """Moments of inertia about x, y, z; None where not observable [kg m^2]."""
    torque_per_thrust_m: float | None
    """Reaction torque per thrust [m]; None where only its ratio to Izz (or nothing) is seen."""
    drag_n_s_m: tuple[float | None, float | None, float | None]
    """Linear drag along body x, y, z [N s/m]."""
    r2: dict[str, float]
    """Share of variance explained, by fit."""
    noise: dict[str, dict[str, float]]
    """Signal name -> std, mean at rest; empty where the log has no rest."""
    intervals: dict[str, Interval]
    """95 % intervals by estimate."""
    unobservable: list[str]
    """`quantity: reason`, for everything the flight does not show."""
    extras: dict[str, object] = field(default_factory=dict)
    """Further findings (delay, ratios, control effectiveness, rotor-speed model)."""
    series: dict[str, np.ndarray] = field(default_factory=dict)
    """Series for the residual plots."""

    def to_json(self) -> dict:
        """Plain values, ready for json.dumps."""
        plain: dict = {
            "log": self.log,
            "from_s": self.from_s,
            "to_s": self.to_s,
            "mass_kg": self.mass_kg,
            "robot": None if self.robot is None else self.robot.name,
            "thrust_curve_n": self.thrust_curve_n,
            "thrust_curve_up_down_n": self.thrust_curve_up_down_n,
            "rotor_lag_s": self.rotor_lag_s,
            "rotor_lag_up_s": self.rotor_lag_up_s,
            "rotor_lag_down_s": self.rotor_lag_down_s,
            "inertia_kg_m2": self.inertia_kg_m2,
            "torque_per_thrust_m": self.torque_per_thrust_m,
            "drag_n_s_m": self.drag_n_s_m,
            "r2": self.r2,
            "intervals": self.intervals,
            "unobservable": self.unobservable,
            "noise": self.noise,
            **self.extras,
        }
        return {key: _plain(value) for key, value in plain.items()}


def _plain(value: object) -> object:
    """Numpy scalars, tuples and NaN turned into what JSON knows."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
