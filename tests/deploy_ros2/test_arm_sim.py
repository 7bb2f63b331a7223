"""The simulated arm, and the scripted policy on it without ROS: the figures that a flight over ROS must match."""

import dataclasses
import json
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula.deploy_ros2.runner import PolicyRunner
from alula.deploy_ros2.samples import Sample
from alula.deploy_ros2.sim_arm import SimArm, SimArmConfig, build_model
from alula.errors import AlulaError
from alula.export import export
from alula.policies.contract import ActionEntry, Contract, ObservationEntry
from alula.policies.network import Network
from alula.policies.onnx_file import load_policy, write_policy
from alula.robots.arm import known_arms, load_arm
from alula.sim.arm_config import ArmSimConfig
from alula.sim.mujoco.arm import MujocoArm
from alula.tasks import reach as task

reach = run_path(str(Path(__file__).with_name("reach.py")))
ARM = load_arm("ur5e")
HOME = np.array(ARM.home)
QUIET = {"noise": 0.0, "control_dt": 0.01}


def make(**settings) -> SimArm:
    return SimArm(ARM, SimArmConfig(**{**QUIET, **settings}))


def run(sim: SimArm, seconds: float) -> None:
    for _ in range(round(seconds / sim.control_dt)):
        sim.step()


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return reach["scripted_policy"](tmp_path_factory.mktemp("arm") / "policy.onnx", ARM)


def test_it_holds_its_home_until_it_is_commanded():
    sim = make()
    run(sim, 1.0)
    np.testing.assert_allclose(sim.position, HOME, atol=1e-6)
    assert sim.time == pytest.approx(1.0)


def test_a_panda_begins_at_rest_with_both_fingers():
    sim = SimArm(load_arm("panda"), SimArmConfig(**QUIET))
    sim.step()
    # The other finger follows the first; were it closed at the start, it would be thrown open at half a metre a second.
    assert np.abs(sim.velocity).max() < 1e-3


def test_it_holds_the_last_position_for_ever():
    sim, goal = make(), HOME + 0.1
    sim.command(goal)
    run(sim, 10.0)
    np.testing.assert_allclose(sim.position, goal, atol=1e-5)
    np.testing.assert_allclose(sim.target, goal)


def test_the_set_point_moves_no_faster_than_the_joints_may():
    sim = make()
    sim.command(HOME + np.array([2.0, 0, 0, 0, 0, 0]))
    run(sim, 0.2)
    # pi rad/s for 0.2 s
    assert sim.target[0] - HOME[0] == pytest.approx(0.2 * np.pi)
    assert np.abs(sim.velocity[0]) < 1.05 * np.pi
    run(sim, 2.0)
    assert sim.position[0] == pytest.approx(HOME[0] + 2.0, abs=1e-4)


def test_positions_beyond_the_limits_are_not_followed():
    sim = make()
    sim.command(np.array([0.0, -1.6, 9.0, -1.6, -1.6, 0.0]))
    run(sim, 3.0)
    assert sim.target[2] == pytest.approx(np.pi)


@pytest.mark.parametrize(("name", "substeps"), [("panda", 2), ("ur5e", 10)])
def test_efforts_do_what_torques_did_in_training(name, substeps):
    """The same positions, step by step, as the simulator of the training; links without torque stay where they are."""
    arm = load_arm(name)
    config = ArmSimConfig(
        action="joint_torque", action_scale=0.05, noise=0.0, control_dt=0.01, substeps=substeps
    )
    trained = MujocoArm(arm, task, config, 1)
    trained.reset(0)
    start = trained.scene.joint_position[0]
    settings = {"controller": "forward_effort", "start": tuple(start.tolist()), **QUIET}
    sim, rng = SimArm(arm, SimArmConfig(**settings)), np.random.default_rng(0)
    run(sim, 0.5)
    np.testing.assert_allclose(sim.position, start, rtol=0, atol=1e-3)
    sim = SimArm(arm, SimArmConfig(**settings))
    for _ in range(100):
        action = rng.uniform(-1.0, 1.0, (1, len(start))).astype(np.float32)
        trained.step(action)
        sim.command(action[0] * config.action_size(arm))
        sim.step()
        np.testing.assert_allclose(sim.position, trained.scene.joint_position[0], rtol=0, atol=1e-9)
    assert np.abs(sim.position - start).max() > 0.02
    # No more than the joint has
    sim.command(np.full(len(start), 1e6))
    sim.step()
    assert np.isfinite(sim.position).all()


