"""The episodes behind an arm's report: as trained, in other physics, randomised, and one factor at a time."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from alula.errors import AlulaError
from alula.evaluation.arm_episodes import Episodes
from alula.evaluation.arm_evaluate import (
    BLOCK,
    ArmEvaluation,
    ArmMetrics,
    ArmSimName,
    Gap,
    Told,
    evaluate_arm,
    gap,
    measure,
    policy_setting,
    run_blocks,
)
from alula.evaluation.arm_physics import (
    Setting,
    delayed,
    objects,
    resting,
    same_model,
    scale_contact_friction,
    scale_joint_friction,
    scale_link_mass,
    scale_object_mass,
    scale_object_size,
)
from alula.policies.onnx_file import Policy
from alula.robots.arm import Arm
from alula.sim.arm_config import ArmRandomization

TRACED = 2048
"""Episodes as trained among which those to show are found."""
SWEEP_EPISODES = 64
"""Episodes at each point of the robustness map."""
MASSES = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Factors on masses; they and the others are wider than any training here [-]."""
FRICTIONS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Factors on frictions [-]."""
SIZES = (0.5, 0.75, 1.0, 1.25, 1.5)
"""Factors on the objects' sizes [-]."""
DELAYS_MS = (0.0, 10.0, 20.0, 40.0, 60.0, 80.0)
"""Delays of the commands [ms]."""

Note = Callable[[str, int, int], None]
"""Told what runs, how much of it is done, and of how much."""


@dataclass(frozen=True, kw_only=True)
class ArmSweep:
    """One factor varied, everything else nominal."""

    name: str
    """What is varied."""
    unit: str
    """Its unit, or `x nominal`."""
    values: tuple[float, ...]
    """Where it was tried."""
    trained: tuple[float, float]
    """Range in training."""
    metrics: tuple[ArmMetrics, ...]
    """Outcome at each value."""


@dataclass(frozen=True, kw_only=True)
class ArmStudy:
    """Everything that was run for a report."""

    setting: Setting
    """The nominal simulator."""
    runs: tuple[tuple[ArmEvaluation, Episodes], ...]
    """As trained, in other physics, randomised; as far as it came."""
    gap: Gap | None
    """Between the first two; None where the second was not run."""
    sweeps: tuple[ArmSweep, ...]
    """The robustness map; as far as it came."""
    interrupted: bool
    """Whether there was to be more."""

    def to_json(self) -> dict[str, Any]:
        """JSON values: the first evaluation's, and everything else under names of its own."""
        first, *others = (evaluation.to_json() for evaluation, _ in self.runs)
        return first | {
            "others": others,
            "gap": None if self.gap is None else asdict(self.gap),
            "robustness": [asdict(sweep) for sweep in self.sweeps],
            "interrupted": self.interrupted,
        }


