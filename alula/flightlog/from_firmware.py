"""Logs that the autopilot itself wrote: PX4 ULog and Crazyflie micro-SD."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from alula.errors import AlulaError
from alula.flightlog.recording import (
    COUNTERS,
    MAX_EVENTS,
    Event,
    Inputs,
    Level,
    Loop,
    Recording,
    Series,
    counter_growth,
    spans,
    transitions,
)
from alula.frames import enu_from_ned
from alula.identification.logs import FlightLog, load_bytes, read_log
from alula.identification.ulog import is_ulog
from alula.identification.usd import RawColumns, is_usd, read_usd

PX4_PHASES = {0: "idle", 1: "claiming the motors", 2: "flying", 3: "tripped"}
PX4_REASONS = (
    "none", "self-test failed", "THR_MDL_FAC is not 0", "stale sample", "position not valid", "not finite",
    "tilt", "distance from the reference", "fence", "speed", "body rate", "observations held too long",
    "memory damaged", "motors not released", "heading",
)  # fmt: skip
CRAZYFLIE_MODES = {0: "off", 1: "waiting", 2: "flying", 3: "tripped"}
CRAZYFLIE_REASONS = (
    "none", "self-test failed", "needs the Kalman estimator", "not airborne", "setpoint", "not finite", "tilt",
    "heading", "distance", "fence", "speed", "body rate", "held", "damaged",
)  # fmt: skip
"""Words for the numbers that the exported modules log (docs/px4.md, docs/crazyflie.md)."""
_FLYING, _TRIPPED = 2, 3
_HEAD = 10
"""Numbers of PX4's debug_array `alula` before the action."""
_HEAD_COUNTERS = {
    "trips": 3,
    "steps": 4,
    "held_in_a_row": 5,
    "missed": 6,
    "stale": 7,
    "not_finite": 8,
}
_USD_COUNTERS = {
    "steps": "steps", "missed": "missed", "restarted": "restarted", "clipped": "clipped",
    "saturated": "saturated", "not_finite": "notFinite", "stale": "stale", "time_backwards": "backwards",
    "damaged": "damaged", "held_in_a_row": "heldInARow", "trips": "trips",
}  # fmt: skip
_ULOG_WARNING, _ULOG_ERROR = 4, 3
_EXTRA_TOPICS = ["trajectory_setpoint", "actuator_motors", "debug_array"]


def record_firmware(path: str, n_rotors: int, supplied_size: int | None) -> Recording:
    """Read a ULog or a micro-SD log, plain or .xz.

    Args:
        path: the file.
        n_rotors: rotors of the robot.
        supplied_size: floats that the policy is supplied with a step, where the policy is known.

    Raises:
        AlulaError: unreadable, broken, or of another format.
    """
    data, _ = load_bytes(Path(path))
    if is_ulog(data):
        return _record_ulog(path, data, read_log(path), n_rotors, supplied_size)
    if is_usd(data):
        return _record_usd(path, read_usd(data, path), read_log(path))
    raise AlulaError(
        f"log {path}: unknown format; allowed: rosbag2 (folder, .mcap, .db3), PX4 ULog, Crazyflie micro-SD "
        "(plain or .xz)"
    )


def _ulog(data: bytes, path: str) -> Any:
    from pyulog import ULog

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return ULog(io.BytesIO(data), message_name_filter_list=_EXTRA_TOPICS)
    except (
        Exception
    ) as e:  # read_log has read the same file; what is left is damage in these topics
        raise AlulaError(f"log {path}: broken ULog: {type(e).__name__} {e}") from None


def _record_ulog(
    path: str, data: bytes, signals: FlightLog, n_rotors: int, supplied_size: int | None
) -> Recording:
    file = _ulog(data, path)
    topics = {d.name: d.data for d in reversed(file.data_list) if d.multi_id == 0}
    gaps: list[str] = []
    entries = [d.data for d in file.data_list if d.name == "debug_array"]
    alula = next((e for e in entries if _is_alula(e)), None)
    flying, events, counters, inputs = ((signals.start_s, signals.end_s),), [], {}, None
    if alula is None:
        gaps.append(
            "no debug_array `alula` in the log: when the policy flew is not known, so the whole log counts"
        )
    else:
        time = 1e-6 * alula["timestamp"].astype(np.float64)
        data_rows = np.stack([alula[f"data[{k}]"] for k in range(58)], axis=1).astype(np.float64)
        flying = spans(time, data_rows[:, 0] == _FLYING) or flying
        counters = _grown({k: data_rows[:, c] for k, c in _HEAD_COUNTERS.items()})
        events = transitions(time, data_rows[:, 0], PX4_PHASES, "alula", {_TRIPPED})
        reasons = {k: f"reason: {text}" for k, text in enumerate(PX4_REASONS)}
        bad = set(range(1, len(reasons)))
        events += transitions(time, data_rows[:, 1], reasons, "alula", bad)
        if supplied_size:
            stop = _HEAD + n_rotors
            inputs = Inputs(
                observed=Series(time, data_rows[:, stop : stop + supplied_size]),
                action=Series(time, data_rows[:, _HEAD:stop]),
            )
    events += _logged(file)
    reference, velocity = _px4_reference(topics, gaps)
    return Recording(
        path=path,
        format="ulog",
        sha256=signals.sha256,
        signals=signals,
        reference_w=reference,
        reference_velocity_w=velocity,
        loop=_px4_loop(topics, gaps),
        compute_s=None,
        inputs=inputs,
        action=None,
        flying=flying,
        events=tuple(sorted(events, key=lambda e: e.time_s)[:MAX_EVENTS]),
        counters=counters,
        gaps=tuple(gaps),
    )


