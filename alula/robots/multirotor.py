"""A multirotor's physical parameters: read from a TOML file, validated, hashed, written.

A robot file holds one table a quantity, so that no number stands without its unit and source::

    name = "crazyflie-l2f"
    kind = "multirotor"

    [mass]
    value = 0.027
    unit = "kg"
    source = "Eschmann et al. 2023, arXiv 2311.13081"
"""

import hashlib
import json
import math
from dataclasses import dataclass, field, fields
from pathlib import Path

from alula.errors import AlulaError
from alula.robots.files import MAX_FILE_BYTES, ROBOT_DIR, find_robot, read_table, shipped

__all__ = [
    "MAX_FILE_BYTES",
    "ROBOT_DIR",
    "UNITS",
    "Multirotor",
    "known_robots",
    "load_robot",
    "robot_table",
]

GRAVITY = 9.81
"""Standard gravity used everywhere in alula [m/s^2]."""

Vector3 = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Multirotor:
    """A rigid body with R rotors that all push along body +z (FLU).

    Model (per rotor r, throttle u in [0, 1], rotor speed as a fraction s of its maximum)::

        ds/dt   = (u - s) / lag           lag_up while u > s, lag_down while u < s
        thrust  = c0 + c1 s + c2 s^2                                        [N]
        torque_z = -spin (torque_per_thrust thrust + rotor_inertia d(rotor speed)/dt)   [N m]
    """

    name: str
    """Name of the robot; policies carry it."""
    mass: float
    """Take-off mass [kg]."""
    inertia: Vector3
    """Principal moments of inertia about body x, y, z [kg m^2]."""
    rotor_names: tuple[str, ...]
    """Rotor names in action order, e.g. M1..M4 (length R)."""
    rotor_position_b: tuple[Vector3, ...]
    """Rotor hub positions relative to the centre of mass, body FLU [m] (R, 3)."""
    rotor_spin: tuple[int, ...]
    """+1 where the rotor turns counter-clockwise seen from above, -1 clockwise (length R)."""
    thrust_curve: Vector3
    """c0, c1, c2 of one rotor's static thrust against its speed fraction [N]."""
    throttle_min: float = 0.0
    """Throttle at action -1 [-]; the thrust curve rises from here to throttle_max."""
    throttle_max: float = 1.0
    """Throttle at action +1 [-]."""
    rotor_lag_up: float
    """Time constant of the rotor speed while it rises [s]."""
    rotor_lag_down: float
    """Time constant of the rotor speed while it falls [s]."""
    torque_per_thrust: float
    """Reaction torque about body z per thrust [m]."""
    rotor_speed_max: float
    """Rotor speed at throttle 1 [rad/s]."""
    rotor_inertia: float = 0.0
    """Moment of inertia of one rotor about its axis [kg m^2]; 0 neglects its angular momentum."""
    drag_b: Vector3 = (0.0, 0.0, 0.0)
    """Linear drag coefficients along body x, y, z [N s/m]."""
    position_noise: float = 0.001
    """Standard deviation of the position measurement [m]."""
    orientation_noise: float = 0.001
    """Standard deviation of each rotation-matrix entry [-]."""
    velocity_noise: float = 0.002
    """Standard deviation of the velocity measurement [m/s]."""
    angular_velocity_noise: float = 0.002
    """Standard deviation of the body-rate measurement [rad/s]."""
    sources: dict[str, str] = field(default_factory=dict, compare=False)
    """Where each number comes from, by field name."""

    def __post_init__(self) -> None:
        for f in fields(self):
            if f.name in UNITS:
                for value in _flat(getattr(self, f.name)):
                    if not math.isfinite(value):
                        raise self._error(f.name, value, "finite")
        for name in ("mass", "rotor_lag_up", "rotor_lag_down", "rotor_speed_max"):
            if getattr(self, name) <= 0.0:
                raise self._error(name, getattr(self, name), "> 0")
        for name in ("rotor_inertia", "position_noise", "orientation_noise"):
            if getattr(self, name) < 0.0:
                raise self._error(name, getattr(self, name), ">= 0")
        for name in ("velocity_noise", "angular_velocity_noise"):
            if getattr(self, name) < 0.0:
                raise self._error(name, getattr(self, name), ">= 0")
        if min(self.drag_b) < 0.0:
            raise self._error("drag_b", self.drag_b, ">= 0 on each axis")
        self._check_inertia()
        self._check_rotors()
        self._check_thrust()

    def _error(self, name: str, value: object, allowed: str) -> AlulaError:
        return AlulaError(f"robot {self.name!r}: {name} is {value}; allowed: {allowed}")

    def _check_inertia(self) -> None:
        # A real body satisfies Ix + Iy >= Iz for every permutation (triangle inequality).
        ordered = sorted(self.inertia)
        if ordered[0] <= 0.0:
            raise self._error("inertia", self.inertia, "> 0 on each axis")
        if ordered[0] + ordered[1] < ordered[2] * (1.0 - 1e-9):
            raise self._error("inertia", self.inertia, "largest <= sum of the other two")

    def _check_rotors(self) -> None:
        r = self.n_rotors
        if not 1 <= r <= 16:
            raise self._error("rotor_position_b", f"{r} rotors", "1 to 16 rotors")
        if len(self.rotor_spin) != r or len(self.rotor_names) != r:
            raise self._error(
                "rotor_spin/rotor_names",
                f"{len(self.rotor_spin)}/{len(self.rotor_names)} entries",
                f"one for each of the {r} rotors",
            )
        if any(s not in (-1, 1) for s in self.rotor_spin):
            raise self._error("rotor_spin", self.rotor_spin, "+1 or -1")
        if len(set(self.rotor_names)) != r:
            raise self._error("rotor_names", self.rotor_names, "distinct names")

    def _check_thrust(self) -> None:
        lo, hi = self.throttle_min, self.throttle_max
        if not 0.0 <= lo < hi <= 1.0:
            raise self._error("throttle_min/max", (lo, hi), "0 <= min < max <= 1")
        _, c1, c2 = self.thrust_curve
        # dT/du = c1 + 2 c2 u is linear in u, so both ends positive means it rises throughout.
        if c1 + 2.0 * c2 * lo < -1e-12 or c1 + 2.0 * c2 * hi <= 0.0:
            raise self._error(
                "thrust_curve", self.thrust_curve, f"rising over throttle {lo:g}..{hi:g}"
            )
        weight = self.mass * GRAVITY
        if self.n_rotors * self.thrust(lo) >= weight:
            raise self._error(
                "thrust_curve", self.thrust_curve, "less than the weight at throttle_min"
            )
        if self.n_rotors * self.thrust(hi) <= weight:
            raise self._error(
                "thrust_curve",
                self.thrust_curve,
                f"hover: total thrust at throttle_max above the weight {weight:.4g} N",
            )

    @property
    def n_rotors(self) -> int:
        """Number of rotors R."""
        return len(self.rotor_position_b)

    def thrust(self, throttle: float) -> float:
        """Static thrust of one rotor [N] at a throttle [-]."""
        c0, c1, c2 = self.thrust_curve
        return c0 + c1 * throttle + c2 * throttle * throttle

    @property
    def hover_throttle(self) -> float:
        """Throttle at which all rotors together carry the weight [-].

        Root of c2 u^2 + c1 u + c0 = m g / R that lies in the rising branch.
        """
        c0, c1, c2 = self.thrust_curve
        rhs = c0 - self.mass * GRAVITY / self.n_rotors
        if abs(c2) < 1e-15:
            return -rhs / c1
        return (-c1 + math.sqrt(c1 * c1 - 4.0 * c2 * rhs)) / (2.0 * c2)

    @property
    def hover_action(self) -> float:
        """Action in [-1, 1] of the hover throttle."""
        span = self.throttle_max - self.throttle_min
        return 2.0 * (self.hover_throttle - self.throttle_min) / span - 1.0

    @property
    def hash(self) -> str:
        """SHA-256 over name-sorted numbers (sources excluded): the same physics, the same hash."""
        numbers = {
            f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("sources",)
        }
        return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()


