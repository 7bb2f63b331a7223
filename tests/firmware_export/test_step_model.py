"""Flights in which much goes wrong: every call of the C against a model in numpy."""

import shutil
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula.policies.contract import History
from alula.policies.network import Controller

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc to compile the export")
HERE = Path(__file__).parent
example = run_path(str(HERE.parent / "policies" / "example.py"))
stepper = run_path(str(HERE / "stepper.py"))
echo, recorder = stepper["echo"], stepper["recorder"]
BETWEEN, MISSED, RESTARTED = stepper["BETWEEN"], stepper["MISSED"], stepper["RESTARTED"]
CLIPPED, SATURATED, NOT_FINITE = stepper["CLIPPED"], stepper["SATURATED"], stepper["NOT_FINITE"]
STALE, BACKWARDS, LOST = stepper["STALE"], stepper["BACKWARDS"], stepper["LOST"]
STEP, EARLY = 10_000, 1_250
"""Of the 100 Hz policies here [us]: a step, and an eighth of it."""


class Model:
    """policy_step as the header describes it, on the contract's History and the network in numpy."""

    def __init__(self, network, contract):
        self.contract = contract
        self.network = network.astype(np.float64)
        self.counters = dict.fromkeys(stepper["COUNTERS"], 0)
        past = [e for e in contract.observation if e.name == "previous_action"]
        self.initial = past[0].initial if past else 0.0
        longest = max(e.history for e in contract.observation)
        self.restart = STEP * max(10, longest)
        self.limits = [3 * STEP + round(1e6 * e.delay) for e in contract.supplied]
        self.reset()

    def reset(self):
        self.history = History(self.contract, 1)
        self.controller = Controller(self.network.step, self.network.state_size, 1)
        self.action = np.full(self.contract.action_size, self.initial)
        self.newest = None
        self.last = self.due = None
        self.counters["held_in_a_row"] = 0

    def step(self, supplied, now, stamps):
        """(status, action)."""
        status = 0
        if self.last is not None and not -STEP <= now - self.last <= self.restart:
            self.reset()
            status |= self.count(RESTARTED, "restarted")
        if self.last is not None and now < self.last:
            return self.answer(self.count(BACKWARDS, "time_backwards"))
        self.last = now
        if self.due is not None and now < self.due - EARLY:
            return self.answer(self.count(BETWEEN, "between"))
        if self.due is None:
            self.due = now
        missed = (now + EARLY - self.due) // STEP
        self.due += STEP * (missed + 1)
        if missed:
            status |= self.count(MISSED, "missed", missed)
        for _ in range(missed):
            self.pass_by()
        self.counters["steps"] += 1
        ages = [now - int(s) for s in stamps]
        if not np.isfinite(supplied).all():
            status |= self.count(NOT_FINITE, "not_finite")
        if any(a < -STEP or a > limit for a, limit in zip(ages, self.limits, strict=True)):
            status |= self.count(STALE, "stale")
        if status & (NOT_FINITE | STALE):
            self.counters["held_in_a_row"] += 1
            if self.counters["held_in_a_row"] > 10:
                self.action = np.full(self.contract.action_size, self.initial)
            self.pass_by()
            return self.answer(status)
        self.counters["held_in_a_row"] = 0
        self.newest = np.array(supplied, np.float32)[None]
        seen = self.history.observe(self.newest).astype(np.float64)
        n = self.network
        if (np.abs((seen - n.mean) * n.scale) > n.clip).any():
            status |= self.count(CLIPPED, "clipped")
        self.action = self.controller(seen)[0]
        if np.abs(self.action).max() > 0.999:
            status |= self.count(SATURATED, "saturated")
        self.history.act(self.action[None])
        return self.answer(status)

    def pass_by(self):
        """A step without an observation: the newest one again, and the action that is held."""
        if self.newest is not None:
            self.history.observe(self.newest)
        self.history.act(self.action[None])

    def count(self, bit, name, events=1):
        self.counters[name] += events
        return bit

    def answer(self, status):
        return status | (LOST if self.counters["held_in_a_row"] > 10 else 0), self.action


def wild_flight(rng, steps, contract):
    """Calls (supplied, time, stamps) of a flight in which much goes wrong."""
    now, calls = int(rng.integers(0, 2**40)), []
    bad = 0
    for _ in range(steps):
        now += int(
            rng.choice(
                [
                    2_000,
                    STEP,
                    STEP + rng.integers(-900, 900),
                    3 * STEP,
                    7_777,
                    12 * STEP,
                    -3_000,
                    10**7,
                ],
                p=[0.3, 0.3, 0.25, 0.05, 0.05, 0.015, 0.03, 0.005],
            )
        )
        now -= 2_000_000 if rng.random() < 0.005 else 0
        supplied = rng.normal(size=contract.supplied_size) * 0.5
        bad = max(0, bad - 1) if rng.random() > 0.02 else int(rng.integers(1, 30))
        if bad:
            supplied[rng.integers(supplied.size)] = rng.choice([np.nan, np.inf, -np.inf])
        if rng.random() < 0.02:
            supplied[rng.integers(supplied.size)] = rng.choice([1e9, -3e38])
        stamps = np.full(len(contract.supplied), now)
        if rng.random() < 0.05:
            stamps[rng.integers(stamps.size)] -= int(rng.integers(-2 * STEP, 6 * STEP))
        calls.append((supplied.astype(np.float32), now, stamps))
    return calls


@pytest.mark.parametrize(
    "make",
    [
        echo,
        recorder,
        lambda: example["make_policy"](sensor_history=3, past_actions=4, hidden=(20, 7)),
        lambda: example["make_policy"](past_actions=32, hidden=(16,)),
        example["make_gru_policy"],
        lambda: example["make_gru_policy"](before=(), sensor_history=4, past_actions=0),
    ],
    ids=["echo", "recorder", "all histories", "32 past actions", "GRU", "GRU with sensor history"],
)
def test_wild_flights_are_those_of_the_model(tmp_path, make):
    """Every status and counter exactly, every action within 1e-5, over 8 flights of 500 calls."""
    network, made_contract = make()
    network = network.astype(np.float32)
    library = stepper["build"](tmp_path, network, made_contract)
    statuses = 0
    for seed in range(8):
        robot, model = library.robot(), Model(network, made_contract)
        for k, call in enumerate(wild_flight(np.random.default_rng(seed), 500, made_contract)):
            status, action = robot.step(*call)
            expected_status, expected = model.step(*call)
            assert status == expected_status, (seed, k)
            np.testing.assert_allclose(action, expected, rtol=0, atol=1e-5, err_msg=f"{seed} {k}")
            statuses |= status
        assert robot.counters() == {n: c for n, c in model.counters.items() if c}
    everything = BETWEEN | MISSED | RESTARTED | CLIPPED | NOT_FINITE | STALE | BACKWARDS | LOST
    assert statuses & everything == everything
