"""A flight recorded to a bag and replayed from it, each by a process of its own, over DDS."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import Float32MultiArray

from alula.deploy_ros2.adapters.interface import seconds
from alula.deploy_ros2.adapters.multirotor import NEWEST, command_message
from alula.deploy_ros2.record_node import BagWriter
from alula.deploy_ros2.sim_multirotor import SimMultirotor, SimMultirotorConfig
from alula.deploy_ros2.sim_node import odometry_message
from alula.errors import AlulaError
from alula.flightlog.analyse import analyse
from alula.identification.rosbag import read_bag
from alula.robots.multirotor import load_robot

wire = run_path(str(Path(__file__).with_name("ros") / "wire.py"))
STEPS = 150
WAIT = 20.0
"""Nobody waits so long on a machine that does anything at all [s]."""
ENVIRONMENT = {
    "ROS_DOMAIN_ID": str(wire["free_domain"]()),
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    "ROS_LOCALHOST_ONLY": "1",
}


@pytest.fixture
def others(monkeypatch):
    """A node that speaks to the processes, and its executor."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    context = Context()
    rclpy.init(context=context)
    node = Node("others", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    yield node, executor
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)


class Process:
    """A node of ours, ended with the block."""

    def __init__(self, name, log, **parameters):
        given = [x for k, v in parameters.items() for x in ("-p", f"{k}:={v}")]
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"alula.deploy_ros2.{name}", "--ros-args", *given],
            env=os.environ | ENVIRONMENT,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def interrupt(self):
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(WAIT)

    def wait(self):
        return self._process.wait(WAIT)


def until(executor, condition):
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        executor.spin_once(timeout_sec=0.01)


def fly(node, executor):
    """A hover, as fast as messages go; stamps 10 ms apart."""
    out = node.create_publisher(Odometry, "odometry", NEWEST)
    command = node.create_publisher(Float32MultiArray, "command", NEWEST)
    said = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
    until(executor, lambda: all(p.get_subscription_count() for p in (out, command, said)))
    robot = load_robot("crazyflie")
    sim = SimMultirotor(robot, SimMultirotorConfig(noise=0.0))
    throttle = np.full(4, robot.hover_throttle)
    stamps = []
    begin = time.time()
    for k in range(STEPS):
        sim.step(throttle)
        stamps.append(begin + 0.01 * k)
        # Not faster than real time: stamps must not lie in the future of whoever replays them.
        time.sleep(max(0.0, stamps[-1] - time.time()))
        out.publish(odometry_message(sim.measure(stamps[-1])))
        command.publish(command_message(throttle, "M1,M2,M3,M4"))
        if k % 50 == 0:
            status = DiagnosticStatus(level=DiagnosticStatus.OK, name="policy_node", message="policy")  # fmt: skip
            said.publish(DiagnosticArray(status=[status]))
    return stamps


def test_what_was_said_is_recorded_analysed_and_said_again(others, tmp_path):
    node, executor = others
    bag = tmp_path / "flight"
    with Process("record_node", tmp_path / "record.log", folder=bag) as recorder:
        stamps = fly(node, executor)
        time.sleep(0.3)
        assert recorder.interrupt() == 0, (tmp_path / "record.log").read_text()

    topics = read_bag(bag).topics
    recorded = topics["/odometry"].stamp_s
    # Best effort, and only the newest is kept for a recorder that is held up: on a busy computer some are lost.
    assert len(recorded) > 0.5 * STEPS
    assert len(topics["/command"].received_s) > 0.5 * STEPS
    # Times of a bag count from its first message, so only differences can be compared: whole steps,
    # to a microsecond: a double holds the time since 1970 to 0.24 us.
    steps = np.diff(recorded) / 0.01
    assert np.abs(steps - np.round(steps)).max() < 1e-4
    report = analyse(bag, robot=load_robot("crazyflie"))
    assert report.tracking.rmse_m < 0.01
    # A busy computer may add that its recorder was late.
    assert "no reference in the bag: taken as the position when the policy took over" in report.recording.gaps  # fmt: skip

    heard = []
    node.create_subscription(Odometry, "odometry", heard.append, 1000)
    node.create_subscription(Float32MultiArray, "command", heard.append, 1000)
    with Process("replay_node", tmp_path / "replay.log", bag=bag) as replay:
        until(executor, lambda: len(heard) > 0.5 * len(recorded))
        # The measurements come as they did, a while later; commands are the business of whoever listens.
        assert all(isinstance(m, Odometry) for m in heard)
        moved = [seconds(m.header.stamp) for m in heard]
        shift = moved[-1] - np.array(stamps)
        exact = np.diff(moved) / 0.01
        assert shift.max() > 1.0
        assert np.abs(exact - np.round(exact)).max() < 1e-4
        assert all(abs(t - time.time()) < WAIT for t in moved)
        assert replay.wait() == 0, (tmp_path / "replay.log").read_text()


def test_a_folder_that_exists_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(AlulaError, match="a new folder"):
        BagWriter(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_type_that_is_not_installed_is_refused(tmp_path):
    bag = BagWriter(tmp_path / "bag")
    with pytest.raises(AlulaError, match="not installed"):
        bag.add("/odd", "odd_msgs/msg/Odd")
    write = bag.add("/fine", "std_msgs/msg/Empty")
    write(1, b"\x00\x01\x00\x00\x00")
    assert bag.close() == f"1 messages in {tmp_path / 'bag'}"


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    bag = BagWriter(tmp_path / "bag")

    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bag._writer, "close", full)
    assert bag.close() == f"{tmp_path / 'bag'} is incomplete, to be recovered (No space left on device)"  # fmt: skip
    assert bag.closed


@pytest.mark.parametrize("bag", ["", "nowhere", "cut.mcap"])
def test_a_bag_that_is_not_there_or_broken_is_one_line(bag, others, tmp_path):
    if bag == "cut.mcap":
        (tmp_path / bag).write_bytes(b"\x89MCAP0\r\n\x01")
        bag = tmp_path / bag
    log = tmp_path / "replay.log"
    with Process("replay_node", log, bag=f"'{bag}'") as replay:
        assert replay.wait() == 2
    assert [x for x in log.read_text().splitlines() if x.startswith("error: ")] == log.read_text().splitlines()  # fmt: skip