UNITS: dict[str, str] = {
    "mass": "kg",
    "inertia": "kg m^2",
    "rotor_position_b": "m",
    "rotor_spin": "+1 counter-clockwise from above, -1 clockwise",
    "thrust_curve": "N",
    "throttle_min": "-",
    "throttle_max": "-",
    "rotor_lag_up": "s",
    "rotor_lag_down": "s",
    "torque_per_thrust": "m",
    "rotor_speed_max": "rad/s",
    "rotor_inertia": "kg m^2",
    "drag_b": "N s/m",
    "position_noise": "m",
    "orientation_noise": "-",
    "velocity_noise": "m/s",
    "angular_velocity_noise": "rad/s",
}
"""Unit of every numeric field; a robot file must state exactly this unit."""


def _flat(value: object) -> list[float]:
    if isinstance(value, tuple | list):
        return [x for item in value for x in _flat(item)]
    return [float(value)]  # type: ignore[arg-type]


def _tuples(value: object) -> object:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def known_robots() -> tuple[str, ...]:
    """Names of the multirotors that ship with alula."""
    return shipped("multirotor")


def load_robot(name_or_path: str | Path) -> Multirotor:
    """Load a shipped robot by name, or any robot file by path.

    Raises:
        AlulaError: unknown name, an arm's, unreadable file, missing or unknown quantity, wrong unit, or
            numbers that no real multirotor can have.
    """
    path = find_robot(name_or_path, "multirotor")
    return _from_table(read_table(path), path)


