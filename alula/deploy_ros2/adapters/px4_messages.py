"""PX4's messages and our quantities: frames and orders, as plain functions. `msg` is the module px4_msgs.msg."""

from typing import Any

import numpy as np

from alula.deploy_ros2.samples import Sample
from alula.errors import AlulaError
from alula.frames import (
    enu_from_ned,
    flu_from_frd,
    frd_from_flu,
    ned_from_enu,
    quat_enu_flu_from_ned_frd,
    rot_from_quat,
)

NED, BODY_FRD = 1, 3
"""VehicleOdometry: pose_frame and velocity_frame NED, velocity_frame of the body."""
ARMED, OFFBOARD = 2, 14
"""VehicleStatus: arming_state and nav_state."""
SET_MODE, ARM_DISARM = 176, 400
"""VehicleCommand.command."""
ARM, DISARM, FORCE = 1.0, 0.0, 21196.0
"""Parameter 1 of ARM_DISARM, and parameter 2 where it shall be done in the air too."""
CUSTOM_MODE, OFFBOARD_MODE = 1.0, 6.0
"""Parameters 1 and 2 of SET_MODE for offboard."""
CONTROLS = 12
"""Length of ActuatorMotors.control."""
NAN = float("nan")


def odometry_samples(message: Any, stamp: float) -> dict[str, Sample]:
    """Samples of a VehicleOdometry; what PX4 marks as invalid by NaN stays NaN.

    Raises:
        AlulaError: a frame that says nothing about north.
    """
    if message.pose_frame != NED or message.velocity_frame not in (NED, BODY_FRD):
        raise AlulaError(
            f"VehicleOdometry with pose_frame {message.pose_frame}, velocity_frame {message.velocity_frame}; "
            f"allowed: {NED} (NED), velocity also {BODY_FRD} (body)"
        )
    q_ned_frd = np.asarray(message.q, float)
    velocity = np.asarray(message.velocity, float)
    if message.velocity_frame == BODY_FRD:
        # v_ned = R_ned_frd v_frd
        velocity = rot_from_quat(q_ned_frd) @ velocity
    values = {
        "position_w": enu_from_ned(np.asarray(message.position, float)),
        "quat_wb": quat_enu_flu_from_ned_frd(q_ned_frd),
        "velocity_w": enu_from_ned(velocity),
        "angular_velocity_b": flu_from_frd(np.asarray(message.angular_velocity, float)),
    }
    return {name: Sample(value=value, stamp=stamp) for name, value in values.items()}


def actuator_motors(
    msg: Any, throttle: np.ndarray, motors: tuple[int, ...], now_us: int, sampled_us: int
) -> Any:
    """Throttles [0, 1] of our rotors (R) as ActuatorMotors; PX4's motor k is our rotor motors[k], others stand."""
    control = [NAN] * CONTROLS
    for k, rotor in enumerate(motors):
        control[k] = float(throttle[rotor])
    return msg.ActuatorMotors(timestamp=now_us, timestamp_sample=sampled_us, control=control)


def motors_off(msg: Any, now_us: int) -> Any:
    """ActuatorMotors that stops every motor."""
    return msg.ActuatorMotors(timestamp=now_us, timestamp_sample=now_us, control=[NAN] * CONTROLS)


def rates_setpoint(msg: Any, command: np.ndarray, now_us: int) -> Any:
    """Body rates x, y, z [rad/s] in FLU and common throttle [0, 1] (4) as VehicleRatesSetpoint."""
    roll, pitch, yaw = frd_from_flu(np.asarray(command[:3], float)).tolist()
    # thrust along body z, which points down
    thrust = [0.0, 0.0, -float(command[3])]
    return msg.VehicleRatesSetpoint(
        timestamp=now_us, roll=roll, pitch=pitch, yaw=yaw, thrust_body=thrust
    )


def velocity_setpoint(msg: Any, velocity_w: np.ndarray, now_us: int) -> Any:
    """Velocity in the world [m/s] (3) as TrajectorySetpoint at heading zero, which is east: yaw 90 degrees."""
    nothing = [NAN] * 3
    return msg.TrajectorySetpoint(
        timestamp=now_us,
        position=nothing,
        velocity=ned_from_enu(np.asarray(velocity_w, float)).tolist(),
        acceleration=nothing,
        jerk=nothing,
        yaw=0.5 * np.pi,
        yawspeed=NAN,
    )


def offboard_mode(msg: Any, level: str, now_us: int) -> Any:
    """The heartbeat, which also says what kind of commands come."""
    kinds = {"throttle": "direct_actuator", "rates": "body_rate", "velocity": "velocity"}
    if level not in kinds:
        raise AlulaError(
            f"the policy commands {level}; PX4 takes: {', '.join(kinds)} from this adapter"
        )
    return msg.OffboardControlMode(timestamp=now_us, **{kinds[level]: True})


def vehicle_command(msg: Any, command: int, param1: float, param2: float, now_us: int) -> Any:
    """A request to the autopilot from this computer."""
    return msg.VehicleCommand(
        timestamp=now_us,
        command=command,
        param1=param1,
        param2=param2,
        target_system=1,
        target_component=1,
        source_system=1,
        source_component=1,
        from_external=True,
    )
