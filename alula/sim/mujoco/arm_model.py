"""An arm's model with a task's objects, compiled, and where its joints and actuators stand in it."""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import mujoco
import numpy as np

from alula.errors import AlulaError
from alula.robots.arm import Arm
from alula.robots.kinematics import off_the_list
from alula.sim.arm_config import ArmSimConfig
from alula.sim.mujoco.physics import keep_quiet

Edit = Callable[[mujoco.MjSpec], None]
"""Changes a model before it is compiled: other physics, other masses."""
REFERRING = ("sensors", "equalities", "pairs", "excludes", "tendons", "actuators")
"""Elements of a model that refer to others by name."""
LIMIT_ERROR = 1e-6
"""How far limits of the robot file may lie beyond the model's [of their width]."""
SERVO_ERROR = 0.01
"""The same of what the servos may be told, which models round [of their width]."""
REFERENCES = (
    ("objtype", "objname"), ("reftype", "refname"), ("objtype", "name1"), ("objtype", "name2"),
    ("geom", "geomname1"), ("geom", "geomname2"), ("body", "bodyname1"), ("body", "bodyname2"),
)  # fmt: skip
"""Attributes by which they do: kind (or where it stands) and name."""
HINGE, SLIDE = int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE)
BY_JOINT, BY_TENDON = int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_TENDON)
JOINT_WRAP = int(mujoco.mjtWrap.mjWRAP_JOINT)
JOINT_EQUALITY = int(mujoco.mjtEq.mjEQ_JOINT)
FIXED, AFFINE = int(mujoco.mjtGain.mjGAIN_FIXED), int(mujoco.mjtBias.mjBIAS_AFFINE)
NO_STATE = int(mujoco.mjtDyn.mjDYN_NONE)
FILTERS = int(mujoco.mjtDyn.mjDYN_FILTER), int(mujoco.mjtDyn.mjDYN_FILTEREXACT)
# As numbers, because MuJoCo's names are not equal to what stands in its arrays.


def build_arm_model(
    robot: Arm, task: ModuleType, config: ArmSimConfig, edit: Edit | None = None
) -> mujoco.MjModel:
    """The robot's MJCF with the task's objects and sensors, and the actuators that the settings ask for.

    Raises:
        AlulaError: no model or home in the robot file, an MJCF that does not compile, actuators that are not one
            for each joint, or a joint not in the robot file that moves the tool.
    """
    if not robot.model or not robot.home:
        raise AlulaError(
            f"robot {robot.name!r} has no model or no home; allowed: both, to simulate it"
        )
    objects = task.objects(robot)
    keep_quiet()
    try:
        spec = _with_objects(robot, objects)
        spec.option.timestep = config.control_dt / config.substeps
        # A diverged arm must look diverged, not jump back to its start.
        spec.option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        if config.action == "joint_torque":
            as_motors(spec, robot)
        _delay_and_lag(spec, config)
        if edit is not None:
            edit(spec)
        model = compile_spec(spec)
    except AlulaError:
        raise
    except (ValueError, KeyError, mujoco.FatalError) as e:
        raise AlulaError(
            f"the model of {robot.name!r} does not compile: {' '.join(str(e).split())}"
        ) from None
    _check_chain(model, robot)
    return model


def _with_objects(robot: Arm, objects: str) -> mujoco.MjSpec:
    """The robot, and beside it the objects, which keep MuJoCo's defaults whatever the robot's are.

    Raises:
        AlulaError: the robot lacks what the task refers to.
    """
    spec = mujoco.MjSpec.from_string(robot.model)
    # A keyframe holds the state of the robot alone.
    for key in list(spec.keys):
        spec.delete(key)
    added = mujoco.MjSpec.from_string(objects)
    expected = {kind: len(getattr(spec, kind)) + len(getattr(added, kind)) for kind in REFERRING}
    # Without a prefix, since the task's sensors and starts use the plain names.
    spec.attach(added, prefix="", frame=spec.worldbody.add_frame())
    for kind, number in expected.items():
        if len(getattr(spec, kind)) < number:
            # What refers to something that the robot does not have is left out without a word.
            left = [(e.name, _missing(spec, e)) for e in getattr(added, kind)]
            names = ", ".join(name for name, missing in left if name and missing)
            lacking = ", ".join(dict.fromkeys(x for _, missing in left for x in missing))
            raise AlulaError(
                f"the model of {robot.name!r} lacks {lacking or 'something'}: "
                f"the task's {f'{kind} {names}'.strip()} refer to it"
            )
    return spec


