"""rosbag2 recordings (sqlite3 and mcap) without ROS: topics as arrays.

A bag may come from a stranger: sizes are bounded, nothing in it is compiled or executed, and a message that
cannot be read is counted and left out.
"""

import hashlib
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alula.bag_file import bag_errors, open_bag
from alula.errors import AlulaError
from alula.identification.rosbag_messages import (
    MAX_VALUES,
    MESSAGES,
    PX4_MESSAGES,
    PX4_MOTORS,
    PX4_ODOMETRY,
    PX4_SETPOINT,
    Row,
)

MAX_BAG_BYTES = 2 * 1024**3
"""Largest bag, packed or unpacked [bytes]."""
MAX_ROWS = 3_000_000
"""Messages read from a bag."""
DIAGNOSTICS, ROSOUT = "diagnostic_msgs/msg/DiagnosticArray", "rcl_interfaces/msg/Log"
ROLES: dict[str, tuple[str, ...]] = {
    "odometry": ("nav_msgs/msg/Odometry", PX4_ODOMETRY),
    "command": ("std_msgs/msg/Float32MultiArray", "std_msgs/msg/Float64MultiArray", PX4_MOTORS),
    "reference": (
        "trajectory_msgs/msg/MultiDOFJointTrajectory",
        "geometry_msgs/msg/PoseStamped",
        PX4_SETPOINT,
    ),
    "pose": ("geometry_msgs/msg/PoseStamped",),
    "twist": ("geometry_msgs/msg/TwistStamped",),
    "imu": ("sensor_msgs/msg/Imu",),
    "battery": ("sensor_msgs/msg/BatteryState",),
    "joints": ("sensor_msgs/msg/JointState",),
}
"""What a topic can be to us, and the types that can be it."""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """The readable messages of one topic, in the order of their arrival."""

    name: str
    """Topic."""
    type: str
    """Message type."""
    received_s: np.ndarray
    """The recorder's clock, 0 at the bag's first message [s] (T,)."""
    stamp_s: np.ndarray
    """The messages' own stamps on the same scale; NaN where there is none [s] (T,)."""
    value: np.ndarray
    """Numbers as `rosbag_messages` orders them (T, K)."""
    unreadable: int
    """Messages left out: broken, of another length, not finite."""


@dataclass(frozen=True, kw_only=True)
class Bag:
    """A recording."""

    path: str
    """Bag."""
    sha256: str
    """SHA-256 over its files in the order of their names."""
    start_ns: int
    """The recorder's clock at its first message [ns]."""
    topics: dict[str, Topic]
    """Topics of the types in ROLES, by name."""
    other: dict[str, str]
    """Topics that are not read, with their types."""
    messages: list[tuple[float, str, Any]]
    """(received [s], type, message) of DIAGNOSTICS and ROSOUT."""

    def of(self, role: str, chosen: dict[str, str]) -> Topic | None:
        """The topic of a role: the chosen one, else the only one of its types; None where there is none.

        Raises:
            AlulaError: the chosen topic is not there or of another type, or more than one could be it.
        """
        if role in chosen:
            return self._chosen(role, chosen[role])
        taken = set(chosen.values())
        found = [t for t in self.topics.values() if t.type in ROLES[role] and t.name not in taken]
        for kind in ROLES[role]:
            same = [t for t in found if t.type == kind]
            if len(same) > 1:
                names = ", ".join(t.name for t in same)
                raise AlulaError(
                    f"bag {self.path}: the {role} may be any of {names}; allowed: name it, {role}=TOPIC"
                )
            if same:
                return same[0]
        return None

    def _chosen(self, role: str, name: str) -> Topic:
        topic = self.topics.get(name)
        if topic is None or topic.type not in ROLES[role]:
            kind = topic.type if topic else self.other.get(name, "not in the bag")
            raise AlulaError(
                f"bag {self.path}: topic {name!r} for {role} is {kind}; allowed: one of "
                f"{', '.join(ROLES[role])}"
            )
        return topic


