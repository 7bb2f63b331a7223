"""When the PX4 adapter sends what: heartbeat, engagement, hand-over, requests. The messages are restated in fake.py."""

from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from alula.deploy_ros2.adapters import px4 as module
from alula.deploy_ros2.adapters.interface import Timing
from alula.deploy_ros2.adapters.px4 import Px4Adapter, Px4Config
from alula.deploy_ros2.node_config import NodeConfig
from alula.errors import AlulaError

fake = run_path(str(Path(__file__).with_name("fake.py")))
MSG = fake["PX4"]
CONFIG = Px4Config()
OFFBOARD, POSITION = 14, 2
ROTORS = ("M1", "M2", "M3", "M4")


class Bench:
    """An adapter on a fake node, and a clock that both know."""

    def __init__(self, monkeypatch, level="throttle", arrival=False, **config):
        self.node = fake["Node"](now=100.0)
        self.cycles = 0
        self.config = Px4Config(**config)
        runner = SimpleNamespace(level=level, names=ROTORS, control_dt=0.01)
        timing = Timing(now=lambda: self.node.now, arrival=arrival)
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.node.now))
        self.adapter = Px4Adapter(
            self.node, self.config, NodeConfig(), runner, timing, self.count, msg=MSG
        )
        self.odometry()
        self.adapter.start(self.node.now)

    def count(self):
        self.cycles += 1

    def hear(self, topic, message):
        self.node.heard[getattr(self.config, topic)](message)

    def odometry(self, **fields):
        stamp = round(1e6 * self.node.now)
        self.hear("odometry", MSG.VehicleOdometry(timestamp_sample=stamp, **fields))

    def status(self, armed, mode, ago=0.0):
        at, arming = round(1e6 * (self.node.now - ago)), 2 if armed else 1
        self.hear("status", MSG.VehicleStatus(timestamp=at, arming_state=arming, nav_state=mode))

    def run(self, seconds, armed=None, mode=POSITION, send=None):
        """Cycles at 100 Hz, as the node has them while the policy is well; PX4's status comes at 2 Hz."""
        for k in range(round(100 * seconds)):
            if armed is not None and k % 50 == 0:
                self.status(armed, mode)
            self.node.now += 0.01
            self.odometry()
            if send is not None:
                self.adapter.send(send, self.node.now)
            self.adapter.beat(self.node.now)

    def beats(self):
        return self.node.sent(self.config.offboard_control_mode)

    def asked(self):
        return [
            (m.command, m.param1, m.param2) for m in self.node.sent(self.config.vehicle_command)
        ]


@pytest.fixture
def bench(monkeypatch):
    return lambda *args, **settings: Bench(monkeypatch, *args, **settings)


HOVER = np.array([0.5, 0.5, 0.5, 0.5])


def test_quality_of_service(bench):
    qos = bench().node.qos
    for topic in ("odometry", "status", "control_mode", "land_detected", "battery"):
        assert qos[getattr(CONFIG, topic)].reliability == ReliabilityPolicy.BEST_EFFORT
        assert qos[getattr(CONFIG, topic)].durability == DurabilityPolicy.TRANSIENT_LOCAL
    for topic in ("offboard_control_mode", "actuator_motors", "vehicle_command"):
        assert qos[getattr(CONFIG, topic)].reliability == ReliabilityPolicy.BEST_EFFORT
        assert qos[getattr(CONFIG, topic)].durability == DurabilityPolicy.VOLATILE


def test_the_heartbeat_comes_from_cycles_at_ten_hertz(bench):
    b = bench()
    b.run(3.0, armed=False)
    stamps = [1e-6 * m.timestamp for m in b.beats()]
    gaps = np.diff(stamps)
    assert len(stamps) == pytest.approx(30, abs=3)
    assert gaps.max() <= 0.12  # PX4 wants 0.5
    assert all(m.direct_actuator for m in b.beats())
    # Without cycles there is none, however long.
    b.node.now += 1.0
    b.odometry()
    assert len(b.beats()) == len(stamps)


def test_a_clock_that_goes_back_does_not_silence_the_heartbeat(bench):
    b = bench()
    b.run(0.2, armed=False)
    n = len(b.beats())
    b.adapter.beat(b.node.now - 50.0)
    assert len(b.beats()) == n + 1


