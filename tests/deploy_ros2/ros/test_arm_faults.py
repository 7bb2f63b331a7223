"""Faults of an arm that is on its way to a goal: what the wire shows, and within how many milliseconds.

Every fault meets an arm that moves at about 1 rad/s. Nothing unsafe may be sent: no number that is not finite, none
beyond the limits, no command farther than one step of the policy from the one before.
"""

import math
import signal
import time
from contextlib import suppress
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

pytest.importorskip("rclpy")
HERE = Path(__file__).parent
flight = run_path(str(HERE / "arm_flight.py"))
reach = run_path(str(HERE.parent / "reach.py"))
flying = run_path(str(HERE.parent / "flying.py"))
ArmFlight, until, ARM, HOME = flight["ArmFlight"], flight["until"], flight["ARM"], flight["HOME"]
STEP = flight["CONTROL_DT"]
GOAL = HOME + np.array([1.8, -0.5, 0.6, -0.8, 1.0, 1.5])
UNDER_WAY = 0.5
"""Time from the goal to the fault [s]."""
LATE = 0.3
"""What a busy computer may add to any reaction [s]; on an idle one it is a few milliseconds."""
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    path = tmp_path_factory.mktemp("arm") / "policy.onnx"
    reach["scripted_policy"](path, ARM)
    return path


@pytest.fixture
def moving(policy, tmp_path):
    """Makes flights with the arm on its way; whatever happens, their processes end with the test."""
    made = []

    def make(**options):
        for _ in range(3):
            f = ArmFlight(policy, tmp_path, **options)
            made.append(f)
            with suppress(TimeoutError):
                f.begin()
                sent = f.send_goal(GOAL)
                under_way = lambda f=f, t=sent: time.time() - t > UNDER_WAY and far(f)  # noqa: E731
                until(lambda f=f, u=under_way: u() or f.state() == "release", "the arm under way")
                if f.state() == "policy":
                    return f
            # A busy computer made a fault of its own; once more.
            f.__exit__(made.pop())
        raise RuntimeError("a computer too busy for any flight")

    yield make
    for f in made:
        # With what the nodes said; it is shown where a test failed.
        f.__exit__(True)


def far(f) -> bool:
    """Whether the arm has left home, and has far to go."""
    return bool(0.1 < f.position()[0] - HOME[0] < 1.4)


def arrived(f) -> bool:
    return bool(np.abs(f.position() - GOAL).max() < 5e-3)


def wait(began: float, seconds: float) -> None:
    until(lambda: time.time() - began > seconds, "time to pass")


def report(name: str, f, began: float, state: str) -> float:
    """Print and return how long the reaction took [s]."""
    told = f.reaction(began, state)
    print(
        f"\n{name}: {state} told after {1e3 * told:.0f} ms, last moving command after {1e3 * f.last_change(began):.0f} ms"
    )
    assert f.unsafe(STEP) == []
    return told


# How joint states are tampered with: each takes a message and the time since the fault began [s]


def permuted(m, t):
    order = list(reversed(range(len(m.name))))
    for key in ("name", "position", "velocity", "effort"):
        values = getattr(m, key)
        setattr(m, key, [values[i] for i in order])
    return [m]


def without_elbow(m, t):
    k = list(m.name).index("elbow_joint")
    for key in ("name", "position", "velocity", "effort"):
        setattr(m, key, [x for i, x in enumerate(getattr(m, key)) if i != k])
    return [m]


def elbow_twice(m, t):
    m.name = ["elbow_joint" if n == "wrist_3_joint" else n for n in m.name]
    return [m]


def on_joint(key, change, joint="wrist_2_joint"):
    def tamper(m, t):
        values = list(getattr(m, key))
        k = list(m.name).index(joint)
        values[k] = change(values[k])
        setattr(m, key, values)
        return [m]

    return tamper


def only(tamper, seconds):
    return lambda m, t: tamper(m, t) if t < seconds else [m]


def nothing(m, t):
    return []


def later(by):
    def tamper(m, t):
        ns = m.header.stamp.sec * 10**9 + m.header.stamp.nanosec + round(1e9 * by)
        m.header.stamp.sec, m.header.stamp.nanosec = divmod(ns, 10**9)
        return [m]

    return tamper


