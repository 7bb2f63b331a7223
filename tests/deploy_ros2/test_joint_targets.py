"""Steps of joints and of the tool on the robot's side: what the simulator made of them, limits, and a policy file at work."""

from dataclasses import replace

import numpy as np
import pytest

from alula.build import build_contract
from alula.deploy_ros2.joint_targets import JointTargets
from alula.deploy_ros2.pilot import Around, Pilot
from alula.deploy_ros2.robot_checks import check_robot
from alula.deploy_ros2.runner import PolicyRunner
from alula.deploy_ros2.safety import Reaction, Safety, State
from alula.deploy_ros2.safety_config import SafetyConfig, of_arm
from alula.deploy_ros2.samples import Sample
from alula.deploy_ros2.sim_arm import SimArm, SimArmConfig
from alula.errors import AlulaError
from alula.evaluation.arm_evaluate import evaluate_arm
from alula.frames import quat_from_rot, rotation_between
from alula.policies.network import Network
from alula.policies.onnx_file import load_policy, write_policy
from alula.presets import get_preset
from alula.robots.arm import load_arm
from alula.robots.kinematics import Kinematics
from alula.robots.target_steps import LEASH
from alula.sim.mujoco.arm import MujocoArm
from alula.tasks import reach

PANDA = load_arm("panda")
PRESET = get_preset("panda-reach")
PRESET = replace(PRESET, sim=replace(PRESET.sim, action="end_effector_delta"))
DT = PRESET.sim.control_dt
GAIN = 4.0
"""How fast the error dies away [1/s]."""


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """A file for the task `reach`: action = z / sqrt(1 + z^2), z = GAIN error / speed; the gripper stays."""
    contract = build_contract(PRESET, PANDA, reach, {})
    law, first = np.zeros((contract.observation_size, contract.action_size)), 16
    assert [e.name for e in contract.observation[2:4]] == ["tool_position_error_w", "tool_rotation_error_w"]  # fmt: skip
    law[first : first + 6, :6] = np.diag(np.repeat([GAIN / 0.5, GAIN / 1.5], 3))
    network = Network(
        mean=np.zeros(len(law)), scale=np.ones(len(law)), clip=20.0, weights=(law,), biases=(np.zeros(7),)
    )  # fmt: skip
    path = tmp_path_factory.mktemp("tool") / "policy.onnx"
    write_policy(path, network, contract)
    return load_policy(path, robot=PANDA)


def command_of(action, contract):
    """As PolicyRunner.step."""
    low, high = (np.array([getattr(a, k) for a in contract.action], np.float32) for k in ("low", "high"))  # fmt: skip
    return (0.5 * ((1.0 - action) * low + (1.0 + action) * high)).astype(np.float32)


@pytest.mark.parametrize("action", ["joint_position_delta", "end_effector_delta"])
def test_the_joints_are_sent_where_the_simulator_sent_them(action):
    config = replace(PRESET.sim, action=action, episode_steps=1000)
    preset = replace(PRESET, sim=config)
    contract = build_contract(preset, PANDA, reach, {})
    simulator = MujocoArm(PANDA, reach, config, 3)
    simulator.reset(0)
    robots = [JointTargets(PANDA, action, DT) for _ in range(3)]
    rng, mean = np.random.default_rng(0), np.zeros((3, simulator.n_actions), np.float32)
    for t in range(150):
        # Random, and slow enough for the servos
        mean += 0.1 * (rng.uniform(-0.5, 0.5, mean.shape) - mean).astype(np.float32)
        if t == 75:  # struck: the first joint is further from its target than the leash
            simulator._physics.qpos[:, 0] += 0.3
        measured = simulator.scene.joint_position
        simulator.step(mean)
        for k, robot in enumerate(robots):
            sent = robot.moved(command_of(mean[k], contract), measured[k])
            np.testing.assert_allclose(sent, simulator._target[k], rtol=0, atol=1e-6)
    assert np.abs(simulator._target - np.array(PANDA.home)).max() > 0.2


