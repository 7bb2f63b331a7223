"""Flight logs of any known format, as signals with our names, in SI units, body FLU."""

import hashlib
import lzma
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from alula.errors import AlulaError
from alula.identification.rosbag import ROLES, is_rosbag, read_bag
from alula.identification.rosbag_signals import bag_columns
from alula.identification.signal_names import automatic, canonical_name
from alula.identification.tables import read_csv, read_parquet
from alula.identification.ulog import is_ulog, read_ulog
from alula.identification.usd import RawColumns, is_usd, read_usd

MAX_LOG_BYTES = 256 * 1024 * 1024
"""Largest log, unpacked [bytes]; a compressed file may not grow beyond it."""
MAX_NAN_SHARE = 0.2
"""A signal with a larger share of NaN is refused; fewer are dropped like a gap."""
_XZ_MAGIC = b"\xfd7zXZ\x00"
_PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True)
class Signal:
    """One measured quantity with its own time stamps."""

    time_s: np.ndarray
    """Strictly increasing time [s], in the log's own clock (T,)."""
    value: np.ndarray
    """Finite values in the unit that the signal's name says (T,)."""


@dataclass(frozen=True, kw_only=True)
class FlightLog:
    """What a flight log holds, under our names (docs/identify.md lists them)."""

    path: str
    """File the log came from."""
    format: str
    """usd, csv, parquet, ulog or rosbag2."""
    sha256: str
    """SHA-256 of the file as it lies on disk, compressed or not."""
    signals: dict[str, Signal]
    """Signal name -> samples; names end in their unit, e.g. acc_z_m_s2, gyro_x_rad_s, motor_1."""
    dropped: dict[str, int]
    """Number of NaN samples dropped, by signal."""

    @property
    def start_s(self) -> float:
        """First time stamp [s]."""
        return min(s.time_s[0] for s in self.signals.values())

    @property
    def end_s(self) -> float:
        """Last time stamp [s]."""
        return max(s.time_s[-1] for s in self.signals.values())

    @property
    def n_motors(self) -> int:
        """Number of motor commands motor_1..motor_N in the log."""
        return self._count("motor_{}")

    @property
    def n_rotor_speeds(self) -> int:
        """Number of measured rotor speeds rotor_speed_1_rad_s.. in the log."""
        return self._count("rotor_speed_{}_rad_s")

    def _count(self, pattern: str) -> int:
        count = 0
        while pattern.format(count + 1) in self.signals:
            count += 1
        return count

    def has(self, *names: str) -> bool:
        """Whether all named signals are there."""
        return all(name in self.signals for name in names)

    def window(self, from_s: float | None, to_s: float | None) -> "FlightLog":
        """The part between two times of the log's own clock [s].

        Raises:
            AlulaError: from >= to, not finite, or no samples between them.
        """
        lo = self.start_s if from_s is None else from_s
        hi = self.end_s if to_s is None else to_s
        span = f"the log runs from {self.start_s:.3f} to {self.end_s:.3f} s"
        if not (np.isfinite(lo) and np.isfinite(hi)) or lo >= hi:
            raise AlulaError(
                f"log {self.path}: window {lo:g}..{hi:g} s; allowed: from < to, {span}"
            )
        if lo >= self.end_s or hi <= self.start_s:
            raise AlulaError(f"log {self.path}: window {lo:g}..{hi:g} s is outside; {span}")
        cut: dict[str, Signal] = {}
        for name, signal in self.signals.items():
            keep = (signal.time_s >= lo) & (signal.time_s <= hi)
            if np.count_nonzero(keep) >= 2:
                cut[name] = Signal(signal.time_s[keep], signal.value[keep])
        if not cut:
            raise AlulaError(f"log {self.path}: no samples in {lo:g}..{hi:g} s; {span}")
        return replace(self, signals=cut)


