"""The flights behind the report: step responses in both simulators and robustness sweeps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np

from alula.build import SimName, build_simulator
from alula.evaluation.evaluate import (
    LAP_S,
    Evaluation,
    check_fits,
    evaluation_config,
    evaluation_seed,
    flight_setting,
    policy_robot,
    policy_task,
)
from alula.evaluation.flight import Flight, fly
from alula.evaluation.metrics import Metrics, measure
from alula.policies.onnx_file import Policy
from alula.robots.multirotor import Multirotor
from alula.sim.config import MAX_DELAY_STEPS, Disturbances, Randomization, SimConfig, Start
from alula.sim.multirotor.simulator import MultirotorSimulator
from alula.tasks.track import figure_eight

STEP_M = 0.5
"""Height of the step in the x position that is commanded at time zero [m]."""
STEP_S = 3.0
"""Length of the step response [s]."""
SWEEP_S = 4.0
"""Length of an episode of a sweep [s]."""
SWEEP_EPISODES = 64
"""Episodes at each point of a sweep."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One quantity varied, everything else nominal."""

    name: str
    """What is varied."""
    unit: str
    """Its unit, or `x nominal`."""
    values: tuple[float, ...]
    """Where it was flown."""
    trained: tuple[float, float]
    """Range in training."""
    metrics: tuple[Metrics, ...]
    """Outcome at each value."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything flown for a report."""

    robot: Multirotor
    """The vehicle."""
    evaluations: tuple[tuple[Evaluation, Flight], ...]
    """Statistics, one or more; the first is the headline."""
    steps: dict[SimName, Flight]
    """Response to a step of STEP_M in x, without noise and disturbance, from the same start."""
    sweeps: tuple[Sweep, ...]
    """Robustness, in alula's own physics."""


def run_study(
    policy: Policy,
    evaluations: tuple[tuple[Evaluation, Flight], ...],
    *,
    robot: Multirotor | None = None,
    seed: int = 0,
    episodes: int = SWEEP_EPISODES,
) -> Study:
    """Fly step responses and sweeps of a policy and join them with its evaluations.

    Args:
        policy: the loaded policy.
        evaluations: results of `evaluate.evaluate`.
        robot: vehicle; None takes the shipped robot the policy was made for.
        seed: evaluation seed of the sweeps.
        episodes: episodes at each point of a sweep.

    Raises:
        AlulaError: the policy does not fit the robot.
    """
    robot = robot or policy_robot(policy.contract)
    task, config = policy_task(policy.contract), flight_setting(policy.contract)
    check_fits(policy.contract, robot, task, config)
    sims: tuple[SimName, ...] = ("multirotor", "mujoco")
    return Study(
        robot=robot,
        evaluations=evaluations,
        steps={sim: step_response(policy, sim, robot, task, config) for sim in sims},
        sweeps=sweeps(policy, robot, task, config, seed=seed, episodes=episodes),
    )


def step_response(
    policy: Policy, sim: SimName, robot: Multirotor, task: ModuleType, config: SimConfig
) -> Flight:
    """Fly from rest at the origin to a set-point STEP_M ahead in x, nominal, noise-free and undisturbed.

    The step enters where it does on a robot: the set-point is taken off the position the policy sees, which
    is the first entry of either task. The flight's own reference stays at the origin.
    """
    steps = round(STEP_S / config.control_dt)
    quiet = replace(
        evaluation_config(config, steps=steps, nominal=True),
        noise=0.0,
        start=Start(rotor_fraction=-1.0, at_rest=1.0),
        disturbances=Disturbances(force=0.0, torque=0.0),
        limits=replace(config.limits, position=max(config.limits.position, 4.0 * STEP_M)),
    )
    trajectory = np.zeros((1, task.TRAJECTORY_SIZE)) if task.TRAJECTORY_SIZE else None
    simulator = build_simulator(
        sim, robot, task, quiet, 1, trajectories=trajectory, auto_reset=False
    )

    controller = policy.controller()

    def act(observation: np.ndarray) -> np.ndarray:
        shifted = observation.copy()
        shifted[:, 0] -= STEP_M
        return controller(shifted)

    return fly(act, simulator, quiet, steps=steps, seed=0, traced=1)


