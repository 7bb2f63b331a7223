"""Which interface a node speaks: the only place that knows every one."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, assert_never

from rclpy.node import Node

from alula.deploy_ros2.adapters.crazyswarm import CrazyswarmAdapter, CrazyswarmConfig
from alula.deploy_ros2.adapters.interface import Adapter, Timing
from alula.deploy_ros2.adapters.multirotor import MultirotorAdapter, MultirotorConfig
from alula.deploy_ros2.adapters.parameters import read
from alula.deploy_ros2.adapters.px4 import Px4Adapter, Px4Config
from alula.deploy_ros2.adapters.ros2_control import Ros2ControlAdapter, Ros2ControlConfig
from alula.deploy_ros2.node_config import Adapter as AdapterName
from alula.deploy_ros2.node_config import NodeConfig
from alula.errors import AlulaError
from alula.robots.arm import Arm
from alula.robots.multirotor import Multirotor

if TYPE_CHECKING:
    from alula.deploy_ros2.runner import PolicyRunner

CONFIGS: dict[AdapterName, type] = {
    "multirotor": MultirotorConfig,
    "px4": Px4Config,
    "crazyswarm": CrazyswarmConfig,
    "ros2_control": Ros2ControlConfig,
}
"""Configuration of each adapter; its fields are parameters below the adapter's name."""
VEHICLE = ("position_w", "velocity_w", "quat_wb", "angular_velocity_b")
"""What must have been measured before a vehicle is taken over."""


def required(adapter: AdapterName, outside: Sequence[str]) -> tuple[str, ...]:
    """Quantities that must be there before the policy takes over; `outside` are those that an arm's needs from elsewhere."""
    if adapter != "ros2_control":
        return VEHICLE
    # Without a goal for the joints they stay where they are; where an object or a tool shall be nobody can guess.
    others = (name for name in outside if name != "joint_position_reference")
    return ("joint_position", "joint_velocity", *others)


def make_adapter(
    node: Node,
    config: NodeConfig,
    runner: "PolicyRunner",
    robot: Multirotor | Arm,
    timing: Timing,
    on_state: Callable[[], None],
) -> Adapter:
    """The interface that the configuration names, subscribed and ready.

    Raises:
        AlulaError: its messages are not installed, or the policy does not command what it takes.
    """
    if isinstance(robot, Arm) != (config.adapter == "ros2_control"):
        kinds = "ros2_control" if isinstance(robot, Arm) else "multirotor, px4, crazyswarm"
        raise AlulaError(f"adapter is {config.adapter} and robot {robot.name!r}; allowed: {kinds}")
    match config.adapter:
        case "multirotor":
            settings = read(node, MultirotorConfig, "multirotor.")
            return MultirotorAdapter(node, settings, config, runner, timing, on_state)
        case "px4":
            return Px4Adapter(node, read(node, Px4Config, "px4."), config, runner, timing, on_state)
        case "crazyswarm":
            settings = read(node, CrazyswarmConfig, "crazyswarm.")
            return CrazyswarmAdapter(node, settings, config, runner, timing, on_state)
        case "ros2_control":
            assert isinstance(robot, Arm)
            settings = read(node, Ros2ControlConfig, "ros2_control.")
            return Ros2ControlAdapter(node, settings, config, runner, robot, timing, on_state)
        case _:
            assert_never(config.adapter)