def test_a_policy_of_torques_brings_the_joints_to_their_goal(tmp_path):
    """action = z / sqrt(1 + z^2), z = -(3 e + v), times a fifth of each joint's effort; without torque it then stays."""
    law = np.concatenate([-3.0 * np.eye(6), -np.eye(6)])
    names = (("joint_position_error", "rad"), ("joint_velocity", "rad/s"))
    contract = Contract(
        robot=ARM.name, robot_hash=ARM.hash, task="joint-reach", control_dt=0.01, training={},
        observation=tuple(ObservationEntry(name=n, unit=u, frame="-", size=6) for n, u in names),
        action=tuple(
            ActionEntry(name=j, low=-0.2 * e, high=0.2 * e, unit="N m", meaning="joint_torque")
            for j, e in zip(ARM.joint_names, ARM.effort_max, strict=True)
        ),
    )  # fmt: skip
    network = Network(
        mean=np.zeros(12), scale=np.ones(12), clip=20.0, weights=(law,), biases=(np.zeros(6),)
    )
    write_policy(tmp_path / "p.onnx", network, contract)
    runner = PolicyRunner(load_policy(tmp_path / "p.onnx", robot=ARM), ARM)
    goal, sim = HOME + 0.3, SimArm(ARM, SimArmConfig(controller="forward_effort", control_dt=0.01))
    for k in range(500):
        now = 100.0 + 0.01 * k
        wanted = Sample(value=goal, stamp=now, names=ARM.joint_names)
        step = runner.step(now, {**sim.measure(now), "joint_position_reference": wanted})
        sim.command(step.command)
        sim.step()
    np.testing.assert_allclose(sim.position, goal, rtol=0, atol=0.02)
    sim.command(np.zeros(6))
    run(sim, 1.0)
    np.testing.assert_allclose(sim.velocity, 0.0, atol=0.01)


def test_velocities_are_held_for_ever_too_until_the_limit():
    sim = make(controller="forward_velocity")
    velocity = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.5])
    sim.command(velocity)
    run(sim, 2.0)
    assert sim.position[5] == pytest.approx(1.0, abs=0.05)
    # The set-point moves in stairs of control_dt, which the servo does not smooth away.
    assert sim.velocity[5] == pytest.approx(0.5, abs=0.03)
    run(sim, 20.0)
    assert sim.target[5] == pytest.approx(2 * np.pi)


def test_a_trajectory_goes_straight_from_point_to_point():
    sim = make(controller="joint_trajectory")
    a, b = HOME + 0.2, HOME - 0.1
    sim.follow(np.array([1.0, 2.0]), np.array([a, b]))
    run(sim, 0.5)
    np.testing.assert_allclose(sim.target, HOME + 0.1, atol=1e-9)
    run(sim, 1.0)
    np.testing.assert_allclose(sim.target, HOME + 0.05, atol=1e-9)
    run(sim, 3.0)
    np.testing.assert_allclose(sim.position, b, atol=1e-4)


def test_a_point_for_now_is_gone_to_at_once():
    sim = make(controller="joint_trajectory")
    sim.follow(np.array([0.0]), np.array([HOME + 0.02]))
    sim.step()
    np.testing.assert_allclose(sim.target, HOME + 0.02)


