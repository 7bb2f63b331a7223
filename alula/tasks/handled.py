"""What tasks about one object have in common: its sensors, what the actor sees of it, how it is turned at the start."""

import numpy as np

from alula.frames import rot_from_quat
from alula.policies.contract import ObservationEntry
from alula.robots.arm import Arm
from alula.sim.arm_scene import OBJECT, Scene

POSITION_NOISE = 0.001
"""Standard deviation of the object's measured position [m] and rotation matrix [-]."""
PAD, FINGER = 0.009, 0.015
"""Half a pad's edge on the Panda's fingers, and a finger's thickness: its outer side is this far from its inner one [m]."""


def pose_sensors(robot: Arm) -> str:
    """MJCF of the sensors of the tool's and the object's pose and of the object's velocity."""
    return f"""
    <framepos name="tool_position_w" objtype="site" objname="{robot.tool}"/>
    <framequat name="tool_quat_w" objtype="site" objname="{robot.tool}"/>
    <framepos name="object_position_w" objtype="xbody" objname="{OBJECT}"/>
    <framequat name="object_quat_w" objtype="xbody" objname="{OBJECT}"/>
    <framelinvel name="object_velocity_w" objtype="xbody" objname="{OBJECT}"/>"""


def entries(robot: Arm) -> tuple[ObservationEntry, ...]:
    """What the actor sees of arm, tool and object, in order, with the noise of the sensors."""
    joints, noise = len(robot.joint_names), POSITION_NOISE
    position, velocity = robot.position_noise, robot.velocity_noise
    return (
        ObservationEntry(name="joint_position", unit="rad", frame="-", size=joints, noise=position),
        ObservationEntry(name="joint_velocity", unit="rad/s", frame="-", size=joints, noise=velocity),
        ObservationEntry(name="tool_position_w", unit="m", frame="w", size=3),
        ObservationEntry(name="tool_rot_w", unit="-", frame="w", size=9),
        ObservationEntry(name="object_rot_w", unit="-", frame="w", size=9, noise=noise),
        ObservationEntry(name="tool_to_object_w", unit="m", frame="w", size=3, noise=noise),
    )  # fmt: skip


def goal_entries(robot: Arm) -> tuple[ObservationEntry, ...]:
    """The same, and how far the object is from its goal."""
    error = ObservationEntry(
        name="object_position_error_w", unit="m", frame="w", size=3, noise=POSITION_NOISE
    )
    return (*entries(robot), error)


def observe(scene: Scene) -> list[np.ndarray]:
    """Actor rows in the order of `entries`."""
    sensor, n = scene.sensor, len(scene.joint_position)
    rotations = [rot_from_quat(sensor[k]).reshape(n, 9) for k in ("tool_quat_w", "object_quat_w")]
    return [
        scene.joint_position,
        scene.joint_velocity,
        sensor["tool_position_w"],
        *rotations,
        to_object(scene),
    ]


def goal_observe(scene: Scene) -> list[np.ndarray]:
    """Actor rows in the order of `goal_entries`."""
    return [*observe(scene), to_goal(scene)]


def to_object(scene: Scene) -> np.ndarray:
    """From the tool to the object [m] (N, 3)."""
    return scene.sensor["object_position_w"] - scene.sensor["tool_position_w"]


def to_goal(scene: Scene) -> np.ndarray:
    """From the object to its goal [m] (N, 3)."""
    return scene.goal["position_w"] - scene.sensor["object_position_w"]


def turned(yaw: np.ndarray) -> np.ndarray:
    """Quaternions (n, 4), scalar first, of turns about z by angles [rad] (n)."""
    return np.stack([np.cos(0.5 * yaw), 0.0 * yaw, 0.0 * yaw, np.sin(0.5 * yaw)], axis=1)
