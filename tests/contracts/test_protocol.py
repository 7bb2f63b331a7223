"""What every simulator must do, whichever robot and physics: the checks of `alula check-sim`, run for each of them."""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest

from alula.build import SimName, build_simulator
from alula.evaluation.simulator_cases import ArmCase, ArmSimulator, Case, FlightCase
from alula.evaluation.simulator_robot_checks import checks_of
from alula.presets import ARM_RANDOMIZED
from alula.robots.arm import load_arm
from alula.robots.multirotor import load_robot
from alula.sim.arm_config import ArmSimConfig
from alula.sim.config import Randomization, SimConfig
from alula.sim.mujoco.arm import MujocoArm
from alula.sim.protocol import FlightSimulator
from alula.tasks import hover, lift, reach

ARM = ArmSimConfig(
    randomization=replace(ARM_RANDOMIZED, actuator_lag=(0.0, 0.02), observation_delay_steps=(0, 2))
)
FLIGHT = SimConfig(
    randomization=Randomization(
        mass=0.2, inertia=0.2, action_delay_steps=(0, 2), observation_delay_steps=(0, 2)
    )
)


def flight(kind: SimName) -> FlightCase:
    robot = load_robot("crazyflie-l2f")

    def build(config: SimConfig, n_envs: int, auto_reset: bool) -> FlightSimulator:
        return build_simulator(kind, robot, hover, config, n_envs, auto_reset=auto_reset)

    return FlightCase(build=build, robot=robot, config=FLIGHT)


def arm(name: str, task: ModuleType, *, warp: bool = False, threads: int | None = None) -> ArmCase:
    robot = load_arm(name)

    def build(
        task: ModuleType, config: ArmSimConfig, n_envs: int, auto_reset: bool
    ) -> ArmSimulator:
        if warp:
            from alula.sim.mujoco.arm_warp import HostedArm, WarpArm

            return HostedArm(
                WarpArm(robot, task, config, n_envs, auto_reset=auto_reset, device="cpu")
            )
        return MujocoArm(robot, task, config, n_envs, auto_reset=auto_reset, threads=threads)

    return ArmCase(build=build, robot=robot, task=task, config=ARM)


CASES: dict[str, Case] = {
    "multirotor": flight("multirotor"),
    "multirotor-mujoco": flight("mujoco"),
    "panda-lift": arm("panda", lift),
    "ur5e-reach": arm("ur5e", reach),
}
WARP: dict[str, Case] = (
    {"ur5e-reach-warp": arm("ur5e", reach, warp=True)} if find_spec("mujoco_warp") else {}
)
"""On a CPU its kernels take minutes to compile when they are first used."""
SLOW = [
    pytest.param(case, check, id=f"{name}-{check.__name__}", marks=pytest.mark.slow)
    for name, case in WARP.items()
    for check in checks_of(case)
]
each_check = pytest.mark.parametrize(
    ("case", "check"),
    [
        *(
            pytest.param(case, check, id=f"{name}-{check.__name__}")
            for name, case in CASES.items()
            for check in checks_of(case)
        ),
        *SLOW,
    ],
)
ARMS = ["panda-lift", "ur5e-reach"]


@each_check
def test_contract(case: Case, check: Callable[[Case], str]) -> None:
    check(case)


def moves(case: Case, steps: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (steps, 7, case.n_actions)).astype(np.float32)


def run(simulator: MujocoArm, actions: np.ndarray, broken_at: tuple[int, ...] = ()) -> list:
    """Everything that the simulator says; at these steps the integration of environment 0 is broken."""
    out: list[np.ndarray] = []
    simulator.reset(7)
    for step, action in enumerate(actions):
        if step in broken_at:
            simulator._physics.qvel[0] = np.nan
        t = simulator.step(action)
        out += [t.observation, t.privileged, t.reward, t.terminated, t.final_observation]
    return out


@pytest.mark.parametrize("name", ARMS)
def test_bitwise_the_same_for_any_number_of_threads(name: str) -> None:
    robot, task = name.split("-")
    cases = [arm(robot, {"lift": lift, "reach": reach}[task], threads=k) for k in (1, 2, 5)]
    actions = moves(cases[0], 25)
    one, two, five = (run(case.make(7, episode_steps=10), actions) for case in cases)  # type: ignore[arg-type]
    for x, y, z in zip(one, two, five, strict=True):
        np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(x, z)


@pytest.mark.parametrize("name", ARMS)
def test_a_diverged_environment_does_not_show_in_the_others(name: str) -> None:
    case = CASES[name]
    actions = moves(case, 15)
    calm, broken = case.make(7), case.make(7)
    a, b = run(calm, actions), run(broken, actions, broken_at=(3, 9))  # type: ignore[arg-type]
    assert broken.diverged == 2  # type: ignore[attr-defined]
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x[1:], y[1:])
    assert not np.array_equal(a[-1][0], b[-1][0])
