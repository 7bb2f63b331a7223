"""Which interface a node speaks: the only place that knows every one."""

from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

from rclpy.node import Node

from alula.deploy_ros2.adapters.interface import Adapter, Timing
from alula.deploy_ros2.adapters.multirotor import MultirotorAdapter, MultirotorConfig
from alula.deploy_ros2.adapters.parameters import read
from alula.deploy_ros2.node_config import Adapter as AdapterName
from alula.deploy_ros2.node_config import NodeConfig

if TYPE_CHECKING:
    from alula.deploy_ros2.runner import PolicyRunner

CONFIGS: dict[str, type] = {"multirotor": MultirotorConfig}
"""Configuration of each adapter; its fields are parameters below the adapter's name."""
VEHICLE = ("position_w", "velocity_w", "quat_wb", "angular_velocity_b")
"""What must have been measured before a vehicle is taken over."""


def required(adapter: AdapterName) -> tuple[str, ...]:
    """Quantities that must be there before the policy takes over."""
    return ("joint_position", "joint_velocity") if adapter == "ros2_control" else VEHICLE


def make_adapter(
    node: Node,
    config: NodeConfig,
    runner: "PolicyRunner",
    timing: Timing,
    on_state: Callable[[], None],
) -> Adapter:
    """The interface that the configuration names, subscribed and ready.

    Raises:
        AlulaError: its messages are not installed, or the policy does not command what it takes.
    """
    match config.adapter:
        case "multirotor":
            return MultirotorAdapter(node, read(node, MultirotorConfig, "multirotor."), config, runner.names, timing, on_state)  # fmt: skip
        case _:
            assert_never(config.adapter)
