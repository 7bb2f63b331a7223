"""Physics of simulated arms against hand-computed numbers and against plain `mj_step`."""

from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import Any

import mujoco
import numpy as np
import pytest

from alula.errors import AlulaError
from alula.evaluation.arm_physics import Setting
from alula.presets import ARM_RANDOMIZED
from alula.robots.arm import load_arm
from alula.robots.target_steps import LEASH
from alula.sim.arm_config import ArmRandomization, ArmSimConfig
from alula.sim.mujoco.arm import MujocoArm
from alula.tasks import lift, reach

look: Any = SimpleNamespace(**run_path(str(Path(__file__).with_name("one_joint.py"))))
QUIET = ArmSimConfig(noise=0.0)
TORQUE = ArmSimConfig(
    noise=0.0, action="joint_torque", action_scale=1.0, control_dt=0.001, substeps=1,
    episode_steps=100_000,
)  # fmt: skip
"""One physics step of 1 ms a step; action 1 is 3 N m."""
ROBOTS = pytest.mark.parametrize(
    ("robot", "task"), [("panda", lift), ("ur5e", reach)], ids=["panda", "ur5e"]
)


def simulate(config: ArmSimConfig, n: int = 1, **arm: str) -> MujocoArm:
    simulator = MujocoArm(look.make_arm(**arm), look, config, n)
    simulator.reset(0)
    return simulator


def push(simulator: MujocoArm, action: float, steps: int) -> None:
    for _ in range(steps):
        simulator.step(np.full((simulator.n_envs, 1), action, np.float32))


@ROBOTS
def test_it_is_plain_mj_step_bitwise(robot: str, task) -> None:
    """The same states, controls and models, whatever was drawn: delays, lags, masses, friction."""
    random = replace(ARM_RANDOMIZED, actuator_lag=(0.0, 0.03))
    config = ArmSimConfig(randomization=random, episode_steps=1000)
    simulator = MujocoArm(load_arm(robot), task, config, 3, threads=2)
    simulator.reset(1)
    batch, everything = simulator._physics._batch, mujoco.mjtState.mjSTATE_INTEGRATION  # type: ignore[attr-defined]
    models = [batch.get_model(i) for i in range(3)]
    data = [mujoco.MjData(m) for m in models]
    for i in range(3):
        mujoco.mj_setState(models[i], data[i], batch.state[i], everything)
    rng = np.random.default_rng(0)
    for _ in range(60):
        simulator.step(rng.uniform(-1, 1, (3, simulator.n_actions)))
        for i in range(3):
            data[i].ctrl[:] = simulator._physics.ctrl[i]
            mujoco.mj_step(models[i], data[i], 4)
    for i in range(3):
        np.testing.assert_array_equal(simulator.qpos[i], data[i].qpos)
        np.testing.assert_array_equal(simulator._physics.qvel[i], data[i].qvel)
        mujoco.mj_step1(models[i], data[i])
        # touch sensors are those of the last physics step in both
        np.testing.assert_array_equal(simulator._physics.sensordata[i], data[i].sensordata)
    assert models[0].body_mass[3] != models[1].body_mass[3]


@ROBOTS
def test_a_sent_arm_rests_at_home(robot: str, task) -> None:
    simulator = MujocoArm(load_arm(robot), task, replace(QUIET, episode_steps=1000), 2)
    simulator.reset(0)
    home = np.tile(simulator.robot.home, (2, 1))
    simulator._place(np.arange(2), home, {})
    for _ in range(100):
        simulator.step(np.zeros(home.shape, np.float32))
    # gravity is compensated: after 2 s at most what the solver leaves of friction and equality
    np.testing.assert_allclose(simulator.scene.joint_position, home, atol=2e-5)
    assert np.abs(simulator.scene.joint_velocity).max() < 1e-4


def test_a_panda_begins_with_both_fingers_where_the_gripper_is() -> None:
    simulator = MujocoArm(load_arm("panda"), lift, QUIET, 4)
    simulator.reset(0)
    qpos = simulator.qpos
    np.testing.assert_array_equal(qpos[:, 8], qpos[:, 7])
    np.testing.assert_array_equal(qpos[:, 7], 0.04)


def test_the_cube_falls_freely() -> None:
    simulator = simulate(TORQUE, 2)
    simulator._physics.qpos[:, 1:4] = [0.0, 3.0, 5.0]
    push(simulator, 0.0, 500)
    # v = -g h k, then z += h v: z = z0 - g h^2 k (k + 1) / 2 = 5 - 9.81e-6 * 125250
    np.testing.assert_allclose(
        simulator.scene.sensor["object_position_w"][:, 2], 3.7712975, atol=1e-9
    )


