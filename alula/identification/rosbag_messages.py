"""What is read from a ROS 2 message, by type: a time stamp and numbers in our order, units and frames."""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from alula.frames import (
    ALULA_FROM_PX4,
    enu_from_ned,
    flu_from_frd,
    quat_enu_flu_from_ned_frd,
    rot_from_quat,
)

Row = tuple[float, list[float]]
"""Stamp [s], 0 where the message has none, and the numbers."""

ODOMETRY_SIZE = 13
"""position_w (3), quat_wb scalar first (4), velocity_b (3), angular_velocity_b (3)."""
TRAJECTORY_POINTS = 9
"""Points taken from a trajectory; the next message brings more."""
MAX_VALUES = 64
"""Numbers taken from an array; longer ones are no actuator commands."""

# PX4's messages, little endian, as far as they are needed and the same in all versions from 1.14 on.
_PX4_ODOMETRY = struct.Struct("<QQB3x3f4fB3x3f3f")
_PX4_MOTORS = struct.Struct("<QQH2x12f")
_PX4_SETPOINT = struct.Struct("<Q3f3f")
_CDR_HEADER = 4
_NED, _FRD = 1, 3


def _stamp(message: Any) -> float:
    return message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec


def _vector(v: Any) -> list[float]:
    return [v.x, v.y, v.z]


def _quat(q: Any) -> list[float]:
    return [q.w, q.x, q.y, q.z]


def _odometry(m: Any) -> Row:
    pose, twist = m.pose.pose, m.twist.twist
    row = [*_vector(pose.position), *_quat(pose.orientation)]
    return _stamp(m), [*row, *_vector(twist.linear), *_vector(twist.angular)]


def _pose(m: Any) -> Row:
    return _stamp(m), [*_vector(m.pose.position), *_quat(m.pose.orientation)]


def _twist(m: Any) -> Row:
    return _stamp(m), [*_vector(m.twist.linear), *_vector(m.twist.angular)]


def _imu(m: Any) -> Row:
    return _stamp(m), [*_vector(m.angular_velocity), *_vector(m.linear_acceleration)]


def _battery(m: Any) -> Row:
    return _stamp(m), [float(m.voltage)]


def _array(m: Any) -> Row:
    return 0.0, [float(v) for v in m.data[: MAX_VALUES + 1]]


def _joints(m: Any) -> Row:
    # by name, so that the order of the publisher does not matter
    order = np.argsort(list(m.name), kind="stable")
    return _stamp(m), [float(m.position[k]) for k in order]


def _trajectory(m: Any) -> Row:
    # the first points, each as time from the message's stamp, position, velocity; the last repeated
    rows = []
    for point in m.points[:TRAJECTORY_POINTS]:
        ahead = point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec
        velocity = _vector(point.velocities[0].linear) if len(point.velocities) else [0.0] * 3
        rows.append([ahead, *_vector(point.transforms[0].translation), *velocity])
    rows += rows[-1:] * (TRAJECTORY_POINTS - len(rows))
    return _stamp(m), [v for row in rows for v in row]


MESSAGES: dict[str, Callable[[Any], Row]] = {
    "nav_msgs/msg/Odometry": _odometry,
    "geometry_msgs/msg/PoseStamped": _pose,
    "geometry_msgs/msg/TwistStamped": _twist,
    "sensor_msgs/msg/Imu": _imu,
    "sensor_msgs/msg/BatteryState": _battery,
    "sensor_msgs/msg/JointState": _joints,
    "std_msgs/msg/Float32MultiArray": _array,
    "std_msgs/msg/Float64MultiArray": _array,
    "trajectory_msgs/msg/MultiDOFJointTrajectory": _trajectory,
}
"""Types that ROS itself defines, decoded by rosbags with its own definitions."""


def _px4_odometry(raw: bytes) -> Row:
    _, sampled, pose_frame, *v = _PX4_ODOMETRY.unpack_from(raw, _CDR_HEADER)
    position, quat, frame = np.array(v[:3]), np.array(v[3:7]), v[7]
    quat = quat_enu_flu_from_ned_frd(quat)
    velocity_b = flu_from_frd(np.array(v[8:11]))
    if frame == _NED:
        velocity_b = enu_from_ned(np.array(v[8:11])) @ rot_from_quat(quat)
    known = pose_frame == _NED and frame in (_NED, _FRD)
    scale = 1.0 if known else float("nan")
    row = [*(scale * enu_from_ned(position)), *quat, *(scale * velocity_b)]
    return 1e-6 * sampled, [*row, *flu_from_frd(np.array(v[11:14]))]


def _px4_motors(raw: bytes) -> Row:
    stamp, sampled, _, *control = _PX4_MOTORS.unpack_from(raw, _CDR_HEADER)
    rotors = [v for v in control if np.isfinite(v)]
    if len(rotors) == 4:
        rotors = [rotors[k] for k in ALULA_FROM_PX4]
    # last, the age of the sample that the command answers
    return 1e-6 * stamp, [*rotors, 1e-6 * (stamp - sampled)]


def _px4_setpoint(raw: bytes) -> Row:
    stamp, *v = _PX4_SETPOINT.unpack_from(raw, _CDR_HEADER)
    return 1e-6 * stamp, [*enu_from_ned(np.array(v[:3])), *enu_from_ned(np.array(v[3:6]))]


PX4_ODOMETRY, PX4_MOTORS, PX4_SETPOINT = (
    "px4_msgs/msg/VehicleOdometry",
    "px4_msgs/msg/ActuatorMotors",
    "px4_msgs/msg/TrajectorySetpoint",
)
PX4_MESSAGES: dict[str, Callable[[bytes], Row]] = {
    PX4_ODOMETRY: _px4_odometry,
    PX4_MOTORS: _px4_motors,
    PX4_SETPOINT: _px4_setpoint,
}
"""PX4's types, decoded here: a stranger's message definitions are never compiled."""
