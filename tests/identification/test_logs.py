"""Tables and ULog: names, units, and every kind of bad file as one line."""

import lzma
import zlib

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from alula.errors import AlulaError
from alula.identification.identify import identify
from alula.identification.logs import read_log
from alula.identification.motion import attitude, body_acceleration
from alula.identification.resample import regular
from alula.identification.signal_names import canonical_name

GOOD = "tick,accelz,m\n" + "".join(f"{2 * k},{1 + 0.1 * k},{k}\n" for k in range(20))


def log_from(tmp_path, text: str, **columns: str):
    path = tmp_path / "log.csv"
    path.write_text(text)
    return read_log(path, columns=columns)


def test_column_map_with_units(tmp_path):
    log = log_from(tmp_path, GOOD, time_ms="tick", acc_z_g="accelz", motor_1_percent="m")
    assert log.signals["acc_z_m_s2"].time_s[1] == pytest.approx(0.002)
    assert log.signals["acc_z_m_s2"].value[10] == pytest.approx(2 * 9.81)
    assert log.signals["motor_1"].value[10] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("name", "inside", "factor"),
    [
        ("gyro_y_deg_s", "gyro_y_rad_s", np.pi / 180),
        ("gyro_y", "gyro_y_rad_s", 1.0),
        ("rotor_speed_3_rpm", "rotor_speed_3_rad_s", 2 * np.pi / 60),
        # six pole pairs: 60 000 electrical rpm are 10 000 rpm, 1047.2 rad/s
        ("rotor_speed_2_erpm", "rotor_speed_2_rad_s", 1047.1975512 / 60000),
        ("motor_4_pwm", "motor_4", 1 / 65536),
    ],
)
def test_names(name, inside, factor):
    assert canonical_name(name) == (inside, pytest.approx(factor))


def test_our_own_names_need_no_map(tmp_path, flight, csv_log):
    log = read_log(csv_log(tmp_path / "a.csv", flight(seconds=2.0)))
    assert log.n_motors == 4
    assert log.has("acc_x_m_s2", "gyro_z_rad_s")


def test_parquet_equals_csv(tmp_path, flight, csv_log):
    columns = flight(seconds=2.0)
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    a, b = read_log(tmp_path / "a.parquet"), read_log(csv_log(tmp_path / "a.csv", columns))
    assert (a.format, b.format) == ("parquet", "csv")
    for name, signal in a.signals.items():
        np.testing.assert_allclose(signal.value, b.signals[name].value, rtol=1e-7)


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", {}, "empty file"),
        ("tick,accelz\n", {}, "no data rows"),
        (GOOD, {"acc_z_g": "nope"}, "no column 'nope'"),
        (GOOD, {"acc_up_g": "accelz"}, "unknown signal 'acc_up_g'"),
        (GOOD, {"time_s": "nope"}, "no column 'nope' for time_s"),
        (GOOD.replace("tick", "when"), {"acc_z_g": "accelz"}, "no time column"),
        ("tick,foo\n1,2\n2,3\n", {}, "no known signal"),
        ("tick,acc_z_g\n1,1\n5,1\n3,1\n", {}, "runs back from 0.005000 to 0.003000 s"),
        ("tick,acc_z_g\n1,1\n1,1\n1,1\n", {}, "one time stamp"),
        ("tick,motor_1\n1,30000\n2,40000\n", {}, "30000..40000; allowed: 0..1, or map it"),
        ("tick,acc_z_g\n1,nan\n2,nan\n3,nan\n", {}, "'acc_z_g' has 3 NaN or infinite of 3"),
        ("tick,acc_z_g\n1,inf\n2,1\n3,1\n", {}, "has 1 NaN or infinite of 3"),
        ("tick,acc_z_g\n1,1\n2,1,5\n", {}, "not a readable CSV"),
    ],
)
def test_bad_tables(tmp_path, text, columns, message):
    with pytest.raises(AlulaError, match=message) as caught:
        log_from(tmp_path, text, **columns)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "head", [b"PAR1", b"ULog\x01\x12\x35\x01", b"\xfd7zXZ\x00", b"\x00\x01\x02"]
)
def test_garbage_behind_a_good_head(tmp_path, head):
    (tmp_path / "log").write_bytes(head + bytes(range(256)) * 4)
    with pytest.raises(AlulaError) as caught:
        read_log(tmp_path / "log")
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(AlulaError, match="no such file"):
            read_log(path)


