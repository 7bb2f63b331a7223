"""Fly an arm's policy: `ros2 launch alula arm.launch.py policy:=policy.onnx`, on a simulated arm or (sim:=false) the real one."""

from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, NotSubstitution, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

ARGUMENTS = {
    "policy": (None, "policy file (.onnx)"),
    "robot": ("ur5e", "name of a shipped arm or path of a robot file; must be the policy's"),
    "sim": (
        "true",
        "true: move the simulated arm, at once; false: the real one, by lifecycle transitions",
    ),
    "params": (
        PathJoinSubstitution([FindPackageShare("alula"), "config", "ros2_control.yaml"]),
        "parameter file",
    ),
}


def generate_launch_description() -> LaunchDescription:
    """Nodes and their parameters; later parameters win."""
    argument = {name: LaunchConfiguration(name) for name in ARGUMENTS}

    def node(name: str, when: str | None = None, **values: object) -> Node:
        return Node(
            package="alula",
            executable=name,
            name=name,
            output="screen",
            parameters=[argument["params"], values],
            condition=None if when is None else IfCondition(argument[when]),
        )

    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in ARGUMENTS.items()
            ),
            node("sim_arm_node", "sim", robot=argument["robot"]),
            node(
                "policy_node",
                policy=argument["policy"],
                robot=argument["robot"],
                autostart=argument["sim"],
                # Nobody needs to watch a simulated arm.
                heartbeat=NotSubstitution(argument["sim"]),
            ),
        ]
    )
