"""The learner around its gradients: schedules, threads, state, weights, memory."""

from dataclasses import replace

import numpy as np
import pytest

from alula.build import build_task
from alula.errors import AlulaError
from alula.robots.multirotor import Multirotor, load_robot
from alula.sim.config import Disturbances, Randomization, SimConfig
from alula.sim.multirotor.kernels import aligned
from alula.tasks import hover
from alula.training.config import ShortHorizonConfig
from alula.training.short_horizon import ShortHorizonLearner, initial_weights, squash_inverse

ROBOT = load_robot("crazyflie-l2f")
WILD = SimConfig(
    history=5, episode_steps=60,
    randomization=Randomization(mass=0.2, action_delay_steps=(0, 2), observation_delay_steps=(0, 1)),
    disturbances=Disturbances(gust=0.05),
)  # fmt: skip
SMALL = ShortHorizonConfig(
    n_envs=48, updates=20, horizon_start=8, horizon_end=16, hidden=(9, 7), critic_hidden=(6, 5)
)


def learner(
    config: ShortHorizonConfig = SMALL,
    sim: SimConfig = WILD,
    seed: int = 0,
    threads: int = 1,
    task: str = "hover",
    robot: Multirotor = ROBOT,
) -> ShortHorizonLearner:
    return ShortHorizonLearner(robot, build_task(task), sim, config, seed, threads=threads)


def weights(made: ShortHorizonLearner, updates: int = 6) -> np.ndarray:
    for _ in range(updates):
        made.update()
    return np.concatenate([made.actor, made.critic])


@pytest.mark.parametrize("task", ["hover", "track"])
def test_any_number_of_threads_gives_the_same_bits(task: str) -> None:
    one = weights(learner(threads=1, task=task))
    for threads in (2, 3, 16):
        np.testing.assert_array_equal(weights(learner(threads=threads, task=task)), one)


def test_seeds() -> None:
    a, b, other = (weights(learner(seed=s), 2) for s in (4, 4, 5))
    np.testing.assert_array_equal(a, b)
    assert (a != other).mean() > 0.5


def test_horizon_ramp() -> None:
    made = learner(replace(SMALL, updates=100, horizon_start=16, horizon_end=40, horizon_ramp=0.5))
    found = {}
    for done in (0, 10, 25, 50, 99):
        made.updates_done = done
        found[done] = made.horizon()
    # 16 + 24 done / 50, to the nearest multiple of 4
    assert found == {0: 16, 10: 20, 25: 28, 50: 40, 99: 40}
    assert made.longest == 40


@pytest.mark.parametrize(("steps", "expected"), [(1, 4), (4, 4), (7, 8), (13, 12), (128, 128)])
def test_horizons_are_multiples_of_the_measurement_ring(steps: int, expected: int) -> None:
    made = learner(replace(SMALL, n_envs=16, horizon_start=steps, horizon_end=steps))
    assert made.horizon() == made.longest == expected
    assert made.update().horizon == expected
    assert made.env_steps == 16 * expected


def test_learning_rate_falls_along_a_cosine() -> None:
    made = learner(replace(SMALL, updates=100, learning_rate=0.02))
    rates = []
    for done in (0, 25, 50, 75, 100, 120):
        made.updates_done = done
        rates.append(made.learning_rate())
    # 0.01 (1 + cos(pi k / 100)): cos(pi / 4) = 0.7071068
    np.testing.assert_allclose(
        rates, [0.02, 0.017071068, 0.01, 0.002928932, 0.0, 0.0], rtol=1e-6, atol=1e-12
    )


def test_critic_weight_ramps_up() -> None:
    made = learner(replace(SMALL, updates=10, critic_ramp=0.4))
    seen = []
    for _ in range(6):
        made.update()
        seen.append(made._struct.critic_weight)
    np.testing.assert_allclose(seen, [0.0, 0.25, 0.5, 0.75, 1.0, 1.0])


