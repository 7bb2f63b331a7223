"""The safety layer: every check at its edge, every transition, pairs of faults, and any sequence of inputs."""

import itertools
import math
from dataclasses import dataclass, replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from alula.deploy_ros2.checks import CHECKS
from alula.deploy_ros2.safety import Decision, Reaction, Safety, SafetyInputs, State
from alula.deploy_ros2.safety_config import SafetyConfig
from alula.deploy_ros2.samples import OBJECT, REFERENCES, Sample
from alula.deploy_ros2.steps import Status
from alula.errors import AlulaError

flying = run_path(str(Path(__file__).parent / "flying.py"))
state, at, ARM = flying["state"], flying["at"], flying["ARM"]
DT, T0 = 0.01, 100.0
VEHICLE = SafetyConfig()
JOINTS = SafetyConfig(
    kind="arm",
    joint_names=ARM.joint_names,
    joint_low=ARM.position_low,
    joint_high=ARM.position_high,
    joint_velocity_max=ARM.velocity_max,
    joint_effort_max=ARM.effort_max,
)
LOW, HIGH = np.zeros(4), np.ones(4)


def joint_state(stamp, position=(0.0, 1.0), velocity=(0.0, 0.0), effort=(0.0, 0.0), names=ARM.joint_names):  # fmt: skip
    values = {"joint_position": position, "joint_velocity": velocity, "joint_effort": effort}
    return {
        n: Sample(value=np.array(v, float), stamp=stamp, names=names) for n, v in values.items()
    }


def object_pose(stamp, position=(0.5, 0.0, 0.1), quat=(1.0, 0.0, 0.0, 0.0)):
    values = {"object_position_w": position, "object_quat_w": quat}
    return {n: Sample(value=np.array(v, float), stamp=stamp) for n, v in values.items()}


@dataclass
class Flight:
    """A safety layer with a clock; `cycle` is one that is well but for the changes."""

    config: SafetyConfig = VEHICLE
    now: float = T0

    def __post_init__(self):
        arm = self.config.kind == "arm"
        self.safety = Safety(
            self.config,
            np.array(ARM.position_low) if arm else LOW,
            np.array(ARM.position_high) if arm else HIGH,
        )

    def well(self, now):
        arm = self.config.kind == "arm"
        return SafetyInputs(
            now=now,
            samples=joint_state(now) if arm else state(now),
            status=0,
            command=np.array([0.0, 1.0]) if arm else np.full(4, 0.5),
            reference=None if arm else at(stamp=now),
            heartbeat_stamp=now,
            battery=0.9,
        )

    def cycle(self, *, dt=DT, **changes) -> Decision:
        self.now += dt
        inputs = self.well(self.now)
        samples = {**inputs.samples, **changes.pop("samples", {})}
        changes = {k: v(self.now) if callable(v) else v for k, v in changes.items()}
        for name in changes.pop("drop", ()):
            samples.pop(name)
        for name, value in changes.pop("values", {}).items():
            samples[name] = replace(samples[name], value=np.array(value, float))
        for name, stamp in changes.pop("stamps", {}).items():
            samples[name] = replace(samples[name], stamp=stamp)
        return self.safety.update(replace(inputs, **{"samples": samples, **changes}))

    def run(self, seconds, **changes) -> Decision:
        """Cycles for so long."""
        decisions = [self.cycle(**changes) for _ in range(round(seconds / DT))]
        return decisions[-1]


def codes(decision):
    return [r.code for r in decision.reasons]


def test_all_is_well():
    for config in (VEHICLE, JOINTS):
        flight = Flight(config)
        decision = flight.run(3.0)
        assert (decision.state, decision.reaction) == (State.POLICY, Reaction.NONE)
        assert decision.reasons == ()
        assert decision.text == "policy: no check applies"
        assert decision.hold_target is None
        assert not any(decision.counts.values())


def quat_of_tilt(angle):
    return (math.cos(angle / 2), math.sin(angle / 2), 0.0, 0.0)


