"""A rosbag2 of a policy's flight."""

from itertools import pairwise
from typing import Any

import numpy as np

from alula.flightlog.recording import (
    COUNTERS,
    MAX_EVENTS,
    Event,
    Level,
    Loop,
    Recording,
    Series,
    counter_growth,
)
from alula.identification.logs import FlightLog, Signal, read_log
from alula.identification.rosbag import DIAGNOSTICS, Bag, Topic, read_bag
from alula.identification.rosbag_messages import PX4_MOTORS, PX4_SETPOINT
from alula.identification.rosbag_signals import in_order, measured_time

_LEVELS: dict[int, Level] = {0: "info", 1: "warning", 2: "error", 3: "error"}
_WARNING = 30
"""Severity of a warning in rcl_interfaces/Log; errors are 40, fatal ones 50."""
MAX_TEXT = 300
MAX_COUNTERS = 100
PATH_S = 0.005
"""Samples of a reference trajectory [s]."""
MAX_PATH = 1_000_000
NODE_STATES = ("policy", "hold", "land", "release", "stop", "not active")
"""What a status of policy_node begins with: who is in command."""
POSITION = ("position_x_m", "position_y_m", "position_z_m")


def record_bag(path: str, topics: dict[str, str]) -> Recording:
    """Read a bag.

    Args:
        path: its folder or file.
        topics: role -> topic where the type alone does not tell.

    Raises:
        AlulaError: no bag, broken, no usable topic, or a role that more than one topic could have.
    """
    bag = read_bag(path)
    signals = read_log(path, topics)
    gaps: list[str] = []
    found = {role: bag.of(role, topics) for role in ("odometry", "command", "reference", "joints")}
    measured = found["odometry"] or found["joints"]
    for role, topic in found.items():
        if topic is None and role in ("odometry", "command"):
            gaps.append(f"no topic that could be the {role}")
        elif topic is not None:
            gaps += _oddities(topic)
    command, wanted = found["command"], found["reference"]
    loop = _loop(command, measured, gaps) if command is not None else None
    events, counters, flying = _diagnostics(bag)
    span = (signals.start_s, signals.end_s)
    if loop is not None:
        span = (float(loop.sent_s[0]), float(loop.sent_s[-1]))
    flying = tuple((max(a, span[0]), min(b, span[1])) for a, b in flying)
    flying = tuple((a, b) for a, b in flying if b > a) or (span,)
    reference, velocity = _reference(wanted, gaps) if wanted else (None, None)
    if reference is None:
        reference = _staying(signals, flying[0][0])
        if reference is not None:
            gaps.append("no reference in the bag: taken as the position when the policy took over")
    return Recording(
        path=path,
        format="rosbag2",
        sha256=bag.sha256,
        signals=signals,
        reference_w=reference,
        reference_velocity_w=velocity,
        loop=loop,
        compute_s=None,
        inputs=None,
        action=None,
        flying=flying,
        events=tuple(events),
        counters=counters,
        gaps=tuple(gaps),
    )


def _oddities(topic: Topic) -> list[str]:
    notes = measured_time(topic)[2]
    if topic.unreadable:
        notes.append(f"{topic.name}: {topic.unreadable} messages could not be used")
    return notes


def _reference(topic: Topic, gaps: list[str]) -> tuple[Series | None, Series | None]:
    """Reference position and velocity; a trajectory's between its points as the cubic that they define."""
    time, keep, _ = measured_time(topic)
    time, value = in_order(time[keep], topic.value[keep])
    if not len(time):
        return None, None
    if topic.type.endswith("MultiDOFJointTrajectory"):
        return _path(time, value.reshape(len(time), -1, 7))
    if topic.type == PX4_SETPOINT:
        known = np.isfinite(value[:, 3:6]).all()
        return Series(time, value[:, :3]), Series(time, value[:, 3:6]) if known else None
    jumps = int(np.sum(np.abs(np.diff(value[:, :3], axis=0)).max(axis=1) > 0.05))
    if jumps:
        gaps.append(
            f"{topic.name} jumps {jumps} times; the tracking error counts from the set-point itself, the way to it "
            "included"
        )
    return Series(time, value[:, :3]), None


def _path(time: np.ndarray, points: np.ndarray) -> tuple[Series, Series]:
    """A path (T, P, 7) of messages, each valid until the next, sampled every PATH_S."""
    from scipy.interpolate import CubicHermiteSpline

    until = np.append(time[1:], np.inf)
    at = time[:, None] + points[:, :, 0]
    use = (at < until[:, None] - 1e-6) & np.concatenate(
        (np.ones((len(time), 1), bool), np.diff(at, axis=1) > 0.0), axis=1
    )
    at, rows = in_order(at[use], points[use][:, 1:])
    if len(at) < 2:
        return Series(at, rows[:, :3]), Series(at, rows[:, 3:])
    spline = CubicHermiteSpline(at, rows[:, :3], rows[:, 3:])
    fine = np.linspace(at[0], at[-1], min(int((at[-1] - at[0]) / PATH_S) + 2, MAX_PATH))
    return Series(fine, spline(fine)), Series(fine, spline(fine, 1))