def test_few_nan_are_dropped_and_counted(tmp_path):
    rows = [f"{2 * k},{'' if k == 7 else 1.0}" for k in range(50)]
    log = log_from(tmp_path, "tick,acc_z_g\n" + "\n".join(rows) + "\n")
    assert log.dropped == {"acc_z_m_s2": 1}
    assert log.signals["acc_z_m_s2"].value.size == 49


def test_window(tmp_path):
    log = log_from(tmp_path, GOOD, acc_z_g="accelz")
    assert log.window(0.010, 0.020).start_s == pytest.approx(0.010)
    for bad in ((0.03, 0.01), (1.0, 2.0), (float("nan"), 1.0)):
        with pytest.raises(AlulaError, match=r"runs from 0\.000 to 0\.038 s"):
            log.window(*bad)


def test_grid_marks_gaps_and_averages(tmp_path):
    time = [*range(0, 1000, 2), *range(1200, 2000, 2)]
    log = log_from(tmp_path, "tick,acc_z_g\n" + "".join(f"{t},{t}\n" for t in time))
    grid = regular(log, ("acc_z_m_s2",), 0.01)
    # the cell 0.10..0.11 s of a ramp has its mean at 0.105 s
    assert grid.values["acc_z_m_s2"][10] == pytest.approx(105 * 9.81)
    gap = (grid.time_s > 1.0) & (grid.time_s < 1.2)
    assert not grid.valid[gap].any()
    assert grid.valid[grid.time_s < 0.99].all()
    assert grid.valid[grid.time_s > 1.22].all()


def test_motor_commands_are_held(tmp_path):
    text = "time_s,motor_1\n" + "".join(f"{k / 500},{k % 2}\n" for k in range(40))
    grid = regular(log_from(tmp_path, text), ("motor_1",), 0.001)
    # 0 until 2 ms, then 1 until 4 ms: cells of 1 ms see 0 0 1 1, not a ramp
    np.testing.assert_allclose(grid.values["motor_1"][:4], [0, 0, 1, 1], atol=1e-9)


def test_commands_of_a_slow_log_are_joined(tmp_path):
    text = "time_s,motor_1\n" + "".join(f"{k / 10},{k % 2}\n" for k in range(40))
    grid = regular(log_from(tmp_path, text), ("motor_1",), 0.05)
    # a ramp from 0 to 1 in 0.1 s: cell means 0.25 and 0.75
    np.testing.assert_allclose(grid.values["motor_1"][:2], [0.25, 0.75], atol=1e-9)


@pytest.mark.parametrize("name", ["sample_log_small", "sample_appended_multiple"])
def test_real_ulog(data_dir, name):
    log = read_log(data_dir / "px4_ulog" / f"{name}.ulg.xz")
    assert log.format == "ulog"
    assert log.n_motors == 4
    # FLU, z up: a vehicle on the ground feels +9.8 m/s^2 along z
    assert log.signals["acc_z_m_s2"].value.mean() == pytest.approx(9.8, abs=0.3)


@pytest.mark.parametrize("cut", [3000, 300_001, 921_630])
def test_truncated_ulog(tmp_path, data_dir, cut):
    whole = lzma.decompress((data_dir / "px4_ulog" / "sample_log_small.ulg.xz").read_bytes())
    assert len(whole) == 921_631
    (tmp_path / "cut.ulg").write_bytes(whole[:cut])
    with pytest.raises(AlulaError, match="runs beyond the file's end"):
        read_log(tmp_path / "cut.ulg")


