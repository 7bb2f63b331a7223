"""Flights of the PX4 module with a test in the place of PX4: into the mode, what is seen, trips."""

import shutil
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula.tasks import track

pytestmark = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("g++")), reason="no gcc and g++ to compile the module"
)
HERE = Path(__file__).parent
example = run_path(str(HERE.parent / "policies" / "example.py"))
driver = run_path(str(HERE / "px4_headers" / "driver.py"))
Px4, MODE = driver["Px4"], driver["MODE"]
NAN = np.nan


@pytest.fixture(scope="module", params=["descriptor", "template"])
def library(request, tmp_path_factory):
    """Throttle 0.2, 0.4, 0.6, 0.8 for M1 to M4, in both versions of PX4."""
    contract = example["make_contract"](past_actions=2)
    network = driver["constant_network"](contract, [-0.6, -0.2, 0.2, 0.6])
    return driver["build"](tmp_path_factory.mktemp("px4"), network, contract, request.param)


@pytest.fixture(scope="module")
def tracker(tmp_path_factory):
    contract = replace(
        example["make_contract"](past_actions=0), observation=track.ENTRIES, task="track"
    )
    network = driver["constant_network"](contract, [0.0] * 4)
    return driver["build"](tmp_path_factory.mktemp("px4"), network, contract)


@pytest.fixture
def flying(library):
    px4 = Px4(library)
    px4.take_off()
    return px4


# Into the mode, and out of it


def test_a_flight_from_start_to_stop(library):
    px4 = Px4(library)
    assert px4.command("start") == 0
    assert px4.command("start") != 0
    px4.run()
    assert px4.c.px4_registrations() == 1
    # the next run is scheduled, so that it runs without a gyroscope too
    px4.c.px4_scheduled()
    px4.run()
    assert px4.c.px4_scheduled() == 20_000
    px4.run(0.9)
    assert px4.c.px4_registrations() == 1
    px4.register(success=False)
    px4.run(0.2)
    assert px4.c.px4_registrations() == 2  # refused, so asked again after a second
    px4.register()
    px4.run()
    assert "nav_state 23" in px4.said()
    assert px4.can_run() == 1
    # selected but disarmed: nothing happens
    px4.mode = MODE
    px4.run(0.1)
    assert px4.controllers() is None
    # armed in Hold, then selected: it asks for the motors and waits for them
    px4.mode, px4.armed = 4, True
    px4.run(0.1)
    px4.mode = MODE
    px4.run(0.1)
    assert px4.controllers() == "let go"
    assert px4.motors()[0] == 0
    px4.allocation = False
    px4.run()
    count, control = px4.motors()
    assert count == 1
    # M1, M3, M4, M2; no other motor
    np.testing.assert_allclose(control[:4], [0.2, 0.6, 0.8, 0.4], atol=1e-6)
    assert np.isnan(control[4:]).all()
    px4.run(0.1)
    assert px4.motors()[0] == 41  # at the gyroscope's 400 Hz
    assert px4.log()[4] == 11  # at its own 100 Hz
    # the pilot takes over
    px4.mode, px4.allocation = 2, True
    px4.run(0.1)
    assert px4.motors()[0] == 41
    assert px4.mode_command()[0] == 0
    assert px4.can_run() == 1
    assert px4.command("status") == 0
    assert "idle, reason: none" in px4.said()
    # back, then stopped in flight: the motors are handed back
    px4.enter()
    assert px4.motors()[0] == 42
    assert px4.command("stop") == 0
    assert px4.run() == 0
    assert px4.controllers() == "take over"
    assert px4.mode_command() == (1, 4.0)
    assert px4.c.px4_unregistrations() == 1
    assert px4.motors()[0] == 42


def test_motors_that_are_not_released(library):
    px4 = Px4(library, ALULA_EXIT=2)
    px4.take_off()
    px4.allocation = True  # somebody else takes them in flight
    before = px4.motors()[0]
    px4.run(0.19)
    assert px4.motors()[0] == before
    assert px4.mode_command()[0] == 0
    px4.run(0.02)
    assert px4.mode_command() == (1, 2.0)
    assert "motors not released" in px4.said()


