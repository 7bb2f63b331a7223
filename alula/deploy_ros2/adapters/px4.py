"""PX4 over uXRCE-DDS in offboard mode: VehicleOdometry in; motors, body rates or velocity out.

OffboardControlMode is the node's heartbeat. It is sent from the cycles of the loop, so it stops with them. PX4 does not
notice set-points that have gone stale while the heartbeat runs, so to give up the vehicle is to stop both: PX4's own
failsafe for lost offboard control takes over.

The policy flies only while PX4 says that it is armed and in offboard mode. Before, only the heartbeat is sent, and only
while the policy could fly: nobody arbitrates between set-points of ours and those of PX4's own controllers.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from alula.deploy_ros2.adapters import px4_messages as px4
from alula.deploy_ros2.adapters.interface import Timing
from alula.deploy_ros2.adapters.vehicle_reference import VehicleReference
from alula.deploy_ros2.node_config import NodeConfig
from alula.deploy_ros2.pilot import SINK
from alula.deploy_ros2.samples import Reference, Sample
from alula.errors import AlulaError
from alula.frames import PX4_FROM_ALULA

if TYPE_CHECKING:
    from alula.deploy_ros2.runner import PolicyRunner


def _qos(durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(
        depth=1,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=durability,
    )


FROM_PX4 = _qos(DurabilityPolicy.TRANSIENT_LOCAL)
"""What /fmu/out/* offers; a reliable subscription would get nothing."""
TO_PX4 = _qos(DurabilityPolicy.VOLATILE)
"""What /fmu/in/* asks for."""
HEARTBEAT = 0.1
"""Time between two heartbeats [s]; PX4 wants one at least every 0.5 s."""
STREAM_BEFORE = 1.0
"""Heartbeats must have come for this long before PX4 accepts offboard mode [s]."""
ASK_AGAIN = 1.0
"""Time between two requests for mode or arming [s]."""
STATUS_AGE = 1.6
"""Nobody knows who flies if PX4 has not said so for this long; it does every 0.5 s [s]."""
LATE_NEWS = 0.3
"""What PX4 said longer ago than this when it comes is not believed: the process or the link hung meanwhile [s]."""
CLOCKS_DIFFER = 1.0
"""An odometry this old or this far ahead was stamped by another clock [s]."""


@dataclass(frozen=True, kw_only=True)
class Px4Config:
    """Topics, which carry PX4's message versions in their names, and what the node may ask of PX4."""

    odometry: str = "/fmu/out/vehicle_odometry"
    """VehicleOdometry in."""
    status: str = "/fmu/out/vehicle_status_v1"
    """VehicleStatus in; the name ends in _v1 with PX4 v1.16 and v1.17, in _v4 with v1.18, in nothing before."""
    control_mode: str = "/fmu/out/vehicle_control_mode"
    """VehicleControlMode in: tells the same ten times sooner."""
    land_detected: str = "/fmu/out/vehicle_land_detected"
    """VehicleLandDetected in."""
    battery: str = "/fmu/out/battery_status"
    """BatteryStatus in; the name ends in _v1 from PX4 v1.17 on."""
    offboard_control_mode: str = "/fmu/in/offboard_control_mode"
    """OffboardControlMode out: the heartbeat."""
    actuator_motors: str = "/fmu/in/actuator_motors"
    """ActuatorMotors out, for policies that command throttles; PX4 must have THR_MDL_FAC = 0."""
    rates_setpoint: str = "/fmu/in/vehicle_rates_setpoint"
    """VehicleRatesSetpoint out, for policies that command body rates."""
    trajectory_setpoint: str = "/fmu/in/trajectory_setpoint"
    """TrajectorySetpoint out, for policies that command the velocity."""
    vehicle_command: str = "/fmu/in/vehicle_command"
    """VehicleCommand out: requests for mode and arming."""
    motors: tuple[int, ...] = PX4_FROM_ALULA
    """PX4's motor k is rotor motors[k] of the robot file, counted from 0; the default is quad-x."""
    set_mode: bool = False
    """Whether the node asks for offboard mode, until PX4 was in it once; else the pilot switches."""
    arm: bool = False
    """Whether the node asks to be armed, until PX4 was once, and to be disarmed after a stop; else the pilot does."""


class Px4Adapter:
    """See the module."""

    def __init__(
        self,
        node: Node,
        config: Px4Config,
        node_config: NodeConfig,
        runner: "PolicyRunner",
        timing: Timing,
        on_state: Callable[[], None],
        msg: Any = None,
    ) -> None:
        """Subscribe and publish; `msg` replaces px4_msgs.msg in tests.

        Raises:
            AlulaError: px4_msgs is not installed, or the policy commands what PX4 does not take.
        """
        self._msg = m = msg if msg is not None else _messages()
        self._node, self._config, self._timing, self._on_state = node, config, timing, on_state
        self._level, rotors = runner.level, len(runner.names)
        try:
            px4.offboard_mode(m, self._level, 0)
        except (AssertionError, TypeError) as e:
            why = str(e).splitlines()[0]
            raise AlulaError(
                f"this px4_msgs is not known: {why}; allowed: that of PX4 v1.15 or later"
            ) from None
        if self._level == "throttle" and sorted(config.motors) != list(range(rotors)):
            raise AlulaError(
                f"px4.motors is {config.motors}; allowed: each of 0 to {rotors - 1} once"
            )
        self.samples: dict[str, Sample] = {}
        self.battery: float | None = None
        self._landed = self._armed = self._offboard = self._spent = self._flown = False
        self._heard = self._beaten = self._asked = -np.inf
        self._sampled_us = 0
        self._begun: float | None = None
        self._references = VehicleReference(node, node_config)
        c, subscribe, publish = config, node.create_subscription, node.create_publisher
        self._subscriptions = [
            subscribe(m.VehicleOdometry, c.odometry, self._on_odometry, FROM_PX4),
            subscribe(m.VehicleStatus, c.status, self._on_status, FROM_PX4),
            subscribe(m.VehicleControlMode, c.control_mode, self._on_control_mode, FROM_PX4),
            subscribe(m.VehicleLandDetected, c.land_detected, self._on_land_detected, FROM_PX4),
            subscribe(m.BatteryStatus, c.battery, self._on_battery, FROM_PX4),
        ]
        kind, topic = {
            "throttle": (m.ActuatorMotors, c.actuator_motors),
            "rates": (m.VehicleRatesSetpoint, c.rates_setpoint),
            "velocity": (m.TrajectorySetpoint, c.trajectory_setpoint),
        }[self._level]
        self._setpoint = publish(kind, topic, TO_PX4)
        self._mode = publish(m.OffboardControlMode, c.offboard_control_mode, TO_PX4)
        self._requests = publish(m.VehicleCommand, c.vehicle_command, TO_PX4)

    @property
    def engaged(self) -> bool:
        """Whether PX4 is armed and in offboard mode, by its own word and not long ago.

        Where it was disarmed in offboard mode, the mode has to be chosen anew: arming alone starts no motors.
        """
        return self._informed and self._armed and self._offboard and not self._spent

    @property
    def _informed(self) -> bool:
        # Not by the node's clock, which may jump.
        return time.monotonic() - self._heard <= STATUS_AGE

    @property
    def landed(self) -> bool:
        """PX4's land detector; not while a policy commands the motors, since it then misses PX4's own thrust."""
        return self._landed and not (self._level == "throttle" and self.engaged)

    @property
    def refused(self) -> int:
        """Set-points and trajectories that were refused so far."""
        return self._references.refused

    def start(self, now: float) -> None:
        """The policy takes over, or is ready to: the heartbeat may run."""
        self._references.start(self.samples["position_w"].value)
        if self._begun is None:
            self._begun = now

    def reference(self, now: float) -> Reference | None:
        """Where the vehicle shall be at time now [s]."""
        return self._references.at(now)

    def send(self, command: np.ndarray, now: float) -> None:
        """Publish a command of the policy's level; nothing while PX4 does not listen."""
        if not self.engaged:
            return
        now_us, m = round(1e6 * now), self._msg
        match self._level:
            case "throttle":
                message = px4.actuator_motors(
                    m, command, self._config.motors, now_us, self._sampled_us
                )
            case "rates":
                message = px4.rates_setpoint(m, command, now_us)
            case _:
                message = px4.velocity_setpoint(m, command, now_us)
        self._setpoint.publish(message)

    def beat(self, now: float) -> None:
        """Heartbeat, and the requests that the parameters allow."""
        if not self._informed:
            self._node.get_logger().warning(
                f"no VehicleStatus on {self._config.status}: its name carries the version of the message",
                throttle_duration_sec=5.0,
            )
            return
        # After a disarming PX4 must leave offboard mode before it may come back.
        if self._begun is None or self._spent:
            return
        self._heartbeat(now)
        # Who takes over from the policy must not be overruled.
        if self._flown or now - self._begun < STREAM_BEFORE or not self._may_ask(now):
            return
        if self._config.set_mode and not self._offboard:
            self._ask(px4.SET_MODE, px4.CUSTOM_MODE, px4.OFFBOARD_MODE, now)
        elif self._config.arm and self._offboard and not self._armed:
            self._ask(px4.ARM_DISARM, px4.ARM, 0.0, now)

    def release(self) -> None:
        """The heartbeat ends, and with it every request; PX4's failsafe takes over."""
        self._begun, self._flown = None, False

    def stop(self) -> None:
        """Motors off, as far as this level can: the heartbeat goes on, or PX4 would turn them on again.

        Body rates: no rates, no thrust. Velocity: downwards, until PX4 has landed and disarms itself.
        """
        if not self.engaged:
            return
        now = self._timing.now()
        now_us, m = round(1e6 * now), self._msg
        match self._level:
            case "throttle":
                message = px4.motors_off(m, now_us)
            case "rates":
                message = px4.rates_setpoint(m, np.zeros(4), now_us)
            case _:
                message = px4.velocity_setpoint(m, np.array([0.0, 0.0, -SINK]), now_us)
        self._setpoint.publish(message)
        self._heartbeat(now)
        if self._config.arm and self._may_ask(now):
            # Not by force where PX4 flies itself: it knows best whether it has landed.
            force = 0.0 if self._level == "velocity" else px4.FORCE
            self._ask(px4.ARM_DISARM, px4.DISARM, force, now)

    def rivals(self) -> int:
        """Other publishers of the same commands or of the heartbeat."""
        topics = (self._setpoint.topic_name, self._mode.topic_name)
        return max(0, max(self._node.count_publishers(topic) for topic in topics) - 1)

    def close(self) -> None:
        """Give back every subscription and publisher."""
        self._references.close()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        for publisher in (self._setpoint, self._mode, self._requests):
            self._node.destroy_publisher(publisher)

    def _heartbeat(self, now: float) -> None:
        # A clock that went back must not silence the heartbeat.
        if not 0.0 <= now - self._beaten < HEARTBEAT:
            self._beaten = now
            self._mode.publish(px4.offboard_mode(self._msg, self._level, round(1e6 * now)))

    def _may_ask(self, now: float) -> bool:
        return not 0.0 <= now - self._asked < ASK_AGAIN

    def _ask(self, command: int, param1: float, param2: float, now: float) -> None:
        self._asked = now
        message = px4.vehicle_command(self._msg, command, param1, param2, round(1e6 * now))
        self._requests.publish(message)

    def _on_odometry(self, message: Any) -> None:
        self._sampled_us = int(message.timestamp_sample)
        now = self._timing.now()
        stamp = now if self._timing.arrival else 1e-6 * message.timestamp_sample
        if not abs(now - stamp) < CLOCKS_DIFFER:
            self._node.get_logger().warning(
                f"VehicleOdometry is {now - stamp:.1f} s old: set UXRCE_DDS_SYNCT in PX4, or stamps to arrival",
                throttle_duration_sec=5.0,
            )
        try:
            self.samples |= px4.odometry_samples(message, stamp)
        except AlulaError as e:
            # What was measured before grows old, and that is noticed.
            self._node.get_logger().error(str(e), throttle_duration_sec=1.0)
        self._on_state()

    def _on_status(self, message: Any) -> None:
        armed, offboard = message.arming_state == px4.ARMED, message.nav_state == px4.OFFBOARD
        self._learn(message.timestamp, armed, offboard)

    def _on_control_mode(self, message: Any) -> None:
        self._learn(message.timestamp, message.flag_armed, message.flag_control_offboard_enabled)

    def _learn(self, said_us: int, armed: bool, offboard: bool) -> None:
        """PX4 said at a time [us] whether it is armed and in offboard mode."""
        # Without its time in this computer's, its word must be taken for new.
        if not self._timing.arrival and self._timing.now() - 1e-6 * said_us > LATE_NEWS:
            return
        before = self.engaged
        self._heard = time.monotonic()
        self._spent = offboard and (self._spent or (before and not armed))
        self._armed, self._offboard = bool(armed), bool(offboard)
        if self.engaged and not before:
            self._flown = True
            # From here on nobody else commands: not even until the next odometry.
            self._on_state()

    def _on_land_detected(self, message: Any) -> None:
        self._landed = bool(message.landed)

    def _on_battery(self, message: Any) -> None:
        # PX4 says -1 where it does not know.
        known = message.connected and 0.0 <= message.remaining <= 1.0
        self.battery = float(message.remaining) if known else None


def _messages() -> Any:
    try:
        return import_module("px4_msgs.msg")
    except ImportError:
        raise AlulaError(
            "the adapter px4 needs the package px4_msgs in the version of the firmware, v1.15 or later; "
            "build it with colcon"
        ) from None
