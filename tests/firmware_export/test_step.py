"""What policy_step makes of clocks and stamps, by hand."""

import shutil
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc to compile the export")
HERE = Path(__file__).parent
example = run_path(str(HERE.parent / "policies" / "example.py"))
stepper = run_path(str(HERE / "stepper.py"))
close = stepper["close"]
recorded, squash = stepper["recorded"], stepper["squash"]
BETWEEN, MISSED, RESTARTED = stepper["BETWEEN"], stepper["MISSED"], stepper["RESTARTED"]
STALE, BACKWARDS = stepper["STALE"], stepper["BACKWARDS"]
STEP, EARLY, RESTART = 10_000, 1_250, 100_000
"""Of the 100 Hz policies here [us]: a step, an eighth of it, ten of it."""


# -- the clock ----------------------------------------------------------------------------------------


def test_numbers_of_the_header(echo_library):
    library = echo_library
    assert (library.step_us, library.early_us, library.restart_us) == (STEP, EARLY, RESTART)
    robot = library.robot()
    assert list(robot.stale_us) == [30_000, 50_000]
    assert robot.lost_steps == library.lost_steps == 10
    assert robot.counters() == {}


def test_a_fast_loop_gives_the_actions_of_the_native_rate(tmp_path):
    """At 500 Hz: the action of every fifth call, for four calls more."""
    library = stepper["build"](tmp_path, *example["make_policy"](sensor_history=3, past_actions=5))
    rng = np.random.default_rng(0)
    supplied = rng.normal(size=(200, 18))
    fast, native = library.robot(), library.robot()
    for k in range(200):
        status, action = fast.step(supplied[k], 7_000 + 2_000 * k)
        if k % 5 == 0:
            native_status, expected = native.step(supplied[k], 7_000 + 2_000 * k)
            assert (status, native_status) == (native_status, native_status)
        else:
            assert status == BETWEEN
        np.testing.assert_array_equal(action, expected)
    assert fast.counters()["steps"] == native.counters()["steps"] == 40
    assert fast.counters()["between"] == 160


@pytest.mark.parametrize(
    ("rate", "calls", "expected"),
    [
        # 500 Hz: one in five. 333 Hz: 1000 calls, 3003 us apart, end at 3.0000 s, steps due at 0, 10, ... 3000 ms.
        (500.0, 1000, {"steps": 200, "between": 800}),
        (333.0, 1000, {"steps": 301, "between": 699}),
        # 1000 calls 10 us apart end at 9.99 ms; the step at 10 ms is due from 8.75 ms on.
        (100_000.0, 1000, {"steps": 2, "between": 998}),
        (100.0, 1000, {"steps": 1000}),
        # 100.5 Hz, 9950 us: 1000 calls end at 9.940 s, 995 steps lie there (0 ... 9.94 s). The others are
        # early by more than an eighth of a step: 26 calls in (26 * 50 us > 1250 us), then once in 200.
        (1e6 / 9950, 1000, {"steps": 995, "between": 5}),
        # 99.5 Hz, 10 050 us: 1000 calls end at 10.040 s, where 1005 steps (0 ... 10.04 s) were due.
        (1e6 / 10_050, 1000, {"steps": 1000, "missed": 5}),
        # 50 Hz: every second step is missed.
        (50.0, 1000, {"steps": 1000, "missed": 999}),
    ],
)
def test_steps_of_a_loop(robot, rate, calls, expected):
    times = [round(1e6 * k / rate) for k in range(calls)]
    statuses = [robot.step(0.5, t)[0] for t in times]
    assert robot.counters() == expected
    assert statuses.count(BETWEEN) == expected.get("between", 0)
    # The native rate is kept: steps, missed ones included, follow the clock.
    assert abs(expected["steps"] + expected.get("missed", 0) - times[-1] / STEP) <= 1.2


