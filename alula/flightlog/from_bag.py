"""A rosbag2 of a policy's flight."""

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
from alula.identification.logs import read_log
from alula.identification.rosbag import DIAGNOSTICS, Bag, Topic, read_bag
from alula.identification.rosbag_messages import PX4_MOTORS, PX4_SETPOINT
from alula.identification.rosbag_signals import in_order, measured_time

_LEVELS: dict[int, Level] = {0: "info", 1: "warning", 2: "error", 3: "error"}
_WARNING = 30
"""Severity of a warning in rcl_interfaces/Log; errors are 40, fatal ones 50."""
MAX_TEXT = 300


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
        if topic is None and role != "joints":
            gaps.append(f"no topic that could be the {role}")
        elif topic is not None:
            gaps += _oddities(topic)
    reference, velocity = _reference(found["reference"])
    command = found["command"]
    loop = _loop(command, measured, gaps) if command is not None else None
    events, counters = _diagnostics(bag)
    span = (signals.start_s, signals.end_s)
    if loop is not None:
        span = (float(loop.sent_s[0]), float(loop.sent_s[-1]))
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
        flying=(span,),
        events=tuple(events),
        counters=counters,
        gaps=tuple(gaps),
    )


def _oddities(topic: Topic) -> list[str]:
    notes = measured_time(topic)[2]
    if topic.unreadable:
        notes.append(f"{topic.name}: {topic.unreadable} messages could not be used")
    return notes


def _reference(topic: Topic | None) -> tuple[Series | None, Series | None]:
    if topic is None:
        return None, None
    time, keep, _ = measured_time(topic)
    time, value = in_order(time[keep], topic.value[keep])
    if len(time) < 1:
        return None, None
    moving = topic.type.endswith("MultiDOFJointTrajectory") or topic.type == PX4_SETPOINT
    known = moving and np.isfinite(value[:, 3:6]).all()
    return Series(time, value[:, :3]), Series(time, value[:, 3:6]) if known else None


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


def _diagnostics(bag: Bag) -> tuple[list[Event], dict[str, int]]:
    """An event for each change of a status, one for each warning in /rosout; and the counters' growth."""
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
            now = (_number(status.level), status.message)
            if last.get(status.name) != now:
                # the first word of a node that all is well is no event
                if now[0] or status.name in last:
                    level = _LEVELS.get(now[0], "error")
                    events.append(_event(time, level, status.name, status.message))
                last[status.name] = now
            for pair in status.values:
                if pair.key in COUNTERS and pair.value.strip().isdigit():
                    counted.setdefault((status.name, pair.key), []).append(int(pair.value[:12]))
    counters: dict[str, int] = {}
    for (_, key), values in counted.items():
        growth = max(values) if key == "held_in_a_row" else counter_growth(np.array(values))
        counters[key] = counters.get(key, 0) + growth
    events.sort(key=lambda e: e.time_s)
    return events[:MAX_EVENTS], counters


def _event(time: float, level: Level, source: str, text: str) -> Event:
    return Event(
        time_s=time, level=level, source=source[:MAX_TEXT], text=" ".join(text.split())[:MAX_TEXT]
    )


def _number(level: Any) -> int:
    # a ROS `byte`
    return level[0] if isinstance(level, bytes) else int(level)