def read_log(path: str | Path, columns: dict[str, str] | None = None) -> FlightLog:
    """Read a flight log; the format is detected from the content.

    Crazyflie micro-SD v2, CSV, parquet and PX4 ULog, each also xz-compressed, and rosbag2.

    Args:
        path: the file, or a rosbag2's folder.
        columns: our signal name -> the file's column, beyond or instead of the automatic names;
            the unit is part of our name (`acc_z_g`, `gyro_x_deg_s`, `motor_1_pwm`, `time_ms`).
            For a rosbag2: what a topic is -> the topic (`odometry`, `command`; see rosbag.ROLES).

    Raises:
        AlulaError: no such file, unknown format, truncated or corrupt, too large, a missing
            column, NaN, time that does not increase, or no usable signal.
    """
    where = str(path)
    if is_rosbag(Path(path)):
        return _rosbag(where, columns)
    data, digest = load_bytes(Path(path))
    if is_ulog(data):
        kind, raw = "ulog", read_ulog(data, where)
    elif is_usd(data):
        kind, raw = "usd", read_usd(data, where)
    elif data[:4] == _PARQUET_MAGIC:
        kind, raw = "parquet", _with_time(read_parquet(data, where, MAX_LOG_BYTES), columns, where)
    elif _is_text(data):
        kind, raw = "csv", _with_time(read_csv(data, where), columns, where)
    else:
        raise AlulaError(
            f"log {where}: unknown format; allowed: Crazyflie micro-SD v2, CSV, parquet, PX4 ULog "
            "(plain or .xz), rosbag2"
        )
    signals, dropped = _named(raw, columns or {}, where)
    return FlightLog(path=where, format=kind, sha256=digest, signals=signals, dropped=dropped)


def _rosbag(where: str, topics: dict[str, str] | None) -> FlightLog:
    unknown = sorted(set(topics or {}) - set(ROLES))
    if unknown:
        raise AlulaError(f"log {where}: unknown topic {unknown[0]!r}; known: {', '.join(ROLES)}")
    bag = read_bag(where)
    signals, dropped = _named(bag_columns(bag, topics or {}), {}, where)
    return FlightLog(
        path=where, format="rosbag2", sha256=bag.sha256, signals=signals, dropped=dropped
    )


def load_bytes(path: Path) -> tuple[bytes, str]:
    """The unpacked content of a log and the SHA-256 of the file on disk.

    Raises:
        AlulaError: no such file, not readable, too large, or broken xz data.
    """
    try:
        if not path.is_file():
            raise AlulaError(f"log {path}: no such file")
        if path.stat().st_size > MAX_LOG_BYTES:
            raise AlulaError(f"log {path}: larger than {MAX_LOG_BYTES} bytes")
        packed = path.read_bytes()
    except OSError as e:
        raise AlulaError(f"log {path}: not readable: {e.strerror}") from None
    digest = hashlib.sha256(packed).hexdigest()
    if not packed:
        raise AlulaError(f"log {path}: empty file")
    if packed[:6] != _XZ_MAGIC:
        return packed, digest
    unpack = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=256 * 1024 * 1024)
    try:
        data = unpack.decompress(packed, max_length=MAX_LOG_BYTES)
    except (lzma.LZMAError, EOFError) as e:
        raise AlulaError(f"log {path}: broken xz data: {e}") from None
    if not unpack.eof:
        reason = (
            "truncated" if unpack.needs_input else f"unpacks to more than {MAX_LOG_BYTES} bytes"
        )
        raise AlulaError(f"log {path}: xz data {reason}; allowed: an intact file")
    if not data:
        raise AlulaError(f"log {path}: empty file")
    return data, digest


def _is_text(data: bytes) -> bool:
    head = data[:4096]
    if b"\x00" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as e:
        return e.start > len(head) - 4 > 0  # a character may be cut at the end of the head
    return True


