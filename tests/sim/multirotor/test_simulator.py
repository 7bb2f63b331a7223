"""MultirotorSimulator beyond the contract: random numbers, delays, tapes, randomisation, parameters."""

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from alula.errors import AlulaError
from alula.robots.multirotor import load_robot
from alula.sim.config import Disturbances, Limits, Randomization, SimConfig, Start
from alula.sim.multirotor.equations import State
from alula.sim.multirotor.simulator import TAPE_ROOM, MultirotorSimulator
from alula.tasks import hover, track

ROBOT = load_robot("crazyflie-l2f")
HOVER = ROBOT.hover_action
FREE = Limits(position=1e6, velocity=1e6, angular_velocity=1e6)
REST = Start(position=0.0, tilt=0.0, velocity=0.0, angular_velocity=0.0, rotor_fraction=-1.0)
CALM = Disturbances(force=0.0, torque=0.0, gust=0.0)
QUIET = SimConfig(noise=0.0, start=REST, disturbances=CALM)
ALL = Randomization(
    mass=0.2, inertia=0.2, thrust=0.25, rotor=0.1, lag=0.4, torque=0.2, drag=0.3,
    action_delay_steps=(0, 2), observation_delay_steps=(0, 3),
)  # fmt: skip
WILD = SimConfig(
    randomization=ALL,
    history=3,
    episode_steps=40,
    disturbances=Disturbances(force=0.05, torque=1e-4, gust=0.05),
)


def make(
    config: SimConfig = QUIET, n: int = 16, task: ModuleType = hover, **options
) -> MultirotorSimulator:
    return MultirotorSimulator(ROBOT, task, config, n, **options)


def record(simulator: MultirotorSimulator, seed: int, actions: np.ndarray) -> list[np.ndarray]:
    """Everything a user sees in the first 16 environments."""
    out = [simulator.reset(seed)[:16]]
    for a in actions:
        t = simulator.step(a[: simulator.n_envs])
        out += [
            t.observation, t.privileged, t.reward, t.terminated, t.truncated, t.final_observation,
            t.final_privileged, simulator.state().position_w, simulator.state().reference_position_w,
        ]  # fmt: skip
    return [x[:16] for x in out]


@pytest.mark.parametrize("task", [hover, track], ids=["hover", "track"])
def test_an_environment_does_not_depend_on_the_number_of_others(task: ModuleType) -> None:
    # 150 steps of random actions: episodes fail and run out all over the block
    actions = np.random.default_rng(0).uniform(-1, 1, (150, 48, 4)).astype(np.float32)
    flights = {n: record(make(WILD, n, task), 3, actions) for n in (16, 17, 48)}
    assert np.sum(flights[16][4::9]) + np.sum(flights[16][5::9]) > 40, "episodes ended"
    for n in (17, 48):
        for a, b in zip(flights[16], flights[n], strict=True):
            np.testing.assert_array_equal(a, b)


def test_an_environment_does_not_depend_on_what_its_neighbours_do() -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (150, 16, 4)).astype(np.float32)
    others = actions.copy()
    others[:, 1:] = np.random.default_rng(1).uniform(-1, 1, (150, 15, 4))
    a, b = record(make(WILD), 3, actions), record(make(WILD), 3, others)
    assert not all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x[0], y[0])


@pytest.mark.parametrize("delay", [0, 1, 2, 3])
@pytest.mark.parametrize("substeps", [1, 3])
def test_action_delay_is_exact(delay: int, substeps: int) -> None:
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.5, 1.0, (90, 16, 4)).astype(np.float32)
    config = replace(QUIET, limits=FREE, substeps=substeps)
    late = make(replace(config, randomization=Randomization(action_delay_steps=(delay, delay))))
    now = make(config)
    late.reset(0)
    now.reset(0)
    for k in range(90):  # three times over the end of the tape
        late.step(actions[k])
        now.step(actions[k - delay] if k >= delay else np.full((16, 4), HOVER, np.float32))
        for name in ("position_w", "velocity_w", "quat_wb", "angular_velocity_b", "rotor_fraction"):
            # one multiplication with a weight of one in the delayed one
            np.testing.assert_array_equal(getattr(late.state(), name), getattr(now.state(), name))


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_observation_delay_is_exact_and_starts_from_the_first_measurement(delay: int) -> None:
    config = replace(QUIET, limits=FREE, history=0, start=Start())
    late = make(
        replace(config, randomization=Randomization(observation_delay_steps=(delay, delay)))
    )
    now = make(config)
    seen = [now.reset(0)]
    # the same seed draws the same start: the delays are drawn, whatever their range
    np.testing.assert_array_equal(late.reset(0), seen[0])
    action = np.random.default_rng(0).uniform(0.0, 0.7, (90, 16, 4)).astype(np.float32)
    for k in range(90):
        seen.append(now.step(action[k]).observation)
        found = late.step(action[k]).observation
        np.testing.assert_array_equal(found, seen[max(0, k + 1 - delay)])


