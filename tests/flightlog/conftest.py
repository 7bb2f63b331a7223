"""Flights with known latency, jitter, tracking error and model error, and bags of them."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from alula.frames import rot_from_quat
from alula.policies.onnx_file import Policy, load_policy, write_policy
from alula.robots.multirotor import Multirotor, load_robot, robot_table
from alula.sim.multirotor.equations import Disturbance, Geometry, Params, State, rk4_step
from alula.sim.multirotor.simulator import nominal_params

EPOCH_NS = 1_700_000_000_000_000_000
DT = 0.01
AIM = (0.03, 0.0, -0.04)
"""Reference of the flight of the fixtures [m]."""
PAST = 0.05
"""Weight of the last action in the policy."""
ROBOT = replace(load_robot("crazyflie-l2f"), rotor_lag_up=0.04, rotor_lag_down=0.05)
"""With rotors quick enough for a policy of plain feedback."""
TICK = 0.0005
"""Physics step [s]."""


def _feedback_policy() -> Callable[..., Policy]:
    path = Path(__file__).parents[1] / "evaluation" / "conftest.py"
    spec = importlib.util.spec_from_file_location("evaluation_conftest", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.feedback_policy


@pytest.fixture(scope="session")
def policy_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that hovers by linear feedback and looks at its last action a little."""
    path = tmp_path_factory.mktemp("policy") / "policy.onnx"
    plain = _feedback_policy()(path, "l2f-hover", robot=ROBOT)
    weights = plain.network.weights[0].copy()
    bias = plain.network.biases[0].copy()
    hover = ROBOT.hover_action
    for k in range(4):
        weights[-4 + k, k] += PAST
        bias[k] -= PAST * hover
    network = replace(plain.network, weights=(weights,), biases=(bias,))
    write_policy(path, network, plain.contract, overwrite=True)
    table = robot_table(ROBOT, description="with quick rotors, for tests")
    path.with_name("robot.toml").write_text(tomli_w.dumps(table))
    return path


@pytest.fixture(scope="session")
def track_policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """Feedback on the errors to a moving reference."""
    path = tmp_path_factory.mktemp("track") / "policy.onnx"
    return _feedback_policy()(path, "crazyflie-track", robot=ROBOT)


@pytest.fixture(scope="session")
def policy(policy_path: Path) -> Policy:
    return load_policy(policy_path)


@pytest.fixture(scope="session")
def robot() -> Multirotor:
    return ROBOT


@dataclass
class Flown:
    """What really happened: row k is step k, at time k DT."""

    position_w: np.ndarray
    quat_wb: np.ndarray
    velocity_w: np.ndarray
    angular_velocity_b: np.ndarray
    action: np.ndarray
    throttle: np.ndarray
    latency: np.ndarray
    """From measurement to command [s]; NaN where no command was sent."""

    @property
    def time(self) -> np.ndarray:
        return DT * np.arange(len(self.position_w))


