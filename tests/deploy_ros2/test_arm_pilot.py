"""What an arm is told while it is held: never a number that a faulty sensor made up."""

from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula.deploy_ros2.pilot import Around, Pilot
from alula.deploy_ros2.robot_checks import check_robot
from alula.deploy_ros2.runner import PolicyRunner
from alula.deploy_ros2.safety import Reaction, Safety, State
from alula.deploy_ros2.safety_config import SafetyConfig, of_arm
from alula.deploy_ros2.samples import Sample
from alula.errors import AlulaError
from alula.policies.contract import ActionEntry

flying = run_path(str(Path(__file__).with_name("flying.py")))
ARM = flying["ARM"]
DT = 0.01
AT = np.array([0.5, 0.6])


@pytest.fixture(params=["joint_position", "joint_position_delta"])
def pilot(request, tmp_path):
    entries = [("joint_position", 2), ("joint_velocity", 2)]
    actions = flying["joints"](meaning=request.param)
    policy = flying["with_entries"](tmp_path / "policy.onnx", entries, actions, ARM, DT)
    runner = PolicyRunner(policy, ARM)
    off = {"heartbeat_age": np.inf, "heartbeat_lost": np.inf, "slew_time": np.inf}
    config = SafetyConfig(**of_arm(ARM), **off)
    made = Pilot(runner, Safety(config, runner.low, runner.high), ARM)
    made.start()
    return made


def cycles(pilot, k, position, velocity=(0.0, 0.0), names=ARM.joint_names, **around):
    """One cycle, the k-th."""
    now = 100.0 + DT * k
    values = {"joint_position": position, "joint_velocity": velocity}
    samples = {n: Sample(value=np.array(v), stamp=now, names=names) for n, v in values.items()}
    return pilot.cycle(now, samples, None, Around(**around))


def held_at(pilot, output, position):
    """Whether the command holds the arm there; steps of zero hold it where it was sent last."""
    if pilot.runner.level == "joint_position_delta":
        position = np.zeros(2)
    np.testing.assert_allclose(output.command, position, atol=1e-12)


def test_the_limits_come_from_the_robot_file():
    fields = of_arm(ARM)
    assert fields["kind"] == "arm"
    assert fields["joint_names"] == ("shoulder", "elbow")
    assert fields["joint_low"] == (-2.0, -1.0)
    assert fields["joint_high"] == (2.0, 3.0)
    assert fields["joint_velocity_max"] == (2.0, 4.0)
    assert fields["joint_effort_max"] == (10.0, 5.0)


def test_the_policy_flies_then_a_request_holds_the_arm_where_it_is(pilot):
    for k in range(5):
        output = cycles(pilot, k, AT + 0.001 * k)
        assert output.decision.state is State.POLICY
        np.testing.assert_array_equal(output.command, output.step.command)
    for k in range(5, 20):
        # It moves a little on, and is told to come back.
        output = cycles(pilot, k, AT + 0.004 + 0.0005 * k, operator=Reaction.HOLD)
        assert output.decision.state is State.HOLD
        held_at(pilot, output, AT + 0.004 + 0.0025)


def test_a_jump_is_no_command(pilot):
    for k in range(5):
        cycles(pilot, k, AT)
    for k in range(5, 40):
        output = cycles(pilot, k, AT + np.array([1.0, 0.0]))
        assert output.decision.state is State.HOLD
        held_at(pilot, output, AT)


def test_a_jump_while_it_is_held_is_no_command_either(pilot):
    for k in range(5):
        cycles(pilot, k, AT)
    for k in range(5, 10):
        cycles(pilot, k, AT, operator=Reaction.HOLD)
    for k in range(10, 20):
        held_at(pilot, cycles(pilot, k, AT - np.array([0.0, 1.2]), operator=Reaction.HOLD), AT)


def test_the_next_hold_is_where_the_arm_is_then(pilot):
    for k in range(5):
        cycles(pilot, k, AT)
    for k in range(5, 10):
        # 1 % too fast
        cycles(pilot, k, AT, velocity=(2.02, 0.0))
    k = 10
    while cycles(pilot, k, AT + 0.001 * (k - 10)).decision.state is State.HOLD:
        k += 1
    # recover_after is 1 s
    assert 98 <= k - 10 <= 101
    for j in range(k, k + 5):
        output = cycles(pilot, j, AT + 0.3, velocity=(2.02, 0.0))
    assert output.decision.state is State.HOLD
    where = AT + 0.001 * (k - 10)
    # The move by 0.3 rad at once is a jump; what was measured before it counts.
    held_at(pilot, output, where)