def test_energy_of_a_free_pendulum_drifts_little() -> None:
    simulator = simulate(TORQUE, axis="0 1 0")
    arm = simulator._physics

    def energy() -> float:
        # 1/2 I v^2 + m g z, z = -0.5 sin q
        q, v = arm.qpos[0, 0], arm.qvel[0, 0]
        return 0.5 * look.INERTIA * v**2 - 2 * 9.81 * 0.5 * np.sin(q)

    drift, fastest = [], 0.0
    for _ in range(30):
        push(simulator, 0.0, 100)
        drift.append(energy())
        fastest = max(fastest, abs(arm.qvel[0, 0]))
    # it swings (5.7 rad/s at the bottom) with 9.81 J of kinetic energy; semi-implicit steps of 1 ms keep 1 %
    assert fastest > 5.0
    assert np.abs(drift).max() < 0.01 * 9.81


def test_a_torque_accelerates_inertia_and_armature() -> None:
    simulator = simulate(TORQUE, joint='armature="0.4"')
    push(simulator, 0.5, 10)
    # 1.5 N m / (0.6 + 0.4) kg m^2 * 0.01 s
    assert simulator.scene.joint_velocity[0, 0] == pytest.approx(0.015, rel=1e-9)


def test_actions_move_the_target_on_a_leash() -> None:
    config = ArmSimConfig(noise=0.0, action_scale=0.5, control_dt=0.02, substeps=4)
    simulator = simulate(config, 1, servo='kp="1e-9"')
    seen = []
    for action in (1.0, 0.5, -1.0, 0.0):
        push(simulator, action, 1)
        seen.append(float(simulator._physics.ctrl[0, 0]))
    # 0.5 * 0.02 s * 2 rad/s = 0.02 rad for action 1
    np.testing.assert_allclose(seen, [0.02, 0.03, 0.01, 0.01], atol=1e-9)
    push(simulator, 1.0, 50)
    # the servo is too weak to move: the target waits LEASH away
    assert simulator._physics.ctrl[0, 0] == pytest.approx(LEASH, abs=1e-6)


def test_reward_sees_this_action_and_the_one_before() -> None:
    simulator = simulate(TORQUE)
    rewards = [simulator.step(np.full((1, 1), a, np.float32)).reward[0] for a in (0.5, 0.75, -1.0)]
    # 1 + a - a_before
    np.testing.assert_allclose(rewards, [1.5, 1.25, -0.75])


def test_a_lag_answers_exponentially() -> None:
    lag = 0.05
    simulator = simulate(
        replace(TORQUE, randomization=ArmRandomization(actuator_lag=(lag, lag))), 2
    )
    push(simulator, 1.0, 25)
    k = np.arange(25)
    # a(t) = 1 - exp(-t / lag) of 3 N m; the torque of a step is that at its beginning
    assert simulator._physics.act[0, 0] == pytest.approx(3 * (1 - np.exp(-0.5)), rel=1e-12)
    speed = 0.001 * 3 * (1 - np.exp(-0.001 * k / lag)).sum() / look.INERTIA
    np.testing.assert_allclose(simulator.scene.joint_velocity, speed, rtol=1e-9)


@pytest.mark.parametrize("before", [0, 987])
def test_a_command_arrives_after_exactly_its_delay(before: int) -> None:
    random = ArmRandomization(actuator_delay=(0.0, 0.010))
    simulator = simulate(replace(TORQUE, randomization=random), 60)
    steps = np.round(simulator._randomizer.delay[:, 0] / 0.001).astype(int)
    assert set(steps) == set(range(11))
    push(simulator, 0.0, before)
    assert not simulator.scene.joint_velocity.any()
    first = np.full(60, -1)
    for k in range(12):
        push(simulator, 1.0, 1)
        moved = simulator.scene.joint_velocity[:, 0] > 0.0
        first[moved & (first < 0)] = k
    np.testing.assert_array_equal(first, steps)


def test_a_delay_may_end_within_a_policy_step() -> None:
    random = ArmRandomization(actuator_delay=(0.003, 0.003))
    simulator = simulate(replace(TORQUE, control_dt=0.004, substeps=4, randomization=random))
    push(simulator, 1.0, 1)
    # of four physics steps one had the torque: 1 ms * 3 N m / 0.6 kg m^2
    assert simulator.scene.joint_velocity[0, 0] == pytest.approx(0.005, rel=1e-9)


def test_a_delayed_servo_begins_with_the_command_that_holds_its_start() -> None:
    random = ArmRandomization(actuator_delay=(0.01, 0.01), actuator_lag=(0.02, 0.02))
    simulator = MujocoArm(load_arm("ur5e"), reach, replace(QUIET, randomization=random), 3)
    simulator.reset(0)
    start = simulator.scene.joint_position
    for _ in range(3):
        simulator.step(np.zeros((3, 6), np.float32))
    np.testing.assert_allclose(simulator.scene.joint_position, start, atol=1e-6)