def sweeps(
    policy: Policy,
    robot: Multirotor,
    task: ModuleType,
    config: SimConfig,
    *,
    seed: int,
    episodes: int,
) -> tuple[Sweep, ...]:
    """Robustness over mass, thrust, rotor lag, action delay and gusts; all points of one in one flight."""
    r, dt_ms = config.randomization, config.control_dt * 1e3
    nominal = evaluation_config(config, steps=round(SWEEP_S / config.control_dt), nominal=True)
    sweep = _Sweeper(policy, robot, task, seed, episodes)
    out: list[Sweep] = []
    for name, key, half, factors in (
        ("mass", "mass", r.mass, (0.6, 0.8, 1.0, 1.2, 1.4)),
        ("thrust", "thrust", r.thrust, (0.6, 0.8, 1.0, 1.2, 1.4)),
        ("rotor lag", "lag", r.lag, (0.4, 0.7, 1.0, 1.4, 2.0)),
    ):
        metrics = sweep.fly(nominal, factors, lambda s, f, key=key: s.scale_parameters(**{key: f}))
        trained = (1.0 - half, 1.0 + half)
        unit = "\u00d7 nominal"
        out.append(Sweep(name=name, unit=unit, values=factors, trained=trained, metrics=metrics))
    late = replace(nominal, randomization=Randomization(action_delay_steps=(0, MAX_DELAY_STEPS)))
    delays = tuple(float(d) for d in range(MAX_DELAY_STEPS + 1))
    low, high = r.action_delay_steps
    out.append(
        Sweep(
            name="action delay",
            unit="ms",
            values=tuple(d * dt_ms for d in delays),
            trained=(low * dt_ms, high * dt_ms),
            metrics=sweep.fly(late, delays, lambda s, d: s.set_action_delay(d.astype(np.int64))),
        )
    )
    # the gusts' strength belongs to the whole simulator, so each level has its own flight
    levels = (0.0, 0.05, 0.1, 0.2)
    gusts = [replace(nominal.disturbances, gust=level) for level in levels]
    out.append(
        Sweep(
            name="gust force",
            unit="% of weight, std",
            values=tuple(100.0 * level for level in levels),
            trained=(0.0, 100.0 * config.disturbances.gust),
            metrics=tuple(
                sweep.fly(replace(nominal, disturbances=d), (0.0,), lambda s, _: None)[0]
                for d in gusts
            ),
        )
    )
    return tuple(out)


@dataclass(frozen=True)
class _Sweeper:
    """What all flights of the sweeps have in common."""

    policy: Policy
    robot: Multirotor
    task: ModuleType
    seed: int
    episodes: int

    def fly(
        self,
        setting: SimConfig,
        values: tuple[float, ...],
        apply: Callable[[MultirotorSimulator, np.ndarray], None],
    ) -> tuple[Metrics, ...]:
        """Metrics at each value; `apply` sets each environment's own value after the reset."""
        n = self.episodes
        trajectory = (
            np.array([figure_eight(2.0, 1.0, LAP_S)]) if self.task.TRAJECTORY_SIZE else None
        )
        simulator = MultirotorSimulator(
            self.robot, self.task, setting, n * len(values), trajectories=trajectory,
            auto_reset=False,
        )  # fmt: skip
        flight = fly(
            self.policy.controller(simulator.n_envs),
            simulator,
            setting,
            steps=setting.episode_steps,
            seed=evaluation_seed(self.seed),
            traced=0,
            prepare=lambda: apply(simulator, np.repeat(values, n)),
        )
        return tuple(measure(_part(flight, slice(k * n, (k + 1) * n))) for k in range(len(values)))


def _part(flight: Flight, episodes: slice) -> Flight:
    return replace(
        flight,
        position_error=flight.position_error[:, episodes],
        failed_at=flight.failed_at[episodes],
        failure=flight.failure[episodes],
    )


def distance_apart(steps: Mapping[SimName, Flight]) -> np.ndarray:
    """Distance between the step responses in the two simulators, at each step [m] (T,)."""
    a, b = (flight.trace.position_w[:, 0].astype(float) for flight in steps.values())
    return np.linalg.norm(a - b, axis=1)
