"""Bags of every kind: storages, clocks, topics that are missing or many, and damage."""

import contextlib
import struct
from dataclasses import replace

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin

from alula.errors import AlulaError
from alula.flightlog.analyse import analyse
from alula.frames import rot_from_quat
from alula.identification.rosbag import read_bag

MCAP, SQLITE = StoragePlugin.MCAP, StoragePlugin.SQLITE3


@pytest.fixture(scope="module")
def short(flight_maker, policy, robot):
    return flight_maker(policy, robot, steps=200)


def test_sqlite_says_the_same_as_mcap(bag_writer, short, policy, robot, tmp_path):
    a, b = (
        analyse(bag_writer(tmp_path / s.name, short, storage=s), policy=policy, robot=robot)
        for s in (MCAP, SQLITE)
    )
    one, other = a.to_json(), b.to_json()
    assert one.pop("log") != other.pop("log")
    assert one == other


def test_a_single_file_is_read_like_its_folder(bag_writer, short, policy, robot, tmp_path):
    folder = bag_writer(tmp_path / "bag", short)
    alone = analyse(folder / "bag.mcap", policy=policy, robot=robot)
    assert alone.tracking.rmse_m == analyse(folder, policy=policy, robot=robot).tracking.rmse_m


@pytest.mark.parametrize("offset", [-3600.0, 7.25])
def test_another_clock_is_shifted_and_said(offset, bag_writer, short, policy, robot, tmp_path):
    bag = bag_writer(tmp_path / "bag", short, offset=offset)
    report = analyse(bag, policy=policy, robot=robot)
    assert any("shifted" in gap for gap in report.gaps)
    # odometry arrives 0.5 ms after its stamp, the command 3 ms after that stamp
    assert report.timing.latency.percentiles_s[50] == pytest.approx(0.0025, abs=2e-6)
    assert report.agreement.rms < 1e-6


def test_when_the_node_says_who_is_in_command_only_that_counts(
    bag_writer, short, policy, robot, tmp_path
):
    def change(bag):
        bag.status(0.2, 0, "policy", steps=20)
        bag.status(1.0, 2, "hold: tilt", steps=100, **{"count tilt": 1})
        bag.status(1.5, 2, "hold: tilt", steps=100, **{"count tilt": 3})

    report = analyse(bag_writer(tmp_path / "bag", short, change=change), policy=policy, robot=robot)
    assert report.recording.flying == ((pytest.approx(0.1999), pytest.approx(0.9999)),)
    assert report.recording.counters == {"steps": 80, "tilt": 3}
    assert [e.text for e in report.recording.events] == ["hold: tilt"]
    assert report.tracking.samples == 80


def test_a_trajectory_is_followed_between_its_points(bag_writer, short, policy, robot, tmp_path):
    """Points of p = (sin 2t, 0, 1) every 50 ms, sent every 100 ms; the flight is not on it."""

    def change(bag):
        bag.trajectory(lambda t: ((np.sin(2 * t), 0, 1), (2 * np.cos(2 * t), 0, 0)), 2.0)

    bag = bag_writer(tmp_path / "bag", short, change=change)
    found = analyse(bag, policy=policy, robot=robot).tracking
    t = found.time_s  # the first message of the bag came at 0
    expected = np.stack((np.sin(2 * t), 0 * t, 1 + 0 * t), axis=1)
    assert (
        np.abs(found.reference_w - expected).max() < 2e-5
    )  # linear every 5 ms: 4 m/s^2 (5 ms)^2 / 8
    velocity = short.velocity_w[1 : 1 + len(t)] - np.stack(
        (2 * np.cos(2 * t), 0 * t, 0 * t), axis=1
    )
    expected_rmse = np.sqrt(np.mean(np.sum(velocity**2, axis=1)))
    assert found.velocity_rmse_m_s == pytest.approx(expected_rmse, rel=1e-3)