def run_arm_study(
    policy: Policy,
    *,
    name: str = "policy",
    robot: Arm | None = None,
    episodes: int = 1000,
    seed: int = 0,
    steps: int | None = None,
    other_robot: bool = False,
    sweep_episodes: int = SWEEP_EPISODES,
    note: Note = lambda what, done, total: None,
) -> ArmStudy:
    """Run all that a report shows. On Ctrl-C what was finished is the result, if anything was.

    Args:
        policy: the loaded policy.
        name: what to call it.
        robot: arm to move; None takes the shipped one the policy was made for.
        episodes: number of episodes as trained, in other physics and randomised.
        seed: evaluation seed.
        steps: episode length; None: the time limit of the training.
        other_robot: move a robot of another name than the policy's all the same.
        sweep_episodes: episodes at each point of the robustness map.
        note: told how much is done.

    Raises:
        AlulaError: unsuitable policy, robot or number.
    """
    contract = policy.contract
    setting = policy_setting(contract, robot=robot, other_robot=other_robot)
    trained = policy_setting(contract, robot=robot, nominal=False, other_robot=other_robot)
    # Known to be possible before anything takes long.
    plans = _plans(setting, trained.config.randomization)
    if not 1 <= sweep_episodes <= BLOCK:
        raise AlulaError(f"sweep_episodes is {sweep_episodes}; allowed: 1 to {BLOCK}")
    runs: list[tuple[ArmEvaluation, Episodes]] = []
    sweeps: list[ArmSweep] = []
    parts: tuple[tuple[str, ArmSimName, bool], ...] = (
        ("as trained", "mujoco", True),
        ("other physics", "mujoco-other", True),
        ("randomised", "mujoco", False),
    )
    length = setting.config.episode_steps if steps is None else steps
    interrupted = False
    try:
        for what, sim, nominal in parts:
            run = evaluate_arm(
                policy, name=name, sim=sim, robot=robot, episodes=episodes, seed=seed, steps=steps, nominal=nominal,
                other_robot=other_robot, traced=0 if runs else TRACED, told=partial(note, what),
            )  # fmt: skip
            runs.append(run)
            if run[0].interrupted:
                raise KeyboardInterrupt
        sweeper = _Sweeper(policy, sweep_episodes, length, seed, note)
        nominal = sweeper.outcome(setting, partial(note, "nominal"))
        for plan in plans:
            sweeps.append(sweeper.sweep(plan, nominal))
    except KeyboardInterrupt:
        if not runs:
            raise
        interrupted = True
    return ArmStudy(
        setting=setting,
        runs=tuple(runs),
        gap=gap(runs[0][1], runs[1][1]) if len(runs) > 1 else None,
        sweeps=tuple(sweeps),
        interrupted=interrupted,
    )


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """A sweep before it has been run; its nominal value is where all sweeps meet."""

    name: str
    unit: str
    values: Sequence[float]
    trained: tuple[float, float]
    nominal: float
    change: Callable[[float], Setting]


def _plans(setting: Setting, random: ArmRandomization) -> list[_Plan]:
    """The factors that mean something in this task and change something of the model."""
    times = "\u00d7 nominal"

    def scaled(
        name: str,
        change: Callable[[Setting, float], Setting],
        width: float,
        values: Sequence[float],
    ) -> _Plan:
        return _Plan(
            name=name, unit=times, values=values, trained=(1.0 - width, 1.0 + width), nominal=1.0,
            change=partial(change, setting),
        )  # fmt: skip

    plans = [
        scaled("mass of the links", scale_link_mass, random.mass, MASSES),
        # Loss and damping together: trained is what both were drawn from.
        scaled(
            "friction of the joints",
            scale_joint_friction,
            min(random.frictionloss, random.damping),
            FRICTIONS,
        ),
        _Plan(
            name="delay of the commands",
            unit="ms",
            values=DELAYS_MS,
            trained=(1e3 * random.actuator_delay[0], 1e3 * random.actuator_delay[1]),
            nominal=0.0,
            change=lambda ms: delayed(setting, 1e-3 * ms),
        ),
    ]
    if objects(setting):
        plans += [
            scaled("mass of the object", scale_object_mass, random.mass, MASSES),
            scaled("friction of the contacts", scale_contact_friction, random.friction, FRICTIONS),
        ]
        if resting(setting):
            plans.append(scaled("size of the object", scale_object_size, 0.0, SIZES))
    # What the model does not have, such as friction of the joints, would look robust.
    return [
        plan
        for plan in plans
        if plan.unit != times or not same_model(setting, plan.change(plan.values[0]))
    ]


@dataclass(frozen=True)
class _Sweeper:
    """What all points of the map have in common."""

    policy: Policy
    episodes: int
    steps: int
    seed: int
    note: Note

    def outcome(self, setting: Setting, told: Told) -> ArmMetrics:
        """One point."""
        run = run_blocks(
            self.policy.controller, setting, episodes=self.episodes, steps=self.steps, seed=self.seed, told=told
        )  # fmt: skip
        return measure(run)

    def sweep(self, plan: _Plan, nominal: ArmMetrics) -> ArmSweep:
        """All points of a plan; the nominal one is given."""
        metrics: list[ArmMetrics] = []
        for k, value in enumerate(plan.values):

            def told(done: int, total: int, k: int = k) -> None:
                self.note(plan.name, k * total + done, len(plan.values) * total)

            at_nominal = value == plan.nominal
            metrics.append(nominal if at_nominal else self.outcome(plan.change(value), told))
        return ArmSweep(
            name=plan.name,
            unit=plan.unit,
            values=tuple(plan.values),
            trained=plan.trained,
            metrics=tuple(metrics),
        )