def test_the_gradient_is_bounded_and_the_first_step_has_the_rate() -> None:
    made = learner(replace(SMALL, max_grad_norm=1e-3))
    before = made.actor.copy()
    statistics = made.update()
    assert statistics.gradient_norm > 1e-2
    first = made.actor_adam.first / (1.0 - SMALL.betas[0])
    assert np.linalg.norm(first) == pytest.approx(1e-3, rel=1e-4)
    moved = np.abs(made.actor - before)
    columns = slice(18 * 9, (18 + 20) * 9)
    rest = np.delete(moved, np.arange(columns.start, columns.stop))
    assert rest.max() == pytest.approx(SMALL.learning_rate, rel=1e-2)
    # the action history learns more slowly
    assert moved[columns].max() <= SMALL.history_rate * SMALL.learning_rate * 1.01


def test_without_a_critic_it_stays_as_it_was() -> None:
    made = learner(replace(SMALL, critic=False))
    before = made.critic.copy()
    assert made.update().critic_loss == 0.0
    np.testing.assert_array_equal(made.critic, before)


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    made = learner()
    made.actor[0] = np.nan
    before = np.delete(made.actor, 0)
    assert not np.isfinite(made.update().gradient_norm)
    np.testing.assert_array_equal(np.delete(made.actor, 0), before)


def test_a_snapshot_goes_on_bit_for_bit() -> None:
    straight, broken, resumed = learner(), learner(), learner(seed=9)
    weights(broken, 3)
    resumed.restore(broken.snapshot())
    expected, found = weights(straight, 8), weights(resumed, 5)
    np.testing.assert_array_equal(found, expected)
    assert (resumed.updates_done, resumed.env_steps) == (straight.updates_done, straight.env_steps)


@pytest.mark.parametrize("damage", ["missing", "shape", "dtype", "counts", "counts dtype"])
def test_a_snapshot_that_does_not_fit(damage: str) -> None:
    made = learner()
    snapshot = made.snapshot()
    if damage == "missing":
        del snapshot["critic_second"]
    elif damage == "shape":
        snapshot["actor"] = snapshot["actor"][:-1]
    elif damage == "dtype":
        snapshot["batch_rng"] = snapshot["batch_rng"].astype(np.float32)
    elif damage == "counts":
        snapshot["counts"] = snapshot["counts"][:3]
    else:
        snapshot["counts"] = np.full(4, np.nan)
    before = made.actor.copy()
    with pytest.raises(AlulaError, match="checkpoint does not fit"):
        made.restore(snapshot)
    np.testing.assert_array_equal(made.actor, before)


def test_the_network_is_the_actor_that_flew() -> None:
    made = learner(sim=replace(WILD, noise=1.0))
    made.update()
    made.batch.arrays["clock"][:] = 0.0  # no episode ends within the next horizon
    network = made.network()
    batch, first = made.batch, made.batch.first_tape
    # what lies ready for the next horizon: delayed measurements and past actions
    made._struct.horizon = 4
    sensed = batch.arrays["sensed"].reshape(3, 4, 18, 16)
    delay = batch.arrays["observation_delay"]
    late = sum(delay[:, d, None] * sensed[:, (first - d) % 4] for d in range(4))
    tape = batch.arrays["actions"].reshape(3, -1, 4, 16)
    history = tape[:, first - 5 : first].reshape(3, 20, 16)
    observation = np.concatenate([late, history], axis=1).transpose(0, 2, 1).reshape(48, 38)
    made._fly()
    # the kernel moved the tape by the horizon it flew, so its first action stands 4 steps further back
    flown = batch.arrays["actions"].reshape(3, -1, 4, 16)[:, first - 4]
    np.testing.assert_allclose(
        network(observation), flown.transpose(0, 2, 1).reshape(48, 4), atol=2e-6
    )


def test_the_untrained_actor_hovers() -> None:
    made = learner()
    action = made.network()(np.zeros((1, 38), np.float32))
    np.testing.assert_allclose(action, ROBOT.hover_action, atol=0.05)
    z = squash_inverse(ROBOT)
    assert z / np.sqrt(1.0 + z * z) == pytest.approx(ROBOT.hover_action, rel=1e-12)


