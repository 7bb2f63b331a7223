"""MuJoCo Warp against C MuJoCo: one policy step from the same state, with all that is randomised, and delays."""

from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from alula.presets import ARM_RANDOMIZED
from alula.robots.arm import load_arm
from alula.sim.arm_config import ArmRandomization, ArmSimConfig
from alula.sim.mujoco.arm import MujocoArm
from alula.tasks import lift, reach

pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed")

from alula.sim.mujoco.arm_warp import WarpArm

pytestmark = pytest.mark.slow
look: Any = SimpleNamespace(**run_path(str(Path(__file__).with_name("one_joint.py"))))
STATE = ("qpos", "qvel", "act", "history")
RANDOM = replace(ARM_RANDOMIZED, actuator_lag=(0.005, 0.03))
POSITION, VELOCITY = 2e-6, 5e-5
"""How far a policy step of 20 ms may differ [rad, m; rad/s, m/s]: float32 against float64."""


def both(robot: str, task, n: int = 2) -> tuple[MujocoArm, WarpArm]:
    config = ArmSimConfig(noise=0.0, randomization=RANDOM)
    pair = (
        MujocoArm(load_arm(robot), task, config, n),
        WarpArm(load_arm(robot), task, config, n),
    )
    a, b = (simulator.reset(1) for simulator in pair)
    np.testing.assert_allclose(a, b, atol=1e-6)
    return pair


def compare_steps(c: MujocoArm, warp: WarpArm, actions: np.ndarray) -> None:
    for action in actions:
        # Each step from C MuJoCo's state: contacts make any two simulations part with time.
        for name in STATE:
            getattr(warp._physics, name)[:] = getattr(c._physics, name)
        warp._target[:] = c._target
        x, y = c.step(action), warp.step(action)
        np.testing.assert_allclose(c.qpos, warp.qpos, atol=POSITION)
        np.testing.assert_allclose(c._physics.qvel, warp._physics.qvel, atol=VELOCITY)
        # forces reach some 20 N
        np.testing.assert_allclose(
            c._physics.sensordata, warp._physics.sensordata, atol=VELOCITY, rtol=1e-3
        )
        np.testing.assert_allclose(x.reward, y.reward, atol=1e-4)
        np.testing.assert_array_equal(x.terminated, y.terminated)


def test_ur5e_step_by_step() -> None:
    c, warp = both("ur5e", reach)
    compare_steps(c, warp, np.random.default_rng(0).uniform(-1, 1, (40, 2, 6)))


def test_panda_that_holds_a_cube_step_by_step() -> None:
    c, warp = both("panda", lift)
    for simulator in (c, warp):
        simulator._place(
            np.arange(2), np.tile([*simulator.robot.home[:7], 0.02], (2, 1)),
            {"object": np.concatenate([simulator._tool_pose(np.tile(simulator.robot.home, (2, 1)))[:, :3],
                                       np.tile([0.0, 1.0, 0.0, 0.0], (2, 1))], axis=1)},
        )  # fmt: skip
    close = np.zeros((2, 8))
    close[:, 7] = -1.0
    for _ in range(25):
        # both, since the times of delayed commands are part of a state
        c.step(close)
        warp.step(close)
    scene = c.scene
    assert min(scene.sensor["left_force"].min(), scene.sensor["right_force"].min()) > 5.0
    moves = 0.3 * np.random.default_rng(0).uniform(-1, 1, (20, 2, 8))
    moves[:, :, 7] = -1.0
    compare_steps(c, warp, moves)
    assert c.scene.sensor["object_position_w"][:, 2].min() > 0.2


def test_delays_are_exact_in_single_precision() -> None:
    random = ArmRandomization(actuator_delay=(0.0, 0.010))
    config = ArmSimConfig(
        noise=0.0, action="joint_torque", action_scale=1.0, control_dt=0.005, substeps=1,
        episode_steps=100_000, randomization=random,
    )  # fmt: skip
    simulator = WarpArm(look.make_arm(), look, config, 12)
    simulator.reset(0)
    steps = np.round(simulator._randomizer.delay[:, 0] / 0.005).astype(int)
    assert set(steps) == {0, 1, 2}
    first = np.full(12, -1)
    for _ in range(300):
        simulator.step(np.zeros((12, 1), np.float32))
    for k in range(4):
        simulator.step(np.ones((12, 1), np.float32))
        moved = simulator.scene.joint_velocity[:, 0] > 0.0
        first[moved & (first < 0)] = k
    np.testing.assert_array_equal(first, steps)