def _is_alula(entry: dict) -> bool:
    letters = [int(entry[f"name[{k}]"][0]) for k in range(10) if f"name[{k}]" in entry]
    name = bytes(c & 0xFF for c in letters).split(b"\0")[0]
    return name == b"alula" and "data[57]" in entry and len(entry["timestamp"]) > 1


def _logged(file: Any) -> list[Event]:
    """Warnings and errors that the autopilot printed."""
    found = []
    for message in file.logged_messages[: 10 * MAX_EVENTS]:
        # the level is a digit in ASCII
        level = int(message.log_level) - ord("0")
        if 0 <= level <= _ULOG_WARNING:
            word: Level = "error" if level <= _ULOG_ERROR else "warning"
            text = " ".join(str(message.message).split())[:300]
            time = 1e-6 * message.timestamp
            found.append(Event(time_s=time, level=word, source="PX4", text=text))
    return found


def _px4_reference(topics: dict, gaps: list[str]) -> tuple[Series | None, Series | None]:
    setpoint = topics.get("trajectory_setpoint")
    if setpoint is None or "position[0]" not in setpoint:
        gaps.append("no trajectory_setpoint in the log: no tracking error")
        return None, None
    time = 1e-6 * setpoint["timestamp"].astype(np.float64)
    position, velocity = (
        enu_from_ned(np.stack([setpoint[f"{key}[{k}]"] for k in range(3)], axis=1).astype(float))
        for key in ("position", "velocity")
    )
    known = np.isfinite(position).all(axis=1) & np.concatenate(([True], np.diff(time) > 0.0))
    if known.sum() < 1:
        gaps.append("trajectory_setpoint holds no position: no tracking error")
        return None, None
    moving = np.isfinite(velocity[known]).all()
    return (
        Series(time[known], position[known]),
        Series(time[known], velocity[known]) if moving else None,
    )


def _px4_loop(topics: dict, gaps: list[str]) -> Loop | None:
    motors = topics.get("actuator_motors")
    if motors is None or "timestamp_sample" not in motors:
        gaps.append("no actuator_motors in the log: no latency and no jitter")
        return None
    sent = 1e-6 * motors["timestamp"].astype(np.float64)
    sampled = 1e-6 * motors["timestamp_sample"].astype(np.float64)
    return Loop(
        sent_s=sent,
        latency_s=sent - sampled,
        meaning="from the gyroscope's sample to the motor command, both by PX4",
        every_command=False,
    )


def _record_usd(path: str, raw: RawColumns, signals: FlightLog) -> Recording:
    gaps = ["the log does not say which sample a command answers: no latency"]
    mode = raw.get("alula.mode")
    flying = ((signals.start_s, signals.end_s),)
    events: list[Event] = []
    if mode is None:
        gaps.append(
            "no alula.mode in the log: when the policy flew is not known, so the whole log counts"
        )
    else:
        flying = spans(mode[0], mode[1] == _FLYING) or flying
        events += transitions(*mode, CRAZYFLIE_MODES, "alula", {_TRIPPED})
    if "alula.reason" in raw:
        reasons = {k: f"reason: {text}" for k, text in enumerate(CRAZYFLIE_REASONS)}
        events += transitions(*raw["alula.reason"], reasons, "alula", set(range(1, len(reasons))))
    present = {k: raw[f"alula.{n}"][1] for k, n in _USD_COUNTERS.items() if f"alula.{n}" in raw}
    if not present:
        gaps.append("no counters alula.* in the log")
    reference = _columns(raw, [f"ctrltarget.{axis}" for axis in "xyz"])
    if reference is None:
        gaps.append("no ctrltarget.x, y, z in the log: no tracking error")
    loop = None
    if signals.n_motors:
        sent = signals.signals["motor_1"].time_s
        loop = Loop(
            sent_s=sent,
            latency_s=None,
            meaning="the log does not say which sample a command answers",
            every_command=False,
        )
    compute = _columns(raw, ["alula.us"])
    return Recording(
        path=path,
        format="usd",
        sha256=signals.sha256,
        signals=signals,
        reference_w=reference,
        reference_velocity_w=_columns(raw, [f"ctrltarget.v{axis}" for axis in "xyz"]),
        loop=loop,
        compute_s=Series(compute.time_s, 1e-6 * compute.value) if compute else None,
        inputs=None,
        action=_columns(raw, [f"alula.action{k + 1}" for k in range(max(signals.n_motors, 4))]),
        flying=flying,
        events=tuple(sorted(events, key=lambda e: e.time_s)[:MAX_EVENTS]),
        counters=_grown(present),
        gaps=tuple(gaps),
    )


def _grown(values: dict[str, np.ndarray]) -> dict[str, int]:
    return {
        key: int(v.max()) if key == "held_in_a_row" else counter_growth(v)
        for key, v in values.items()
        if key in COUNTERS and len(v)
    }


def _columns(raw: RawColumns, names: list[str]) -> Series | None:
    """Columns of one event as a series; None where one is missing."""
    if any(n not in raw for n in names):
        return None
    time = raw[names[0]][0]
    value = np.stack([np.interp(time, *raw[n]) for n in names], axis=1)
    fresh = np.concatenate(([True], np.diff(time) > 0.0)) & np.isfinite(value).all(axis=1)
    return Series(time[fresh], value[fresh]) if fresh.sum() > 1 else None