def test_jitter_leaves_the_mean_rate(robot):
    """Calls up to 0.1 steps early or late: each is one step, none is left out or made twice."""
    rng = np.random.default_rng(0)
    for k in range(1, 3001):
        jitter = int(rng.integers(-STEP // 10, STEP // 10 + 1))
        assert robot.step(0.5, k * STEP + (jitter if k > 1 else 0))[0] == 0
    assert robot.counters() == {"steps": 3000}


def test_jitter_of_a_fast_loop(robot):
    """500 Hz with +-0.1 steps of jitter for 60 s: 6000 steps, one more or less at the end."""
    rng = np.random.default_rng(1)
    for k in range(30_000):
        robot.step(0.5, 50_000 + 2_000 * k + int(rng.integers(-1_000, 1_000)))
    counters = robot.counters()
    assert abs(counters.pop("steps") - 6000) <= 1
    assert set(counters) == {"between"}


def test_edge_of_early(robot):
    assert robot.step(1.0, 0)[0] == 0
    assert robot.step(1.0, STEP - EARLY - 1)[0] == BETWEEN
    assert robot.step(1.0, STEP - EARLY)[0] == 0
    # That was the step due at 10 ms: the next is due at 20 ms, not at 18.75 ms.
    assert robot.step(1.0, 2 * STEP - EARLY - 1)[0] == BETWEEN
    assert robot.step(1.0, 2 * STEP - EARLY)[0] == 0
    # Due at 30 ms; missed from where the one at 40 ms is on time.
    assert robot.step(1.0, 4 * STEP - EARLY - 1)[0] == 0
    assert robot.step(1.0, 4 * STEP - EARLY)[0] == 0
    assert robot.step(1.0, 6 * STEP - EARLY)[0] == MISSED
    assert robot.counters() == {"steps": 6, "between": 2, "missed": 1}


def test_the_same_time_twice(robot):
    close(robot.step(1.0, 123)[1], squash(1))
    status, action = robot.step(2.0, 123)
    assert status == BETWEEN
    close(action, squash(1))
    # A clock that stands still gives the same action for ever; it cannot be told from a fast loop.
    assert [robot.step(2.0, 123)[0] for _ in range(50)] == [BETWEEN] * 50


def test_between_does_not_read_the_observation(robot):
    robot.step(1.0, 0)
    status, action = robot.step(np.nan, 1_000, stamps=[2**63, 2**63])
    assert status == BETWEEN
    close(action, squash(1))
    assert robot.counters() == {"steps": 1, "between": 1}


def test_a_missed_step_moves_the_histories(recording):
    """a = 1, 2, (3 is missed), 4: the held action and the newest sample stand where step 3 would be."""
    _, first = recording.step(1.0, 0)
    close(first, recorded(1, 1, -0.5))  # the history of a is filled with 1
    _, second = recording.step(2.0, STEP)
    close(second, recorded(2, 1, -0.5))
    status, fourth = recording.step(4.0, 3 * STEP)
    # a before is 2 again; past actions: step 1, step 2, step 2 held. The oldest is that of step 1.
    assert status == MISSED
    close(fourth, recorded(4, 2, first))
    _, fifth = recording.step(5.0, 4 * STEP)
    close(fifth, recorded(5, 4, second))
    _, sixth = recording.step(6.0, 5 * STEP)
    close(sixth, recorded(6, 5, second))  # the held one
    assert recording.counters() == {"steps": 5, "missed": 1}


def test_many_missed_steps_fill_the_histories(recording):
    recording.step(1.0, 0)
    _, second = recording.step(-60.0, STEP)
    status, action = recording.step(7.0, 10 * STEP)
    assert status == MISSED
    # Eight missed: all past actions are the second's, a before is -60.
    close(action, recorded(7, -60, second))
    assert recording.counters() == {"steps": 3, "missed": 8}


def test_pause_at_the_edge_and_beyond(recording):
    recording.step(1.0, 0)
    assert recording.step(2.0, RESTART)[0] == MISSED
    assert recording.counters() == {"steps": 2, "missed": 9}
    status, action = recording.step(3.0, 2 * RESTART + 1)
    assert status == RESTARTED
    # As after a reset: the history of a is filled with 3, the past actions stand at -0.5.
    close(action, recorded(3, 3, -0.5))
    assert recording.counters() == {"steps": 3, "missed": 9, "restarted": 1}
    # The grid begins there too.
    assert recording.step(3.0, 2 * RESTART + STEP - EARLY)[0] == BETWEEN
    assert recording.step(3.0, 2 * RESTART + STEP + 1 - EARLY)[0] == 0


def test_longest_history_is_the_shortest_pause(tmp_path):
    network, made = example["make_policy"](past_actions=32, hidden=(4,))
    assert stepper["build"](tmp_path, network, made).restart_us == 320_000


@pytest.mark.parametrize("back", [1, STEP // 2, STEP])
def test_clock_back_a_little_holds(recording, back):
    _, action = recording.step(1.0, 10**9)
    for _ in range(3):
        status, held = recording.step(2.0, 10**9 - back)
        assert status == BACKWARDS
        np.testing.assert_array_equal(held, action)
    # Once the clock has caught up all goes on as if nothing had been.
    assert recording.step(2.0, 10**9)[0] == BETWEEN
    assert recording.step(2.0, 10**9 + STEP)[0] == 0
    assert recording.counters() == {"steps": 2, "between": 1, "time_backwards": 3}


@pytest.mark.parametrize("now", [0, 10**9 - STEP - 1, 10**9 - RESTART - 1, 10**9 - 500_000])
def test_clock_back_a_lot_starts_anew(recording, now):
    recording.step(1.0, 10**9 - STEP)
    recording.step(9.0, 10**9)
    status, action = recording.step(3.0, now)
    assert status == RESTARTED
    close(action, recorded(3, 3, -0.5))
    assert recording.step(3.0, now + STEP)[0] == 0
    assert recording.counters() == {"steps": 4, "restarted": 1}


@pytest.mark.parametrize("first", [0, 1, 2**32 - 1, 2**32, 2**63 - 5, 2**63, 2**64 - 1])
def test_first_call_at_any_time(robot, first):
    status, action = robot.step(1.0, first)
    assert status == 0
    close(action, squash(1))


@pytest.mark.parametrize("end", [2**32, 2**63])
def test_nothing_happens_at_a_power_of_two(robot, end):
    for k in range(-20, 20):
        assert robot.step(1.0, end + 3 + k * STEP)[0] == 0
    assert robot.counters() == {"steps": 40}


def test_end_of_the_clock(robot):
    """Up to the last microsecond of 64 bits; behind it the clock is at zero: a step back, so a restart."""
    start = 2**64 - 1 - 3 * STEP
    assert [robot.step(1.0, start + k * STEP)[0] for k in range(4)] == [0] * 4
    # The next step is due beyond 2^64.
    assert robot.step(1.0, 2**64 - 1)[0] == BETWEEN
    assert robot.step(1.0, 0)[0] == RESTARTED
    assert robot.counters() == {"steps": 5, "between": 1, "restarted": 1}


def test_32_bit_clock_that_wraps_restarts(robot):
    """What happens to those who cast a 32-bit microsecond counter: every 71.6 minutes the past is lost."""
    robot.step(1.0, 2**32 - 1)
    assert robot.step(1.0, 5_000)[0] == RESTARTED


# -- ages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "age", "stale"),
    [
        (0, 30_000, False),
        (0, 30_001, True),
        (1, 50_000, False),
        (1, 50_001, True),
        (0, -STEP, False),
        (0, -STEP - 1, True),
        (1, -STEP, False),
        (1, -STEP - 1, True),
        (0, 10**6, True),
        (1, -(2**63), True),
        (1, 2**32 + 1, True),
    ],
)
def test_age_limit_of_each_field(robot, field, age, stale):
    now = 10**12
    robot.step(0.5, now - STEP)
    stamps = [now, now]
    stamps[field] = now - age
    status, action = robot.step(1.0, now, stamps)
    assert status == (STALE if stale else 0)
    close(action, squash(0.5) if stale else squash(1))
    assert robot.counters() == ({"steps": 2} | ({"stale": 1, "held_in_a_row": 1} if stale else {}))


def test_both_fields_stale_count_once(robot):
    assert robot.step(1.0, 10**6, [0, 0])[0] == STALE
    assert robot.counters() == {"steps": 1, "stale": 1, "held_in_a_row": 1}


def test_age_limits_may_be_changed_and_reset_keeps_them(robot):
    robot.stale_us[:] = [0, 2**32 - 1]
    robot.lost_steps = 2
    robot.reset()
    assert list(robot.stale_us) == [0, 2**32 - 1]
    assert robot.lost_steps == 2
    assert robot.step(1.0, 10**10, [10**10, 10**10 - 2**32 + 1])[0] == 0
    assert robot.step(1.0, 10**10 + STEP, [10**10 + STEP, 10**10 + STEP - 2**32])[0] == STALE
    assert robot.step(1.0, 10**10 + 2 * STEP, [10**10 + 2 * STEP - 1, 10**10])[0] == STALE
    robot.initialise()
    assert list(robot.stale_us) == [30_000, 50_000]
    assert robot.lost_steps == 10
    assert robot.counters() == {}