def test_tracking_error_is_the_late_measurement_against_the_present_reference() -> None:
    rows = np.array([track.figure_eight(2.0, 1.0, 5.5)])
    config = replace(
        QUIET, limits=FREE, history=0, randomization=Randomization(observation_delay_steps=(2, 2))
    )
    sim = make(config, 1, track, trajectories=rows)
    sim.reset(0)
    positions, targets = [], []
    for _ in range(20):
        t = sim.step(np.full((1, 4), HOVER, np.float32))
        positions.append(sim.state().position_w[0])
        targets.append(sim.state().reference_position_w[0])
    np.testing.assert_allclose(t.observation[0, :3], positions[-3] - targets[-1], atol=2e-5)


@pytest.mark.parametrize("history", [1, 5, 32, 64])
def test_history_over_many_tapes(history: int) -> None:
    sim = make(replace(QUIET, limits=FREE, history=history, episode_steps=10**6), 17)
    rng = np.random.default_rng(0)
    past = [np.full((17, 4), HOVER, np.float32)] * history
    observation = sim.reset(0)
    for _ in range(3 * (TAPE_ROOM + history)):
        np.testing.assert_array_equal(
            observation[:, 18:].reshape(17, history, 4), np.stack(past[-history:], axis=1)
        )
        past.append(rng.uniform(-1, 1, (17, 4)).astype(np.float32))
        observation = sim.step(past[-1]).observation


def test_history_is_hover_again_after_a_reset() -> None:
    sim = make(replace(QUIET, history=4, episode_steps=7))
    sim.reset(0)
    for k in range(1, 30):
        t = sim.step(np.full((16, 4), 0.1, np.float32))
        past = t.observation[:, 18:].reshape(16, 4, 4)
        since = k % 7
        expected = [HOVER] * max(0, 4 - since) + [0.1] * min(4, since)
        np.testing.assert_allclose(past, np.tile(np.reshape(expected, (1, 4, 1)), (16, 1, 4)))


def test_several_steps_at_once_are_the_same_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    one, many = make(WILD, 32, track), make(WILD, 32, track)
    one.reset(5)
    many.reset(5)
    for repeat in (1, 1, TAPE_ROOM, 3, 7, 31, 2, TAPE_ROOM, TAPE_ROOM, 5):
        action = rng.uniform(-1, 1, (2, 4, 16)).astype(np.float32)
        many.step_blocks(action, repeat)
        for _ in range(repeat):
            one.step_blocks(action)
        for name in ("state", "observed", "reward", "clock", "rng", "params"):
            np.testing.assert_array_equal(one.batch.arrays[name], many.batch.arrays[name])
    for repeat in (0, TAPE_ROOM + 1):
        with pytest.raises(AlulaError, match="repeat"):
            many.step_blocks(action, repeat)


def test_step_and_step_blocks_agree() -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (60, 32, 4)).astype(np.float32)
    a, b = make(WILD, 32), make(WILD, 32)
    a.reset(1)
    b.reset(1)
    for action in actions:
        t = a.step(action)
        b.step_blocks(np.ascontiguousarray(action.reshape(2, 16, 4).transpose(0, 2, 1)))
        np.testing.assert_array_equal(t.reward, b.batch.arrays["reward"].ravel())
        np.testing.assert_array_equal(a.batch.arrays["state"], b.batch.arrays["state"])


