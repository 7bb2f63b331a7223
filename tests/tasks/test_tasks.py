"""Tasks: references and their derivatives, figures, what is observed, what it costs, what the critic sees."""

import math
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from alula.build import build_task
from alula.presets import PRESETS
from alula.robots.multirotor import load_robot
from alula.sim.config import SimConfig
from alula.sim.multirotor.equations import State
from alula.sim.multirotor.simulator import MultirotorSimulator
from alula.sim.sensors import Sensed, noise_rows, sense
from alula.tasks import hover, track
from alula.tasks.track import PREVIEW_S, CostWeights, figure_eight, random_trajectories

FLIGHTS = [p for p in PRESETS if isinstance(p.sim, SimConfig)]
TASKS = pytest.mark.parametrize("task", [hover, track], ids=["hover", "track"])


def at_rest(position=(0.0, 0.0, 0.0), velocity=(0.0, 0.0, 0.0)) -> State:
    return State(
        position_w=list(position),
        velocity_w=list(velocity),
        quat_wb=[1.0, 0.0, 0.0, 0.0],
        angular_velocity_b=[0.0] * 3,
        rotor_fraction=[0.5] * 4,
    )


def test_reference_velocity_is_the_derivative_of_its_position() -> None:
    rng = np.random.default_rng(0)
    rows = list(random_trajectories(rng, 50).astype(np.float64).T)
    t, h = rng.uniform(0.0, 10.0, 50), 1e-5
    before, now, after = (np.array(track.reference(x, rows)) for x in (t - h, t, t + h))
    np.testing.assert_allclose(now[3:6], (after - before)[:3] / (2 * h), atol=1e-8)


def test_preview_is_the_reference_ahead() -> None:
    rows = list(random_trajectories(np.random.default_rng(1), 20).astype(np.float64).T)
    now = np.array(track.reference(1.3, rows))
    for i, tau in enumerate(PREVIEW_S):
        ahead = np.array(track.reference(1.3 + tau, rows))[:3]
        np.testing.assert_allclose(now[6 + 3 * i : 9 + 3 * i], ahead - now[:3], atol=1e-14)
    assert len(now) == track.REFERENCE_SIZE == 6 + 3 * len(PREVIEW_S)


def test_a_reference_by_hand() -> None:
    # x = 2 sin(3 t + 0.5) + 1 sin(t); at t = 0.1: 2 sin(0.8) + sin(0.1) = 1.5345456
    rows = [0.0] * 18
    rows[0:6] = [2.0, 3.0, 0.5, 1.0, 1.0, 0.0]
    x, y, z, vx, vy, vz = track.reference(0.1, rows)[:6]
    assert x == pytest.approx(1.5345456, abs=1e-7)
    # 6 cos(0.8) + cos(0.1) = 5.1752444
    assert vx == pytest.approx(5.1752444, abs=1e-7)
    assert [y, z, vy, vz] == [0.0] * 4


def test_figure_eight_has_its_size_and_lap() -> None:
    rows = figure_eight(2.0, 1.0, 5.5, height=0.7)
    t = np.linspace(0.0, 5.5, 2001)
    x, y, z = np.array(track.reference(t, rows)[:3])
    assert np.ptp(x) == pytest.approx(2.0, abs=1e-5)
    assert np.ptp(y) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(z, 0.7, atol=1e-15)
    # one lap and not less: start and end agree, in place and speed; half a lap is the crossing
    start, half, end = (np.array(track.reference(s, rows)[:6], float) for s in (0.0, 2.75, 5.5))
    np.testing.assert_allclose(end, start, atol=1e-12)
    np.testing.assert_allclose(half[:3], start[:3], atol=1e-12)
    assert half[3] == pytest.approx(-start[3])
    # top speed at the crossing: w sqrt(1 + 1) with w = 2 pi / 5.5, amplitudes 1 and 1/2 at 2 w
    assert np.linalg.norm(start[3:6]) == pytest.approx(math.sqrt(2.0) * 2 * math.pi / 5.5)