def fly(
    policy: Policy,
    robot: Multirotor,
    *,
    steps: int = 800,
    latency: np.ndarray | None = None,
    skipped: tuple[int, ...] = (),
    force_w: tuple[float, float, float] = (0.0, 0.0, 0.0),
    reference: tuple[float, float, float] = (0.0, 0.0, 0.0),
    gusts: float = 0.3,
    dither: float = 0.0,
    seed: int = 0,
) -> Flown:
    """Fly the policy on a robot; a command acts from `latency` after its measurement, skipped ones never come.

    Twice a second the velocity changes by up to `gusts` [m/s]; `dither` on the commands is recorded with them.
    """
    rng = np.random.default_rng(seed)
    latency = np.full(steps, 0.003) if latency is None else latency.copy()
    latency[list(skipped)] = np.nan
    params = Params.from_rows(nominal_params(robot, TICK))
    place = robot.rotor_position_b
    geometry = Geometry(
        rotor_x=[p[0] for p in place], rotor_y=[p[1] for p in place], spin=robot.rotor_spin
    )
    outside = Disturbance(force_w=list(force_w), torque_b=[0.0] * 3)
    hover = robot.hover_throttle
    state = State(
        position_w=[0.1, -0.1, 0.05], velocity_w=[0.0] * 3, quat_wb=[1.0, 0.0, 0.0, 0.0],
        angular_velocity_b=[0.0] * 3, rotor_fraction=[hover] * 4,
    )  # fmt: skip
    history, rows = policy.history(), []
    low = np.array([a.low for a in policy.contract.action])
    high = np.array([a.high for a in policy.contract.action])
    throttle, action = np.full(4, hover), np.full(4, robot.hover_action, np.float32)
    kick, shake = np.zeros(3), np.zeros(4)
    for k in range(steps):
        x = np.array(state.rows())
        if k % 40 == 0:
            shake = rng.uniform(-dither, dither, 4)
            kick = rng.uniform(-gusts, gusts, 3)
        supplied = np.concatenate(
            (x[:3] - reference, rot_from_quat(x[6:10]).ravel(), x[3:6], x[10:13])
        )
        following = throttle
        if np.isfinite(latency[k]):
            observed = history.observe(supplied[None].astype(np.float32))
            action = policy.act(observed)[0]
            history.act(action[None])
            following = low + 0.5 * (action + 1.0) * (high - low) + shake
        rows.append((x[:3], x[6:10], x[3:6], x[10:13], action, following))
        for tick in range(round(DT / TICK)):
            late = np.isfinite(latency[k]) and (tick + 0.5) * TICK < latency[k]
            now = throttle if late else following
            state = rk4_step(state, list(now), params, outside, geometry, TICK)
        throttle = following
        if k % 40 == 20:
            state = replace(
                state, velocity_w=list(np.array(state.velocity_w) + (kick if k % 80 else 0.0))
            )
    return Flown(*(np.array(c) for c in zip(*rows, strict=True)), latency=latency)


class Bag:
    """Writes messages of the types that a flight has."""

    def __init__(self, path: Path, storage: StoragePlugin) -> None:
        self.store = get_typestore(Stores.ROS2_JAZZY)
        self._writer = Writer(path, version=9, storage_plugin=storage)
        self._writer.open()
        self._connections: dict = {}

    def make(self, name: str, *values):
        return self.store.types[name](*values)

    def header(self, stamp: float, offset: float = 0.0):
        ns = round(1e9 * (stamp + offset)) + EPOCH_NS
        time = self.make("builtin_interfaces/msg/Time", ns // 10**9, ns % 10**9)
        return self.make("std_msgs/msg/Header", time, "map")

    def vector(self, v, kind: str = "Vector3"):
        return self.make(f"geometry_msgs/msg/{kind}", *(float(c) for c in v))

    def quat(self, q):
        w, x, y, z = (float(c) for c in q)
        return self.make("geometry_msgs/msg/Quaternion", x, y, z, w)

    def write(self, topic: str, kind: str, received: float, message) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self.store
            )
        raw = self.store.serialize_cdr(message, kind)
        self._writer.write(self._connections[topic], round(1e9 * received) + EPOCH_NS, raw)

    def raw(self, topic: str, kind: str, received: float, data: bytes) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self.store
            )
        self._writer.write(self._connections[topic], round(1e9 * received) + EPOCH_NS, data)

    def odometry(self, received: float, stamp: float, p, q, v_w, w, *, topic="/odom", offset=0.0):
        v_b = rot_from_quat(q).T @ v_w
        pose = self.make("geometry_msgs/msg/Pose", self.vector(p, "Point"), self.quat(q))
        twist = self.make("geometry_msgs/msg/Twist", self.vector(v_b), self.vector(w))
        message = self.make(
            "nav_msgs/msg/Odometry",
            self.header(stamp, offset),
            "base",
            self.make("geometry_msgs/msg/PoseWithCovariance", pose, np.zeros(36)),
            self.make("geometry_msgs/msg/TwistWithCovariance", twist, np.zeros(36)),
        )
        self.write(topic, "nav_msgs/msg/Odometry", received, message)

    def motors(self, received: float, throttle, *, topic="/motors") -> None:
        layout = self.make("std_msgs/msg/MultiArrayLayout", [], 0)
        message = self.make(
            "std_msgs/msg/Float32MultiArray", layout, np.asarray(throttle, np.float32)
        )
        self.write(topic, "std_msgs/msg/Float32MultiArray", received, message)

    def pose(self, received: float, position, *, topic="/reference") -> None:
        pose = self.make(
            "geometry_msgs/msg/Pose", self.vector(position, "Point"), self.quat((1, 0, 0, 0))
        )
        message = self.make("geometry_msgs/msg/PoseStamped", self.header(received), pose)
        self.write(topic, "geometry_msgs/msg/PoseStamped", received, message)

    def trajectory(self, at: Callable, until: float) -> None:
        """Every 100 ms twelve points, 50 ms apart, of `at`: time -> (position, velocity)."""
        make, kind = self.make, "trajectory_msgs/msg/MultiDOFJointTrajectory"
        for k in range(round(until / 0.1)):
            points = []
            for i in range(12):
                position, velocity = at(0.1 * k + 0.05 * i)
                points.append(
                    make(
                        "trajectory_msgs/msg/MultiDOFJointTrajectoryPoint",
                        [
                            make(
                                "geometry_msgs/msg/Transform",
                                self.vector(position),
                                self.quat((1, 0, 0, 0)),
                            )
                        ],
                        [
                            make(
                                "geometry_msgs/msg/Twist",
                                self.vector(velocity),
                                self.vector((0, 0, 0)),
                            )
                        ],
                        [],
                        make("builtin_interfaces/msg/Duration", 0, round(0.05e9 * i)),
                    )
                )
            message = make(kind, self.header(0.1 * k), [""], points)
            self.write("/trajectory", kind, 0.1 * k, message)

    def status(self, received: float, level: int, text: str, **values: object) -> None:
        pairs = [self.make("diagnostic_msgs/msg/KeyValue", k, str(v)) for k, v in values.items()]
        status = self.make("diagnostic_msgs/msg/DiagnosticStatus", level, "policy", text, "", pairs)
        message = self.make("diagnostic_msgs/msg/DiagnosticArray", self.header(received), [status])
        self.write("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", received, message)

    def close(self) -> None:
        self._writer.close()


