"""MuJoCo Warp against C MuJoCo: one policy step from the same state, with all that is randomised, delays, new episodes."""

import json
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from alula.errors import AlulaError
from alula.presets import ARM_RANDOMIZED, get_preset
from alula.robots.arm import load_arm
from alula.sim.arm_config import ArmRandomization, ArmSimConfig
from alula.sim.mujoco.arm import MujocoArm
from alula.tasks import insert, lift, pivot_lift, push, reach
from alula.tasks.insert_base import base_action

pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed")

import torch

from alula import bench_warp
from alula.sim.mujoco.arm_warp import STATE, HostedArm, WarpArm
from alula.training.config import PpoConfig
from alula.training.learner import Spaces
from alula.training.ppo import PpoLearner

pytestmark = pytest.mark.slow
look: Any = SimpleNamespace(**run_path(str(Path(__file__).with_name("one_joint.py"))))
RANDOM = replace(ARM_RANDOMIZED, actuator_lag=(0.005, 0.03))
POSITION, VELOCITY = 2e-6, 5e-5
"""How far a policy step of 20 ms may differ [rad, m; rad/s, m/s]: float32 against float64."""


def on_warp(*args: Any, **more: Any) -> WarpArm:
    return WarpArm(*args, **more, device="cpu")


def both(robot: str, task: Any, n: int = 2, **settings: Any) -> tuple[MujocoArm, WarpArm]:
    config = ArmSimConfig(**{"noise": 0.0, "randomization": RANDOM} | settings)
    return MujocoArm(load_arm(robot), task, config, n), on_warp(load_arm(robot), task, config, n)


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float32)


def put(c: MujocoArm, warp: WarpArm) -> None:
    """The state of C MuJoCo's arms to those of Warp."""
    for name in ("qpos", "qvel", "act", "history"):
        getattr(warp._worlds, name).copy_(tensor(getattr(c._physics, name)))
    warp._episode["target"].copy_(tensor(c._target))
    warp._seen = tensor(c._measured)


def compare_steps(c: MujocoArm, warp: WarpArm, actions: np.ndarray) -> None:
    for action in actions:
        # Each step from C MuJoCo's state: contacts make any two simulations part with time.
        put(c, warp)
        x, y = c.step(action), warp.step(tensor(action))
        np.testing.assert_allclose(c.qpos, warp.qpos, atol=POSITION)
        np.testing.assert_allclose(c._physics.qvel, warp._worlds.qvel, atol=VELOCITY)
        # forces reach some 20 N
        np.testing.assert_allclose(
            c._physics.sensordata, warp._worlds.sensordata, atol=VELOCITY, rtol=1e-3
        )
        np.testing.assert_allclose(x.reward, y.reward, atol=1e-4)
        np.testing.assert_array_equal(x.terminated, y.terminated)
        # Both rows see the same things in the same order; the critic's shows velocities.
        np.testing.assert_allclose(x.observation, y.observation, atol=1e-4)
        np.testing.assert_allclose(x.privileged, y.privileged, atol=2e-3, rtol=1e-3)


def actions_of(n: int, width: int, steps: int, size: float = 1.0) -> np.ndarray:
    return size * np.random.default_rng(0).uniform(-1, 1, (steps, n, width)).astype(np.float32)


@pytest.mark.parametrize("action", ["joint_position_delta", "end_effector_delta", "joint_torque"])
def test_ur5e_step_by_step(action: Any) -> None:
    c, warp = both("ur5e", reach, action=action, action_scale=0.5 if "delta" in action else 0.05)
    np.testing.assert_allclose(c.reset(1), warp.reset(1), atol=1e-6)
    compare_steps(c, warp, actions_of(2, 6, 40))


