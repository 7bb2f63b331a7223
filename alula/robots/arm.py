"""An arm's joints, limits and model: read from a TOML file and the MJCF beside it, validated, hashed.

A robot file holds one table a quantity, so that no number stands without its unit and source::

    name = "ur5e"
    kind = "arm"
    joint_names = ["shoulder_pan_joint", "shoulder_lift_joint", ...]
    model = "ur5e.xml"

    [velocity_max]
    value = [3.14, 3.14, ...]
    unit = "rad/s"
    source = "UR5e technical details"
"""

import hashlib
import json
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from alula.errors import AlulaError
from alula.robots.files import find_robot, read_table, read_text, shipped

MAX_JOINTS = 64
TOOLS = ("grip", "flange")
"""Sites of a model; the first that it has is the tool."""
BY_JOINT: dict[str, tuple[str, ...]] = {
    "position_low": ("rad", "m", "rad or m"),
    "position_high": ("rad", "m", "rad or m"),
    "velocity_max": ("rad/s", "m/s", "rad/s or m/s"),
    "effort_max": ("N m", "N", "N m or N"),
    "home": ("rad", "m", "rad or m"),
}
"""Quantities with one number a joint, and the units that a robot file may state: hinges, slides, or both."""
PLAIN: dict[str, tuple[str, ...]] = {
    "control_dt": ("s",),
    "position_noise": ("rad", "m", "rad or m"),
    "velocity_noise": ("rad/s", "m/s", "rad/s or m/s"),
    "effort_noise": ("N m", "N", "N m or N"),
}
"""Quantities of one number, and their units."""
REQUIRED = ("position_low", "position_high", "velocity_max", "effort_max")
"""Quantities that every robot file states."""
OUTSIDE = ("meshdir", "texturedir", "assetdir", "plugin")
"""Attributes of MJCF that lead out of the file, beside `file` and others that begin so."""
MAX_ELEMENTS = 10_000
"""Largest model; what is copied by a `count` is counted as often [elements]."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Joints in the order of the policy's actions."""

    name: str
    """Robot name; the policy's contract carries it."""
    joint_names: tuple[str, ...]
    """Joint names (J)."""
    position_low: tuple[float, ...]
    """Lower joint limits [rad or m] (J)."""
    position_high: tuple[float, ...]
    """Upper joint limits [rad or m] (J)."""
    velocity_max: tuple[float, ...]
    """Largest joint speeds [rad/s or m/s] (J)."""
    effort_max: tuple[float, ...]
    """Largest joint efforts [N m or N] (J)."""
    home: tuple[float, ...] = ()
    """Joint positions to begin from [rad or m] (J); empty: none is known."""
    control_dt: float = 0.002
    """Time between two commands that the robot takes [s]."""
    position_noise: float = 0.0
    """Standard deviation of a joint's measured position [rad or m]."""
    velocity_noise: float = 0.0
    """Standard deviation of a joint's measured velocity [rad/s or m/s]."""
    effort_noise: float = 0.0
    """Standard deviation of a joint's measured effort [N m or N]."""
    model: str = field(default="", repr=False)
    """MJCF for simulation, a whole file that refers to no other; empty: none."""
    sources: dict[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Where each number comes from, by field name."""

    def __post_init__(self) -> None:
        joints = self.joint_names
        if not 1 <= len(set(joints)) == len(joints) <= MAX_JOINTS:
            raise self._error("joint_names", joints, f"1 to {MAX_JOINTS} distinct names")
        for name in BY_JOINT:
            values = getattr(self, name)
            if len(values) != len(joints) and not (name == "home" and not values):
                raise self._error(name, values, f"{len(joints)} numbers, one a joint")
            if not all(math.isfinite(v) for v in values):
                raise self._error(name, values, "finite")
        for joint, low, high in zip(joints, self.position_low, self.position_high, strict=True):
            if not low < high:
                raise self._error("position_low", f"{low} at {joint!r}", f"less than {high}")
        for name in ("velocity_max", "effort_max"):
            if min(getattr(self, name)) <= 0.0:
                raise self._error(name, getattr(self, name), "> 0")
        limits = zip(joints, self.home, self.position_low, self.position_high, strict=False)
        for joint, q, low, high in limits:
            if not low <= q <= high:
                raise self._error("home", f"{q} at {joint!r}", f"{low} to {high}")
        if not 1e-4 <= self.control_dt <= 1.0:
            raise self._error("control_dt", self.control_dt, "0.0001 to 1 s")
        for name in ("position_noise", "velocity_noise", "effort_noise"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise self._error(name, getattr(self, name), ">= 0")
        if self.model:
            self._check_model()

    def _error(self, name: str, value: object, allowed: str) -> AlulaError:
        return AlulaError(f"robot {self.name!r}: {name} is {value}; allowed: {allowed}")

    def _check_model(self) -> None:
        root = _parse(self.model, self.name)
        for element in root.iter():
            out = [k for k in element.attrib if k in OUTSIDE or k.startswith("file")]
            if out or element.tag in ("include", "plugin", "extension"):
                what = f"{element.tag} {out[0]}" if out else element.tag
                raise self._error("model", f"one with <{what}>", "one file that needs no other")
        if _size(root) > MAX_ELEMENTS:
            raise self._error(
                "model", f"one of more than {MAX_ELEMENTS} elements, copies included", "fewer"
            )
        found = {e.get("name") for e in root.iter("joint")}
        for joint in self.joint_names:
            if joint not in found:
                known = ", ".join(sorted(n for n in found if n))
                raise self._error("joint_names", f"{joint!r}, unknown to the model", known)

    @property
    def tool(self) -> str:
        """The site of the model that tasks move: `grip`, between the fingers, or `flange`.

        Raises:
            AlulaError: the model has neither.
        """
        sites = {e.get("name") for e in _parse(self.model, self.name).iter("site")}
        for name in TOOLS:
            if name in sites:
                return name
        raise self._error("model", "one without these sites", " or ".join(TOOLS))

    @property
    def hash(self) -> str:
        """SHA-256 over the numbers and names, and the model without comments and layout; not over sources."""
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "sources"}
        if self.model:
            numbers["model"] = ElementTree.canonicalize(self.model, strip_text=True)
        return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()


def _size(root: ElementTree.Element) -> int:
    """Number of elements with all copies, or of the first of them that are more than MAX_ELEMENTS."""
    size, todo = 0, [(root, 1)]
    while todo and size <= MAX_ELEMENTS:
        element, copies = todo.pop()
        # Of a replicate one number, of a composite or flexcomp up to three; others are for MuJoCo to refuse.
        for count in element.get("count", "").split():
            copies *= max(int(count), 1) if count.isdecimal() and len(count) < 10 else MAX_ELEMENTS
        size += copies
        todo += [(child, copies) for child in element]
    return size


def _parse(text: str, name: str) -> ElementTree.Element:
    # A document type could define entities that grow without bound.
    if "<!DOCTYPE" in text:
        raise AlulaError(f"robot {name!r}: model has a document type; allowed: none")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as e:
        raise AlulaError(f"robot {name!r}: model is not readable as XML: {e}") from None


def known_arms() -> tuple[str, ...]:
    """Names of the arms that ship with alula."""
    return shipped("arm")


def load_arm(name_or_path: str | Path) -> Arm:
    """Load a shipped arm by name, or any robot file by path; its model lies in the same folder.

    Raises:
        AlulaError: unknown name, a multirotor's, unreadable file, missing or unknown quantity, wrong unit, no model, limits that
            are none, or joints that the model does not have.
    """
    path = find_robot(name_or_path, "arm")
    table = read_table(path)
    try:
        return _from_table(table, path.parent)
    except AlulaError as e:
        raise AlulaError(f"robot file {path}: {e}") from None


def _from_table(table: dict[str, Any], folder: Path) -> Arm:
    if table.get("kind") != "arm":
        raise AlulaError(f"kind is {table.get('kind')!r}; allowed: 'arm'")
    units = BY_JOINT | PLAIN
    allowed = {"name", "kind", "description", "joint_names", "model", "identification", *units}
    unknown = sorted(set(table) - allowed)
    if unknown:
        raise AlulaError(f"unknown quantity {unknown[0]!r}; known: {', '.join(sorted(allowed))}")
    missing = [key for key in ("name", "joint_names", *REQUIRED) if key not in table]
    if missing:
        raise AlulaError(f"{missing[0]} is missing")
    name, joints, model = table["name"], table["joint_names"], table.get("model", "")
    if not isinstance(name, str) or not isinstance(model, str):
        raise AlulaError("name and model must be strings")
    if not isinstance(joints, list) or not all(isinstance(j, str) for j in joints):
        raise AlulaError(f"joint_names is {joints}; allowed: a list of strings")
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key in units:
        if key in table:
            values[key] = _quantity(key, table[key])
            sources[key] = str(table[key]["source"])
    values |= {"name": name, "joint_names": tuple(joints), "model": _model(folder, model)}
    return Arm(**values, sources=sources)


def _quantity(key: str, entry: Any) -> Any:
    if not isinstance(entry, dict) or not {"value", "unit", "source"} <= set(entry):
        raise AlulaError(f"[{key}] needs value, unit and source")
    allowed = (BY_JOINT | PLAIN)[key]
    if entry["unit"] not in allowed:
        known = ", ".join(repr(unit) for unit in allowed)
        raise AlulaError(f"[{key}] has unit {entry['unit']!r}; allowed: {known}")
    value = entry["value"]
    if key not in BY_JOINT:
        return float(_number(key, value))
    if not isinstance(value, list):
        raise AlulaError(f"{key} is {value!r}; allowed: a list of numbers, one a joint")
    return tuple(float(_number(key, v)) for v in value)


def _number(key: str, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise AlulaError(f"{key} is {value!r}; allowed: numbers")
    return value


def _model(folder: Path, name: str) -> str:
    """The text of the model beside the robot file; empty where the file names none."""
    if not name:
        return ""
    if Path(name).name != name:
        raise AlulaError(f"model is {name!r}; allowed: the name of a file in the same folder")
    if not (folder / name).is_file():
        raise AlulaError(f"model {name!r} is not there; allowed: a file in {folder}")
    return read_text(folder / name, f"model {name!r}", "XML")
