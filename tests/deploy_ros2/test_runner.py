"""The runner: what it refuses, what it sees, and that it steps as the exported C does."""

import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula.deploy_ros2.arm_observation import ArmSources
from alula.deploy_ros2.runner import PolicyRunner, Status
from alula.deploy_ros2.samples import Sample
from alula.errors import AlulaError
from alula.policies.contract import ActionEntry

flying = run_path(str(Path(__file__).parent / "flying.py"))
ROBOT, ARM, state, at = (flying[k] for k in ("ROBOT", "ARM", "state", "at"))
needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc to compile the export")

VARIANTS = {
    "actions": {"past_actions": 4},
    "sensors": {"past_actions": 0, "sensor_history": 3},
    "both": {"past_actions": 12, "sensor_history": 5},
    "gru": {"gru": True, "sensor_history": 2},
}


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policies")
    return {
        name: flying["hover"](folder / f"{name}.onnx", **settings)
        for name, settings in VARIANTS.items()
    }


def random_script(rng, calls):
    """(now, samples) of a stormy life: jitter, pauses, jumps, NaN, old and future stamps, missing samples."""
    now, script = float(rng.uniform(0.0, 5.0)), []
    for _ in range(calls):
        kind = rng.random()
        now += rng.choice([0.002, 0.0098, 0.01, 0.0104, 0.013, 0.031])
        if kind < 0.05:
            now += rng.choice([0.05, 0.11, 0.4, -0.004, -0.5])
        now = max(now, 0.0)
        q = rng.normal(size=4) * 0.3 + [1.0, 0, 0, 0]
        q /= np.linalg.norm(q)
        scale = 30.0 if kind > 0.95 else 1.0
        samples = state(now, rng.normal(size=3) * scale, q, rng.normal(size=3), rng.normal(size=3))
        name = str(rng.choice(list(samples)))
        one = samples[name]
        if 0.1 < kind < 0.3:
            stamp = now - rng.choice([0.02, 0.029999, 0.030002, 0.2, -0.009, -0.011])
            samples[name] = replace(one, stamp=stamp)
        elif 0.3 < kind < 0.35:
            samples[name] = replace(one, value=one.value * np.nan)
        elif 0.35 < kind < 0.38:
            samples[name] = replace(one, value=one.value[:2])
        elif 0.38 < kind < 0.42:
            del samples[name]
        elif 0.42 < kind < 0.44:
            samples[name] = replace(one, stamp=math.nan)
        script.append((now, samples))
    return script


@needs_gcc
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_calls_give_the_same_statuses_and_actions_as_the_c(policies, variant):
    policy = policies[variant]
    runners = [PolicyRunner(policy, ROBOT, engine=e, lost_steps=3) for e in ("onnx", "c")]
    seen = 0
    for seed in range(6):
        for runner in runners:
            runner.reset()
        for now, samples in random_script(np.random.default_rng(seed), 400):
            a, b = (runner.step(now, samples, at()) for runner in runners)
            assert a.status == b.status
            assert np.abs(a.action - b.action).max() <= 1e-5
            assert np.abs(a.command - b.command).max() <= 1e-5
            seen |= a.status
    assert runners[0].counters == runners[1].counters
    every = Status.BETWEEN | Status.MISSED | Status.RESTARTED | Status.CLIPPED | Status.LOST
    every |= Status.STALE | Status.NOT_FINITE | Status.TIME_BACKWARDS
    assert Status(seen) & every == every


@pytest.mark.parametrize("engine", ["onnx", "c"])
def test_steps_are_counted_by_the_measurements_not_by_jittering_calls(policies, engine):
    if engine == "c" and not shutil.which("gcc"):
        pytest.skip("no gcc")
    runner, rng = PolicyRunner(policies["actions"], ROBOT, engine=engine), np.random.default_rng(0)
    for k in range(200):
        measured = 5.0 + 0.01 * k
        # Each call comes 1 to 8 ms after its measurement: by their own time, some would come early, others too late.
        step = runner.step(measured + rng.uniform(0.001, 0.008), state(measured), at())
        assert step.status & (Status.BETWEEN | Status.MISSED) == 0
    assert runner.counters.steps == 200


def test_calls_without_measurements_are_counted_by_their_own_time(policies):
    runner = PolicyRunner(policies["actions"], ROBOT)
    assert runner.step(5.002, state(5.0), at()).status == Status.OK
    # No new measurement: the next step is due 10 ms after the last one's, and this call comes 15 ms after it.
    assert not runner.step(5.015, state(5.0), at()).status & Status.BETWEEN
    # The measurement of 5.01 was only late: its step has been made.
    assert runner.step(5.016, state(5.010), at()).status == Status.BETWEEN
    assert not runner.step(5.022, state(5.020), at()).status & (Status.BETWEEN | Status.MISSED)
    assert runner.counters.time_backwards == 0


