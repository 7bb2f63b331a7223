"""Robot and policy as processes of their own, and what goes over the wire between them: recorded, and tampered with.

The times of the record are those that the sender's middleware put on each message, so that the recorder's own
delays are not in them; all clocks are this computer's.
"""

import ctypes
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import BatteryState
from std_msgs.msg import Empty, Float32MultiArray, MultiArrayDimension
from trajectory_msgs.msg import MultiDOFJointTrajectory

EVERY = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)
"""A recorder misses nothing."""
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
CALLER = Path(__file__).with_name("caller.py")
PATIENCE = 30.0
"""How long anything may take on a loaded machine before it counts as hanging [s]."""
CLAIMS: list[socket.socket] = []
LEFT: list[tuple] = []
"""What the end of the process will clear away."""
Tamper = Callable[[Odometry, float], Iterable[Odometry]]
"""What becomes of a message, so many seconds after the fault began."""


def free_domain() -> int:
    """A ROS domain in which no participant listens; claimed until this process ends."""
    for domain in random.sample(range(60, 101), 41):
        try:
            for k in range(4):
                # DDSI: the participants' ports are 7400 + 250 domain + 10 + 2 k
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                    s.bind(("127.0.0.1", 7410 + 250 * domain + 2 * k))
            # A port that no participant uses is the claim: others may be about to choose, too.
            claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            claim.bind(("127.0.0.1", 7640 + 250 * domain))
            claim.listen()
            CLAIMS.append(claim)
        except OSError:
            continue
        return domain
    raise RuntimeError("no free ROS domain from 60 to 100")


def environment(domain: int) -> dict[str, str]:
    """Variables that keep a domain's traffic on loopback, and numeric libraries on one core."""
    return {
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "OMP_NUM_THREADS": "1",
        "RCUTILS_LOGGING_USE_STDOUT": "1",
    }


