"""Insert by hand: what is seen, what it is worth, what counts; the fit of peg and hole; and the scripted controller."""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest

from alula.build import build_task
from alula.frames import rot_from_quat
from alula.presets import get_preset
from alula.robots.arm import load_arm
from alula.robots.inverse_kinematics import joint_positions, tool_jacobian
from alula.robots.kinematics import Kinematics
from alula.sim.arm_config import ArmRandomization, ArmSimConfig
from alula.sim.arm_scene import Scene, Start
from alula.sim.mujoco.arm import MujocoArm
from alula.sim.mujoco.arm_model import build_arm_model
from alula.tasks import insert as task
from alula.tasks.insert_base import base_action

Follower = run_path(str(Path(__file__).parent / "following.py"))["Follower"]
PANDA = load_arm("panda")
PRESET = get_preset("panda-insert").sim
assert isinstance(PRESET, ArmSimConfig)
HALF = np.sqrt(0.5)
INSERTED_Z = task.RIM + task.TIP - task.DEPTH
"""Height of the tool that has the peg on the bottom of the hole [m]."""


def scene(tip, force=(0, 0, 0), tool=(0.5, 0.0, 0.1), quat=(0, HALF, HALF, 0)) -> Scene:
    """One arm at rest; the hole at (0.5, 0), told to be 1 mm off along x."""
    sensor = {
        "tool_position_w": tool, "tool_quat_w": quat, "tip_h": tip, "force_w": (*force, 0, 0, 1),
    }  # fmt: skip
    goal = {
        "position_w": (0.5, 0.0, INSERTED_Z), "quat_w": (0, HALF, HALF, 0), "hole_bias_w": (0.001, 0.0, 0.0),
    }  # fmt: skip
    return Scene(
        joint_position=np.zeros((1, 8)),
        joint_velocity=np.zeros((1, 8)),
        sensor={k: np.array([v], float) for k, v in sensor.items()},
        goal={k: np.array([v], float) for k, v in goal.items()},
    )


def test_rows_and_entries_fit_together():
    # 0.1 m above the floor where it should be at 0.045 m, and turned by 0.2 rad too far about z
    quat = np.cos(0.1) * np.array([0, HALF, HALF, 0]) + np.sin(0.1) * np.array([0, -HALF, HALF, 0])
    s = scene((0, 0, 0.02), quat=quat)
    rows = {e.name: r[0] for e, r in zip(task.entries(PANDA), task.observe(s), strict=True)}
    assert {e.name: e.size for e in task.entries(PANDA)} == {k: len(r) for k, r in rows.items()}
    np.testing.assert_allclose(rows["tool_position_error_w"], [0.001, 0.0, -0.055], atol=1e-12)
    np.testing.assert_allclose(rows["tool_rotation_error_w"], [0.0, 0.0, -0.2], atol=1e-12)
    assert build_task("insert") is task


def test_the_critic_sees_the_true_hole_and_the_contact():
    rows = task.privileged(scene((0.0005, 0, -0.01), force=(0, 20, 0)))
    # 500 * 0.001; tanh(0.1) = 0.0996680, tanh(-2) = -0.9640276; tanh(1) = 0.7615942
    expected = [0.5, 0, 0, 0.0996680, 0, -0.9640276, 0, 0.7615942, 0, 0, 0, 0.7615942]
    np.testing.assert_allclose(rows, [expected], atol=1e-7)


@pytest.mark.parametrize(
    ("tip", "force", "angle", "expected"),
    [
        # on the bottom: 0.5 + 2 + 1
        ((0, 0, -0.025), (0, 0, 0), 0.0, 3.5),
        # half way: 0.5 + 1
        ((0, 0, -0.0125), (0, 0, 0), 0.0, 1.5),
        # 3 mm aside and 4 mm above: 0.5 (1 - tanh 0.25), tanh 0.25 = 0.2449187
        ((0.003, 0, 0.004), (0, 0, 0), 0.0, 0.3775407),
        # as low, but beside the hole: 0.5 (1 - tanh 0.25)
        ((0.005, 0, -0.02), (0, 0, 0), 0.0, 0.3775407),
        # pressed with 50 N and turned by 0.1 rad: 1.5 - 0.06 - 0.05
        ((0, 0, -0.0125), (30, 40, 0), 0.1, 1.39),
    ],
)
def test_the_reward_by_hand(tip, force, angle, expected):
    c, s = np.cos(0.5 * angle), np.sin(0.5 * angle)
    quat = c * np.array([0, HALF, HALF, 0]) + s * np.array([0, -HALF, HALF, 0])
    one, now = np.ones((1, 8)), scene(tip, force, quat=quat)
    assert task.reward(now, one, one) == pytest.approx(expected, abs=1e-6)
    # all 8 actions changed by 1
    assert task.reward(now, one, 0.0 * one) == pytest.approx(expected - 0.04, abs=1e-6)