def test_noise_is_white_normal_and_of_the_right_size() -> None:
    # standing still (at_rest, no disturbance): what changes is noise
    sim = make(replace(QUIET, noise=1.0, history=0, episode_steps=10**6), 512)
    first = sim.reset(0)
    rows = [first] + [sim.step(np.full((512, 4), HOVER, np.float32)).observation for _ in range(39)]
    level = np.array([0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    std = np.repeat([0.001, 0.001, 0.002, 0.002], [3, 9, 3, 3])
    z = (np.array(rows, np.float64) - level) / std  # [40, 512, 18]
    n = z[..., 0].size  # 20480 a row: standard errors 0.007 (mean), 0.0049 (std), 0.034 (kurtosis)
    flat = z.reshape(n, 18)
    assert np.abs(flat.mean(axis=0)).max() < 0.035
    assert np.abs(flat.std(axis=0) - 1.0).max() < 0.025
    assert np.abs(stats.kurtosis(flat)).max() < 0.17
    assert np.abs(np.corrcoef(flat.T) - np.eye(18)).max() < 0.035
    assert abs(np.mean(z[1:] * z[:-1])) < 0.01, "in time; standard error 0.0017"
    assert abs(np.mean(z[:, 1:] * z[:, :-1])) < 0.01, "between environments"


def test_parameters_are_uniform_in_their_ranges_and_the_rest_is_left_alone() -> None:
    sim = make(WILD, 4000)
    sim.reset(9)
    p = sim.batch.arrays["params"].transpose(1, 0, 2).reshape(23, -1)
    nominal = sim.batch.shared["nominal"][:, None]
    ratio = np.divide(p, nominal, out=np.ones_like(p), where=nominal != 0.0)
    drawn = {
        "mass": (1.0 / ratio[0], 0.2), "inertia": (1.0 / ratio[1], 0.2), "thrust": (ratio[9], 0.25),
        "lag up": (1.0 / ratio[10], 0.4), "lag down": (1.0 / ratio[11], 0.4),
        "torque": (ratio[14], 0.2), "M1": (ratio[19], 0.1), "M4": (ratio[22], 0.1),
    }  # fmt: skip
    for name, (factor, half) in drawn.items():
        assert np.abs(factor - 1.0).max() <= half * (1 + 1e-5), name
        uniform = (factor - 1.0 + half) / (2 * half)
        assert stats.kstest(uniform, "uniform").pvalue > 1e-4, name
    together = np.array([factor for factor, _ in drawn.values()])
    assert np.abs(np.corrcoef(together) - np.eye(8)).max() < 0.07, "standard error 0.016"
    # the three axes together; ratios of inertia and rotor momentum as they were
    np.testing.assert_allclose(ratio[2:4], np.tile(ratio[1], (2, 1)), rtol=1e-6)
    np.testing.assert_array_equal(ratio[4:7], 1.0)
    np.testing.assert_allclose(
        ratio[12:14], np.exp(-0.005 * (p[10:12] - nominal[10:12])), rtol=1e-5
    )


def test_delays_are_uniform_whole_steps() -> None:
    sim = make(WILD, 4000)
    sim.reset(9)
    for name, high in (("action_delay", 2), ("observation_delay", 3)):
        one_hot = sim.batch.arrays[name].transpose(0, 2, 1).reshape(-1, 4)
        assert np.array_equal(np.unique(one_hot), [0.0, 1.0])
        np.testing.assert_array_equal(one_hot.sum(axis=1), 1.0)
        share = one_hot.mean(axis=0)
        # standard error 0.0075
        np.testing.assert_allclose(share[: high + 1], 1.0 / (high + 1), atol=0.035)
        assert not share[high + 1 :].any()


def test_every_episode_is_drawn_anew() -> None:
    sim = make(replace(WILD, limits=FREE, episode_steps=5))
    sim.reset(0)
    seen = []
    for _ in range(4):
        seen.append(sim.batch.arrays["params"][:, 0].copy())
        for _ in range(5):
            sim.step(np.full((16, 4), HOVER, np.float32))
    assert len(np.unique(np.array(seen))) == 64


def test_start_attitude_has_a_uniform_axis_and_angle() -> None:
    sim = make(replace(QUIET, start=replace(REST, tilt=1.2)), 4000)
    sim.reset(2)
    q = sim.state().quat_wb
    np.testing.assert_allclose(np.linalg.norm(q, axis=1), 1.0, atol=1e-6)
    angle = 2.0 * np.arccos(np.clip(q[:, 0], -1, 1))
    assert stats.kstest(angle / 1.2, "uniform").pvalue > 1e-4
    axis = q[:, 1:] / np.linalg.norm(q[:, 1:], axis=1, keepdims=True)
    for i in range(3):  # on a sphere each coordinate is uniform in [-1, 1]
        assert stats.kstest((axis[:, i] + 1) / 2, "uniform").pvalue > 1e-4


def test_gust_is_stationary_from_the_start() -> None:
    config = replace(QUIET, limits=FREE, disturbances=replace(CALM, gust=0.04, gust_time=0.2))
    sim = make(config, 4000)
    sim.reset(0)
    weight = ROBOT.mass * 9.81
    gust = [sim.batch.arrays["gust"] / weight]
    for _ in range(40):
        sim.step_blocks(np.full((250, 4, 16), HOVER, np.float32))
        gust.append(sim.batch.arrays["gust"] / weight)
    g = np.array(gust)  # [41, 250, 3, 16]
    # 12 000 numbers a time: standard error of the deviation 0.65 %
    np.testing.assert_allclose(g.std(axis=(1, 2, 3)), 0.04, rtol=0.035)
    for lag in (1, 10, 20, 40):
        # exp(-t / 0.2 s): 0.951, 0.607, 0.368, 0.135
        correlation = np.mean(g[lag:] * g[: 41 - lag]) / 0.04**2
        assert correlation == pytest.approx(np.exp(-0.01 * lag / 0.2), abs=0.03)


@pytest.mark.parametrize("task", [hover, track], ids=["hover", "track"])
def test_the_reward_is_one_minus_the_cost_of_the_step(task: ModuleType) -> None:
    sim = make(replace(WILD, noise=0.0, limits=FREE, episode_steps=10**6), 16, task)
    sim.reset(0)
    weights = list(sim.batch.shared["weights"].astype(np.float64))
    trajectory = list(sim.batch.arrays["trajectory"][0].astype(np.float64))
    rng, before = np.random.default_rng(0), np.full((16, 4), HOVER, np.float32)
    for k in range(1, 8):
        action = rng.uniform(-1, 1, (16, 4)).astype(np.float32)
        found = sim.step(action).reward
        # the state after the step, its reference, this action and the one before
        state = State.from_rows(list(sim.batch.arrays["state"][0].astype(np.float64)))
        reference = task.Reference.from_rows(task.reference(np.full(16, 0.01 * k), trajectory))
        cost = task.cost(state, list(action.T), list(before.T), reference, weights)
        np.testing.assert_allclose(found, 1.0 - cost, rtol=1e-5, atol=1e-5)
        before = action


def test_a_failed_vehicle_stays_where_it_failed() -> None:
    sim = make(replace(QUIET, limits=Limits(velocity=0.3)), 2, auto_reset=False)
    sim.reset(0)
    action = np.array([[1.0] * 4, [HOVER] * 4], np.float32)
    heights = []
    for _ in range(60):
        t = sim.step(action)
        heights.append(sim.state().position_w[:, 2])
    assert t.terminated.tolist() == [True, False]
    h = np.array(heights)
    failed = int(np.argmax(np.diff(h[:, 0]) == 0.0))
    assert failed > 5
    assert (np.diff(h[:failed, 0]) > 0).all()
    assert (h[failed:, 0] == h[failed, 0]).all()
    assert sim.state().velocity_w[0, 2] > 0.3
    assert h[-1, 1] == pytest.approx(0.0, abs=1e-5)


def test_a_failure_at_the_time_limit_is_a_failure() -> None:
    config = replace(QUIET, limits=Limits(velocity=0.3), episode_steps=1000)
    sim = make(config, 1)
    sim.reset(0)
    steps = 0
    while not sim.step(np.ones((1, 4), np.float32)).terminated[0]:
        steps += 1
    sim = make(replace(config, episode_steps=steps + 1), 1)
    sim.reset(0)
    ends = [sim.step(np.ones((1, 4), np.float32)) for _ in range(steps + 1)]
    assert [bool(t.terminated[0]) for t in ends] == [False] * steps + [True]
    assert not any(t.truncated[0] for t in ends)


def test_final_rows_with_noise_and_delay_are_those_of_a_flight_that_goes_on() -> None:
    config = replace(WILD, limits=FREE, episode_steps=20)
    ends, goes_on = make(config), make(replace(config, episode_steps=10**6))
    ends.reset(4)
    goes_on.reset(4)
    actions = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 16, 4)).astype(np.float32)
    for action in actions:
        a, b = ends.step(action), goes_on.step(action)
    assert a.truncated.all()
    assert not b.truncated.any()
    np.testing.assert_array_equal(a.final_observation, b.observation)
    np.testing.assert_array_equal(a.final_privileged, b.privileged)
    np.testing.assert_array_equal(a.reward, b.reward)
    assert (a.observation != b.observation).any(axis=1).all()


