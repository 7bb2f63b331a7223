"""A flight over real DDS with PX4's real messages: runs where px4_msgs is installed.

A vehicle in alula's own physics stands behind PX4's topics, in PX4's frames and order of motors. What stands for PX4
hovers the vehicle until it is armed and in offboard mode, takes offboard mode only while the heartbeat runs, and falls
back to its own failsafe half a second after the last one.
"""

import os
import signal
import time
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("px4_msgs")

import px4_msgs.msg as m
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from alula.deploy_ros2.adapters.px4 import FROM_PX4, TO_PX4, Px4Config
from alula.deploy_ros2.sim_multirotor import SimMultirotor, SimMultirotorConfig
from alula.presets import get_preset
from alula.robots.multirotor import load_robot
from alula.training.run import train

dds = run_path(str(Path(__file__).with_name("bench.py")))
bench, wire = dds["bench"], dds["wire"]
CONFIG = Px4Config()
ROBOT = load_robot("crazyflie")
HALF = 0.5**0.5
BEFORE, OFFBOARD, FAILSAFE = 2, 14, 5
LOSS = 0.5
"""PX4's COM_OF_LOSS_T [s]."""
NEWS = 0.2
"""Until the node has heard of a change of mode: the control mode comes every 50 ms, later on a busy computer [s]."""


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hover")
    train(get_preset("crazyflie-hover"), out=folder)
    return folder / "policy.onnx"


class Autopilot:
    """PX4's side of the wire at 100 Hz; until offboard mode a hand holds the vehicle."""

    def __init__(self, node):
        self.node, self.sim = node, SimMultirotor(ROBOT, SimMultirotorConfig())
        self.armed, self.mode, self._left = False, BEFORE, 0.0
        self.beats, self.motors, self.requests = [], [], []
        self.throttle = None
        self._out = {
            topic: node.create_publisher(kind, topic, FROM_PX4)
            for kind, topic in [
                (m.VehicleOdometry, CONFIG.odometry),
                (m.VehicleStatus, CONFIG.status),
                (m.VehicleControlMode, CONFIG.control_mode),
            ]
        }
        listen = node.create_subscription
        listen(m.OffboardControlMode, CONFIG.offboard_control_mode, self._on_beat, TO_PX4)
        listen(m.ActuatorMotors, CONFIG.actuator_motors, self._on_motors, TO_PX4)
        listen(m.VehicleCommand, CONFIG.vehicle_command, self.requests.append, TO_PX4)
        self._count = 0

    def _on_beat(self, message):
        assert message.direct_actuator
        self.beats.append(time.monotonic())

    def _on_motors(self, message):
        assert self.armed, "motors were commanded while disarmed"
        late = time.monotonic() - self._left
        assert self.mode == OFFBOARD or late < NEWS, "motors were commanded that others fly"
        control = np.array(message.control)
        assert np.isnan(control[4:]).all()
        self.motors.append(control[:4])
        # Front right, rear left, front left, rear right to front right, rear right, rear left, front left
        self.throttle = None if np.isnan(control[:4]).any() else control[[0, 3, 1, 2]]

    def offboard(self):
        """What a pilot's switch asks for; refused without a heartbeat."""
        if self.beats and time.monotonic() - self.beats[-1] < LOSS:
            self.mode = OFFBOARD

    def leave(self, mode):
        """The pilot or a failsafe takes over."""
        self.mode, self._left = mode, time.monotonic()

    def tick(self):
        if self.mode == OFFBOARD and time.monotonic() - self.beats[-1] > LOSS:
            self.leave(FAILSAFE)
        if self.mode == OFFBOARD and self.armed:
            self.sim.step(self.throttle)
        self._count += 1
        us = self.node.get_clock().now().nanoseconds // 1000
        if self._count % 50 == 1:
            arming = 2 if self.armed else 1
            status = m.VehicleStatus(timestamp=us, arming_state=arming, nav_state=self.mode)
            self._out[CONFIG.status].publish(status)
        if self._count % 5 == 1:
            flags = {
                "flag_armed": self.armed,
                "flag_control_offboard_enabled": self.mode == OFFBOARD,
            }
            self._out[CONFIG.control_mode].publish(m.VehicleControlMode(timestamp=us, **flags))
        (x, y, z), (vx, vy, vz) = self.sim.position_w, self.sim.velocity_w
        (p, q, r), (w, a, b, c) = self.sim.angular_velocity_b, self.sim.quat_wb
        # q_ned_frd = (0, h, h, 0) (w, a, b, c) (0, 1, 0, 0), multiplied out by hand
        attitude = [HALF * (w + c), HALF * (a + b), HALF * (a - b), HALF * (w - c)]
        message = m.VehicleOdometry(
            timestamp=us,
            timestamp_sample=us,
            pose_frame=1,
            velocity_frame=1,
            position=np.array([y, x, -z], np.float32),
            q=np.array(attitude, np.float32),
            velocity=np.array([vy, vx, -vz], np.float32),
            angular_velocity=np.array([p, -q, -r], np.float32),
        )
        self._out[CONFIG.odometry].publish(message)