@pytest.mark.parametrize(
    "values",
    [[0.0] * 5, [0.0] * 7, [np.nan] + [0.0] * 5, [np.inf] + [0.0] * 5, []],
)
def test_bad_commands_are_refused_and_change_nothing(values):
    sim = make()
    with pytest.raises(AlulaError, match="allowed: 6 finite numbers"):
        sim.command(np.array(values))
    run(sim, 0.1)
    np.testing.assert_allclose(sim.target, HOME)


@pytest.mark.parametrize(
    ("times", "points", "message"),
    [
        ([], np.zeros((0, 6)), "0 points"),
        ([1.0], np.zeros((1, 5)), "1 points"),
        ([1.0], np.full((1, 6), np.nan), "not finite"),
        ([1.0, 1.0], np.zeros((2, 6)), "do not rise"),
        ([-1.0], np.zeros((1, 6)), "do not rise"),
    ],
)
def test_bad_trajectories_are_refused(times, points, message):
    with pytest.raises(AlulaError, match=message):
        make(controller="joint_trajectory").follow(np.array(times), points)


def test_the_effort_is_what_the_joints_give():
    sim = make()
    run(sim, 0.5)
    # At rest: gravity. The upper arm is upright; the forearm (2.846 kg at 0.2422 m) and the wrists stretch out:
    # shoulder and elbow carry about 2.846 * 0.2422 + 3.035 * 0.3922 + ... kg m, 20.26 N m with the wrists' offsets.
    assert sim.effort[1] == pytest.approx(-20.26, abs=0.01)
    assert sim.effort[2] == pytest.approx(-20.26, abs=0.01)


def test_noise_delay_and_drop_outs():
    quiet = make()
    sample = quiet.measure(5.0)
    assert set(sample) == {"joint_position", "joint_velocity", "joint_effort"}
    assert sample["joint_position"].stamp == 5.0
    assert sample["joint_position"].names == ARM.joint_names
    np.testing.assert_allclose(sample["joint_position"].value, HOME, atol=1e-9)
    noisy = make(noise=1.0)
    values = np.array([noisy.measure(t)["joint_position"].value for t in np.arange(0, 10, 0.01)])
    # 6000 numbers: the deviation is known to about 1 %
    assert np.std(values - HOME) == pytest.approx(ARM.position_noise, rel=0.05)
    late = make(delay=0.03)
    assert [bool(late.measure(0.01 * k)) for k in range(5)] == [False, False, False, True, True]
    assert late.measure(0.05)["joint_position"].stamp == pytest.approx(0.02)
    lossy = make(drop_out=0.3)
    share = np.mean([bool(lossy.measure(0.01 * k)) for k in range(2000)])
    assert share == pytest.approx(0.7, abs=0.05)


