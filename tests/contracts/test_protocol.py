"""What every simulator must do, whichever robot and physics: the `Simulator` protocol, run for each of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
import pytest

from alula.build import build_simulator
from alula.errors import AlulaError
from alula.presets import ARM_RANDOMIZED
from alula.robots.arm import load_arm
from alula.robots.multirotor import load_robot
from alula.sim.arm_config import ArmSimConfig
from alula.sim.config import Limits, Randomization, SimConfig
from alula.sim.mujoco.arm import MujocoArm
from alula.sim.protocol import Simulator, Transition
from alula.tasks import hover, lift, reach

ARM = ArmSimConfig(
    randomization=replace(ARM_RANDOMIZED, actuator_lag=(0.0, 0.02), observation_delay_steps=(0, 2))
)
FLIGHT = SimConfig(
    randomization=Randomization(
        mass=0.2, inertia=0.2, action_delay_steps=(0, 2), observation_delay_steps=(0, 2)
    )
)
Make = Callable[..., Simulator]


@dataclass(frozen=True)
class Case:
    make: Make
    n_actions: int


def flight(kind: str) -> Make:
    def make(
        n: int, episode_steps: int = 500, limits: Limits | None = None, **settings
    ) -> Simulator:
        config = replace(FLIGHT, episode_steps=episode_steps, limits=limits or FLIGHT.limits)
        robot = load_robot("crazyflie-l2f")
        return build_simulator(kind, robot, hover, config, n, **settings)  # type: ignore[arg-type]

    return make


def arm(robot: str, task, *, warp: bool = False) -> Make:
    def make(
        n: int, episode_steps: int = 150, limits: Limits | None = None, **settings
    ) -> Simulator:
        # An arm has no limits of its own; `fail_first` breaks it.
        kind = MujocoArm
        if warp:
            from alula.sim.mujoco.arm_warp import WarpArm as kind
        config = replace(ARM, episode_steps=episode_steps)
        return kind(load_arm(robot), task, config, n, **settings)

    return make


FLIGHTS = {
    "multirotor": Case(flight("multirotor"), 4),
    "multirotor-mujoco": Case(flight("mujoco"), 4),
}
ARMS = {
    "panda-lift": Case(arm("panda", lift), 8),
    "ur5e-reach": Case(arm("ur5e", reach), 6),
}
WARP = (
    {"ur5e-reach-warp": Case(arm("ur5e", reach, warp=True), 6)} if find_spec("mujoco_warp") else {}
)
"""On a CPU its kernels take minutes to compile when they are first used."""


def params(cases: dict[str, Case]) -> list:
    slow = pytest.mark.slow
    return [pytest.param(case, id=name) for name, case in cases.items()] + [
        pytest.param(case, id=name, marks=slow) for name, case in WARP.items()
    ]


all_arms = pytest.mark.parametrize("case", params(ARMS))


@pytest.fixture(params=params(FLIGHTS | ARMS))
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def actions(n: int, case: Case, steps: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (steps, n, case.n_actions)).astype(np.float32)


def run(simulator: Simulator, moves: np.ndarray, seed: int = 7) -> list[np.ndarray]:
    """Everything that the simulator says over an episode or more."""
    out = [simulator.reset(seed)]
    for move in moves:
        out += arrays(simulator.step(move))
    return out


def arrays(t: Transition) -> list[np.ndarray]:
    return [
        t.observation, t.privileged, t.reward, t.terminated, t.truncated, t.final_observation, t.final_privileged
    ]  # fmt: skip


def fail_first(simulator: Simulator, n_actions: int) -> Transition:
    """Step until environment 0 fails: a flight by its speed, an arm because its integration is broken."""
    move = np.full((simulator.n_envs, n_actions), 0.01, np.float32)
    if isinstance(simulator, MujocoArm):
        simulator._physics.qvel[0] = np.nan
    else:
        # About hover for all; full thrust for the first.
        move[:] = load_robot("crazyflie-l2f").hover_action
        move[0] = 1.0
    for _ in range(80):
        t = simulator.step(move)
        if t.terminated[0]:
            return t
    raise AssertionError("environment 0 did not fail")


def test_shapes_types_and_finite_numbers(case: Case) -> None:
    simulator = case.make(5, 4)
    first = simulator.reset(1)
    assert simulator.n_envs == 5
    for move in actions(5, case, 9):
        t = simulator.step(move)
        assert t.observation.shape == t.final_observation.shape == first.shape
        assert t.privileged.shape == t.final_privileged.shape
        assert t.privileged.shape[0] == 5
        assert t.reward.shape == t.terminated.shape == t.truncated.shape == (5,)
        for array in (t.observation, t.privileged, t.reward, t.final_observation):
            assert array.dtype == np.float32
            assert np.isfinite(array).all()
        assert t.terminated.dtype == t.truncated.dtype == np.bool_


def test_same_seed_is_bitwise_the_same(case: Case) -> None:
    moves = actions(6, case, 25)
    a, b = (run(case.make(6, 10), moves) for _ in range(2))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_reset_in_the_middle_forgets_everything(case: Case) -> None:
    moves = actions(6, case, 25)
    simulator = case.make(6, 10)
    first = run(simulator, moves)
    run(simulator, -moves[:13], seed=8)
    again = run(simulator, moves)
    assert all(np.array_equal(x, y) for x, y in zip(first, again, strict=True))


def test_another_seed_is_another_episode(case: Case) -> None:
    simulator = case.make(6)
    assert np.abs(simulator.reset(1) - simulator.reset(2)).max() > 0.01
    assert len(np.unique(simulator.reset(3)[:, 0])) == 6


@all_arms
def test_bitwise_the_same_for_any_number_of_threads(case: Case) -> None:
    moves = actions(7, case, 25)
    one, two, five = (run(case.make(7, 10, threads=k), moves) for k in (1, 2, 5))
    for x, y, z in zip(one, two, five, strict=True):
        np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(x, z)


def test_the_time_limit_truncates_and_starts_anew(case: Case) -> None:
    simulator = case.make(4, 3)
    simulator.reset(0)
    for step, move in enumerate(0.01 * actions(4, case, 7)):
        t = simulator.step(move)
        ends = step in (2, 5)
        assert t.truncated.tolist() == [ends] * 4
        assert not t.terminated.any()
        assert np.array_equal(t.observation, t.final_observation) != ends
        assert np.array_equal(t.privileged, t.final_privileged) != ends


def test_final_rows_are_the_last_of_the_ended_episode(case: Case) -> None:
    moves = 0.01 * actions(4, case, 10)
    last = []
    for auto_reset in (True, False):
        simulator = case.make(4, 10, auto_reset=auto_reset)
        simulator.reset(0)
        last.append([simulator.step(move) for move in moves][-1])
    on, off = last
    assert on.truncated.all()
    assert off.truncated.all()
    np.testing.assert_array_equal(on.final_observation, off.observation)
    np.testing.assert_array_equal(on.final_privileged, off.privileged)
    np.testing.assert_array_equal(off.final_observation, off.observation)
    np.testing.assert_array_equal(on.reward, off.reward)
    assert not np.array_equal(on.observation, off.observation)


def test_without_auto_reset_time_goes_on(case: Case) -> None:
    simulator = case.make(3, 4, auto_reset=False)
    simulator.reset(0)
    out = [simulator.step(move) for move in 0.01 * actions(3, case, 7)]
    assert [bool(t.truncated.all()) for t in out] == [False] * 3 + [True] * 4


def test_a_failure_terminates_and_starts_that_environment_alone_anew(case: Case) -> None:
    simulator = case.make(3, limits=Limits(velocity=2.5))
    simulator.reset(0)
    t = fail_first(simulator, case.n_actions)
    assert t.terminated.tolist() == [True, False, False]
    assert not t.truncated.any()
    assert not np.array_equal(t.observation[0], t.final_observation[0])
    for now, final in ((t.observation, t.final_observation), (t.privileged, t.final_privileged)):
        assert np.isfinite(final).all()
        np.testing.assert_array_equal(now[1:], final[1:])


@all_arms
def test_an_environment_is_alone_in_its_world(case: Case) -> None:
    """What is done to environment 0, and its ends, do not show in the others."""
    moves = actions(4, case, 15)
    calm = case.make(4)
    a = run(calm, moves)[1:]
    simulator = case.make(4)
    simulator.reset(7)
    b = []
    for k, move in enumerate(moves):
        move = move.copy()
        move[0] = -move[0]
        if k in (3, 9):
            simulator._physics.qvel[0] = np.nan  # type: ignore[attr-defined]
        b += arrays(simulator.step(move))
    assert simulator.diverged == 2  # type: ignore[attr-defined]
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x[1:], y[1:])
    assert not np.array_equal(a[-2][0], b[-2][0])


def test_one_environment_is_enough(case: Case) -> None:
    simulator = case.make(1, 3)
    assert simulator.reset(0).shape[0] == 1
    ends = [bool(simulator.step(m).truncated[0]) for m in 0.01 * actions(1, case, 6)]
    assert ends == [False, False, True] * 2


def test_actions_beyond_one_are_clipped(case: Case) -> None:
    a, b = case.make(3), case.make(3)
    a.reset(0)
    b.reset(0)
    np.testing.assert_array_equal(
        a.step(np.full((3, case.n_actions), 9.0, np.float32)).observation,
        b.step(np.ones((3, case.n_actions), np.float32)).observation,
    )


def test_bad_actions_are_refused_and_lose_nothing(case: Case) -> None:
    a, b = case.make(3), case.make(3)
    a.reset(0)
    b.reset(0)
    good = np.zeros((3, case.n_actions), np.float32)
    nan, infinite = good.copy(), good.copy()
    nan[1, 2], infinite[2, 0] = np.nan, np.inf
    for bad in (good[:2], good[:, :2], nan, infinite):
        with pytest.raises(AlulaError, match="action"):
            a.step(bad)
    np.testing.assert_array_equal(a.step(good).observation, b.step(good).observation)


@all_arms
def test_a_step_before_reset_is_refused(case: Case) -> None:
    with pytest.raises(AlulaError, match="reset"):
        case.make(2).step(np.zeros((2, case.n_actions), np.float32))


def test_no_environments_are_refused(case: Case) -> None:
    with pytest.raises(AlulaError, match="n_envs is 0"):
        case.make(0)