def _from_table(table: dict, path: Path) -> Multirotor:
    if table.pop("kind", None) != "multirotor":
        raise AlulaError(f"robot file {path}: kind must be 'multirotor'")
    allowed = set(UNITS) | {"name", "rotor_names", "description", "identification"}
    unknown = sorted(set(table) - allowed)
    if unknown:
        raise AlulaError(
            f"robot file {path}: unknown quantity {unknown[0]!r}; known: "
            + ", ".join(sorted(allowed))
        )
    values: dict = {}
    sources: dict[str, str] = {}
    for key in ("name", "rotor_names"):
        if key in table:
            values[key] = _tuples(table[key])
    for key, unit in UNITS.items():
        if key not in table:
            continue
        entry = table[key]
        if not isinstance(entry, dict) or not {"value", "unit", "source"} <= set(entry):
            raise AlulaError(f"robot file {path}: [{key}] needs value, unit and source")
        if entry["unit"] != unit:
            raise AlulaError(
                f"robot file {path}: [{key}] has unit {entry['unit']!r}; allowed: {unit!r}"
            )
        values[key] = _tuples(entry["value"])
        sources[key] = str(entry["source"])
    try:
        _check_shapes(values)
        return Multirotor(**values, sources=sources)
    except AlulaError as e:
        raise AlulaError(f"robot file {path}: {e}") from None
    except (TypeError, ValueError) as e:
        raise AlulaError(f"robot file {path}: {str(e).split('__init__() ')[-1]}") from None


def _check_shapes(values: dict) -> None:
    if not isinstance(values.get("name", ""), str):
        raise AlulaError("name must be a string")
    for key in ("inertia", "thrust_curve", "drag_b"):
        if key in values and (not isinstance(values[key], tuple) or len(values[key]) != 3):
            raise AlulaError(f"{key} is {values[key]}; allowed: 3 numbers")
    for position in values.get("rotor_position_b", ()):
        if not isinstance(position, tuple) or len(position) != 3:
            raise AlulaError(f"rotor_position_b has the entry {position}; allowed: 3 numbers")
    for key in UNITS:
        for number in _leaves(values.get(key, 0.0)):
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise AlulaError(f"{key} is {number!r}; allowed: numbers")


def _leaves(value: object) -> list[object]:
    if isinstance(value, tuple):
        return [x for item in value for x in _leaves(item)]
    return [value]


def robot_table(robot: Multirotor, *, description: str, extra: dict | None = None) -> dict:
    """The TOML table of a robot, ready for `tomli_w.dump`; every number with unit and source."""
    table: dict = {
        "name": robot.name,
        "kind": "multirotor",
        "description": description,
        "rotor_names": list(robot.rotor_names),
    }
    for key, unit in UNITS.items():
        table[key] = {
            "value": getattr(robot, key),
            "unit": unit,
            "source": robot.sources.get(key, "default of alula"),
        }
    if extra:
        table["identification"] = extra
    return table