def _missing(spec: mujoco.MjSpec, element: object) -> list[str]:
    """What an element refers to and a model does not have, such as `the site 'left_pad'`."""
    found = []
    for kind, name in REFERENCES:
        what, called = getattr(element, kind, kind), getattr(element, name, "")
        if called:
            what = what if isinstance(what, str) else mujoco.mju_type2Str(int(what))
            if getattr(spec, what.removeprefix("x"))(called) is None:
                found.append(f"the {what.removeprefix('x')} {called!r}")
    return found


def compile_spec(spec: mujoco.MjSpec) -> mujoco.MjModel:
    """The compiled model.

    Raises:
        ValueError: it does not compile, or has a number that is not finite, which MuJoCo lets pass.
    """
    with warnings.catch_warnings():
        # It warns of names without prefix that may not be saved well; nothing is saved.
        warnings.simplefilter("ignore")
        model = spec.compile()
    numbers = {name: getattr(part, name) for part in (model, model.opt) for name in dir(part)}
    arrays = {k: x for k, x in numbers.items() if isinstance(x, float | np.ndarray)}
    broken = [name for name, values in arrays.items() if not np.isfinite(values).all()]
    if broken:
        raise ValueError(f"not finite are numbers of {', '.join(broken)}")
    return model


def as_motors(spec: mujoco.MjSpec, robot: Arm) -> None:
    """Put a motor, whose control is its joint's effort, in the place of each of the robot's actuators."""
    order = _actuators(compile_spec(spec), robot)
    for k, effort in zip(order, robot.effort_max, strict=True):
        actuator = spec.actuators[k]
        actuator.set_to_motor()
        actuator.actlimited, actuator.actrange = False, [0.0, 0.0]
        actuator.gear = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        actuator.ctrllimited = True
        actuator.ctrlrange = [-effort, effort]


def _delay_and_lag(spec: mujoco.MjSpec, config: ArmSimConfig) -> None:
    random = config.randomization
    for actuator in spec.actuators:
        # One that integrates stays as it is, to be refused.
        if random.actuator_lag[1] > 0.0 and int(actuator.dyntype) in (NO_STATE, *FILTERS):
            # da/dt = (u - a) / lag, solved exactly over each physics step
            actuator.dyntype = mujoco.mjtDyn.mjDYN_FILTEREXACT
            actuator.dynprm[0] = random.actuator_lag[1]
        if random.actuator_delay[1] > 0.0:
            actuator.delay = random.actuator_delay[1]
            actuator.nsample = 1 + round(random.actuator_delay[1] / spec.option.timestep)


def moved_by(model: mujoco.MjModel, actuator: int) -> dict[str, float]:
    """The joints that an actuator moves, and how much of its length a unit of each makes; none where it is another
    kind of actuator.
    """
    gear = float(model.actuator_gear[actuator, 0])
    target = int(model.actuator_trnid[actuator, 0])
    if model.actuator_trntype[actuator] == BY_JOINT:
        return {model.joint(target).name: gear}
    if model.actuator_trntype[actuator] == BY_TENDON:
        first = model.tendon_adr[target]
        wraps = range(first, first + model.tendon_num[target])
        if all(model.wrap_type[w] == JOINT_WRAP for w in wraps):
            share = [gear * float(model.wrap_prm[w]) for w in wraps]
            return {
                model.joint(model.wrap_objid[w]).name: c for w, c in zip(wraps, share, strict=True)
            }
    return {}


