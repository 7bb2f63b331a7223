"""An arm's compiled MuJoCo model as plain values that Isaac can be built from: URDF, drives, boxes.

The same masses, frames and gains in all physics. What has no counterpart is refused by name, not left out.
"""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from alula.errors import AlulaError
from alula.robots.arm import Arm
from alula.sim.isaac.urdf import SPEED_MAX, write_urdf
from alula.sim.mujoco.arm_model import joint_equalities

FREE = int(mujoco.mjtJoint.mjJNT_FREE)
PLANE, BOX = int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtGeom.mjGEOM_BOX)
BY_JOINT = int(mujoco.mjtTrn.mjTRN_JOINT)
TOUCH = int(mujoco.mjtSensor.mjSENS_TOUCH)
SPACING = 2.5
"""Distance of the environments [m]."""


@dataclass(frozen=True, kw_only=True)
class Drive:
    """What moves a joint: torque = stiffness (target - q) - damping q', target = offset + scale * control, or
    torque = scale * control where there is no stiffness.
    """

    joint: str
    """Name of the joint."""
    ctrl: int
    """Place of its control."""
    scale: float
    """Of the control [rad, m, N m or N]."""
    offset: float
    """Target at control 0 [rad or m]."""
    stiffness: float
    """[N m/rad or N/m]."""
    damping: float
    """The servo's and the joint's own [N m s/rad or N s/m]."""
    armature: float
    """Reflected inertia [kg m^2 or kg]."""
    effort_max: float
    """Largest torque or force [N m or N]."""

    @property
    def servo(self) -> bool:
        """Whether its control is a position."""
        return self.stiffness > 0.0


def is_free(model: mujoco.MjModel, body: int) -> bool:
    """Whether a body has a free joint."""
    return model.body_jntnum[body] == 1 and model.jnt_type[model.body_jntadr[body]] == FREE


def free_bodies(model: mujoco.MjModel) -> list[int]:
    """Bodies that move freely."""
    return [b for b in range(1, model.nbody) if is_free(model, b)]


def robot_bodies(model: mujoco.MjModel) -> list[int]:
    """All others but the world, parents first."""
    return [b for b in range(1, model.nbody) if not is_free(model, model.body_rootid[b])]


def scene_of(model: mujoco.MjModel, robot: Arm, n_envs: int, device: str) -> dict[str, Any]:
    """Everything that a worker builds from, as plain JSON values.

    Raises:
        AlulaError: the model has something that the adapters do not know.
    """
    _refuse(model, robot)
    bodies, found = robot_bodies(model), drives(model, robot)
    gravity = {round(float(model.body_gravcomp[b]), 6) for b in bodies if model.body_mass[b] > 0.0}
    home = dict(zip(robot.joint_names, robot.home, strict=True))
    followed = {f: leader for f, leader, _, _ in followers(model)}
    return {
        "n_envs": n_envs,
        "device": device,
        "dt": float(model.opt.timestep),
        "gravity": [float(x) for x in model.opt.gravity],
        "spacing": SPACING,
        "floor": any(model.geom_type[g] == PLANE for g in _geoms(model, 0)),
        "friction": _friction(model),
        "urdf": write_urdf(model, bodies, robot, {d.joint: d.effort_max for d in found}),
        # What compensates gravity fully is not pulled by it at all; the fixed base never is.
        "compensated": 1.0 in gravity,
        "joints": [
            {
                "name": d.joint,
                "servo": d.servo,
                "stiffness": d.stiffness,
                "damping": d.damping,
                "armature": d.armature,
                "effort_max": d.effort_max,
                "velocity_max": SPEED_MAX,
                "home": home.get(followed.get(d.joint, d.joint), 0.0),
            }
            for d in found
        ],
        "boxes": [_box(model, b) for b in free_bodies(model)],
        "touched": touched(model),
    }


def touched(model: mujoco.MjModel) -> list[str]:
    """Names of the robot's bodies whose contact forces are measured, each once."""
    sites = [model.sensor_objid[s] for s in range(model.nsensor) if model.sensor_type[s] == TOUCH]
    return sorted({model.body(model.site_bodyid[s]).name for s in sites})


def followers(model: mujoco.MjModel) -> list[tuple[str, str, float, float]]:
    """Joints that equalities hold to others: name, the other's name, offset, slope."""
    name = [model.joint(j).name for j in range(model.njnt)]
    return [(name[i], name[j], offset, slope) for i, j, offset, slope in joint_equalities(model)]


