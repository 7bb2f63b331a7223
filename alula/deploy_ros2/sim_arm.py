"""One simulated arm in MuJoCo with sensor noise, delay and drop-outs; no ROS, used by sim_arm_node only.

Commands act as under ros2_control: what was commanded last is held for ever, no controller has a time-out.
"""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal, get_args

import mujoco
import numpy as np

from alula.deploy_ros2.node_config import check_ranges
from alula.deploy_ros2.samples import Sample
from alula.errors import AlulaError
from alula.robots.arm import Arm
from alula.sim.arm_config import ArmSimConfig
from alula.sim.mujoco.arm_model import Joints, as_motors, compile_spec, moved_by
from alula.sim.mujoco.physics import keep_quiet

Controller = Literal["forward_position", "forward_velocity", "forward_effort", "joint_trajectory"]
"""Which controller is active."""
LIMIT_ERROR = 1e-6
"""How far limits of model and robot file may differ [of the limit]."""
MOVES = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
"""Joints of one number."""
LIMITED_BY = {
    "position": "range of the joint",
    "effort": "actuatorfrcrange of the joint, or forcerange of its actuator",
}
"""Attributes of the model that limit a joint."""
MAX_POINTS = 10_000
"""Longest trajectory that is taken [points]."""


@dataclass(frozen=True, kw_only=True)
class SimArmConfig:
    """What is simulated; every field is a parameter of sim_arm_node."""

    robot: str = "ur5e"
    """Shipped arm, or path of a robot file."""
    controller: Controller = "forward_position"
    """Which controller is active: forward_position, forward_velocity, forward_effort or joint_trajectory."""
    control_dt: float = 0.0
    """Time between two states; 0: that of the robot file [s]."""
    seed: int = 0
    """Seed of noise and drop-outs."""
    start: tuple[float, ...] = ()
    """Joint positions at the start, in the order of the robot file; empty: its home [rad or m]."""
    noise: float = 1.0
    """Factor on the sensor noise of the robot file [-]."""
    delay: float = 0.0
    """Age of the measurements when they are sent [s]."""
    drop_out: float = 0.0
    """Chance that a measurement is not sent [-]."""

    def __post_init__(self) -> None:
        if self.controller not in get_args(Controller):
            allowed = ", ".join(get_args(Controller))
            raise AlulaError(f"controller is {self.controller!r}; allowed: {allowed}")
        ranges = {
            "noise": (0.0, 100.0), "delay": (0.0, 1.0), "drop_out": (0.0, 1.0), "seed": (0, 2**31),
        }  # fmt: skip
        check_ranges(self, ranges)
        if self.control_dt != 0.0 and not 1e-4 <= self.control_dt <= 0.1:
            raise AlulaError(f"control_dt is {self.control_dt}; allowed: 0.0001 to 0.1, or 0")
        if not all(math.isfinite(q) for q in self.start):
            raise AlulaError(f"start is {self.start}; allowed: finite numbers, one a joint")