@pytest.mark.parametrize(
    ("tip", "force", "kind"),
    [
        ((0, 0, -0.0201), 0, None),
        ((0, 0, -0.0199), 0, "stuck in the hole"),
        ((0.0021, 0, -0.0201), 5, "on the block beside the hole"),
        ((0, 0, -0.0004), 5, "on the block beside the hole"),
        ((0, 0, 0.02), 0, "above the block"),
        ((0, 0.0401, -0.02), 0, "above the block"),
    ],
)
def test_success_and_failures(tip, force, kind):
    s = scene(tip, (0, 0, force))
    assert task.succeeded(s).tolist() == [kind is None]
    assert [k for k, v in task.failures(s).items() if v[0]] == ([] if kind is None else [kind])
    # beyond the block's side
    assert task.failed(s).tolist() == [tip[1] > 0.04]
    measures = task.measures(s)
    assert measures["aside"][0] == pytest.approx(np.hypot(*tip[:2]))
    assert measures["force"][0] == force


def test_starts_are_in_range():
    simulator = MujocoArm(PANDA, task, replace(PRESET, randomization=ArmRandomization()), 400)
    simulator.reset(0)
    tip, goal = simulator.scene.sensor["tip_h"], simulator.scene.goal
    aside = np.linalg.norm(tip[:, :2], axis=1)
    assert 0.95 * task.OFFSET < aside.max() <= task.OFFSET + 1e-6
    # Evenly over the disc: half within 0.71 of its radius
    assert np.median(aside) == pytest.approx(HALF * task.OFFSET, rel=0.1)
    assert tip[:, 2].min() > 0.01
    assert tip[:, 2].max() < 0.08
    bias = np.linalg.norm(goal["hole_bias_w"], axis=1)
    assert 0.95 * task.BIAS < bias.max() <= task.BIAS
    assert not goal["hole_bias_w"][:, 2].any()
    # The goal is above the true hole, upright, and the peg's sides are along the hole's but for a few degrees.
    turn = np.linalg.norm(task.observe(simulator.scene)[3], axis=1)
    assert 0.03 < np.median(turn) < 0.06
    assert turn.max() < 0.15
    down = rot_from_quat(goal["quat_w"])[:, :, 2]
    np.testing.assert_allclose(down, np.tile([0.0, 0.0, -1.0], (400, 1)), atol=1e-12)
    np.testing.assert_allclose(goal["position_w"][:, 2], INSERTED_Z)
    # It is in the hand.
    peg = simulator.qpos[:, -7:]
    np.testing.assert_allclose(peg[:, :3], simulator.scene.sensor["tool_position_w"], atol=1e-9)


def over_the_hole(aside, yaw: float = 0.0, substeps: int = 4) -> MujocoArm:
    """One arm with the tip upright 10 mm above the rim, so far beside the hole (2), the hole turned."""

    def start(rng, n, robot, tool_pose) -> Start:
        q = joint_positions(robot, (0.5, 0.0, task.RIM + task.TIP + 0.01), task.DOWN, task.above(robot))  # fmt: skip
        q[-1] = task.HALF_WIDTH
        turn = [np.cos(0.5 * yaw), 0.0, 0.0, np.sin(0.5 * yaw)]
        hole = np.array([[0.5 - aside[0], -aside[1], task.RIM, *turn]])
        goal = {
            "position_w": hole[:, :3] + [0.0, 0.0, task.TIP - task.DEPTH],
            "quat_w": np.array([[0.0, HALF, HALF, 0.0]]),
            "hole_bias_w": np.zeros((1, 3)),
        }
        poses = {"hole": hole, "peg": tool_pose(q[None])}
        return Start(joint_position=q[None], goal=goal, pose_w=poses)

    placed = SimpleNamespace(**{**vars(task), "start": start})
    config = ArmSimConfig(action_scale=0.05, substeps=substeps)
    simulator = MujocoArm(PANDA, placed, config, 1, threads=1, auto_reset=False)  # pyright: ignore[reportArgumentType]
    simulator.reset(0)
    return simulator


def lowered(simulator: MujocoArm, to: float, seconds: float = 1.5) -> dict[str, float]:
    """What is measured when the tool has been sent to where the tip has that depth [m]."""
    rim = task.RIM + task.TIP
    first, last = (0.5, 0.0, rim + 0.01), (0.5, 0.0, rim - to)
    Follower(simulator).line(first, last, task.DOWN, task.HALF_WIDTH, seconds, 20)
    return {k: float(v[0]) for k, v in task.measures(simulator.scene).items()}


def test_the_hole_is_a_millimetre_wider_than_the_peg():
    model = build_arm_model(PANDA, task, PRESET)
    data = mujoco.MjData(model)
    block, peg = (model.jnt_qposadr[model.body(name).jntadr[0]] for name in ("hole", "peg"))
    data.qpos[block : block + 3] = 0.5, 0.0, task.RIM
    # Its tip 20 mm deep: 0.499 mm from the middle it is free, 0.501 mm from it touches, to all four sides.
    for side in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        for away, touches in ((0.499e-3, False), (0.501e-3, True)):
            data.qpos[peg : peg + 7] = 0.5 + away * side[0], away * side[1], task.RIM + task.TIP - 0.02, 0, 1, 0, 0  # fmt: skip
            mujoco.mj_forward(model, data)
            assert (data.ncon > 0) == touches