def test_a_reset_leaves_nothing_of_before() -> None:
    random = replace(ARM_RANDOMIZED, actuator_lag=(0.01, 0.03))
    config = replace(QUIET, randomization=random)
    used, new = (MujocoArm(load_arm("panda"), lift, config, 4) for _ in range(2))
    rng = np.random.default_rng(0)
    used.reset(5)
    for _ in range(30):
        used.step(rng.uniform(-1, 1, (4, 8)))
    for simulator in (used, new):
        simulator.reset(3)
    # time, position, speed, act, delayed controls, warm start of the solver, controls
    np.testing.assert_array_equal(
        used._physics._batch.state,  # type: ignore[attr-defined]
        new._physics._batch.state,  # type: ignore[attr-defined]
    )
    assert used.model.na == 8
    assert used.model.nhistory == 8 * (2 + 2 * 3)


def test_noise_has_the_entries_standard_deviations() -> None:
    simulator = simulate(replace(TORQUE, noise=2.0, history=0), 4000)
    a = simulator.reset(4)
    b = simulator.step(np.zeros((4000, 1), np.float32)).observation
    for observation in (a, b):
        # 4000 draws: relative standard error 1.1 %, of the mean 1.6 % of a deviation
        np.testing.assert_allclose(observation.std(axis=0), [0.04, 0.0, 1, 1, 1], rtol=0.06, atol=1e-7)  # fmt: skip
        np.testing.assert_allclose(observation.mean(axis=0), [0, 0, 0, 3, -0.95], atol=0.08)
    assert abs(np.corrcoef(a[:, 2], b[:, 2])[0, 1]) < 0.06
    assert abs(np.corrcoef(a[:, 2], a[:, 3])[0, 1]) < 0.06


def test_an_observation_is_as_old_as_was_drawn() -> None:
    random = ArmRandomization(observation_delay_steps=(0, 3))
    simulator = simulate(replace(TORQUE, randomization=random, history=0), 50)
    assert set(simulator._delay) == {0, 1, 2, 3}
    speeds, seen = [np.zeros(50)], []
    for _ in range(8):
        t = simulator.step(np.ones((50, 1), np.float32))
        speeds.append(simulator.scene.joint_velocity[:, 0])
        seen.append(t.observation[:, 1])
        # the critic is not late
        np.testing.assert_allclose(t.privileged[:, 1], speeds[-1], rtol=1e-6)
    for k, row in enumerate(seen, start=1):
        expected = [speeds[max(0, k - d)][i] for i, d in enumerate(simulator._delay)]
        np.testing.assert_allclose(row, expected, rtol=1e-6)


def test_the_observation_ends_with_past_actions_oldest_first() -> None:
    simulator = simulate(replace(TORQUE, history=3))
    for action in (0.1, 0.2):
        t = simulator.step(np.full((1, 1), action, np.float32))
    np.testing.assert_allclose(t.observation[0, 5:], [0.0, 0.1, 0.2])


def test_the_scene_is_a_copy() -> None:
    simulator = simulate(TORQUE)
    scene = simulator.scene
    push(simulator, 1.0, 5)
    assert scene.joint_velocity[0, 0] == 0.0
    assert simulator.scene.joint_velocity[0, 0] > 0.0


def test_staggered_episodes_do_not_all_end_at_once():
    config = ArmSimConfig(episode_steps=20)
    ends = []
    for staggered in (False, True):
        sim = MujocoArm(load_arm("ur5e"), reach, config, 16, staggered=staggered)
        sim.reset(0)
        still = np.zeros((16, 6), np.float32)
        ends.append(np.stack([sim.step(still).truncated for _ in range(40)]))
    assert ends[0][[19, 39]].all()
    assert ends[0].sum() == 32
    # Each ends once at some time in the first 20 steps, and again 20 steps later.
    assert (ends[1][:20].sum(axis=0) == 1).all()
    assert (ends[1][:20] == ends[1][20:]).all()
    assert len(np.unique(ends[1][:20].argmax(axis=0))) > 5


