"""How well a model fitted on one flight predicts another, open loop, against holding the state."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from alula.identification.speed_based import SpeedFlight, SpeedModel, gravity_w

HORIZON_S = 0.5
"""Length of a prediction [s]."""
STEP_S = 0.1
"""Distance of the windows' starts [s]."""
TRIM_S = 5.0
"""Time before a window from which its unexplained torque is averaged [s]."""
RECENT_S = 0.1
"""Time before a window from which its present disturbance is taken [s]."""
RECENT_WEIGHT = 0.5
"""Share of the present disturbance that is believed."""
DISTURBANCE_TIME_S = 0.2
"""Time in which the present disturbance fades [s]."""
MEMORY_S = 6.0
"""Past windows that decide how far torques are trusted [s]."""
TRUST = tuple(
    (gain, damping) for gain in (0.0, 0.15, 0.3, 0.6, 1.0) for damping in (0, 1, 2, 4, 8, 16)
)
"""Candidates (share of the modelled angular acceleration, damping of the body rate [1/s])."""
QUANTITIES = ("position_m", "velocity_m_s", "attitude_rad", "body_rate_rad_s")


@dataclass(frozen=True)
class OpenLoop:
    """Root-mean-square errors at the end of all windows of a flight."""

    model: dict[str, float]
    """Of the prediction, by quantity."""
    hold: dict[str, float]
    """Of keeping the state of the window's start."""
    zero_rate_rad_s: float
    """Body-rate error of predicting that the robot has stopped turning [rad/s]."""
    windows: int
    """Number of windows."""

    @property
    def ratio(self) -> dict[str, float]:
        """Model error over hold error; below 1 the model is the better predictor."""
        return {key: self.model[key] / self.hold[key] for key in QUANTITIES}


@dataclass(frozen=True)
class _Start:
    """Torque that the model leaves unexplained before each window, as angular acceleration."""

    index: np.ndarray
    trim: np.ndarray
    recent: np.ndarray


def evaluate(model: SpeedModel, flight: SpeedFlight, *, variant: str = "trust") -> OpenLoop:
    """Predict every window of a flight from its start state and the rotor speeds measured in it.

    Nothing measured inside a window but rotor speeds is used. Variants:

    * "plain": the rigid body alone, unexplained torque taken as zero;
    * "trim": plus the mean unexplained torque of the TRIM_S before the window (rotor trim, centre
      of mass and battery shift between flights and drift within one), and half of the present
      one, fading;
    * "trust": "trim", with modelled torques scaled and body rates damped by the pair of TRUST
      that would have predicted the windows that ended in the last MEMORY_S best. Where
      disturbances move the body more than the rotors do, as in a calm flight, an unscaled double
      integration is worse than standing still.

    Args:
        model: fitted elsewhere.
        flight: to predict.
        variant: "plain", "trim" or "trust".
    """
    horizon = round(HORIZON_S / flight.dt)
    first = round(TRIM_S / flight.dt) + 2
    index = np.arange(first, flight.time_s.size - horizon, max(round(STEP_S / flight.dt), 1))
    start = _unexplained(model, flight, index, variant)
    pairs = TRUST if variant == "trust" else ((1.0, 0.0),)
    errors = [_errors(model, flight, start, horizon, *pair) for pair in pairs]
    hold = hold_errors(flight, index, horizon)
    picked = _pick(errors, hold) if variant == "trust" else np.zeros(index.size, dtype=int)

    def rms(e: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.sum(e**2, axis=1))))

    chosen = {
        key: np.stack([e[key] for e in errors])[picked, np.arange(index.size)] for key in QUANTITIES
    }
    return OpenLoop(
        model={key: rms(chosen[key]) for key in QUANTITIES},
        hold={key: rms(hold[key]) for key in QUANTITIES},
        zero_rate_rad_s=rms(flight.angular_velocity_b[index + horizon]),
        windows=int(index.size),
    )


def _unexplained(model: SpeedModel, flight: SpeedFlight, index: np.ndarray, variant: str) -> _Start:
    """Mean angular acceleration not explained by the model, long and just before each start."""
    if variant == "plain":
        return _Start(index, np.zeros((index.size, 3)), np.zeros((index.size, 3)))
    thrust = model.thrust_per_speed2 * flight.rotor_speed**2
    modelled = (model.torque(thrust) + model.flow_torque(flight.velocity_b)) / model.inertia
    # Backward differences: nothing after the start of a window may enter.
    actual = np.diff(flight.angular_velocity_b, axis=0, prepend=flight.angular_velocity_b[:1])
    running = np.concatenate((np.zeros((1, 3)), np.cumsum(actual / flight.dt - modelled, axis=0)))

    def mean_before(span_s: float) -> np.ndarray:
        n = round(span_s / flight.dt)
        return (running[index + 1] - running[index + 1 - n]) / n

    trim = mean_before(TRIM_S)
    return _Start(index, trim, RECENT_WEIGHT * (mean_before(RECENT_S) - trim))