def _actuators(model: mujoco.MjModel, robot: Arm) -> list[int]:
    """The actuator of each joint (J)."""
    moved = [moved_by(model, k) for k in range(model.nu)]
    order = []
    for joint in robot.joint_names:
        mine = [k for k, joints in enumerate(moved) if joint in joints]
        if len(mine) != 1:
            raise AlulaError(
                f"joint {joint!r} of {robot.name!r} has {len(mine)} actuators in its model; allowed: 1"
            )
        if mine[0] in order:
            other = robot.joint_names[order.index(mine[0])]
            raise AlulaError(
                f"joints {other!r} and {joint!r} of {robot.name!r} share the actuator "
                f"{model.actuator(mine[0]).name or mine[0]!r}; allowed: one of them in joint_names"
            )
        order += mine
    if len(set(order)) < model.nu:
        idle = min(set(range(model.nu)) - set(order))
        raise AlulaError(
            f"actuator {model.actuator(idle).name or idle!r} of {robot.name!r} moves none of its joints; "
            f"allowed: those that move {', '.join(robot.joint_names)}"
        )
    return order


def _check_chain(model: mujoco.MjModel, robot: Arm) -> None:
    """The robot's joints alone may move its tool."""
    body = int(model.site(robot.tool).bodyid[0])
    while body:
        first = model.body_jntadr[body]
        for k in range(first, first + model.body_jntnum[body]):
            if model.joint(k).name not in robot.joint_names:
                raise off_the_list(robot, model.joint(k).name, robot.tool)
        body = int(model.body_parentid[body])


@dataclass(frozen=True, kw_only=True)
class Mimic:
    """A joint that follows one of the robot's: q = offset + slope q_joint."""

    qpos: int
    """Its place in qpos."""
    joint: int
    """Number of the joint that it follows."""
    offset: float
    """[rad or m]."""
    slope: float
    """[-]."""