def test_panda_that_holds_a_cube_step_by_step() -> None:
    c, warp = both("panda", lift)
    np.testing.assert_allclose(c.reset(1), warp.reset(1), atol=1e-6)
    home = np.tile(c.robot.home, (2, 1))
    cube = np.concatenate([c._tool_pose(home)[:, :3], np.tile([0.0, 1.0, 0.0, 0.0], (2, 1))], axis=1)  # fmt: skip
    c._place(np.arange(2), np.tile([*c.robot.home[:7], 0.02], (2, 1)), {"object": cube})
    put(c, warp)
    close = np.zeros((2, 8), np.float32)
    close[:, 7] = -1.0
    for _ in range(25):
        # Both, since the times of delayed commands are part of a state.
        c.step(close)
        warp.step(tensor(close))
    scene = c.scene
    assert min(scene.sensor["left_force"].min(), scene.sensor["right_force"].min()) > 5.0
    moves = actions_of(2, 8, 20, 0.3)
    moves[:, :, 7] = -1.0
    compare_steps(c, warp, moves)
    assert c.scene.sensor["object_position_w"][:, 2].min() > 0.2


@pytest.mark.parametrize("task", [push, insert, pivot_lift])
def test_all_tasks_begin_and_move_alike(task: Any) -> None:
    c, warp = both("panda", task)
    np.testing.assert_allclose(c.reset(2), warp.reset(2), atol=1e-5)
    for action in actions_of(2, 8, 3, 0.1):
        x, y = c.step(action), warp.step(tensor(action))
        # What lies on the floor touches it in one and not in the other.
        np.testing.assert_allclose(c.qpos, warp.qpos, atol=1e-3)
        np.testing.assert_allclose(x.reward, y.reward, atol=2e-2)
        assert x.privileged.shape == y.privileged.shape


def test_a_peg_in_a_hole_meets_the_same_forces() -> None:
    """Boxes that touch at several corners and edges, where other contacts would be found by another method."""
    config = get_preset("panda-insert").sim
    assert isinstance(config, ArmSimConfig)
    c, warp = both("panda", insert, n=8, **{**vars(config), "noise": 0.0})
    warp.reset(3)
    observation, parted = c.reset(3), []
    for shake in actions_of(8, 8, 120, 0.5):
        put(c, warp)
        # The script alone hardly presses.
        action = base_action(observation, robot=c.robot, config=c.config) + shake
        observation = c.step(action).observation
        warp.step(tensor(action))
        touches = np.linalg.norm(c.scene.sensor["force_w"][:, :3], axis=1) > 1.0
        of_joints = c._joints.qvel
        difference = c._physics.qvel[:, of_joints] - warp._worlds.qvel.numpy()[:, of_joints]
        parted.extend(np.abs(difference).max(1)[touches])
    assert len(parted) > 200
    # 20 ms at some 40 N and contacts of 10 ms. Of Warp's other method half were above 5e-4.
    assert np.median(parted) < 2e-4
    assert np.quantile(parted, 0.9) < 2e-3


def test_delays_are_exact_in_single_precision() -> None:
    random = ArmRandomization(actuator_delay=(0.0, 0.010))
    config = ArmSimConfig(
        noise=0.0, action="joint_torque", action_scale=1.0, control_dt=0.005, substeps=1,
        episode_steps=100_000, randomization=random,
    )  # fmt: skip
    simulator = on_warp(look.make_arm(), look, config, 12)
    simulator.reset(0)
    steps = np.round(simulator._randomizer.delay[:, 0] / 0.005).astype(int)
    assert set(steps) == {0, 1, 2}
    first = np.full(12, -1)
    for _ in range(300):
        simulator.step(torch.zeros(12, 1))
    for k in range(4):
        simulator.step(torch.ones(12, 1))
        moved = np.asarray(simulator.scene.joint_velocity)[:, 0] > 0.0
        first[moved & (first < 0)] = k
    np.testing.assert_array_equal(first, steps)


SHORT = ArmSimConfig(episode_steps=5, noise=0.0, randomization=RANDOM)


