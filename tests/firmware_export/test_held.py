"""Bad numbers, held steps, the loss of a policy, damage; instances; the recurrent state. By hand."""

import shutil
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc to compile the export")
HERE = Path(__file__).parent
example = run_path(str(HERE.parent / "policies" / "example.py"))
stepper = run_path(str(HERE / "stepper.py"))
made, close = stepper["made"], stepper["close"]
recorded, squash = stepper["recorded"], stepper["squash"]
BETWEEN, MISSED, RESTARTED = stepper["BETWEEN"], stepper["MISSED"], stepper["RESTARTED"]
CLIPPED, SATURATED, NOT_FINITE = stepper["CLIPPED"], stepper["SATURATED"], stepper["NOT_FINITE"]
STALE, BACKWARDS, DAMAGED, LOST = (stepper[n] for n in ("STALE", "BACKWARDS", "DAMAGED", "LOST"))
STEP = 10_000
"""Of the 100 Hz policies here [us]."""


# -- bad numbers, held steps --------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(18))
def test_not_finite_at_every_place(usual_library, place, bad):
    robot = usual_library.robot()
    fine = np.full(18, 0.1)
    _, first = robot.step(fine, 0)
    supplied = fine.copy()
    supplied[place] = bad
    status, action = robot.step(supplied, STEP)
    assert status == NOT_FINITE
    np.testing.assert_array_equal(action, first)
    assert robot.counters() == {"steps": 2, "not_finite": 1, "held_in_a_row": 1}
    assert robot.step(fine, 2 * STEP)[0] == 0


@pytest.fixture(scope="module")
def usual_library(tmp_path_factory):
    return made(tmp_path_factory, example["make_policy"](sensor_history=3, past_actions=5))


def test_held_steps_record_the_held_action_and_the_newest_sample(recording):
    _, first = recording.step(1.0, 0)
    _, second = recording.step(2.0, STEP)
    for k in (2, 3):
        status, held = recording.step(np.nan, k * STEP)
        assert status == NOT_FINITE
        np.testing.assert_array_equal(held, second)
    # a before is 2 (the newest, twice more); past actions: second, held, held.
    _, fifth = recording.step(5.0, 4 * STEP)
    close(fifth, recorded(5, 2, second))
    assert first[0] != second[0]


def test_not_finite_and_stale_at_once(robot):
    assert robot.step(np.nan, 10**6, [0, 10**6])[0] == NOT_FINITE | STALE
    assert robot.counters() == {"steps": 1, "not_finite": 1, "stale": 1, "held_in_a_row": 1}


def test_lost_after_so_many_held_steps_and_found_again(recording):
    recording.step(1.0, 0)
    _, good = recording.step(40.0, STEP)
    for k in range(2, 12):  # ten held steps
        status, action = recording.step(np.nan, k * STEP)
        assert status == NOT_FINITE
        np.testing.assert_array_equal(action, good)
    status, action = recording.step(np.nan, 12 * STEP)
    assert status == NOT_FINITE | LOST
    assert action[0] == -0.5
    # Between steps, and while the clock is behind, it stays lost.
    assert recording.step(1.0, 12 * STEP + 1)[0] == BETWEEN | LOST
    assert recording.step(1.0, 12 * STEP)[0] == BACKWARDS | LOST
    assert recording.step(np.nan, 13 * STEP)[0] == NOT_FINITE | LOST
    assert recording.counters()["held_in_a_row"] == 12
    # The first valid step: past actions are good (of step 12), -0.5, -0.5.
    status, action = recording.step(3.0, 14 * STEP)
    assert status == 0
    close(action, recorded(3, 40, good))
    assert "held_in_a_row" not in recording.counters()
    status, action = recording.step(3.0, 15 * STEP)
    close(action, recorded(3, 3, -0.5))


@pytest.mark.parametrize(("limit", "held"), [(0, 0), (1, 1), (2**32 - 1, 300)])
def test_lost_steps_may_be_changed(robot, limit, held):
    robot.lost_steps = limit
    _, good = robot.step(1.0, 0)
    for k in range(1, held + 1):
        status, action = robot.step(np.nan, k * STEP)
        assert status == NOT_FINITE
        np.testing.assert_array_equal(action, good)
    if limit < 300:
        status, action = robot.step(np.nan, (held + 1) * STEP)
        assert status == NOT_FINITE | LOST
        assert action[0] == 0.0


def test_missed_steps_do_not_count_as_held(robot):
    robot.lost_steps = 3
    robot.step(1.0, 0)
    assert robot.step(np.nan, 9 * STEP)[0] == MISSED | NOT_FINITE
    assert robot.counters() == {"steps": 2, "missed": 8, "not_finite": 1, "held_in_a_row": 1}


def test_restart_with_bad_input_gives_the_initial_action(recording):
    recording.step(1.0, 0)
    status, action = recording.step(np.nan, 10**6)
    assert status == RESTARTED | NOT_FINITE
    assert action[0] == -0.5
    status, action = recording.step(2.0, 10**6 + STEP)
    # Still the first valid observation: it fills the history. The held -0.5 was recorded.
    assert status == 0
    close(action, recorded(2, 2, -0.5))


def test_reset_keeps_the_counters(recording):
    recording.step(1.0, 0)
    recording.step(np.nan, 3 * STEP)
    before = recording.counters()
    recording.reset()
    held = before.pop("held_in_a_row")
    assert held == 1
    assert recording.counters() == before == {"steps": 2, "missed": 2, "not_finite": 1}
    status, action = recording.step(2.0, 5)
    assert status == 0
    close(action, recorded(2, 2, -0.5))


