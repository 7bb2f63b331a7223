"""From plain settings to working objects; the only file that knows every choice."""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, assert_never, cast

import numpy as np

from alula.errors import AlulaError
from alula.policies.contract import ACTION_HISTORY, ActionEntry, Contract, ObservationEntry
from alula.policies.network import Network
from alula.presets import Preset, TaskName
from alula.robots.arm import Arm, load_arm
from alula.robots.files import find_robot, read_table
from alula.robots.multirotor import Multirotor, load_robot
from alula.sim.arm_config import ArmSimConfig
from alula.sim.config import SimConfig
from alula.sim.protocol import FlightSimulator, Simulator
from alula.training.config import PpoConfig, SacConfig, ShortHorizonConfig
from alula.training.learner import Learner, Spaces

Robot = Multirotor | Arm
CLONED_FROM = 64
"""Environments in which a scripted controller is watched."""
SimName = Literal["multirotor", "mujoco"]


def build_task(name: TaskName) -> ModuleType:
    """The task's file of functions."""
    match name:
        case "hover":
            from alula.tasks import hover

            return hover
        case "track":
            from alula.tasks import track

            return track
        case "reach":
            from alula.tasks import reach

            return reach
        case "lift":
            from alula.tasks import lift

            return lift
        case "push":
            from alula.tasks import push

            return push
        case "insert":
            from alula.tasks import insert

            return insert
        case "pivot_lift":
            from alula.tasks import pivot_lift

            return pivot_lift
        case _:
            assert_never(name)


def is_arm_task(task: ModuleType) -> bool:
    """Whether a task is an arm's: it says what stands around the robot."""
    return hasattr(task, "objects")


def load_any_robot(name_or_path: str | Path) -> Robot:
    """A shipped robot by name, or any robot file; its `kind` says which it is.

    Raises:
        AlulaError: there is none, or its file is not valid.
    """
    path = find_robot(name_or_path, "multirotor", "arm")
    return (
        load_arm(name_or_path)
        if read_table(path).get("kind") == "arm"
        else load_robot(name_or_path)
    )


def build_simulator(
    kind: SimName,
    robot: Multirotor,
    task: ModuleType,
    config: SimConfig,
    n_envs: int,
    *,
    trajectories: np.ndarray | None = None,
    auto_reset: bool = True,
) -> FlightSimulator:
    """A simulator of `n_envs` flights.

    Args:
        kind: which physics.
        robot: the nominal vehicle.
        task: a module of `alula.tasks`.
        config: rates, start, limits, randomisation, delays, noise.
        n_envs: number of environments N.
        trajectories: reference trajectories (n, task.TRAJECTORY_SIZE), drawn per episode.
        auto_reset: start the next episode where one ended; else an ended one flies on, still flagged.
    """
    match kind:
        case "multirotor":
            from alula.sim.multirotor.simulator import MultirotorSimulator

            return MultirotorSimulator(
                robot, task, config, n_envs, trajectories=trajectories, auto_reset=auto_reset
            )
        case "mujoco":
            from alula.sim.mujoco.multirotor import MujocoMultirotor

            return MujocoMultirotor(
                robot, task, config, n_envs, trajectories=trajectories, auto_reset=auto_reset
            )
        case _:
            assert_never(kind)


def build_robot(preset: Preset, name_or_path: str | Path = "") -> Robot:
    """The preset's robot, or another of its kind by name or file.

    Raises:
        AlulaError: there is none of that name and kind, or its file is not valid.
    """
    load = load_arm if isinstance(preset.sim, ArmSimConfig) else load_robot
    return load(name_or_path or preset.robot)


def build_learner(preset: Preset, robot: Robot, seed: int, threads: int | None = None) -> Learner:
    """The preset's learner with the environments it learns from; `threads` simulate, one for each core by default.

    Raises:
        AlulaError: it needs torch, which is not installed; settings or robots that do not fit.
    """
    task, algo = build_task(preset.task), preset.algo
    if isinstance(algo, ShortHorizonConfig):
        return _build_short_horizon(preset, algo, robot, seed, threads)
    try:
        simulator, spaces = build_environments(preset, robot, task, threads)
        base = build_base(preset, robot, task)
        match algo:
            case PpoConfig():
                from alula.training.ppo import PpoLearner

                return PpoLearner(simulator, algo, seed, spaces, base=base, device=algo.device)
            case SacConfig():
                if spaces.assisting_actions:
                    raise AlulaError(f"preset {preset.name}: assisting actions are for PPO")
                from alula.training.sac import SacLearner

                return SacLearner(simulator, algo, seed, spaces, base=base, device=algo.device)
            case _:
                assert_never(algo)
    except ImportError:
        raise needs_torch(preset) from None


def _build_short_horizon(
    preset: Preset, algo: ShortHorizonConfig, robot: Robot, seed: int, threads: int | None
) -> Learner:
    task, sim = build_task(preset.task), preset.sim
    if isinstance(robot, Arm) or isinstance(sim, ArmSimConfig):
        raise AlulaError(f"preset {preset.name}: short-horizon learning is for multirotors")
    if algo.device == "cpu":
        from alula.training.short_horizon import ShortHorizonLearner

        return ShortHorizonLearner(robot, task, sim, algo, seed, threads=threads)
    try:
        from alula.training.short_horizon_cuda import CudaShortHorizonLearner
    except ImportError:
        raise needs_torch(preset) from None
    return CudaShortHorizonLearner(robot, task, sim, algo, seed)


