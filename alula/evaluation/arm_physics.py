"""Changes of an arm's physics: a second setting as sim-to-sim, and one factor at a time for the robustness map."""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

import math
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import mujoco
import numpy as np

from alula.robots.arm import Arm
from alula.sim.arm_config import MAX_SUBSTEPS, ArmSimConfig
from alula.sim.arm_scene import Start, ToolPose
from alula.sim.mujoco.arm import MujocoArm
from alula.sim.mujoco.arm_model import Edit

if TYPE_CHECKING:
    from alula.sim.mujoco.arm_warp import HostedArm

SOFTER = 1.5
"""Factor on the time constant of every contact in the second setting [-]."""
ITERATIONS = 3000
"""Most steps of the conjugate gradients: with MuJoCo's 100 they end before the solution where friction is stiff, and what
is held flies off."""
TOUCH = 5e-4
"""What is no further from a fixed shape rests on it [m]."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything that makes a simulator of arms."""

    robot: Arm
    """The arm."""
    task: ModuleType
    """The task."""
    config: ArmSimConfig
    """Rates, actions, randomisation, noise."""
    edit: Edit | None = None
    """Change of the model."""
    warp: bool = False
    """Moved by MuJoCo Warp, on a GPU where there is one, in place of C MuJoCo."""

    def simulator(self, n: int) -> "MujocoArm | HostedArm":
        """N environments in which an ended episode stays ended, and nothing helps the robot.

        Raises:
            AlulaError: MuJoCo Warp is not installed, or does not know the model.
        """
        config = replace(self.config, assisting_force=0.0, relaxed_contacts=0.0, head_start=0.0)
        if not self.warp:
            return MujocoArm(self.robot, self.task, config, n, auto_reset=False, edit=self.edit)
        from alula.sim.mujoco.arm_warp import HostedArm, WarpArm, best_device

        device = best_device()
        return HostedArm(
            WarpArm(
                self.robot, self.task, config, n, auto_reset=False, edit=self.edit, device=device
            )
        )


def other_physics(setting: Setting) -> Setting:
    """The same in MuJoCo's other methods: what a policy gains from one of them alone is lost.

    Half the physics step and with it half of the integrator's error, which takes in all derivatives of the forces;
    conjugate gradients in place of Newton's method; pyramidal friction cones (elliptic ones, where the robot's model has
    pyramids); contacts that are SOFTER times slower. RK4 would be further away, and diverges on fixtures that are held
    by stiff damping.
    """

    def edit(spec: mujoco.MjSpec) -> None:
        option = spec.option
        option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICIT
        option.solver = mujoco.mjtSolver.mjSOL_CG
        option.iterations = ITERATIONS
        pyramids = int(option.cone) == int(mujoco.mjtCone.mjCONE_PYRAMIDAL)
        option.cone = (
            mujoco.mjtCone.mjCONE_ELLIPTIC if pyramids else mujoco.mjtCone.mjCONE_PYRAMIDAL
        )
        for contact in (*spec.geoms, *spec.pairs):
            # Negative: stiffness and damping themselves; NaN in a pair: as its shapes say.
            if contact.solref[0] > 0.0:
                contact.solref[0] *= SOFTER

    substeps = min(2 * setting.config.substeps, MAX_SUBSTEPS)
    return replace(setting, config=replace(setting.config, substeps=substeps), edit=edit)


def objects(setting: Setting) -> tuple[str, ...]:
    """Names of the bodies that the task lets move freely: those with a `<freejoint>`."""
    root = ElementTree.fromstring(setting.task.objects(setting.robot))
    free = [b for b in root.iter("body") if b.find("freejoint") is not None]
    return tuple(b.get("name", "") for b in free)


def scale_link_mass(setting: Setting, factor: float) -> Setting:
    """Masses and inertias of the robot's bodies, times a factor."""
    added = ElementTree.fromstring(setting.task.objects(setting.robot)).iter("body")
    others = {"world", *(body.get("name") for body in added)}

    def edit(spec: mujoco.MjSpec) -> None:
        for body in spec.bodies:
            if body.name not in others:
                _scale_mass(body, factor)

    return replace(setting, edit=edit)


def scale_object_mass(setting: Setting, factor: float) -> Setting:
    """Masses and inertias of the task's objects, times a factor."""
    task = objects(setting)

    def edit(spec: mujoco.MjSpec) -> None:
        for name in task:
            _scale_mass(spec.body(name), factor)

    return replace(setting, edit=edit)