def test_a_new_episode_is_one_of_those_that_were_drawn_and_nothing_of_the_last() -> None:
    arm = on_warp(load_arm("ur5e"), reach, SHORT, 6)
    arm.reset(0)
    drawn = {name: x.clone() for name, x in arm._bank.items()}
    for action in actions_of(6, 6, 5):
        moved = arm.step(tensor(action))
    assert moved.truncated.all()
    goal = drawn["goal position_w"]
    chosen = torch.stack(
        [(goal == g).all(1).nonzero()[0, 0] for g in arm._episode["goal position_w"]]
    )
    for name, x in drawn.items():
        np.testing.assert_array_equal(arm._episode[name], x[chosen], err_msg=name)
    for name in STATE:
        assert arm._episode[name].data_ptr() == getattr(arm._worlds, name).data_ptr()
    assert all(not x.any() for x in arm._worlds.zero_at_start)
    # From there on both move alike: no memory of the episode before.
    other = on_warp(load_arm("ur5e"), reach, SHORT, 6)
    other.reset(0)
    for name, x in drawn.items():
        other._episode[name].copy_(x[chosen])
    for action in actions_of(6, 6, 3):
        x, y = arm.step(tensor(action)), other.step(tensor(action))
        np.testing.assert_allclose(x.privileged, y.privileged, atol=1e-6)


def test_others_are_drawn_after_some_episodes() -> None:
    arm = on_warp(load_arm("ur5e"), reach, SHORT, 3)
    arm.reset(0)
    goals = []
    for _ in range(21):
        goals.append(arm._bank["goal position_w"].clone())
        arm.step(torch.zeros(3, 6))
    assert all(torch.equal(goals[0], g) for g in goals[:20])
    assert not torch.equal(goals[0], arm._bank["goal position_w"])


def test_first_episodes_are_staggered_where_asked() -> None:
    config = replace(SHORT, episode_steps=50)
    arm = on_warp(load_arm("ur5e"), reach, config, 12, staggered=True)
    arm.reset(0)
    assert len(set(arm._done.tolist())) > 4
    for _ in range(50):
        arm.step(torch.zeros(12, 6))
    assert 0 <= int(arm._done.min()) < int(arm._done.max()) < 50


def test_what_is_lost_comes_to_rest_at_home_and_is_counted() -> None:
    calm, broken = (on_warp(load_arm("ur5e"), reach, replace(SHORT, episode_steps=50), 3) for _ in range(2))  # fmt: skip
    for arm in (calm, broken):
        arm.reset(0)
        arm.step(torch.zeros(3, 6))
    broken._worlds.qvel[0] = torch.nan
    x, y = calm.step(torch.zeros(3, 6)), broken.step(torch.zeros(3, 6))
    assert y.terminated.tolist() == [True, False, False]
    assert y.reward[0] == 0.0
    assert broken.diverged == 1
    assert calm.diverged == 0
    np.testing.assert_allclose(y.final_privileged[0, :6], load_arm("ur5e").home, atol=1e-6)
    for name in ("final_observation", "final_privileged", "reward"):
        assert torch.isfinite(getattr(y, name)).all()
        np.testing.assert_array_equal(getattr(x, name)[1:], getattr(y, name)[1:])
    # Contacts that found no room make a step as worthless.
    broken._worlds.overflow[2] = 1
    assert broken.step(torch.zeros(3, 6)).terminated.tolist() == [False, False, True]
    assert not broken.step(torch.zeros(3, 6)).terminated.any()
    assert broken.diverged == 2


def test_an_action_that_is_no_number_ends_its_episode() -> None:
    arm = on_warp(load_arm("ur5e"), reach, SHORT, 3)
    arm.reset(0)
    action = torch.zeros(3, 6)
    action[1, 4] = torch.inf
    moved = arm.step(action)
    assert moved.terminated.tolist() == [False, True, False]
    assert torch.isfinite(moved.final_privileged).all()


def test_actions_that_do_not_fit_are_refused() -> None:
    arm = on_warp(load_arm("ur5e"), reach, SHORT, 3)
    with pytest.raises(AlulaError, match="step before reset"):
        arm.step(torch.zeros(3, 6))
    arm.reset(0)
    for action in (torch.zeros(3, 5), torch.zeros(3, 6, dtype=torch.float64), np.zeros((3, 6))):
        with pytest.raises(AlulaError, match=r"allowed: a tensor \(3, 6\), torch.float32, on cpu"):
            arm.step(action)
    with pytest.raises(AlulaError, match=r"device is 'cuda:99'"):
        WarpArm(load_arm("ur5e"), reach, SHORT, 3, device="cuda:99")