def test_its_rate_is_the_robots_own_unless_another_is_asked_for():
    assert make(control_dt=0.0).control_dt == 0.002
    # 10 ms in whole steps of at most 1 ms
    assert make(control_dt=0.01).control_dt == 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"controller": "effort"}, "controller is 'effort'; allowed: forward_position"),
        ({"noise": -1.0}, "noise is -1.0"),
        ({"delay": float("nan")}, "delay is nan"),
        ({"control_dt": 5.0}, "control_dt is 5.0"),
        ({"start": (float("inf"),)}, "finite numbers, one a joint"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(AlulaError, match=message):
        SimArmConfig(**change)


@pytest.mark.parametrize("start", [(0.0,), (0.0, 0.0, 4.0, 0.0, 0.0, 0.0)])
def test_a_start_outside_of_the_limits_is_refused(start):
    with pytest.raises(AlulaError, match="allowed: 6 positions in the limits"):
        make(start=start)


def changed(old: str, new: str):
    model = ARM.model.replace(old, new)
    assert model != ARM.model
    return dataclasses.replace(ARM, model=model)


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        (dataclasses.replace(ARM, model=""), "has no model"),
        (dataclasses.replace(ARM, effort_max=(*ARM.effort_max[:5], 30)), "effort of joint 'wrist_3_joint'"),
        (dataclasses.replace(ARM, position_low=(-1, *ARM.position_low[1:])), "position of joint"),
        (changed('<geom name="floor"', '<geom shape="none" name="floor"'), "model of robot 'ur5e': "),
        (changed('<position name="elbow" joint="elbow_joint"', '<motor name="elbow" joint="elbow_joint"'), "joint 'elbow_joint' of 'ur5e' is no position servo"),
    ],
    ids=["none", "effort", "limits", "schema", "motor"],
)  # fmt: skip
def test_models_that_are_not_this_arms_are_refused_in_one_line(arm, message):
    with pytest.raises(AlulaError, match=message) as caught:
        SimArm(arm, SimArmConfig())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "servo",
    ['kp="2000" kv="100" gear="2"', 'kp="4000" kv="200" timeconst="0.1"', 'kp="4000" kv="200" delay="0.05" nsample="50"'],
    ids=["gear", "filter", "delay"],
)  # fmt: skip
def test_servos_of_any_kind_hold_as_in_training(servo):
    """A gear, a filter, a delay: the arm rests where it begins, and goes where it is told."""
    old = '<position name="elbow" joint="elbow_joint" class="size3"/>'
    new = f'<position name="elbow" joint="elbow_joint" inheritrange="0" {servo}/>'
    sim = SimArm(changed(old, new), SimArmConfig(**QUIET))
    for _ in range(20):
        sim.step()
        np.testing.assert_allclose(sim.position, HOME, atol=1e-3)
    sim.command(HOME + 0.1)
    run(sim, 3.0)
    np.testing.assert_allclose(sim.position, HOME + 0.1, atol=1e-3)


def test_a_servo_with_a_unit_of_its_own_goes_where_it_is_told():
    """0.4 u = 4000 (q - 0.5)."""
    servo = 'gainprm="0.4" biastype="affine" biasprm="2000 -4000 -200"'
    old = '<position name="elbow" joint="elbow_joint" class="size3"/>'
    sim = SimArm(
        changed(old, f'<general name="elbow" joint="elbow_joint" {servo}/>'), SimArmConfig(**QUIET)
    )
    run(sim, 1.0)
    np.testing.assert_allclose(sim.position, HOME, atol=1e-3)


@pytest.mark.parametrize("gear", [1.0, -2.0])
def test_the_actuator_limits_the_effort_where_the_joint_does_not(gear):
    """As in most models of MuJoCo's Menagerie."""
    joint = '<joint name="elbow_joint" class="size3"'
    servo = '<position name="elbow" joint="elbow_joint" class="size3"'
    free = changed(joint, f'{joint} actuatorfrclimited="false"')
    with pytest.raises(
        AlulaError, match=r"effort of .* is not limited; .* \(actuatorfrcrange of the"
    ):
        build_model(free)
    # 150 N m at the joint
    force = 150.0 / abs(gear)
    limit = f'inheritrange="0" gear="{gear}" forcerange="-{force} {force}"'
    assert build_model(
        dataclasses.replace(free, model=free.model.replace(servo, f"{servo} {limit}"))
    )
    limit = limit.replace(f"-{force} {force}", "-10 10")
    with pytest.raises(
        AlulaError, match=f"effort of joint 'elbow_joint' is {-10 * abs(gear):g} to"
    ):
        build_model(dataclasses.replace(free, model=free.model.replace(servo, f"{servo} {limit}")))


def test_an_arm_without_a_tool_moves():
    sim = SimArm(changed('name="flange"', 'name="end"'), SimArmConfig(**QUIET))
    run(sim, 0.1)
    np.testing.assert_allclose(sim.position, HOME, atol=1e-6)


def test_the_model_is_not_run_through_by_a_wild_command():
    # Any positions that the controller takes leave the arm in one piece.
    sim, rng = make(), np.random.default_rng(0)
    for _ in range(50):
        sim.command(rng.uniform(-10, 10, 6))
        run(sim, 0.2)
    assert np.isfinite(sim.position).all()
    assert (np.abs(sim.effort) <= np.array(ARM.effort_max) + 1e-9).all()
    assert build_model(ARM).nq == 6


