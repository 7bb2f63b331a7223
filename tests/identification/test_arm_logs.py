"""Joint logs in every form that is read, and those that are refused."""

import lzma
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from alula.errors import AlulaError
from alula.identification.arm_logs import read_joint_log
from alula.identification.arm_samples import CELL_S, prepare
from alula.robots.arm import load_arm

made_up = run_path(str(Path(__file__).parent / "arm_made_up.py"))


@pytest.fixture
def arm(tmp_path):
    return load_arm(made_up["robot_file"](tmp_path))


def swing(rows: int = 600) -> dict[str, np.ndarray]:
    """Two joints that swing, 100 Hz."""
    t = 0.01 * np.arange(rows)
    q = np.column_stack((np.sin(t), 0.5 * np.cos(2.0 * t)))
    qd = np.column_stack((np.cos(t), -np.sin(2.0 * t)))
    tau = 10.0 * q
    kinds = {"q": q, "qd": qd, "tau": tau}
    return {"time": t} | {f"{n}{k + 1}": v[:, k] for n, v in kinds.items() for k in range(2)}


def text(table: dict[str, np.ndarray], *, header: bool = True) -> str:
    rows = "\n".join(",".join(f"{v:.6f}" for v in row) for row in zip(*table.values(), strict=True))
    return (",".join(table) + "\n" if header else "") + rows + "\n"


def read(tmp_path, content: str | bytes, arm, columns=None, name="log.csv"):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_joint_log(path, arm, (2,), columns)


def assert_swings(log):
    assert log.signals["q2"].value[100] == pytest.approx(0.5 * np.cos(2.0), abs=1e-6)
    assert log.signals["qd1"].value[100] == pytest.approx(np.cos(1.0), abs=1e-6)
    assert log.signals["tau2"].value[100] == pytest.approx(5.0 * np.cos(2.0), abs=1e-5)
    assert log.signals["q1"].time_s[100] == pytest.approx(1.0, abs=2e-3)


def test_csv_with_our_names(tmp_path, arm):
    log = read(tmp_path, text(swing()), arm)
    assert log.format == "csv"
    assert_swings(log)
    assert log.dropped == {"not_finite": 0, "same_time": 0, "repeated": 0}


def test_csv_without_header_in_our_order_also_xz(tmp_path, arm):
    assert_swings(read(tmp_path, text(swing(), header=False), arm))
    packed = lzma.compress(text(swing(), header=False).encode())
    assert_swings(read(tmp_path, packed, arm, name="log.csv.xz"))


def test_csv_columns_by_number_and_by_name(tmp_path, arm):
    table = swing()
    moved = {"x": table["tau1"], **{k: table[k] for k in ("qd1", "qd2", "q1", "q2")}}
    moved |= {"y": table["tau2"], "ms": 1e3 * table["time"]}
    columns = {"time_ms": "7", "q": "4..5", "qd": "2..3", "tau1": "1", "tau2": "6"}
    assert_swings(read(tmp_path, text(moved, header=False), arm, columns))
    columns = {"time_ms": "ms", "tau1": "x", "tau2": "y"}
    assert_swings(read(tmp_path, text(moved), arm, columns))


def test_a_folder_of_numbers(tmp_path, arm):
    table, folder = swing(), tmp_path / "log"
    folder.mkdir()
    for kind in ("q", "qd", "tau"):
        pairs = np.column_stack((table[f"{kind}1"], table[f"{kind}2"]))
        (folder / f"{kind}.txt").write_text("\n".join(f"{v:.7f}" for v in pairs.reshape(-1)))
    (folder / "t.txt").write_text(" ".join(f"{v:.4f}" for v in table["time"]))
    columns = {"time": "t.txt", "q": "q.txt", "qd": "qd.txt", "tau": "tau.txt"}
    log = read_joint_log(folder, arm, (2,), columns)
    assert log.format == "numbers"
    assert_swings(log)
    (folder / "q.txt").write_text("0.1\n" * 1199)
    with pytest.raises(AlulaError, match="1199 numbers for 600 times"):
        read_joint_log(folder, arm, (2,), columns)
    (folder / "q.txt").write_text("0.1\n0.2\nshoulder")
    with pytest.raises(AlulaError, match="not only numbers"):
        read_joint_log(folder, arm, (2,), columns)
    with pytest.raises(AlulaError, match="--columns time=FILE"):
        read_joint_log(folder, arm, (2,))
    with pytest.raises(AlulaError, match="a file of the folder"):
        read_joint_log(folder, arm, (2,), {"time": "../t.txt"})