def test_a_tracking_policys_observation_is_made_from_state_and_reference(
    bag_writer, short, track_policy, robot, tmp_path
):
    """The states are of another flight; the actions are the tracking policy's for them, open loop."""

    def at(t):
        t = np.asarray(t, float)
        zero = 0.0 * t
        position = np.stack((np.sin(2 * t), zero, 1 + zero), axis=-1)
        return position, np.stack((2 * np.cos(2 * t), zero, zero), axis=-1)

    contract = track_policy.contract
    # errors are those at the measurement; the preview is of the moment when the node sends, 3 ms later
    position, velocity = at(short.time)
    now = short.time + 0.003
    preview = [at(now + tau)[0] - at(now)[0] for tau in (0.1, 0.2, 0.4, 0.6)]
    rot = rot_from_quat(short.quat_wb).reshape(-1, 9)
    errors = short.position_w - position, rot, short.velocity_w - velocity
    supplied = np.concatenate((*errors, short.angular_velocity_b, *preview), axis=1)
    history, actions = track_policy.history(), []
    for row in supplied:
        actions.append(track_policy.act(history.observe(row[None].astype(np.float32))))
        history.act(actions[-1])
    action = np.concatenate(actions)
    low, high = (np.array([getattr(a, k) for a in contract.action]) for k in ("low", "high"))
    flight = replace(short, action=action, throttle=low + 0.5 * (action + 1) * (high - low))
    bag = bag_writer(tmp_path / "bag", flight, change=lambda b: b.trajectory(at, 3.0))
    found = analyse(bag, policy=track_policy, robot=robot).agreement
    assert found.agrees
    # what is left: the reference is kept every 5 ms, linear in between
    assert found.rms < 1e-3 * max(found.varies, 0.1)


def test_two_topics_of_a_type_must_be_told_apart(bag_writer, short, policy, robot, tmp_path):
    bag = bag_writer(
        tmp_path / "bag",
        short,
        change=lambda b: [
            b.odometry(0.01 * k, 0.01 * k, (0, 0, 9), (1, 0, 0, 0), np.zeros(3), (0, 0, 0), topic="/truth")
            for k in range(100)
        ],
    )  # fmt: skip
    with pytest.raises(
        AlulaError, match=r"the odometry may be any of /odom, /truth; allowed: name it"
    ):
        analyse(bag, policy=policy, robot=robot)
    report = analyse(bag, policy=policy, robot=robot, topics={"odometry": "/odom"})
    assert report.agreement.rms < 1e-6
    with pytest.raises(AlulaError, match=r"topic '/motors' for odometry is std_msgs"):
        analyse(bag, topics={"odometry": "/motors"})
    with pytest.raises(AlulaError, match=r"unknown topic 'odom'; known: odometry"):
        analyse(bag, topics={"odom": "/odom"})


def test_missing_topics_are_gaps(bag_writer, short, policy, robot, tmp_path):
    flight = type(short)(**{**vars(short), "latency": np.full(len(short.latency), np.nan)})
    report = analyse(bag_writer(tmp_path / "bag", flight), policy=policy, robot=robot)
    gaps = "\n".join(report.gaps)
    assert "no topic that could be the command" in gaps
    assert "no sim-to-real gap: the log has 0 rotor commands" in gaps
    assert "no comparison with the policy" in gaps
    assert report.timing is None
    assert report.tracking is not None


def test_bad_messages_are_counted_and_left_out(bag_writer, short, policy, robot, tmp_path):
    def change(bag):
        for k in range(5):
            bag.raw("/odom", "nav_msgs/msg/Odometry", 0.5 + 0.01 * k, b"\0\1\0\0" + b"\xff" * 40)
        nan = (np.nan, 0, 0)
        bag.odometry(1.0, 1.0, nan, (1, 0, 0, 0), np.zeros(3), (0, 0, 0))
        # a stamp from the future, and one that came late
        bag.odometry(1.001, 99.0, (5, 5, 5), (1, 0, 0, 0), np.zeros(3), (0, 0, 0))
        bag.motors(1.0005, [0.1] * 7)

    report = analyse(bag_writer(tmp_path / "bag", short, change=change), policy=policy, robot=robot)
    gaps = "\n".join(report.gaps)
    assert "/odom: 6 messages could not be used" in gaps
    assert "/odom: 1 stamps more than 1 s from the others" in gaps
    assert "/motors: 1 messages could not be used" in gaps
    assert report.tracking.max_m < 1.0
    assert report.agreement.rms < 1e-6


def test_stamps_out_of_order_are_put_in_order(bag_writer, short, policy, robot, tmp_path):
    def change(bag):
        k = 100
        args = short.position_w[k], short.quat_wb[k], short.velocity_w[k]
        bag.odometry(1.2, 1.0001, *args, short.angular_velocity_b[k])

    report = analyse(bag_writer(tmp_path / "bag", short, change=change), policy=policy, robot=robot)
    assert any("1 stamps run backwards" in gap for gap in report.gaps)


