"""Names of the signals in a flight log, their units, and the columns known without being told."""

import math
import re
from collections.abc import Iterable

from alula.errors import AlulaError
from alula.robots.multirotor import GRAVITY

PWM_FULL = 65536.0
"""Crazyflie motor command at throttle 1."""
POLE_PAIRS = 6
"""Pole pairs of the Crazyflie 2.1 Brushless motors: electrical / mechanical speed."""
_RPM = 2.0 * math.pi / 60.0

# our name (regular expression; the SI unit may be left out), inside name, factor to its unit
_NAMES: tuple[tuple[str, str, float], ...] = (
    (r"time(?:_s)?", "time_s", 1.0),
    (r"time_ms", "time_s", 1e-3),
    (r"time_us", "time_s", 1e-6),
    (r"acc_([xyz])(?:_m_s2)?", r"acc_\1_m_s2", 1.0),
    (r"acc_([xyz])_g", r"acc_\1_m_s2", GRAVITY),
    (r"gyro_([xyz])(?:_rad_s)?", r"gyro_\1_rad_s", 1.0),
    (r"gyro_([xyz])_deg_s", r"gyro_\1_rad_s", math.pi / 180.0),
    (r"acc_w_([xyz])_m_s2", r"acc_w_\1_m_s2", 1.0),
    (r"motor_(\d+)", r"motor_\1", 1.0),
    (r"motor_(\d+)_pwm", r"motor_\1", 1.0 / PWM_FULL),
    (r"motor_(\d+)_percent", r"motor_\1", 0.01),
    (r"rotor_speed_(\d+)(?:_rad_s)?", r"rotor_speed_\1_rad_s", 1.0),
    (r"rotor_speed_(\d+)_rpm", r"rotor_speed_\1_rad_s", _RPM),
    (r"rotor_speed_(\d+)_erpm", r"rotor_speed_\1_rad_s", _RPM / POLE_PAIRS),
    (r"position_([xyz])(?:_m)?", r"position_\1_m", 1.0),
    (r"velocity_([xyz])(?:_m_s)?", r"velocity_\1_m_s", 1.0),
    (r"quat_([wxyz])", r"quat_\1", 1.0),
    (r"battery_v", "battery_v", 1.0),
    (r"command_(thrust|roll|pitch|yaw)_pwm", r"command_\1_pwm", 1.0),
)
ALLOWED = (
    "time_s/_ms/_us, acc_x_m_s2/_g, acc_w_x_m_s2 (world axes), gyro_x_rad_s/_deg_s, motor_1/_pwm/_percent, "
    "rotor_speed_1_rad_s/_rpm/_erpm, position_x_m, velocity_x_m_s, quat_w, battery_v, "
    "command_thrust_pwm (and roll, pitch, yaw)"
)


def _automatic() -> dict[str, str]:
    known = {
        "t": "time_s",
        "time": "time_s",
        "time_s": "time_s",
        "tick": "time_ms",
        "time_ms": "time_ms",
        "timestamp_us": "time_us",
        "time_us": "time_us",
        "lhPosition.x": "position_x_m",
        "lhPosition.y": "position_y_m",
        "lhPosition.z": "position_z_m",
        "controller.r_roll": "gyro_x_rad_s",
        "controller.r_pitch": "gyro_y_rad_s",
        "controller.r_yaw": "gyro_z_rad_s",
        "controller.accelz": "acc_z_g",
        "pm.vbat": "battery_v",
        "Vbat": "battery_v",
    }
    for axis in "xyz":
        known[f"acc.{axis}"] = f"acc_{axis}_g"
        known[f"gyro.{axis}"] = f"gyro_{axis}_deg_s"
        known[f"stateEstimate.{axis}"] = f"position_{axis}_m"
        known[f"stateEstimate.v{axis}"] = f"velocity_{axis}_m_s"
        known[axis] = f"position_{axis}_m"
        known[f"v{axis}"] = f"velocity_{axis}_m_s"
        known[f"w{axis}"] = f"gyro_{axis}_rad_s"
        known[f"a{axis}"] = f"acc_{axis}_m_s2"
    for axis in "wxyz":
        known[f"q{axis}"] = f"quat_{axis}"
        known[f"stateEstimate.q{axis}"] = f"quat_{axis}"
    for k in range(1, 9):
        known[f"motor.m{k}"] = f"motor_{k}_pwm"
        known[f"m{k}_thrust"] = f"motor_{k}"
        known[f"m{k}_erpm"] = f"rotor_speed_{k}_erpm"
    for word in ("thrust", "roll", "pitch", "yaw"):
        known[f"controller.cmd_{word}"] = f"command_{word}_pwm"
    return known


# The Crazyflie's state estimate gives specific force along world axes (firmware, estimator_kalman:
# acceleration turned by the attitude, gravity added back); tables made from it call it ax, ay, az.
_WORLD_ACC = {f"a{axis}": f"acc_w_{axis}_m_s2" for axis in "xyz"}


def automatic(columns: Iterable[str]) -> dict[str, str]:
    """The file's column -> our name with its unit, for the columns that alula knows.

    Args:
        columns: all columns of the file; electrical motor speeds beside ax, ay, az show that the
            table was made from the Crazyflie's state estimate.
    """
    present = set(columns)
    known = AUTOMATIC | _WORLD_ACC if "m1_erpm" in present else AUTOMATIC
    return {theirs: ours for theirs, ours in known.items() if theirs in present}


AUTOMATIC: dict[str, str] = _automatic()
"""The file's column -> our name with its unit, for the logs that alula knows by their columns."""


def canonical_name(name: str, *, strict: bool = True) -> tuple[str, float]:
    """Inside (SI) name of one of our signal names and the factor to its unit.

    Args:
        name: e.g. `acc_z_g`.
        strict: raise for an unknown name, else return ("", 0).

    Raises:
        AlulaError: a name that is not ours.
    """
    for pattern, inside, factor in _NAMES:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(inside), factor
    if strict:
        raise AlulaError(f"unknown signal {name!r}; allowed: {ALLOWED}")
    return "", 0.0
