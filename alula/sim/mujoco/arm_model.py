"""An arm's model with a task's objects, compiled, and its random variants."""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable
from types import ModuleType
from xml.etree import ElementTree

import mujoco
import numpy as np
from mujoco.batch import Batch

from alula.errors import AlulaError
from alula.robots.arm import Arm
from alula.sim.arm_config import ArmRandomization, ArmSimConfig

Edit = Callable[[mujoco.MjSpec], None]
"""Changes a model before it is compiled: other physics, other masses."""


def build_arm_model(
    robot: Arm, task: ModuleType, config: ArmSimConfig, edit: Edit | None = None
) -> mujoco.MjModel:
    """The robot's MJCF with the task's objects and sensors; actuators stand in the order of the joints.

    Raises:
        AlulaError: no model or home in the robot file, an MJCF that does not compile, or joints without actuator.
    """
    if not robot.model or not robot.home:
        raise AlulaError(
            f"robot {robot.name!r} has no model or no home; allowed: both, to simulate it"
        )
    try:
        spec = mujoco.MjSpec.from_string(with_objects(robot.model, task.objects(robot)))
        spec.option.timestep = config.control_dt / config.substeps
        # A diverged arm must look diverged, not jump back to its start.
        spec.option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        _delay_and_lag(spec, config)
        if config.action == "joint_torque":
            _as_motors(spec, robot)
        if edit is not None:
            edit(spec)
        model = spec.compile()
    except (ValueError, KeyError) as e:
        raise AlulaError(
            f"the model of {robot.name!r} does not compile: {' '.join(str(e).split())}"
        ) from None
    moved = [model.joint(int(model.actuator_trnid[k, 0])).name for k in range(model.nu)]
    if tuple(moved) != robot.joint_names:
        raise AlulaError(
            f"the actuators of {robot.name!r} move {', '.join(moved)}; allowed: {', '.join(robot.joint_names)}"
        )
    return model


def with_objects(model: str, objects: str) -> str:
    """One MJCF with the sections of two."""
    root = ElementTree.fromstring(model)
    for section in ElementTree.fromstring(objects):
        own = root.find(section.tag)
        if own is None:
            root.append(section)
        else:
            own.extend(section)
    return ElementTree.tostring(root, encoding="unicode")


def _delay_and_lag(spec: mujoco.MjSpec, config: ArmSimConfig) -> None:
    random = config.randomization
    for actuator in spec.actuators:
        if random.actuator_lag[1] > 0.0:
            # da/dt = (u - a) / lag, solved exactly over each physics step
            actuator.dyntype = mujoco.mjtDyn.mjDYN_FILTEREXACT
            actuator.dynprm[0] = random.actuator_lag[1]
        if random.actuator_delay[1] > 0.0:
            actuator.delay = random.actuator_delay[1]
            actuator.nsample = 1 + round(random.actuator_delay[1] / spec.option.timestep)


def _as_motors(spec: mujoco.MjSpec, robot: Arm) -> None:
    for actuator, effort in zip(spec.actuators, robot.effort_max, strict=True):
        actuator.set_to_motor()
        actuator.ctrllimited = True
        actuator.ctrlrange = [-effort, effort]


class Randomizer:
    """Draws the parameters of single environments around the model's."""

    def __init__(self, batch: Batch, random: ArmRandomization, timestep: float) -> None:
        self._batch, self._random, self._timestep = batch, random, timestep
        m = batch.model
        shared = {
            "body_mass": random.mass, "geom_friction": random.friction, "dof_damping": random.damping,
            "dof_armature": random.armature, "dof_frictionloss": random.frictionloss, "actuator_gainprm": random.gain,
        }  # fmt: skip
        names = [name for name, width in shared.items() if width > 0.0]
        if "body_mass" in names:
            names.append("body_inertia")
        if "actuator_gainprm" in names:
            names.append("actuator_biasprm")
        if random.actuator_lag[1] > 0.0:
            names.append("actuator_dynprm")
        if random.actuator_delay[1] > 0.0:
            names.append("actuator_delay")
        self._fields = {name: batch.expand(name) for name in names}
        self._nominal = {name: getattr(m, name).copy() for name in names}
        n = batch.nsim
        self.factors = {
            "mass": np.ones((n, m.nbody)), "friction": np.ones((n, 1)), "damping": np.ones((n, m.nv)),
            "armature": np.ones((n, m.nv)), "frictionloss": np.ones((n, m.nv)), "gain": np.ones((n, m.nu)),
            "lag": np.zeros((n, 1)), "delay": np.zeros((n, 1)),
        }  # fmt: skip
        """What was drawn, relative to the model's (N, number), lag and delay in seconds."""

    def privileged(self) -> np.ndarray:
        """What was drawn, as numbers around zero (N, Q)."""
        f = self.factors
        shifted = [
            f[k] - 1.0 for k in ("mass", "friction", "damping", "armature", "frictionloss", "gain")
        ]
        return np.concatenate(
            [*shifted, 50.0 * f["lag"], 50.0 * f["delay"]], axis=1, dtype=np.float32
        )

    def draw(self, rng: np.random.Generator, ids: np.ndarray) -> None:
        """New parameters for these environments."""
        r, f, n = self._random, self.factors, len(ids)
        for name in ("mass", "friction", "damping", "armature", "frictionloss", "gain"):
            width = getattr(r, name)
            if width > 0.0:
                f[name][ids] = rng.uniform(1.0 - width, 1.0 + width, (n, f[name].shape[1]))
        f["lag"][ids] = rng.uniform(*r.actuator_lag, (n, 1))
        steps = [round(x / self._timestep) for x in r.actuator_delay]
        f["delay"][ids] = self._timestep * rng.integers(steps[0], steps[1], (n, 1), endpoint=True)
        for name, array in self._fields.items():
            array[ids] = self._scaled(name, ids)
        if self._fields:
            self._batch.set_const(ids)

    def _scaled(self, name: str, ids: np.ndarray) -> np.ndarray:
        nominal, f = self._nominal[name], self.factors
        match name:
            case "body_mass":
                return nominal * f["mass"][ids]
            case "body_inertia":
                return nominal * f["mass"][ids][:, :, None]
            case "geom_friction":
                return nominal * np.stack(
                    [f["friction"][ids]] + 2 * [np.ones((len(ids), 1))], axis=2
                )
            case "actuator_gainprm" | "actuator_biasprm":
                return nominal * f["gain"][ids][:, :, None]
            case "actuator_dynprm":
                lag = np.broadcast_to(nominal, (len(ids), *nominal.shape)).copy()
                lag[:, :, 0] = f["lag"][ids]
                return lag
            case "actuator_delay":
                return np.broadcast_to(f["delay"][ids], (len(ids), len(nominal)))
            case _:
                return nominal * f[name.removeprefix("dof_")][ids]