def is_rosbag(path: Path) -> bool:
    """Whether a path looks like a rosbag2: a folder with metadata.yaml, or a .mcap or .db3 file."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file()
    return path.suffix in (".mcap", ".db3")


def read_bag(path: str | Path, decode: dict[str, Callable[[Any], Row]] | None = None) -> Bag:
    """Read the topics of a bag that mean something to us.

    Args:
        path: the bag's folder, or a single .mcap or .db3 file.
        decode: message type -> what to take from it, in place of `rosbag_messages.MESSAGES`.

    Raises:
        AlulaError: no bag, too large, truncated or broken.
    """
    path = Path(path)
    digest = _checked(path)
    with closing(open_bag(path)) as reader, bag_errors(path):
        _check_chunks(reader, path)
        return _read(reader, path, digest, MESSAGES | (decode or {}))


def _checked(path: Path) -> str:
    """The digest of a bag whose files are ordinary and together not too large."""
    try:
        if not is_rosbag(path):
            raise AlulaError(f"bag {path}: not a folder with metadata.yaml, nor .mcap or .db3")
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        digest, total = hashlib.sha256(), 0
        for file in files:
            info = file.stat()
            if not stat.S_ISREG(info.st_mode):
                raise AlulaError(f"bag {path}: {file.name} is not a regular file")
            total += info.st_size
            if total > MAX_BAG_BYTES or (file.suffix == ".yaml" and info.st_size > 4_000_000):
                raise AlulaError(f"bag {path}: larger than {MAX_BAG_BYTES} bytes")
            if file.suffix == ".zstd":
                raise AlulaError(
                    f"bag {path}: {file.name} is compressed as a whole; allowed: mcap with compressed "
                    "chunks, or `zstd -d` and `ros2 bag reindex` first"
                )
            with file.open("rb") as content:
                while block := content.read(1 << 20):
                    digest.update(block)
    except OSError as e:
        raise AlulaError(f"bag {path}: not readable: {e.strerror}") from None
    return digest.hexdigest()


def _check_chunks(reader: Any, path: Path) -> None:
    storages = getattr(reader.storage, "storages", [reader.storage])
    chunks = [c for s in storages for c in getattr(s, "chunks", [])]
    if sum(c.uncompressed_size for c in chunks) > MAX_BAG_BYTES:
        raise AlulaError(f"bag {path}: unpacks to more than {MAX_BAG_BYTES} bytes")


def _read(reader: Any, path: Path, digest: str, decode: dict[str, Callable[[Any], Row]]) -> Bag:
    from rosbags.typesys import Stores, get_typestore

    # built-in definitions only: registering those in the bag would execute code made from them
    store = get_typestore(Stores.ROS2_JAZZY)
    wanted = {*decode, *PX4_MESSAGES, DIAGNOSTICS, ROSOUT}
    chosen = [c for c in reader.connections if c.msgtype in wanted]
    other = {c.topic: c.msgtype for c in reader.connections if c.msgtype not in wanted}
    rows: dict[str, _Rows] = {c.topic: _Rows(c.msgtype) for c in chosen}
    messages: list[tuple[float, str, Any]] = []
    start, count = None, 0
    if not chosen:
        raise AlulaError(
            f"bag {path}: no topic of a known type among {len(other)}; known: {', '.join(sorted(wanted))}"
        )
    for connection, received_ns, raw in reader.messages(connections=chosen):
        start = received_ns if start is None else start
        count += 1
        if count > MAX_ROWS:
            raise AlulaError(f"bag {path}: more than {MAX_ROWS} messages to read")
        kind, into = connection.msgtype, rows[connection.topic]
        try:
            if kind in PX4_MESSAGES:
                row = PX4_MESSAGES[kind](bytes(raw))
            else:
                message = store.deserialize_cdr(raw, kind)
                if kind not in decode:
                    messages.append((1e-9 * (received_ns - start), kind, message))
                    continue
                row = decode[kind](message)
        except Exception:
            # a message shorter than its type says, text that is no text, ...: this one is lost
            into.unreadable += 1
            continue
        into.add(received_ns - start, row, start)
    if start is None:
        raise AlulaError(f"bag {path}: no messages on the topics {', '.join(rows)}")
    topics = {n: r.topic(n) for n, r in rows.items() if r.kind in decode or r.kind in PX4_MESSAGES}
    return Bag(
        path=str(path),
        sha256=digest,
        start_ns=start,
        topics={n: t for n, t in topics.items() if len(t.received_s)},
        other=other,
        messages=messages,
    )


class _Rows:
    """The messages of a topic as they come."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.unreadable = 0
        self._received: list[float] = []
        self._stamp: list[float] = []
        self._value: list[list[float]] = []

    def add(self, received_ns: int, row: tuple[float, list[float]], start_ns: int) -> None:
        stamp, value = row
        if not 0 < len(value) <= MAX_VALUES or (self._value and len(value) != len(self._value[0])):
            self.unreadable += 1
            return
        self._received.append(1e-9 * received_ns)
        self._stamp.append(stamp - 1e-9 * start_ns if stamp > 0.0 else float("nan"))
        self._value.append(value)

    def topic(self, name: str) -> Topic:
        value = np.array(self._value, dtype=np.float64)
        received, stamp = np.array(self._received), np.array(self._stamp)
        good = np.isfinite(value).all(axis=1) if len(value) else np.zeros(0, bool)
        if self.kind == PX4_SETPOINT and len(value):
            good = np.isfinite(value[:, :3]).all(axis=1)
        return Topic(
            name=name,
            type=self.kind,
            received_s=received[good],
            stamp_s=stamp[good],
            value=value[good] if len(value) else np.zeros((0, 1)),
            unreadable=self.unreadable + int((~good).sum()),
        )
