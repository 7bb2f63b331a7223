"""Parameters of policy_node, one field each; plain values, checked when they are read."""

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

from alula.deploy_ros2.runner import Engine
from alula.errors import AlulaError

Adapter = Literal["multirotor", "px4", "crazyswarm", "ros2_control"]
Stamps = Literal["message", "arrival"]
ReferenceKind = Literal["latched", "streamed"]


def check_ranges(config: object, ranges: dict[str, tuple[float, float]]) -> None:
    """Refuse a configuration whose fields lie outside of these ranges.

    Raises:
        AlulaError: names the first field that does.
    """
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        # Never true for NaN
        if not low <= value <= high:
            raise AlulaError(f"{name} is {value}; allowed: {low:g} to {high:g}")


@dataclass(frozen=True, kw_only=True)
class NodeConfig:
    """What is flown, through which interface, and how."""

    policy: str = ""
    """Policy file (.onnx)."""
    robot: str = ""
    """Robot that is really there: name of a shipped one or path of its file; must be the policy's."""
    adapter: Adapter = "multirotor"
    """Interface to the robot: multirotor, px4, crazyswarm or ros2_control."""
    engine: Engine = "onnx"
    """Runtime of the network: onnx (ONNX Runtime) or c (the exported C, compiled at configure)."""
    autostart: bool = False
    """Configure at start-up and activate as soon as every measurement is there; else by lifecycle transitions."""
    stamps: Stamps = "message"
    """Time of a measurement: message (its header, same clock as this computer's) or arrival."""
    reference: ReferenceKind = "latched"
    """latched: the last set-point holds until the next one; streamed: set-points must keep coming."""
    reference_speed: float = 0.5
    """Largest speed on the way to a new set-point [m/s]."""
    reference_acceleration: float = 1.0
    """Largest acceleration on that way [m/s^2]."""
    heartbeat: bool = True
    """Whether an operator must keep publishing std_msgs/Empty on `heartbeat` (see safety.heartbeat_age)."""
    lost_steps: int = 10
    """Steps in a row without valid input until the policy is given up for lost."""
    fresh: float = 0.2
    """Oldest measurement with which the node may be activated [s]."""
    diagnostics_period: float = 0.5
    """Time between two diagnostic messages; a change of state is sent at once [s]."""
    look: float = 0.1
    """How often the process looks for messages while none comes [s]; 0.001 keeps processor and caches warm, which brings
    commands sooner and takes a part of a core (docs/ros2.md)."""

    def __post_init__(self) -> None:
        chosen = {
            "adapter": Adapter,
            "engine": Engine,
            "stamps": Stamps,
            "reference": ReferenceKind,
        }
        for name, kinds in chosen.items():
            if getattr(self, name) not in get_args(kinds):
                allowed = ", ".join(get_args(kinds))
                raise AlulaError(f"{name} is {getattr(self, name)!r}; allowed: {allowed}")
        ranges = {
            "reference_speed": (1e-3, 100.0), "reference_acceleration": (1e-3, 1000.0), "lost_steps": (1, 10_000),
            "fresh": (1e-3, 10.0), "diagnostics_period": (0.01, 10.0), "look": (1e-4, 1.0),
        }  # fmt: skip
        check_ranges(self, ranges)


@dataclass(frozen=True, kw_only=True)
class ReferenceConfig:
    """What reference_node shows the way of."""

    shape: Literal["hover", "figure_eight"] = "hover"
    """hover: stay at the centre; figure_eight: x = length/2 sin w t, y = width/2 sin 2 w t about it."""
    centre: tuple[float, ...] = (0.0, 0.0, 1.0)
    """Where it is [m]."""
    length: float = 2.0
    """Extent along x [m]."""
    width: float = 1.0
    """Extent along y [m]."""
    lap: float = 5.5
    """Time of one lap [s]."""
    wait: float = 3.0
    """Time at the centre before the figure-eight begins, for the policy to take over [s]."""
    ease: float = 4.0
    """Time in which the figure-eight comes from rest to its speed [s]."""
    rate: float = 10.0
    """Messages a second [Hz]."""
    window: float = 2.0
    """How far ahead each message reaches [s]."""
    spacing: float = 0.05
    """Time between two points of a message [s]."""

    def __post_init__(self) -> None:
        if self.shape not in ("hover", "figure_eight"):
            raise AlulaError(f"shape is {self.shape!r}; allowed: hover, figure_eight")
        if len(self.centre) != 3 or not all(math.isfinite(x) for x in self.centre):
            raise AlulaError(f"centre is {self.centre}; allowed: 3 finite numbers [m]")
        ranges = {
            "length": (0.0, 1000.0), "width": (0.0, 1000.0), "lap": (0.5, 1000.0), "wait": (0.0, 60.0), "ease": (0.0, 60.0),
            "rate": (0.1, 200.0), "window": (0.1, 60.0), "spacing": (0.005, 1.0),
        }  # fmt: skip
        check_ranges(self, ranges)


def plain(value: object) -> object:
    """A field's value as a parameter has it: tuples as lists."""
    return list(value) if isinstance(value, tuple) else value


def from_plain(config: type, values: dict[str, object]) -> object:
    """A configuration from the values of its parameters: lists as tuples, floats for whole numbers.

    Raises:
        AlulaError: a value out of its range.
    """
    out: dict[str, object] = {}
    for f in fields(config):
        value = values[f.name]
        out[f.name] = tuple(value) if isinstance(value, list) else value
    return config(**out)