def test_initial_weights_are_he_normal() -> None:
    w = initial_weights(np.random.default_rng(0), (200, 100, 4), last=0.1, bias=0.3)
    assert w.dtype == np.float32
    assert w.size == 200 * 100 + 100 + 100 * 4 + 4
    # sqrt(2 / 200) = 0.1; standard error 0.5 %
    assert w[:20000].std() == pytest.approx(0.1, rel=0.02)
    assert not w[20000:20100].any()
    # 0.1 sqrt(2 / 100) = 0.01414; 400 numbers: 3.5 %
    assert w[20100:20500].std() == pytest.approx(0.01414, rel=0.15)
    np.testing.assert_array_equal(w[20500:], np.float32(0.3))


def test_episodes_start_at_spread_ages() -> None:
    made = learner(replace(SMALL, n_envs=64), replace(WILD, episode_steps=640))
    ages = np.sort(made.batch.arrays["clock"].ravel())
    assert ages.min() >= 0
    assert ages.max() < 640
    # evenly enough that no update resets them all: the largest gap of 64 ages over 640 steps
    assert np.diff(ages).max() < 80


def test_ended_flights_start_anew_between_horizons() -> None:
    made = learner(replace(SMALL, n_envs=16), replace(WILD, episode_steps=24))
    for _ in range(12):
        made.update()
        clock = made.batch.arrays["clock"]
        assert (clock < 24).all()
        assert not made.batch.arrays["failed"].any()


def odd_robot(n: int) -> Multirotor:
    angles = np.linspace(0.0, 2.0 * np.pi, n, endpoint=False)
    return Multirotor(
        name="odd", mass=1.0, inertia=(0.01, 0.01, 0.02),
        rotor_names=tuple(f"M{i}" for i in range(n)),
        rotor_position_b=tuple((0.1 * np.cos(a), 0.1 * np.sin(a), 0.0) for a in angles),
        rotor_spin=tuple((-1) ** i for i in range(n)), thrust_curve=(0.0, 0.0, 5.0),
        rotor_lag_up=0.05, rotor_lag_down=0.1, torque_per_thrust=0.02, rotor_speed_max=1000.0,
    )  # fmt: skip


@pytest.mark.parametrize("rotors", [4, 5])
@pytest.mark.parametrize(("substeps", "history"), [(1, 64), (100, 0)])
@pytest.mark.parametrize("widths", [((1, 2), (1, 1)), ((64, 33), (31, 2))])
def test_a_horizon_stays_in_its_room(rotors, substeps, history, widths) -> None:
    config = replace(
        SMALL,
        n_envs=16,
        horizon_start=64,
        horizon_end=64,
        hidden=widths[0],
        critic_hidden=widths[1],
    )
    sim = replace(WILD, substeps=substeps, history=history)
    made = learner(config, sim, robot=odd_robot(rotors))
    size = made._rooms[0].size
    room = aligned((size + 1_000_000,))
    room[size:] = -7.25
    made._rooms[0] = room
    made.update()
    assert (room[size:] == -7.25).all()
    assert room[size // 2 : size].any(), "and the room is used"


def test_privileged_and_symmetric_critics_see_different_things() -> None:
    own, full = (learner(replace(SMALL, privileged=p)) for p in (False, True))
    assert own._arrays["features"].shape[2] == own.sizes[0] == 18 + 5 * 4
    assert full._arrays["features"].shape[2] == full.batch.rows.privileged
    own.update()
    np.testing.assert_array_equal(np.abs(own._arrays["features"]).max() <= 5.0, True)


@pytest.mark.parametrize(
    "bad",
    [
        {"n_envs": 0}, {"n_envs": 24}, {"horizon_start": 0}, {"horizon_start": 20},
        {"horizon_end": 129}, {"updates": 0}, {"hidden": (0, 8)}, {"critic_hidden": (8, 513)},
    ],
)  # fmt: skip
def test_bad_settings_are_refused(bad: dict) -> None:
    with pytest.raises(AlulaError, match="allowed"):
        replace(SMALL, **bad)


def test_it_learns_to_hover() -> None:
    # the smallest sign of life: flights are lost ever more rarely
    config = ShortHorizonConfig(n_envs=32, updates=200, hidden=(32, 32))
    made = ShortHorizonLearner(ROBOT, hover, SimConfig(), config, 1, threads=1)
    failed = [made.update().failed for _ in range(200)]
    assert np.mean(failed[10:40]) > 0.15
    assert np.mean(failed[-30:]) < 0.05
