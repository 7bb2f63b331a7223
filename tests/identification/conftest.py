"""Made-up flights and log files with known truth."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

KINDS = {"f": "<f", "I": "<I", "H": "<H"}


@dataclass(frozen=True)
class Truth:
    """The made-up multirotor."""

    mass: float = 0.030
    curve: tuple[float, float, float] = (0.004, 0.02, 0.15)
    lag_up: float = 0.05
    lag_down: float = 0.09
    inertia: tuple[float, float] = (1.5e-5, 2.0e-5)
    arm: float = 0.028
    gyro_noise: float = 0.003
    acc_noise: float = 0.15


def fly(
    truth: Truth = Truth(),
    *,
    seconds: float = 20.0,
    rate: float = 500.0,
    seed: int = 0,
    rest: float = 0.0,
    excite: bool = True,
) -> dict[str, np.ndarray]:
    """A made-up flight: throttle steps and quick rolls, lagged rotors, correlated disturbances.

    Small explicit Euler steps of its own, so that it shares nothing with what it tests.
    """
    rng = np.random.default_rng(seed)
    n, dt, fine = int(seconds * rate), 1.0 / rate, 4
    c0, c1, c2 = truth.curve
    hover = (-c1 + np.sqrt(c1**2 - 4 * c2 * (c0 - truth.mass * 9.81 / 4))) / (2 * c2)
    y = np.array([-1, -1, 1, 1]) * truth.arm
    x = np.array([1, -1, -1, 1]) * truth.arm
    common = np.repeat(rng.uniform(-0.25, 0.25, int(seconds / 0.4) + 1), int(0.4 * rate))[:n]
    kicks = np.repeat(rng.uniform(-0.12, 0.12, (int(seconds / 0.1) + 1, 2)), int(0.1 * rate), 0)[:n]
    s, w = np.full(4, hover), np.zeros(2)
    gust = 0.0
    rows = {k: np.zeros((n, c)) for k, c in (("motor", 4), ("acc", 3), ("gyro", 3))}
    for k in range(n):
        roll, pitch = (kicks[k] if excite else 0.0) - 0.02 * w
        u = hover + (common[k] if excite else 0.0) + roll * np.sign(y) - pitch * np.sign(x)
        u = np.clip(u, 0.05, 1.0) if excite else np.full(4, hover)
        # Sensors are read, then the command of this row acts until the next row.
        thrust = c0 + c1 * s + c2 * s * s
        gust = 0.98 * gust + np.sqrt(1 - 0.98**2) * truth.acc_noise * rng.standard_normal()
        rows["motor"][k] = u
        rows["acc"][k] = (0.0, 0.0, thrust.sum() / truth.mass + gust)
        rows["acc"][k] += 0.05 * rng.standard_normal(3)
        rows["gyro"][k] = (*w, 0.0) + truth.gyro_noise * rng.standard_normal(3)
        for _ in range(fine):
            s = s + dt / fine * (u - s) / np.where(u > s, truth.lag_up, truth.lag_down)
            thrust = c0 + c1 * s + c2 * s * s
            torque = np.array([thrust @ y, -(thrust @ x)])
            w = w + dt / fine * torque / np.array(truth.inertia)
    columns = {"time_s": 5.0 + dt * np.arange(n)}
    for i, axis in enumerate("xyz"):
        columns[f"acc_{axis}_m_s2"] = rows["acc"][:, i]
        columns[f"gyro_{axis}_rad_s"] = rows["gyro"][:, i]
    for i in range(4):
        columns[f"motor_{i + 1}"] = rows["motor"][:, i]
    if rest:
        columns = _rested(columns, rest, rate, truth, rng)
    return columns


def _rested(columns: dict, rest: float, rate: float, truth: Truth, rng) -> dict:
    """The same flight after some time on the ground with motors off."""
    n = int(rest * rate)
    out = {
        "time_s": np.concatenate(
            (columns["time_s"][0] - np.arange(n, 0, -1) / rate, columns["time_s"])
        )
    }
    for key, value in columns.items():
        if key == "time_s":
            continue
        if key.startswith("gyro"):
            ground = truth.gyro_noise * rng.standard_normal(n)
        elif key.startswith("acc"):
            ground = 9.81 * (key == "acc_z_m_s2") + 0.01 * rng.standard_normal(n)
        else:
            ground = np.zeros(n)
        out[key] = np.concatenate((ground, value))
    return out


def write_csv(path: Path, columns: dict[str, np.ndarray]) -> Path:
    """Columns as a CSV table."""
    table = np.stack(list(columns.values()), axis=1)
    np.savetxt(path, table, delimiter=",", header=",".join(columns), comments="", fmt="%.9g")
    return path


def usd_bytes(
    events: dict[int, tuple[str, list[str]]],
    records: list[tuple[int, int, tuple]],
    version: int = 2,
) -> bytes:
    """A Crazyflie micro-SD log, made by hand from its description."""
    out = struct.pack("<BHH", 0xBC, version, len(events))
    for number, (name, variables) in events.items():
        out += struct.pack("<H", number) + name.encode() + b"\0"
        out += struct.pack("<H", len(variables))
        for variable in variables:
            out += variable.encode() + b"\0"
    for number, time_us, values in records:
        out += struct.pack("<HQ", number, time_us)
        for variable, value in zip(events[number][1], values, strict=True):
            out += struct.pack(KINDS[variable[-2]], value)
    return out + struct.pack("<I", zlib.crc32(out))


@pytest.fixture(scope="session")
def flight() -> Callable[..., dict[str, np.ndarray]]:
    """Maker of made-up flights."""
    return fly


@pytest.fixture(scope="session")
def truth() -> Truth:
    """The made-up multirotor."""
    return Truth()


@pytest.fixture(scope="session")
def csv_log() -> Callable[[Path, dict[str, np.ndarray]], Path]:
    """Writer of CSV logs."""
    return write_csv


@pytest.fixture(scope="session")
def usd_log() -> Callable[..., bytes]:
    """Maker of Crazyflie micro-SD logs."""
    return usd_bytes