def test_a_blocked_tool_winds_up_no_more_than_the_leash_and_steps_of_zero_hold():
    targets, home = JointTargets(PANDA, "end_effector_delta", DT), np.array(PANDA.home)
    for _ in range(200):
        sent = targets.moved(np.array([0, 0, -0.01, 0, 0, 0, 0]), home)
        assert sent is not None
        assert np.abs(sent - home).max() <= LEASH + 1e-12
        assert (sent >= PANDA.position_low).all()
        assert (sent <= PANDA.position_high).all()
    assert np.abs(sent - home).max() == pytest.approx(LEASH)
    # Whatever is measured, a hold moves nothing.
    np.testing.assert_array_equal(targets.moved(np.zeros(7), home + 0.5), sent)
    # Begun anew, steps start from where the arm is.
    targets.start()
    np.testing.assert_array_equal(targets.moved(np.zeros(7), home - 0.01), home - 0.01)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nothing_is_sent_for_what_is_no_number(bad):
    targets, home = JointTargets(PANDA, "end_effector_delta", DT), np.array(PANDA.home)
    assert targets.moved(np.array([0, bad, 0, 0, 0, 0, 0]), home) is None
    assert targets.moved(np.zeros(7), None) is None
    np.testing.assert_array_equal(targets.moved(np.zeros(7), home), home)


def test_the_policy_file_reaches_in_its_simulator(policy):
    result, _ = evaluate_arm(policy, episodes=12, seed=0)
    assert result.metrics.succeeded == 12
    assert result.metrics.measures["error"].median < 0.005


def fly(policy, goal, steps):
    """By PolicyRunner, Pilot and JointTargets on the robot's simulation, as a node does; outputs, positions, sent."""
    sim = SimArm(PANDA, SimArmConfig(robot="panda", control_dt=DT))
    runner = PolicyRunner(policy, PANDA)
    config = SafetyConfig(**of_arm(PANDA), heartbeat_age=np.inf, heartbeat_lost=np.inf)
    pilot = Pilot(runner, Safety(config, runner.low, runner.high), PANDA)
    pilot.start()
    targets, seen = JointTargets(PANDA, runner.level, runner.control_dt), []
    for k in range(steps):
        now = 100.0 + k * DT
        position, quat = goal(k)
        samples = sim.measure(now) | {
            "goal_position_w": Sample(value=position, stamp=now),
            "goal_quat_w": Sample(value=quat, stamp=now),
        }
        asked = Reaction.HOLD if k >= steps - 20 else Reaction.NONE
        output = pilot.cycle(now, samples, None, Around(operator=asked))
        sent = targets.moved(output.command, samples["joint_position"].value)
        sim.command(sent)
        sim.step()
        seen.append((output, sim.position, sent))
    return seen


def test_the_policy_file_reaches_on_the_robot_without_ros_and_is_held(policy):
    kinematics, home = Kinematics(PANDA), np.array(PANDA.home)
    away = home + np.array([0.3, -0.2, 0.25, -0.3, 0.2, 0.3, -0.4, 0.0])
    position, rot = kinematics.forward(away.tolist())
    position, quat = np.array(position), quat_from_rot(np.reshape(rot, (3, 3)))
    seen = fly(policy, lambda k: (position, quat), 170)
    assert all(output.decision.state is State.POLICY for output, _, _ in seen[:150])
    here, here_rot = kinematics.forward(seen[149][1].tolist())
    assert np.linalg.norm(here - position) < 0.002
    turned = rotation_between(quat_from_rot(np.reshape(here_rot, (3, 3))), quat)
    assert np.linalg.norm(turned) < 0.01
    # Held, the tool gets steps of zero and stays.
    output, _, sent = seen[-1]
    assert output.decision.state is State.HOLD
    np.testing.assert_array_equal(output.command, np.zeros(7))
    np.testing.assert_array_equal(sent, seen[150][2])


def test_what_is_no_step_of_this_robots_tool_is_refused(policy):
    contract = policy.contract
    assert check_robot(contract, PANDA) == ("end_effector_delta", tuple(a.name for a in contract.action))  # fmt: skip
    x, *others = contract.action
    for action, text in (
        ((replace(x, high=0.11), *others), r"'tool_x' ranges from -0\.01 to 0\.11 m; allowed on this robot: -0\.1 to 0\.1"),
        ((others[0], x, *others[1:]), "commands tool_y, tool_x, .*; allowed on this robot, in this order: tool_x, tool_y"),
        ((x, *others[:-1], replace(others[-1], name="finger")), "in this order: .*, panda_finger_joint1"),
        ((x, *others[:-1], replace(others[-1], meaning="joint_torque")), "mean end_effector_delta, joint_torque; allowed"),
        ((replace(x, meaning="joint_position_delta"), *others), "or end_effector_delta for the tool and"),
    ):  # fmt: skip
        with pytest.raises(AlulaError, match=text):
            check_robot(replace(contract, action=action), PANDA)
