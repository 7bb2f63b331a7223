"""Evaluate a policy file: fly many episodes in one of the simulators and say how it went."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import numpy as np

from alula.build import SimName, build_simulator, build_task, is_arm_task
from alula.errors import AlulaError
from alula.evaluation.flight import Act, Flight, fly
from alula.evaluation.metrics import STARTUP_S, Metrics, measure
from alula.evaluation.stored_settings import sim_config_from_json
from alula.policies.contract import ACTION_HISTORY, Contract
from alula.policies.onnx_file import Policy, load_policy
from alula.presets import TaskName
from alula.robots.arm import Arm, known_arms
from alula.robots.multirotor import Multirotor, known_robots, load_robot
from alula.sim.config import Randomization, SimConfig
from alula.tasks.track import figure_eight

HOVER_STEPS = 500
"""Default length of a hover episode [steps]."""
LAPS = 2
"""Laps after the start-up in the default tracking episode."""
LAP_S = 5.5
"""Default time of one lap of the 2 m x 1 m figure-eight [s]."""
MAX_EPISODES = 100_000
_EVALUATION = 0xE7A1


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The outcome of an evaluation; `to_json` is what the command prints."""

    policy: str
    """Policy file, or a name."""
    robot: str
    """Robot flown."""
    same_robot: bool
    """Whether it has exactly the parameters the policy was made for."""
    task: str
    """Task flown."""
    sim: SimName
    """Which physics."""
    nominal: bool
    """The robot file's parameters without delay; else drawn over the whole training range."""
    seed: int
    """Evaluation seed, as given."""
    steps: int
    """Length of the episodes [steps]."""
    control_dt: float
    """Time of a step [s]."""
    metrics: Metrics
    """The figures."""

    def to_json(self) -> dict[str, Any]:
        """Flat JSON values, the metrics' beside the others."""
        out = asdict(self)
        return {**out.pop("metrics"), **out}


def evaluation_seed(seed: int) -> int:
    """The simulators' seed for an evaluation seed; never one that training uses.

    Training seeds are below 2^64; these lie above. The simulators hash the whole number.
    """
    if not 0 <= seed < 2**64:
        raise AlulaError(f"seed is {seed}; allowed: 0 to 2^64 - 1")
    return (_EVALUATION << 64) | seed


def policy_robot(contract: Contract) -> Multirotor:
    """The shipped robot that a policy was made for.

    Raises:
        AlulaError: alula ships no multirotor of that name, or one with other parameters.
    """
    if contract.robot in known_arms():
        raise AlulaError(
            f"policy is for the arm {contract.robot!r}; allowed here: policies of multirotors"
        )
    if contract.robot not in known_robots():
        raise AlulaError(
            f"policy is for robot {contract.robot!r}, which alula does not ship; "
            "allowed: pass its file with --robot"
        )
    robot = load_robot(contract.robot)
    if robot.hash != contract.robot_hash:
        raise AlulaError(
            f"policy is for a robot {contract.robot!r} with parameters {contract.robot_hash[:12]}, "
            f"the shipped one has {robot.hash[:12]}; allowed: pass its file with --robot"
        )
    return robot


def flight_setting(contract: Contract) -> SimConfig:
    """The flight setting a policy was trained in, from its file.

    Raises:
        AlulaError: the file does not hold one, or it does not fit the contract.
    """
    config = sim_config_from_json(contract.training.get("sim"))
    if config.control_dt != contract.control_dt:
        raise AlulaError(
            f"policy's flight setting has control_dt {config.control_dt}; "
            f"allowed: the contract's {contract.control_dt}"
        )
    return config


def policy_task(contract: Contract) -> ModuleType:
    """The task of a policy.

    Raises:
        AlulaError: unknown task.
    """
    for name in get_args(TaskName):
        if name == contract.task:
            return build_task(name)
    raise AlulaError(f"unknown task {contract.task!r}; known: {', '.join(get_args(TaskName))}")


def check_fits(contract: Contract, robot: Multirotor, task: ModuleType, config: SimConfig) -> None:
    """Check that a simulator of this robot, task and setting shows the policy what its contract says.

    Raises:
        AlulaError: another rotor order or another observation.
    """
    rotors = tuple(entry.name for entry in contract.action)
    if rotors != robot.rotor_names:
        raise AlulaError(
            f"policy commands the rotors {rotors}, robot {robot.name!r} has {robot.rotor_names}; "
            "allowed: the same names in the same order"
        )
    shown = [(entry.name, entry.size, 1) for entry in task.ENTRIES]
    if config.history:
        shown.append((ACTION_HISTORY, robot.n_rotors, config.history))
    wanted = [(entry.name, entry.size, entry.history) for entry in contract.observation]
    if wanted != shown:
        raise AlulaError(f"policy observes {wanted}; task {task.NAME!r} shows {shown}")


