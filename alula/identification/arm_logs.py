"""Logs of an arm's joints: position, velocity, torque or motor current, from CSV, number files and rosbag2."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from alula.errors import AlulaError
from alula.identification.logs import MAX_NAN_SHARE, FlightLog, Signal, load_bytes
from alula.identification.rosbag import is_rosbag, read_bag
from alula.identification.rosbag_signals import in_order, measured_time
from alula.identification.tables import read_csv
from alula.robots.arm import Arm

KINDS = ("q", "qd", "tau", "i")
"""Position [rad or m], velocity [rad/s or m/s], torque [N m or N] and motor current [A]; q3 is joint 3's position."""
TIMES = {"time": 1.0, "t": 1.0, "time_s": 1.0, "time_ms": 1e-3, "time_us": 1e-6}
"""Names of the time column, and the unit of each [s]."""
MIN_ROWS = 100
"""Fewest usable rows."""
LIMIT_MARGIN = 0.2
"""How far a joint may lie outside of its robot's limits [rad or m]; beyond, units or order are wrong."""
_MAPPING = "time=1 q=2..7 qd=8..13 tau=14..19"

Table = dict[str, np.ndarray]
"""time_s (T,) and, by kind, (T, J)."""


def read_joint_log(
    path: str | Path, arm: Arm, counts: tuple[int, ...], columns: dict[str, str] | None = None
) -> FlightLog:
    """Read a log of an arm's joints, in the order of the robot file.

    Args:
        path: a CSV table (plain or .xz; with or without a header), a folder of number files, or a rosbag2 with
            sensor_msgs/JointState.
        arm: names and limits of the joints.
        counts: numbers of joints that the log may have: the arm's first ones.
        columns: our name -> the log's, where they differ (docs/identify-arm.md): `q1=shoulder`, for all joints
            `q=first..last`; for a folder the files; for a bag `joints=TOPIC` and `effort=i`.

    Returns:
        The log with signals time, q1.., qd1.., tau1.., i1.. as far as they are there; `dropped` counts
        rows that were left out, by reason.

    Raises:
        AlulaError: unreadable or truncated file, missing columns, another number of joints, too many NaN, time
            that runs back, positions far outside of the limits.
    """
    path, columns = Path(path), columns or {}
    if is_rosbag(path):
        kind, (table, digest) = "rosbag2", _bag(path, arm, counts, columns)
    elif path.is_dir():
        kind, (table, digest) = "numbers", _folder(path, columns)
    else:
        data, digest = load_bytes(path)
        kind, table = "csv", _csv(data, str(path), counts, columns)
    where = str(path)
    _check_shape(table, where, arm, counts)
    table, dropped = _usable(table, where)
    _check_limits(table["q"], where, arm)
    signals = {
        f"{name}{k + 1}": Signal(table["time_s"], value[:, k])
        for name, value in table.items()
        if name != "time_s"
        for k in range(value.shape[1])
    }
    return FlightLog(path=where, format=kind, sha256=digest, signals=signals, dropped=dropped)


def _csv(data: bytes, where: str, counts: tuple[int, ...], columns: dict[str, str]) -> Table:
    bare = _all_numbers(data)
    raw = read_csv(data, where, header=not bare)
    if bare and not columns:
        columns = _plain_layout(len(raw), where, counts)
    _check_names(columns, where)
    names = list(raw)
    table: Table = {"time_s": _time(raw, columns, where)}
    for kind in KINDS:
        found = _columns_of(kind, names, columns, where)
        if found:
            table[kind] = np.stack([raw[name] for name in found], axis=1)
    _check_used(columns, table, where)
    return table


def _all_numbers(data: bytes) -> bool:
    """Whether the first line is data and not a header."""
    try:
        [float(cell) for cell in data[:65536].split(b"\n", 1)[0].split(b",")]
    except ValueError:
        return False
    return True


def _plain_layout(width: int, where: str, counts: tuple[int, ...]) -> dict[str, str]:
    """The layout of a table without a header: time, then q, qd and tau of all joints."""
    for n in counts:
        if width == 1 + 3 * n:
            spans = {k: f"{2 + j * n}..{1 + (j + 1) * n}" for j, k in enumerate(("q", "qd", "tau"))}
            return {"time": "1", **spans}
    raise AlulaError(
        f"log {where}: {width} columns without a header; allowed: {1 + 3 * counts[0]} (time, q, qd, tau), "
        f"or their numbers, e.g. --columns {_MAPPING}"
    )


