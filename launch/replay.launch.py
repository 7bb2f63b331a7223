"""Replay a bag without a robot: `ros2 launch alula replay.launch.py bag:=flight [policy:=policy.onnx robot:=robot.toml]`."""

from launch.actions import DeclareLaunchArgument, Shutdown
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, NotEqualsSubstitution, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

ARGUMENTS = {
    "bag": (None, "folder of the bag, or its .mcap or .db3 file"),
    "policy": ("", "policy file that answers; empty: none"),
    "robot": ("crazyflie", "name of a shipped robot or path of a robot file; must be the policy's"),
    "params": (
        PathJoinSubstitution([FindPackageShare("alula"), "config", "multirotor.yaml"]),
        "parameter file",
    ),
}


def generate_launch_description() -> LaunchDescription:
    """The bag, its picture and, if wanted, a policy whose commands go to `command_replayed` and reach no robot."""
    argument = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in ARGUMENTS.items()
            ),
            Node(
                package="alula",
                executable="replay_node",
                output="screen",
                ros_arguments=["--enclave", "/alula/replay_node"],
                parameters=[{"bag": argument["bag"]}],
                on_exit=Shutdown(),
            ),
            Node(
                package="alula",
                executable="view_node",
                output="screen",
                ros_arguments=["--enclave", "/alula/view_node"],
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
                        "autostart": True,
                        "heartbeat": False,
                    },
                ],
                remappings=[("command", "command_replayed")],
                condition=IfCondition(NotEqualsSubstitution(argument["policy"], "")),
            ),
        ]
    )
