"""Settings of a flight, whichever physics flies it: rates, start, limits, randomisation, delays, noise."""

import math
from dataclasses import dataclass, field, fields
from numbers import Integral, Real

from alula.errors import AlulaError

MAX_DELAY_STEPS = 3
MAX_HISTORY = 64
MAX_EPISODE_STEPS = 10_000_000
"""The kernels count steps in float32, which is exact up to 2^24."""


def _check(name: str, value: object, low: float, high: float, allowed: str, kind: type) -> None:
    # Settings also come from policy files, whose JSON may hold anything.
    number = isinstance(value, kind) and not isinstance(value, bool)
    if not (number and low <= value <= high):  # type: ignore[operator]
        raise AlulaError(f"{name} is {value!r}; allowed: {allowed}")


def _check_reals(config: object, **bounds: tuple[float, float]) -> None:
    for name, (low, high) in bounds.items():
        label = f"{type(config).__name__.lower()} {name}"
        _check(label, getattr(config, name), low, high, f"{low:g} to {high:g}", Real)


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where an episode begins: uniform ranges around the reference at rest."""

    position: float = 0.2
    """Half-width of the box around the reference, per axis [m]."""
    tilt: float = 1.5707963267948966
    """Largest rotation angle about a random axis [rad]."""
    velocity: float = 1.0
    """Half-width per axis [m/s]."""
    angular_velocity: float = 1.0
    """Half-width per axis [rad/s]."""
    rotor_fraction: float = 0.5
    """Rotor speed over its maximum at the start [-]; negative starts at the hover throttle."""
    at_rest: float = 0.0
    """Share of the episodes that begin exactly at rest on the reference [-]."""

    def __post_init__(self) -> None:
        _check_reals(
            self, position=(0.0, 1e6), tilt=(0.0, math.pi), velocity=(0.0, 1e6),
            angular_velocity=(0.0, 1e6), rotor_fraction=(-1.0, 1.0), at_rest=(0.0, 1.0),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Limits:
    """An episode fails outside of these."""

    position: float = 1.0
    """Half-width of the box around the reference, per axis [m]."""
    velocity: float = 10.0
    """Largest velocity component [m/s]."""
    angular_velocity: float = 35.0
    """Largest body-rate component [rad/s]."""

    def __post_init__(self) -> None:
        bound = (1e-6, math.inf)
        _check_reals(self, position=bound, velocity=bound, angular_velocity=bound)


@dataclass(frozen=True, kw_only=True)
class Randomization:
    """Per-episode vehicle parameters: relative half-widths of uniform ranges around the robot's."""

    mass: float = 0.0
    """Relative range of the mass [-]."""
    inertia: float = 0.0
    """Relative range of the inertia, common to the three axes [-]."""
    thrust: float = 0.0
    """Relative range of the thrust curve, common to all rotors [-]."""
    rotor: float = 0.0
    """Relative range of each rotor's own thrust scale [-]."""
    lag: float = 0.0
    """Relative range of the rotor lags, up and down drawn apart [-]."""
    torque: float = 0.0
    """Relative range of the torque per thrust [-]."""
    drag: float = 0.0
    """Relative range of the drag [-]."""
    action_delay_steps: tuple[int, int] = (0, 0)
    """Smallest and largest delay of the action, whole steps drawn per episode [steps]."""
    observation_delay_steps: tuple[int, int] = (0, 0)
    """Smallest and largest delay of the measurements [steps]."""

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name.endswith("_steps"):
                pair = isinstance(value, tuple) and len(value) == 2
                whole = pair and all(isinstance(v, int) for v in value)
                if not whole or not 0 <= value[0] <= value[1] <= MAX_DELAY_STEPS:
                    raise AlulaError(
                        f"{f.name} is {value}; allowed: 0 <= low <= high <= {MAX_DELAY_STEPS}"
                    )
            else:
                label, below_one = f"randomization {f.name}", math.nextafter(1.0, 0.0)
                _check(label, value, 0.0, below_one, "0 <= range < 1", Real)


@dataclass(frozen=True, kw_only=True)
class Disturbances:
    """Forces and torques from outside; normal distributions, per axis."""

    force: float = 1.0 / 20.0
    """Standard deviation of the episode's constant force, in weights m g [-]."""
    torque: float = 1.0 / 10000.0
    """Standard deviation of the episode's constant torque, in m g times one metre [m]."""
    gust: float = 0.0
    """Standard deviation of the gust force (Ornstein-Uhlenbeck), in weights m g [-]."""
    gust_time: float = 0.5
    """Correlation time of the gusts [s]."""

    def __post_init__(self) -> None:
        bound = (0.0, 100.0)
        _check_reals(self, force=bound, torque=bound, gust=bound, gust_time=(1e-4, 1e6))


@dataclass(frozen=True, kw_only=True)
class SimConfig:
    """One flight setting."""

    control_dt: float = 0.01
    """Time between policy steps [s]."""
    substeps: int = 1
    """Physics steps per policy step; the physics step is control_dt / substeps."""
    episode_steps: int = 500
    """Time limit of an episode [steps]."""
    history: int = 32
    """Past actions the actor sees [steps]."""
    noise: float = 1.0
    """Factor on the robot's sensor noise [-]."""
    start: Start = field(default_factory=Start)
    """Where episodes begin."""
    limits: Limits = field(default_factory=Limits)
    """Where they fail."""
    randomization: Randomization = field(default_factory=Randomization)
    """Vehicle parameters and delays, drawn per episode."""
    disturbances: Disturbances = field(default_factory=Disturbances)
    """Constant and gust disturbances."""

    def __post_init__(self) -> None:
        _check("control_dt", self.control_dt, 1e-4, 0.1, "0.0001 to 0.1 s", Real)
        _check("substeps", self.substeps, 1, 100, "1 to 100", Integral)
        steps = f"1 to {MAX_EPISODE_STEPS}"
        _check("episode_steps", self.episode_steps, 1, MAX_EPISODE_STEPS, steps, Integral)
        _check("history", self.history, 0, MAX_HISTORY, f"0 to {MAX_HISTORY}", Integral)
        _check("noise", self.noise, 0.0, 1e6, "0 to 1000000", Real)
