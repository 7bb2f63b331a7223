"""Presets of arms: what their learners begin with."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from alula.build import build_learner, build_robot, build_task
from alula.errors import AlulaError
from alula.presets import get_preset
from alula.settings import with_settings
from alula.sim.arm_config import ArmSimConfig
from alula.sim.mujoco.arm import MujocoArm
from alula.tasks.insert_base import base_action
from alula.training.config import PpoConfig, SacConfig


def small(preset):
    assert isinstance(preset.algo, PpoConfig)
    algo = replace(preset.algo, n_envs=4, rollout_steps=8, minibatches=2)
    return replace(preset, algo=algo)


@pytest.mark.slow
def test_insert_begins_as_its_script(tmp_path):
    preset = small(get_preset("panda-insert"))
    robot, task, sim = build_robot(preset), build_task(preset.task), preset.sim
    assert isinstance(sim, ArmSimConfig)
    learner = build_learner(preset, robot, 0)
    arms = MujocoArm(robot, task, sim, 64)
    observation, differences = arms.reset(5), []
    for _ in range(100):
        wanted = base_action(observation, robot, sim)
        differences.append(learner.network()(observation) - wanted)
        observation = arms.step(wanted.astype(np.float32)).observation
    assert np.sqrt(np.mean(np.square(differences))) < 0.1


@pytest.mark.slow
def test_steps_of_the_tool_are_learned():
    """A short run of panda-reach by steps of the tool: the cost falls by more than a tenth of what separates a tool that
    stays away, at about 0.4, from one that has arrived, below -1."""
    preset = with_settings(get_preset("panda-reach"), {"sim.action": "end_effector_delta"})
    assert isinstance(preset.algo, PpoConfig)
    preset = replace(preset, algo=replace(preset.algo, n_envs=128, updates=24, minibatches=8))
    learner = build_learner(preset, build_robot(preset), 0)
    costs = [learner.update().cost for _ in range(24)]
    assert learner.network().weights[-1].shape[1] == 7
    assert np.mean(costs[-3:]) < np.mean(costs[:3]) - 0.15


def test_assisting_actions_are_for_ppo():
    preset = get_preset("panda-pivot-lift")
    assert isinstance(preset.sim, ArmSimConfig)
    sim = replace(preset.sim, assisting_force=1.0)
    other = replace(preset, sim=sim, algo=SacConfig(n_envs=2))
    with pytest.raises(AlulaError, match="assisting actions are for PPO"):
        build_learner(other, build_robot(preset), 0)


def test_a_policy_faster_than_its_robot_is_refused_before_it_is_trained():
    preset = small(get_preset("ur5e-reach"))
    robot = replace(build_robot(preset), control_dt=0.05)  # pyright: ignore[reportArgumentType]
    with pytest.raises(AlulaError, match=r"sim.control_dt is 0.02 s; allowed: at least 0.05"):
        build_learner(preset, robot, 0)
    build_learner(preset, replace(robot, control_dt=0.02), 0)


@pytest.mark.parametrize("algo", [PpoConfig(n_envs=4), SacConfig(n_envs=4, warmup_steps=8)])
def test_an_episodes_parameters_speak_softly_to_critics(algo):
    """The last columns of what critics see stay through an episode, and weigh a tenth; nothing else does either."""
    preset = replace(get_preset("panda-reach"), algo=replace(algo, parameter_weight=0.1))
    learner: Any = build_learner(preset, build_robot(preset), 0)
    simulator: MujocoArm = learner.simulator
    simulator.reset(1)
    rows, rng = [], np.random.default_rng(0)
    for _ in range(5):
        action = rng.uniform(-1.0, 1.0, (4, simulator.n_actions))
        rows.append(simulator.step(action).privileged)
    drawn = simulator.n_parameters
    assert drawn > 20
    stays = np.ptp(rows, axis=0).max(axis=0) == 0.0
    # Goals stay too, but come as what is left to them.
    assert stays[-drawn:].all()
    assert not stays[:-drawn].any()
    # The age of the measurements, 0 or 1 steps, comes first.
    np.testing.assert_array_equal(rows[0][:, -drawn], simulator._delay)
    weight = learner.critic_normalizer.weight.numpy()
    np.testing.assert_array_equal(weight, np.where(stays, np.float32(0.1), 1.0))
    blind = replace(preset, algo=replace(algo, privileged=False))
    seeing_no_more: Any = build_learner(blind, build_robot(preset), 0)
    assert (seeing_no_more.critic_normalizer.weight == 1.0).all()
