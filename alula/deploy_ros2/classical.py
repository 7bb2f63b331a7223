"""Hold and land without a policy, from the robot file alone: what the safety layer falls back on."""

from collections.abc import Mapping

import numpy as np

from alula.deploy_ros2.samples import Sample
from alula.robots.multirotor import Multirotor


class Hold:
    """Holds a multirotor at a position and its present heading.

    Samples: position_w, velocity_w, quat_wb, angular_velocity_b. Where position or velocity are missing, NaN
    or old it flies level at the hover throttle; where the attitude is, all rotors turn at the hover throttle.
    """

    def __init__(self, robot: Multirotor) -> None:
        raise NotImplementedError

    def start(
        self, now: float, samples: Mapping[str, Sample], target_w: np.ndarray | None = None
    ) -> None:
        """Take over: hold `target_w` [m] (3), or where the vehicle comes to rest where it is None."""
        raise NotImplementedError

    def step(self, now: float, samples: Mapping[str, Sample]) -> np.ndarray:
        """Throttle [0, 1] of each rotor in the order of the robot file (R); finite whatever comes in."""
        raise NotImplementedError


class Land:
    """Descends from where it is at a constant speed, notices the ground and stops the motors.

    `landed` is true from the touch-down on; the throttle is 0 then.
    """

    landed: bool

    def __init__(self, robot: Multirotor, *, descent: float = 0.4) -> None:
        raise NotImplementedError

    def start(self, now: float, samples: Mapping[str, Sample]) -> None:
        """Take over where the vehicle is."""
        raise NotImplementedError

    def step(self, now: float, samples: Mapping[str, Sample]) -> np.ndarray:
        """Throttle [0, 1] of each rotor in the order of the robot file (R); finite whatever comes in."""
        raise NotImplementedError


class JointHold:
    """Holds joint positions: brakes to the target within the joints' velocity limits."""

    def __init__(self, names: tuple[str, ...], velocity_max: np.ndarray, period: float) -> None:
        raise NotImplementedError

    def start(self, position: np.ndarray, target: np.ndarray) -> None:
        """Take over at the commanded or measured `position`, go to `target` [rad or m] (J)."""
        raise NotImplementedError

    def step(self) -> np.ndarray:
        """Joint positions to command, in the order of `names` (J)."""
        raise NotImplementedError