def test_disarmed_in_the_mode(flying):
    before = flying.motors()[0]
    flying.armed = False
    flying.run(0.1)
    assert flying.motors()[0] == before
    assert flying.mode_command()[0] == 0


# What is seen


def test_a_hover_policy_sees_itself_relative_to_where_it_entered(library):
    px4 = Px4(library)
    px4.q = [np.cos(0.5), 0.0, 0.0, np.sin(0.5)]  # yaw 1 rad
    px4.take_off()
    c, s = np.cos(1.0), np.sin(1.0)
    px4.position = [10.0 + 0.3 * c, 20.0 + 0.3 * s, -5.1]  # 0.3 m ahead, 0.1 m up
    px4.velocity = [0.2 * s, -0.2 * c, 0.4]  # 0.2 m/s to the left, 0.4 m/s down
    px4.rates = [0.1, 0.2, 0.3]
    seen = px4.see()
    np.testing.assert_allclose(seen[:3], [0.3, 0.0, 0.1], atol=2e-6)
    np.testing.assert_allclose(seen[3:12], np.eye(3).ravel(), atol=1e-6)
    np.testing.assert_allclose(seen[12:15], [0.0, 0.2, -0.4], atol=1e-6)
    np.testing.assert_allclose(seen[15:18], [0.1, -0.2, -0.3], atol=1e-6)
    assert px4.log()[9] == pytest.approx(1.0)


