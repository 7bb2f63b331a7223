"""Crazyflie micro-SD log, version 2: header, mixed event records, CRC-32 over everything."""

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from alula.errors import AlulaError

MAGIC = 0xBC
_HEADER = struct.Struct("<BHH")
_RECORD = struct.Struct("<HQ")
_KINDS = {
    "b": "i1",
    "B": "u1",
    "h": "<i2",
    "H": "<u2",
    "i": "<i4",
    "I": "<u4",
    "q": "<i8",
    "Q": "<u8",
    "e": "<f2",
    "f": "<f4",
    "d": "<f8",
}
MAX_EVENTS = 256
MAX_VARIABLES = 256

RawColumns = dict[str, tuple[np.ndarray, np.ndarray]]
"""File column -> (time [s] (T,), values (T,)); each column has its own rate."""


@dataclass(frozen=True)
class _Event:
    name: str
    variables: tuple[str, ...]
    dtype: np.dtype


def is_usd(data: bytes) -> bool:
    """Whether the bytes start like a Crazyflie micro-SD log."""
    return len(data) > 5 and data[0] == MAGIC and data[2] == 0


def read_usd(data: bytes, where: str) -> RawColumns:
    """Columns of a micro-SD log.

    Layout, little endian: u8 0xBC, u16 version, u16 number of event types; per type u16 id, name,
    u16 number of variables, `name(kind)` each, strings zero-terminated; then records u16 id,
    u64 time [us], values; u32 CRC-32 of all bytes before it at the end.

    Args:
        data: the whole file, already decompressed.
        where: how to call the file in errors.

    Returns:
        `event.variable` -> (time [s], values); also under `variable` alone where that is unique.

    Raises:
        AlulaError: wrong version, truncated, CRC mismatch, unknown event id or kind.
    """
    if len(data) < _HEADER.size + 4:
        raise AlulaError(f"log {where}: {len(data)} bytes; a micro-SD log has a header and a CRC")
    _, version, n_events = _HEADER.unpack_from(data)
    if version != 2:
        raise AlulaError(f"log {where}: micro-SD log version {version}; allowed: 2")
    (stored,) = struct.unpack_from("<I", data, len(data) - 4)
    actual = zlib.crc32(memoryview(data)[:-4])
    if stored != actual:
        raise AlulaError(
            f"log {where}: CRC-32 is {actual:08x} but the file says {stored:08x}: "
            "truncated or corrupt; allowed: an intact file"
        )
    events, offset = _read_header(data, n_events, where)
    starts = _record_starts(data, offset, len(data) - 4, events, where)
    columns: RawColumns = {}
    for number, event in events.items():
        if len(starts[number]):
            columns |= _event_columns(data, starts[number], event)
    return columns | _short_names(columns, events)


def _read_header(data: bytes, n_events: int, where: str) -> tuple[dict[int, _Event], int]:
    offset = _HEADER.size
    events: dict[int, _Event] = {}
    if n_events > MAX_EVENTS:
        raise AlulaError(f"log {where}: {n_events} event types; allowed: up to {MAX_EVENTS}")
    try:
        for _ in range(n_events):
            (number,) = struct.unpack_from("<H", data, offset)
            name, offset = _string(data, offset + 2)
            (n_variables,) = struct.unpack_from("<H", data, offset)
            offset += 2
            if n_variables > MAX_VARIABLES:
                raise AlulaError(f"log {where}: event {name!r} with {n_variables} variables")
            fields = []
            for _ in range(n_variables):
                variable, offset = _string(data, offset)
                base, _, kind = variable.rpartition("(")
                fields.append((base, _KINDS[kind.rstrip(")")]))
            layout = np.dtype([("#id", "<u2"), ("#time", "<u8"), *fields])
            events[number] = _Event(name, tuple(f[0] for f in fields), layout)
    except AlulaError:
        raise
    except (struct.error, ValueError, KeyError, UnicodeDecodeError) as e:
        raise AlulaError(f"log {where}: broken micro-SD header near byte {offset}: {e}") from None
    return events, offset


def _string(data: bytes, offset: int) -> tuple[str, int]:
    end = data.index(0, offset, offset + 256)
    return data[offset:end].decode("ascii"), end + 1


def _record_starts(
    data: bytes, offset: int, end: int, events: dict[int, _Event], where: str
) -> dict[int, np.ndarray]:
    """Byte offsets of the records of each event type."""
    if len(events) == 1:
        # One type only: records lie at a fixed stride and need no walk.
        ((number, event),) = events.items()
        size = event.dtype.itemsize
        starts = np.arange(offset, end - size + 1, size)
        ids = np.frombuffer(data, "<u1")[starts[:, None] + np.arange(2)].astype(np.int64) @ (1, 256)
        if (end - offset) % size or np.any(ids != number):
            raise AlulaError(f"log {where}: records do not fit the header; allowed: one event type")
        return {number: starts}
    found: dict[int, list[int]] = {number: [] for number in events}
    sizes = {number: event.dtype.itemsize for number, event in events.items()}
    while offset < end:
        if end - offset < _RECORD.size:
            raise AlulaError(f"log {where}: record cut short at byte {offset}")
        number = data[offset] | data[offset + 1] << 8
        if number not in sizes or offset + sizes[number] > end:
            raise AlulaError(f"log {where}: unknown event {number} at byte {offset}")
        found[number].append(offset)
        offset += sizes[number]
    return {number: np.asarray(offsets, dtype=np.int64) for number, offsets in found.items()}


def _event_columns(data: bytes, starts: np.ndarray, event: _Event) -> RawColumns:
    size = event.dtype.itemsize
    rows = np.frombuffer(data, np.uint8)[starts[:, None] + np.arange(size)]
    table = np.ascontiguousarray(rows).view(event.dtype)[:, 0]
    time = table["#time"].astype(np.float64) * 1e-6
    return {f"{event.name}.{v}": (time, table[v].astype(np.float64)) for v in event.variables}


def _short_names(columns: RawColumns, events: dict[int, _Event]) -> RawColumns:
    names = [v for event in events.values() for v in event.variables]
    return {
        v: columns[f"{event.name}.{v}"]
        for event in events.values()
        for v in event.variables
        if names.count(v) == 1 and f"{event.name}.{v}" in columns
    }
