"""Fly a policy on a PX4 vehicle: `ros2 launch alula px4.launch.py policy:=policy.onnx robot:=robot.toml`, beside the uXRCE-DDS agent."""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

ARGUMENTS = {
    "policy": (None, "policy file (.onnx)"),
    "robot": (None, "name of a shipped robot or path of a robot file; must be the policy's"),
    "params": (
        PathJoinSubstitution([FindPackageShare("alula"), "config", "px4.yaml"]),
        "parameter file",
    ),
}


def generate_launch_description() -> LaunchDescription:
    """One node, brought up by lifecycle transitions; the pilot's switches stay the pilot's."""
    argument = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in ARGUMENTS.items()
            ),
            Node(
                package="alula",
                executable="policy_node",
                name="policy_node",
                output="screen",
                ros_arguments=["--enclave", "/alula/policy_node"],
                parameters=[
                    argument["params"],
                    {
                        "policy": argument["policy"],
                        "robot": argument["robot"],
                        "adapter": "px4",
                    },
                ],
            ),
        ]
    )