@needs_gcc
def test_calls_whose_time_is_no_time_count_the_same(policies):
    for engine in ("onnx", "c"):
        runner = PolicyRunner(policies["actions"], ROBOT, engine=engine, lost_steps=0)
        first = runner.step(1.0, state(1.0), at())
        for now in (math.nan, math.inf, -math.inf, -1.0, 1e30):
            step = runner.step(now, state(1.0), at())
            assert step.status == Status.TIME_BACKWARDS
            assert np.array_equal(step.action, first.action)
        runner.step(1.01, {}, at())
        assert runner.step(math.nan, {}, at()).status == Status.TIME_BACKWARDS | Status.LOST
        assert runner.counters.time_backwards == 6


def test_command_is_the_action_in_the_unit_of_the_contract(policies):
    runner = PolicyRunner(policies["actions"], ROBOT)
    step = runner.step(0.0, state(0.0, (0.3, -0.2, 0.1)), at())
    # low + (a + 1) / 2 (high - low) with low 0.04 and high 1
    assert step.command == pytest.approx(0.04 + 0.48 * (step.action + 1.0), abs=1e-6)
    assert runner.names == ("M1", "M2", "M3", "M4")
    assert runner.level == "throttle"
    assert runner.control_dt == 0.01


def test_the_policy_sees_its_position_relative_to_the_reference(policies):
    policy = policies["actions"]
    near, far = PolicyRunner(policy, ROBOT), PolicyRunner(policy, ROBOT)
    a = near.step(0.0, state(0.0, (0.1, 0.2, -0.1)), at())
    b = far.step(0.0, state(0.0, (5.1, -2.8, 6.9)), at((5.0, -3.0, 7.0)))
    assert np.abs(a.action - b.action).max() < 1e-6
    assert far.step(0.01, state(0.01), None).status == Status.STALE


def test_the_action_is_the_networks_own(policies):
    policy = policies["sensors"]
    runner = PolicyRunner(policy, ROBOT)
    # Quarter turn about z: body x along world y.
    half = math.sqrt(0.5)
    position, velocity, rate = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9]
    step = runner.step(0.0, state(0.0, position, (half, 0, 0, half), velocity, rate), at())
    rot = [0, -1, 0, 1, 0, 0, 0, 0, 1]
    x = np.array([[*position, *rot, *velocity * 3, *rate]], np.float32)
    assert np.abs(step.action - policy.act(x)[0]).max() < 1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: replace(c, robot="other"), "the policy is for robot 'other'"),
        (lambda c: replace(c, robot_hash="0" * 64), "hash 000000000000"),
        (
            lambda c: replace(c, action=tuple(reversed(c.action))),
            "commands M4, M3, M2, M1; allowed on this robot, in this order: M1, M2, M3, M4",
        ),
        (
            lambda c: replace(c, action=tuple(replace(a, high=1.1) for a in c.action)),
            "ranges from 0.04 to 1.1 -; allowed on this robot: 0.04 to 1",
        ),
        (
            lambda c: replace(c, action=tuple(replace(a, meaning="torque") for a in c.action)),
            "actions mean torque; allowed on this robot: throttle",
        ),
        (lambda c: replace(c, control_dt=2.0), "control_dt is 2 s; allowed: 0.0001 to 1"),
    ],
)
def test_configuring_refuses_what_is_not_for_this_robot(tmp_path, change, message):
    policy = flying["hover"](tmp_path / "p.onnx", past_actions=0, change=change)
    with pytest.raises(AlulaError, match=message):
        PolicyRunner(policy, ROBOT)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loop_dt": 0.011}, "period of 0.011 s; allowed: > 0 and at most the policy's 0.01"),
        ({"engine": "tvm"}, "unknown engine 'tvm'; known: onnx, c"),
        ({"lost_steps": -1}, "lost_steps is -1"),
        ({"stale": {"sonar": 0.1}}, "stale names 'sonar'"),
        ({"stale": {"rot_wb": math.nan}}, "stale age of 'rot_wb' is nan"),
    ],
)
def test_settings_are_checked(policies, settings, message):
    with pytest.raises(AlulaError, match=message):
        PolicyRunner(policies["actions"], ROBOT, **settings)
    PolicyRunner(policies["actions"], ROBOT, loop_dt=0.01)


def test_unknown_entries_are_refused_unless_passed(tmp_path):
    policy = flying["with_entries"](
        tmp_path / "p.onnx", [("rot_wb", 9), ("range_b", 2)], flying["rotors"](), ROBOT
    )
    with pytest.raises(AlulaError, match="wants to see 'range_b'; known on this robot: position_w"):
        PolicyRunner(policy, ROBOT)
    runner = PolicyRunner(policy, ROBOT, passed=["range_b"])
    samples = state(0.0)
    assert runner.step(0.0, samples).status == Status.STALE
    samples["range_b"] = Sample(value=np.array([0.1, 0.2]), stamp=0.01)
    assert runner.step(0.01, state(0.01) | samples).status == Status.OK


def test_an_entry_of_another_size_is_refused(tmp_path):
    policy = flying["with_entries"](
        tmp_path / "p.onnx", [("position_w", 2)], flying["rotors"](), ROBOT
    )
    with pytest.raises(AlulaError, match="entry 'position_w' has size 2; this robot gives 3"):
        PolicyRunner(policy, ROBOT)