def evaluate_policy(
    policy_path: str | Path,
    *,
    sim: SimName = "multirotor",
    robot: Multirotor | None = None,
    episodes: int = 1000,
    seed: int = 0,
    steps: int | None = None,
    nominal: bool = True,
    lap: float = LAP_S,
    trajectory: np.ndarray | None = None,
    other_robot: bool = False,
) -> Evaluation:
    """Load a policy file, fly it, and return the figures with their intervals.

    Args:
        policy_path: policy file.
        sim: `multirotor` (alula's physics) or `mujoco`.
        robot: vehicle to fly; None takes the shipped robot the policy was made for.
        episodes: number of independent episodes.
        seed: evaluation seed; the starts, disturbances and noise differ from those of any training seed.
        steps: episode length; None: 500 for hover, start-up and two laps for tracking.
        nominal: the robot as its file says, without delay; else drawn over the training's whole range.
            Disturbances and noise act in both.
        lap: time of one lap of the default figure-eight [s]; tracking only.
        trajectory: reference (18,) or (n, 18) to follow instead of the figure-eight; tracking only.
        other_robot: fly a robot of another name than the policy's all the same. A variant of the policy's own
            robot (its name, other numbers) is always flown, and `Evaluation.same_robot` says so.

    Raises:
        AlulaError: unreadable or unsuitable policy, robot or number.
    """
    policy = load_policy(policy_path)
    return evaluate(
        policy,
        name=str(policy_path),
        sim=sim,
        robot=robot,
        episodes=episodes,
        seed=seed,
        steps=steps,
        nominal=nominal,
        lap=lap,
        trajectory=trajectory,
        other_robot=other_robot,
    )[0]


def check_kind(policy: Policy, robot: Multirotor | Arm | None) -> None:
    """Refuse to fly an arm's policy, or to move an arm by one that flies; None fits both.

    Raises:
        AlulaError: the robot is of the other kind, or the task unknown.
    """
    if robot is None:
        return
    kind, other = (
        ("an arm", Multirotor)
        if is_arm_task(policy_task(policy.contract))
        else ("a multirotor", Arm)
    )
    if isinstance(robot, other):
        raise AlulaError(f"the policy is for {kind}, not for {robot.name!r}; allowed: {kind}")


def evaluate(
    policy: Policy,
    *,
    name: str = "policy",
    sim: SimName = "multirotor",
    robot: Multirotor | None = None,
    episodes: int = 1000,
    seed: int = 0,
    steps: int | None = None,
    nominal: bool = True,
    lap: float = LAP_S,
    trajectory: np.ndarray | None = None,
    traced: int = 16,
    other_robot: bool = False,
    act: Act | None = None,
) -> tuple[Evaluation, Flight]:
    """The same as `evaluate_policy` for a loaded policy; also returns the flight with `traced` traces.

    `act` flies in place of the policy's own controller: the same policy in another runtime.
    """
    contract = policy.contract
    if sim not in get_args(SimName):
        raise AlulaError(f"unknown simulator {sim!r}; known: {', '.join(get_args(SimName))}")
    if not 1 <= episodes <= MAX_EPISODES:
        raise AlulaError(f"episodes is {episodes}; allowed: 1 to {MAX_EPISODES}")
    if not 0.5 <= lap <= 100.0:
        raise AlulaError(f"lap is {lap}; allowed: 0.5 to 100 s")
    flown = policy_robot(contract) if robot is None else robot
    if flown.name != contract.robot and not other_robot:
        raise AlulaError(
            f"the policy is for the robot {contract.robot!r}, not {flown.name!r}; allowed: its own robot or a "
            "variant of that name, or another one with --other-robot"
        )
    task = policy_task(contract)
    config = flight_setting(contract)
    check_fits(contract, flown, task, config)
    length = steps or default_steps(task, config.control_dt, lap)
    config = evaluation_config(config, steps=length, nominal=nominal)
    if task.TRAJECTORY_SIZE and trajectory is None:
        trajectory = np.array([figure_eight(2.0, 1.0, lap)])
    simulator = build_simulator(
        sim, flown, task, config, episodes, trajectories=trajectory, auto_reset=False
    )
    flight = fly(
        act or policy.controller(episodes),
        simulator,
        config,
        steps=length,
        seed=evaluation_seed(seed),
        traced=traced,
    )
    evaluation = Evaluation(
        policy=name,
        robot=flown.name,
        same_robot=flown.hash == contract.robot_hash,
        task=contract.task,
        sim=sim,
        nominal=nominal,
        seed=seed,
        steps=length,
        control_dt=config.control_dt,
        metrics=measure(flight),
    )
    return evaluation, flight


def default_steps(task: ModuleType, control_dt: float, lap: float) -> int:
    """Episode length when none is given [steps]."""
    if task.TRAJECTORY_SIZE == 0:
        return HOVER_STEPS
    return int(np.ceil((STARTUP_S + LAPS * lap) / control_dt))


def evaluation_config(config: SimConfig, *, steps: int, nominal: bool) -> SimConfig:
    """A training's flight setting as flown in evaluation: episodes of `steps`, randomised or not."""
    if not 1 <= steps <= 1_000_000:
        raise AlulaError(f"steps is {steps}; allowed: 1 to 1000000")
    randomization = Randomization() if nominal else config.randomization
    return replace(config, episode_steps=steps, randomization=randomization)