def test_assisting_actions_push_the_object_as_far_as_the_assistance_goes():
    # A cube of 0.1 kg: 0.981 N hold it up; with 2 N at action 1 and all of the assistance that is action 0.4905.
    config = ArmSimConfig(assisting_force=2.0, noise=0.0)
    sim = MujocoArm(load_arm("panda"), lift, config, 2)
    assert sim.n_actions == 8 + 3
    heights = {}
    for assistance in (1.0, 0.5, 0.0):
        sim.reset(0)
        sim.assistance = assistance
        action = np.zeros((2, 11), np.float32)
        action[0, 10] = 1.0
        for _ in range(10):
            sim.step(action)
        heights[assistance] = sim.scene.sensor["object_position_w"][:, 2]
    # 0.2 s up with (2 - 0.981) / 0.1 = 10.19 m/s^2 is 0.204 m; with 1 N, 0.19 m/s^2, 3.8 mm; the other cube stays.
    assert heights[1.0][0] - 0.02 == pytest.approx(0.5 * 10.19 * 0.2**2, rel=0.03)
    assert heights[0.5][0] - 0.02 == pytest.approx(0.5 * 0.19 * 0.2**2, abs=5e-4)
    assert heights[0.0][0] == pytest.approx(0.02, abs=5e-4)
    assert heights[1.0][1] == pytest.approx(0.02, abs=5e-4)
    # Nothing of it is left in the next episode.
    sim.reset(0)
    sim.step(np.zeros((2, 11), np.float32))
    assert sim.scene.sensor["object_position_w"][:, 2] == pytest.approx(0.02, abs=5e-4)


@pytest.mark.parametrize("randomization", [ArmRandomization(), ArmRandomization(mass=0.2)])
def test_contacts_are_relaxed_as_far_as_the_assistance_goes_and_then_not_at_all(randomization):
    plain = ArmSimConfig(assisting_force=1.0, randomization=randomization)
    sims = [
        MujocoArm(load_arm("panda"), lift, config, 4, threads=1)
        for config in (plain, replace(plain, relaxed_contacts=4.0))
    ]
    still = np.zeros((4, 11), np.float32)

    def heights(assistance: float) -> list[np.ndarray]:
        found = []
        for sim in sims:
            sim.assistance = assistance
            sim.reset(0)
            for _ in range(50):
                sim.step(still)
            found.append(sim.scene.sensor["object_position_w"][:, 2] - 0.02)
        return found

    stiff, soft = heights(1.0)
    # A spring of five times the time constant has a 25th of the stiffness; impedance changes with the depth too.
    assert (soft < 10.0 * stiff).all()
    assert (stiff < 0.0).all()
    stiff, soft = heights(0.0)
    np.testing.assert_array_equal(stiff, soft)


def test_relaxed_contacts_need_an_assisting_force():
    with pytest.raises(AlulaError, match=r"relaxed_contacts is 1\.0; allowed: 0 without"):
        ArmSimConfig(relaxed_contacts=1.0)


def test_assistance_needs_an_object():
    with pytest.raises(AlulaError, match="'reach' has no body 'object'"):
        MujocoArm(load_arm("ur5e"), reach, ArmSimConfig(assisting_force=1.0), 1)


def test_a_share_of_the_episodes_has_a_head_start() -> None:
    robot = load_arm("panda")
    plain, ahead = (MujocoArm(robot, lift, ArmSimConfig(head_start=x), 400) for x in (0.0, 0.3))
    heights = []
    for sim in (plain, ahead):
        sim.reset(0)
        heights.append(sim.scene.sensor["object_position_w"][:, 2])
    assert (heights[0] < 0.021).all()
    # Half of the head starts are in the air.
    assert 0.1 < (heights[1] > 0.1).mean() < 0.2
    # Evaluations have none, and draw what they would without.
    setting = Setting(robot=robot, task=lift, config=ArmSimConfig(head_start=1.0))
    np.testing.assert_array_equal(setting.simulator(400).reset(0), plain.reset(0))


def test_a_head_start_needs_a_task_that_has_one() -> None:
    with pytest.raises(AlulaError, match="'reach' has no head start"):
        MujocoArm(load_arm("ur5e"), reach, ArmSimConfig(head_start=0.5), 1)


def test_a_gripper_may_have_a_scale_of_its_own():
    robot = load_arm("panda")
    plain = ArmSimConfig(action_scale=0.5).action_size(robot)
    own = ArmSimConfig(action_scale=0.5, gripper_scale=8.0).action_size(robot)
    # 0.5 * 2.175 rad/s * 0.02 s; 0.5 and 8 times 0.05 m/s * 0.02 s
    assert plain[0] == own[0] == pytest.approx(0.02175)
    assert plain[-1] == pytest.approx(0.0005)
    assert own[-1] == pytest.approx(0.008)
    # No gripper has eight times its largest force.
    torque = ArmSimConfig(action="joint_torque", action_scale=0.5, gripper_scale=8.0)
    np.testing.assert_allclose(torque.action_size(robot), 0.5 * np.array(robot.effort_max))
