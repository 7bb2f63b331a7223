"""A compiled MuJoCo model as URDF: frames, inertias, joints and the shapes that collide."""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import mujoco
import numpy as np

from alula.errors import AlulaError
from alula.frames import rot_from_quat
from alula.robots.arm import Arm

HINGE, SLIDE = int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE)
SPHERE, CAPSULE = int(mujoco.mjtGeom.mjGEOM_SPHERE), int(mujoco.mjtGeom.mjGEOM_CAPSULE)
CYLINDER, BOX = int(mujoco.mjtGeom.mjGEOM_CYLINDER), int(mujoco.mjtGeom.mjGEOM_BOX)
SPEED_MAX = 1000.0
"""Of joints: no limit, as MuJoCo has none [rad/s or m/s]."""
LEAST_MASS, LEAST_INERTIA = 1e-3, 1e-6
"""Of a body without mass, which importers would give one of their own [kg], [kg m^2]."""


def write_urdf(
    model: mujoco.MjModel, bodies: Sequence[int], robot: Arm, effort_max: Mapping[str, float]
) -> str:
    """The bodies of a robot, the first of them its base.

    A capsule becomes a cylinder as long as its axis, for URDF has none; importers are asked for capsules.

    Raises:
        AlulaError: bodies without names, several joints on one, or shapes that URDF has not.
    """
    top = Element("robot", name=robot.name)
    for body in bodies:
        name = model.body(body).name
        if not name or model.body_jntnum[body] > 1:
            raise AlulaError(f"body {name!r} of {robot.name!r}: allowed: a name and one joint")
        _add_link(top, model, body, name)
        if body != bodies[0]:
            _add_joint(top, model, body, name, effort_max)
    return ElementTree.tostring(top, encoding="unicode")


def _add_link(top: Element, model: mujoco.MjModel, body: int, name: str) -> None:
    link = SubElement(top, "link", name=name)
    inertial = SubElement(link, "inertial")
    # MuJoCo has principal axes, turned by iquat.
    inertial.append(_origin(model.body_ipos[body], model.body_iquat[body]))
    massive = model.body_mass[body] > 0.0
    mass = float(model.body_mass[body]) if massive else LEAST_MASS
    SubElement(inertial, "mass", value=repr(mass))
    x, y, z = model.body_inertia[body].tolist() if massive else [LEAST_INERTIA] * 3
    SubElement(
        inertial, "inertia", ixx=repr(x), iyy=repr(y), izz=repr(z), ixy="0", ixz="0", iyz="0"
    )
    first = model.body_geomadr[body]
    for geom in range(first, first + model.body_geomnum[body]):
        if model.geom_contype[geom] or model.geom_conaffinity[geom]:
            collision = SubElement(link, "collision")
            collision.append(_origin(model.geom_pos[geom], model.geom_quat[geom]))
            collision.append(_shape(model, geom, name))


def _shape(model: mujoco.MjModel, geom: int, body: str) -> Element:
    size, geometry = model.geom_size[geom].tolist(), Element("geometry")
    match int(model.geom_type[geom]):
        case kind if kind == BOX:
            SubElement(geometry, "box", size=_numbers(2.0 * np.array(size)))
        case kind if kind == SPHERE:
            SubElement(geometry, "sphere", radius=repr(size[0]))
        case kind if kind in (CAPSULE, CYLINDER):
            SubElement(geometry, "cylinder", radius=repr(size[0]), length=repr(2.0 * size[1]))
        case kind:
            shape = mujoco.mjtGeom(kind).name
            raise AlulaError(
                f"body {body!r} has a shape {shape}; allowed in Isaac: box, sphere, cylinder, capsule"
            )
    return geometry


def _add_joint(
    top: Element,
    model: mujoco.MjModel,
    body: int,
    name: str,
    effort_max: Mapping[str, float],
) -> None:
    parent = model.body(model.body_parentid[body]).name
    origin = _origin(model.body_pos[body], model.body_quat[body])
    if not model.body_jntnum[body]:
        joint = SubElement(top, "joint", name=f"{name}_fixed", type="fixed")
    else:
        j = int(model.body_jntadr[body])
        joint_name, kind = model.joint(j).name, int(model.jnt_type[j])
        if (
            np.any(model.jnt_pos[j])
            or model.qpos0[model.jnt_qposadr[j]]
            or kind not in (HINGE, SLIDE)
        ):
            raise AlulaError(
                f"joint {joint_name!r}: allowed in Isaac: hinges and slides at their body's origin, reference 0"
            )
        word = (
            "prismatic" if kind == SLIDE else "revolute" if model.jnt_limited[j] else "continuous"
        )
        joint = SubElement(top, "joint", name=joint_name, type=word)
        SubElement(joint, "axis", xyz=_numbers(model.jnt_axis[j]))
        low, high = model.jnt_range[j].tolist()
        effort, speed = effort_max[joint_name], SPEED_MAX
        SubElement(
            joint, "limit", lower=repr(low), upper=repr(high), effort=repr(effort), velocity=repr(speed)
        )  # fmt: skip
    joint.append(origin)
    SubElement(joint, "parent", link=parent)
    SubElement(joint, "child", link=name)


def _origin(position: np.ndarray, quat: np.ndarray) -> Element:
    """A frame in its parent's; rpy turn about the parent's x, then y, then z: R = Rz(y) Ry(p) Rx(r)."""
    r = rot_from_quat(quat)
    pitch = np.arctan2(-r[2, 0], np.hypot(r[0, 0], r[1, 0]))
    if np.hypot(r[0, 0], r[1, 0]) > 1e-9:
        roll, yaw = np.arctan2(r[2, 1], r[2, 2]), np.arctan2(r[1, 0], r[0, 0])
    else:
        # Looking straight up or down, one of the two is free.
        roll, yaw = 0.0, np.arctan2(-r[0, 1], r[1, 1])
    return Element("origin", xyz=_numbers(position), rpy=_numbers([roll, pitch, yaw]))


def _numbers(values: np.ndarray | Sequence[float]) -> str:
    return " ".join(repr(float(x)) for x in values)