def test_counters_stop_at_their_largest_value(recording):
    recording.step(1.0, 0)
    recording.set_counters(2**32 - 2)
    top = dict.fromkeys(stepper["COUNTERS"], 2**32 - 2)
    assert recording.step(np.nan, 5 * STEP, [0])[0] == MISSED | NOT_FINITE | STALE | LOST
    raised = ("steps", "missed", "not_finite", "stale", "held_in_a_row")
    assert recording.counters() == top | dict.fromkeys(raised, 2**32 - 1)
    recording.step(np.nan, 9 * STEP, [0])
    recording.step(1.0, 9 * STEP)
    recording.step(1.0, 9 * STEP - 1)
    assert recording.counters() == top | dict.fromkeys(
        (*raised, "between", "time_backwards"), 2**32 - 1
    )
    recording.step(1e30, 10**7)
    recording.step(1.0, 2 * 10**7)
    everything = dict.fromkeys(stepper["COUNTERS"], 2**32 - 1)
    del everything["held_in_a_row"]
    del everything["damaged"]
    assert recording.counters() == everything | {"damaged": 2**32 - 2}


# -- the normaliser and the action ------------------------------------------------------------------------


def test_edge_of_clipped_and_saturated(robot):
    """The clip is 100; action 0.999 belongs to z = 0.999 / sqrt(1 - 0.999^2) = 22.344."""
    below, above = np.nextafter(np.float32(100), 0), np.nextafter(np.float32(100), 200)
    values = [(22.3, 0), (22.4, SATURATED), (-22.4, SATURATED), (-22.3, 0)]
    values += [(below, SATURATED), (100.0, SATURATED), (above, SATURATED | CLIPPED)]
    values += [(-3.4e38, SATURATED | CLIPPED), (np.finfo(np.float32).smallest_subnormal, 0)]
    for k, (value, expected) in enumerate(values):
        status, action = robot.step([value, 0.0, 0.0], k * STEP)
        assert status == expected, value
        close(action, squash(max(-100.0, min(100.0, float(value)))))
    # b weighs nothing, but is clipped all the same.
    assert robot.step([0.0, 0.0, 101.0], len(values) * STEP)[0] == CLIPPED
    assert robot.counters() == {"steps": 10, "saturated": 6, "clipped": 3}


# -- instances ----------------------------------------------------------------------------------------


def test_instances_do_not_know_each_other(recorder_library):
    """Three robots on clocks of their own, one of them sick, answer as if alone."""
    rng = np.random.default_rng(0)
    alone, together = [], [recorder_library.robot() for _ in range(3)]
    plans = [
        [(float(rng.normal()), int(t)) for t in np.cumsum(rng.integers(1, 3 * STEP, 100))]
        for _ in range(3)
    ]
    plans[1] = [(np.nan if k % 3 else a, t % 400_000) for k, (a, t) in enumerate(plans[1])]
    for plan in plans:
        robot = recorder_library.robot()
        alone.append([robot.step(a, t) for a, t in plan])
    for k in range(100):
        for i in rng.permutation(3):
            status, action = together[i].step(*plans[i][k])
            assert status == alone[i][k][0]
            np.testing.assert_array_equal(action, alone[i][k][1])


# -- the recurrent state --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gru_library(tmp_path_factory):
    return made(tmp_path_factory, example["make_gru_policy"]())


def test_gru_state_is_kept_reset_and_held(gru_library):
    robot, rng = gru_library.robot(), np.random.default_rng(0)
    supplied = rng.normal(size=(30, 18)) * 0.3
    first = [robot.step(s, k * STEP)[1] for k, s in enumerate(supplied)]
    robot.reset()
    again = [robot.step(s, 10**7 + k * STEP)[1] for k, s in enumerate(supplied)]
    np.testing.assert_array_equal(first, again)
    # Without the reset its memory shows.
    robot.step(supplied[0], 10**7 + 30 * STEP)
    other = robot.step(supplied[1], 10**7 + 31 * STEP)[1]
    assert np.abs(other - first[1]).max() > 1e-3
    # Held and missed steps leave the state alone: only past_action (one step) goes on.
    robot.reset()
    robot.step(supplied[0], 0)
    robot.step(np.nan, STEP)
    held = robot.step(supplied[1], 2 * STEP)[1]
    robot.reset()
    robot.step(supplied[0], 0)
    missed = robot.step(supplied[1], 2 * STEP)[1]
    np.testing.assert_array_equal(held, first[1])
    np.testing.assert_array_equal(missed, first[1])


def test_gru_state_outlives_a_restart_of_the_clock_not(gru_library):
    robot = gru_library.robot()
    first = robot.step(0.3, 0)[1]
    robot.step(-0.3, STEP)
    status, action = robot.step(0.3, 10**7)
    assert status == RESTARTED
    np.testing.assert_array_equal(action, first)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 1e19, -100.0])
def test_damaged_gru_state_is_found_and_zeroed(tmp_path_factory, value):
    """With an update gate that keeps the state, damage of any size would stay for ever."""
    network, made_contract = example["make_gru_policy"](past_actions=0)
    gru = network.gru
    bias = gru.bias.copy()
    bias[16:32] = 30.0  # update gate: sigmoid(30 + small) = 1, so h' = h
    recurrent = np.zeros_like(gru.recurrent)
    network = replace(network, gru=replace(gru, bias=bias, recurrent=recurrent))
    robot = made(tmp_path_factory, (network, made_contract)).robot()
    first = robot.step(0.1, 0)[1]
    robot.floats(16 + 48)[:16] = value  # the state, and behind it 48 floats of gates
    status, action = robot.step(0.1, STEP)
    assert status == DAMAGED
    np.testing.assert_array_equal(action, first)
    assert robot.counters() == {"steps": 2, "damaged": 1, "held_in_a_row": 1}
    status, action = robot.step(0.1, 2 * STEP)
    assert status == 0
    np.testing.assert_array_equal(action, first)