@pytest.mark.parametrize("storage", [MCAP, SQLITE])
def test_damage_anywhere_is_one_clear_error_or_a_report(
    storage, bag_writer, short, robot, tmp_path
):
    folder = bag_writer(tmp_path / "bag", short, storage=storage)
    (file,) = [f for f in folder.iterdir() if f.suffix != ".yaml"]
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    for k in range(16):
        data = bytearray(whole)
        if k % 2:
            del data[int(rng.integers(len(data))) :]
        else:
            for at in rng.integers(len(data), size=20):
                data[at] = int(rng.integers(256))
        file.write_bytes(bytes(data))
        for path in (folder, file):
            # anything but an AlulaError fails the test
            with contextlib.suppress(AlulaError):
                analyse(path, robot=robot)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.mcap", b""), ("a.mcap", b"\x89MCAP0\r\n"), ("a.db3", b"SQLite format 3\0"), ("a.db3", b"x" * 5000)],
)  # fmt: skip
def test_what_is_no_bag_is_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AlulaError, match="broken or cut short"):
        read_bag(tmp_path / name)


@pytest.mark.parametrize(
    "text", ["", "a: [", "rosbag2_bagfile_information: 3", "rosbag2_bagfile_information: {version: 99}"]
)  # fmt: skip
def test_broken_metadata_is_refused(text, tmp_path):
    (tmp_path / "metadata.yaml").write_text(text)
    with pytest.raises(AlulaError, match="broken or cut short"):
        read_bag(tmp_path)


def test_a_bag_may_not_lead_out_of_its_folder(tmp_path):
    (tmp_path / "metadata.yaml").write_text("")
    (tmp_path / "a").mkdir()
    with pytest.raises(AlulaError, match="a is not a regular file"):
        read_bag(tmp_path)


def test_a_chunk_that_unpacks_to_more_than_it_says_is_refused(tmp_path):
    """A chunk of 64 MB of zeros in 2 kB that says it holds 100 bytes."""
    zstd = pytest.importorskip("backports.zstd")
    packed = zstd.compress(bytes(64_000_000))

    def record(op: int, content: bytes) -> bytes:
        return struct.pack("<BQ", op, len(content)) + content

    def text(value: str) -> bytes:
        return struct.pack("<I", len(value)) + value.encode()

    chunk = (
        struct.pack("<QQQI", 0, 0, 100, 0) + text("zstd") + struct.pack("<Q", len(packed)) + packed
    )
    magic = b"\x89MCAP0\r\n"
    footer = record(2, struct.pack("<QQI", 0, 0, 0))
    (tmp_path / "a.mcap").write_bytes(
        magic + record(1, text("ros2") + text("")) + record(6, chunk) + footer + magic
    )
    with pytest.raises(AlulaError, match="broken or cut short"):
        read_bag(tmp_path / "a.mcap")


def test_px4_messages_are_turned_into_our_frames():
    from alula.identification.rosbag_messages import PX4_MESSAGES

    # heading north, nose along NED x; 2 m north, 3 m east, 5 m up; 1 m/s north; rolling right
    raw = bytes(4) + struct.pack(
        "<QQB3x3f4fB3x3f3f",
        7_000_000,
        6_999_000,
        1,
        2,
        3,
        -5,
        1,
        0,
        0,
        0,
        1,
        1,
        0,
        0,
        0.5,
        0.2,
        0.1,
    )
    stamp, row = PX4_MESSAGES["px4_msgs/msg/VehicleOdometry"](raw)
    assert stamp == pytest.approx(6.999)
    assert row[:3] == pytest.approx([3, 2, 5])
    # our x axis is east, the nose points north: a quarter turn to the left about up
    assert np.abs(row[3:7]) == pytest.approx([0.5**0.5, 0, 0, 0.5**0.5], abs=1e-6)
    assert row[7:10] == pytest.approx([1, 0, 0], abs=1e-6)
    assert row[10:] == pytest.approx([0.5, -0.2, -0.1])
    # motors front-right, rear-left, front-left, rear-right of PX4
    control = [0.1, 0.3, 0.4, 0.2, *[np.nan] * 8]
    raw = bytes(4) + struct.pack("<QQH2x12f", 5_002_500, 5_000_000, 0, *control)
    stamp, row = PX4_MESSAGES["px4_msgs/msg/ActuatorMotors"](raw)
    assert stamp == pytest.approx(5.0025)
    assert row == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.0025])
    raw = bytes(4) + struct.pack("<Q3f3f", 1_000_000, 2, 3, -5, 1, 0, 0)
    assert PX4_MESSAGES["px4_msgs/msg/TrajectorySetpoint"](raw)[1] == pytest.approx(
        [3, 2, 5, 0, 1, 0]
    )
