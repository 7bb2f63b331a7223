"""Flights over the wire, one a process: `python scenarios.py '["fault", {...}]'` prints what was seen as JSON.

A process of its own, since the middleware may crash at its end, and since nothing of it may stay.
"""

import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from runpy import run_path

import numpy as np

HERE = Path(__file__).parent
flight = run_path(str(HERE / "flight.py"))
faults = run_path(str(HERE / "faults.py"))
Flight, Outcome, unsafe, BUSY = (flight[n] for n in ("Flight", "Outcome", "unsafe", "BUSY"))
MOTOR_TIMEOUT, until = flight["MOTOR_TIMEOUT"], flight["until"]
KILL, TERM = faults["signal"].SIGKILL, faults["signal"].SIGTERM
SLACK = 0.35
"""What a busy computer may add to any time [s]."""


def judge(fault, outcome, record) -> list[str]:
    """What was not as it must be."""
    wrong, o = unsafe(record), outcome
    if o.end not in fault.end.split("|"):
        wrong.append(f"the end was {o.end}; allowed: {fault.end}")
    # A busy computer may add a hold that ends, and nothing else.
    names = iter(o.names)
    if fault.states != ("?",):
        if not all(name in names for name in fault.states):
            wrong.append(f"states were {o.names}; expected {fault.states}")
        if extra := set(o.names) - set(fault.states) - {"hold", "policy"}:
            wrong.append(f"states were {o.names}; {extra} was not expected")
        if (
            not fault.states
            and "hold" in o.names
            and not o.codes <= BUSY | set(fault.codes) | set(fault.counts)
        ):
            wrong.append(f"states were {o.names}: {sorted(o.codes)}; the policy was to fly on")
    if missing := (set(fault.codes) - o.codes) | {c for c in fault.counts if not o.counts.get(c)}:
        wrong.append(f"not reported: {sorted(missing)}; reported: {sorted(o.codes)}")
    if (first := reaction(fault, o)) is not None and first > fault.reaction + SLACK:
        wrong.append(f"the reaction came after {first:.3f} s; allowed: {fault.reaction}")
    if o.end == "landed" and "stop" not in o.names[:1] and (o.touchdown or 0.0) > fault.touchdown:
        wrong.append(f"touch-down at {o.touchdown} m/s; allowed: {fault.touchdown}")
    # A robot that stood still itself counts only its own time.
    if o.end == "off" and not fault.own_time:
        limit = max(o.last_command, 0.0) + MOTOR_TIMEOUT + SLACK
        if o.off is None or o.off > limit:
            wrong.append(f"motors off at {o.off} s; allowed: {limit:.3f}, its time-out")
    if "release" in o.names and o.last_command > dict(o.states)["release"] + 0.02:
        wrong.append(f"commands until {o.last_command:.3f} s in spite of the release")
    return wrong


def reaction(fault, outcome) -> float | None:
    """First change on the wire after a fault [s]: another in command, or the motors off; None: the policy flies on."""
    if fault.states and fault.states != ("?",):
        return next((t for n, t in outcome.states if n == fault.states[0]), None)
    return outcome.off


def fault(policy: str, name: str, repetitions: int = 1) -> list[dict]:
    """One fault, so many times."""
    chosen = next(f for f in faults["FAULTS"] if f.name == name)
    folder, found = Path(tempfile.mkdtemp()), []
    try:
        while len(found) < repetitions:
            # One that was killed is still seen by the others for a while: they start anew too.
            with Flight(
                Path(policy), folder, parameters=chosen.parameters, reference=chosen.reference
            ) as f:
                for _ in range(1 if chosen.group == faults["PROCESSES"] else repetitions):
                    f.begin()
                    began = chosen.inject(f)
                    outcome = f.watch(began, chosen.end, chosen.least, chosen.most)
                    wrong = judge(chosen, outcome, f.record)
                    if wrong:
                        print(f.logs(), file=sys.stderr)
                    shown = {**vars(outcome), "codes": sorted(outcome.codes)}
                    found.append({**shown, "reaction": reaction(chosen, outcome), "wrong": wrong})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def killed(policy: str, seed: int, latest: float, land: bool) -> dict:
    """policy_node, starting by itself, is killed at a random instant; what the robot did."""
    rng, folder = random.Random(seed), Path(tempfile.mkdtemp())
    options = {"autostart": True, "heartbeat": False}
    with Flight(Path(policy), folder, parameters=options, relay=False) as f:
        f.process("sim_node")
        until(lambda: len(f.record.odometry) > 20, "odometry")
        begun = time.time()
        node = f.process("policy_node")
        if land:
            until(lambda: f.state() == "policy", "flight")
            f.wire.trigger("policy_node/land")
            begun = time.time()
        time.sleep(max(0.0, begun + rng.uniform(0.0, latest) - time.time()))
        at = f.signal("policy_node", KILL)
        node.wait()
        phase = f.state() or ("configured" if "configured in" in node.text else "starting")
        time.sleep(MOTOR_TIMEOUT + 0.1)
        until(lambda: f.end() in ("off", "landed") or not f.record.commands, "motors off")
        time.sleep(0.3)
        r, sim = f.record, f.record.sim[-1]
        last = r.commands[-1].at - at if r.commands else None
        off = [s.at - at for s in r.sim if s.values["motors"] == "off"]
        return {
            "phase": phase, "robot": sim.text, "last_command": last, "off": off[0] if off else None,
            "touchdown": f.touchdown(0.0), "wrong": unsafe(r), "commands": len(r.commands),
        }  # fmt: skip


SCENARIOS: dict[str, Callable] = {"fault": fault, "killed": killed}


def main() -> None:
    """Run one, print its result, and end without goodbyes."""
    code = 0
    try:
        name, arguments = json.loads(sys.argv[1])
        print(json.dumps(SCENARIOS[name](**arguments), default=_plain))
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _plain(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else list(value)  # type: ignore[call-overload]


if __name__ == "__main__":
    main()