def test_scaled_parameters_fly_like_such_a_vehicle() -> None:
    factors = {"mass": 1.2, "inertia": 0.9, "thrust": 1.1, "lag": 0.7, "torque": 1.3}
    other = replace(
        ROBOT, mass=ROBOT.mass * 1.2, inertia=tuple(0.9 * j for j in ROBOT.inertia),
        thrust_curve=tuple(1.1 * c for c in ROBOT.thrust_curve),
        rotor_lag_up=0.7 * ROBOT.rotor_lag_up, rotor_lag_down=0.7 * ROBOT.rotor_lag_down,
        torque_per_thrust=1.3 * ROBOT.torque_per_thrust,
    )  # fmt: skip
    start = replace(REST, rotor_fraction=0.6)
    config = replace(QUIET, limits=FREE, start=start)
    scaled = make(config, auto_reset=False)
    built = MultirotorSimulator(other, hover, config, 16, auto_reset=False)
    scaled.reset(0)
    built.reset(0)
    scaled.scale_parameters(**factors)
    rng = np.random.default_rng(0)
    for _ in range(20):
        action = rng.uniform(0.0, 0.4, (16, 4)).astype(np.float32)
        scaled.step(action)
        built.step(action)
    a, b = scaled.state(), built.state()
    assert np.abs(b.angular_velocity_b).max() > 1.0
    for name in ("position_w", "velocity_w", "quat_wb", "angular_velocity_b", "rotor_fraction"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=2e-4, atol=2e-5)