def test_random_trajectories_stay_in_their_bounds() -> None:
    rows = random_trajectories(np.random.default_rng(0), 4096)
    assert rows.shape == (4096, 18)
    assert rows.dtype == np.float32
    table = rows.reshape(4096, 3, 2, 3).astype(np.float64)
    amplitude, w = table[..., 0], table[..., 1]
    share = np.array([1.0, 0.5])
    assert (amplitude >= 0.0).all()
    assert (amplitude * w <= 2.4 * share * (1 + 1e-6)).all()
    assert (amplitude * w**2 <= 8.0 * share * (1 + 1e-6)).all()
    assert (amplitude[:, :2] <= 1.2 * share * (1 + 1e-6)).all()
    assert (amplitude[:, 2] <= 0.6 * share * (1 + 1e-6)).all()
    # what the doc string says of the speeds
    t = np.linspace(0.0, 40.0, 400)
    velocity = np.array(
        track.reference(t[None], [c[:1000, None] for c in rows.astype(float).T])[3:6]
    )
    assert np.abs(velocity).max() <= 3.6
    peak = np.linalg.norm(velocity, axis=0).max(axis=1)
    assert np.median(peak) == pytest.approx(2.2, abs=0.1)
    # half are Lissajous figures: all six frequencies are one or two times a lap's
    lowest = w.min(axis=(1, 2), keepdims=True)
    ratio = w / lowest
    figures = np.isclose(ratio, np.round(ratio), atol=1e-4).all(axis=(1, 2))
    assert abs(figures.mean() - 0.5) < 0.05
    assert not np.array_equal(rows, random_trajectories(np.random.default_rng(1), 4096))
    np.testing.assert_array_equal(rows, random_trajectories(np.random.default_rng(0), 4096))


def test_hover_reference_is_the_origin() -> None:
    assert hover.reference(3.0, []) == [0.0] * 6
    np.testing.assert_array_equal(np.array(hover.reference(np.ones(4), [])), np.zeros((6, 4)))


@TASKS
def test_entries_scale_and_rows_fit_together(task: ModuleType) -> None:
    robot = load_robot("crazyflie-l2f")
    names = [e.name for e in task.ENTRIES]
    total = sum(e.size for e in task.ENTRIES)
    assert len(set(names)) == len(names)
    assert len(task.SCALE) == total
    assert min(task.SCALE) > 0.0
    sensed = Sensed.from_rows([float(i) for i in range(18)])
    reference = task.Reference.from_rows([100.0 + i for i in range(task.REFERENCE_SIZE)])
    rows = task.observe(sensed, reference)
    assert len(rows) == total
    by_name, at = {}, 0
    for entry in task.ENTRIES:
        by_name[entry.name], at = rows[at : at + entry.size], at + entry.size
    # sensed: position 0..2, rotation 3..11, velocity 12..14, body rate 15..17
    assert by_name["rot_wb"] == [float(i) for i in range(3, 12)]
    assert by_name["angular_velocity_b"] == [15.0, 16.0, 17.0]
    if task is hover:
        assert by_name["position_w"] == [0.0, 1.0, 2.0]
        assert by_name["velocity_w"] == [12.0, 13.0, 14.0]
    else:
        assert by_name["position_error_w"] == [0.0 - 100.0, 1.0 - 101.0, 2.0 - 102.0]
        assert by_name["velocity_error_w"] == [12.0 - 103.0, 13.0 - 104.0, 14.0 - 105.0]
        assert by_name["reference_preview_w"] == [100.0 + i for i in range(6, 18)]
    assert len(CostWeights().rows(robot.hover_action)) == task.WEIGHTS_SIZE
    assert task is build_task(task.NAME)


def test_sensed_rows() -> None:
    half = math.sqrt(0.5)
    state = replace(
        at_rest((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)),
        quat_wb=[half, 0.0, 0.0, half],
        angular_velocity_b=[7.0, 8.0, 9.0],
    )
    # a quarter turn to the left: body x points along world y
    expected = [1, 2, 3, 0, -1, 0, 1, 0, 0, 0, 0, 1, 4, 5, 6, 7, 8, 9]
    np.testing.assert_allclose(sense(state), expected, atol=1e-15)
    assert noise_rows(1.0, 2.0, 3.0, 4.0) == [1.0] * 3 + [2.0] * 9 + [3.0] * 3 + [4.0] * 3