# Inputs whose measured value is v, for each check whose value is a measurement of one cycle.
VEHICLE_EDGES = {
    "tumbling_tilt": (lambda v: {"values": {"quat_wb": quat_of_tilt(v)}}, 2.1, 1e-6),
    "tilt": (lambda v: {"values": {"quat_wb": quat_of_tilt(v)}}, 1.2, 1e-6),
    "tumbling_rate": (lambda v: {"values": {"angular_velocity_b": (0, v, 0)}}, 30.0, 1e-6),
    "body_rate": (lambda v: {"values": {"angular_velocity_b": (0, 0, -v)}}, 15.0, 1e-6),
    "speed": (lambda v: {"values": {"velocity_w": (0, v * 0.6, v * 0.8)}}, 5.0, 1e-6),
    "geofence_far": (lambda v: {"values": {"position_w": (50 + v, 0, 0)}, "reference": at((50 + v, 0, 0), 1e9)}, 2.0, 1e-6),
    "geofence": (lambda v: {"values": {"position_w": (0, -50 - v, 0)}}, 0.0, 1e-6),
    "reference_far": (lambda v: {"values": {"position_w": (v, 0, 0)}}, 1.5, 1e-6),
    "battery_low": (lambda v: {"battery": 0.3 - v}, 0.15, 1e-6),
    "battery_warning": (lambda v: {"battery": 0.6 - v}, 0.3, 1e-6),
    "stall": (lambda v: {"lateness": v}, 0.1, 1e-6),
    "stall_lost": (lambda v: {"lateness": v}, 0.5, 1e-6),
    "deadline": (lambda v: {"lateness": v}, 0.005, 1e-6),
    "attitude_stale": (lambda v: {"stamps": lambda now: {"quat_wb": now - v}}, 0.06, 1e-6),
    "attitude_lost": (lambda v: {"stamps": lambda now: {"angular_velocity_b": now - v}}, 0.25, 1e-6),
    "position_stale": (lambda v: {"stamps": lambda now: {"position_w": now - v}}, 0.1, 1e-6),
    "position_lost": (lambda v: {"stamps": lambda now: {"velocity_w": now - v}}, 0.5, 1e-6),
    "future": (lambda v: {"stamps": lambda now: {"position_w": now + v}}, 0.02, 1e-6),
    "heartbeat": (lambda v: {"heartbeat_stamp": lambda now: now - v}, 1.0, 1e-6),
    "heartbeat_lost": (lambda v: {"heartbeat_stamp": lambda now: now - v}, 5.0, 1e-6),
    "reference_stale": (lambda v: {"reference": lambda now: at(stamp=now - v)}, 0.5, 1e-6),
    "reference_lost": (lambda v: {"reference": lambda now: at(stamp=now - v)}, 5.0, 1e-6),
    "command": (lambda v: {"command": np.array([0.5, 1.0 + v, 0.5, 0.5])}, 1e-5, 1e-6),
    "self_test": (lambda v: {"self_test_ok": v <= 0}, 0.0, 1e-6),
    "policy_held": (lambda v: {"status": int(Status.STALE) if v > 0 else 0}, 0.0, 1e-6),
    "policy_lost": (lambda v: {"status": int(Status.LOST) if v > 0 else 0}, 0.0, 1e-6),
    "policy_damaged": (lambda v: {"status": int(Status.DAMAGED) if v > 0 else 0}, 0.0, 1e-6),
    "policy_failed": (lambda v: {"status": None if v > 0 else 0}, 0.0, 1e-6),
    "not_finite": (lambda v: {"values": {"position_w": (0, 0, math.nan if v > 0 else 0)}}, 0.0, 1e-6),
    "operator": (lambda v: {"operator": Reaction.HOLD if v > 0 else Reaction.WARN}, 0.0, 1e-6),
}  # fmt: skip
ARM_EDGES = {
    "joint_position": (lambda v: {"values": {"joint_position": (2.0 + v, 1.0)}}, 0.01, 1e-6),
    "joint_velocity": (lambda v: {"values": {"joint_velocity": (0.0, -4.0 * v)}}, 1.0, 1e-6),
    "joint_stale": (lambda v: {"stamps": lambda now: {"joint_position": now - v}}, 0.05, 1e-6),
    "joint_lost": (lambda v: {"stamps": lambda now: {"joint_position": now - v}}, 0.5, 1e-6),
    "object_stale": (lambda v: {"samples": object_pose(T0 + DT - v)}, 0.2, 1e-6),
    "joint_missing": (
        lambda v: {"samples": joint_state(T0, names=("shoulder", "wrist" if v > 0 else "elbow"))},
        0.0,
        1e-6,
    ),
    "reference_stale": (lambda v: {"samples": lambda now: None}, 0.5, 1e-6),
}
EDGES = {("multirotor", c): e for c, e in VEHICLE_EDGES.items()}
EDGES |= {("arm", c): e for c, e in ARM_EDGES.items() if c != "reference_stale"}
BY_CODE = {c.code: c for c in CHECKS}


