"""Evaluate an arm's policy file: many episodes in MuJoCo, as trained or with other physics, and how they went."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from alula.errors import AlulaError
from alula.evaluation.arm_episodes import DIVERGED, Episodes, check_samples, join, run_episodes
from alula.evaluation.arm_physics import Setting, other_physics
from alula.evaluation.evaluate import MAX_EPISODES, evaluation_seed, policy_task
from alula.evaluation.flight import Act
from alula.evaluation.metrics import (
    Interval,
    bootstrap_interval,
    quantile_interval,
    wilson_interval,
)
from alula.evaluation.stored_settings import arm_config_from_json
from alula.policies.contract import ACTION_HISTORY, Contract
from alula.policies.onnx_file import Policy
from alula.robots.arm import Arm, known_arms, load_arm
from alula.sim.arm_config import ArmRandomization

ArmSimName = Literal["mujoco", "mujoco-other", "mujoco-warp"]
BLOCK = 256
"""Episodes that move side by side; what is interrupted loses at most these."""
MAX_LATE = 10_000
"""Most physics steps by which a policy file may delay an actuator: each is kept for each environment."""

Told = Callable[[int, int], None]
"""Told how much of an evaluation is done, and of how much."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One quantity that the task measures at the end, over the episodes that did not end early."""

    median: float
    """In the unit of the task [m or rad]."""
    median_interval: Interval
    """From order statistics."""
    p95: float
    """95th percentile."""
    p95_interval: Interval
    """From order statistics."""


@dataclass(frozen=True, kw_only=True)
class ArmMetrics:
    """What N episodes say."""

    episodes: int
    """Episodes N."""
    succeeded: int
    """Episodes in which the task was done at the end."""
    success: float
    """succeeded / episodes [-]."""
    success_interval: Interval
    """Wilson score interval."""
    episode_return: float
    """Mean sum of the rewards [-]."""
    episode_return_interval: Interval
    """Bootstrap over episodes."""
    measures: dict[str, Measured | None]
    """What the task measures, by name; None where every episode ended early."""
    failures: dict[str, int]
    """Failed episodes by kind; they add up to those that did not succeed."""
    diverged: int
    """Episodes lost by the integration, one of the kinds."""


@dataclass(frozen=True, kw_only=True)
class ArmEvaluation:
    """The outcome of an evaluation; `to_json` is what the command prints."""

    policy: str
    """Policy file, or a name."""
    robot: str
    """Robot moved."""
    same_robot: bool
    """Whether it has exactly the parameters the policy was made for."""
    task: str
    """Task."""
    sim: ArmSimName
    """Which physics: as trained, or other methods and contacts."""
    nominal: bool
    """The robot file's parameters without delay; else drawn over the whole training range."""
    seed: int
    """Evaluation seed, as given."""
    steps: int
    """Length of the episodes [steps]."""
    control_dt: float
    """Time of a step [s]."""
    interrupted: bool
    """Whether there were to be more episodes."""
    metrics: ArmMetrics
    """The figures."""

    def to_json(self) -> dict[str, Any]:
        """JSON values, the metrics' beside the others."""
        out = asdict(self)
        return {**out.pop("metrics"), **out}


@dataclass(frozen=True, kw_only=True)
class Gap:
    """What other physics change in the very same episodes: 95 % bootstrap intervals over pairs."""

    success: float
    """Success in the other physics less that as trained [-]."""
    success_interval: Interval
    """Of the same."""
    measures: dict[str, tuple[float, Interval] | None]
    """Mean change of what the task measures, over the pairs where neither ended early; None where there are none."""


def policy_arm(contract: Contract) -> Arm:
    """The shipped arm that a policy was made for.

    Raises:
        AlulaError: alula ships no arm of that name, or one with other parameters.
    """
    if contract.robot not in known_arms():
        raise AlulaError(
            f"policy is for the arm {contract.robot!r}, which alula does not ship; "
            "allowed: pass its file with --robot"
        )
    arm = load_arm(contract.robot)
    if arm.hash != contract.robot_hash:
        raise AlulaError(
            f"policy is for an arm {contract.robot!r} with parameters {contract.robot_hash[:12]}, "
            f"the shipped one has {arm.hash[:12]}; allowed: pass its file with --robot"
        )
    return arm


