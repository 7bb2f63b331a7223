"""A node without ROS, and the fields of foreign messages that the adapters use; loaded by several tests."""

from copy import deepcopy
from dataclasses import dataclass, field
from types import SimpleNamespace

NAN = float("nan")


class Publisher:
    """Keeps what is published."""

    def __init__(self, topic_name):
        self.topic_name, self.sent = topic_name, []

    def publish(self, message):
        self.sent.append(deepcopy(message))


class Client:
    """Keeps what is asked."""

    def __init__(self):
        self.asked = []

    def call_async(self, request):
        self.asked.append(request)


class Node:
    """Hands messages to subscriptions by topic; time is `now` [s]."""

    def __init__(self, now=100.0):
        self.now, self.heard, self.publishers, self.clients = now, {}, {}, {}
        self.others, self.kinds, self.qos, self.said, self.alive = {}, {}, {}, [], set()

    def create_subscription(self, kind, topic, callback, qos):
        self.heard[topic], self.kinds[topic], self.qos[topic] = callback, kind, qos
        self.alive.add(topic)
        return topic

    def create_publisher(self, kind, topic, qos):
        self.publishers[topic], self.kinds[topic], self.qos[topic] = Publisher(topic), kind, qos
        self.alive.add(topic)
        return self.publishers[topic]

    def create_client(self, kind, name):
        self.clients[name], self.kinds[name] = Client(), kind
        self.alive.add(name)
        return self.clients[name]

    def destroy_subscription(self, topic):
        self.alive.remove(topic)

    def destroy_publisher(self, publisher):
        self.alive.remove(publisher.topic_name)

    def destroy_client(self, client):
        self.alive -= {name for name, c in self.clients.items() if c is client}

    def count_publishers(self, topic):
        return 1 + self.others.get(topic, 0)

    def get_clock(self):
        return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=round(1e9 * self.now)))

    def get_logger(self):
        def say(text, **_):
            self.said.append(text)

        return SimpleNamespace(info=say, warning=say, error=say)

    def sent(self, topic):
        return self.publishers[topic].sent


@dataclass(kw_only=True)
class VehicleOdometry:
    timestamp_sample: int = 0
    pose_frame: int = 1
    position: list = field(default_factory=lambda: [0.0, 0.0, 0.0])
    q: list = field(default_factory=lambda: [1.0, 0.0, 0.0, 0.0])
    velocity_frame: int = 1
    velocity: list = field(default_factory=lambda: [0.0, 0.0, 0.0])
    angular_velocity: list = field(default_factory=lambda: [0.0, 0.0, 0.0])


@dataclass(kw_only=True)
class VehicleStatus:
    timestamp: int = 0
    arming_state: int = 1
    nav_state: int = 0


@dataclass(kw_only=True)
class VehicleControlMode:
    timestamp: int = 0
    flag_armed: bool = False
    flag_control_offboard_enabled: bool = False


@dataclass(kw_only=True)
class VehicleLandDetected:
    landed: bool = False


@dataclass(kw_only=True)
class BatteryStatus:
    connected: bool = True
    remaining: float = -1.0


@dataclass(kw_only=True)
class ActuatorMotors:
    timestamp: int = 0
    timestamp_sample: int = 0
    control: list = field(default_factory=lambda: [0.0] * 12)


@dataclass(kw_only=True)
class VehicleRatesSetpoint:
    timestamp: int = 0
    roll: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0
    thrust_body: list = field(default_factory=lambda: [0.0, 0.0, 0.0])


@dataclass(kw_only=True)
class TrajectorySetpoint:
    timestamp: int = 0
    position: list = field(default_factory=lambda: [0.0, 0.0, 0.0])
    velocity: list = field(default_factory=lambda: [0.0, 0.0, 0.0])
    acceleration: list = field(default_factory=lambda: [0.0, 0.0, 0.0])
    jerk: list = field(default_factory=lambda: [0.0, 0.0, 0.0])
    yaw: float = 0.0
    yawspeed: float = 0.0


@dataclass(kw_only=True)
class OffboardControlMode:
    timestamp: int = 0
    position: bool = False
    velocity: bool = False
    acceleration: bool = False
    attitude: bool = False
    body_rate: bool = False
    thrust_and_torque: bool = False
    direct_actuator: bool = False


@dataclass(kw_only=True)
class VehicleCommand:
    timestamp: int = 0
    command: int = 0
    param1: float = 0.0
    param2: float = 0.0
    target_system: int = 0
    target_component: int = 0
    source_system: int = 0
    source_component: int = 0
    from_external: bool = False


def _header():
    return SimpleNamespace(stamp=None, frame_id="")


@dataclass(kw_only=True)
class VelocityWorld:
    header: SimpleNamespace = field(default_factory=_header)
    vel: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(x=0.0, y=0.0, z=0.0))
    yaw_rate: float = 0.0


@dataclass(kw_only=True)
class Status:
    supervisor_info: int = 0
    pm_state: int = 0


@dataclass(kw_only=True)
class NotifyRequest:
    group_mask: int = 0
    remain_valid_millisecs: int = 0


@dataclass(kw_only=True)
class LandRequest:
    group_mask: int = 0
    height: float = 0.0
    duration: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(sec=0, nanosec=0))


PX4 = SimpleNamespace(
    VehicleOdometry=VehicleOdometry,
    VehicleStatus=VehicleStatus,
    VehicleControlMode=VehicleControlMode,
    VehicleLandDetected=VehicleLandDetected,
    BatteryStatus=BatteryStatus,
    ActuatorMotors=ActuatorMotors,
    VehicleRatesSetpoint=VehicleRatesSetpoint,
    TrajectorySetpoint=TrajectorySetpoint,
    OffboardControlMode=OffboardControlMode,
    VehicleCommand=VehicleCommand,
)
CRAZYFLIE = (
    SimpleNamespace(VelocityWorld=VelocityWorld, Status=Status),
    SimpleNamespace(
        NotifySetpointsStop=SimpleNamespace(Request=NotifyRequest),
        Land=SimpleNamespace(Request=LandRequest),
    ),
)