def real_time() -> None:
    """Run this process before others where that is allowed: what flies is not to wait for a compiler."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))


def as_child() -> None:
    # PR_SET_PDEATHSIG: whatever becomes of the tests, no node outlives them.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    real_time()


class Process:
    """One node of alula.deploy_ros2 as a process."""

    def __init__(
        self,
        module: str,
        domain: int,
        folder: Path,
        *,
        parameters: Mapping[str, object] | None = None,
        remaps: Mapping[str, str] | None = None,
    ) -> None:
        given = {k: v for k, v in (parameters or {}).items() if v != ""}
        values = [x for k, v in given.items() for x in ("-p", f"{k}:={_yaml(v)}")]
        renamed = [x for k, v in (remaps or {}).items() for x in ("-r", f"{k}:={v}")]
        self.module = module
        self.log = folder / f"{module}-{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", f"alula.deploy_ros2.{module}", "--ros-args", *values, *renamed]  # fmt: skip
        with self.log.open("w") as out:
            self._process = subprocess.Popen(
                command,
                env=os.environ | environment(domain),
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=as_child,
            )

    @property
    def text(self) -> str:
        """Everything that it has logged."""
        return self.log.read_text()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def signal(self, number: int) -> float:
        """Send it a signal; returns when [s]."""
        now = time.time()
        self._process.send_signal(number)
        return now

    def close(self) -> int:
        """Have it gone; returns its exit code."""
        if self.alive:
            self._process.kill()
        return self._process.wait(PATIENCE)

    def wait(self) -> int:
        """Wait until it has ended by itself; returns its exit code."""
        return self._process.wait(PATIENCE)


def _yaml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "[" + ", ".join(map(_yaml, value)) + "]" if isinstance(value, tuple) else str(value)


@dataclass(frozen=True)
class Sent:
    """One message of throttles."""

    at: float
    value: np.ndarray
    label: str


@dataclass(frozen=True)
class Told:
    """One diagnostic message."""

    at: float
    level: int
    text: str
    values: Mapping[str, str]

    @property
    def state(self) -> str:
        """Who is in command; of the simulated robot whether it flies."""
        return self.text.split(":")[0]

    @property
    def codes(self) -> set[str]:
        """Checks that apply."""
        return set(self.text.partition(": ")[2].split(", ")) - {""}


@dataclass(frozen=True)
class Seen:
    """One odometry message."""

    at: float
    stamp: float
    position_w: np.ndarray
    lag: float = 0.0
    """How long it was under way to the recorder [s]."""


@dataclass
class Record:
    """What went over the wire, in the order of arrival."""

    commands: list[Sent] = field(default_factory=list)
    policy: list[Told] = field(default_factory=list)
    sim: list[Told] = field(default_factory=list)
    odometry: list[Seen] = field(default_factory=list)
    trajectories: list[MultiDOFJointTrajectory] = field(default_factory=list)


class Wire:
    """Listens to everything; with `relay` it stands between robot and policy and may tamper with the odometry."""

    def __init__(self, domain: int, *, relay: bool) -> None:
        os.environ.update(environment(domain))
        self._caller = subprocess.Popen(
            [sys.executable, str(CALLER)], env=os.environ | environment(domain), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=as_child,
        )  # fmt: skip
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = node = Node("wire", context=self._context)
        self.record = Record()
        self.tamper: Tamper | None = None
        self._begun: float | None = None
        self.heartbeat = True
        self._charge: float | None = None
        take = node.create_subscription
        take(Float32MultiArray, "command", self._on_command, EVERY)
        take(DiagnosticArray, "/diagnostics", self._on_diagnostics, 1000)
        take(MultiDOFJointTrajectory, "trajectory", self._on_trajectory, 100)
        self._relayed = node.create_publisher(Odometry, "odometry", NEWEST) if relay else None
        take(Odometry, "odometry_true" if relay else "odometry", self._on_odometry, EVERY)
        self._heartbeats = node.create_publisher(Empty, "heartbeat", 1)
        self._batteries = node.create_publisher(BatteryState, "battery", NEWEST)
        self.way = node.create_publisher(MultiDOFJointTrajectory, "trajectory", 1)
        self.set_point = node.create_publisher(PoseStamped, "setpoint", 1)
        node.create_timer(0.1, self._on_timer)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(node)
        self._ended = False
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._ended:
            self._executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        """Stop listening. The node stays: the middleware may crash where it ends while others die."""
        self._caller.kill()
        self._caller.communicate()
        self._ended = True
        self._thread.join(PATIENCE)
        LEFT.append((self.node, self._executor, self._context))

    def begin(self, tamper: Tamper) -> float:
        """From the next message on, do this to the odometry; returns when that was [s]."""
        self._begun = None
        self.tamper = tamper
        until(lambda: self._begun is not None, "odometry to tamper with")
        assert self._begun is not None
        return self._begun

    def appear(self, like: Sent | None = None) -> None:
        """Become a second commander; with `like`, one that sends the same."""
        self._rival = self.node.create_publisher(Float32MultiArray, "command", NEWEST)
        if like is not None:
            message = Float32MultiArray(data=like.value.tolist())
            size = len(message.data)
            message.layout.dim = [MultiArrayDimension(label=like.label, size=size, stride=size)]
            self._rival.publish(message)

    def disappear(self) -> None:
        """Be no second commander any more."""
        self.node.destroy_publisher(self._rival)

    def charge(self, charge: float) -> float:
        """Tell of a battery with this charge from now on, 0 to 1; returns when [s]."""
        self._charge = charge
        now = time.time()
        self._batteries.publish(BatteryState(percentage=charge))
        return now

    def _on_command(self, message: Float32MultiArray, info: dict) -> None:
        label = ",".join(d.label for d in message.layout.dim)
        value = np.asarray(message.data, float)
        self.record.commands.append(Sent(_sent(info), value, label))

    def _on_diagnostics(self, message: DiagnosticArray, info: dict) -> None:
        for status in message.status:
            values = {v.key: v.value for v in status.values}
            told = Told(_sent(info), status.level[0], status.message, values)
            (self.record.sim if status.name == "sim_node" else self.record.policy).append(told)

    def _on_trajectory(self, message: MultiDOFJointTrajectory, info: dict) -> None:
        self.record.trajectories.append(message)

    def _on_odometry(self, message: Odometry, info: dict) -> None:
        stamp, p = message.header.stamp, message.pose.pose.position
        where = np.array([p.x, p.y, p.z])
        at, measured = _sent(info), stamp.sec + 1e-9 * stamp.nanosec
        self.record.odometry.append(Seen(at, measured, where, time.time() - at))
        if self._relayed is None:
            return
        tamper, now, out = self.tamper, time.time(), [message]
        if tamper is not None:
            self._begun = self._begun or now
            out = tamper(message, now - self._begun)
        for k, each in enumerate(out):
            # Apart, so that the receiver, who keeps only the newest, has a chance to see both.
            time.sleep(0.002 if k else 0.0)
            self._relayed.publish(each)

    def _on_timer(self) -> None:
        if self.heartbeat:
            self._heartbeats.publish(Empty())
        if self._charge is not None:
            self._batteries.publish(BatteryState(percentage=self._charge))

    def call(self, name: str, kind: str, *argument: object) -> tuple[float, bool]:
        """Call a service (see caller.py): when the call began [s], and whether it succeeded."""
        assert self._caller.stdin is not None
        assert self._caller.stdout is not None
        self._caller.stdin.write(json.dumps([name, kind, argument]) + "\n")
        self._caller.stdin.flush()
        begun, success = json.loads(self._caller.stdout.readline())
        return begun, success

    def trigger(self, name: str) -> tuple[float, bool]:
        """Call a std_srvs/Trigger; as `call`."""
        return self.call(name, "trigger")

    def transition(self, name: str) -> bool:
        """Ask policy_node for a lifecycle transition; whether it was made."""
        return self.call("policy_node/change_state", "transition", name)[1]


def _sent(info: dict) -> float:
    """When the sender's middleware wrote the message [s]."""
    return 1e-9 * info["source_timestamp"]


def until(
    condition: Callable[[], bool], what: str, patience: float = PATIENCE, pause: float = 0.005
) -> None:
    """Wait for a condition, looked at every `pause` [s].

    Raises:
        TimeoutError: it has not come true in time.
    """
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {patience:g} s for {what}")
        time.sleep(pause)