def scale_joint_friction(setting: Setting, factor: float) -> Setting:
    """Friction loss and viscous damping of the robot's joints, times a factor."""

    def edit(spec: mujoco.MjSpec) -> None:
        for name in setting.robot.joint_names:
            joint = spec.joint(name)
            joint.frictionloss *= factor
            # The first is the linear coefficient.
            joint.damping = np.asarray(joint.damping) * factor

    return replace(setting, edit=edit)


def scale_contact_friction(setting: Setting, factor: float) -> Setting:
    """Sliding friction of all shapes and pairs, times a factor."""

    def edit(spec: mujoco.MjSpec) -> None:
        for geom in spec.geoms:
            geom.friction[0] *= factor
        for pair in spec.pairs:
            # One for each direction; NaN: as its shapes say.
            pair.friction[:2] *= factor

    return replace(setting, edit=edit)


def same_model(setting: Setting, other: Setting) -> bool:
    """Whether two settings are one model."""
    data = []
    for s in (setting, other):
        model = s.simulator(1).model
        buffer = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
        mujoco.mj_saveModel(model, None, buffer)
        data.append(buffer)
    return np.array_equal(*data)


def delayed(setting: Setting, delay: float) -> Setting:
    """Commands that reach the actuators `delay` seconds late."""
    random = replace(setting.config.randomization, actuator_delay=(delay, delay))
    return replace(setting, config=replace(setting.config, randomization=random))


def scale_object_size(setting: Setting, factor: float) -> Setting:
    """The task's objects of another size and the same mass, begun on what they rest on all the same.

    See `resting` for the objects that allow it.
    """
    names, lowest = objects(setting), resting(setting)
    assert lowest is not None

    def edit(spec: mujoco.MjSpec) -> None:
        for name in names:
            for geom in spec.body(name).geoms:
                if math.isnan(geom.mass):
                    geom.density /= factor**3
                geom.size = np.asarray(geom.size) * factor
                geom.pos = np.asarray(geom.pos) * factor
            _scale_inertia(spec.body(name), factor)

    def start(rng: np.random.Generator, n: int, robot: Arm, tool_pose: ToolPose) -> Start:
        begun = setting.task.start(rng, n, robot, tool_pose)
        for name, pose in begun.pose_w.items():
            pose[:, 2] += (factor - 1.0) * lowest.get(name, 0.0)
        return begun

    task = ModuleType(setting.task.__name__)
    task.__dict__.update(vars(setting.task) | {"start": start})
    return replace(setting, task=task, edit=edit)


def resting(setting: Setting) -> dict[str, float] | None:
    """How high each object's origin lies above its lowest point at the start, by name [m].

    None where one does not rest on something fixed: its size cannot be changed without another start.
    """
    simulator = setting.simulator(1)
    simulator.reset(0)
    model, names = simulator.model, objects(setting)
    data = mujoco.MjData(model)
    data.qpos[:] = simulator.qpos[0]
    for name in names:
        # Lowered by this, what rests touches.
        data.qpos[model.jnt_qposadr[model.body(name).jntadr[0]] + 2] -= TOUCH
    mujoco.mj_fwdPosition(model, data)
    ids = [model.body(name).id for name in names]
    pairs = model.geom_bodyid[data.contact.geom]
    touching = {int(b) for pair in pairs for b in pair if 0 in model.body_weldid[pair]}
    if not touching.issuperset(ids):
        return None
    bottoms = [
        min(_bottom(model, data, int(g)) for g in np.flatnonzero(model.geom_bodyid == body))
        for body in ids
    ]
    return {
        name: float(data.xpos[body, 2]) - bottom
        for name, body, bottom in zip(names, ids, bottoms, strict=True)
    }


def _bottom(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> float:
    """Height of the lowest point of a shape's bounding box [m]."""
    centre, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
    up = data.geom_xmat[geom].reshape(3, 3)[2]
    return float(data.geom_xpos[geom, 2] + up @ centre - np.abs(up) @ half)


def _scale_inertia(body: mujoco.MjsBody, factor: float) -> None:
    """The inertia of a body of another size and the same mass, where it does not follow from the shapes."""
    if body.explicitinertial:
        body.ipos = np.asarray(body.ipos) * factor
        body.inertia = np.asarray(body.inertia) * factor**2
        body.fullinertia = np.asarray(body.fullinertia) * factor**2


def _scale_mass(body: mujoco.MjsBody, factor: float) -> None:
    if body.explicitinertial:
        body.mass *= factor
        body.inertia = np.asarray(body.inertia) * factor
        body.fullinertia = np.asarray(body.fullinertia) * factor
        return
    for geom in body.geoms:
        # NaN: the mass follows from the density.
        if math.isnan(geom.mass):
            geom.density *= factor
        else:
            geom.mass *= factor