def drives(model: mujoco.MjModel, robot: Arm) -> list[Drive]:
    """A drive for each joint but free ones, in the model's order.

    One actuator that moves a joint and its followers is shared among them, for in Isaac each has a drive of its own.
    """
    follow = {first: (leader, offset, slope) for first, leader, offset, slope in followers(model)}
    by_joint = {
        model.joint(int(model.actuator_trnid[k, 0])).name: k
        for k in range(model.nu)
        if model.actuator_trntype[k] == BY_JOINT
    }
    limits = dict(zip(robot.joint_names, robot.effort_max, strict=True))
    found = []
    for j in range(model.njnt):
        if model.jnt_type[j] == FREE:
            continue
        name = model.joint(j).name
        leader, offset, slope = follow.get(name, (name, 0.0, 1.0))
        if leader not in by_joint or abs(slope) != 1.0:
            raise AlulaError(
                f"joint {name!r} of {robot.name!r} is moved by no actuator of its own; allowed in Isaac: one, or an "
                "equality that holds it to such a joint with slope 1 or -1"
            )
        k = by_joint[leader]
        share = 1.0 / (1 + sum(other == leader for other, _, _ in follow.values()))
        gear, gain = float(model.actuator_gear[k, 0]), float(model.actuator_gainprm[k, 0])
        b0, b1, b2 = (float(x) for x in model.actuator_biasprm[k, :3])
        dof = model.jnt_dofadr[j]
        if b1 == 0.0 and share < 1.0:
            raise AlulaError(
                f"action joint_torque: {name!r} is one of joints held together; allowed: position servos"
            )
        # With the length gear q the torque is gear (gain u + b0 + b1 gear q + b2 gear q').
        scale = gear * gain if b1 == 0.0 else slope * gain / (-b1 * gear)
        rest = 0.0 if b1 == 0.0 else offset + slope * b0 / (-b1 * gear)
        found.append(
            Drive(
                joint=name,
                ctrl=k,
                scale=scale,
                offset=rest,
                stiffness=-b1 * gear**2 * share,
                damping=-b2 * gear**2 * share + float(model.dof_damping[dof]),
                armature=float(model.dof_armature[dof]),
                effort_max=limits[leader] * share,
            )
        )
    return found


def _refuse(model: mujoco.MjModel, robot: Arm) -> None:
    """What no worker can build."""
    problem = ""
    if model.na or model.nhistory:
        problem = "its actuators have lag or delay; allowed: actuator_lag and actuator_delay 0"
    gravity = {float(model.body_gravcomp[b]) for b in robot_bodies(model) if model.body_jntnum[b]}
    if len(gravity) > 1 or not gravity <= {0.0, 1.0}:
        problem = f"gravcomp is {sorted(gravity)}; allowed: 0 or 1, for all moving bodies the same"
    for b in range(1, model.nbody):
        fixed_root = model.body_parentid[b] == 0 and not is_free(model, b)
        if fixed_root and (np.any(model.body_pos[b]) or abs(model.body_quat[b, 0]) < 1.0 - 1e-9):
            problem = f"body {model.body(b).name!r} is fixed away from the origin; allowed: the robot's base at it"
    roots = {int(model.body_rootid[b]) for b in robot_bodies(model)}
    if len(roots) != 1:
        problem = f"{len(roots)} bodies are fixed to the world; allowed: the robot's base"
    if any(model.geom_type[g] != PLANE for g in _geoms(model, 0)):
        problem = "shapes are fixed to the world; allowed: a floor"
    if problem:
        raise AlulaError(f"robot {robot.name!r} with this task is not for Isaac: {problem}")


def _geoms(model: mujoco.MjModel, body: int) -> list[int]:
    first = model.body_geomadr[body]
    return list(range(first, first + model.body_geomnum[body]))


def _box(model: mujoco.MjModel, body: int) -> dict[str, Any]:
    name, geoms = model.body(body).name, _geoms(model, body)
    centred = len(geoms) == 1 and not np.any(model.geom_pos[geoms[0]])
    straight = centred and abs(model.geom_quat[geoms[0], 0]) > 1.0 - 1e-9
    if not (straight and model.geom_type[geoms[0]] == BOX):
        raise AlulaError(f"object {name!r} is not for Isaac: allowed: one box, in its middle")
    size = [2.0 * float(x) for x in model.geom_size[geoms[0]]]
    return {"name": name, "size": size, "mass": float(model.body_mass[body])}


def _friction(model: mujoco.MjModel) -> float:
    """Of sliding, of the shapes that count most; one for all, for materials are combined otherwise in Isaac."""
    ids = np.flatnonzero((model.geom_contype != 0) | (model.geom_conaffinity != 0))
    priority = model.geom_priority[ids]
    found = set(model.geom_friction[ids[priority == priority.max()], 0].tolist())
    if len(found) != 1:
        raise AlulaError(
            f"friction of the shapes is {sorted(found)}; allowed in Isaac: one for all"
        )
    return found.pop()
