"""Where an arm's tool is, from its joint positions: the chain to a site of the robot's MJCF, without MuJoCo.

Read are bodies, joints and sites with their defaults, as MuJoCo's XML reference says ("Frame orientations", "Default
settings"). What is not understood on the way from the world to the site is refused, never guessed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from alula.arrays import namespace
from alula.errors import AlulaError
from alula.robots.arm import Arm

ORIENTATIONS = ("quat", "euler", "axisangle", "xyaxes")
"""Attributes that turn a frame, and are understood."""
BODY = {"name", "childclass", "pos", "gravcomp", "user", "sleep", *ORIENTATIONS}
"""Attributes of a body on the way; others could move it."""
Attributes = Mapping[str, str]
Axis = tuple[int, bool, tuple[Any, ...], tuple[Any, ...]]
"""A joint's place in the robot file, whether it slides, its axis in the world (3) and a point on it [m] (3)."""


class Kinematics:
    """The chain of joints from the world to a site; the robot file lists them all."""

    def __init__(self, arm: Arm, site: str = "") -> None:
        """Read the model.

        Args:
            arm: its model and the order of its joints.
            site: its name; empty: the arm's tool.

        Raises:
            AlulaError: no model, no such site, or something on the chain that is not understood or not listed.
        """
        if not arm.model:
            raise AlulaError(f"robot {arm.name!r} has no model; allowed: an MJCF file named in it")
        self.site = site or arm.tool
        """Name of the site."""
        try:
            start, chain = _Reader(arm.model).chain(self.site)
        except AlulaError as e:
            raise AlulaError(f"robot {arm.name!r}: model: {e}") from None
        self.joint_names = arm.joint_names
        """Joint names in the order of `forward` (J)."""
        places = {name: i for i, name in enumerate(arm.joint_names)}
        for name, *_ in chain:
            if name not in places:
                raise off_the_list(arm, name, self.site)
        steps = [(places[name], slide, reference, fixed) for name, slide, reference, fixed in chain]
        self._start, self._steps = start, tuple(steps)
        self.chain = tuple(index for index, *_ in steps)
        """Places in `joint_names` of the joints that move the site, from the base on."""

    def forward(self, joint_position: Sequence[float]) -> tuple[list[float], list[float]]:
        """Pose of the site in the world, the robot's base where its model puts it.

        Args:
            joint_position: positions in the order of the robot file, plain floats [rad or m] (J).

        Returns:
            Position [m] (3), and the rotation matrix that maps site to world, row-major (9).

        Raises:
            ValueError: a position is infinite.
        """
        *rot, x, y, z = self._walk(joint_position, None)
        return [x, y, z], rot

    def axes(self, joint_position: Sequence[Any]) -> tuple[list[Any], list[Axis]]:
        """Position of the site in the world, and the axis of every joint that moves it.

        Args:
            joint_position: as of `forward`, or arrays in place of the floats, for many arms at once (J).

        Returns:
            Position [m] (3), and an `Axis` for each joint of the chain; floats, or arrays where those were given.
        """
        axes: list[Axis] = []
        pose = self._walk(joint_position, axes)
        return pose[9:], axes

    def _walk(self, joint_position: Sequence[Any], axes: list[Axis] | None) -> list[Any]:
        """Rotation of the site, row-major (9), and its position (3); axes of the joints on the way are appended."""
        # Plain floats: numpy takes longer to begin a product of such small matrices than this takes to end it. The same
        # lines serve arrays, one number a joint and arm.
        first = joint_position[0]
        xp: Any = math if isinstance(first, float | int) else namespace(first)
        cos, sin = xp.cos, xp.sin
        a, b, c, d, e, f, g, h, i, x, y, z = self._start
        for index, slide, reference, fixed in self._steps:
            q = joint_position[index] - reference
            if axes is not None:
                axes.append((index, slide, (c, f, i), (x, y, z)))
            if slide:
                # p + R (0, 0, q)
                x, y, z = x + c * q, y + f * q, z + i * q
            else:
                # R Rz(q)
                co, si = cos(q), sin(q)
                a, b = co * a + si * b, co * b - si * a
                d, e = co * d + si * e, co * e - si * d
                g, h = co * g + si * h, co * h - si * g
            r0, r1, r2, r3, r4, r5, r6, r7, r8, u, v, w = fixed
            # p + R p_f, then R R_f; not in place, since arrays would change under the axes noted before.
            x = x + (a * u + b * v + c * w)
            y = y + (d * u + e * v + f * w)
            z = z + (g * u + h * v + i * w)
            a, b, c = a * r0 + b * r3 + c * r6, a * r1 + b * r4 + c * r7, a * r2 + b * r5 + c * r8
            d, e, f = d * r0 + e * r3 + f * r6, d * r1 + e * r4 + f * r7, d * r2 + e * r5 + f * r8
            g, h, i = g * r0 + h * r3 + i * r6, g * r1 + h * r4 + i * r7, g * r2 + h * r5 + i * r8
        return [a, b, c, d, e, f, g, h, i, x, y, z]