@pytest.mark.parametrize(
    ("aside", "yaw"), [((0.0, 0.0), 0.0), ((0.0, 0.0), 0.03), ((0.0002, -0.0002), 0.0)]
)
def test_a_centred_peg_goes_in_without_force(aside, yaw):
    found = lowered(over_the_hole(aside, yaw), 0.024)
    assert found["depth"] > 0.0225
    assert found["force"] < 5.0


@pytest.mark.parametrize("aside", [(0.0015, 0.0), (0.0, -0.0015)])
def test_a_peg_beside_the_hole_is_stopped_by_the_rim(aside):
    simulator = over_the_hole(aside)
    found = lowered(simulator, 0.008)
    # Pressed on with more than 50 N it sinks in by less than 0.2 mm, and the block stays where it is.
    assert found["depth"] < 2e-4
    assert found["force"] > 50.0
    assert -simulator.scene.sensor["tip_h"][0, 2] < 2e-4
    hole = simulator.qpos[0, 9:12]
    np.testing.assert_allclose(hole, [0.5 - aside[0], -aside[1], task.RIM], atol=1e-5)
    # It is where the hand has it.
    slack = simulator.qpos[0, -7:-4] - simulator.scene.sensor["tool_position_w"][0]
    assert np.linalg.norm(slack) < 2e-4


def test_the_peg_held_still_stays_and_nothing_moves_by_itself():
    simulator = MujocoArm(PANDA, task, PRESET, 8, threads=1, auto_reset=False)
    simulator.reset(0)
    before, hole = simulator.scene.sensor["tip_h"], simulator.qpos[:, 9:16].copy()
    for _ in range(100):
        simulator.step(np.zeros((8, 8), np.float32))
    # The servos sag under the peg, whose weight nothing makes up for.
    assert np.abs(simulator.scene.sensor["tip_h"] - before).max() < 5e-4
    np.testing.assert_allclose(simulator.qpos[:, 9:16], hole, atol=1e-5)
    assert not simulator.scene.sensor["force_w"].any()


def test_the_peg_at_full_speed_goes_through_nothing():
    # Ten times as fast as in training, down on the block, and to all sides
    config = ArmSimConfig(action_scale=0.5)
    simulator = MujocoArm(PANDA, task, config, 16, threads=1, auto_reset=False)
    simulator.reset(0)
    rng, action = np.random.default_rng(0), np.zeros((16, 8), np.float32)
    action[:, 1] = 1.0
    for _ in range(8):
        action[:, [0, 4, 6]] = rng.uniform(-1.0, 1.0, (16, 3))
        for _ in range(8):
            simulator.step(action)
            tip = simulator.scene.sensor["tip_h"]
            over = np.abs(tip[:, :2]).max(axis=1) < task.HALF_BLOCK - 0.01
            # never below the bottom of the hole, nor deep in the block beside it
            assert tip[over, 2].min(initial=0.0) > -task.DEPTH - 0.005
            beside = over & (np.abs(tip[:, :2]).max(axis=1) > 0.012)
            assert tip[beside, 2].min(initial=0.0) > -0.01
    assert simulator.diverged == 0


def test_the_script_goes_to_the_hole_turns_upright_and_down():
    # 5 mm from the measured hole along x, 30 mm above the rim, turned by 0.02 rad about z
    row = np.zeros((1, 30))
    row[0, 0] = 0.2
    row[0, :8] = task.above(PANDA)
    row[0, 16:19], row[0, 21] = (0.005, 0.0, -0.055), 0.02
    action = base_action(row, PANDA, PRESET)
    assert action.shape == (1, 8)
    assert np.abs(action).max() <= 1.0
    assert action[0, -1] == pytest.approx(0.0, abs=1e-12)
    # What the tool does with joints that follow: v = 4 * 0.005 m/s along x, 0.03 m/s down, w = 4 * 0.02 rad/s
    speed = action[0] * PRESET.action_size(PANDA) / PRESET.control_dt
    twist = tool_jacobian(Kinematics(PANDA), task.above(PANDA)) @ speed
    # all of it slower, as one of the joints would have to move faster than actions go
    assert np.abs(action).max() == pytest.approx(1.0)
    np.testing.assert_allclose(
        twist * 0.03 / -twist[2], [0.02, 0.0, -0.03, 0.0, 0.0, 0.08], atol=1e-5
    )
    # Turned with the first joint, and the error with it, nothing else changes.
    c, s = np.cos(0.3), np.sin(0.3)
    row[0, 0] += 0.3
    row[0, 16:18] = 0.005 * c, 0.005 * s
    np.testing.assert_allclose(base_action(row, PANDA, PRESET), action, atol=1e-6)


@pytest.mark.slow
def test_the_script_succeeds_about_every_other_time():
    simulator = MujocoArm(PANDA, task, PRESET, 512, auto_reset=False)
    observation = simulator.reset(1)
    for _ in range(PRESET.episode_steps):
        observation = simulator.step(base_action(observation, PANDA, PRESET)).observation
    assert 0.3 < task.succeeded(simulator.scene).mean() < 0.6
    assert simulator.diverged == 0
