"""From plain settings to working objects; the only file that knows every choice."""

from dataclasses import asdict, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, assert_never

import numpy as np

from alula.errors import AlulaError
from alula.policies.contract import ACTION_HISTORY, ActionEntry, Contract, ObservationEntry
from alula.presets import Preset, TaskName
from alula.robots.multirotor import Multirotor
from alula.sim.config import Disturbances, Limits, Randomization, SimConfig, Start
from alula.sim.protocol import Simulator
from alula.training.config import PpoConfig, ShortHorizonConfig

if TYPE_CHECKING:
    from alula.training.learner import Learner

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
        case _:
            assert_never(name)


def build_simulator(
    kind: SimName,
    robot: Multirotor,
    task: ModuleType,
    config: SimConfig,
    n_envs: int,
    *,
    trajectories: np.ndarray | None = None,
    auto_reset: bool = True,
) -> Simulator:
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


def build_learner(preset: Preset, robot: Multirotor, seed: int) -> "Learner":
    """The preset's learner with the environments it learns from.

    Raises:
        AlulaError: it needs torch, which is not installed; settings that do not fit.
    """
    task, algo = build_task(preset.task), preset.algo
    match algo:
        case ShortHorizonConfig():
            from alula.training.short_horizon import ShortHorizonLearner

            return ShortHorizonLearner(robot, task, preset.sim, algo, seed)
        case PpoConfig():
            try:
                from alula.training.ppo import PpoLearner
            except ImportError:
                raise AlulaError(
                    f"preset {preset.name} learns with torch; allowed: after pip install 'alula[torch]'"
                ) from None
            simulator = build_simulator("multirotor", robot, task, preset.sim, algo.n_envs)
            return PpoLearner(
                simulator,
                algo,
                seed,
                n_actions=robot.n_rotors,
                first_action=robot.hover_action,
                scale=task.SCALE,
                past_actions=preset.sim.history * robot.n_rotors,
            )
        case _:
            assert_never(algo)


def build_contract(
    preset: Preset, robot: Multirotor, task: ModuleType, training: dict[str, Any]
) -> Contract:
    """The contract of a policy trained with this preset on this robot.

    `training` must be JSON; the flight setting is added to it, so that the policy file alone says how the
    policy is to be evaluated.
    """
    sim = preset.sim
    noise = {
        "position": robot.position_noise,
        "rot": robot.orientation_noise,
        "velocity": robot.velocity_noise,
        "angular": robot.angular_velocity_noise,
    }
    observation: list[ObservationEntry] = [
        replace(
            entry,
            noise=sim.noise * noise.get(entry.name.split("_")[0], 0.0),
            delay=sim.control_dt * sim.randomization.observation_delay_steps[1],
        )
        for entry in task.ENTRIES
    ]
    if sim.history:
        observation.append(
            ObservationEntry(
                name=ACTION_HISTORY,
                unit="-",
                frame="-",
                size=robot.n_rotors,
                history=sim.history,
                initial=float(np.float32(robot.hover_action)),
            )
        )
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
    return Contract(
        robot=robot.name,
        robot_hash=robot.hash,
        task=task.NAME,
        control_dt=sim.control_dt,
        observation=tuple(observation),
        action=action,
        training={**training, "preset": preset.name, "sim": asdict(sim)},
    )


def sim_config_from_json(table: Any) -> SimConfig:
    """The flight setting stored in a policy file (`contract.training["sim"]`).

    Raises:
        AlulaError: a setting is missing, unknown, of another type, or out of its range.
    """
    try:
        draws: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in table["randomization"].items()
        }
        parts: dict[str, Any] = {
            "start": Start(**table["start"]),
            "limits": Limits(**table["limits"]),
            "randomization": Randomization(**draws),
            "disturbances": Disturbances(**table["disturbances"]),
        }
        return SimConfig(**{**table, **parts})
    except AlulaError:
        raise
    except (TypeError, KeyError, AttributeError, ValueError) as e:
        raise AlulaError(f"the policy's flight setting cannot be read: {e}") from None
