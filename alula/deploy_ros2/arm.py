"""What the robot side knows of an arm: joints by name and their limits."""

import hashlib
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Joints in the order of the policy's actions."""

    name: str
    """Robot name; the policy's contract carries it."""
    joint_names: tuple[str, ...]
    """Joint names (J)."""
    position_low: tuple[float, ...]
    """Lower joint limits [rad or m] (J)."""
    position_high: tuple[float, ...]
    """Upper joint limits [rad or m] (J)."""
    velocity_max: tuple[float, ...]
    """Largest joint speeds [rad/s or m/s] (J)."""
    effort_max: tuple[float, ...]
    """Largest joint efforts [N m or N] (J)."""

    @property
    def hash(self) -> str:
        """SHA-256 over the numbers and names; the policy's contract carries it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
