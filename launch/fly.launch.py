"""Fly a policy: `ros2 launch alula fly.launch.py policy:=policy.onnx`, on a simulated robot or (sim:=false) the real one."""

from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, NotSubstitution, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

ARGUMENTS = {
    "policy": (None, "policy file (.onnx)"),
    "robot": ("crazyflie", "name of a shipped robot or path of a robot file; must be the policy's"),
    "sim": (
        "true",
        "true: fly the simulated robot, at once; false: the real one, by lifecycle transitions",
    ),
    "shape": ("hover", "reference of reference_node: hover or figure_eight"),
    "view": ("false", "whether to publish path and markers"),
    "params": (
        PathJoinSubstitution([FindPackageShare("alula"), "config", "multirotor.yaml"]),
        "parameter file",
    ),
}


def generate_launch_description() -> LaunchDescription:
    """Nodes and their parameters; later parameters win."""
    argument = {name: LaunchConfiguration(name) for name in ARGUMENTS}

    def node(name: str, when: str | None = None, **values: object) -> Node:
        condition = None if when is None else IfCondition(argument[when])
        parameters = [argument["params"], *([values] if values else [])]
        return Node(
            package="alula",
            executable=name,
            name=name,
            output="screen",
            # Where ROS security is on, a node gets the rights of this name; else it means nothing.
            ros_arguments=["--enclave", f"/alula/{name}"],
            parameters=parameters,
            condition=condition,
        )

    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in ARGUMENTS.items()
            ),
            node("sim_node", "sim", robot=argument["robot"]),
            node(
                "policy_node",
                policy=argument["policy"],
                robot=argument["robot"],
                autostart=argument["sim"],
                # Nobody needs to watch a simulated flight.
                heartbeat=NotSubstitution(argument["sim"]),
            ),
            node("reference_node", shape=argument["shape"]),
            node("view_node", "view"),
        ]
    )
