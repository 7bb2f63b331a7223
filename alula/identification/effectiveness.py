"""Control effectiveness for incremental control: angular acceleration per motor command.

Method and figures to compare with: Bitcraze's crazyflie-firmware, tools/param_est (defaults of
its INDI controller). Written anew from the description: low-pass rates and lagged commands alike,
then regress the change of the angular acceleration on the change of the command.
"""

from dataclasses import dataclass

import numpy as np

from alula.errors import AlulaError
from alula.identification.intervals import bootstrap_fit, interval
from alula.identification.logs import FlightLog
from alula.identification.resample import regular

CUTOFF_HZ = 4.0
"""Cut-off of the low-pass that commands and rates go through [Hz]."""
ORDER = 4
"""Order of that Butterworth low-pass."""
ACTUATOR_LAG_S = 0.0617
"""Time constant of the actuators in the published estimate [s]."""
SIGNALS = (
    "gyro_x_rad_s",
    "gyro_y_rad_s",
    "gyro_z_rad_s",
    "command_roll_pwm",
    "command_pitch_pwm",
    "command_yaw_pwm",
)


@dataclass(frozen=True)
class Effectiveness:
    """Angular acceleration per command, in (rad/s^2) per PWM unit; signs as in the log."""

    values: dict[str, float]
    """g1_p, g1_q, g1_r: per command; g2_r: per PWM unit of the command's change in one second."""
    intervals: dict[str, tuple[float, float]]
    """95 % intervals, moving-block bootstrap."""
    r2: dict[str, float]
    """Share of the variance of the change of angular acceleration explained: roll, pitch, yaw."""
    resampled: dict[str, float]
    """The same estimates after resampling by the time stamps (`values` counts rows)."""


def control_effectiveness(log: FlightLog) -> Effectiveness:
    """G1 of roll, pitch and yaw and G2 of yaw from body rates and attitude commands.

    The published estimate counts rows as equally spaced, longer steps included; `values` does
    the same, so that it compares; `resampled` respects the time stamps.

    Raises:
        AlulaError: a signal is missing, or the commands do not vary.
    """
    missing = [name for name in SIGNALS if not log.has(name)]
    if missing:
        raise AlulaError(f"log {log.path}: no {missing[0]}; needed: {', '.join(SIGNALS)}")
    time = log.signals[SIGNALS[0]].time_s
    dt = float(np.median(np.diff(time)))
    if any(log.signals[n].time_s.size != time.size for n in SIGNALS):
        raise AlulaError(f"log {log.path}: rates and commands must share their time stamps")
    rows = np.stack([log.signals[n].value for n in SIGNALS], axis=1)
    values, spans, r2 = _estimate(rows, dt, log.path)
    resampled, _, _ = _estimate(regular(log, SIGNALS, dt).stack(*SIGNALS), dt, log.path)
    return Effectiveness(values=values, intervals=spans, r2=r2, resampled=resampled)


def _estimate(
    rows: np.ndarray, dt: float, where: str
) -> tuple[dict[str, float], dict[str, tuple[float, float]], dict[str, float]]:
    from scipy.signal import butter, lfilter

    b, a = butter(ORDER, CUTOFF_HZ, fs=1.0 / dt, output="ba")  # type: ignore[misc]
    alpha = -np.expm1(-dt / ACTUATOR_LAG_S)
    lagged = lfilter([alpha], [1.0, alpha - 1.0], rows[:, 3:], axis=0)
    rate = np.asarray(lfilter(b, a, rows[:, :3], axis=0))
    command = np.asarray(lfilter(b, a, lagged, axis=0))

    def change(x: np.ndarray) -> np.ndarray:
        return np.diff(x, axis=0, prepend=x[:1]) / dt

    jerk, change_1 = change(change(rate)), change(command)
    change_2 = change(change_1)
    values: dict[str, float] = {}
    spans: dict[str, tuple[float, float]] = {}
    r2: dict[str, float] = {}
    for axis, (name, letter) in enumerate((("roll", "p"), ("pitch", "q"), ("yaw", "r"))):
        columns, keys = [change_1[:, axis]], [f"g1_{letter}"]
        if name == "yaw":
            # A rotor's own angular acceleration turns the body too: second column, g2.
            columns, keys = [*columns, change_2[:, axis]], [*keys, "g2_r"]
        design = np.stack(columns, axis=1)
        if not np.any(design):
            raise AlulaError(f"log {where}: command_{name}_pwm never changes; allowed: a flight")
        g, *_ = np.linalg.lstsq(design, jerk[:, axis], rcond=None)
        residual = jerk[:, axis] - design @ g
        deviations, widen = bootstrap_fit(design, residual)
        for k, key in enumerate(keys):
            values[key] = float(g[k])
            spans[key] = interval(float(g[k]), deviations[:, k], widen)
        r2[name] = float(1.0 - residual.var() / jerk[:, axis].var())
    return values, spans, r2