def test_joints_in_another_order_change_nothing(moving):
    f = moving()
    began = f.tamper(permuted)
    until(lambda: arrived(f), "the goal")
    assert f.codes(began) == set()
    assert f.unsafe(STEP) == []


HOLDS = [
    # name, tamper, check, least time until it applies
    ("a joint is missing", without_elbow, "joint_missing", 0.0),
    ("a joint is named twice", elbow_twice, "joint_missing", 0.0),
    ("effort beyond its limit", on_joint("effort", lambda x: 40.0), "joint_effort", 0.1),
    ("a joint jumps by 1 rad", on_joint("position", lambda x: x + 1.0), "joint_jump", 0.0),
    ("a joint beyond its limits", on_joint("position", lambda x: 6.5), "joint_position", 0.0),
    ("a joint too fast", on_joint("velocity", lambda x: 4.0), "joint_velocity", 0.0),
    ("NaN in a position", on_joint("position", lambda x: math.nan), "rejected", 0.0),
    ("infinity in a velocity", on_joint("velocity", lambda x: math.inf), "rejected", 0.0),
    ("no names", lambda m, t: [setattr(m, "name", []), m][1:], "joint_stale", 0.0),
    ("no positions", lambda m, t: [setattr(m, "position", []), m][1:], "joint_stale", 0.0),
    ("stamps 1 s from the future", later(1.0), "rejected", 0.0),
    ("no joint states", nothing, "joint_stale", 0.0),
]
"""Faults that end in a hold, and the check that finds them."""
AGES = {"joint_stale": 0.2, "rejected": 0.06}
"""Time that a check itself waits [s]: joint_age, six samples."""
QUICK = {"a joint is missing", "a joint jumps by 1 rad"}


@pytest.mark.parametrize(
    ("name", "tamper", "code", "least"),
    [pytest.param(*h, id=h[0], marks=() if h[0] in QUICK else slow) for h in HOLDS],
)
def test_bad_joint_states_hold_the_arm_where_it_is(moving, name, tamper, code, least):
    f = moving()
    began = f.tamper(tamper)
    until(lambda: f.reaction(began, "hold") < np.inf, "a hold")
    told = report(name, f, began, "hold")
    wait(began, told + 0.5)
    assert code in set().union(*(t.codes for t in f.record.policy if t.at >= began))
    limit = least + AGES.get(code, 0.0)
    assert told < limit + LATE
    # The set-point stops with the hold and stays: the arm comes to rest where it was last sent.
    assert f.last_change(began) < limit + LATE
    held = f.record.commands[-1].value
    until(lambda: np.abs(f.position() - held).max() < 5e-3, "rest")
    # At 1 rad/s no farther than the reaction and the servo's lag of 0.05 s allow
    begun = next(s.position for s in f.record.states if s.at >= began)
    assert np.abs(held - begun).max() < limit + LATE + 0.15
    assert f.unsafe(STEP) == []


@pytest.mark.parametrize(
    ("name", "tamper", "ends"),
    [
        pytest.param("a joint is missing for 0.3 s", only(without_elbow, 0.3), True, marks=slow),
        pytest.param("effort beyond its limit for 0.3 s", only(on_joint("effort", lambda x: 40.0), 0.3), True, marks=slow),
        pytest.param("no joint states for 0.4 s", only(nothing, 0.4), True, marks=slow),
        pytest.param("a joint jumps for 0.3 s", only(on_joint("position", lambda x: x + 1.0), 0.3), False, marks=slow),
    ],
)  # fmt: skip
def test_what_passes_lets_the_policy_go_on_but_a_jump_does_not(moving, name, tamper, ends):
    f = moving()
    began = f.tamper(tamper)
    until(lambda: f.reaction(began, "hold") < np.inf, "a hold")
    held = report(name, f, began, "hold")
    if ends:
        until(lambda: arrived(f), "the goal")
        assert f.reaction(began + held, "policy") > 0.9
    else:
        wait(began, 3.0)
        assert f.state() == "hold"
        assert not arrived(f)
    assert f.unsafe(STEP) == []