def test_an_arm_beyond_its_limits_is_held_at_them(pilot):
    for k in range(3):
        output = cycles(pilot, k, (2.05, 0.0))
    assert output.decision.state is State.HOLD
    held_at(pilot, output, (2.0, 0.0))


def test_an_arm_that_was_never_seen_whole_is_told_nothing_false(pilot):
    for k in range(10):
        output = cycles(pilot, k, (0.5,), (0.0,), names=("shoulder",))
        assert output.decision.state is State.HOLD
        if pilot.runner.level == "joint_position":
            assert output.command is None


def test_without_the_object_the_arm_is_held_where_it_is(tmp_path):
    entries = [("joint_position", 2), ("object_position_error_w", 3)]
    policy = flying["with_entries"](tmp_path / "p.onnx", entries, flying["joints"](), ARM, DT)
    runner = PolicyRunner(policy, ARM, lost_steps=1000)
    off = {"heartbeat_age": np.inf, "heartbeat_lost": np.inf, "slew_time": np.inf}
    pilot = Pilot(runner, Safety(SafetyConfig(**of_arm(ARM), **off), runner.low, runner.high), ARM)
    pilot.start()
    states, codes = [], set()
    for k in range(60):
        now = 100.0 + DT * k
        joints = {"joint_position": AT, "joint_velocity": np.zeros(2)}
        poses = {"goal_position_w": np.array([0.5, 0.0, 0.3]), "object_position_w": np.zeros(3)}
        samples = {n: Sample(value=v, stamp=now, names=ARM.joint_names) for n, v in joints.items()}
        # The goal is a latched one; the object was last seen after 0.1 s.
        stamps = {"goal_position_w": now, "object_position_w": min(now, 100.1)}
        samples |= {n: Sample(value=poses[n], stamp=t) for n, t in stamps.items()}
        output = pilot.cycle(now, samples, None, Around())
        states.append(output.decision.state)
        codes |= {r.code for r in output.decision.reasons}
        if output.decision.state is State.HOLD:
            np.testing.assert_allclose(output.command, AT, atol=1e-12)
    # Of a policy that was never trained on older ones: three steps, then held_time of 25 ms
    assert states == [State.POLICY] * 16 + [State.HOLD] * 44
    assert {"policy_held", "policy_blind", "object_stale"} == codes
    assert runner.counters.stale > 40


def test_beneath_torques_there_is_nobody_so_that_the_robot_stops_by_itself(tmp_path):
    low_high = zip(ARM.joint_names, ARM.effort_max, strict=True)
    actions = tuple(
        ActionEntry(name=n, low=-e, high=e, unit="N m", meaning="joint_torque") for n, e in low_high
    )
    policy = flying["with_entries"](tmp_path / "p.onnx", [("joint_position", 2)], actions, ARM, DT)
    runner = PolicyRunner(policy, ARM)
    assert runner.level == "joint_torque"
    off = {"heartbeat_age": np.inf, "heartbeat_lost": np.inf, "slew_time": np.inf}
    pilot = Pilot(runner, Safety(SafetyConfig(**of_arm(ARM), **off), runner.low, runner.high), ARM)
    pilot.start()
    output = cycles(pilot, 0, AT)
    np.testing.assert_array_equal(output.command, output.step.command)
    assert not output.silent
    output = cycles(pilot, 1, AT, velocity=(2.1, 0.0))
    assert (output.decision.state, output.silent, output.command) == (State.HOLD, True, None)
    strong = (replace(actions[0], high=10.1), actions[1])
    with pytest.raises(AlulaError, match=r"-10 to 10\.1 N m; allowed on this robot: -10 to 10"):
        check_robot(replace(policy.contract, action=strong), ARM)


def test_a_policy_faster_than_the_robot_takes_commands_is_refused(tmp_path):
    actions = flying["joints"]()
    # 1 kHz; the robot takes 500 Hz
    policy = flying["with_entries"](
        tmp_path / "p.onnx", [("joint_position", 2)], actions, ARM, 0.001
    )
    with pytest.raises(AlulaError, match=r"control_dt is 0\.001 s; allowed: at least 0\.002"):
        check_robot(policy.contract, ARM)