def test_the_scripted_policy_is_the_formula(policy):
    q = np.array([0.1, -0.2, 0.3, 0.0, 1.0, -7.0], np.float32)
    v = np.array([0.0, 0.5, -0.5, 0.1, 0.0, 0.0], np.float32)
    e = np.array([0.01, -0.5, 2.0, 0.0, -0.1, 6.0], np.float32)
    z = -(4.0 * e + 0.1 * v)
    action = policy.act(np.concatenate([q, v, e])[None])[0]
    # 4 * 6 = 24 is clipped to 20: the action stays below what counts as saturated
    z[5] = -20.0
    np.testing.assert_allclose(action, z / np.sqrt(1 + z * z), atol=1e-6)
    assert np.abs(action).max() < 0.999
    # by hand: 4 * 0.01 = 0.04, 0.04 / sqrt(1.0016) = 0.03997
    assert action[0] == pytest.approx(-0.03997, abs=1e-5)


def test_the_scripted_policy_is_an_ordinary_one(policy, tmp_path):
    assert policy.contract.robot_hash == ARM.hash
    assert policy.golden.action.shape[0] >= 8
    (tmp_path / "policy.onnx").write_bytes(policy.data)
    written = export(tmp_path / "policy.onnx", "c", tmp_path / "c")
    assert json.dumps(written)
    assert not written["failures"]
    assert written["max_abs_diff"] < 1e-6


@pytest.mark.parametrize("which", range(3))
def test_the_scripted_policy_reaches(policy, which):
    goal = reach["goals"](ARM)[which]
    flown = reach["fly"](ARM, policy, goal)
    assert flown.final < 5e-4
    assert flown.settling < 2.6
    # A straight run of each joint at 1 rad/s from the error e_j: e_j^3 / 3 is the integral of its square.
    errors = np.abs(goal - HOME)
    straight = np.sqrt((errors**3 / 3).mean() / reach["DURATION"])
    assert straight < flown.tracking < 1.3 * straight


def test_the_exported_c_flies_as_the_policy_file_does(policy):
    goal = reach["goals"](ARM)[0]
    by_c, by_onnx = (reach["fly"](ARM, policy, goal, engine) for engine in ("c", "onnx"))
    assert by_c.tracking == pytest.approx(by_onnx.tracking, abs=1e-6)


def test_late_and_lost_measurements_cost_little(policy):
    goal = reach["goals"](ARM)[0]
    best = reach["fly"](ARM, policy, goal)
    for settings in ({"delay": 0.01}, {"drop_out": 0.2}, {"noise": 5.0}):
        flown = reach["fly"](ARM, policy, goal, **settings)
        assert flown.final < 1e-3
        assert flown.tracking < 1.15 * best.tracking


def test_the_scripted_policy_needs_no_stiff_servo(policy, tmp_path):
    # Nothing compensates gravity: the servos sag by up to 60 N m / 4000 N m, 15 mrad.
    arm = changed('gravcomp="1"', 'gravcomp="0"')
    sagging = SimArm(arm, SimArmConfig(**QUIET))
    run(sagging, 1.0)
    assert np.abs(sagging.position - HOME).max() > 3e-3
    own = reach["scripted_policy"](tmp_path / "own.onnx", arm)
    assert reach["fly"](arm, own, reach["goals"](ARM)[0]).final < 5e-4


@pytest.mark.parametrize("name", known_arms())
def test_the_scripted_policy_moves_every_shipped_arm(name, tmp_path):
    arm = load_arm(name)
    own = reach["scripted_policy"](tmp_path / "own.onnx", arm)
    low, high = np.array(arm.position_low), np.array(arm.position_high)
    goal = np.clip(np.array(arm.home) + 0.1, low + 0.01, high - 0.01)
    flown = reach["fly"](arm, own, goal)
    assert flown.final < 1e-3
    assert flown.settling < 3.0