@slow
def test_lost_joint_states_release_the_arm(moving):
    f = moving(parameters={"safety.joint_lost": 1.5})
    began = f.tamper(nothing)
    until(lambda: f.reaction(began, "release") < np.inf, "the release")
    told = report("no joint states for ever", f, began, "release")
    # joint_lost is 1.5 s, from the last good measurement on
    assert 1.0 < told < 1.5 + 2 * LATE
    wait(began, told + 0.5)
    assert f.record.commands[-1].at - began < told + LATE
    held = f.record.commands[-1].value
    until(lambda: np.abs(f.position() - held).max() < 5e-3, "rest")
    # Good measurements again: it stays released.
    f.tamper(lambda m, t: [m])
    wait(began, told + 2.0)
    assert f.state() == "release"
    assert f.record.commands[-1].at - began < told + LATE


@slow
def test_a_hold_that_lasts_becomes_the_release(moving):
    f = moving(parameters={"safety.hold_limit": 1.0})
    began = f.tamper(on_joint("effort", lambda x: 40.0))
    until(lambda: f.reaction(began, "release") < np.inf, "the release")
    # effort_time 0.1 s and hold_limit 1 s
    assert 1.0 < report("effort for ever", f, began, "release") < 1.1 + 2 * LATE


def rests(f) -> np.ndarray:
    """Wait until the arm rests at the set-point that it was last sent, as the simulated robot tells; that (J)."""

    def told() -> list[np.ndarray]:
        return [np.array(list(map(float, t.values["set_point"].split()))) for t in f.record.sim[-2:]]  # fmt: skip

    def resting() -> bool:
        before, now = told()
        return bool((before == now).all()) and np.abs(f.position() - now).max() < 1e-3

    until(resting, "rest where it was sent")
    last = told()[-1]
    # What a killed node sent last may reach the robot and not the record, or the other way round. Four decimals are told.
    assert np.abs(f.record.commands[-1].value - last).max() < STEP + 1e-4
    return last


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=slow)], ids=["SIGKILL", "SIGTERM"]
)
def test_an_arm_whose_policy_node_is_killed_holds_its_last_command(moving, number):
    f = moving()
    began = f.signal("policy_node", number)
    f.processes["policy_node"].wait()
    last = rests(f)
    ended = max(0.0, f.record.commands[-1].at - began)
    print(f"\n{number.name}: last command after {1e3 * ended:.0f} ms")
    assert ended < LATE
    # For ever, as the simulated robot itself tells
    wait(began, 2.0)
    assert np.abs(f.position() - last).max() < 1e-3
    assert (rests(f) == last).all()
    assert not arrived(f)
    assert f.unsafe(STEP) == []


def test_a_policy_node_without_its_arm_holds_and_gives_up(moving):
    f = moving(parameters={"safety.joint_lost": 1.5})
    began = f.signal("sim_arm_node", signal.SIGKILL)
    until(lambda: f.reaction(began, "release") < np.inf, "the release")
    # The policy is lost after 10 held steps, measurements are old after joint_age, 0.2 s.
    assert report("the arm's process is gone", f, began, "hold") < 0.2 + LATE
    assert f.last_change(began) < 0.2 + LATE
    assert f.processes["policy_node"].alive


@slow
def test_a_policy_node_that_stood_still_for_long_does_not_go_on(moving):
    f = moving(parameters={"safety.stall": 0.4, "safety.stall_lost": 0.7})
    began = f.signal("policy_node", signal.SIGSTOP)
    wait(began, 1.5)
    assert rests(f) is not None
    woken = f.signal("policy_node", signal.SIGCONT)
    until(lambda: f.state() in ("hold", "release"), "the answer")
    wait(woken, 1.0)
    print(
        f"\nSIGSTOP for 1.5 s: {f.state()}, last command {f.record.commands[-1].at - woken:.3f} s after"
    )
    assert f.state() == "release"
    assert f.last_change(woken) < LATE
    assert f.unsafe(STEP) == []


@slow
def test_a_silent_operator_holds_the_arm(policy, tmp_path):
    with ArmFlight(policy, tmp_path, parameters={"heartbeat": True}) as f:
        f.heartbeat = True
        f.begin()
        sent = f.send_goal(GOAL)
        until(lambda: time.time() - sent > 0.3 and far(f), "the arm under way")
        f.heartbeat = False
        began = time.time()
        until(lambda: f.reaction(began, "hold") < np.inf, "a hold")
        # heartbeat_age is 1 s; the last one came up to 0.1 s before
        assert 0.8 < report("the operator is silent", f, began, "hold") < 1.0 + LATE