def test_scaling_one_environment_leaves_the_others() -> None:
    sim = make(n=3)
    sim.reset(0)
    before = sim.batch.arrays["params"].copy()
    sim.scale_parameters(mass=np.array([1.0, 2.0, 1.0]))
    # the lags' factors are computed anew, which may round the last bit elsewhere
    changed = np.argwhere(~np.isclose(sim.batch.arrays["params"], before, rtol=1e-6, atol=0.0))
    assert changed.tolist() == [[0, 0, 1]]
    assert sim.batch.arrays["params"][0, 0, 1] == before[0, 0, 1] / 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.scale_parameters(mas=1.0), "unknown parameter 'mas'"),
        (lambda s: s.scale_parameters(mass=0.0), "factor of mass"),
        (lambda s: s.scale_parameters(mass=-1.0), "factor of mass"),
        (lambda s: s.scale_parameters(drag=np.nan), "factor of drag"),
        (lambda s: s.scale_parameters(mass=np.ones(4)), "mass has shape"),
        (lambda s: s.scale_parameters(mass="heavy"), "mass has shape"),
        (lambda s: s.set_action_delay(3), "action delay 3 steps"),
        (lambda s: s.set_action_delay(-1), "action delay -1 steps"),
        (lambda s: s.set_action_delay(0.5), "action delay 0.5 steps"),
        (lambda s: s.set_action_delay(np.zeros(5, int)), "action delay has shape"),
        (lambda s: s.step(np.full((3, 4), np.inf, np.float32)), "allowed"),
        (lambda s: s.step(np.zeros((3, 5), np.float32)), "allowed"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(call, message: str) -> None:
    sim = make(replace(QUIET, randomization=Randomization(action_delay_steps=(0, 2))), 3)
    sim.reset(0)
    before = {name: array.copy() for name, array in sim.batch.arrays.items()}
    with pytest.raises(AlulaError, match=message):
        call(sim)
    for name, array in sim.batch.arrays.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("bad", [np.zeros((0, 18)), np.zeros((2, 3, 18)), np.full((1, 18), np.nan)])
def test_bad_trajectories_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(AlulaError, match="trajectories"):
        make(QUIET, 1, track, trajectories=bad)


def test_set_action_delay() -> None:
    config = replace(QUIET, randomization=Randomization(action_delay_steps=(0, 2)))
    sim = make(config, 3)
    sim.reset(0)
    sim.set_action_delay(np.array([0, 1, 2]))
    moved = []
    for _ in range(4):
        sim.step(np.ones((3, 4), np.float32))
        moved.append((sim.state().rotor_fraction[:, 0] > ROBOT.hover_throttle + 1e-4).tolist())
    assert moved == [[True, False, False], [True, True, False], [True, True, True], [True] * 3]


def test_a_rotor_much_faster_than_the_step_follows_at_once() -> None:
    robot = replace(ROBOT, rotor_lag_up=1e-6, rotor_lag_down=1e-6)
    sim = MultirotorSimulator(robot, hover, replace(QUIET, limits=FREE), 1)
    sim.reset(0)
    sim.step(np.full((1, 4), 0.5, np.float32))
    np.testing.assert_allclose(sim.state().rotor_fraction, 0.75)


def test_actions_are_clipped_to_the_throttle_range() -> None:
    robot = load_robot("x500")
    sim = MultirotorSimulator(robot, hover, replace(QUIET, limits=FREE), 2, auto_reset=False)
    sim.reset(0)
    for _ in range(100):
        sim.step(np.array([[-9.0] * 4, [9.0] * 4], np.float32))
    # the rotors settle at the throttle: 0.15 and 1.0
    expected = [[robot.throttle_min] * 4, [robot.throttle_max] * 4]
    np.testing.assert_allclose(sim.state().rotor_fraction, expected, atol=1e-6)