def _check_names(columns: dict[str, str], where: str) -> None:
    for ours in columns:
        stem = ours.rstrip("0123456789")
        if ours not in TIMES and stem not in KINDS:
            raise AlulaError(
                f"log {where}: unknown signal {ours!r}; allowed: {', '.join(TIMES)}, "
                f"{', '.join(KINDS)}, and {', '.join(f'{kind}1..' for kind in KINDS)}"
            )


def _time(raw: dict[str, np.ndarray], columns: dict[str, str], where: str) -> np.ndarray:
    chosen = {ours: theirs for ours, theirs in columns.items() if ours in TIMES}
    chosen = chosen or {name: name for name in TIMES if name in raw}
    if not chosen:
        raise AlulaError(f"log {where}: no time column; allowed: {', '.join(TIMES)}, or time=NAME")
    ours, theirs = next(iter(chosen.items()))
    if theirs not in raw:
        raise AlulaError(f"log {where}: no column {theirs!r} for {ours}; it has {_some(list(raw))}")
    return raw[theirs] * TIMES[ours]


def _columns_of(kind: str, names: list[str], columns: dict[str, str], where: str) -> list[str]:
    """The file's columns of one kind, joint by joint."""
    if kind in columns:
        first, dots, last = columns[kind].partition("..")
        ends = [first, last] if dots else [first]
        for end in ends:
            if end not in names:
                raise AlulaError(
                    f"log {where}: no column {end!r} for {kind}; it has {_some(names)}"
                )
        span = names[names.index(ends[0]) : names.index(ends[-1]) + 1]
        if not span:
            raise AlulaError(
                f"log {where}: {kind}={columns[kind]} runs back; allowed: in the order of the file"
            )
        return span
    found: list[str] = []
    while (ours := f"{kind}{len(found) + 1}") in columns or ours in names:
        theirs = columns.get(ours, ours)
        if theirs not in names:
            raise AlulaError(f"log {where}: no column {theirs!r} for {ours}; it has {_some(names)}")
        found.append(theirs)
    return found


def _check_used(columns: dict[str, str], table: Table, where: str) -> None:
    """Refuse what was given and decides nothing, as a joint beyond the last."""
    used = {
        kind if kind in columns else f"{kind}{k + 1}"
        for kind in KINDS
        if kind in table
        for k in range(table[kind].shape[1])
    }
    used |= set(list(filter(TIMES.__contains__, columns))[:1])
    for ours, theirs in columns.items():
        if ours not in used:
            raise AlulaError(
                f"log {where}: {ours}={theirs} is not used; allowed: one time, and each signal either as first..last or "
                "joint by joint, from 1 on without a gap"
            )


