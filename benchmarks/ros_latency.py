"""How long policy_node takes from odometry in to command out, what it costs to start, and what it holds in memory.

    python benchmarks/ros_latency.py [--write] [--json FILE]

This process is the robot: it publishes odometry at a rate, receives commands, and takes every time with its own
monotonic clock. What answers is a process of its own: policy_node, or beside it a bare rclpy node that answers each
odometry with an array of four numbers at once, so that the difference is what policy_node adds. They take turns, a fresh
process each time. Run it with nothing else on the machine. `--write` puts the table into
benchmarks/results/ros_latency.md.
"""

import argparse
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

os.environ.setdefault("ROS_DOMAIN_ID", "45")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

import rclpy
from firmware import contract, network
from machine import describe
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.utilities import get_rmw_implementation_identifier
from ros_latency_tables import ENGINES, WHO, Turn, render
from std_msgs.msg import Float32MultiArray

from alula.policies.onnx_file import write_policy
from alula.robots.multirotor import load_robot

RESULT = Path(__file__).parent / "results" / "ros_latency.md"
NODES = Path(__file__).parent / "ros_latency_nodes.py"
ROBOT = "crazyflie"
RATES = (100, 250, 500)
STARTS = 5
"""Starts of which the median is told."""
LEFT = ("hold", "land", "release", "stop")
"""States in the log in which the policy is not in command."""
AWAKE = 0.001
"""How often a node that is kept awake looks for messages [s]."""
SETTLE = 0.3
"""Time between the first answer and the measurement [s]."""
PATIENCE = 30.0
"""Longest time until a process gives its first answer [s]."""
NEWEST = QoSProfile(
    depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT
)


class Robot:
    """Publishes odometry at rest, receives commands."""

    def __init__(self) -> None:
        self.node = rclpy.create_node("robot", start_parameter_services=False)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._publisher = self.node.create_publisher(Odometry, "odometry", NEWEST)
        self.node.create_subscription(Float32MultiArray, "command", self._on_command, NEWEST)
        self._message = Odometry()
        self._message.pose.pose.position.z = 1.0
        self._message.pose.pose.orientation.w = 1.0
        self._waiting: list[float] = []
        self._latency: list[float] = []

    def fly(
        self, rate: int, seconds: float, *, first: bool = False
    ) -> tuple[list[float], int, int]:
        """Latencies [ms], messages sent, deadlines missed; with `first` it ends at the first answer."""
        self._waiting, self._latency = [], []
        sent = missed = 0
        begun = time.monotonic()
        while (due := begun + sent / rate) < begun + seconds and not (first and self._latency):
            while (left := due - time.monotonic()) > 0.0:
                self._executor.spin_once(timeout_sec=left)
            missed += bool(self._waiting)
            now = time.time_ns()
            self._message.header.stamp.sec, self._message.header.stamp.nanosec = divmod(now, 10**9)
            self._waiting.append(time.monotonic())
            self._publisher.publish(self._message)
            sent += 1
        end = time.monotonic() + 1.0 / rate
        while (left := end - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left)
        return self._latency, sent, missed + bool(self._waiting)

    def forget(self) -> None:
        """Take what the last process has sent and was not read yet."""
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.01)

    def _on_command(self, _: Float32MultiArray) -> None:
        now = time.monotonic()
        if self._waiting:
            self._latency.append(1e3 * (now - self._waiting[0]))
            self._waiting.clear()


def command(who: str, policy: Path) -> list[str]:
    """Command line of a process."""
    if who == "echo":
        return [sys.executable, str(NODES), "echo"]
    return [sys.executable, "-m", "alula.deploy_ros2.policy_node", *settings(who, policy)]


def settings(who: str, policy: Path, *, autostart: bool = True) -> list[str]:
    """Parameters of policy_node."""
    engine, _, awake = who.partition(" ")
    values = {"policy": policy, "robot": ROBOT, "engine": engine, "autostart": str(autostart).lower(), "heartbeat": "false"}  # fmt: skip
    values |= {"look": AWAKE} if awake else {}
    return ["--ros-args", *(x for k, v in values.items() for x in ("-p", f"{k}:={v}"))]


def environment(scratch: Path, **values: object) -> dict[str, str]:
    """Of every child: compiled modules are kept, as they are where a package is installed."""
    # The second one would spare the children the second start of Python that rclpy's wheels need.
    unwanted = ("PYTHONDONTWRITEBYTECODE", "_ROS_WHEELS_BOOTSTRAP_COMPLETE")
    inherited = {k: v for k, v in os.environ.items() if k not in unwanted}
    inherited["PYTHONPYCACHEPREFIX"] = str(scratch / "compiled")
    return inherited | {k: str(v) for k, v in values.items()}


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that do nothing as fast as they can."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