def _staying(signals: FlightLog, start_s: float) -> Series | None:
    """The position at which the policy took over: policy_node stays there until it is told otherwise."""
    if not signals.has(*POSITION):
        return None
    here = [np.interp(start_s, *_pair(signals.signals[n])) for n in POSITION]
    return Series(np.array([start_s]), np.array([here]))


def _pair(signal: Signal) -> tuple[np.ndarray, np.ndarray]:
    return signal.time_s, signal.value


def _loop(command: Topic, measured: Topic | None, gaps: list[str]) -> Loop:
    """Times of the commands, and from which sample's time each is counted."""
    if command.type == PX4_MOTORS:
        sent, keep, _ = measured_time(command)
        order = np.argsort(sent[keep], kind="stable")
        # both times are PX4's: what the recorder's clock says does not matter
        return Loop(
            sent_s=sent[keep][order],
            latency_s=command.value[keep, -1][order],
            meaning="from the sample's time stamp to the command's, both by PX4",
            every_command=True,
        )
    sent = command.received_s
    if measured is None:
        return Loop(
            sent_s=sent, latency_s=None, meaning="no measurements in the bag", every_command=True
        )
    stamp, keep, notes = measured_time(measured)
    arrived, stamp = measured.received_s[keep], stamp[keep]
    order = np.argsort(arrived, kind="stable")
    arrived, stamp = arrived[order], stamp[order]
    # A command answers the newest measurement that had arrived when it was sent.
    k = np.searchsorted(arrived, sent, side="right") - 1
    since = np.where(k >= 0, sent - stamp[np.maximum(k, 0)], np.nan)
    meaning = f"from the stamp of {measured.name} to the arrival of {command.name} at the recorder"
    if any("shifted" in n for n in notes):
        since = np.where(k >= 0, sent - arrived[np.maximum(k, 0)], np.nan)
        meaning = (
            f"from the arrival of {measured.name} to that of {command.name}, both at the recorder"
        )
    if np.nanmedian(since) > 0.9 * np.median(np.diff(arrived)) > 0.0:
        gaps.append(
            "the latency is nearly a period of the measurements: commands may answer an earlier one than is "
            "assumed, and the latency be longer"
        )
    return Loop(sent_s=sent, latency_s=since, meaning=meaning, every_command=True)


def _diagnostics(
    bag: Bag,
) -> tuple[list[Event], dict[str, int], tuple[tuple[float, float], ...]]:
    """What was said, by how much the counters grew, and when policy_node said that the policy was in command.

    An event for each change of a status and one for each warning in /rosout.
    """
    in_command: list[tuple[float, bool]] = []
    events: list[Event] = []
    last: dict[str, tuple[int, str]] = {}
    counted: dict[tuple[str, str], list[int]] = {}
    for time, kind, message in bag.messages:
        if kind != DIAGNOSTICS:
            if message.level >= _WARNING:
                level: Level = "warning" if message.level < 40 else "error"
                events.append(_event(time, level, message.name, message.msg))
            continue
        for status in message.status:
            state = status.message.split(":")[0]
            if state in NODE_STATES:
                in_command.append((time, state == NODE_STATES[0]))
            now = (_number(status.level), status.message)
            if last.get(status.name) != now:
                # the first word of a node that all is well is no event
                if now[0] or status.name in last:
                    level = _LEVELS.get(now[0], "error")
                    events.append(_event(time, level, status.name, status.message))
                last[status.name] = now
            for pair in status.values:
                key = pair.key.removeprefix("count ")
                known = key in COUNTERS or (key != pair.key and len(counted) < MAX_COUNTERS)
                if known and pair.value.strip().isdigit():
                    counted.setdefault((status.name, key), []).append(int(pair.value[:12]))
    counters: dict[str, int] = {}
    for (_, key), values in counted.items():
        # a check is counted only from its first time on
        first = [] if key in COUNTERS else [0]
        growth = max(values) if key == "held_in_a_row" else counter_growth(np.array(first + values))
        counters[key] = counters.get(key, 0) + growth
    events.sort(key=lambda e: e.time_s)
    spans = pairwise([*in_command, (np.inf, False)])
    flying = [(a, b) for (a, on), (b, _) in spans if on]
    return events[:MAX_EVENTS], counters, _joined(flying)


def _joined(spans: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Spans of which each begins where the one before ends, as one."""
    out: list[tuple[float, float]] = []
    for a, b in spans:
        if out and a <= out[-1][1]:
            out[-1] = (out[-1][0], b)
        else:
            out.append((a, b))
    return tuple(out)


def _event(time: float, level: Level, source: str, text: str) -> Event:
    return Event(
        time_s=time, level=level, source=source[:MAX_TEXT], text=" ".join(text.split())[:MAX_TEXT]
    )


def _number(level: Any) -> int:
    # a ROS `byte`
    return level[0] if isinstance(level, bytes) else int(level)