def _with_time(
    table: dict[str, np.ndarray], columns: dict[str, str] | None, where: str
) -> RawColumns:
    """Give every column of a table the table's one time column."""
    chosen = {ours: theirs for ours, theirs in (columns or {}).items() if ours.startswith("time")}
    if not chosen:
        for theirs, ours in automatic(table).items():
            if ours.startswith("time_"):
                chosen = {ours: theirs}
                break
    if len(chosen) != 1:
        raise AlulaError(
            f"log {where}: no time column among {_some(table)}; allowed: name it, e.g. "
            "columns={'time_s': 'your column'} (time_s, time_ms or time_us)"
        )
    ((ours, theirs),) = chosen.items()
    if theirs not in table:
        raise AlulaError(f"log {where}: no column {theirs!r} for {ours}; it has {_some(table)}")
    name, scale = canonical_name(ours)
    if name != "time_s":
        raise AlulaError(
            f"log {where}: unknown time unit {ours!r}; allowed: time_s, time_ms, time_us"
        )
    time = table[theirs] * scale
    return {key: (time, value) for key, value in table.items() if key != theirs}


def _named(
    raw: RawColumns, columns: dict[str, str], where: str
) -> tuple[dict[str, Signal], dict[str, int]]:
    chosen = {ours: theirs for theirs, ours in automatic(raw).items()}
    asked = {ours: theirs for ours, theirs in columns.items() if not ours.startswith("time")}
    taken = {canonical_name(ours)[0] for ours in asked}
    chosen = {o: t for o, t in chosen.items() if canonical_name(o)[0] not in taken} | asked
    for theirs in raw:
        name, _ = canonical_name(theirs, strict=False)
        if name and name not in {canonical_name(o)[0] for o in chosen}:
            chosen[theirs] = theirs
    signals: dict[str, Signal] = {}
    dropped: dict[str, int] = {}
    for ours, theirs in chosen.items():
        if theirs not in raw:
            raise AlulaError(f"log {where}: no column {theirs!r} for {ours}; it has {_some(raw)}")
        name, scale = canonical_name(ours)
        if name == "time_s":
            continue
        signals[name], lost = _checked(*raw[theirs], scale, theirs, where)
        if name.startswith("motor_"):
            _check_throttle(signals[name], name, theirs, where)
        if lost:
            dropped[name] = lost
    if not signals:
        raise AlulaError(
            f"log {where}: no known signal among {_some(raw)}; allowed: map them, e.g. "
            "columns={'acc_z_g': 'your column'}"
        )
    return signals, dropped


def _check_throttle(signal: Signal, name: str, column: str, where: str) -> None:
    low, high = float(signal.value.min()), float(signal.value.max())
    if low < -0.05 or high > 1.05:
        raise AlulaError(
            f"log {where}: {name} from column {column!r} lies in {low:.6g}..{high:.6g}; allowed: "
            f"0..1, or map it with its unit as {name}_pwm (of 65536) or {name}_percent"
        )


def _checked(
    time: np.ndarray, value: np.ndarray, scale: float, column: str, where: str
) -> tuple[Signal, int]:
    """A signal with NaN rows dropped and its time checked; and how many rows were dropped."""
    good = np.isfinite(time) & np.isfinite(value)
    lost = int(good.size - np.count_nonzero(good))
    if good.size < 2 or lost > MAX_NAN_SHARE * good.size:
        raise AlulaError(
            f"log {where}: column {column!r} has {lost} NaN or infinite of {good.size} samples; "
            f"allowed: at least 2 samples and up to {MAX_NAN_SHARE:.0%} NaN"
        )
    time, value = time[good], value[good] * scale
    step = np.diff(time)
    if np.any(step < 0.0):
        at = int(np.argmax(step < 0.0))
        raise AlulaError(
            f"log {where}: time of column {column!r} runs back from {time[at]:.6f} to "
            f"{time[at + 1]:.6f} s at sample {at + 1}; allowed: increasing time"
        )
    fresh = np.concatenate(([True], step > 0.0))
    if np.count_nonzero(fresh) < 2:
        raise AlulaError(
            f"log {where}: column {column!r} has one time stamp; allowed: at least two"
        )
    return Signal(time[fresh], value[fresh]), lost


def _some(names: dict) -> str:
    listed = [str(n) for n in names if "." not in str(n) or len(names) <= 20][:20]
    more = "" if len(listed) == len(names) else ", ..."
    return ", ".join(listed or [str(n) for n in list(names)[:20]]) + more