@pytest.mark.parametrize(("kind", "code"), EDGES)
def test_every_check_at_its_edge(kind, code):
    make, limit, step = EDGES[kind, code]
    config = VEHICLE if kind == "multirotor" else JOINTS
    for beyond in (False, True):
        flight = Flight(config)
        decision = flight.cycle(**make(limit + (step if beyond else -step)))
        assert (code in codes(decision)) == beyond, decision.text
        if beyond:
            reason = next(r for r in decision.reasons if r.code == code)
            assert reason.reaction == BY_CODE[code].reaction
            assert code in decision.text
            assert decision.counts[code] == 1
            assert decision.state >= (reason.reaction if reason.reaction > Reaction.WARN else 0)


def test_every_check_has_a_test_of_its_edge():
    elsewhere = {
        "rejected", "out_of_order", "position_jump", "attitude_jump", "joint_jump", "clock_jump", "saturation",
        "slew", "deadlines", "policy_blind", "joint_effort", "hold_limit", "land_limit",
    }  # fmt: skip
    assert {code for _, code in EDGES} | elsewhere == set(BY_CODE)
    source = Path(__file__).read_text()
    for code in elsewhere:
        assert source.count(f'"{code}"') >= 2, f"{code} has no test"


def test_jumps():
    flight = Flight()
    flight.run(0.1)
    # 0.3 m and what 10 m/s^2 makes in 10 ms, 0.5 mm
    assert flight.cycle(values={"position_w": (0.3004, 0, 0)}).state is State.POLICY
    decision = flight.cycle(values={"position_w": (-0.001, 0, 0)})
    assert codes(decision) == ["position_jump"]
    assert decision.reasons[0].value == pytest.approx(0.3014 - 0.0005, abs=1e-6)
    # what the velocity explains is no jump
    flight = Flight()
    fast = {"velocity_w": (4.0, 0, 0)}
    flight.cycle(values=fast)
    assert flight.cycle(values=fast | {"position_w": (0.34, 0, 0)}).state is State.POLICY
    # 0.7 rad beside 15 rad/s for 10 ms
    flight = Flight()
    flight.cycle()
    assert flight.cycle(values={"quat_wb": quat_of_tilt(0.845)}).state is State.POLICY
    assert codes(flight.cycle(values={"quat_wb": quat_of_tilt(-0.01)})) == ["attitude_jump"]
    # 0.1 rad beside 2 rad/s for 10 ms
    flight = Flight(JOINTS)
    flight.cycle()
    assert flight.cycle(values={"joint_position": (0.119, 1.0)}).state is State.POLICY
    assert codes(flight.cycle(values={"joint_position": (-0.002, 1.0)})) == ["joint_jump"]


def test_a_jump_moves_the_target_of_a_hold_and_never_recovers():
    flight = Flight()
    flight.run(0.1)
    decision = flight.cycle(values={"position_w": (2.0, 0, 0)})
    assert decision.changed
    assert decision.hold_target == pytest.approx([2, 0, 0])
    decision = flight.cycle(values={"position_w": (0, 0, 0)})
    assert decision.changed
    assert decision.hold_target == pytest.approx([0, 0, 0])
    assert flight.run(5.0).state is State.HOLD


