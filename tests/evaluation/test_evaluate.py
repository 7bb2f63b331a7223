"""Evaluations of a hand-designed policy: both simulators, seeds, robots, bad input."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from alula.build import SimName, build_simulator
from alula.errors import AlulaError
from alula.evaluation.evaluate import (
    check_fits,
    default_steps,
    evaluate,
    evaluate_policy,
    evaluation_config,
    evaluation_seed,
    flight_setting,
    policy_robot,
    policy_task,
)
from alula.evaluation.flight import FAILURES, fly
from alula.policies.network import Gru
from alula.policies.onnx_file import Policy, load_policy, write_policy
from alula.robots.multirotor import load_robot
from alula.sim.config import Limits, SimConfig
from alula.tasks import hover, track


@pytest.mark.parametrize("sim", ["multirotor", "mujoco"])
def test_the_feedback_policy_mostly_hovers(hover_path: Path, sim: SimName) -> None:
    result = evaluate_policy(hover_path, sim=sim, episodes=100, seed=1)
    m = result.metrics
    assert m.success > 0.7
    assert m.hover_error_m is not None
    assert m.hover_error_m < 0.3
    assert m.success_interval[0] < m.success < m.success_interval[1]
    assert sum(m.failures.values()) == 100 - m.survived
    assert result.same_robot
    assert (result.sim, result.steps, result.control_dt) == (sim, 500, 0.01)


def test_json_is_flat_and_serialisable(hover_path: Path) -> None:
    data = evaluate_policy(hover_path, episodes=4, steps=20).to_json()
    assert {"success", "hover_error_m", "hover_error_p95_m", "tracking_rmse_m"} <= set(data)
    assert data["hover_error_interval_m"][0] <= data["hover_error_m"]
    assert json.loads(json.dumps(data))["episodes"] == 4


def test_same_seed_same_result_other_seed_another(hover_path: Path) -> None:
    a, b, c = (evaluate_policy(hover_path, episodes=20, steps=60, seed=s) for s in (3, 3, 4))
    assert a == b
    assert a.metrics != c.metrics


def test_evaluation_seeds_are_none_of_trainings() -> None:
    # training seeds are below 2^64
    assert evaluation_seed(0) >= 2**64
    assert evaluation_seed(5) != evaluation_seed(6)
    with pytest.raises(AlulaError, match="seed is -1"):
        evaluation_seed(-1)
    with pytest.raises(AlulaError, match="allowed"):
        evaluation_seed(2**64)


def test_nominal_has_no_delay_and_no_randomisation() -> None:
    config = SimConfig()
    spread = replace(config.randomization, mass=0.2, action_delay_steps=(0, 2))
    config = replace(config, randomization=spread)
    assert evaluation_config(config, steps=9, nominal=True).randomization.mass == 0.0
    wide = evaluation_config(config, steps=9, nominal=False)
    assert wide.randomization == spread
    assert wide.episode_steps == 9


def test_tracking_flies_the_start_up_and_two_laps() -> None:
    # 2 s + 2 * 5.5 s at 100 Hz
    assert default_steps(track, 0.01, 5.5) == 1300
    assert default_steps(hover, 0.01, 5.5) == 500


def test_another_robot_is_refused_unless_asked_for(hover_policy: Policy) -> None:
    other = replace(load_robot("crazyflie-l2f"), name="nimbus")
    with pytest.raises(AlulaError, match="for the robot 'crazyflie-l2f', not 'nimbus'"):
        evaluate(hover_policy, robot=other, episodes=4, steps=20)
    result, _ = evaluate(hover_policy, robot=other, episodes=4, steps=20, other_robot=True)
    assert result.robot == "nimbus"


def test_a_variant_of_the_robot_is_flown_and_said_so(hover_policy: Policy) -> None:
    heavy = replace(load_robot("crazyflie-l2f"), mass=0.030)
    result, _ = evaluate(hover_policy, robot=heavy, episodes=4, steps=20)
    assert not result.same_robot


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"sim": "isaac"}, "unknown simulator 'isaac'; known: multirotor, mujoco"),
        ({"episodes": 0}, "episodes is 0; allowed: 1 to"),
        ({"episodes": 10**9}, "allowed: 1 to"),
        ({"steps": -1}, "steps is -1"),
        ({"lap": 0.0}, "lap is 0.0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_numbers(hover_policy: Policy, change: dict, match: str) -> None:
    with pytest.raises(AlulaError, match=match):
        evaluate(hover_policy, **change)


def test_too_many_samples_are_refused(hover_policy: Policy) -> None:
    with pytest.raises(AlulaError, match="episodes of 1000000 steps"):
        evaluate(hover_policy, episodes=1000, steps=1_000_000)


def test_other_rotors_are_refused(hover_policy: Policy) -> None:
    robot = load_robot("crazyflie-l2f")
    swapped = replace(robot, rotor_names=("M2", "M1", "M3", "M4"))
    with pytest.raises(AlulaError, match="the same names in the same order"):
        evaluate(hover_policy, robot=swapped, episodes=1)


def test_unknown_and_changed_robots_ask_for_a_file(hover_policy: Policy) -> None:
    contract = hover_policy.contract
    with pytest.raises(AlulaError, match=r"does not ship.*--robot"):
        policy_robot(replace(contract, robot="nimbus"))
    with pytest.raises(AlulaError, match=r"with parameters 0000.*--robot"):
        policy_robot(replace(contract, robot_hash="0" * 64))


@pytest.mark.parametrize("training", [{}, {"sim": None}, {"sim": []}, {"sim": {"history": 3}}])
def test_a_file_without_its_flight_setting(hover_policy: Policy, training: dict) -> None:
    with pytest.raises(AlulaError, match="flight setting"):
        flight_setting(replace(hover_policy.contract, training=training))


def test_another_rate_than_the_contracts(hover_policy: Policy) -> None:
    with pytest.raises(AlulaError, match="control_dt"):
        flight_setting(replace(hover_policy.contract, control_dt=0.02))


def test_unknown_task(hover_policy: Policy) -> None:
    with pytest.raises(AlulaError, match="unknown task 'land'; known: hover, track"):
        policy_task(replace(hover_policy.contract, task="land"))


def test_another_observation_is_refused(hover_policy: Policy) -> None:
    contract, robot = hover_policy.contract, load_robot("crazyflie-l2f")
    with pytest.raises(AlulaError, match="policy observes"):
        check_fits(contract, robot, track, SimConfig())
    with pytest.raises(AlulaError, match="policy observes"):
        check_fits(contract, robot, hover, SimConfig(history=4))


@pytest.mark.parametrize("sim", ["multirotor", "mujoco"])
def test_a_recurrent_policy_is_flown_with_its_state(
    hover_policy: Policy, tmp_path: Path, sim: SimName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feedback policy behind a GRU of O states, each a short low-pass of one input.

    For inputs and recurrent weights as small as here, h' = 0.8 x + 0.2 h with z = sigmoid(-ln 4) = 0.2.
    """
    feed_forward, rng = hover_policy.network, np.random.default_rng(0)
    size = hover_policy.contract.observation_size
    network = replace(
        feed_forward,
        scale=feed_forward.scale * 0.01,
        weights=(feed_forward.weights[0] * 100.0,),
        gru=Gru(
            kernel=np.concatenate([np.zeros((size, 2 * size)), np.eye(size)], axis=1),
            recurrent=rng.normal(size=(size, 3 * size)) * 0.001,
            bias=np.repeat([0.0, -np.log(4.0), 0.0], size),
            recurrent_bias=np.zeros(3 * size),
        ),
    )
    contract = replace(hover_policy.contract, recurrent_state_size=size)
    write_policy(tmp_path / "policy.onnx", network, contract)
    policy = load_policy(tmp_path / "policy.onnx")
    states, step = [], Policy.step

    def spy(self: Policy, observation: np.ndarray, state: np.ndarray) -> tuple:
        action, next_state = step(self, observation, state)
        states.append((state, next_state))
        return action, next_state

    monkeypatch.setattr(Policy, "step", spy)
    evaluation, _ = evaluate(policy, sim=sim, episodes=50, seed=1)
    assert evaluation.metrics.success > 0.6
    assert len(states) == evaluation.steps
    # zero after the reset, then always the one that came out of the step before
    assert not states[0][0].any()
    for (_, came), (went, _) in pairwise(states):
        np.testing.assert_array_equal(went, came)
    assert (np.abs(states[-1][1]).max(axis=1) > 0).all()