@pytest.mark.parametrize("kind", ["csv", "parquet", "usd"])
def test_damaged_files_give_one_line_or_a_log(tmp_path, flight, csv_log, usd_log, kind):
    columns = flight(seconds=1.0)
    path = tmp_path / "log"
    csv_log(path, columns)
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    if kind == "usd":
        rows = [(1, 1000 * k, (1.0, k % 60000)) for k in range(200)]
        path.write_bytes(usd_log({1: ("e", ["acc.z(f)", "motor.m1(H)"])}, rows))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(60):
        data = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for at in rng.integers(0, min(len(data), 400), 3):
            data[at] = rng.integers(0, 256)
        if kind == "usd" and len(data) > 20:
            data[-4:] = zlib.crc32(data[:-4]).to_bytes(4, "little")  # get past the checksum
        path.write_bytes(bytes(data))
        try:
            identify(path, mass=0.03)
        except AlulaError as e:
            messages.append(str(e))
    assert len(messages) > 10
    assert not any("\n" in message for message in messages)


def test_flu_from_frd():
    # PX4, level and facing north: identity FRD->NED; our x axis must point along world y (north)
    import alula.identification.ulog as ulog

    columns: dict = {}
    quat = {f"q[{i}]": np.array([float(i == 0)] * 2) for i in range(4)}
    stamps = {"timestamp": np.array([0, 1_000_000])}
    local = {k: np.array([1.0, 1.0]) * v for k, v in zip("xyz", (1, 2, -3), strict=True)}
    local |= {f"v{k}": np.array([0.0, 0.0]) for k in "xyz"}
    ulog._state(
        {"vehicle_attitude": quat | stamps, "vehicle_local_position": local | stamps}, columns
    )
    rot = attitude(np.stack([columns[f"quat_{a}"][1] for a in "wxyz"], axis=1))[0]
    np.testing.assert_allclose(rot @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(rot @ [0, 0, 1], [0, 0, 1], atol=1e-12)
    # NED (1, 2, -3) is ENU (2, 1, 3)
    assert [columns[f"position_{a}_m"][1][0] for a in "xyz"] == [2.0, 1.0, 3.0]


def test_px4_motor_order():
    import alula.identification.ulog as ulog

    columns: dict = {}
    values = {f"control[{i}]": np.array([0.1 * i, 0.1 * i]) for i in range(4)}
    values |= {f"control[{i}]": np.full(2, np.nan) for i in range(4, 12)}
    ulog._motors({"actuator_motors": values | {"timestamp": np.array([0, 1])}}, columns, None)
    # ours front-right, rear-right, rear-left, front-left; PX4 front-right, rear-left, front-left, rear-right
    assert [columns[f"motor_{k}"][1][0] for k in range(1, 5)] == pytest.approx([0.0, 0.3, 0.1, 0.2])
    assert "motor_5" not in columns


def test_brushless_log_has_world_axes_turned(data_dir):
    log = body_acceleration(
        read_log(data_dir / "cf21bl_nanodrone" / "multisine_20251017_run1.raw.parquet")
    )
    part = log.window(5.0, 60.0)
    across = [part.signals[f"acc_{a}_m_s2"].value.std() for a in "xy"]
    # a quadrotor pushes along its own z only: across there is nothing but drag
    assert max(across) < 0.5
    assert part.signals["acc_w_x_m_s2"].value.std() > 1.0


def test_attitude_of_unnormalised_quaternion():
    # 90 degrees about z: x axis of the body points along world y
    rot = attitude(np.array([[1.0136, 0.0, 0.0, 1.0136]]))
    np.testing.assert_allclose(rot[0] @ [1, 0, 0], [0, 1, 0], atol=1e-12)