def needs_torch(preset: Preset) -> AlulaError:
    """What is said where torch is not installed."""
    return AlulaError(
        f"preset {preset.name} learns with torch; allowed: after pip install 'alula[torch]'"
    )


def build_base(preset: Preset, robot: Robot, task: ModuleType) -> Network | None:
    """The clone of the preset's scripted controller, the same in every run; None where it has none.

    Raises:
        AlulaError: a scripted controller for another robot, or a learner that corrects none.
    """
    match preset.base:
        case "none":
            return None
        case "insert":
            sim, algo = preset.sim, preset.algo
            if not isinstance(sim, ArmSimConfig) or not isinstance(robot, Arm):
                raise AlulaError(f"preset {preset.name}: the base {preset.base!r} is for arms")
            if sim.action != "joint_position_delta":
                raise AlulaError(
                    f"preset {preset.name}: action is {sim.action!r}; allowed with the base "
                    f"{preset.base!r}: 'joint_position_delta'"
                )
            from alula.sim.mujoco.arm import MujocoArm
            from alula.tasks.insert_base import base_action
            from alula.training.residual import clone

            simulator = MujocoArm(robot, task, sim, CLONED_FROM, staggered=True)
            scripted = partial(base_action, robot=robot, config=sim)
            return clone(scripted, simulator, hidden=algo.hidden).network
        case _:
            assert_never(preset.base)


def build_environments(
    preset: Preset, robot: Robot, task: ModuleType, threads: int | None
) -> tuple[Simulator, Spaces]:
    """Environments of a learner in torch, and what is known of them."""
    sim, algo = preset.sim, preset.algo
    assert not isinstance(algo, ShortHorizonConfig)
    device = algo.device
    if isinstance(robot, Arm) and isinstance(sim, ArmSimConfig):
        from alula.sim.mujoco.arm import MujocoArm

        if sim.control_dt < robot.control_dt * (1.0 - 1e-6):
            raise AlulaError(
                f"sim.control_dt is {sim.control_dt:g} s; allowed: at least {robot.control_dt:g}, the time "
                f"between two commands that {robot.name!r} takes"
            )
        if device != "cpu":
            from alula.sim.mujoco.arm_warp import WarpArm

            # As `Simulator`, with tensors in place of arrays
            arms: MujocoArm = WarpArm(
                robot, task, sim, algo.n_envs, staggered=True, threads=threads, device=device
            )
        else:
            arms = MujocoArm(robot, task, sim, algo.n_envs, staggered=True, threads=threads)
        return arms, Spaces(
            n_actions=len(sim.action_size(robot)),
            assisting_actions=sim.assisting_actions,
            parameters=arms.n_parameters,
        )
    assert isinstance(robot, Multirotor)
    assert isinstance(sim, SimConfig)
    rotors = robot.n_rotors
    if device != "cpu":
        from alula.sim.multirotor.cuda import CudaMultirotor

        # As `Simulator`, with tensors in place of arrays
        simulator = cast(Simulator, CudaMultirotor(robot, task, sim, algo.n_envs, device=device))
    else:
        simulator = build_simulator("multirotor", robot, task, sim, algo.n_envs)
    return simulator, Spaces(
        n_actions=rotors,
        first_action=robot.hover_action,
        scale=task.SCALE,
        past_actions=sim.history * rotors,
    )


def build_contract(
    preset: Preset, robot: Robot, task: ModuleType, training: dict[str, Any]
) -> Contract:
    """The contract of a policy trained with this preset on this robot.

    `training` must be JSON; the setting of the episodes is added to it, so that the policy file alone says how the
    policy is to be evaluated.
    """
    sim = preset.sim
    if isinstance(robot, Arm) and isinstance(sim, ArmSimConfig):
        entries, action, first = _arm_terms(robot, task, sim)
    else:
        assert isinstance(robot, Multirotor)
        assert isinstance(sim, SimConfig)
        entries, action, first = _multirotor_terms(robot, task, sim)
    delay = sim.control_dt * sim.randomization.observation_delay_steps[1]
    observation = [replace(entry, delay=delay) for entry in entries]
    if sim.history:
        observation.append(
            ObservationEntry(
                name=ACTION_HISTORY,
                unit="-",
                frame="-",
                size=len(action),
                history=sim.history,
                initial=first,
            )
        )
    return Contract(
        robot=robot.name,
        robot_hash=robot.hash,
        task=task.NAME,
        control_dt=sim.control_dt,
        observation=tuple(observation),
        action=action,
        training={**training, "preset": preset.name, "sim": asdict(sim)},
    )


Terms = tuple[list[ObservationEntry], tuple[ActionEntry, ...], float]
"""What the policy measures, what it commands, and its first action."""


def _multirotor_terms(robot: Multirotor, task: ModuleType, sim: SimConfig) -> Terms:
    noise = {
        "position": robot.position_noise,
        "rot": robot.orientation_noise,
        "velocity": robot.velocity_noise,
        "angular": robot.angular_velocity_noise,
    }
    entries = [
        replace(entry, noise=sim.noise * noise.get(entry.name.split("_")[0], 0.0))
        for entry in task.ENTRIES
    ]
    action = tuple(
        ActionEntry(
            name=name,
            low=robot.throttle_min,
            high=robot.throttle_max,
            unit="-",
            meaning="throttle",
        )
        for name in robot.rotor_names
    )
    return entries, action, float(np.float32(robot.hover_action))


def _arm_terms(robot: Arm, task: ModuleType, sim: ArmSimConfig) -> Terms:
    entries = [replace(entry, noise=sim.noise * entry.noise) for entry in task.entries(robot)]
    return entries, sim.action_entries(robot), 0.0