@contextmanager
def child(arguments: list[str], scratch: Path, **values: object) -> Iterator[subprocess.Popen]:
    """A process; what it says goes into a file."""
    with (scratch / "said").open("w") as said:
        process = subprocess.Popen(
            arguments, env=environment(scratch, **values), stdout=said, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(3.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def cpu_time(pid: int) -> float:
    """What all threads of a process have used so far [s]."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return 1e-9 * sum(int(t.read_text().split()[0]) for t in threads)


def take_turn(
    robot: Robot, who: str, rate: int, seconds: float, scratch: Path, *, load: bool = True
) -> list[Turn]:
    """Start a process, wait for its first answer, measure it: idle, and with `load` once more with busy cores."""
    robot.forget()
    turns = []
    begun = time.monotonic()
    with child(command(who, scratch / f"{rate}.onnx"), scratch) as process:
        answers, _, _ = robot.fly(rate, PATIENCE, first=True)
        start_s = time.monotonic() - begun
        if not answers:
            raise SystemExit(f"no answer from {who}:\n{(scratch / 'said').read_text()}")
        for hogs in (0, os.cpu_count() or 1) if load else (0,):
            with busy(hogs):
                robot.fly(rate, SETTLE)
                gc.disable()
                used = cpu_time(process.pid)
                latency, sent, missed = robot.fly(rate, seconds)
                used = cpu_time(process.pid) - used
                gc.enable()
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            turn = Turn(
                who=who,
                rate=rate,
                load=hogs > 0,
                latency_ms=latency,
                sent=sent,
                missed=missed,
                cpu_us=1e6 * used / sent,
                start_s=start_s,
                rss_mb=pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
                left_policy=any(f"{state}: " in (scratch / "said").read_text() for state in LEFT),
            )
            turns.append(turn)
    return turns


def report_of(
    robot: Robot, mode: str, engine: str, rate: int, scratch: Path, seconds: float
) -> dict[str, float]:
    """What a process of ros_latency_nodes.py measured within itself."""
    arguments = [sys.executable, str(NODES), mode, *settings(engine, scratch / f"{rate}.onnx", autostart=False)]  # fmt: skip
    report = scratch / "report.json"
    report.unlink(missing_ok=True)
    values = {"BEGUN": time.monotonic(), "REPORT": report, "SECONDS_OF_FLIGHT": seconds}
    with child(arguments, scratch, **values) as process:
        end = time.monotonic() + PATIENCE + seconds
        while process.poll() is None and time.monotonic() < end:
            robot.fly(rate, 0.05)
    if not report.is_file():
        raise SystemExit(f"no report from {mode}:\n{(scratch / 'said').read_text()[-2000:]}")
    return json.loads(report.read_text())


def write_policies(scratch: Path) -> None:
    """A random hover policy of the usual size for each rate."""
    robot = load_robot(ROBOT)
    layers = network([146, 64, 64, 4])
    # Small actions: the safety layer has no reason to step in.
    layers = replace(layers, weights=(*layers.weights[:-1], 0.1 * layers.weights[-1]))
    for rate in RATES:
        made = replace(contract(32), robot=robot.name, robot_hash=robot.hash, control_dt=1.0 / rate)
        action = tuple(
            replace(a, low=robot.throttle_min, high=robot.throttle_max) for a in made.action
        )
        write_policy(scratch / f"{rate}.onnx", layers, replace(made, action=action))


def measure(arguments: argparse.Namespace, scratch: Path) -> tuple[dict, list[Turn], Turn]:
    """Everything."""
    machine = describe()
    write_policies(scratch)
    rclpy.init()
    robot = Robot()
    gc.collect()
    gc.freeze()
    print("warming up", file=sys.stderr)
    for who in WHO:
        take_turn(robot, who, RATES[0], 0.1, scratch, load=False)
    starts = {
        engine: [report_of(robot, "start", engine, RATES[0], scratch, 0.0) for _ in range(STARTS)]
        for engine in ENGINES
    }
    parts = [
        {"rate": r, "engine": e, **report_of(robot, "parts", e, r, scratch, 3.0)}
        for r in (RATES[0], RATES[-1])
        for e in ENGINES
    ]
    turns: list[Turn] = []
    for n in range(arguments.rounds):
        for rate in RATES:
            for who in WHO:
                turns += take_turn(robot, who, rate, arguments.seconds, scratch)
        print(f"round {n + 1} of {arguments.rounds}", file=sys.stderr)
    (flight,) = take_turn(robot, "onnx", RATES[0], arguments.flight, scratch, load=False)
    results = {
        "machine": machine,
        "robot": ROBOT,
        "rmw": get_rmw_implementation_identifier(),
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "starts": starts,
        "parts": parts,
    }
    return results, turns, flight


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often each takes its turn")
    parser.add_argument("--seconds", type=float, default=2.5, help="length of a measurement [s]")
    parser.add_argument("--flight", type=float, default=60.0, help="length of the one flight [s]")
    parser.add_argument("--json", type=Path, help="file for every number")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="alula-latency-") as folder:
        results, turns, flight = measure(arguments, Path(folder))
    text = render(results, turns, flight)
    print(text)
    if arguments.write:
        RESULT.write_text(text)
    if arguments.json:
        every = results | {"turns": [asdict(t) for t in turns], "flight": asdict(flight)}
        arguments.json.write_text(json.dumps(every))
    sys.stdout.flush()
    # Threads of the middleware have nothing more to do.
    os._exit(0)


if __name__ == "__main__":
    main()