@pytest.mark.parametrize("sim", ["multirotor", "mujoco"])
@pytest.mark.parametrize(
    ("limits", "action", "kind"),
    [
        (Limits(position=0.05), [1.0, 1.0, 1.0, 1.0], "position"),
        (Limits(velocity=0.3, position=9.0), [1.0, 1.0, 1.0, 1.0], "velocity"),
        (Limits(angular_velocity=3.0), [1.0, 1.0, 0.0, 0.0], "angular_velocity"),
    ],
)
def test_kinds_of_failure(sim: SimName, limits: Limits, action: list[float], kind: str) -> None:
    config = replace(SimConfig(), limits=limits, noise=0.0)
    config = replace(
        config,
        start=replace(config.start, at_rest=1.0, rotor_fraction=-1.0),
        disturbances=replace(config.disturbances, force=0.0, torque=0.0),
    )
    robot = load_robot("crazyflie-l2f")
    simulator = build_simulator(sim, robot, hover, config, 3, auto_reset=False)
    flight = fly(
        lambda o: np.tile(np.array(action, np.float32), (len(o), 1)), simulator, config,
        steps=80, seed=0, traced=2,
    )  # fmt: skip
    assert [FAILURES[k] for k in flight.failure] == [kind] * 3
    assert not flight.survived.any()
    first = int(flight.failed_at[0])
    assert 0 < first < 80
    assert flight.alive[:, 0].tolist() == [t < first for t in range(80)]
    assert flight.trace.position_w.shape == (80, 2, 3)
    # a failed vehicle is given zero actions
    assert not flight.trace.action[first + 1 :].any()
    assert flight.time[-1] == pytest.approx(0.8)