class Joints:
    """Where the robot's joints and actuators stand in the model, in the order of `joint_names`."""

    def __init__(self, model: mujoco.MjModel, robot: Arm, config: ArmSimConfig) -> None:
        ids = [model.joint(name).id for name in robot.joint_names]
        for name, k in zip(robot.joint_names, ids, strict=True):
            if model.jnt_type[k] not in (HINGE, SLIDE):
                raise AlulaError(f"joint {name!r} of {robot.name!r} is no hinge and no slide")
        self.qpos, self.qvel = model.jnt_qposadr[ids], model.jnt_dofadr[ids]
        """Places in qpos and qvel (J)."""
        self.ctrl = np.array(_actuators(model, robot))
        """Places in ctrl (J)."""
        self.scale, self.offset = np.ones(len(ids)), np.zeros(len(ids))
        """A command's control is offset + scale * command (J)."""
        self.servos = config.action != "joint_torque"
        """Whether the actuators are servos of positions, else motors."""
        if self.servos:
            self._read_servos(model, robot)
        self._check_limits(model, robot, ids)
        self.mimics = find_mimics(model, self.qpos)
        """Joints that equalities hold to one of these."""
        act, first = model.actuator_actadr[self.ctrl], model.actuator_historyadr[self.ctrl]
        self.act_joint = np.flatnonzero(act >= 0)
        """Joints whose actuators have a state."""
        self.act = act[self.act_joint]
        """Its places in act."""
        samples = np.where(first >= 0, model.actuator_history[self.ctrl, 0], 0)
        self.history_joint = np.repeat(np.arange(len(ids)), samples)
        """Joints whose actuators are delayed, once for each control that is kept."""
        # In a history stand two numbers of its own, then the times of its samples, then the samples.
        places = [a + 2 + n + np.arange(n) for a, n in zip(first, samples, strict=True)]
        self.history = np.concatenate(places).astype(int)
        """Its places in history."""

    def _read_servos(self, model: mujoco.MjModel, robot: Arm) -> None:
        for j, (name, k) in enumerate(zip(robot.joint_names, self.ctrl, strict=True)):
            gain, bias = model.actuator_gainprm[k], model.actuator_biasprm[k]
            fixed = model.actuator_gaintype[k] == FIXED
            affine = model.actuator_biastype[k] == AFFINE
            # Behind an integrator a control is a speed.
            direct = model.actuator_dyntype[k] in (NO_STATE, *FILTERS)
            if not (fixed and affine and direct and gain[0] != 0.0 and bias[1] < 0.0):
                raise AlulaError(
                    f"the actuator of joint {name!r} of {robot.name!r} is no position servo; "
                    "allowed: position servos, or the action joint_torque"
                )
            # At rest 0 = gain u + b0 + b1 length; joints of one tendon move alike.
            length = sum(moved_by(model, int(k)).values())
            self.scale[j], self.offset[j] = -bias[1] * length / gain[0], -bias[0] / gain[0]

    def control(self, target: np.ndarray) -> np.ndarray:
        """Controls that send the servos to joint positions [rad or m] (..., J)."""
        return self.offset + self.scale * target

    def _check_limits(self, model: mujoco.MjModel, robot: Arm, ids: list[int]) -> None:
        """The model must let the joints go wherever the robot file does."""
        limits = zip(robot.joint_names, robot.position_low, robot.position_high, strict=True)
        for j, (name, low, high) in enumerate(limits):
            k = self.ctrl[j]
            joint = model.jnt_range[ids[j]]
            # Controls back to positions.
            servo = np.sort((model.actuator_ctrlrange[k] - self.offset[j]) / self.scale[j])
            checks = (
                ("range of the joint", model.jnt_limited[ids[j]], joint, LIMIT_ERROR),
                ("ctrlrange of the servo", self.servos and model.actuator_ctrllimited[k], servo, SERVO_ERROR),
            )  # fmt: skip
            for what, limited, found, error in checks:
                slack = error * (high - low)
                if limited and (low < found[0] - slack or high > found[1] + slack):
                    raise AlulaError(
                        f"limits of joint {name!r} of {robot.name!r} are {low:g} to {high:g}; allowed: within "
                        f"{found[0]:g} to {found[1]:g}, the {what} in its model"
                    )


def joint_equalities(model: mujoco.MjModel) -> list[tuple[int, int, float, float]]:
    """Joints that equalities hold to others: number, the other's number, offset [rad or m], slope [-]."""
    found = []
    for e in range(model.neq):
        first, second = int(model.eq_obj1id[e]), int(model.eq_obj2id[e])
        if model.eq_type[e] == JOINT_EQUALITY and second >= 0 and model.eq_active0[e]:
            p0, p1 = (float(x) for x in model.eq_data[e, :2])
            # q1 - q1_0 = p0 + p1 (q2 - q2_0)
            q1_0, q2_0 = (float(model.qpos0[model.jnt_qposadr[j]]) for j in (first, second))
            found.append((first, second, p0 + q1_0 - p1 * q2_0, p1))
    return found


def find_mimics(model: mujoco.MjModel, qpos: np.ndarray) -> list[Mimic]:
    """From equalities of one of the joints at `qpos` and another."""
    place = {int(at): j for j, at in enumerate(qpos)}
    found = []
    for first, second, p0, p1 in joint_equalities(model):
        at1, at2 = (int(model.jnt_qposadr[k]) for k in (first, second))
        if at2 in place and at1 not in place:
            found.append(Mimic(qpos=at1, joint=place[at2], offset=p0, slope=p1))
        elif at1 in place and at2 not in place and p1 != 0.0:
            found.append(Mimic(qpos=at2, joint=place[at1], offset=-p0 / p1, slope=1.0 / p1))
    return found