@slow
@pytest.mark.parametrize(
    "goal",
    [HOME + np.nan, np.where(np.arange(6) == 2, 4.0, HOME)],
    ids=["NaN", "beyond the limits"],
)
def test_a_goal_that_is_none_is_ignored(policy, tmp_path, goal):
    with ArmFlight(policy, tmp_path) as f:
        f.begin()
        sent = f.send_goal(goal)
        wait(sent, 1.0)
        assert np.abs(f.position() - HOME).max() < 5e-3
        assert f.codes(sent) == set()
        assert "ignored" in f.processes["policy_node"].text


def rival(f) -> float:
    """Another node may send commands for a while; how long it took until the diagnostics said so [s]."""
    from rclpy.qos import QoSProfile
    from std_msgs.msg import Float64MultiArray

    began = time.time()
    topic = "/forward_position_controller/commands"
    publisher = f.node.create_publisher(Float64MultiArray, topic, QoSProfile(depth=1))

    def told() -> list[float]:
        return [p.at for p in f.record.policy if p.at >= began and "second_commander" in p.codes]

    until(lambda: bool(told()), "a word about it")
    f.node.destroy_publisher(publisher)
    until(lambda: "second_commander" not in f.record.policy[-1].codes, "that it has gone")
    return told()[0] - began


@slow
def test_a_second_commander_is_told_of(moving):
    f, limit = moving(), 1.0 + LATE
    # Discovery takes its time, on a busy computer now and then a long one; diagnostics_period is 0.1 s.
    times = [rival(f)]
    while times[-1] >= limit and len(times) < 3:
        times.append(rival(f))
    print(f"\nsecond commander: told after {[round(1e3 * t) for t in times]} ms")
    assert times[-1] < limit


def refused(path, folder, **parameters) -> str:
    """What the node says when it refuses to be configured; nothing was sent."""
    with ArmFlight(path, folder, parameters=parameters) as f:
        node = f.process("policy_node")
        assert not f.transition("configure")
        assert node.alive
        assert f.record.commands == []
        lines = [line for line in node.text.splitlines() if "ERROR" in line]
    assert len(lines) == 1
    return lines[0]


def test_the_policy_of_another_robot_is_refused(policy, tmp_path):
    hover = tmp_path / "hover.onnx"
    flying["hover"](hover)
    assert "made for robot 'crazyflie'" in refused(hover, tmp_path)


@slow
def test_the_policy_of_an_arm_with_other_numbers_is_refused(policy, tmp_path):
    folder = Path(flight["load_arm"].__code__.co_filename).parent
    (tmp_path / "ur5e.xml").write_text((folder / "ur5e.xml").read_text())
    text = (folder / "ur5e.toml").read_text()
    (tmp_path / "ur5e.toml").write_text(text.replace("28.0,", "27.0,"))
    robot = str(tmp_path / "ur5e.toml")
    line = refused(policy, tmp_path, robot=robot)
    assert "made for robot 'ur5e' (hash" in line


@slow
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"robot": "ur6"}, "unknown arm 'ur6'; known: "),
        ({"adapter": "multirotor"}, "'ur5e' is an arm; allowed: "),
        ({"safety.joint_names": ("a", "b", "c", "d", "e", "f")}, "safety.joint_names are a, b, c"),
        ({"safety.joint_age": -1.0}, "joint_age is -1.0"),
        ({"ros2_control.joints": ("elbow_joint",)}, "ros2_control.joints are elbow_joint"),
        ({"ros2_control.controller": "impedance"}, "controller is 'impedance'; allowed: forward"),
    ],
)
def test_bad_parameters_are_refused_in_one_line(policy, tmp_path, parameters, message):
    assert message in refused(policy, tmp_path, **parameters)


@slow
def test_a_damaged_policy_file_is_refused(policy, tmp_path):
    data = bytearray(policy.read_bytes())
    data[len(data) // 2] ^= 0xFF
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(bytes(data))
    assert "not configured: policy file" in refused(broken, tmp_path)
