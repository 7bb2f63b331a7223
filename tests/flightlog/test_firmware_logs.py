"""Logs of the exported modules for PX4 and Crazyflie, made by hand from a made-up flight."""

import struct
import zlib

import numpy as np
import pytest

from alula.errors import AlulaError
from alula.flightlog.analyse import analyse
from alula.frames import ned_from_enu, quat_ned_frd_from_enu_flu, rot_from_quat

PX4_ORDER = (0, 2, 3, 1)
"""Ours that each PX4 motor is."""


@pytest.fixture(scope="module")
def short(flight_maker, policy, robot):
    return flight_maker(policy, robot, steps=300, reference=(0.03, 0.0, -0.04))


class Ulog:
    """The least of a ULog file: formats, subscriptions, data, texts."""

    def __init__(self) -> None:
        self._head = b"ULog\x01\x12\x35\x01" + struct.pack("<Q", 0)
        self._body = b""
        self._ids: dict[str, tuple[int, str]] = {}

    def _message(self, kind: str, content: bytes) -> bytes:
        return struct.pack("<HB", len(content), ord(kind)) + content

    def topic(self, name: str, fields: str, layout: str) -> None:
        self._head += self._message("F", f"{name}:uint64_t timestamp;{fields}".encode())
        number = len(self._ids)
        self._ids[name] = number, "<Q" + layout
        self._body += self._message("A", struct.pack("<BH", 0, number) + name.encode())

    def data(self, name: str, time_s: float, *values) -> None:
        number, layout = self._ids[name]
        row = struct.pack(layout, round(1e6 * time_s), *values)
        self._body += self._message("D", struct.pack("<H", number) + row)

    def text(self, time_s: float, level: int, words: str) -> None:
        head = struct.pack("<BQ", ord("0") + level, round(1e6 * time_s))
        self._body += self._message("L", head + words.encode())

    def bytes(self) -> bytes:
        return self._head + self._body


def px4_log(flown, *, aim=(0.03, 0.0, -0.04)) -> bytes:
    """The flight as PX4 and our module log it; flying from 0.5 s on, tripped at 2.5 s."""
    log = Ulog()
    log.topic("vehicle_local_position", "float x;float y;float z;float vx;float vy;float vz;", "6f")
    log.topic("vehicle_attitude", "float[4] q;", "4f")
    log.topic("vehicle_angular_velocity", "float[3] xyz;", "3f")
    log.topic("actuator_motors", "uint64_t timestamp_sample;float[12] control;", "Q12f")
    log.topic("trajectory_setpoint", "float[3] position;float[3] velocity;", "6f")
    log.topic("debug_array", "uint16_t id;char[10] name;float[58] data;", "H10s58f")
    for k, t in enumerate(10.0 + flown.time):
        p, v = (ned_from_enu(a[k]) for a in (flown.position_w, flown.velocity_w))
        w = flown.angular_velocity_b[k] * (1, -1, -1)
        log.data("vehicle_local_position", t, *p, *v)
        log.data("vehicle_attitude", t, *quat_ned_frd_from_enu_flu(flown.quat_wb[k]))
        log.data("vehicle_angular_velocity", t, *w)
        control = [*flown.throttle[k][list(PX4_ORDER)], *[np.nan] * 8]
        log.data("actuator_motors", t + flown.latency[k], round(1e6 * t), *control)
        if k % 5 == 0:
            log.data("trajectory_setpoint", t, *ned_from_enu(np.array(aim)), 0, 0, 0)
        if k % 10 == 0:
            phase = 2 if 50 <= k < 250 else 3 if k >= 250 else 0
            head = [phase, 6 if phase == 3 else 0, 0, int(phase == 3), k, 0, k // 100, 0, 0, 0.0]
            observed = [
                *(flown.position_w[k] - aim), *rot_from_quat(flown.quat_wb[k]).ravel(),
                *flown.velocity_w[k], *flown.angular_velocity_b[k],
            ]  # fmt: skip
            row = [*head, *flown.action[k], *observed]
            log.data(
                "debug_array", t + flown.latency[k], 0, b"alula", *row, *[0.0] * (58 - len(row))
            )
    log.text(12.5, 4, "[alula] tilt")
    log.text(12.6, 6, "[commander] chatter")
    return log.bytes()


def test_a_px4_flight(short, policy, robot, tmp_path):
    path = tmp_path / "flight.ulg"
    path.write_bytes(px4_log(short))
    report = analyse(path, policy=policy, robot=robot)
    assert report.recording.flying == ((pytest.approx(10.503), pytest.approx(12.403)),)
    # positions of 10.51 to 12.40 s
    error = np.linalg.norm(short.position_w[51:241] - (0.03, 0.0, -0.04), axis=1)
    assert report.tracking.rmse_m == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-4)
    assert report.timing.latency.percentiles_s[50] == pytest.approx(0.003, abs=2e-6)
    assert report.timing.missed is None
    texts = [(e.level, e.text) for e in report.recording.events]
    assert ("error", "tripped") in texts
    assert ("error", "reason: tilt") in texts
    assert ("warning", "[alula] tilt") in texts
    assert not any("chatter" in text for _, text in texts)
    assert report.recording.counters["steps"] == 290
    assert report.recording.counters["missed"] == 2
    assert report.recording.counters["trips"] == 1
    # the logged observations answered with the logged actions, the past from actuator_motors
    assert report.agreement.source == "the observations that the robot logged"
    assert report.agreement.rms < 1e-5
    assert report.agreement.steps == 20
    assert report.gap[0].quantities["attitude_rad"].sim[0] < 0.05


