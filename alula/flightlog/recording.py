"""What a flight with a policy left behind, whatever wrote the log: the same quantities, SI, ENU/FLU."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from alula.errors import AlulaError
from alula.identification.logs import FlightLog

Level = Literal["info", "warning", "error"]
COUNTERS = (
    "steps",
    "between",
    "missed",
    "restarted",
    "clipped",
    "saturated",
    "not_finite",
    "stale",
    "time_backwards",
    "damaged",
    "lost",
    "held_in_a_row",
    "trips",
)
"""The policy's counters, as in policy.h of the C export, and how often the policy was taken off."""
MAX_EVENTS = 1000
"""Events kept; a log with more is in trouble anyway."""


@dataclass(frozen=True)
class Series:
    """Samples with their own time stamps."""

    time_s: np.ndarray
    """Strictly increasing [s] (T,)."""
    value: np.ndarray
    """(T, K)."""

    def window(self, from_s: float, to_s: float) -> "Series | None":
        """The part between two times; None where fewer than two samples are left."""
        keep = (self.time_s >= from_s) & (self.time_s <= to_s)
        return Series(self.time_s[keep], self.value[keep]) if keep.sum() > 1 else None

    def at(self, time_s: np.ndarray) -> np.ndarray:
        """Linear between samples (len(time_s), K)."""
        columns = [np.interp(time_s, self.time_s, column) for column in self.value.T]
        return np.stack(columns, axis=1)

    def held(self, time_s: np.ndarray) -> np.ndarray:
        """The last sample at or before each time, NaN before the first (len(time_s), K)."""
        k = np.searchsorted(self.time_s, time_s, side="right") - 1
        return np.where((k >= 0)[:, None], self.value[np.maximum(k, 0)], np.nan)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that the robot said."""

    time_s: float
    """When [s]."""
    level: Level
    """How bad."""
    source: str
    """Who said it."""
    text: str
    """What."""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """When the commands went out, and what they answered."""

    sent_s: np.ndarray
    """Time of each command [s] (T,)."""
    latency_s: np.ndarray | None
    """From the sample a command answers to the command [s] (T,); None where the log does not tell."""
    meaning: str
    """Between which two instants the latency lies, or why there is none."""
    every_command: bool
    """Whether the log holds every command, so that its period is the control loop's."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the policy was given and what it answered, as the robot itself logged it."""

    observed: Series
    """Supplied entries of one step in the order of the contract (T, supplied_size)."""
    action: Series
    """Actions [-1, 1] at the same times (T, A)."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A flight. What a log does not hold is None, and `gaps` says so."""

    path: str
    """Log."""
    format: str
    """rosbag2, ulog or usd."""
    sha256: str
    """SHA-256 of the log."""
    signals: FlightLog
    """State and commands under the names of `alula identify`."""
    reference_w: Series | None
    """Reference position [m] (T, 3)."""
    reference_velocity_w: Series | None
    """Reference velocity [m/s] (T, 3)."""
    loop: Loop | None
    """The commands' times."""
    compute_s: Series | None
    """Computing time of a step as the robot measured it [s] (T, 1)."""
    inputs: Inputs | None
    """The policy's own inputs and outputs."""
    action: Series | None
    """The policy's outputs [-1, 1] where they are logged beside the commands (T, A)."""
    flying: tuple[tuple[float, float], ...]
    """When the policy commanded the rotors [s]."""
    events: tuple[Event, ...]
    """What the robot said, by time."""
    counters: dict[str, int]
    """Growth of each of the policy's counters over the log, by its name in COUNTERS."""
    gaps: tuple[str, ...]
    """What is missing or odd, a line each."""

    @property
    def flown(self) -> tuple[float, float]:
        """First and last time that counts [s]."""
        return self.flying[0][0], self.flying[-1][1]

    def is_flying(self, time_s: np.ndarray) -> np.ndarray:
        """Whether the policy flew at each time, bool."""
        inside = np.zeros(len(time_s), bool)
        for a, b in self.flying:
            inside |= (time_s >= a) & (time_s <= b)
        return inside

    def series(self, *names: str) -> Series | None:
        """Signals that share their time stamps as one; None where any is missing."""
        if not self.signals.has(*names):
            return None
        found = [self.signals.signals[n] for n in names]
        time = found[0].time_s
        columns = [
            s.value if len(s.time_s) == len(time) else np.interp(time, s.time_s, s.value)
            for s in found
        ]
        return Series(time, np.stack(columns, axis=1))

    @property
    def throttle(self) -> Series | None:
        """Rotor commands [0, 1] in the order of the robot's rotors (T, R)."""
        names = [f"motor_{k + 1}" for k in range(self.signals.n_motors)]
        return self.series(*names) if names else None

    def window(self, from_s: float | None, to_s: float | None) -> "Recording":
        """The part between two times of the log's own clock [s]; counters are left out, being totals.

        Raises:
            AlulaError: from >= to, or nothing flown between them.
        """
        if from_s is None and to_s is None:
            return self
        signals = self.signals.window(from_s, to_s)
        lo = -np.inf if from_s is None else from_s
        hi = np.inf if to_s is None else to_s

        def cut(series: Series | None) -> Series | None:
            return series.window(lo, hi) if series is not None else None

        flying = tuple((max(a, lo), min(b, hi)) for a, b in self.flying if min(b, hi) > max(a, lo))
        if not flying:
            raise AlulaError(
                f"log {self.path}: the policy did not fly in {lo:g}..{hi:g} s; it flew from "
                f"{self.flown[0]:.3f} to {self.flown[1]:.3f} s"
            )
        observed = cut(self.inputs.observed) if self.inputs else None
        action = cut(self.inputs.action) if self.inputs else None
        return replace(
            self,
            signals=signals,
            reference_w=cut(self.reference_w),
            reference_velocity_w=cut(self.reference_velocity_w),
            loop=_cut_loop(self.loop, lo, hi),
            compute_s=cut(self.compute_s),
            action=cut(self.action),
            inputs=Inputs(observed=observed, action=action) if observed and action else None,
            flying=flying,
            events=tuple(e for e in self.events if lo <= e.time_s <= hi),
            gaps=(*self.gaps, "counters are of the whole log, not of the window"),
        )


def _cut_loop(loop: Loop | None, lo: float, hi: float) -> Loop | None:
    if loop is None:
        return None
    keep = (loop.sent_s >= lo) & (loop.sent_s <= hi)
    latency = None if loop.latency_s is None else loop.latency_s[keep]
    return replace(loop, sent_s=loop.sent_s[keep], latency_s=latency)


def counter_growth(values: np.ndarray) -> int:
    """By how much a counter grew; one that fell was set to zero and began anew."""
    steps = np.diff(values.astype(np.float64))
    return int(np.where(steps < 0.0, values[1:], steps).sum())


def transitions(
    time_s: np.ndarray, number: np.ndarray, names: dict[int, str], source: str, bad: set[int]
) -> list[Event]:
    """An event whenever a logged number changes to another."""
    number = number.astype(np.int64)
    changed = np.flatnonzero(np.diff(number, prepend=number[:1] - 1))
    return [
        Event(
            time_s=float(time_s[k]),
            level="error" if int(number[k]) in bad else "info",
            source=source,
            text=names.get(int(number[k]), str(int(number[k]))),
        )
        for k in changed[:MAX_EVENTS]
    ]


def spans(time_s: np.ndarray, on: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Times from the first to the last sample of each run that is on; single samples do not count."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(np.int8)))
    runs = zip(edges[::2], edges[1::2] - 1, strict=True)
    return tuple((float(time_s[a]), float(time_s[b])) for a, b in runs if b > a)