def policy_setting(
    contract: Contract,
    *,
    robot: Arm | None = None,
    nominal: bool = True,
    other_robot: bool = False,
) -> Setting:
    """The simulator that a policy was trained in, from its file, checked against its contract.

    Raises:
        AlulaError: unknown task or robot, a setting that cannot be read or does not fit the contract, or a robot
            that cannot do what the contract says.
    """
    moved = policy_arm(contract) if robot is None else robot
    if moved.name != contract.robot and not other_robot:
        raise AlulaError(
            f"the policy is for the robot {contract.robot!r}, not {moved.name!r}; allowed: its own robot or a "
            "variant of that name, or another one with --other-robot"
        )
    config = arm_config_from_json(contract.training.get("sim"))
    if config.control_dt != contract.control_dt:
        raise AlulaError(
            f"policy's setting has control_dt {config.control_dt}; allowed: the contract's {contract.control_dt}"
        )
    if nominal:
        config = replace(config, randomization=ArmRandomization())
    late = config.randomization.actuator_delay[1] * config.substeps / config.control_dt
    if late > MAX_LATE:
        raise AlulaError(
            f"policy's setting delays actuators by {late:.0f} physics steps; allowed: {MAX_LATE}"
        )
    setting = Setting(robot=moved, task=policy_task(contract), config=config)
    check_fits(contract, setting)
    return setting


def check_fits(contract: Contract, setting: Setting) -> None:
    """Check that a simulator shows the policy what its contract says, and does what the policy means.

    Raises:
        AlulaError: another order of joints, another observation, or actions that mean something else.
    """
    robot, task, config = setting.robot, setting.task, setting.config
    taken = config.action_entries(robot)
    commanded = tuple(entry.name for entry in contract.action)
    if commanded != (names := tuple(entry.name for entry in taken)):
        raise AlulaError(
            f"policy commands {commanded}, the simulated {robot.name!r} takes {names}; "
            "allowed: the same names in the same order"
        )
    shown = [(entry.name, entry.size, 1) for entry in task.entries(robot)]
    if config.history:
        shown.append((ACTION_HISTORY, len(commanded), config.history))
    wanted = [(entry.name, entry.size, entry.history) for entry in contract.observation]
    if wanted != shown:
        raise AlulaError(f"policy observes {wanted}; task {task.NAME!r} shows {shown}")
    for entry, mine in zip(contract.action, taken, strict=True):
        close = np.allclose((entry.low, entry.high), (mine.low, mine.high), rtol=1e-6)
        if entry.meaning != mine.meaning or not close:
            raise AlulaError(
                f"policy's action for {entry.name!r} means {(entry.meaning, entry.low, entry.high)}; "
                f"the simulated {robot.name!r} takes {(mine.meaning, mine.low, mine.high)}"
            )


def evaluate_arm(
    policy: Policy,
    *,
    name: str = "policy",
    sim: ArmSimName = "mujoco",
    robot: Arm | None = None,
    episodes: int = 1000,
    seed: int = 0,
    steps: int | None = None,
    nominal: bool = True,
    other_robot: bool = False,
    traced: int = 0,
    controller: Callable[[int], Act] | None = None,
    told: Told = lambda done, total: None,
) -> tuple[ArmEvaluation, Episodes]:
    """Move an arm by its policy and return the figures with their intervals, and the episodes.

    On Ctrl-C the episodes that were finished are the result, if there are any.

    Args:
        policy: the loaded policy.
        name: what to call it.
        sim: `mujoco`, as trained, `mujoco-other` (see `arm_physics.other_physics`), or `mujoco-warp`, on a GPU where there
            is one.
        robot: arm to move; None takes the shipped one the policy was made for.
        episodes: number of independent episodes.
        seed: evaluation seed; starts, goals, parameters and noise differ from those of any training seed.
        steps: episode length; None: the time limit of the training.
        nominal: the robot as its file says, without delay; else drawn over the training's whole range. Noise acts
            in both.
        other_robot: move a robot of another name than the policy's all the same.
        traced: episodes whose course is kept, the first ones.
        controller: given a number of robots, acts in place of the policy's own controller.
        told: told how much is done.

    Raises:
        AlulaError: unsuitable policy, robot or number.
    """
    if sim not in get_args(ArmSimName):
        raise AlulaError(f"unknown simulator {sim!r}; known: {', '.join(get_args(ArmSimName))}")
    setting = policy_setting(policy.contract, robot=robot, nominal=nominal, other_robot=other_robot)
    length = setting.config.episode_steps if steps is None else steps
    run = run_blocks(
        controller or policy.controller,
        other_physics(setting)
        if sim == "mujoco-other"
        else replace(setting, warp=sim == "mujoco-warp"),
        episodes=episodes,
        steps=length,
        seed=seed,
        traced=traced,
        told=told,
    )
    evaluation = ArmEvaluation(
        policy=name,
        robot=setting.robot.name,
        same_robot=setting.robot.hash == policy.contract.robot_hash,
        task=policy.contract.task,
        sim=sim,
        nominal=nominal,
        seed=seed,
        steps=length,
        control_dt=setting.config.control_dt,
        interrupted=run.n < episodes,
        metrics=measure(run),
    )
    return evaluation, run