def _some(names: list[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def _folder(path: Path, columns: dict[str, str]) -> tuple[Table, str]:
    """Files that hold nothing but numbers, sample after sample, joint after joint."""
    where, digest = str(path), hashlib.sha256()
    known = (*(name for name in TIMES if name != "t"), *KINDS)
    if not columns:
        raise AlulaError(
            f"log {where}: a folder; allowed: with --columns time=FILE q=FILE tau=FILE"
        )
    numbers: dict[str, np.ndarray] = {}
    for ours, file in sorted(columns.items()):
        if ours not in known or Path(file).name != file:
            raise AlulaError(
                f"log {where}: {ours}={file}; allowed: {', '.join(known)} = a file of the folder"
            )
        data, part = load_bytes(path / file)
        digest.update(part.encode())
        try:
            numbers[ours] = np.array(data.replace(b",", b" ").split(), dtype=np.float64)
        except ValueError as e:
            raise AlulaError(f"log {path / file}: not only numbers: {str(e)[:80]}") from None
    times = [name for name in TIMES if name in numbers]
    if not times:
        raise AlulaError(f"log {where}: no file for the time; allowed: time=FILE")
    time = numbers.pop(times[0]) * TIMES[times[0]]
    table: Table = {"time_s": time}
    for kind, values in numbers.items():
        if time.size == 0 or values.size == 0 or values.size % time.size:
            raise AlulaError(
                f"log {where}: {columns[kind]} has {values.size} numbers for {time.size} times; "
                "allowed: the same number at each time"
            )
        table[kind] = values.reshape(time.size, -1)
    return table, digest.hexdigest()


def _bag(
    path: Path, arm: Arm, counts: tuple[int, ...], columns: dict[str, str]
) -> tuple[Table, str]:
    """The joints of a rosbag2, by name; its effort is a torque unless told otherwise."""
    effort = columns.get("effort", "tau")
    unknown = sorted(set(columns) - {"joints", "effort"})
    if unknown or effort not in ("tau", "i"):
        what = f"{unknown[0]}={columns[unknown[0]]}" if unknown else f"effort={effort}"
        raise AlulaError(
            f"log {path}: {what}; allowed in a rosbag2: joints=TOPIC, effort=tau or effort=i"
        )
    names = arm.joint_names[: min(counts)]

    def row(message: Any) -> tuple[float, list[float]]:
        # a message that lacks a joint raises, and counts as unreadable
        at = [list(message.name).index(joint) for joint in names]
        stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        fields = (message.position, message.velocity, message.effort)
        return stamp, [float(field[k]) for field in fields for k in at]

    bag = read_bag(path, decode={"sensor_msgs/msg/JointState": row})
    topic = bag.of("joints", {k: v for k, v in columns.items() if k == "joints"})
    if topic is None:
        raise AlulaError(
            f"log {path}: no sensor_msgs/JointState with position, velocity and effort of "
            f"{', '.join(names)}; allowed: the joints of robot {arm.name!r}"
        )
    time, keep, _ = measured_time(topic)
    time, value = in_order(time[keep], topic.value[keep])
    q, qd, effort_value = np.split(value, 3, axis=1)
    return {"time_s": time, "q": q, "qd": qd, effort: effort_value}, bag.sha256


def _check_shape(table: Table, where: str, arm: Arm, counts: tuple[int, ...]) -> None:
    if "q" not in table:
        raise AlulaError(f"log {where}: no positions; allowed: q1, q2, .., or q=FIRST..LAST")
    if "tau" not in table and "i" not in table:
        raise AlulaError(f"log {where}: no torque and no current; allowed: tau1, .., or i1, ..")
    for kind, value in table.items():
        if kind != "time_s" and value.shape[1] not in counts:
            allowed = " or ".join(str(n) for n in counts)
            raise AlulaError(
                f"log {where}: {kind} of {value.shape[1]} joints; allowed: {allowed}, as robot {arm.name!r} has"
            )
    widths = {kind: v.shape[1] for kind, v in table.items() if kind != "time_s"}
    if len(set(widths.values())) > 1:
        raise AlulaError(f"log {where}: joints by signal {widths}; allowed: one number of joints")


def _usable(table: Table, where: str) -> tuple[Table, dict[str, int]]:
    """Rows that are finite, later than the one before, and no copies of it; and how many were not."""
    time = table["time_s"]
    rows = np.concatenate([v.reshape(len(time), -1) for k, v in table.items() if k != "time_s"], 1)
    finite = np.isfinite(time) & np.isfinite(rows).all(axis=1)
    lost = int((~finite).sum())
    if lost > MAX_NAN_SHARE * len(time):
        raise AlulaError(
            f"log {where}: {lost} of {len(time)} rows have NaN or infinite values; "
            f"allowed: up to {MAX_NAN_SHARE:.0%}"
        )
    time, rows = time[finite], rows[finite]
    back = np.flatnonzero(np.diff(time) < 0.0)
    if back.size:
        raise AlulaError(
            f"log {where}: time runs back from {time[back[0]]:.6f} to {time[back[0] + 1]:.6f} s at row "
            f"{back[0] + 2}; allowed: increasing time"
        )
    later = np.concatenate(([True], np.diff(time) > 0.0))
    fresh = np.concatenate(([True], np.any(np.diff(rows, axis=0) != 0.0, axis=1)))
    keep = np.flatnonzero(finite)[later & fresh]
    if keep.size < MIN_ROWS:
        raise AlulaError(
            f"log {where}: {keep.size} usable rows of {finite.size}; allowed: at least {MIN_ROWS}"
        )
    dropped = {
        "not_finite": lost,
        "same_time": int((~later).sum()),
        "repeated": int((later & ~fresh).sum()),
    }
    return {name: value[keep] for name, value in table.items()}, dropped


def _check_limits(q: np.ndarray, where: str, arm: Arm) -> None:
    for k, joint in enumerate(arm.joint_names[: q.shape[1]]):
        low, high = arm.position_low[k], arm.position_high[k]
        if q[:, k].min() < low - LIMIT_MARGIN or q[:, k].max() > high + LIMIT_MARGIN:
            raise AlulaError(
                f"log {where}: q{k + 1} ({joint}) lies in {q[:, k].min():.4g}..{q[:, k].max():.4g}; allowed: "
                f"its limits {low:.4g}..{high:.4g}, in radians, joints in the robot's order"
            )