def test_no_heartbeat_while_nothing_is_known_of_px4(bench):
    b = bench()
    b.run(1.0)
    assert b.beats() == []
    assert "no VehicleStatus on /fmu/out/vehicle_status_v1" in b.node.said[0]
    b.run(0.5, armed=False)
    assert b.beats()


@pytest.mark.parametrize(
    ("armed", "mode"), [(False, POSITION), (True, POSITION), (False, OFFBOARD)]
)
def test_nothing_is_commanded_until_armed_and_in_offboard(bench, armed, mode):
    b = bench()
    b.run(1.0, armed=armed, mode=mode, send=HOVER)
    assert not b.adapter.engaged
    assert b.node.sent(CONFIG.actuator_motors) == []
    assert len(b.beats()) >= 9


def test_armed_and_in_offboard_the_policy_flies(bench):
    b = bench()
    b.run(0.1, armed=True, mode=POSITION)
    cycles = b.cycles
    b.status(True, OFFBOARD)
    assert b.adapter.engaged
    assert b.cycles == cycles + 1  # at once, not with the next odometry
    b.adapter.send(np.array([0.1, 0.2, 0.3, 0.4]), b.node.now)
    (message,) = b.node.sent(CONFIG.actuator_motors)
    assert message.control[:4] == [0.1, 0.3, 0.4, 0.2]
    assert message.timestamp == round(1e6 * b.node.now)
    assert message.timestamp_sample == round(1e6 * b.node.now)


def test_the_control_mode_tells_it_too(bench):
    b = bench()
    flags = {"flag_armed": True, "flag_control_offboard_enabled": True}
    b.hear("control_mode", MSG.VehicleControlMode(timestamp=100_000_000, **flags))
    assert b.adapter.engaged
    b.hear("control_mode", MSG.VehicleControlMode(timestamp=100_000_000, flag_armed=True))
    assert not b.adapter.engaged


@pytest.mark.parametrize("mode", [POSITION, 18, 13])
def test_the_pilot_or_a_failsafe_takes_over(bench, mode):
    b = bench(set_mode=True, arm=True)
    b.run(0.2, armed=True, mode=OFFBOARD, send=HOVER)
    n = len(b.node.sent(CONFIG.actuator_motors))
    b.run(5.0, armed=True, mode=mode, send=HOVER)
    assert len(b.node.sent(CONFIG.actuator_motors)) == n
    assert b.asked() == []  # and is not overruled
    # Given back, the policy flies again.
    b.run(0.1, armed=True, mode=OFFBOARD, send=HOVER)
    assert len(b.node.sent(CONFIG.actuator_motors)) == n + 10


def test_disarmed_in_flight(bench):
    b = bench(arm=True)
    b.run(0.2, armed=True, mode=OFFBOARD, send=HOVER)
    n, beats = len(b.node.sent(CONFIG.actuator_motors)), len(b.beats())
    b.run(3.0, armed=False, mode=OFFBOARD, send=HOVER)
    assert len(b.node.sent(CONFIG.actuator_motors)) == n
    assert len(b.beats()) == beats
    assert b.asked() == []
    # Arming alone starts no motors: offboard mode has to be chosen anew.
    b.run(1.0, armed=True, mode=OFFBOARD, send=HOVER)
    assert len(b.node.sent(CONFIG.actuator_motors)) == n
    b.run(0.5, armed=True, mode=POSITION, send=HOVER)
    assert len(b.beats()) > beats
    b.run(0.1, armed=True, mode=OFFBOARD, send=HOVER)
    assert len(b.node.sent(CONFIG.actuator_motors)) == n + 10


def test_px4_falls_silent(bench):
    b = bench()
    b.run(0.5, armed=True, mode=OFFBOARD, send=HOVER)
    b.run(3.0, send=HOVER)
    # The only status came at 100 s; PX4 sends one every 0.5 s, after 1.6 s nothing more is sent.
    last = 1e-6 * b.node.sent(CONFIG.actuator_motors)[-1].timestamp
    assert last - 100.0 == pytest.approx(1.6, abs=0.02)
    assert 1e-6 * b.beats()[-1].timestamp - 100.0 <= 1.61