def test_an_engine_that_does_not_reproduce_the_golden_sequences_is_refused(policies):
    policy = policies["actions"]
    golden = replace(policy.golden, action=policy.golden.action + np.float32(2e-5))
    with pytest.raises(AlulaError, match="does not reproduce the policy's golden sequences"):
        PolicyRunner(replace(policy, golden=golden), ROBOT)
    sound = PolicyRunner(policy, ROBOT)
    assert sound.self_test_difference <= 1e-5
    assert sound.counters.steps == 0


def test_limits_of_staleness_can_be_set(policies):
    runner = PolicyRunner(policies["actions"], ROBOT, stale={"position_w": 0.05})
    old = state(0.0)
    now = state(0.04) | {"position_w": old["position_w"]}
    assert runner.step(0.04, now, at()).status == Status.OK
    assert runner.step(0.05, state(0.01), at()).status == Status.STALE  # 40 ms > 30 ms


def arm_samples(stamp, names=("shoulder", "elbow"), position=(0.5, 1.0), velocity=(0.1, 0.2)):
    return {
        "joint_position": Sample(value=np.array(position), stamp=stamp, names=names),
        "joint_velocity": Sample(value=np.array(velocity), stamp=stamp, names=names),
        "joint_position_reference": Sample(value=np.array([1.0, 0.0]), stamp=stamp),
    }


@pytest.fixture(scope="module")
def reach(tmp_path_factory):
    entries = [("joint_position", 2), ("joint_velocity", 2), ("joint_position_error", 2)]
    path = tmp_path_factory.mktemp("arm") / "p.onnx"
    return flying["with_entries"](path, entries, flying["joints"](), ARM)


def test_joints_go_by_name_whatever_their_order(reach):
    runner = PolicyRunner(reach, ARM)
    wanted = reach.act(np.array([[0.5, 1.0, 0.1, 0.2, -0.5, 1.0]], np.float32))[0]
    assert np.abs(runner.step(0.0, arm_samples(0.0)).action - wanted).max() < 1e-6
    turned = arm_samples(0.01, ("elbow", "gripper", "shoulder"), (1.0, 9.0, 0.5), (0.2, 9.0, 0.1))
    step = runner.step(0.01, turned)
    assert step.status == Status.OK
    assert np.abs(step.action - wanted).max() < 1e-6
    # joint limits -2..2 and -1..3 at actions -1..1
    assert step.command == pytest.approx([2.0 * step.action[0], 1.0 + 2.0 * step.action[1]])


@pytest.mark.parametrize("names", [("elbow", "wrist"), ("elbow", "elbow"), ("shoulder",)])
def test_a_missing_or_doubled_joint_holds(reach, names):
    runner = PolicyRunner(reach, ARM)
    values = [0.5] * len(names)
    assert runner.step(0.0, arm_samples(0.0, names, values, values)).status == Status.STALE


def test_more_names_than_numbers_hold(reach):
    samples = arm_samples(0.0, ("shoulder", "elbow", "wrist"))
    assert PolicyRunner(reach, ARM).step(0.0, samples).status == Status.NOT_FINITE


def test_a_stream_of_odd_messages_fills_no_memory():
    sources = ArmSources(ARM, ())
    for k in range(100):
        names = ("shoulder", f"x{k}", "elbow")
        sample = Sample(value=np.array([1.0, 2.0, 3.0]), stamp=0.0, names=names)
        assert sources.in_order(sample) == [1.0, 3.0]
    assert len(sources._order) == 1


def test_arms_and_vehicles_are_told_apart(reach, tmp_path):
    actions = flying["joints"](meaning="throttle")
    policy = flying["with_entries"](tmp_path / "p.onnx", [("joint_position", 2)], actions, ARM)
    with pytest.raises(AlulaError, match="mean throttle; allowed on this robot: joint_position"):
        PolicyRunner(policy, ARM)


@pytest.mark.parametrize(
    ("names", "meanings", "level"),
    [
        (
            ("angular_velocity_x", "angular_velocity_y", "angular_velocity_z", "throttle"),
            ("angular_velocity_b",) * 3 + ("throttle",),
            "rates",
        ),
        (("velocity_x", "velocity_y", "velocity_z"), ("velocity_w",) * 3, "velocity"),
    ],
)
def test_higher_levels_of_command(tmp_path, names, meanings, level):
    low = [ROBOT.throttle_min if m == "throttle" else -1.0 for m in meanings]
    actions = tuple(
        ActionEntry(name=n, low=x, high=1.0, unit="-", meaning=m)
        for n, m, x in zip(names, meanings, low, strict=True)
    )
    policy = flying["with_entries"](tmp_path / "p.onnx", [("rot_wb", 9)], actions, ROBOT)
    assert PolicyRunner(policy, ROBOT).level == level


def test_importing_the_runner_loads_nothing_heavy():
    heavy = ("mujoco", "torch", "scipy", "matplotlib", "onnx", "onnxruntime", "rclpy")
    code = f"import sys, alula.deploy_ros2.runner; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