TRANSPORT = 0.0005
"""From a measurement's stamp to its arrival [s]."""


def write_flight(
    path: Path,
    flown: Flown,
    *,
    storage: StoragePlugin = StoragePlugin.MCAP,
    reference=(0.0, 0.0, 0.0),
    offset: float = 0.0,
    change: Callable[[Bag], None] | None = None,
    order=(0, 1, 2, 3),
    velocity=lambda v, rot: v,
) -> Path:
    """A bag of a flight; `offset` is how far the measurements' clock is ahead of the recorder's [s]."""
    bag = Bag(path, storage)
    moments: list[tuple[float, Callable[[], None]]] = []
    for k, t in enumerate(flown.time):
        rot = rot_from_quat(flown.quat_wb[k])

        def odometry(k=k, t=t, rot=rot) -> None:
            v = velocity(flown.velocity_w[k], rot)
            w = flown.angular_velocity_b[k]
            bag.odometry(
                t + TRANSPORT, t, flown.position_w[k], flown.quat_wb[k], v, w, offset=offset
            )

        moments.append((t + TRANSPORT, odometry))
        if np.isfinite(flown.latency[k]):
            sent = t + float(flown.latency[k])
            row = flown.throttle[k][list(order)]
            moments.append((sent, lambda s=sent, u=row: bag.motors(s, u)))
        if k % 2 == 0:
            moments.append((t + 0.0001, lambda t=t: bag.pose(t + 0.0001, reference)))
    for _, write in sorted(moments, key=lambda m: m[0]):
        write()
    if change is not None:
        change(bag)
    bag.close()
    return path


@pytest.fixture(scope="session")
def flown(policy: Policy, robot: Multirotor) -> Flown:
    """Eight seconds with a latency of 2 to 4 ms and three steps without a command."""
    latency = 0.003 + 0.001 * np.sin(np.arange(800))
    return fly(policy, robot, latency=latency, skipped=(200, 201, 500), reference=AIM)


@pytest.fixture(scope="session")
def flight_maker() -> Callable[..., Flown]:
    return fly


@pytest.fixture(scope="session")
def bag_writer() -> Callable[..., Path]:
    return write_flight


@pytest.fixture(scope="session")
def flight_bag(flown: Flown, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bag of `flown` with reference (0.03, 0, -0.04) m and some diagnostics."""

    def change(bag: Bag) -> None:
        for k in range(80):
            level, text = (2, "low battery") if 30 <= k < 50 else (0, "fine")
            bag.status(0.1 * k + 0.05, level, text, steps=10 * k, missed=0 if k < 21 else 2, x="y")

    folder = tmp_path_factory.mktemp("bag") / "flight"
    return write_flight(folder, flown, reference=AIM, change=change)
