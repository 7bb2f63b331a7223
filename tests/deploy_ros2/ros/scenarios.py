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
tracked = run_path(str(HERE / "tracked.py"))
Flight, Outcome, unsafe, BUSY = (flight[n] for n in ("Flight", "Outcome", "unsafe", "BUSY"))
MOTOR_TIMEOUT, until = flight["MOTOR_TIMEOUT"], flight["until"]
KILL, TERM = faults["signal"].SIGKILL, faults["signal"].SIGTERM
SLACK = 0.35
"""What a busy computer may add to any time [s]."""
HEALTH_CHECK = 2.5
"""How long Fast DDS may hold up those who send to a process on the same computer that was killed [s]: its shared-memory
transport waits for a sign of life, 1 s, and 2.2 s were seen on a loaded machine."""
HELD_UP, TRIES = 0.06, 4
"""A flight in which a message took longer than this [s] for no fault of ours may be flown again, so often."""


def judge(fault, outcome, record) -> list[str]:
    """What was not as it must be."""
    wrong, o = unsafe(record), outcome
    if o.end not in fault.end.split("|"):
        wrong.append(f"the end was {o.end}; allowed: {fault.end}")
    # A busy computer may add a hold that ends, and nothing else; after "?" all is allowed.
    names, sure, more = iter(o.names), expected(fault), "?" in fault.states
    if not all(name in names for name in sure):
        wrong.append(f"states were {o.names}; expected {fault.states}")
    if not more and (extra := set(o.names) - set(sure) - {"hold", "policy"}):
        wrong.append(f"states were {o.names}; {extra} was not expected")
    known = BUSY | set(fault.codes) | set(fault.counts)
    if not fault.states and "hold" in o.names and not o.codes <= known:
        wrong.append(f"states were {o.names}: {sorted(o.codes)}; the policy was to fly on")
    if missing := (set(fault.codes) - o.codes) | {c for c in fault.counts if not o.counts.get(c)}:
        wrong.append(f"not reported: {sorted(missing)}; reported: {sorted(o.codes)}")
    slack = SLACK + (HEALTH_CHECK if o.end == "gone" else 0.0)
    if (first := reaction(fault, o)) is not None and first > fault.reaction + slack:
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


def expected(fault) -> tuple[str, ...]:
    """Who must be in command one after another, in any case."""
    return tuple(name for name in fault.states if name != "?")


def disturbed(fault, outcome, record) -> bool:
    """Whether the computer itself held up robot, recorder or policy, apart from the fault; no excuse for commands.

    A policy_node that is late takes the newest measurement and never sees the one before, which may be the faulty one.
    """
    sent = np.array([o.at for o in record.odometry])
    late = any(outcome.counts.get(code, 0) > 0 for code in ("stall", "deadline"))
    held_up = max(o.lag for o in record.odometry) > HELD_UP or late
    if fault.group == faults["PROCESSES"] or unsafe(record):
        return False
    return bool(held_up or np.diff(sent).max() > HELD_UP)


def reaction(fault, outcome) -> float | None:
    """First change on the wire after a fault [s]: another in command, or the motors off; None: the policy flies on."""
    if sure := expected(fault):
        return next((t for n, t in outcome.states if n == sure[0]), None)
    return outcome.off


def fault(policy: str, name: str, repetitions: int = 1) -> list[dict]:
    """One fault, so many times."""
    chosen = next(f for f in faults["FAULTS"] if f.name == name)
    folder, found, tries = Path(tempfile.mkdtemp()), [], TRIES
    try:
        while len(found) < repetitions:
            # One that was killed is still seen by the others for a while: they start anew too.
            with Flight(
                Path(policy), folder, parameters=chosen.parameters, reference=chosen.reference
            ) as f:
                while len(found) < repetitions:
                    f.begin()
                    began = chosen.inject(f)
                    outcome = f.watch(
                        began, chosen.end, set(expected(chosen)), chosen.least, chosen.most
                    )
                    wrong = judge(chosen, outcome, f.record)
                    if wrong and tries and disturbed(chosen, outcome, f.record):
                        tries -= 1
                        break
                    if wrong:
                        print(f.logs(), file=sys.stderr)
                    shown = {**vars(outcome), "codes": sorted(outcome.codes)}
                    shown |= {"reaction": reaction(chosen, outcome), "wrong": wrong}
                    found.append({**shown, "repeated": TRIES - tries})
                    if chosen.anew or chosen.group == faults["PROCESSES"]:
                        break
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
        # The recorder may meet a new node later than the robot does: the robot says whether it flew.
        ended = lambda: f.end() in ("off", "landed") or f.record.sim[-1].state == "held"  # noqa: E731
        until(ended, "motors off")
        time.sleep(0.3)
        r, sim = f.record, f.record.sim[-1]
        last = r.commands[-1].at - at if r.commands else None
        off = [s.at - at for s in r.sim if s.values["motors"] == "off"]
        return {
            "phase": phase, "robot": sim.text, "last_command": last, "off": off[0] if off else None,
            "touchdown": f.touchdown(0.0), "wrong": unsafe(r), "commands": len(r.commands),
        }  # fmt: skip