def test_old_news_are_not_believed(bench):
    """After a process has hung, the network hands over what was said meanwhile, the oldest first."""
    b = bench()
    b.run(0.5, armed=True, mode=OFFBOARD, send=HOVER)
    b.node.now += 3.0
    b.status(True, OFFBOARD, ago=2.5)
    assert not b.adapter.engaged
    b.status(True, OFFBOARD, ago=0.2)
    assert b.adapter.engaged
    unsynchronised = bench(arrival=True)
    unsynchronised.status(True, OFFBOARD, ago=90.0)
    assert unsynchronised.adapter.engaged


def test_release_ends_heartbeat_and_requests(bench):
    b = bench(set_mode=True, arm=True)
    b.run(0.5, armed=True, mode=OFFBOARD, send=HOVER)
    b.adapter.release()
    n = len(b.beats())
    b.run(3.0, armed=True, mode=POSITION)
    assert len(b.beats()) == n
    assert b.asked() == []
    # Activated anew, it begins anew.
    b.adapter.start(b.node.now)
    b.run(0.5, armed=True, mode=POSITION)
    assert len(b.beats()) > n


def test_no_requests_by_default(bench):
    b = bench()
    b.run(5.0, armed=False)
    b.run(5.0, armed=False, mode=OFFBOARD)
    assert b.asked() == []


def test_requests_that_the_parameters_allow(bench):
    b = bench(set_mode=True, arm=True)
    b.run(0.9, armed=False)
    assert b.asked() == []  # PX4 wants to have seen heartbeats for a second
    b.run(0.5, armed=False)
    assert b.asked() == [(176, 1.0, 6.0)]
    b.run(1.0, armed=False)
    assert b.asked() == [(176, 1.0, 6.0)] * 2  # again after a second
    b.run(1.2, armed=False, mode=OFFBOARD)
    assert b.asked()[2:] == [(400, 1.0, 0.0)]


def test_stop_turns_the_motors_off_and_keeps_px4_from_turning_them_on(bench):
    b = bench()
    b.run(0.2, armed=True, mode=OFFBOARD, send=HOVER)
    n, beats = len(b.node.sent(CONFIG.actuator_motors)), len(b.beats())
    for _ in range(100):
        b.node.now += 0.01
        b.adapter.stop()
    messages = b.node.sent(CONFIG.actuator_motors)[n:]
    assert len(messages) == 100
    assert np.isnan([m.control for m in messages]).all()
    assert len(b.beats()) - beats == pytest.approx(10, abs=1)
    assert b.asked() == []


@pytest.mark.parametrize(("level", "force"), [("throttle", 21196.0), ("rates", 21196.0), ("velocity", 0.0)])  # fmt: skip
def test_stop_asks_to_be_disarmed_where_that_is_allowed(bench, level, force):
    b = bench(level, arm=True)
    b.run(0.2, armed=True, mode=OFFBOARD)
    b.adapter.stop()
    assert b.asked() == [(400, 0.0, force)]


def test_stop_sends_nothing_to_a_vehicle_that_somebody_else_flies(bench):
    b = bench(arm=True)
    b.run(0.2, armed=True, mode=POSITION)
    n = len(b.beats())
    b.adapter.stop()
    assert b.node.sent(CONFIG.actuator_motors) == []
    assert (len(b.beats()), b.asked()) == (n, [])


def test_stop_by_other_levels(bench):
    rates = bench("rates")
    rates.run(0.1, armed=True, mode=OFFBOARD)
    rates.adapter.stop()
    (message,) = rates.node.sent(CONFIG.rates_setpoint)
    assert (message.roll, message.pitch, message.yaw, *message.thrust_body) == (0, 0, 0, 0, 0, 0)
    velocity = bench("velocity")
    velocity.run(0.1, armed=True, mode=OFFBOARD)
    velocity.adapter.stop()
    (message,) = velocity.node.sent(CONFIG.trajectory_setpoint)
    assert message.velocity == [0.0, 0.0, 0.35]  # down


def test_px4s_land_detector_counts_only_while_px4_knows_the_thrust(bench):
    b = bench()
    b.hear("land_detected", MSG.VehicleLandDetected(landed=True))
    assert b.adapter.landed
    b.status(True, OFFBOARD)
    assert not b.adapter.landed
    v = bench("velocity")
    v.status(True, OFFBOARD)
    v.hear("land_detected", MSG.VehicleLandDetected(landed=True))
    assert v.adapter.landed