def test_helping_forces_and_relaxed_contacts() -> None:
    c, warp = both("panda", lift, assisting_force=2.0, relaxed_contacts=3.0, episode_steps=4)
    for arm in (c, warp):
        arm.assistance = 0.5
        arm.reset(0)
        assert arm.n_actions == 11
    # The floor's and the cube's; 1 + 3 / 2 times slower.
    slower = c._physics.expand("geom_solref")  # type: ignore[attr-defined]
    np.testing.assert_allclose(slower, warp._worlds.fields["geom_solref"], rtol=1e-6)
    nominal = np.broadcast_to(c.model.geom_solref, slower.shape)
    np.testing.assert_allclose(slower[..., 0], 2.5 * nominal[..., 0])
    lift_it = np.zeros((2, 11), np.float32)
    lift_it[:, 10] = 1.0
    for _ in range(3):
        x, y = c.step(lift_it), warp.step(tensor(lift_it))
    up = [np.asarray(arm.scene.sensor["object_velocity_w"])[:, 2] for arm in (c, warp)]
    np.testing.assert_allclose(*up, atol=2e-3)
    np.testing.assert_allclose(x.privileged, y.privileged, atol=5e-3)
    warp.assistance = 0.0
    assert warp.step(tensor(lift_it)).truncated.all()
    np.testing.assert_allclose(warp._worlds.fields["geom_solref"], nominal, rtol=1e-6)
    assert not warp._worlds.xfrc_applied.any()


def test_ppo_learns_from_tensors() -> None:
    arm = on_warp(load_arm("ur5e"), reach, ArmSimConfig(randomization=RANDOM), 8, staggered=True)
    config = PpoConfig(n_envs=8, updates=2, rollout_steps=4, minibatches=2, epochs=1)
    learner = PpoLearner(arm, config, 0, Spaces(n_actions=6, parameters=arm.n_parameters))  # type: ignore[arg-type]
    first = learner.network()
    assert np.isfinite(learner.update().cost)
    observation = HostedArm(arm).reset(3)
    assert not np.array_equal(first(observation), learner.network()(observation))


def test_bench_measures_both_and_says_what() -> None:
    preset = get_preset("ur5e-reach")
    data = bench_warp.bench_warp(preset, repeats=2, device="cpu", sizes=(2, 3))
    assert json.loads(json.dumps(data)) == data
    assert [row["n_envs"] for row in data["worlds"]] == [2, 3]
    for row in data["worlds"]:
        for name in ("warp", "c"):
            low, high = row[f"{name}_per_s_min"], row[f"{name}_per_s_max"]
            assert 0.0 < low <= row[f"{name}_per_s"] <= high
        assert row["ratio"] == pytest.approx(row["warp_per_s"] / row["c_per_s"])
    assert data["dt_s"] == 0.005
    assert "worlds" in bench_warp.text(data)
    with pytest.raises(AlulaError, match="is a multirotor's"):
        bench_warp.bench_warp(get_preset("l2f-hover"), repeats=1)
    with pytest.raises(AlulaError, match="repeats is 0"):
        bench_warp.bench_warp(preset, repeats=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_the_gpu_as_on_the_cpu() -> None:
    config = ArmSimConfig(noise=0.0, randomization=RANDOM)
    here, there = (
        WarpArm(load_arm("panda"), lift, config, 8, device=device) for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(here.reset(3), there.reset(3).cpu(), atol=1e-6)
    for action in actions_of(8, 8, 5):
        x, y = here.step(tensor(action)), there.step(tensor(action).cuda())
        # What lies on the floor touches it in one and not in the other.
        np.testing.assert_allclose(here.qpos, there.qpos.cpu(), atol=1e-3)
        np.testing.assert_allclose(x.reward, y.reward.cpu(), atol=1e-2)
    # From the same state.
    for mine, theirs in zip(there._worlds.zero_at_start, here._worlds.zero_at_start, strict=True):
        mine.copy_(theirs)
    for name, x in here._episode.items():
        there._episode[name].copy_(x)
    here.step(torch.zeros(8, 8))
    there.step(torch.zeros(8, 8, device="cuda"))
    np.testing.assert_allclose(here.qpos, there.qpos.cpu(), atol=10.0 * POSITION)
