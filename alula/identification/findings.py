"""Collects estimates, intervals and reasons while a log is worked through."""

from dataclasses import dataclass, field

import numpy as np

Interval = tuple[float, float]


@dataclass
class Findings:
    """What has been found so far; `identify` freezes it into an Identification."""

    values: dict[str, float] = field(default_factory=dict)
    """Estimate by key, e.g. thrust_c0_n, rotor_lag_s, inertia_x_kg_m2."""
    intervals: dict[str, Interval] = field(default_factory=dict)
    """95 % interval by the same key."""
    r2: dict[str, float] = field(default_factory=dict)
    """Share of variance explained, by fit."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Why a quantity is not observable, by quantity."""
    extras: dict[str, object] = field(default_factory=dict)
    """Further findings for the JSON."""
    series: dict[str, np.ndarray] = field(default_factory=dict)
    """Series for plots."""

    def found(self, key: str, value: float, interval: Interval) -> None:
        """Record an estimate with its interval."""
        self.values[key] = float(value)
        self.intervals[key] = (float(interval[0]), float(interval[1]))
        self.reasons.pop(key, None)

    def missing(self, quantity: str, reason: str) -> None:
        """Record why a quantity is not there."""
        self.reasons[quantity] = reason

    def get(self, *keys: str) -> tuple[float, ...] | None:
        """The named estimates, or None unless all are there."""
        if all(key in self.values for key in keys):
            return tuple(self.values[key] for key in keys)
        return None
