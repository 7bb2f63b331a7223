"""Simulators in the settings that the checks of `simulator_checks` need, whichever robot and physics."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Protocol

import numpy as np

from alula.arrays import namespace
from alula.robots.arm import Arm
from alula.robots.multirotor import Multirotor
from alula.sim.arm_config import ArmSimConfig
from alula.sim.arm_scene import OBJECT, Scene, ToolPose
from alula.sim.arm_scene import Start as ArmStart
from alula.sim.config import Disturbances, Limits, SimConfig, Start
from alula.sim.protocol import FlightSimulator, Simulator

FAR = 0.02
"""An arm whose first joint has moved so far fails in `ArmCase.failing` [rad]."""
DROPPED_FROM_W = np.array([-0.4, 0.4, 1.2])
"""Where `ArmCase.falling` lets an object go, out of the arm's way; each environment's 0.05 m further along x [m]."""
DROPPED_TURNED = np.array([0.5, 0.1, -0.3, 0.8062257748298549])
"""How it is turned there: a unit quaternion, scalar first, whose numbers all differ."""


class Case(Protocol):
    """One robot, task and physics."""

    @property
    def robot(self) -> Multirotor | Arm:
        """Nominal robot."""
        ...

    @property
    def n_actions(self) -> int:
        """Number of actions A."""
        ...

    @property
    def rest(self) -> float:
        """The action that keeps the robot about where it is."""
        ...

    @property
    def tolerance(self) -> float:
        """What two runs that must be the same may differ by; 0: bitwise the same."""
        ...

    def make(self, n_envs: int, *, episode_steps: int = 150, auto_reset: bool = True) -> Simulator:
        """A simulator with everything random. Only the one made last is used."""
        ...

    def failing(self, n_envs: int) -> tuple[Simulator, np.ndarray]:
        """A simulator, and actions [N, A] by which environment 0 alone fails within 80 steps."""
        ...


@dataclass(frozen=True, kw_only=True)
class FlightCase:
    """A multirotor."""

    build: Callable[[SimConfig, int, bool], FlightSimulator]
    """From settings, number of environments and auto-reset to a simulator of the task hover."""
    robot: Multirotor
    """Nominal vehicle."""
    config: SimConfig
    """Everything random at once."""
    tolerance: float = 0.0
    """As `Case.tolerance`."""

    @property
    def n_actions(self) -> int:
        """Number of actions A."""
        return self.robot.n_rotors

    @property
    def rest(self) -> float:
        """Hover."""
        return self.robot.hover_action

    def make(
        self, n_envs: int, *, episode_steps: int = 150, auto_reset: bool = True
    ) -> FlightSimulator:
        """As `Case.make`."""
        return self.build(replace(self.config, episode_steps=episode_steps), n_envs, auto_reset)

    def failing(self, n_envs: int) -> tuple[Simulator, np.ndarray]:
        """As `Case.failing`: full thrust breaks a limit of velocity."""
        action = np.full((n_envs, self.n_actions), self.rest, np.float32)
        action[0] = 1.0
        start = Start(position=0.0, tilt=0.0, velocity=0.0, angular_velocity=0.0)
        config = replace(self.config, start=start, limits=Limits(velocity=2.5))
        return self.build(config, n_envs, True), action

    def quiet(self, n_envs: int, *, tilt: float, rotor_fraction: float = -1.0) -> FlightSimulator:
        """No noise, no disturbance, nominal vehicles, all on the reference without velocity, tilted by up to this [rad]."""
        start = Start(
            position=0.0, tilt=tilt, velocity=0.0, angular_velocity=0.0, rotor_fraction=rotor_fraction
        )  # fmt: skip
        config = SimConfig(
            control_dt=self.config.control_dt,
            noise=0.0,
            start=start,
            disturbances=Disturbances(force=0.0, torque=0.0),
            limits=Limits(position=100.0),
        )
        return self.build(config, n_envs, True)


class ArmSimulator(Simulator, Protocol):
    """N arms."""

    @property
    def scene(self) -> Scene:
        """True state now."""
        ...


@dataclass(frozen=True, kw_only=True)
class ArmCase:
    """An arm."""

    build: Callable[[ModuleType, ArmSimConfig, int, bool], ArmSimulator]
    """From task, settings, number of environments and auto-reset to a simulator."""
    robot: Arm
    """Nominal arm."""
    task: ModuleType
    """A module of `alula.tasks`."""
    config: ArmSimConfig = field(default_factory=ArmSimConfig)
    """Everything random that the physics can draw."""
    tolerance: float = 0.0
    """As `Case.tolerance`."""
    rest: float = 0.0
    """Targets stay where they are."""

    @property
    def n_actions(self) -> int:
        """Number of actions A."""
        return len(self.config.action_size(self.robot))

    @property
    def has_object(self) -> bool:
        """Whether something can fall."""
        return f'name="{OBJECT}"' in self.task.objects(self.robot)

    def make(
        self, n_envs: int, *, episode_steps: int = 150, auto_reset: bool = True
    ) -> ArmSimulator:
        """As `Case.make`."""
        config = replace(self.config, episode_steps=episode_steps)
        return self.build(self.task, config, n_envs, auto_reset)

    def failing(self, n_envs: int) -> tuple[Simulator, np.ndarray]:
        """As `Case.failing`: a first joint that has moved by FAR fails."""

        def start(rng: np.random.Generator, n: int, robot: Arm, tool_pose: ToolPose) -> ArmStart:
            begin = self.task.start(rng, n, robot, tool_pose)
            return replace(begin, goal=begin.goal | {"begin": begin.joint_position[:, :1]})

        def failed(scene: Scene) -> np.ndarray:
            return scene.joint_position[:, 0] - scene.goal["begin"][:, 0] > FAR

        action = np.zeros((n_envs, self.n_actions), np.float32)
        action[0, 0] = 1.0
        task = _variant(self.task, start=start, failed=failed)
        return self.build(task, self.config, n_envs, True), action

    def quiet(self, n_envs: int) -> ArmSimulator:
        """No noise, nominal arms."""
        return self.build(self._task_without_end(), self._quiet_config(), n_envs, True)

    def falling(self, n_envs: int) -> ArmSimulator:
        """As `quiet`, with the object in the air."""

        def start(rng: np.random.Generator, n: int, robot: Arm, tool_pose: ToolPose) -> ArmStart:
            pose = np.tile(np.concatenate([DROPPED_FROM_W, DROPPED_TURNED]), (n, 1))
            # All start together, so row i is environment i.
            pose[:, 0] += 0.05 * np.arange(n)
            return replace(self.task.start(rng, n, robot, tool_pose), pose_w={OBJECT: pose})

        task = _variant(self._task_without_end(), start=start)
        return self.build(task, self._quiet_config(), n_envs, True)

    def _quiet_config(self) -> ArmSimConfig:
        c = self.config
        return ArmSimConfig(
            control_dt=c.control_dt, substeps=c.substeps, action_scale=c.action_scale, noise=0.0
        )

    def _task_without_end(self) -> ModuleType:
        def failed(scene: Scene) -> np.ndarray:
            xp, first = namespace(scene.joint_position), scene.joint_position[:, 0]
            return xp.zeros_like(first, dtype=xp.bool)

        return _variant(self.task, failed=failed)


def _variant(task: ModuleType, **functions: Callable) -> ModuleType:
    """A task with some of its functions replaced."""
    module = ModuleType(task.__name__)
    vars(module).update(vars(task) | functions)
    return module