def run_blocks(
    controller: Callable[[int], Act],
    setting: Setting,
    *,
    episodes: int,
    steps: int,
    seed: int,
    traced: int = 0,
    told: Told = lambda done, total: None,
) -> Episodes:
    """Episodes in blocks of BLOCK, so that Ctrl-C loses none that is finished.

    Raises:
        AlulaError: a number out of its range.
        KeyboardInterrupt: in the first block.
    """
    if not 1 <= episodes <= MAX_EPISODES:
        raise AlulaError(f"episodes is {episodes}; allowed: 1 to {MAX_EPISODES}")
    check_samples(episodes, steps)
    setting = replace(setting, config=replace(setting.config, episode_steps=steps))
    parts: list[Episodes] = []
    try:
        for begin in range(0, episodes, BLOCK):
            n = min(BLOCK, episodes - begin)
            parts.append(
                run_episodes(
                    controller(n),
                    setting.simulator(n),
                    steps=steps,
                    seed=block_seed(seed, len(parts)),
                    traced=max(0, traced - begin),
                    progress=lambda t, n=n, begin=begin: told(
                        begin * steps + n * t, episodes * steps
                    ),
                )
            )
    except KeyboardInterrupt:
        if not parts:
            raise
    return join(parts)


def block_seed(seed: int, block: int) -> int:
    """The simulator's seed for a block of an evaluation; the first block's is the evaluation's own."""
    # Evaluation seeds have fewer than 96 bits.
    return (block << 96) | evaluation_seed(seed)


def measure(run: Episodes) -> ArmMetrics:
    """The metrics of some episodes."""
    succeeded, failures = int(run.succeeded.sum()), run.failures
    return ArmMetrics(
        episodes=run.n,
        succeeded=succeeded,
        success=succeeded / run.n,
        success_interval=wilson_interval(succeeded, run.n),
        episode_return=float(run.episode_return.mean()),
        episode_return_interval=bootstrap_interval(run.episode_return),
        measures={name: _measured(values[run.finished]) for name, values in run.measures.items()},
        failures=failures,
        diverged=failures[DIVERGED],
    )


def _measured(values: np.ndarray) -> Measured | None:
    if not len(values):
        return None
    return Measured(
        median=float(np.median(values)),
        median_interval=quantile_interval(values, 0.5),
        p95=float(np.percentile(values, 95)),
        p95_interval=quantile_interval(values, 0.95),
    )


def gap(trained: Episodes, other: Episodes) -> Gap:
    """The second run less the first; the same seed, so that episode k of both begins alike.

    An interrupted run is compared as far as it came.
    """
    n = min(trained.n, other.n)
    success = other.succeeded[:n].astype(float) - trained.succeeded[:n]
    both = trained.finished[:n] & other.finished[:n]
    changes = {
        name: (other.measures[name][:n] - values[:n])[both]
        for name, values in trained.measures.items()
    }
    return Gap(
        success=float(success.mean()),
        success_interval=bootstrap_interval(success),
        measures={
            name: (float(change.mean()), bootstrap_interval(change)) if both.any() else None
            for name, change in changes.items()
        },
    )