def off_the_list(arm: Arm, joint: str, site: str) -> AlulaError:
    """What to say of a joint that moves the tool and that nobody measures or commands."""
    return AlulaError(
        f"joint {joint or 'without a name'!r} of robot {arm.name!r} moves the site {site!r} and is not in joint_names; "
        f"allowed: only {', '.join(arm.joint_names)} on the way to it"
    )


Link = tuple[str, bool, float, tuple[float, ...]]
"""A joint's name, whether it slides, its reference, and the fixed transform from its frame to the next joint's."""


class _Reader:
    """One model's text, taken apart."""

    def __init__(self, model: str) -> None:
        self._root = ElementTree.fromstring(model)
        compiler: dict[str, str] = {}
        for element in self._root.findall("compiler"):
            compiler |= element.attrib
        if compiler.get("coordinate", "local") != "local":
            raise AlulaError(f"coordinates are {compiler['coordinate']!r}; allowed: 'local'")
        self._unit = 1.0 if compiler.get("angle", "degree") == "radian" else math.pi / 180.0
        self._eulerseq = compiler.get("eulerseq", "xyz")
        self._classes: dict[str, dict[str, dict[str, str]]] = {"main": {"joint": {}, "site": {}}}
        for element in self._root.findall("default"):
            self._add_class(element, "main", self._classes["main"])

    def chain(self, name: str) -> tuple[tuple[float, ...], list[Link]]:
        """The transform from the world to the first joint, and all joints on the way to a site."""
        found = {e.get("name"): e for e in self._root.iterfind("worldbody//site")}
        if name not in found:
            raise AlulaError(f"no site {name!r}; known: {', '.join(map(str, found))}")
        bodies, site = self._bodies(found[name]), found[name]
        klass, fixed = "main", np.eye(4)
        joints: list[tuple[str, bool, float]] = []
        transforms: list[np.ndarray] = []
        for body in bodies:
            klass = body.get("childclass", klass)
            fixed = fixed @ self._frame(body, body.attrib)
            for element in body:
                if element.tag == "freejoint":
                    raise AlulaError(f"{_named(element)} moves freely; allowed: hinge, slide")
                if element.tag != "joint":
                    continue
                attributes = self._attributes(element, klass)
                joint, to_axis = self._joint(element, attributes)
                joints.append(joint)
                transforms.append(fixed @ to_axis)
                fixed = np.linalg.inv(to_axis)
        attributes = self._attributes(site, klass)
        if "fromto" in attributes:
            raise AlulaError(f"{_named(site)} has a fromto; allowed: pos and an orientation")
        start, *rest = map(_flat, [*transforms, fixed @ self._frame(site, attributes)])
        return start, [(*joint, after) for joint, after in zip(joints, rest, strict=True)]

    def _bodies(self, site: Element) -> list[Element]:
        """Bodies from the world to a site, outermost first."""
        parents = {child: parent for parent in self._root.iter() for child in parent}
        bodies, element = [], parents[site]
        while element.tag != "worldbody":
            if element.tag != "body":
                raise AlulaError(f"{_named(element)} around {_named(site)}; allowed: bodies")
            unknown = sorted(set(element.attrib) - BODY)
            if unknown:
                known = ", ".join(sorted(BODY))
                raise AlulaError(f"{_named(element)} has {unknown[0]!r}; allowed: {known}")
            bodies.append(element)
            element = parents[element]
        return bodies[::-1]

    def _joint(self, element: Element, a: Attributes) -> tuple[tuple[str, bool, float], np.ndarray]:
        """A joint, and the frame whose z is its axis in its body (4, 4)."""
        kind = a.get("type", "hinge")
        if kind not in ("hinge", "slide"):
            raise AlulaError(f"{_named(element)} is a {kind}; allowed: hinge, slide")
        axis = self._unit_vector(element, "axis", _numbers(element, a, "axis", (0.0, 0.0, 1.0)))
        frame = np.eye(4)
        frame[:3, 3] = _numbers(element, a, "pos", (0.0, 0.0, 0.0))
        # Any frame whose z is the axis does; the least turned is good for the digits.
        x = np.eye(3)[int(np.argmin(np.abs(axis)))]
        if abs(axis[2]) < 1.0:
            x = np.cross(np.cross(axis, x), axis)
            frame[:3, 0] = x / np.linalg.norm(x)
            frame[:3, 1] = np.cross(axis, frame[:3, 0])
            frame[:3, 2] = axis
        elif axis[2] < 0.0:
            frame[:3, :3] = np.diag([1.0, -1.0, -1.0])
        (reference,) = _numbers(element, a, "ref", (0.0,))
        slide = kind == "slide"
        joint = (element.get("name", ""), slide, reference * (1.0 if slide else self._unit))
        return joint, frame

    def _frame(self, element: Element, a: Attributes) -> np.ndarray:
        """Transform (4, 4) of a body or site in its parent."""
        frame = np.eye(4)
        frame[:3, 3] = _numbers(element, a, "pos", (0.0, 0.0, 0.0))
        given = [key for key in (*ORIENTATIONS, "zaxis") if key in a]
        if len(given) > 1 or "zaxis" in given:
            raise AlulaError(
                f"{_named(element)} has {' and '.join(given)}; allowed: one of {', '.join(ORIENTATIONS)}"
            )
        match given:
            case ["quat"]:
                values = _numbers(element, a, "quat", (1.0, 0.0, 0.0, 0.0))
                w, *v = self._unit_vector(element, "quat", values)
                # A quaternion (cos, sin n) turns by the angle twice about n.
                frame[:3, :3] = _turn(np.array(v), 2.0 * math.atan2(math.hypot(*v), w))
            case ["axisangle"]:
                *axis, angle = _numbers(element, a, "axisangle", (0.0, 0.0, 1.0, 0.0))
                axis = self._unit_vector(element, "axisangle", axis)
                frame[:3, :3] = _turn(axis, self._unit * angle)
            case ["euler"]:
                frame[:3, :3] = self._euler(_numbers(element, a, "euler", (0.0, 0.0, 0.0)))
            case ["xyaxes"]:
                six = _numbers(element, a, "xyaxes", (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
                x = self._unit_vector(element, "xyaxes", six[:3])
                # y without its part along x
                y = np.array(six[3:]) - np.dot(x, six[3:]) * x
                y = self._unit_vector(element, "xyaxes", y)
                frame[:3, :3] = np.column_stack([x, y, np.cross(x, y)])
        return frame

    def _euler(self, angles: Sequence[float]) -> np.ndarray:
        """Rotation (3, 3): small letters turn about the axes as turned so far, capitals about fixed ones."""
        if len(self._eulerseq) != 3 or not set(self._eulerseq) <= set("xyzXYZ"):
            raise AlulaError(f"eulerseq is {self._eulerseq!r}; allowed: three of x, y, z, X, Y, Z")
        rot = np.eye(3)
        for letter, angle in zip(self._eulerseq, angles, strict=True):
            turn = _turn(np.eye(3)["xyz".index(letter.lower())], self._unit * angle)
            rot = rot @ turn if letter.islower() else turn @ rot
        return rot

    def _unit_vector(self, element: Element, key: str, values: Sequence[float]) -> np.ndarray:
        length = math.hypot(*values)
        if not length > 1e-9:
            raise AlulaError(
                f"{_named(element)} has the {key} {list(values)}; allowed: no zero length"
            )
        return np.array(values) / length

    def _add_class(self, element: Element, name: str, above: dict[str, dict[str, str]]) -> None:
        """Attributes of joints and sites by class: those of the class above, and its own."""
        own = dict(above)
        for child in element:
            if child.tag in own:
                own[child.tag] = _over(own[child.tag], child.attrib)
        self._classes[name] = own
        for child in element.findall("default"):
            self._add_class(child, child.get("class", ""), own)

    def _attributes(self, element: Element, klass: str) -> Attributes:
        """Attributes of a joint or site with those of its class."""
        klass = element.get("class", klass)
        if klass not in self._classes:
            known = ", ".join(self._classes)
            raise AlulaError(f"{_named(element)} is of class {klass!r}; known: {known}")
        return _over(self._classes[klass][element.tag], element.attrib)


def _over(above: Attributes, own: Attributes) -> dict[str, str]:
    """Attributes laid over others; an orientation replaces any other."""
    turned = any(key in own for key in (*ORIENTATIONS, "zaxis"))
    kept = {k: v for k, v in above.items() if not (turned and k in (*ORIENTATIONS, "zaxis"))}
    return {**kept, **own}


def _numbers(
    element: Element, attributes: Attributes, key: str, default: tuple[float, ...]
) -> list[float]:
    """Finite numbers of an attribute, as many as the default has."""
    if key not in attributes:
        return list(default)
    try:
        values = [float(x) for x in attributes[key].split()]
    except ValueError:
        values = []
    if len(values) != len(default) or not all(map(math.isfinite, values)):
        raise AlulaError(
            f"{_named(element)} has the {key} {attributes[key]!r}; allowed: {len(default)} finite numbers"
        )
    return values


def _named(element: Element) -> str:
    return f"<{element.tag}> {element.get('name', 'without a name')!r}"


def _turn(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation matrix (3, 3) about an axis (3) by an angle [rad]; a zero axis turns nothing."""
    n = math.hypot(*axis)
    if n == 0.0:
        return np.eye(3)
    x, y, z = axis / n
    k = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    # Rodrigues: I + sin k + (1 - cos) k k
    return np.eye(3) + math.sin(angle) * k + (1.0 - math.cos(angle)) * (k @ k)


def _flat(frame: np.ndarray) -> tuple[float, ...]:
    """Rotation, row-major (9), and position (3) of a transform (4, 4)."""
    return (*frame[:3, :3].ravel().tolist(), *frame[:3, 3].tolist())


def _matrix(flat: tuple[float, ...]) -> np.ndarray:
    frame = np.eye(4)
    frame[:3, :3], frame[:3, 3] = np.reshape(flat[:9], (3, 3)), flat[9:]
    return frame