def test_cost_is_zero_at_rest_on_the_reference() -> None:
    weights = CostWeights(tilt=0.3).rows(-0.3)
    reference = track.Reference(position_w=[1, 2, 3], velocity_w=[0.1, 0.2, 0.3], preview_w=[])
    state = at_rest((1, 2, 3), (0.1, 0.2, 0.3))
    assert track.cost(state, [-0.3] * 4, [-0.3] * 4, reference, weights) == pytest.approx(
        0.0, abs=1e-15
    )


@pytest.mark.parametrize(
    ("weight", "change", "expected"),
    [
        # sqrt(0.3^2 + 0.4^2 + 0.02^2) - 0.02 = 0.4803998
        ("position", {"position_w": [0.3, 0.0, 0.4]}, 0.4803998),
        # 0.1^2 + 0.2^2 + 0.2^2
        ("velocity", {"velocity_w": [0.1, -0.2, 0.2]}, 0.09),
        # 60 degrees about x: R_zz = 1/2
        ("tilt", {"quat_wb": [math.cos(math.pi / 6), math.sin(math.pi / 6), 0.0, 0.0]}, 0.5),
        # 60 degrees about z: R_xx = R_yy = 1/2
        ("heading", {"quat_wb": [math.cos(math.pi / 6), 0.0, 0.0, math.sin(math.pi / 6)]}, 0.5),
        # 60 degrees about x: R_xx = 1, R_yy = 1/2
        ("heading", {"quat_wb": [math.cos(math.pi / 6), math.sin(math.pi / 6), 0.0, 0.0]}, 0.25),
        ("angular_velocity", {"angular_velocity_b": [1.0, 2.0, -2.0]}, 9.0),
    ],
)  # fmt: skip
def test_cost_terms_of_the_state(weight: str, change: dict, expected: float) -> None:
    zero = {f: 0.0 for f in CostWeights.__dataclass_fields__ if f != "position_scale"}
    weights = CostWeights(**(zero | {weight: 1.0})).rows(0.0)
    state = replace(at_rest(), **change)
    reference = track.Reference.from_rows([0.0] * 18)
    assert track.cost(state, [0.0] * 4, [0.0] * 4, reference, weights) == pytest.approx(
        expected, abs=1e-7
    )


def test_cost_terms_of_the_action() -> None:
    zero = {f: 0.0 for f in CostWeights.__dataclass_fields__ if f != "position_scale"}
    reference = track.Reference.from_rows([0.0] * 18)
    action, before = [0.1, -0.1, 0.3, 0.0], [0.1, 0.1, 0.3, -0.4]
    # from hover -0.2: 0.09 + 0.01 + 0.25 + 0.04; change: 0.04 + 0.16
    for weight, expected in (("action", 0.39), ("action_change", 0.2)):
        weights = CostWeights(**(zero | {weight: 1.0})).rows(-0.2)
        found = track.cost(at_rest(), action, before, reference, weights)
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("preset", FLIGHTS, ids=lambda p: p.name)
def test_what_the_critic_sees_is_finite_and_of_order_one(preset) -> None:
    simulator = MultirotorSimulator(
        load_robot(preset.robot), build_task(preset.task), preset.sim, 1000
    )
    simulator.reset(0)
    action = np.full((1000, 4), load_robot(preset.robot).hover_action, np.float32)
    for _ in range(5):
        rows = simulator.step(action).privileged
    assert rows.shape == (1000, simulator.batch.rows.privileged)
    assert np.isfinite(rows).all()
    # the learner clips at 5: a row beyond that would tell the critic nothing
    assert np.quantile(np.abs(rows), 0.99, axis=0).max() < 5.0
    assert np.abs(rows).mean() < 1.0