class SimArm:
    """The arm in MuJoCo, one step of `control_dt` at a time; joints are in the order of the robot file.

    A servo follows its set-point; the set-point goes where it is commanded, within the joints' limits and no faster
    than `velocity_max`. Efforts act beside what compensates gravity in the model, within `effort_max`.
    """

    def __init__(self, arm: Arm, config: SimArmConfig) -> None:
        """Build the model.

        Raises:
            AlulaError: no model, one that MuJoCo refuses, or one that disagrees with the robot file; a start
                outside of the limits.
        """
        self.arm, self.config = arm, config
        self.control_dt = config.control_dt or arm.control_dt
        """Time between two states [s]."""
        self._efforts = config.controller == "forward_effort"
        model = build_model(arm, motors=self._efforts)
        action = "joint_torque" if self._efforts else "joint_position_delta"
        # Joints and servos as in training
        self._joints = Joints(model, arm, ArmSimConfig(action=action))
        # Whole physics steps, none longer than the model asks for.
        self._substeps = max(1, math.ceil(self.control_dt / model.opt.timestep - 1e-9))
        model.opt.timestep = self.control_dt / self._substeps
        self._low, self._high = np.array(arm.position_low), np.array(arm.position_high)
        self._reach = np.array(arm.velocity_max) * self.control_dt
        self._model, self._data = model, mujoco.MjData(model)
        self._rng = np.random.default_rng(config.seed)
        self._sent: deque[tuple[float, dict[str, np.ndarray]]] = deque()
        self.time = 0.0
        """Time simulated so far [s]."""
        self.target = self._start()
        """Set-point of the servos (J)."""
        self._wanted = self.target.copy()
        self._velocity = np.zeros(len(self.target))
        self._path: tuple[np.ndarray, np.ndarray] | None = None
        joints, data = self._joints, self._data
        data.qpos[joints.qpos] = self.target
        if not self._efforts:
            # As if it had been commanded for long, filters and delays included.
            control = self._joints.control(self.target)
            data.ctrl[joints.ctrl] = control
            data.act[joints.act] = control[joints.act_joint]
            data.history[joints.history] = control[joints.history_joint]
        for m in joints.mimics:
            data.qpos[m.qpos] = m.offset + m.slope * self.target[m.joint]
        mujoco.mj_forward(self._model, self._data)

    def _start(self) -> np.ndarray:
        start = self.config.start or self.arm.home or (0.0,) * len(self.arm.joint_names)
        q = np.array(start, float)
        if q.shape != self._low.shape or (q < self._low).any() or (q > self._high).any():
            raise AlulaError(f"start is {start}; allowed: {len(self._low)} positions in the limits")
        return q

    @property
    def position(self) -> np.ndarray:
        """True joint positions [rad or m] (J)."""
        return self._data.qpos[self._joints.qpos].copy()

    @property
    def velocity(self) -> np.ndarray:
        """True joint velocities [rad/s or m/s] (J)."""
        return self._data.qvel[self._joints.qvel].copy()

    @property
    def effort(self) -> np.ndarray:
        """True joint efforts, what compensates gravity included [N m or N] (J)."""
        return self._data.qfrc_actuator[self._joints.qvel].copy()

    def command(self, values: np.ndarray) -> None:
        """Positions, velocities or efforts, by the active controller, to be held until the next command (J).

        Raises:
            AlulaError: another number of values, or one that is not finite: refused, as the controllers do.
        """
        values = np.asarray(values, float)
        if values.shape != self._low.shape or not np.isfinite(values).all():
            raise AlulaError(f"{values.tolist()}; allowed: {len(self._low)} finite numbers")
        if self._efforts:
            self._data.ctrl[self._joints.ctrl] = values
        elif self.config.controller == "forward_velocity":
            self._velocity = values
        else:
            self._wanted = values

    def follow(self, times: np.ndarray, points: np.ndarray) -> None:
        """Go through joint positions in straight lines and stay at the last.

        Args:
            times: when each point is to be reached, from now [s] (K), rising.
            points: joint positions (K, J).

        Raises:
            AlulaError: refused, as a joint_trajectory_controller does.
        """
        times, points = np.asarray(times, float), np.asarray(points, float)
        if not 1 <= len(times) <= MAX_POINTS or points.shape != (len(times), len(self._low)):
            raise AlulaError(f"a trajectory of {len(times)} points; allowed: 1 to {MAX_POINTS}")
        if not (np.isfinite(points).all() and np.isfinite(times).all()):
            raise AlulaError("a trajectory with numbers that are not finite; allowed: finite")
        if times[0] < 0.0 or (np.diff(times) <= 0.0).any():
            raise AlulaError("a trajectory whose times do not rise; allowed: each later")
        begin = [self.time] if times[0] > 0.0 else []
        at = np.array([*begin, *(self.time + times)])
        self._path = at, np.array([*([self.target] if begin else []), *points])

    def step(self) -> None:
        """Move on by control_dt."""
        self.time += self.control_dt
        if not self._efforts:
            self._move_set_points()
        mujoco.mj_step(self._model, self._data, self._substeps)

    def _move_set_points(self) -> None:
        if self.config.controller == "forward_velocity":
            self._wanted = self.target + self._velocity * self.control_dt
        elif self._path is not None:
            at, points = self._path
            self._wanted = np.array([np.interp(self.time, at, column) for column in points.T])
        move = np.clip(self._wanted - self.target, -self._reach, self._reach)
        self.target = np.clip(self.target + move, self._low, self._high)
        self._data.ctrl[self._joints.ctrl] = self._joints.control(self.target)

    def measure(self, now: float) -> dict[str, Sample]:
        """What the sensors tell now [s]: samples by name with noise and age; empty where nothing is to be sent."""
        self._sent.append((now, self._noisy()))
        # Half a step of margin: a delay of a whole number of steps must not depend on rounding.
        ready = now - self.config.delay + 0.5 * self.control_dt
        found = None
        while self._sent and self._sent[0][0] <= ready:
            found = self._sent.popleft()
        if found is None or self._rng.random() < self.config.drop_out:
            return {}
        names = self.arm.joint_names
        return {
            name: Sample(value=value, stamp=found[0], names=names)
            for name, value in found[1].items()
        }

    def _noisy(self) -> dict[str, np.ndarray]:
        def noisy(value: np.ndarray, deviation: float) -> np.ndarray:
            return value + self.config.noise * deviation * self._rng.standard_normal(value.size)

        return {
            "joint_position": noisy(self.position, self.arm.position_noise),
            "joint_velocity": noisy(self.velocity, self.arm.velocity_noise),
            "joint_effort": noisy(self.effort, self.arm.effort_noise),
        }


