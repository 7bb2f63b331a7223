"""A multirotor as a MuJoCo model: one free body, its rotors as forces at sites.

Nothing of alula's own equations is used here; this is the second physics that checks the first.
"""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

import mujoco
import numpy as np

from alula.robots.multirotor import GRAVITY, Multirotor
from alula.sim.mujoco.vehicles import Vehicles

VEHICLES = 4
"""Vehicles in one model. They do not touch; a MuJoCo step of four costs about as much as two of one."""

FLYWHEEL_SHARE = 1e-6
"""Inertia of the flywheel in smallest moments of inertia of the vehicle [-]; see `build_model`."""

_OFF = (
    mujoco.mjtDisableBit.mjDSBL_CONSTRAINT,
    mujoco.mjtDisableBit.mjDSBL_CONTACT,
    mujoco.mjtDisableBit.mjDSBL_SPRING,
    mujoco.mjtDisableBit.mjDSBL_DAMPER,
    mujoco.mjtDisableBit.mjDSBL_SENSOR,
    mujoco.mjtDisableBit.mjDSBL_CLAMPCTRL,
    # a diverged flight must look diverged, not jump back to the origin
    mujoco.mjtDisableBit.mjDSBL_AUTORESET,
)


def build_model(robot: Multirotor, timestep: float) -> mujoco.MjModel:
    """The compiled model of VEHICLES copies of a robot; `set_vehicle` sets mass properties and gears.

    For each vehicle in turn, generalised positions are the free joint's (position_w 3, quat_wb 4) and
    velocities its (velocity_w 3, angular_velocity_b 3): MuJoCo's own conventions are alula's. The controls
    are the thrusts of its rotors [N] in robot order, at sites whose gear adds the reaction torque about
    body z.

    Linear drag acts through three more actuators along the body axes, without control, whose force is
    -drag * velocity, so that the integrator sees it at each of its stages.

    Where the robot states a rotor inertia, the rotors' net angular momentum h = J_r sum(spin * speed) is
    carried by one flywheel on the body z axis: its hinge gives the gyroscopic torque and the inertial
    reaction by MuJoCo's own multibody dynamics. Its inertia is FLYWHEEL_SHARE of the vehicle's, so the
    yaw acceleration it does not follow biases h by that share at most.
    """
    spec = mujoco.MjSpec()
    spec.modelname = "multirotor"
    spec.option.timestep = timestep
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_RK4
    spec.option.gravity = [0.0, 0.0, -GRAVITY]
    spec.option.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
    spec.option.disableflags = sum(int(flag) for flag in _OFF)
    for slot in range(VEHICLES):
        _add_vehicle(spec, robot, f"{slot}/")
    return spec.compile()


def _add_vehicle(spec: mujoco.MjSpec, robot: Multirotor, prefix: str) -> None:
    base = spec.worldbody.add_body(name=f"{prefix}base")
    base.add_freejoint()
    _unit_inertia(base)
    for name, hub in zip(robot.rotor_names, robot.rotor_position_b, strict=True):
        site = f"{prefix}rotor/{name}"
        base.add_site(name=site, pos=list(hub))
        _site_actuator(spec, site, site, axis=2)
    if has_drag(robot):
        base.add_site(name=f"{prefix}centre")
        for axis in range(3):
            drag = _site_actuator(spec, f"{prefix}drag/{'xyz'[axis]}", f"{prefix}centre", axis=axis)
            drag.gainprm = [0.0] * len(drag.gainprm)
            drag.biastype = mujoco.mjtBias.mjBIAS_AFFINE
    if has_flywheel(robot):
        flywheel = base.add_body(name=f"{prefix}flywheel")
        flywheel.add_joint(
            name=f"{prefix}flywheel", type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 0, 1]
        )
        _unit_inertia(flywheel)


def has_drag(robot: Multirotor) -> bool:
    """Whether the model has the three drag actuators (after the rotors')."""
    return any(robot.drag_b)


def has_flywheel(robot: Multirotor) -> bool:
    """Whether the model has the flywheel (last degree of freedom)."""
    return robot.rotor_inertia > 0.0


def flywheel_inertia(robot: Multirotor) -> float:
    """Axial inertia of the flywheel [kg m^2]."""
    return FLYWHEEL_SHARE * min(robot.inertia)


def _unit_inertia(body: mujoco.MjsBody) -> None:
    # MuJoCo refuses a moving body without mass; set_vehicle overwrites it
    body.mass = 1.0
    body.inertia = [1.0, 1.0, 1.0]
    body.explicitinertial = True


def _site_actuator(spec: mujoco.MjSpec, name: str, site: str, *, axis: int) -> mujoco.MjsActuator:
    gear = [0.0] * 6
    gear[axis] = 1.0
    return spec.add_actuator(name=name, target=site, trntype=mujoco.mjtTrn.mjTRN_SITE, gear=gear)


def set_vehicle(
    model: mujoco.MjModel, slot: int, robot: Multirotor, vehicles: Vehicles, i: int
) -> None:
    """Give one vehicle of a model the mass, inertia, rotor torque and drag of vehicle i.

    MuJoCo's derived constants must be computed anew afterwards, by `mujoco.mj_setConst`.

    Args:
        model: a copy of `build_model(robot, ...)`, changed in place.
        slot: which of the model's vehicles.
        robot: the nominal robot.
        vehicles: drawn parameters of N vehicles.
        i: which of them.
    """
    mass, inertia = vehicles.mass[i], vehicles.inertia[i]
    base = 1 + slot * (2 if has_flywheel(robot) else 1)
    if has_flywheel(robot):
        axial = flywheel_inertia(robot)
        disc = np.array([0.5 * axial, 0.5 * axial, axial])
        model.body_mass[base + 1] = FLYWHEEL_SHARE * mass
        model.body_inertia[base + 1] = disc
        mass, inertia = mass - model.body_mass[base + 1], inertia - disc
    model.body_mass[base] = mass
    model.body_inertia[base] = inertia
    rotors = robot.n_rotors
    first = slot * (rotors + (3 if has_drag(robot) else 0))
    # torque_z = -spin kappa thrust
    spin = np.asarray(robot.rotor_spin)
    model.actuator_gear[first : first + rotors, 5] = -spin * vehicles.torque_per_thrust[i]
    if has_drag(robot):
        # force = bias_2 * velocity along the site's axis
        drag = slice(first + rotors, first + rotors + 3)
        model.actuator_biasprm[drag, 2] = -vehicles.drag_b[i]