def usd_log(flown, *, aim=(0.03, 0.0, -0.04)) -> bytes:
    """The flight as a Crazyflie with our app logs it: 100 Hz, flying from 0.5 s on, tripped at 2.5 s."""
    names = (
        [f"stateEstimate.{a}" for a in ("x", "y", "z", "vx", "vy", "vz", "qx", "qy", "qz", "qw")]
        + [f"gyro.{a}" for a in "xyz"]
        + [f"motor.m{k}" for k in (1, 2, 3, 4)]
        + [f"ctrltarget.{a}" for a in "xyz"]
        + [f"alula.action{k}" for k in (1, 2, 3, 4)]
        + [f"alula.{n}" for n in ("mode", "reason", "us", "steps", "missed", "trips")]
    )
    out = struct.pack("<BHH", 0xBC, 2, 1) + struct.pack("<H", 0) + b"fixedFrequency\0"
    out += struct.pack("<H", len(names)) + b"".join(f"{n}(f)".encode() + b"\0" for n in names)
    for k, t in enumerate(5.0 + flown.time):
        w, x, y, z = flown.quat_wb[k]
        mode = 0 if k < 50 else 2 if k < 250 else 3
        row = [
            *flown.position_w[k], *flown.velocity_w[k], x, y, z, w,
            *np.rad2deg(flown.angular_velocity_b[k]), *(65536.0 * flown.throttle[k]), *aim,
            *flown.action[k], mode, 6 if mode == 3 else 0, 400 + k % 10, k, k // 100, int(mode == 3),
        ]  # fmt: skip
        out += struct.pack("<HQ", 0, round(1e6 * t)) + struct.pack(f"<{len(row)}f", *row)
    return out + struct.pack("<I", zlib.crc32(out))


def test_a_crazyflie_flight(short, policy, robot, tmp_path):
    path = tmp_path / "log00"
    path.write_bytes(usd_log(short))
    report = analyse(path, policy=policy, robot=robot)
    assert report.recording.flying == ((pytest.approx(5.5), pytest.approx(7.49)),)
    error = np.linalg.norm(short.position_w[50:250] - (0.03, 0.0, -0.04), axis=1)
    assert report.tracking.rmse_m == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-4)
    assert report.timing.latency is None
    # 400 to 409 microseconds
    assert report.timing.compute.mean_s == pytest.approx(404.5e-6)
    assert report.recording.counters == {"steps": 299, "missed": 2, "trips": 1}
    assert report.agreement.rms < 1e-4
    texts = [e.text for e in report.recording.events]
    assert texts == ["off", "reason: none", "flying", "tripped", "reason: tilt"]


def test_real_px4_logs_are_read_and_their_gaps_said(data_dir, robot):
    for name in ("sample_log_small.ulg.xz", "sample_appended_multiple.ulg.xz"):
        report = analyse(data_dir / "px4_ulog" / name, robot=robot)
        gaps = "\n".join(report.gaps)
        assert "no debug_array `alula` in the log" in gaps
        assert "no trajectory_setpoint" in gaps
        assert report.tracking is None


def test_a_real_crazyflie_log_is_read_and_its_gaps_said(data_dir, policy, robot):
    report = analyse(data_dir / "cf2_arpl" / "log10.xz", policy=policy, robot=robot)
    gaps = "\n".join(report.gaps)
    assert "no alula.mode" in gaps
    assert "no sim-to-real gap: the log lacks position_x_m" in gaps
    assert report.tracking is None


def test_other_files_are_refused(tmp_path, robot):
    table = tmp_path / "a.csv"
    table.write_text("t,x\n0,1\n1,2\n")
    with pytest.raises(AlulaError, match="unknown format; allowed: rosbag2"):
        analyse(table, robot=robot)
    with pytest.raises(AlulaError, match="a folder without metadata"):
        analyse(tmp_path, robot=robot)
    with pytest.raises(AlulaError, match="no such file"):
        analyse(tmp_path / "none", robot=robot)
    with pytest.raises(AlulaError, match="--topics is for rosbag2"):
        analyse(table, robot=robot, topics={"command": "/a"})


def test_a_cut_log_is_refused(short, policy, robot, tmp_path):
    for name, data in (("a.ulg", px4_log(short)), ("b", usd_log(short))):
        path = tmp_path / name
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(AlulaError, match="truncated"):
            analyse(path, policy=policy, robot=robot)