def _effort_limit(model: mujoco.MjModel, joint: int) -> tuple[bool, np.ndarray]:
    """Whether a joint's effort is limited, and to what [N m or N] (2): by itself, else by its actuator."""
    if model.jnt_actfrclimited[joint]:
        return True, model.jnt_actfrcrange[joint]
    for k in range(model.nu):
        gear = moved_by(model, k).get(model.joint(joint).name)
        if gear is not None and model.actuator_forcelimited[k]:
            return True, np.sort(gear * model.actuator_forcerange[k])
    return False, model.jnt_actfrcrange[joint]


def build_model(arm: Arm, *, motors: bool = False) -> mujoco.MjModel:
    """The compiled model of an arm, with motors in the place of its servos where asked for.

    Raises:
        AlulaError: there is none, MuJoCo refuses it, or its limits are not those of the robot file.
    """
    if not arm.model:
        raise AlulaError(f"robot {arm.name!r} has no model; allowed: an MJCF file named in it")
    keep_quiet()
    try:
        spec = mujoco.MjSpec.from_string(arm.model)
        model = compile_spec(spec)
    except (ValueError, mujoco.FatalError) as e:
        raise AlulaError(f"model of robot {arm.name!r}: {' '.join(str(e).split())}") from None
    limits = zip(arm.joint_names, arm.position_low, arm.position_high, arm.effort_max, strict=True)
    for name, low, high, effort in limits:
        i = model.joint(name).id
        if model.jnt_type[i] not in MOVES:
            raise AlulaError(f"model of robot {arm.name!r}: joint {name!r}; allowed: hinge, slide")
        checks = (
            ("position", model.jnt_limited[i], model.jnt_range[i], (low, high)),
            ("effort", *_effort_limit(model, i), (-effort, effort)),
        )
        for what, limited, found, wanted in checks:
            if not limited or not np.allclose(found, wanted, rtol=LIMIT_ERROR, atol=LIMIT_ERROR):
                has = f"{found[0]:g} to {found[1]:g}" if limited else "not limited"
                raise AlulaError(
                    f"model of robot {arm.name!r}: {what} of joint {name!r} is {has}; "
                    f"allowed: as in the robot file, {wanted[0]:g} to {wanted[1]:g} ({LIMITED_BY[what]})"
                )
    if not motors:
        return model
    as_motors(spec, arm)
    return compile_spec(spec)
