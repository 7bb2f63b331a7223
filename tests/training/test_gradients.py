"""The learner's gradients over a whole horizon: against float64 automatic differentiation and differences."""

from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula.build import build_task
from alula.robots.multirotor import load_robot
from alula.sim.config import Disturbances, Limits, Randomization, SimConfig, Start
from alula.tasks.track import CostWeights
from alula.training.config import ShortHorizonConfig
from alula.training.short_horizon import ShortHorizonLearner

reference64 = run_path(str(Path(__file__).parent / "reference64.py"))
fly64, lambda_returns = reference64["fly"], reference64["lambda_returns"]

ALL = Randomization(
    mass=0.2, inertia=0.2, thrust=0.2, rotor=0.1, lag=0.4, torque=0.2, drag=0.3,
    action_delay_steps=(0, 2), observation_delay_steps=(1, 3),
)  # fmt: skip
PLAIN = SimConfig(noise=0.0, history=0, start=Start(tilt=0.6))
HARD = SimConfig(noise=0.0, history=6, substeps=2, start=Start(tilt=0.6), randomization=ALL)
NARROW = Limits(position=0.11)
"""Some flights leave twice these limits within a few steps."""
CASES = {
    # robot, task, flight setting, privileged critic
    "hover": ("crazyflie-l2f", "hover", PLAIN, True),
    "hover, delays, history, substeps": ("crazyflie-l2f", "hover", HARD, True),
    "hover, symmetric critic": ("crazyflie-l2f", "hover", HARD, False),
    "hover, failures": ("crazyflie-l2f", "hover", replace(HARD, limits=NARROW), True),
    "track, drag, heavy rotors": ("x500", "track", HARD, True),
    "track, 32 actions, symmetric critic": (
        "x500", "track", replace(HARD, history=32, substeps=1), False,
    ),
}  # fmt: skip


def make_learner(
    robot: str, task: str, sim: SimConfig, *, privileged: bool = True, **changes
) -> ShortHorizonLearner:
    config = ShortHorizonConfig(
        n_envs=32, horizon_start=16, horizon_end=16, hidden=(12, 9), critic_hidden=(10, 7),
        cotangent_limit=1e9, history_rate=1.0, privileged=privileged, **changes,
    )  # fmt: skip
    learner = ShortHorizonLearner(load_robot(robot), build_task(task), sim, config, 3, threads=1)
    rng = np.random.default_rng(7)
    for _ in range(3):  # so that tapes and flights are under way
        learner.update()
    learner.actor += rng.normal(0.0, 0.1, learner.actor.shape).astype(np.float32)
    learner.critic += rng.normal(0.0, 0.3, learner.critic.shape).astype(np.float32)
    return learner


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("case", CASES)
def test_a_horizon_against_float64_autograd(case: str) -> None:
    robot, task, sim, privileged = CASES[case]
    learner = make_learner(robot, task, sim, privileged=privileged)
    steps, n = 5, 32
    learner._struct.horizon, learner._struct.critic_weight = steps, 0.7
    c = learner.config
    h = fly64(learner, load_robot(robot), build_task(task), steps)
    assert h.inside.all() == ("failures" not in case)
    learner._fly()
    # J = 1/(N T) sum [sum c + w V(s_T)], V = value / (1 - gamma)
    objective = (h.cost.sum() + 0.7 * h.value[-1].sum() / (1.0 - c.gamma)) / (n * steps)
    objective.backward(inputs=[h.actor], retain_graph=True)
    targets = lambda_returns(h, c.gamma, c.td_lambda, c.failure_cost)
    ((h.value[:-1] - targets) ** 2).mean().backward(inputs=[h.critic])

    arrays = learner._arrays
    np.testing.assert_allclose(arrays["statistics"][:, 0].sum(), h.cost.sum().item(), rtol=1e-5)
    found = arrays["targets"][:, :steps].transpose(1, 0, 2).reshape(steps, n)
    np.testing.assert_allclose(found, targets.numpy(), rtol=2e-5, atol=2e-5)
    loss = ((h.value[:-1] - targets) ** 2).sum().item()
    np.testing.assert_allclose(arrays["statistics"][:, 1].sum(), loss, rtol=1e-4)
    assert relative(arrays["critic_gradient"].sum(0), h.critic.grad.numpy()) < 2e-5
    assert relative(arrays["actor_gradient"].sum(0), h.actor.grad.numpy()) < 2e-5


NOISY = replace(
    HARD, noise=1.0, substeps=1, disturbances=Disturbances(force=0.05, torque=1e-4, gust=0.1)
)
FREE = Limits(position=1e6, velocity=1e6, angular_velocity=1e6)


@pytest.mark.parametrize(
    ("robot", "task", "sim", "privileged"),
    [
        ("crazyflie-l2f", "hover", replace(NOISY, limits=FREE), True),
        ("crazyflie-l2f", "hover", replace(NOISY, limits=FREE, history=32), False),
        ("x500", "track", replace(NOISY, limits=FREE, substeps=2), True),
    ],
    ids=["hover", "hover, 32 actions", "track"],
)
def test_a_long_noisy_horizon_against_differences(robot, task, sim, privileged) -> None:
    # noise and gusts are the same numbers in every repetition, so that the cost is a smooth function
    learner = make_learner(robot, task, sim, privileged=privileged, critic=False)
    steps, n = 16, 32
    learner._struct.horizon = steps
    start = learner.snapshot()

    def cost(change: np.ndarray) -> float:
        learner.restore(start)
        learner.actor += change.astype(np.float32)
        learner._fly()
        return float(learner._arrays["statistics"][:, 0].astype(np.float64).sum()) / (n * steps)

    cost(np.zeros(learner.actor.size))
    gradient = learner._arrays["actor_gradient"].sum(0).astype(np.float64)
    rng = np.random.default_rng(1)
    noise = rng.normal(size=gradient.size)
    steepest = gradient / np.linalg.norm(gradient)
    for direction in (steepest, steepest + noise / np.linalg.norm(noise)):
        h = 2e-3
        difference = (cost(h * direction) - cost(-h * direction)) / (2 * h)
        assert difference == pytest.approx(gradient @ direction, rel=0.01)