@pytest.mark.parametrize(
    ("fields", "charge"),
    [({"remaining": 0.4}, 0.4), ({"remaining": -1.0}, None), ({"remaining": float("nan")}, None), ({"remaining": 0.0, "connected": False}, None)],
)  # fmt: skip
def test_battery(bench, fields, charge):
    b = bench()
    b.hear("battery", MSG.BatteryStatus(**fields))
    assert b.adapter.battery == charge


def test_times_of_measurements(bench):
    b = bench()
    b.hear("odometry", MSG.VehicleOdometry(timestamp_sample=99_990_000))
    assert b.adapter.samples["quat_wb"].stamp == pytest.approx(99.99)
    # PX4's own clock, not synchronised: the sample is old, and the log says why
    b.hear("odometry", MSG.VehicleOdometry(timestamp_sample=5_000_000))
    assert b.adapter.samples["quat_wb"].stamp == 5.0
    assert "VehicleOdometry is 95.0 s old: set UXRCE_DDS_SYNCT" in b.node.said[-1]
    b = bench(arrival=True)
    b.hear("odometry", MSG.VehicleOdometry(timestamp_sample=5_000_000))
    assert b.adapter.samples["quat_wb"].stamp == 100.0
    assert b.node.said == []


def test_an_odometry_without_north_changes_nothing_but_a_cycle_runs(bench):
    b = bench()
    before, cycles = dict(b.adapter.samples), b.cycles
    b.odometry(pose_frame=2, position=[1.0, 2.0, 3.0])
    assert b.adapter.samples == before
    assert b.cycles == cycles + 1
    assert "pose_frame 2" in b.node.said[-1]


def test_an_invalid_position_makes_no_reference(bench):
    b = bench()
    nan = float("nan")
    b.odometry(position=[nan, nan, nan])
    b.adapter.start(b.node.now)
    assert b.adapter.reference(b.node.now).position_w.tolist() == [0.0, 0.0, 0.0]


def test_while_waiting_the_reference_goes_with_the_vehicle(bench):
    b = bench()
    b.odometry(position=[1.0, 2.0, -3.0])
    b.adapter.start(b.node.now)
    assert b.adapter.reference(b.node.now).position_w.tolist() == [2.0, 1.0, 3.0]


@pytest.mark.parametrize("topic", ["actuator_motors", "offboard_control_mode"])
def test_another_commander_is_seen(bench, topic):
    b = bench()
    assert b.adapter.rivals() == 0
    b.node.others[getattr(CONFIG, topic)] = 2
    assert b.adapter.rivals() == 2


def test_everything_is_given_back(bench):
    b = bench()
    b.adapter.close()
    assert b.node.alive == set()


def test_versions_of_messages_are_in_the_names_of_topics(bench):
    b = bench(status="/fmu/out/vehicle_status_v4")
    assert "/fmu/out/vehicle_status_v4" in b.node.heard


@pytest.mark.parametrize("motors", [(0, 1, 2), (0, 0, 1, 2), (1, 2, 3, 4)])
def test_motors_must_name_each_rotor_once(bench, motors):
    with pytest.raises(AlulaError, match="allowed: each of 0 to 3 once"):
        bench(motors=motors)
    bench("velocity", motors=motors)


def test_policies_that_px4_cannot_take_are_refused(bench):
    with pytest.raises(AlulaError, match="commands joint_velocity; PX4 takes"):
        bench("joint_velocity")


def test_without_px4_msgs_the_error_says_what_is_needed(monkeypatch):
    def missing(_):
        raise ImportError

    monkeypatch.setattr(module, "import_module", missing)
    with pytest.raises(
        AlulaError, match="needs the package px4_msgs in the version of the firmware"
    ):
        Px4Adapter(fake["Node"](), CONFIG, NodeConfig(), None, None, None)


def test_messages_of_an_older_firmware_are_refused(monkeypatch):
    """v1.14 had no direct_actuator; generated messages assert their keywords."""

    class Old:
        def __init__(self, **fields):
            if "direct_actuator" in fields:
                raise AssertionError("Invalid arguments")

    msg = SimpleNamespace(**{**vars(MSG), "OffboardControlMode": Old})
    runner = SimpleNamespace(level="throttle", names=ROTORS)
    with pytest.raises(AlulaError, match="not known: Invalid arguments; allowed: that of PX4 v1"):
        Px4Adapter(fake["Node"](), CONFIG, NodeConfig(), runner, None, None, msg=msg)
