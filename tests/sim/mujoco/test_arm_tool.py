"""Actions that move an arm's tool: it goes where and as fast as it is told, within what the joints can do."""

import json
from dataclasses import replace

import numpy as np
import pytest

from alula.build import build_base, build_contract, build_task
from alula.errors import AlulaError
from alula.evaluation.arm_evaluate import policy_setting
from alula.frames import rotation_between
from alula.policies.contract import ActionEntry
from alula.policies.metadata import contract_from_json
from alula.presets import get_preset
from alula.robots.arm import load_arm
from alula.robots.target_steps import LEASH
from alula.sim.arm_config import ArmSimConfig
from alula.sim.mujoco.arm import MujocoArm
from alula.tasks import reach

TOOL = ArmSimConfig(action="end_effector_delta", noise=0.0, episode_steps=1000)
PANDA = load_arm("panda")


@pytest.mark.parametrize("name", ["panda", "ur5e"])
def test_the_tool_moves_at_the_speed_that_it_is_told(name: str) -> None:
    """After 0.2 s, for half a second: within 2 mm/s of 100 mm/s, and within 3 mrad/s of 300 mrad/s."""
    simulator = MujocoArm(load_arm(name), reach, TOOL, 12)
    simulator.reset(0)
    action = np.zeros((12, simulator.n_actions), np.float32)
    # Along and about each axis, there and back; a fifth of 0.5 m/s and of 1.5 rad/s
    action[:, :6] = 0.2 * np.concatenate([np.eye(6), -np.eye(6)])
    wanted = action[:, :6] * np.repeat([0.5, 1.5], 3)
    seen = []
    for _ in range(35):
        simulator.step(action)
        sensor = simulator.scene.sensor
        seen.append((sensor["tool_position_w"], sensor["tool_quat_w"]))
    (start, quat), (end, turned) = seen[9], seen[34]
    np.testing.assert_allclose((end - start) / 0.5, wanted[:, :3], rtol=0, atol=0.002)
    turn = rotation_between(quat, turned) / 0.5
    np.testing.assert_allclose(turn, wanted[:, 3:], rtol=0, atol=0.003)


def test_targets_respect_limits_speeds_and_leash_whatever_is_asked() -> None:
    config = replace(TOOL, tool_speed=5.0, tool_turn_speed=25.0)
    simulator = MujocoArm(PANDA, reach, config, 16)
    simulator.reset(1)
    rng, before = np.random.default_rng(0), simulator._target.copy()
    direction = rng.choice([-1.0, 1.0], (16, simulator.n_actions))
    at_limit = 0
    for _ in range(150):
        q = simulator.scene.joint_position
        simulator.step(direction)
        target = simulator._target
        assert (target >= PANDA.position_low).all()
        assert (target <= PANDA.position_high).all()
        # Where a joint went away from its target, that stays.
        assert (np.abs(target - q) <= np.maximum(LEASH, np.abs(before - q)) + 1e-12).all()
        speed = np.abs(target - before)[:, :7] / 0.02
        assert (speed <= np.array(PANDA.velocity_max)[:7] * (1 + 1e-9)).all()
        at_limit += int(((target == PANDA.position_low) | (target == PANDA.position_high)).sum())
        before = target.copy()
    assert at_limit > 100
    assert simulator.diverged == 0


def test_the_gripper_has_its_own_action_and_a_zero_action_holds() -> None:
    simulator = MujocoArm(PANDA, reach, replace(TOOL, action_scale=0.5, gripper_scale=0.2), 1)
    simulator.reset(0)
    assert simulator.n_actions == 7
    before = simulator._target.copy()
    for _ in range(3):
        simulator.step(np.array([[0, 0, 0, 0, 0, 0, -1.0]]))
    # Three times 0.2 of 0.05 m/s for 0.02 s
    moved = simulator._target - before
    np.testing.assert_allclose(moved, [[0, 0, 0, 0, 0, 0, 0, -0.0006]], rtol=0, atol=1e-9)
    before = simulator._target.copy()
    for _ in range(20):
        simulator.step(np.zeros((1, 7)))
    np.testing.assert_array_equal(simulator._target, before)


def test_the_policy_file_says_what_the_actions_are() -> None:
    preset = replace(get_preset("panda-reach"), sim=replace(TOOL, gripper_scale=0.2))
    contract = build_contract(preset, PANDA, reach, {})
    tool = {"meaning": "end_effector_delta"}
    # 0.5 m/s and 1.5 rad/s for 20 ms
    assert contract.action == (
        *(ActionEntry(name=f"tool_{k}", low=-0.01, high=0.01, unit="m", **tool) for k in "xyz"),
        *(
            ActionEntry(name=f"tool_turn_{k}", low=-0.03, high=0.03, unit="rad", **tool)
            for k in "xyz"
        ),
        ActionEntry(
            name="panda_finger_joint1", low=-0.0002, high=0.0002, unit="rad or m",
            meaning="joint_position_delta",
        ),
    )  # fmt: skip
    # The past actions that it sees are seven as well.
    assert contract.observation[-1].size == 7
    back = contract_from_json(json.loads(json.dumps(contract.to_json())))
    assert back.action == contract.action
    setting = policy_setting(back)
    assert setting.config == preset.sim
    for change, text in (
        ({"tool_speed": 1.0}, r"action for 'tool_x' means .*-0\.01, 0\.01.*0\.02"),
        ({"action": "joint_position_delta"}, r"takes .*panda_joint1.*; allowed: the same names"),
    ):
        other = replace(back, training={"sim": back.training["sim"] | change})
        with pytest.raises(AlulaError, match=text):
            policy_setting(other)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"tool_speed": 5.1}, "tool_speed is 5.1; allowed: 0.001 to 5"),
        ({"tool_turn_speed": 26.0}, "tool_turn_speed is 26.0; allowed: 0.001 to 25"),
        ({"tool_speed": 0.0}, "tool_speed is 0.0; allowed: 0.001 to 5"),
        ({"tool_speed": float("nan")}, "tool_speed is nan; allowed: 0.001 to 5"),
    ],
)
def test_steps_too_long_for_a_derivative_are_refused(change: dict, text: str) -> None:
    with pytest.raises(AlulaError, match=text):
        replace(TOOL, **change)


def test_a_base_that_moves_joints_corrects_no_steps_of_the_tool() -> None:
    preset = get_preset("panda-insert")
    preset = replace(preset, sim=replace(preset.sim, action="end_effector_delta"))
    with pytest.raises(AlulaError, match="action is 'end_effector_delta'; allowed with the base"):
        build_base(preset, PANDA, build_task(preset.task))