def test_the_cotangent_limit_bounds_what_one_step_passes_on() -> None:
    sim = replace(HARD, limits=FREE)
    norms = []
    for limit in (1e9, 1.0, 1e-3):
        learner = make_learner("crazyflie-l2f", "hover", sim, critic=False)
        learner._struct.horizon, learner._struct.cotangent_limit = 16, limit
        learner._fly()
        norms.append(np.linalg.norm(learner._arrays["actor_gradient"].sum(0)))
    assert norms[0] > norms[1] > norms[2] > 0.0


def test_a_failed_flight_passes_nothing_back() -> None:
    # All flights leave twice their limits in the first step: what remains is the cost of the actions
    sim = replace(PLAIN, limits=Limits(position=1e-6), start=Start(position=0.2))
    learner = make_learner("crazyflie-l2f", "hover", sim, critic=False)
    learner._struct.horizon = 1
    weights = learner.batch.shared["weights"]
    weights[[6, 7]] = 0.0
    learner._fly()
    assert not learner._arrays["actor_gradient"].any()
    weights[6] = 1.0
    learner._fly()
    assert learner._arrays["actor_gradient"].any()
    assert np.isfinite(learner._arrays["actor_gradient"]).all()


def test_a_flight_gone_mad_does_not_spoil_the_others() -> None:
    learners = [make_learner("crazyflie-l2f", "hover", HARD) for _ in range(2)]
    # just inside of what is put back: twice the limits of 35 rad/s, 10 m/s and 1 m
    mad = learners[1].batch.arrays["state"]
    mad[0, 10:13, 5], mad[0, 3:6, 9], mad[0, 0:3, 9] = [69.0, -69.0, 69.0], 19.9, 1.99
    for learner in learners:
        learner._struct.horizon = 8
        learner._fly()
        assert np.isfinite(learner._arrays["actor_gradient"]).all()
        assert np.isfinite(learner._arrays["critic_gradient"]).all()
        assert np.isfinite(learner.batch.arrays["state"]).all()
    a, b = (x._arrays["targets"][:, :8].transpose(1, 0, 2).reshape(8, 32) for x in learners)
    others = [i for i in range(32) if i not in (5, 9)]
    np.testing.assert_array_equal(a[:, others], b[:, others])


def test_lambda_returns_by_hand() -> None:
    # An actor and a critic without weights: constant action, constant value
    sim = replace(PLAIN, start=Start(position=0.0, tilt=0.0, velocity=0.0, angular_velocity=0.0))
    weights = CostWeights(
        position=0.0, velocity=0.0, heading=0.0, angular_velocity=0.0, action=1.0, action_change=2.0
    )
    config = ShortHorizonConfig(
        n_envs=16, horizon_start=4, horizon_end=4, hidden=(3, 3), critic_hidden=(2, 2), gamma=0.9,
        td_lambda=0.5, failure_cost=5.0, weights=weights,
    )  # fmt: skip
    robot = load_robot("crazyflie-l2f")
    learner = ShortHorizonLearner(robot, build_task("hover"), sim, config, 0, threads=1)
    learner.actor[:], learner.critic[:] = 0.0, 0.0
    # half an action above hover on each rotor: cost 4 * 0.25 = 1 a step, and 2 * 1 more where it changes
    action = robot.hover_action + 0.5
    learner.actor[-4:] = action / np.sqrt(1.0 - action**2)
    learner.critic[-1] = 0.4
    learner._struct.horizon = 3
    state = learner.batch.arrays["state"]
    state[0, 0, 7], state[0, 3, 7] = (
        1.9999,
        1.0,
    )  # lane 7 passes twice the limit of 1 m in the first step
    learner._fly()
    targets = learner._arrays["targets"][0, :3]
    # (1 - g) c_t + g ((1 - l) V + l G_{t+1}), costs 3, 1, 1, V (1 - g) = 0.4, G_3 = 0.4:
    # 0.1 + 0.9 * 0.4 = 0.46; 0.1 + 0.9 (0.2 + 0.23) = 0.487; 0.3 + 0.9 (0.2 + 0.2435) = 0.69915
    np.testing.assert_allclose(targets[:, 0], [0.69915, 0.487, 0.46], rtol=1e-5)
    # the failed one expects 5 from there on: 0.3 + 0.9 * 5 = 4.8; then it is at rest again
    np.testing.assert_allclose(targets[:, 7], [4.8, 0.487, 0.46], rtol=1e-5)
    # critic loss: sum of (0.4 - target)^2 over 3 steps: 0.0894897 + 0.007569 + 0.0036 = 0.1006587;
    # the failed one: 19.36 + 0.007569 + 0.0036 = 19.371169
    assert learner._arrays["statistics"][0, 1] == pytest.approx(
        15 * 0.1006587 + 19.371169, rel=1e-5
    )
    assert learner._arrays["statistics"][0, 0] == pytest.approx(16 * 5.0, rel=1e-5)
