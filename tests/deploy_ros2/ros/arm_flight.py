"""sim_arm_node and policy_node as processes, and a wire between them: recorded, and tampered with."""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from runpy import run_path
from subprocess import PIPE

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty, Float64MultiArray

from alula.deploy_ros2.observation import joint_order
from alula.robots.arm import load_arm

wire = run_path(str(Path(__file__).with_name("wire.py")))
Process, until, Told = wire["Process"], wire["until"], wire["Told"]
ARM = load_arm("ur5e")
HOME = np.array(ARM.home)
EVERY = QoSProfile(depth=1000)
"""A recorder misses nothing."""
CONTROL_DT = 0.01
PARAMETERS = {
    "robot": "ur5e",
    "adapter": "ros2_control",
    "heartbeat": False,
    "diagnostics_period": 0.1,
    # A busy computer may be late, and may cause holds of its own.
    "safety.joint_age": 0.2,
    "safety.joint_lost": 10.0,
    "safety.stall": 1.0,
    "safety.stall_lost": 5.0,
    "safety.clock_jump": 5.0,
    "safety.deadlines_in_a_row": 1000.0,
    "safety.recoveries": 1000.0,
    "safety.held_time": 0.5,
}
"""What differs from the defaults: more patience with a busy computer."""
BUSY = {
    "deadline", "deadlines", "stall", "joint_stale", "policy_held", "policy_lost", "policy_blind", "clock_jump",
}  # fmt: skip
"""Checks that a busy computer may cause in any flight."""
LEFT: list[tuple] = []
"""What earlier flights left behind."""
Tamper = Callable[[JointState, float], Iterable[JointState]]
"""What becomes of a message, so many seconds after the fault began."""


@dataclass(frozen=True)
class Sent:
    """One message of joint positions, as they stand in it."""

    at: float
    value: np.ndarray


@dataclass(frozen=True)
class Seen:
    """One joint state as the simulated arm sent it, in the order of the robot file."""

    at: float
    stamp: float
    position: np.ndarray


@dataclass
class Record:
    """What went over the wire, in the order of arrival."""

    commands: list[Sent] = field(default_factory=list)
    policy: list = field(default_factory=list)
    sim: list = field(default_factory=list)
    states: list[Seen] = field(default_factory=list)


def _sent(info: dict) -> float:
    """When the sender's middleware wrote the message [s]."""
    return 1e-9 * info["source_timestamp"]


