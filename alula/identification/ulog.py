"""PX4 ULog: topics turned into our signal names and into body FLU, world ENU."""

import contextlib
import io
import struct

import numpy as np

from alula.errors import AlulaError
from alula.frames import quat_enu_flu_from_ned_frd
from alula.identification.usd import RawColumns

_MAGIC = b"ULog\x01\x12\x35"
_TOPICS = (
    "sensor_combined",
    "vehicle_angular_velocity",
    "actuator_motors",
    "actuator_outputs",
    "vehicle_attitude",
    "vehicle_local_position",
    "battery_status",
)
_BROKEN = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    OSError,
)
"""What pyulog lets through when a file is damaged."""
# Our rotor k is PX4's rotor PX4_ROTOR[k]: M1 front-right, M2 rear-right, M3 rear-left, M4
# front-left against PX4's quad-x front-right, rear-left, front-left, rear-right.
PX4_ROTOR = (0, 3, 1, 2)
_PWM_MIN, _PWM_MAX = 1000.0, 2000.0


def is_ulog(data: bytes) -> bool:
    """Whether the bytes start like a ULog file."""
    return data[:7] == _MAGIC


def read_ulog(data: bytes, where: str) -> RawColumns:
    """Signals of a ULog file under our names, SI units, body FLU and world ENU.

    FRD -> FLU is (x, -y, -z); NED -> ENU is (x, y, z) -> (y, x, -z). Motor outputs in PWM
    microseconds become throttle (pwm - 1000) / 1000; four rotors are put in our order.

    Raises:
        AlulaError: truncated or corrupt file, or no topic that we can use.
    """
    _check_whole(data, where)
    from pyulog import ULog
    from pyulog.exceptions import ULogException

    try:
        # pyulog prints its complaints about damaged messages; the user gets one line instead.
        with contextlib.redirect_stdout(io.StringIO()):
            file = ULog(io.BytesIO(data), message_name_filter_list=list(_TOPICS))
    except (ULogException, struct.error, *_BROKEN) as e:
        raise AlulaError(f"log {where}: broken ULog: {type(e).__name__} {e}") from None
    if file.file_corruption:
        raise AlulaError(f"log {where}: ULog is corrupt or truncated; allowed: an intact file")
    topics = {d.name: d.data for d in reversed(file.data_list) if d.multi_id == 0}
    columns: RawColumns = {}
    _imu(topics, columns)
    _motors(topics, columns, file)
    _state(topics, columns)
    if not columns:
        raise AlulaError(f"log {where}: none of the topics {', '.join(_TOPICS)}")
    return columns


def _check_whole(data: bytes, where: str) -> None:
    """Walk the messages (u16 size, u8 type, content): the last one must end with the file.

    A log that crashed may carry appended data behind a broken message; the flag message `B` tells
    where (three u64 offsets behind 16 flag bytes), and the walk goes on there.
    """
    offset, appended = 16, []
    while offset < len(data):
        end = appended[0] if appended else len(data)
        whole = offset + 3 <= end
        size = data[offset] | data[offset + 1] << 8 if whole else 0
        following = offset + 3 + size
        if following > end:
            if not appended:
                raise AlulaError(
                    f"log {where}: ULog message at byte {offset} runs beyond the file's end: "
                    "truncated or corrupt; allowed: an intact file"
                )
            following = appended.pop(0)
        elif whole and data[offset + 2] == ord("B") and size >= 40 and not appended:
            offsets = struct.unpack_from("<3Q", data, offset + 3 + 16)
            appended = sorted(o for o in offsets if following < o < len(data))
        offset = following


def _seconds(topic: dict) -> np.ndarray:
    return np.asarray(topic["timestamp"], dtype=np.float64) * 1e-6


def _imu(topics: dict, columns: RawColumns) -> None:
    # FRD -> FLU
    signs = {"x": 1.0, "y": -1.0, "z": -1.0}
    combined = topics.get("sensor_combined")
    if combined is not None:
        time = _seconds(combined)
        for i, (axis, sign) in enumerate(signs.items()):
            columns[f"gyro_{axis}_rad_s"] = (time, sign * _f64(combined[f"gyro_rad[{i}]"]))
            columns[f"acc_{axis}_m_s2"] = (time, sign * _f64(combined[f"accelerometer_m_s2[{i}]"]))
    rates = topics.get("vehicle_angular_velocity")
    if rates is not None:
        time = _seconds(rates)
        for i, (axis, sign) in enumerate(signs.items()):
            columns[f"gyro_{axis}_rad_s"] = (time, sign * _f64(rates[f"xyz[{i}]"]))


def _motors(topics: dict, columns: RawColumns, file) -> None:
    motors, scale, offset = topics.get("actuator_motors"), 1.0, 0.0
    names = [f"control[{i}]" for i in range(12)]
    count = 12
    if motors is None:
        motors = topics.get("actuator_outputs")
        if motors is None:
            return
        scale, offset = 1.0 / (_PWM_MAX - _PWM_MIN), _PWM_MIN
        names = [f"output[{i}]" for i in range(16)]
        # Outputs beyond the rotors are servos: PX4's own rotor count decides where it is known.
        n_rotors = file.initial_parameters.get("CA_ROTOR_COUNT") or 4
        count = int(min(np.max(motors["noutputs"]), n_rotors))
    time = _seconds(motors)
    raw = [_f64(motors[n]) for n in names[:count] if n in motors]
    # actuator_motors says NaN for a motor that is not there (and for one that is stopped).
    used = [v for v in raw if np.isfinite(v).any()]
    if len(used) == 4:
        used = [used[k] for k in PX4_ROTOR]
    for k, value in enumerate(used):
        columns[f"motor_{k + 1}"] = (time, np.clip((value - offset) * scale, 0.0, 1.0))


def _state(topics: dict, columns: RawColumns) -> None:
    local = topics.get("vehicle_local_position")
    if local is not None:
        time = _seconds(local)
        # NED -> ENU
        for ours, theirs, sign in (("x", "y", 1.0), ("y", "x", 1.0), ("z", "z", -1.0)):
            columns[f"position_{ours}_m"] = (time, sign * _f64(local[theirs]))
            columns[f"velocity_{ours}_m_s"] = (time, sign * _f64(local[f"v{theirs}"]))
    attitude = topics.get("vehicle_attitude")
    if attitude is not None:
        time = _seconds(attitude)
        quat = np.stack([_f64(attitude[f"q[{i}]"]) for i in range(4)], axis=1)
        turned = quat_enu_flu_from_ned_frd(quat)
        for i, axis in enumerate("wxyz"):
            columns[f"quat_{axis}"] = (time, turned[:, i])


def _f64(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)
