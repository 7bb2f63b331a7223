"""Record a flight: `ros2 launch alula record.launch.py folder:=flight`; Ctrl-C completes the bag."""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """One node."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "folder",
                default_value="",
                description="folder of the bag; empty: flight-DATE-TIME where it was launched",
            ),
            Node(
                package="alula",
                executable="record_node",
                output="screen",
                ros_arguments=["--enclave", "/alula/record_node"],
                parameters=[{"folder": LaunchConfiguration("folder")}],
            ),
        ]
    )