def write_bag(path: Path, names: list[str], effort: bool = True) -> Path:
    store, table = get_typestore(Stores.ROS2_JAZZY), swing()
    make, kind = store.types, "sensor_msgs/msg/JointState"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection("/joint_states", kind, typestore=store)
        for k, t in enumerate(table["time"]):
            ns = 10**18 + round(1e9 * t)
            stamp = make["builtin_interfaces/msg/Time"](ns // 10**9, ns % 10**9)
            header = make["std_msgs/msg/Header"](stamp, "")
            values = {"shoulder": "1", "elbow": "2"}
            fields = [
                np.array([table[f"{q}{values[n]}"][k] if n in values else 9.0 for n in names])
                for q in ("q", "qd", "tau")
            ]
            fields[2] = fields[2] if effort else np.zeros(0)
            message = make[kind](header, names, *fields)
            writer.write(topic, ns + 10**6, store.serialize_cdr(message, kind))
    return path


def test_a_bag_in_any_order_of_joints(tmp_path, arm):
    bag = write_bag(tmp_path / "bag", ["finger", "elbow", "shoulder"])
    assert_swings(read_joint_log(bag, arm, (2,)))
    log = read_joint_log(bag, arm, (2,), {"joints": "/joint_states", "effort": "i"})
    assert "i2" in log.signals
    assert "tau2" not in log.signals
    with pytest.raises(AlulaError, match="effort=volts"):
        read_joint_log(bag, arm, (2,), {"effort": "volts"})
    with pytest.raises(AlulaError, match="not in the bag"):
        read_joint_log(bag, arm, (2,), {"joints": "/arm"})


@pytest.mark.parametrize(("names", "effort"), [(["a", "b"], True), (["elbow", "shoulder"], False)])
def test_a_bag_without_the_joints_or_their_effort(tmp_path, arm, names, effort):
    with pytest.raises(AlulaError, match="position, velocity and effort of shoulder, elbow"):
        read_joint_log(write_bag(tmp_path / "bag", names, effort), arm, (2,))


def test_rows_that_tell_nothing_are_dropped_and_counted(tmp_path, arm):
    table = swing()
    table["q1"][10] = np.nan
    table["tau2"][11] = np.inf
    table["time"][20] = table["time"][19]
    for column in table:
        if column != "time":
            table[column][30] = table[column][29]
    log = read(tmp_path, text(table), arm)
    assert log.dropped == {"not_finite": 2, "same_time": 1, "repeated": 1}
    assert log.signals["q1"].value.size == 596


def edited(**columns) -> str:
    table = swing()
    return text({k: columns.get(k, v) for k, v in table.items() if columns.get(k, v) is not None})


def back(k: int) -> np.ndarray:
    time = swing()["time"].copy()
    time[k] -= 0.5
    return time


REFUSED = {
    "NaN": (edited(q1=np.full(600, np.nan)), None, "600 of 600 rows have NaN"),
    "time runs back": (edited(time=back(100)), None, "time runs back from 0.99"),
    "too short": (text({k: v[:50] for k, v in swing().items()}), None, "50 usable rows"),
    "cut in a row": (text(swing())[:-30], None, "not a readable CSV"),
    "degrees": (edited(q1=57.3 * swing()["q1"]), None, "in radians"),
    "one joint": (edited(q2=None, qd2=None, tau2=None), None, "q of 1 joints; allowed: 2"),
    "three joints": (text(swing() | {"q3": swing()["q1"]}), None, "q of 3 joints"),
    "no torque": (edited(tau1=None, tau2=None), None, "no torque and no current"),
    "no positions": (edited(q1=None, q2=None), None, "no positions"),
    "no time": (edited(time=None), None, "no time column"),
    "unknown column": (text(swing()), {"q": "a..b"}, "no column 'a' for q"),
    "columns run back": (text(swing()), {"qd": "qd2..qd1"}, "qd=qd2..qd1 runs back"),
    "unknown signal": (text(swing()), {"speed1": "qd1"}, "unknown signal 'speed1'"),
    "a joint too many": (text(swing()), {"q9": "foo"}, "q9=foo is not used; allowed: "),
    "a joint twice": (text(swing()), {"q": "q1..q2", "q1": "q1"}, "q1=q1 is not used"),
    "two times": (text(swing()), {"time": "time", "t": "q1"}, "t=q1 is not used"),
    "bare, other width": (text(swing() | {"x": swing()["q1"]}, header=False), None, "8 columns"),
    "not text": (b"\x00\x01\x02" * 99, None, "log.csv"),
    "empty": (b"", None, "empty file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_logs_are_refused_in_one_line(tmp_path, arm, case):
    content, columns, words = REFUSED[case]
    with pytest.raises(AlulaError) as caught:
        read(tmp_path, content, arm, columns)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_samples_are_filtered_and_differentiated(tmp_path, arm):
    samples = prepare(read(tmp_path, text(swing()), arm))
    assert samples.q.shape == (len(samples.time_s), 2)
    np.testing.assert_allclose(samples.qdd[:, 0], -np.sin(samples.time_s), atol=0.01)
    np.testing.assert_allclose(samples.qdd[:, 1], -2.0 * np.cos(2.0 * samples.time_s), atol=0.02)
    np.testing.assert_allclose(samples.tau[:, 0], 10.0 * np.sin(samples.time_s), atol=0.01)
    # 0.2 s are left out at each end
    assert samples.time_s[0] == pytest.approx(0.2, abs=0.02)


def test_velocity_may_be_missing_but_not_wrong(tmp_path, arm):
    samples = prepare(read(tmp_path, edited(qd1=None, qd2=None), arm))
    np.testing.assert_allclose(samples.qd[:, 0], np.cos(samples.time_s), atol=0.01)
    with pytest.raises(AlulaError, match="qd2 is not the change of q2"):
        prepare(read(tmp_path, edited(qd2=swing()["qd1"]), arm))


def test_samples_beside_a_gap_are_left_out(tmp_path, arm):
    cut = {k: np.delete(v, slice(250, 300)) for k, v in swing().items()}
    samples = prepare(read(tmp_path, text(cut), arm))
    inside = (samples.time_s > 2.30) & (samples.time_s < 3.19)
    assert not inside.any()
    assert CELL_S < 0.01