class ArmFlight:
    """The two processes and what goes between them; `with` ends everything."""

    def __init__(
        self,
        policy: Path,
        folder: Path,
        *,
        parameters: Mapping[str, object] | None = None,
        sim: Mapping[str, object] | None = None,
        relay: bool = True,
    ) -> None:
        self.domain = wire["free_domain"]()
        os.environ.update(wire["environment"](self.domain))
        self._folder, self._relay = folder, relay
        self._parameters = {**PARAMETERS, "policy": str(policy), **(parameters or {})}
        self._sim = {"robot": "ur5e", "control_dt": CONTROL_DT, **(sim or {})}
        self.processes: dict[str, Process] = {}
        self.record = Record()
        self.heartbeat = False
        self._tamper: Tamper | None = None
        self._begun: float | None = None
        self._context = Context()
        rclpy.init(context=self._context, domain_id=self.domain)
        self.node = node = Node("wire", context=self._context, enable_rosout=False)
        self._caller = subprocess.Popen(
            [sys.executable, str(wire["CALLER"])], text=True, stdin=PIPE, stdout=PIPE,
            preexec_fn=wire["as_child"],
        )  # fmt: skip
        commands = "/forward_position_controller/commands"
        node.create_subscription(Float64MultiArray, commands, self._on_command, EVERY)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 1000)
        self._relayed = node.create_publisher(JointState, "/joint_states", 10) if relay else None
        topic = "/joint_states_true" if relay else "/joint_states"
        node.create_subscription(JointState, topic, self._on_states, EVERY)
        self._goals = node.create_publisher(JointState, "joint_goal", 1)
        self._heartbeats = node.create_publisher(Empty, "heartbeat", 1)
        node.create_timer(0.1, lambda: self.heartbeat and self._heartbeats.publish(Empty()))
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(node)
        self._ended = False
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def __enter__(self) -> "ArmFlight":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for process in self.processes.values():
            process.close()
        self._caller.kill()
        self._caller.communicate()
        self._ended = True
        self._thread.join(30.0)
        # They stay: the middleware may crash where a node ends while others die.
        LEFT.append((self.node, self._executor, self._context))
        if kind is not None:
            for process in self.processes.values():
                print(f"--- {process.log.name}\n{process.text[-6000:]}")

    def _spin(self) -> None:
        while not self._ended:
            self._executor.spin_once(timeout_sec=0.1)

    # What comes and goes

    def _on_command(self, message: Float64MultiArray, info: dict) -> None:
        self.record.commands.append(Sent(_sent(info), np.array(message.data)))

    def _on_diagnostics(self, message: DiagnosticArray, info: dict) -> None:
        for status in message.status:
            values = {v.key: v.value for v in status.values}
            told = Told(_sent(info), status.level[0], status.message, values)
            mine = self.record.sim if status.name == "sim_arm_node" else self.record.policy
            mine.append(told)

    def _on_states(self, message: JointState, info: dict) -> None:
        order = joint_order(message.name, ARM.joint_names)
        assert order is not None
        assert list(message.name) != list(ARM.joint_names), "the simulated arm has its own order"
        stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        position = np.array(message.position)[order]
        self.record.states.append(Seen(_sent(info), stamp, position))
        if self._relayed is None:
            return
        out: Iterable[JointState] = [message]
        if self._tamper is not None:
            now = time.time()
            self._begun = self._begun or now
            out = self._tamper(message, now - self._begun)
        for each in out:
            self._relayed.publish(each)

    # What a test does

    def process(self, name: str) -> "Process":
        """The process of a node, started where there is none."""
        if name not in self.processes:
            remaps = {"/joint_states": "/joint_states_true"} if self._relay else {}
            parameters, remaps = (self._sim, remaps) if name == "sim_arm_node" else (self._parameters, {})  # fmt: skip
            self.processes[name] = Process(
                name, self.domain, self._folder, parameters=parameters, remaps=remaps
            )
        return self.processes[name]

    def transition(self, name: str) -> bool:
        """Ask policy_node for a lifecycle transition; whether it was made."""
        return self.call("policy_node/change_state", "transition", name)

    def call(self, name: str, kind: str, *argument: object) -> bool:
        """Call a service (see caller.py); whether it succeeded."""
        assert self._caller.stdin is not None
        assert self._caller.stdout is not None
        self._caller.stdin.write(json.dumps([name, kind, argument]) + "\n")
        self._caller.stdin.flush()
        return json.loads(self._caller.stdout.readline())[1]

    def begin(self) -> None:
        """Start both, and wait until the policy is in command of an arm at rest at home."""
        self.process("sim_arm_node")
        self.process("policy_node")
        if not self.transition("configure"):
            raise RuntimeError(f"not configured: {self.processes['policy_node'].text}")
        until(lambda: len(self.record.states) > 20, "joint states")
        until(lambda: self.transition("activate"), "the policy in command", pause=0.1)
        begun = time.time()
        until(lambda: time.time() - begun > 0.5 and self.state() == "policy", "calm")

    def send_goal(self, goal: np.ndarray) -> float:
        """Publish where the joints shall be, in yet another order; returns when [s]."""
        order = list(reversed(range(len(goal))))
        message = JointState(name=[ARM.joint_names[i] for i in order])
        message.position = [float(goal[i]) for i in order]
        until(lambda: self._goals.get_subscription_count() > 0, "a listener for goals")
        now = time.time()
        self._goals.publish(message)
        return now

    def tamper(self, tamper: Tamper) -> float:
        """From the next joint state on, do this to them; returns when that was [s]."""
        self._begun, self._tamper = None, tamper
        until(lambda: self._begun is not None, "joint states to tamper with")
        assert self._begun is not None
        return self._begun

    def signal(self, name: str, number: int) -> float:
        """Send a node a signal; returns when [s]."""
        return self.processes[name].signal(number)

    # What a test looks at

    def state(self) -> str:
        """Who is in command, as last told."""
        return self.record.policy[-1].state if self.record.policy else ""

    def position(self) -> np.ndarray:
        """Where the arm is, as it last told (J)."""
        return self.record.states[-1].position

    def reaction(self, began: float, state: str) -> float:
        """How long after the fault a state was told on the wire [s]; infinity: it was not."""
        told = [t.at for t in list(self.record.policy) if t.at >= began and t.state == state]
        return min(told) - began if told else np.inf

    def last_change(self, began: float) -> float:
        """How long after the fault the last command came that differs from the one before [s]."""
        pairs = itertools.pairwise(list(self.record.commands))
        return max((b.at - began for a, b in pairs if (a.value != b.value).any()), default=-np.inf)

    def codes(self, began: float) -> set[str]:
        """Checks that applied since the fault, but for those that a busy computer causes."""
        told = [t.codes for t in list(self.record.policy) if t.at >= began]
        return set().union(*told) - BUSY

    def unsafe(self, step: float) -> list[str]:
        """What nobody may ever send: wrong sizes, NaN, beyond the limits, or farther than a step from the one before."""
        found, last = [], None
        for c in self.record.commands:
            good = c.value.shape == HOME.shape and bool(np.isfinite(c.value).all())
            good = good and bool(((c.value >= ARM.position_low) & (c.value <= ARM.position_high)).all())  # fmt: skip
            leap = 0.0 if last is None or not good else float(np.abs(c.value - last).max())
            if not good or leap > step * (1 + 1e-6):
                found.append(f"{c.at:.3f}: {c.value.tolist()}, {leap:g} from the one before")
            last = c.value
        return found
