"""Parameters of the safety layer: every threshold with unit, default and range."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["multirotor", "arm"]


@dataclass(frozen=True, kw_only=True)
class SafetyConfig:
    """Thresholds. Every field can be a parameter of the node of the same name (plain numbers and tuples)."""

    kind: Kind = "multirotor"
    """What is flown."""
