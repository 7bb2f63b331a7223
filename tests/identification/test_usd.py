"""The micro-SD reader against files made by hand from the format's description."""

import lzma
import struct
import zlib

import numpy as np
import pytest

from alula.errors import AlulaError
from alula.identification.logs import read_log
from alula.identification.usd import read_usd

EVENTS = {7: ("imu", ["acc.z(f)", "gyro.x(f)"]), 9: ("slow", ["motor.m1(H)", "gyro.x(f)"])}
RECORDS = [
    (7, 1_000_000, (1.0, 10.0)),
    (9, 1_000_500, (32768, 5.0)),
    (7, 1_001_000, (1.5, 20.0)),
    (7, 1_002_000, (2.0, 30.0)),
    (9, 1_010_500, (65535, 6.0)),
]


def test_events_of_different_rates(usd_log):
    columns = read_usd(usd_log(EVENTS, RECORDS), "x")
    time, acc = columns["imu.acc.z"]
    np.testing.assert_allclose(time, [1.0, 1.001, 1.002])
    np.testing.assert_allclose(acc, [1.0, 1.5, 2.0])
    np.testing.assert_allclose(columns["slow.motor.m1"][1], [32768, 65535])
    np.testing.assert_allclose(columns["slow.motor.m1"][0], [1.0005, 1.0105])
    # motor.m1 is unique and has a short name, gyro.x is in both events and has none
    assert "motor.m1" in columns
    assert "gyro.x" not in columns


def test_units_through_read_log(tmp_path, usd_log):
    path = tmp_path / "log00"
    path.write_bytes(usd_log(EVENTS, RECORDS))
    log = read_log(path, columns={"gyro_x_deg_s": "imu.gyro.x"})
    assert log.format == "usd"
    # 2 g -> 19.62 m/s^2; 30 deg/s -> pi/6 rad/s; 32768 / 65536 = 0.5
    assert log.signals["acc_z_m_s2"].value[-1] == pytest.approx(19.62)
    assert log.signals["gyro_x_rad_s"].value[-1] == pytest.approx(np.pi / 6)
    assert log.signals["motor_1"].value[0] == 0.5


def test_single_event_reads_like_many(usd_log):
    one = {3: ("fixedFrequency", ["acc.z(f)", "motor.m1(I)"])}
    columns = read_usd(usd_log(one, [(3, 1000 * k, (0.1 * k, k)) for k in range(50)]), "x")
    np.testing.assert_allclose(columns["acc.z"][1], 0.1 * np.arange(50), rtol=1e-6)
    np.testing.assert_array_equal(columns["motor.m1"][1], np.arange(50))


def test_flipped_bit_is_a_crc_error(tmp_path, usd_log):
    data = bytearray(usd_log(EVENTS, RECORDS))
    data[-20] ^= 1
    (tmp_path / "bad").write_bytes(bytes(data))
    with pytest.raises(AlulaError, match="CRC-32"):
        read_log(tmp_path / "bad")


def test_truncated(tmp_path, usd_log):
    data = usd_log(EVENTS, RECORDS)
    for cut in (6, 20, 60, len(data) - 1):
        (tmp_path / "bad").write_bytes(data[:cut])
        with pytest.raises(AlulaError, match=r"truncated|header|CRC"):
            read_log(tmp_path / "bad")


def test_other_version(tmp_path, usd_log):
    (tmp_path / "old").write_bytes(usd_log(EVENTS, RECORDS, version=1))
    with pytest.raises(AlulaError, match="version 1; allowed: 2"):
        read_log(tmp_path / "old")


def test_unknown_event_with_a_right_crc(tmp_path, usd_log):
    body = usd_log(EVENTS, RECORDS)[:-4] + struct.pack("<HQ", 8, 5)
    (tmp_path / "bad").write_bytes(body + struct.pack("<I", zlib.crc32(body)))
    with pytest.raises(AlulaError, match="unknown event 8"):
        read_log(tmp_path / "bad")


def test_xz_and_truncated_xz(tmp_path, usd_log):
    packed = lzma.compress(usd_log(EVENTS, RECORDS))
    (tmp_path / "log.xz").write_bytes(packed)
    assert read_log(tmp_path / "log.xz").n_motors == 1
    (tmp_path / "cut.xz").write_bytes(packed[:-20])
    with pytest.raises(AlulaError, match="xz data truncated"):
        read_log(tmp_path / "cut.xz")


def test_xz_bomb_is_refused(tmp_path, monkeypatch):
    import alula.identification.logs as logs

    monkeypatch.setattr(logs, "MAX_LOG_BYTES", 100_000)
    (tmp_path / "bomb.xz").write_bytes(lzma.compress(b"0" * 10_000_000))
    with pytest.raises(AlulaError, match="unpacks to more than 100000"):
        read_log(tmp_path / "bomb.xz")


def test_real_log(data_dir):
    log = read_log(data_dir / "cf2_arpl" / "log10.xz")
    assert log.n_motors == 4
    assert log.signals["acc_z_m_s2"].value.size == 50496
    assert (log.start_s, log.end_s) == pytest.approx((26.333702, 76.340661))


def test_real_log_with_five_events(data_dir):
    log = read_log(data_dir / "cf_imu_static" / "log05.xz")
    rates = {n: 1 / np.median(np.diff(s.time_s)) for n, s in log.signals.items()}
    assert rates["gyro_x_rad_s"] == pytest.approx(1007, abs=20)
    assert log.has("position_x_m", "acc_z_m_s2")
    assert log.signals["position_x_m"].value.size < log.signals["gyro_x_rad_s"].value.size / 5