def test_setpoints_of_a_tracking_policy(tracker):
    px4 = Px4(tracker)
    px4.setpoint((11.0, 20.0, -5.0))  # from another mode, just before: not meant for this one
    px4.take_off()
    seen = px4.see()
    np.testing.assert_allclose(seen[:3], 0.0)
    # a whole one, nose north: 1 m ahead, 0.5 m/s to the right, gathering speed upwards
    px4.setpoint((11.0, 20.0, -5.0), (0.0, 0.5, 0.0), (0.0, 0.0, -1.0))
    seen = px4.see()
    np.testing.assert_allclose(seen[:3], [-1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(seen[12:15], [0, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(seen[18:21], [0.0, -0.05, 0.005], atol=1e-6)
    np.testing.assert_allclose(seen[27:30], [0.0, -0.3, 0.18], atol=1e-6)
    # axis by axis: only the height is wished, the rest is where the mode was entered
    px4.setpoint((NAN, NAN, -5.5), (NAN, np.inf, NAN))
    seen = px4.see()
    np.testing.assert_allclose(seen[:3], [0, 0, -0.5], atol=1e-6)
    np.testing.assert_allclose(seen[12:], [0, 0, 0, 0, 0, 0, *[0] * 12, *seen[30:]], atol=1e-6)
    # 200 ms later it is too old: hold where the vehicle is then
    px4.position = [10.25, 20.0, -5.0]
    px4.run(0.15)
    px4.position = [10.5, 20.0, -5.0]
    np.testing.assert_allclose(px4.see()[:3], [0.25, 0, 0], atol=1e-6)
    # sent long ago, though it only comes now: as good as none
    px4.setpoint((11.0, 20.0, -5.0), age_us=250_000)
    np.testing.assert_allclose(px4.see()[:3], [0.25, 0, 0], atol=1e-6)
    # no position in it: as good as none
    px4.setpoint((NAN, NAN, NAN), (1.0, 0.0, 0.0))
    np.testing.assert_allclose(px4.see()[:3], [0.25, 0, 0], atol=1e-6)


def test_the_heading_follows_the_yaw_setpoint_no_faster_than_allowed(tracker):
    px4 = Px4(tracker, ALULA_HDG_MAX=180)
    px4.take_off()
    for _ in range(10):
        px4.setpoint((10.0, 20.0, -5.0), yaw=-0.2)
        px4.run(0.05)
    px4.run(0.1)
    # 30 deg/s for half a second would be 0.262 rad
    assert px4.log()[9] == pytest.approx(-0.2, abs=1e-6)
    for _ in range(4):
        px4.setpoint((10.0, 20.0, -5.0), yaw=1.0)
        px4.run(0.05)
    entered = px4.log()[9]
    assert -0.2 < entered < -0.2 + 0.2 * np.radians(30) + 1e-3
    px4.set(ALULA_YAW_RATE=0)
    px4.setpoint((10.0, 20.0, -5.0), yaw=1.0)
    px4.run(0.1)
    kept = px4.log()[9]
    px4.setpoint((10.0, 20.0, -5.0), yaw=1.0)
    px4.run(0.1)
    assert px4.log()[9] == kept


def test_where_the_estimate_jumps_the_policy_does_not(flying):
    flying.position = [10.5, 20.0, -5.0]
    before = flying.see()
    np.testing.assert_allclose(before[:3], [0.5, 0, 0], atol=1e-6)
    flying.position, flying.position_resets = [110.5, -80.0, -7.0], 1
    flying.q, flying.attitude_resets = [np.cos(0.4), 0, 0, np.sin(0.4)], 1
    after = flying.see()
    np.testing.assert_allclose(after[3:12], before[3:12], atol=1e-6)
    # the offset of 0.5 m is still north, and the nose is now 0.8 rad to the east of it
    expected = [0.5 * np.cos(0.8), 0.5 * np.sin(0.8), 0]
    np.testing.assert_allclose(after[:3], expected, atol=1e-5)
    assert flying.mode_command()[0] == 0


# Trips


def tip(px4, degrees):
    px4.q = [np.cos(np.radians(degrees / 2)), np.sin(np.radians(degrees / 2)), 0.0, 0.0]


VIOLATIONS = {
    "tilt": (lambda p: tip(p, 59.0), lambda p: tip(p, 61.0)),
    "heading": (
        lambda p: setattr(p, "q", [np.cos(0.5), 0, 0, np.sin(0.5)]),  # 1 rad = 57 deg
        lambda p: setattr(p, "q", [np.cos(0.55), 0, 0, np.sin(0.55)]),
    ),
    "distance from the reference": (
        lambda p: setattr(p, "position", [11.9, 20.0, -5.0]),
        lambda p: setattr(p, "position", [10.0, 17.9, -5.0]),
    ),
    "speed": (
        lambda p: setattr(p, "velocity", [3.0, 0.0, -3.9]),
        lambda p: setattr(p, "velocity", [3.0, 0.0, -4.1]),
    ),
    "body rate": (
        lambda p: setattr(p, "rates", [0.0, 17.0, 0.0]),
        lambda p: setattr(p, "rates", [0.0, 0.0, -18.0]),
    ),
    "position not valid": (
        lambda p: setattr(p, "valid", True),
        lambda p: setattr(p, "valid", False),
    ),
    "THR_MDL_FAC is not 0": (lambda p: p.set(THR_MDL_FAC=0), lambda p: p.set(THR_MDL_FAC=0.3)),
    "observations held too long": (
        lambda p: setattr(p, "velocity", [0.1, 0.0, 0.0]),
        lambda p: setattr(p, "velocity", [NAN, 0.0, 0.0]),
    ),
}


@pytest.mark.parametrize("reason", VIOLATIONS)
def test_a_violation_hands_the_motors_back(flying, reason):
    harmless, violation = VIOLATIONS[reason]
    harmless(flying)
    flying.run(0.1)
    assert flying.mode_command()[0] == 0
    violation(flying)
    flying.run(0.07)
    assert f"handing back: {reason}" in flying.said()
    assert flying.controllers() == "take over"
    first, mode = flying.mode_command()
    assert mode == 4
    count = flying.motors()[0]
    flying.run(0.1)
    assert flying.motors()[0] == count  # no motor message since
    assert flying.mode_command()[0] - first in (
        1,
        2,
    )  # asked again every 50 ms, while it is selected
    assert flying.can_run() == 0
    # PX4 flies. All is well again, but the mode stays barred until disarmed
    flying.mode, flying.allocation = 4, True
    harmless(flying)
    flying.run(0.1)
    asked = flying.mode_command()[0]
    flying.run(0.1)
    assert flying.mode_command()[0] == asked
    assert flying.can_run() == 0
    flying.mode = MODE
    flying.run()
    assert flying.mode_command()[0] == asked + 1
    assert flying.motors()[0] == count
    flying.command("status")
    assert f"trips, {reason}: 1" in flying.said()
    flying.mode, flying.armed = 4, False
    flying.run()
    assert flying.can_run() == 1


def test_the_fence_is_about_the_place_of_entry(flying):
    flying.set(ALULA_DIST_MAX=1000)
    flying.position = [13.0, 23.9, -7.9]  # 4.92 m away, 2.9 m up
    flying.run(0.1)
    assert flying.mode_command()[0] == 0
    flying.position = [10.0, 20.0, -8.1]
    flying.run()
    assert "fence" in flying.said()


def test_not_a_number_in_every_place(library):
    places = [("q", 4), ("position", 3), ("velocity", 3), ("rates", 3)]
    for name, size in places:
        for i in range(size):
            px4 = Px4(library)
            px4.take_off()
            good = px4.motors()
            value = list(getattr(px4, name))
            value[i] = NAN
            setattr(px4, name, value)
            px4.run(0.05)
            count, control = px4.motors()
            assert count > good[0]  # at first the last command stays
            np.testing.assert_array_equal(control, good[1])
            px4.run(0.03)
            assert "observations held too long" in px4.said(), name
            assert np.isfinite(px4.motors()[1][:4]).all()


@pytest.mark.parametrize(
    ("what", "limit_us"), [("rates", 10_000), ("attitude", 50_000), ("position", 100_000)]
)
def test_samples_that_stop(flying, what, limit_us):
    flying.run(0.1)
    flying.silent = {what}
    # held from the limit on, for 50 ms; a step of the policy is 10 ms
    flying.run(1e-6 * limit_us + 0.05)
    assert flying.mode_command()[0] == 0
    flying.run(0.025)
    assert "observations held too long" in flying.said()
    assert flying.mode_command()[0] >= 1


@pytest.mark.parametrize(
    ("what", "limit_us"), [("rates", 10_000), ("attitude", 50_000), ("position", 100_000)]
)
def test_samples_that_come_late(flying, what, limit_us):
    flying.ages_us = {what: limit_us}
    flying.run(0.3)
    assert flying.mode_command()[0] == 0
    flying.ages_us = {what: limit_us + 1}
    flying.run(0.07)
    assert "observations held too long" in flying.said()


def test_back_after_a_short_while_is_a_new_flight(flying):
    flying.run(0.1)
    flying.mode, flying.allocation = 2, True
    flying.run(0.03)
    flying.enter()
    flying.run(0.05)
    flying.command("status")
    assert "missed 0, restarted 0" in flying.said()


def test_stale_samples_keep_the_mode_from_being_entered(library):
    px4 = Px4(library)
    px4.command("start")
    px4.run()
    px4.register()
    px4.armed = True
    px4.run(0.1)
    assert px4.can_run() == 1
    px4.silent = {"attitude"}
    px4.run(0.045)
    assert px4.can_run() == 1
    px4.run(0.01)
    assert px4.can_run() == 0
    # selected all the same
    px4.mode = MODE
    px4.run()
    assert "handing back: stale sample" in px4.said()
    assert px4.controllers() == "take over"
    assert px4.motors()[0] == 0


def test_nothing_measured_yet(library):
    px4 = Px4(library, THR_MDL_FAC=0.3)
    px4.silent = {"rates", "attitude", "position"}
    px4.command("start")
    assert "THR_MDL_FAC is 0.30; the policy needs 0" in px4.said()
    px4.run()
    px4.register()
    px4.run()
    assert px4.can_run() == 0
    px4.silent = set()
    assert px4.can_run() == 0
    px4.set(THR_MDL_FAC=0)
    assert px4.can_run() == 1