def test_attitude_of_the_autopilot():
    # level, facing east: PX4's yaw is 90 degrees
    w, a, b, c = 1.0, 0.0, 0.0, 0.0
    assert [HALF * (w + c), HALF * (a + b), HALF * (a - b), HALF * (w - c)] == [HALF, 0, 0, HALF]


@pytest.mark.slow
def test_hover_and_give_up(policy):
    with bench(policy=policy, robot="crazyflie", adapter="px4") as b:
        px4 = Autopilot(b.robot)
        px4.offboard()
        assert px4.mode == BEFORE
        b.activate(px4.tick)
        b.run(1.5, px4.tick)
        assert px4.motors == []
        gaps = np.diff(px4.beats)
        # 10 Hz; PX4 wants 2 Hz, and a busy computer may take its time.
        assert len(gaps) >= 5
        assert gaps.max() < LOSS
        px4.armed = True
        px4.offboard()
        b.spin(lambda: px4.motors, px4.tick)
        b.run(5.0, px4.tick)
        assert px4.mode == OFFBOARD
        assert np.linalg.norm(px4.sim.position_w - [0, 0, 1]) < 0.3
        assert px4.requests == []
        # Given up: heartbeat and motors end together, and PX4 takes over.
        b.node.trigger_deactivate()
        n, beats = len(px4.motors), len(px4.beats)
        b.run(0.3, px4.tick)
        assert len(px4.beats) - beats <= 1
        assert len(px4.motors) - n <= 1
        b.spin(lambda: px4.mode == FAILSAFE, px4.tick)


@pytest.mark.slow
def test_arming_and_mode_by_request(policy):
    with bench(
        policy=policy, robot="crazyflie", adapter="px4", px4__set_mode=True, px4__arm=True
    ) as b:
        px4 = Autopilot(b.robot)
        b.activate(px4.tick)
        b.spin(lambda: px4.requests, px4.tick)
        first = px4.requests[0]
        assert (first.command, first.param1, first.param2) == (176, 1.0, 6.0)
        assert first.command == m.VehicleCommand.VEHICLE_CMD_DO_SET_MODE
        px4.offboard()
        b.spin(lambda: px4.requests[-1].command == 400, px4.tick)
        assert px4.requests[-1].param1 == m.VehicleCommand.ARMING_ACTION_ARM
        px4.armed = True
        b.spin(lambda: len(px4.motors) > 100, px4.tick)
        # The pilot takes over: from then on nothing is sent nor asked, and the policy may be given the vehicle again.
        px4.leave(BEFORE)
        b.run(NEWS, px4.tick)
        n, asked = len(px4.motors), len(px4.requests)
        b.run(2.5, px4.tick)
        assert (len(px4.motors), len(px4.requests)) == (n, asked)
        px4.offboard()
        b.spin(lambda: len(px4.motors) > n + 100, px4.tick)
        # The land and stop of the operator end on the ground with motors off and a request to disarm.
        b.node._operator = type(b.node._operator).LAND
        b.spin(lambda: np.isnan(px4.motors[-1]).all(), px4.tick)
        assert px4.sim.on_ground
        b.spin(lambda: px4.requests[-1].param1 == 0.0, px4.tick)
        assert px4.requests[-1].command == 400
        assert time.monotonic() - px4.beats[-1] < LOSS


@pytest.fixture
def processes(policy, tmp_path):
    """What stands for PX4 here, policy_node in a process of its own, and a function that spins for a while."""
    domain = int(os.environ.get("ROS_DOMAIN_ID") or wire["free_domain"]())
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    parameters = {"policy": policy, "robot": "crazyflie", "adapter": "px4", "autostart": True}
    node = wire["Process"]("policy_node", domain, tmp_path, parameters=dds["LENIENT"] | {"safety.stall_lost": 0.5, "safety.stall": 0.1} | parameters)  # fmt: skip
    rclpy.init(domain_id=domain)
    robot = Node("px4", use_global_arguments=False)
    executor = SingleThreadedExecutor()
    executor.add_node(robot)
    px4 = Autopilot(robot)

    def spin(until, patience=20.0):
        end, due = time.monotonic() + patience, 0.0
        while not until():
            now = time.monotonic()
            assert now < end, node.text
            if now >= due:
                due = now + 0.01
                px4.tick()
            executor.spin_once(timeout_sec=0.002)

    try:
        yield px4, node, spin
    finally:
        node.close()
        robot.destroy_node()
        rclpy.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_the_process_ends_or_hangs(processes, number):
    px4, node, spin = processes
    spin(lambda: px4.beats)
    px4.armed = True
    px4.offboard()
    spin(lambda: len(px4.motors) > 100)
    assert px4.mode == OFFBOARD
    node.signal(number)
    at = time.monotonic()
    spin(lambda: px4.mode == FAILSAFE)
    # What was under way when it came, and no more
    assert px4.beats[-1] - at < 0.1
    n, beats = len(px4.motors), len(px4.beats)
    if number == signal.SIGSTOP:
        # It goes on after three seconds, with a network full of what was said meanwhile.
        spin(lambda: time.monotonic() - at > 3.0)
        node.signal(signal.SIGCONT)
        spin(lambda: time.monotonic() - at > 5.0)
    assert len(px4.motors) == n
    if number != signal.SIGSTOP:
        assert len(px4.beats) == beats