def refused(policy: str) -> dict:
    """What policy_node says to parameters, files and measurements with which it must not fly."""
    folder = Path(tempfile.mkdtemp())
    with Flight(Path(policy), folder, parameters={"policy": ""}) as f:
        node, answers = f.process("policy_node"), {}

        def tried(case: str, transition: str) -> None:
            before = len(node.text)
            done = f.wire.transition(transition)
            time.sleep(0.1)
            answers[case] = [done, node.text[before:]]

        def with_value(case: str, name: str, value: object, good: object) -> None:
            accepted = f.wire.call("policy_node/set_parameters", "parameter", name, value)[1]
            if not accepted:
                answers[case] = [False, "parameter refused"]
            else:
                tried(case, "configure")
                f.wire.call("policy_node/set_parameters", "parameter", name, good)

        for case, path in damaged(Path(policy), folder).items():
            with_value(case, "policy", str(path), policy)
        with_value("wrong robot", "robot", "x500", flight["ROBOT"])
        with_value("tilt of 9 rad", "safety.tilt", 9.0, 1.2)
        with_value("speed NaN", "safety.speed", float("nan"), 5.0)
        with_value("tilt that is a word", "safety.tilt", "steep", 1.2)
        with_value("unknown adapter", "adapter", "mavlink", "multirotor")
        tried("all is well", "configure")
        tried("no odometry", "activate")
        f.wire.tamper = faults["changed_by"](faults["ahead"](-1.0))
        f.process("sim_node")
        until(lambda: len(f.record.odometry) > 20, "odometry")
        tried("old odometry", "activate")
        # The node may meet the robot later than the recorder does.
        while "no position_w has come" in answers["old odometry"][1]:
            tried("old odometry", "activate")
        f.wire.tamper = faults["changed_by"](faults["nan_position"])
        time.sleep(0.1)
        tried("NaN position", "activate")
        f.wire.tamper = None
        f.wire.appear()
        time.sleep(1.0)
        tried("another commander", "activate")
        sent = len(f.record.commands)
        f.wire.disappear()
        until(lambda: f.wire.transition("activate"), "activation", pause=0.2)
        accepted = f.wire.call("policy_node/set_parameters", "parameter", "safety.tilt", 1.0)[1]
        answers["parameter in flight"] = [accepted, ""]
        return {"answers": answers, "commands": sent}


def damaged(policy: Path, folder: Path) -> dict[str, Path]:
    """Damaged copies of a policy file, and none."""
    good = policy.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 10] ^= 64
    copies = {
        "one bit flipped": bytes(flipped),
        "truncated": good[: len(good) // 2],
        "zero bytes": b"",
    }
    paths = {}
    for k, (case, content) in enumerate(copies.items()):
        paths[case] = folder / f"damaged{k}.onnx"
        paths[case].write_bytes(content)
    return paths | {"no such file": folder / "none.onnx"}


def figure(policy: str, hover: float, eight: float) -> dict:
    """Hover, then a figure-eight led by reference_node, with nothing in between; against the same without ROS."""
    folder, way = Path(tempfile.mkdtemp()), {"shape": "figure_eight"}
    above = (0.0, 0.0, 1.0)
    with Flight(Path(policy), folder, sim={"start": above}, reference=way, relay=False) as f:
        f.begin(reference=False)
        begun = f.record.commands[0].at
        time.sleep(max(0.0, begun + hover - time.time()))
        f.process("reference_node")
        time.sleep(eight)
        # What the nodes say while they are ended is no part of the flight.
        r, f.wire.record = f.record, flight["wire"]["Record"]()
    seen = [o for o in r.odometry if o.stamp >= begun]
    errors, places = tracked["on_the_wire"](seen, r.trajectories, np.array(above))
    start = tracked["beginning"](r.trajectories) - begun
    # Whole microseconds: a path whose stamp was rounded to a nanosecond after now would begin at rest.
    times = np.round([o.stamp - begun for o in seen], 6)
    alone = [
        tracked["without_ros"](policy, flight["ROBOT"], above, start, times, seed)
        for seed in range(3)
    ]
    commands, sent = np.array([c.at for c in r.commands]), np.array([o.at for o in seen])
    waits = np.diff(commands)
    # From each odometry message to the first command after it, by the times of their senders
    latency = np.array([*commands, np.inf])[np.searchsorted(commands, sent)] - sent
    latency[-1:] = np.nan
    calm = tracked["calm"](latency, times)
    rms, rms_calm = (
        [float(np.sqrt(np.mean(np.square(e[steps])))) for e in (errors, *alone)]
        for steps in (slice(None), calm)
    )
    return {
        "rms": rms[0], "rms_alone": rms[1:], "rms_calm": rms_calm[0], "rms_calm_alone": rms_calm[1:],
        "steps": len(seen), "calm": int(calm.sum()), "farthest": float(np.abs(places).max()),
        "states": sorted({p.state for p in r.policy}), "wrong": unsafe(r), "values": r.policy[-1].values,
        "waits_ms": [1e3 * float(np.percentile(waits, q)) for q in (50, 99, 100)],
        "latency_ms": [1e3 * float(np.nanpercentile(latency, q)) for q in (50, 99, 100)],
    }  # fmt: skip


SCENARIOS: dict[str, Callable] = {
    "fault": fault,
    "killed": killed,
    "refused": refused,
    "figure": figure,
}


def main() -> None:
    """Run one, print its result, and end without goodbyes."""
    code = 0
    flight["wire"]["real_time"]()
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