def _errors(
    model: SpeedModel,
    flight: SpeedFlight,
    start: _Start,
    horizon: int,
    gain: float,
    damping: float,
) -> dict[str, np.ndarray]:
    """Errors at the windows' ends (W, 3) of each quantity."""
    dt, index = flight.dt, start.index
    thrust = model.thrust_per_speed2 * flight.rotor_speed**2
    torque = model.torque(thrust)
    position, velocity = flight.position_w[index], flight.velocity_w[index]
    rot_wb, rate = flight.rot_wb[index], flight.angular_velocity_b[index]
    inertia, drag = np.asarray(model.inertia), np.asarray(model.drag)
    for step in range(horizon):
        k = index + step
        velocity_b = np.einsum("wji,wj->wi", rot_wb, velocity)
        fading = start.recent * np.exp(-(step + 0.5) * dt / DISTURBANCE_TIME_S)
        # J dw/dt = torque + torque of the airflow (+ unexplained), scaled and damped
        modelled = (torque[k] + model.flow_torque(velocity_b)) / inertia + start.trim + fading
        spin_up = gain * modelled - damping * rate
        force_b = -drag * velocity_b
        force_b[:, 2] += thrust[k].sum(axis=1)
        acceleration = np.einsum("wij,wj->wi", rot_wb, force_b) / model.mass + gravity_w()
        position = position + dt * velocity + 0.5 * dt * dt * acceleration
        velocity = velocity + dt * acceleration
        rot_wb = rot_wb @ turn(dt * (rate + 0.5 * dt * spin_up))
        rate = rate + dt * spin_up
    end = index + horizon
    return {
        "position_m": position - flight.position_w[end],
        "velocity_m_s": velocity - flight.velocity_w[end],
        "attitude_rad": rotation_vector(flight.rot_wb[end], rot_wb),
        "body_rate_rad_s": rate - flight.angular_velocity_b[end],
    }


class States(Protocol):
    """States on a regular grid of T times."""

    @property
    def position_w(self) -> np.ndarray:
        """(T, 3) [m]."""
        ...

    @property
    def velocity_w(self) -> np.ndarray:
        """(T, 3) [m/s]."""
        ...

    @property
    def rot_wb(self) -> np.ndarray:
        """Body -> world (T, 3, 3)."""
        ...

    @property
    def angular_velocity_b(self) -> np.ndarray:
        """(T, 3) [rad/s]."""
        ...


def hold_errors(flight: States, index: np.ndarray, horizon: int) -> dict[str, np.ndarray]:
    """Errors (W, 3) of keeping the states at `index` (W,) for `horizon` steps, by quantity."""
    end = index + horizon
    return {
        "position_m": flight.position_w[index] - flight.position_w[end],
        "velocity_m_s": flight.velocity_w[index] - flight.velocity_w[end],
        "attitude_rad": rotation_vector(flight.rot_wb[end], flight.rot_wb[index]),
        "body_rate_rad_s": flight.angular_velocity_b[index] - flight.angular_velocity_b[end],
    }


def _pick(errors: list[dict[str, np.ndarray]], hold: dict[str, np.ndarray]) -> np.ndarray:
    """Candidate for each window, from the windows that had ended before it began."""
    ended = int(np.ceil(HORIZON_S / STEP_S))
    memory = round(MEMORY_S / STEP_S)

    def squared(e: dict[str, np.ndarray], key: str) -> np.ndarray:
        return np.sum(e[key] ** 2, axis=1)

    keys = ("attitude_rad", "body_rate_rad_s")
    cost = np.stack([np.stack([squared(e, key) for key in keys]) for e in errors])
    scale = np.stack([squared(hold, key) for key in keys])
    picked = np.full(cost.shape[2], TRUST.index((1.0, 2)))
    for w in range(cost.shape[2]):
        stop = w - ended + 1
        if stop <= 0:
            continue
        past = slice(max(stop - memory, 0), stop)
        relative = cost[:, :, past].sum(axis=2) / (scale[:, past].sum(axis=1) + 1e-9)
        picked[w] = int(np.argmin(relative.sum(axis=1)))
    return picked


def turn(vector: np.ndarray) -> np.ndarray:
    """Rotation matrices (W, 3, 3) of rotation vectors (W, 3) [rad] (Rodrigues)."""
    angle = np.linalg.norm(vector, axis=1)[:, None, None] + 1e-12
    x, y, z = vector.T
    zero = np.zeros_like(x)
    cross = np.stack((zero, -z, y, z, zero, -x, -y, x, zero), axis=1).reshape(-1, 3, 3)
    return (
        np.eye(3)
        + np.sin(angle) / angle * cross
        + (1.0 - np.cos(angle)) / angle**2 * (cross @ cross)
    )


def rotation_vector(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rotation vectors (W, 3) [rad] from attitudes a (W, 3, 3) to b, along a's axes."""
    d = np.einsum("wji,wjk->wik", a, b)
    axis = 0.5 * np.stack(
        (d[:, 2, 1] - d[:, 1, 2], d[:, 0, 2] - d[:, 2, 0], d[:, 1, 0] - d[:, 0, 1]), axis=1
    )
    sine = np.linalg.norm(axis, axis=1)
    cosine = 0.5 * (np.trace(d, axis1=1, axis2=2) - 1.0)
    full = np.arctan2(sine, cosine)
    return axis * (full / np.maximum(sine, 1e-12))[:, None]