def test_clock_jumps():
    for dt, value in ((0.251, 0.251), (-0.001, 0.251), (-50.0, 50.25), (3600.0, 3600.0)):
        flight = Flight()
        flight.run(0.1)
        decision = flight.cycle(dt=dt)
        assert codes(decision) == ["clock_jump"], dt
        assert decision.reasons[0].value == pytest.approx(value)
        assert flight.run(0.9).state is State.HOLD
        assert flight.run(0.2).state is State.POLICY
    flight = Flight()
    flight.run(0.1)
    assert flight.cycle(dt=0.249).state is State.POLICY


@pytest.mark.parametrize("now", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_none(now):
    flight = Flight()
    flight.run(0.1)
    inputs = flight.well(flight.now)
    decision = flight.safety.update(replace(inputs, now=now))
    assert codes(decision) == ["clock_jump"]
    assert flight.safety.update(replace(inputs, now=flight.now + DT)).state is State.HOLD


def test_refused_samples():
    flight = Flight()
    flight.run(0.1)
    old = flight.now - 0.05
    for k in range(5):
        decision = flight.cycle(stamps={"position_w": old - 0.001 * k})
        assert codes(decision) == ["out_of_order"]
        assert decision.reaction is Reaction.WARN
        assert decision.state is State.POLICY
    assert "rejected" in codes(flight.cycle(stamps={"position_w": old - 0.1}))
    # the same sample again and again is refused once
    flight = Flight()
    flight.run(0.1)
    bad = Sample(value=np.full(3, np.nan), stamp=flight.now + 0.005)
    decisions = [flight.cycle(samples={"position_w": bad}) for _ in range(9)]
    assert all(d.state is State.POLICY for d in decisions)
    assert [codes(d) for d in decisions[:2]] == [["not_finite"], []]
    assert decisions[-1].counts["not_finite"] == 1


def test_refused_samples_reach_nobody():
    flight = Flight()
    flight.run(0.1)
    flight.cycle(values={"position_w": (math.nan, 0, 0)})
    assert np.isfinite(flight.safety.samples["position_w"].value).all()
    assert flight.safety.samples["velocity_w"].stamp == flight.now


def test_what_lasts_too_long():
    flight = Flight()
    saturated = {"status": int(Status.SATURATED)}
    assert flight.run(0.49, **saturated).state is State.POLICY
    assert codes(flight.run(0.03, **saturated)) == ["saturation"]
    # a loop faster than the policy: the calls between count on
    flight = Flight()
    for k in range(55):
        decision = flight.cycle(status=int(Status.BETWEEN if k % 2 else Status.SATURATED))
    assert codes(decision) == ["saturation"]
    flight = Flight()
    for k in range(30):
        decision = flight.cycle(command=np.full(4, 0.61 * (k % 2)))
        assert k in (20, 21) or (decision.state is State.POLICY) == (k < 20), k
    assert codes(decision) == ["slew"]
    flight = Flight()
    for _ in range(10):
        decision = flight.cycle(lateness=0.0051)
        assert codes(decision) == ["deadline"]
    assert codes(flight.cycle(lateness=0.0051)) == ["deadlines", "deadline"]
    flight = Flight(JOINTS)
    strain = {"values": {"joint_effort": (0.0, -5.1)}}
    flight.cycle()
    assert flight.run(0.09, **strain).state is State.POLICY
    assert codes(flight.run(0.03, **strain)) == ["joint_effort"]


def test_commands_that_are_no_commands():
    for command in (np.full(4, np.nan), np.array([0.5, np.inf, 0.5, 0.5]), np.zeros(3)):
        flight = Flight()
        decision = flight.cycle(command=command)
        assert codes(decision) == ["command"]
        assert flight.run(5.0).state is State.HOLD  # does not recover


def test_a_hold_ends_after_a_second_of_quiet_and_not_too_often():
    flight = Flight()
    for k in range(3):
        assert flight.cycle(values={"velocity_w": (5.1, 0, 0)}).state is State.HOLD
        # hysteresis: below 0.8 of the limit, 4 m/s
        assert "speed" in codes(flight.cycle(values={"velocity_w": (4.01, 0, 0)}))
        assert codes(flight.cycle(values={"velocity_w": (3.99, 0, 0)})) == []
        assert flight.run(0.97).state is State.HOLD
        decision = flight.run(0.03)
        assert decision.state is State.POLICY, k
        assert decision.counts["speed"] == k + 1
    assert flight.cycle(values={"velocity_w": (5.1, 0, 0)}).state is State.HOLD
    assert flight.run(9.9).state is State.HOLD
    decision = flight.run(0.2)
    assert (decision.state, codes(decision)) == (State.LAND, [])
    assert decision.counts["hold_limit"] == 1


def test_a_hold_that_does_not_clear_becomes_a_landing_and_that_the_release():
    flight = Flight(replace(VEHICLE, land_limit=2.0))
    fast = {"values": {"velocity_w": (5.1, 0, 0)}}
    flight.run(10.0, **fast)
    assert flight.safety.state is State.HOLD
    decision = flight.run(0.05, **fast)
    assert decision.state is State.LAND
    assert decision.hold_target is not None
    flight.run(1.9)
    assert flight.safety.state is State.LAND  # quiet changes nothing any more
    decision = flight.run(0.2)
    assert decision.state is State.RELEASE
    assert decision.counts["land_limit"] == 1
    assert flight.run(100.0).state is State.RELEASE


def test_an_arm_is_released_where_a_vehicle_would_land():
    flight = Flight(JOINTS)
    decision = flight.cycle(self_test_ok=False)
    assert decision.state is State.RELEASE
    flight = Flight(replace(JOINTS, hold_limit=1.0))
    flight.cycle(operator=Reaction.HOLD)
    assert flight.run(1.1, operator=Reaction.HOLD).state is State.RELEASE


def test_on_the_ground_a_landing_is_motors_off():
    flight = Flight()
    assert flight.run(1.0, landed=True).state is State.POLICY
    assert flight.cycle(operator=Reaction.LAND).state is State.LAND
    assert flight.cycle(landed=True).state is State.STOP
    assert flight.run(10.0).state is State.STOP
    assert Flight().cycle(battery=0.1, landed=True).state is State.STOP
    # The autopilot has a released vehicle: nothing is sent, not even on the ground.
    flight = Flight()
    assert flight.cycle(operator=Reaction.RELEASE).state is State.RELEASE
    assert flight.cycle(landed=True, battery=0.1).state is State.RELEASE


@pytest.mark.parametrize("first", [Reaction.NONE, *list(Reaction)[2:]])
@pytest.mark.parametrize("second", list(Reaction)[2:])
def test_the_operator_escalates_and_never_calms(first, second):
    flight = Flight()
    flight.cycle(operator=first)
    assert flight.cycle(operator=second).state == max(first, second)
    assert flight.cycle(operator=17).state >= State.HOLD


def test_a_policy_repeats_its_last_action_for_two_steps_only():
    flight = Flight()
    flight.run(0.1)
    assert flight.cycle(status=int(Status.NOT_FINITE)).state is State.POLICY
    assert flight.cycle().state is State.POLICY
    assert flight.cycle(status=int(Status.STALE)).state is State.POLICY
    # 10, 4, 6 and 10 ms make more than 25 ms; a call between two steps counts on
    assert flight.cycle(dt=0.004, status=int(Status.BETWEEN)).state is State.POLICY
    assert flight.cycle(dt=0.006, status=int(Status.STALE)).state is State.POLICY
    decision = flight.cycle(status=int(Status.STALE))
    assert codes(decision) == ["policy_blind", "policy_held"]
    assert decision.state is State.HOLD
    assert decision.reasons[0].value == pytest.approx(0.03)


def test_a_hold_ends_near_the_reference_only():
    flight = Flight()
    flight.cycle(operator=Reaction.HOLD)
    far = {"reference": lambda now: at((0.31, 0, 0), now)}
    assert flight.run(3.0, **far).state is State.HOLD
    assert flight.cycle(reference=lambda now: at((0.29, 0, 0), now)).state is State.POLICY


def test_what_is_refused_a_policy_does_not_see():
    safety = Safety(VEHICLE)
    good = state(T0, (1.0, 2.0, 3.0))
    other = Sample(value=np.zeros(2), stamp=T0)
    assert safety.take(T0, good | {"other": other}) == good | {"other": other}
    later = T0 + DT
    bad = {
        "position_w": Sample(value=np.array([math.nan, 0, 0]), stamp=later),
        "velocity_w": Sample(value=np.array([1e30, 0, 0]), stamp=later),
        "quat_wb": Sample(value=np.array([1.0, 0, 0, 0]), stamp=T0 - DT),
        "angular_velocity_b": Sample(value=np.zeros(3), stamp=later + 0.5),
    }
    assert safety.take(later, bad) == good
    inputs = Flight().well(later)
    decision = safety.update(replace(inputs, samples=bad))
    assert {"not_finite", "out_of_order", "future"} <= set(codes(decision))
    # looked at once: a second look would find the same stamps and nothing new
    assert decision.counts["not_finite"] == 1
    # without take, update looks itself
    decision = safety.update(replace(Flight().well(later + DT), samples=state(later + DT)))
    assert codes(decision) == ["position_jump"]


def test_reset_begins_anew():
    flight = Flight()
    flight.cycle(operator=Reaction.STOP)
    flight.safety.reset()
    decision = flight.cycle()
    assert decision.state is State.POLICY
    assert not any(decision.counts.values())


def test_the_target_of_a_hold_lies_inside_the_limits():
    flight = Flight()
    far = {"values": {"position_w": (51.0, 0, 31.0)}, "reference": at((51, 0, 31), 1e9)}
    decision = flight.cycle(**far)
    assert codes(decision)[0] == "geofence"
    assert decision.hold_target == pytest.approx([50, 0, 30])
    flight = Flight(JOINTS)
    decision = flight.cycle(values={"joint_position": (2.1, 1.0)})
    assert decision.hold_target == pytest.approx([2.0, 1.0])


def test_nothing_ever_came():
    flight = Flight()
    nothing = {"drop": tuple(state(0.0)), "reference": None, "heartbeat_stamp": None}
    decision = flight.cycle(**nothing)
    assert decision.state is State.POLICY  # ages count from the first cycle
    assert flight.run(0.08, **nothing).state is State.HOLD
    assert flight.safety.update(flight.well(flight.now)).hold_target is None
    assert flight.run(0.3, **nothing).state is State.RELEASE


def test_joints_by_name_in_any_order():
    flight = Flight(JOINTS)
    turned = {"samples": {}}
    for _ in range(10):
        now = flight.now + DT
        turned["samples"] = joint_state(
            now, (9.0, 1.0, 0.0), (0, 0, 0), (0, 0, 0), ("x", "elbow", "shoulder")
        )
        decision = flight.cycle(**turned)
    assert decision.state is State.POLICY


def test_an_arms_reference_counts_once_it_has_come():
    flight = Flight(JOINTS)
    assert flight.run(2.0).state is State.POLICY
    given = {"joint_position_reference": Sample(value=np.zeros(2), stamp=flight.now)}
    assert flight.run(0.4, samples=given).state is State.POLICY
    assert codes(flight.run(0.15, samples=given)) == ["reference_stale"]


def test_of_several_references_the_oldest_counts():
    flight = Flight(JOINTS)
    old = {"goal_quat_w": Sample(value=np.array([1.0, 0, 0, 0]), stamp=flight.now)}
    for k in range(52):
        stamp = flight.now + DT
        new = {"goal_position_w": Sample(value=np.zeros(3), stamp=stamp)}
        decision = flight.cycle(samples=old | new)
        if k < 49:
            assert decision.state is State.POLICY
    assert codes(decision) == ["reference_stale"]


def test_an_objects_pose_counts_once_it_has_come():
    flight = Flight(JOINTS)
    assert flight.run(2.0).state is State.POLICY
    here = object_pose(flight.now)
    assert flight.run(0.19, samples=here).state is State.POLICY
    decision = flight.run(0.02, samples=here)
    assert codes(decision) == ["object_stale"]
    assert decision.state is State.HOLD
    # It is seen again; a second later the hold ends.
    for k in range(102):
        decision = flight.cycle(samples=object_pose(flight.now + DT))
        assert decision.state is (State.HOLD if k < 99 else State.POLICY), k


@pytest.mark.parametrize(
    "bad",
    [
        {"position": (0.5, math.nan, 0.1)},
        {"position": (0.5, 0.1)},
        {"position": (0.5, 1e10, 0.1)},
        {"quat": (0.0, 0.0, 0.0, 0.0)},
        {"quat": (1.0, 1.0, 0.0, 0.0)},
    ],
)
def test_an_objects_pose_that_is_none_is_not_used_and_counted(bad):
    flight = Flight(JOINTS)
    flight.cycle(samples=object_pose(flight.now + DT))
    for k in range(7):
        now = flight.now + DT
        samples = joint_state(now) | object_pose(now, **bad)
        taken = flight.safety.take(now, samples)
        assert all(np.isfinite(taken[n].value).all() for n in OBJECT)
        (name,) = (n for n in OBJECT if taken[n].stamp < now)
        assert taken[name].stamp == T0 + DT
        decision = flight.cycle(samples=object_pose(now, **bad))
        assert codes(decision) == (["not_finite"] if k < 5 else ["rejected", "not_finite"])
    assert decision.state is State.HOLD
    assert decision.counts["not_finite"] == 1


UNUSED = {"future", "not_finite", "joint_missing", "policy_failed"}
"""Checks that say that a sample or the runner's answer is not used."""
FAULTS = {
    (kind, code): make(limit + 1e-3 if limit else 1.0)
    for (kind, code), (make, limit, _) in EDGES.items()
}


def merged(a, b, now):
    """Both changes at once; those of b win where they touch the same."""
    result = {}
    for change in (a, b):
        for key, value in change.items():
            value = value(now) if key in ("stamps",) and callable(value) else value
            if isinstance(value, dict):
                result[key] = {**result.get(key, {}), **value}
            else:
                result[key] = value
    return result


@pytest.mark.parametrize("kind", ["multirotor", "arm"])
def test_of_two_faults_at_once_the_more_severe_wins(kind):
    """Every pair: the state is the higher of both alone, and reasons stand in order."""
    config = VEHICLE if kind == "multirotor" else JOINTS
    faults = {code: change for (k, code), change in FAULTS.items() if k == kind}
    alone = {code: Flight(config).cycle(**change) for code, change in faults.items()}
    for a, b in itertools.permutations(faults, 2):
        flight = Flight(config)
        decision = flight.cycle(**merged(faults[a], faults[b], flight.now + DT))
        found = {a, b} & set(codes(decision))
        # A sample that is not used is not measured, and two changes may touch the same input.
        if not {a, b} & UNUSED:
            assert b in found, (a, b)
        assert found
        assert decision.state >= max(alone[code].state for code in found)
        reactions = [r.reaction for r in decision.reasons]
        assert reactions == sorted(reactions, reverse=True)
        assert decision.state == max(
            0 if r == Reaction.WARN else _state(r, kind) for r in reactions
        )


def _state(reaction, kind):
    return Reaction.RELEASE if kind == "arm" and reaction is Reaction.LAND else reaction


ANY = st.floats(allow_nan=True, allow_infinity=True)
NEAR = st.floats(-2.0, 2.0) | ANY
STAMP = st.sampled_from([0.0, 0.0, 0.0, 0.0, -0.03, -0.2, 0.01, 0.5, -3.0]) | ANY


ARM_NAMES = sorted([*joint_state(0), *OBJECT, *REFERENCES])


@st.composite
def storms(draw):
    """Sequences of cycles in which anything may be anything."""
    arm = draw(st.booleans())
    cycles = []
    for _ in range(draw(st.integers(1, 25))):
        change = {"dt": draw(st.sampled_from([0.01, 0.01, 0.01, 0.2, 1.2, 0.0, -0.1]) | ANY)}
        change["samples"] = {
            name: (draw(st.lists(NEAR, max_size=5)), draw(STAMP))
            for name in draw(st.sets(st.sampled_from(ARM_NAMES if arm else sorted(state(0)))))
        }
        if draw(st.booleans()):
            change["status"] = draw(st.none() | st.integers(0, 1023))
            change["command"] = draw(st.none() | st.lists(NEAR, max_size=5))
            change["battery"] = draw(st.none() | NEAR)
            change["lateness"] = draw(NEAR)
            change["heartbeat_stamp"] = draw(st.none() | ANY)
            change["landed"] = draw(st.booleans())
            change["operator"] = draw(st.sampled_from([0, 0, 0, 1, 2, 3, 4, 5, 99, -1]))
            change["self_test_ok"] = draw(st.booleans() | st.just(True))
            change["reference"] = draw(st.none() | st.lists(ANY, min_size=4, max_size=4))
        cycles.append(change)
    return arm, cycles


def flown(arm, cycles):
    """Decisions of a storm, with the inputs' time."""
    flight = Flight(JOINTS if arm else VEHICLE)
    now = T0
    for change in cycles:
        change = dict(change)
        dt = change.pop("dt")
        now = now + dt if math.isfinite(now + dt) else now
        inputs = flight.well(now)
        samples = dict(inputs.samples)
        for name, (value, offset) in change.pop("samples").items():
            names = ARM.joint_names if arm else None
            samples[name] = Sample(value=np.array(value), stamp=now + offset, names=names)
        if change.get("command") is not None:
            change["command"] = np.array(change["command"])
        if change.get("reference") is not None:
            *p, stamp = change["reference"]
            change["reference"] = at(p, stamp, p, p)
        fields = {k: v for k, v in change.items() if v is not None or k in ("status", "reference")}
        time = now if math.isfinite(dt) else dt
        inputs = replace(inputs, now=time, samples=samples, **fields)
        yield inputs, flight.safety.update(inputs)


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
@given(storms())
def test_whatever_comes_the_answer_is_defined_and_only_a_quiet_hold_ends(storm):
    before, quiet, ended = State.POLICY, 0.0, 0
    last = None
    for inputs, decision in flown(*storm):
        assert decision.state in State
        assert decision.reaction in Reaction
        severe = [r for r in decision.reasons if r.reaction >= Reaction.HOLD]
        quiet = 0.0 if severe else quiet + (inputs.now - last if last is not None else 0.0)
        last = inputs.now
        if decision.state < before:
            # Documented: a hold ends after recover_after without a reason, three times at most.
            assert (before, decision.state) == (State.HOLD, State.POLICY)
            assert quiet >= VEHICLE.recover_after - 1e-6
            ended += 1
        assert ended <= VEHICLE.recoveries
        if severe and before < State.RELEASE:
            assert decision.state >= min(severe[0].reaction, State.RELEASE)
        assert not (storm[0] and decision.state is State.LAND)
        if decision.hold_target is not None:
            assert np.isfinite(decision.hold_target).all()
        assert "\n" not in decision.text
        before = decision.state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "boat"}, "kind is 'boat'; allowed: multirotor, arm"),
        ({"tilt": 4.0}, r"tilt is 4\.0 rad; allowed: 0\.1 to 3\.14159"),
        ({"speed": math.nan}, "speed is nan m/s; allowed: 0.1 to 100"),
        ({"speed": math.inf}, "speed is inf"),
        ({"speed": True}, "speed is True"),
        ({"position_age": 0.6}, r"position_age is 0\.6; allowed: at most position_lost, 0\.5"),
        ({"fence_low": (0.0, 0.0)}, "fence_low is .*; allowed: 3 finite numbers"),
        ({"fence_low": (0.0, 60.0, 0.0)}, r"fence_low holds 60\.0; allowed: less than fence_high, 50\.0"),
        ({"joint_low": (1.0,)}, "joint_low is .*; allowed: 0 finite numbers"),
        ({"kind": "arm"}, "joint_names are"),
    ],
)  # fmt: skip
def test_parameters_are_checked(change, message):
    with pytest.raises(AlulaError, match=message):
        replace(VEHICLE, **change)


def test_checks_that_may_be_switched_off():
    off = replace(VEHICLE, heartbeat_age=math.inf, heartbeat_lost=math.inf, hold_limit=math.inf)
    flight = Flight(off)
    assert flight.run(10.0, heartbeat_stamp=None).state is State.POLICY


def test_a_range_of_commands_that_is_none():
    with pytest.raises(AlulaError, match="allowed: low < high, each"):
        Safety(VEHICLE, np.ones(4), np.ones(4))
    with pytest.raises(AlulaError, match="allowed: low < high, each"):
        Safety(VEHICLE, np.zeros(3), np.ones(4))
