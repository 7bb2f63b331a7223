"""The processes that benchmarks/ros_latency.py measures, beside policy_node itself; started by it, not by hand.

    python benchmarks/ros_latency_nodes.py (echo | start | parts) [--ros-args ...]

Nothing is imported before it is needed: the time of imports is measured here.
"""

import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

IN_PYTHON = time.monotonic()
"""When this file began to run, on the clock of the process that started it [s]."""
ANSWER = [0.5, 0.5, 0.5, 0.5]
"""What the echo answers."""
DISCOVERY = "first odometry"
"""The stage that is the middleware's: until the robot's odometry is heard."""
STAGES = ("python", "rclpy and messages", "alula", "node", "configure", DISCOVERY, "activate")
"""What happens from the start of the process until policy_node is active."""
PARTS = ("samples", "reference", "observe", "steps", "network", "safety", "publish", "rest")
"""What happens from the callback of odometry to the end of the cycle."""


def echo() -> None:
    """A bare node: odometry in, an array out at once."""
    import rclpy
    from nav_msgs.msg import Odometry
    from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
    from std_msgs.msg import Float32MultiArray

    newest = QoSProfile(
        depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT
    )
    rclpy.init()
    node = rclpy.create_node("echo")
    publisher = node.create_publisher(Float32MultiArray, "command", newest)
    answer = Float32MultiArray(data=ANSWER)
    node.create_subscription(Odometry, "odometry", lambda _: publisher.publish(answer), newest)
    rclpy.spin(node)


def start():
    """policy_node until it is active, with the time of each of STAGES [s] on stdout; the executor, to go on with."""
    marks = [float(os.environ["BEGUN"]), IN_PYTHON]
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray  # noqa: F401
    from nav_msgs.msg import Odometry  # noqa: F401
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import BatteryState  # noqa: F401

    marks.append(time.monotonic())
    from alula.deploy_ros2.policy_node import PolicyNode

    marks.append(time.monotonic())
    rclpy.init(args=sys.argv)
    node = PolicyNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    marks.append(time.monotonic())
    node.trigger_configure()
    marks.append(time.monotonic())
    while obstacle := node._obstacle():
        # Seen only where it stays, beside the error of the process that waits.
        print(obstacle, file=sys.stderr)
        executor.spin_once(timeout_sec=0.1)
    marks.append(time.monotonic())
    node.trigger_activate()
    marks.append(time.monotonic())
    spans = [b - a for a, b in itertools.pairwise(marks)]
    return node, executor, dict(zip(STAGES, spans, strict=True))


def parts(seconds: float) -> dict[str, float]:
    """Median time of each of PARTS [us] over so many seconds of flight."""
    node, executor, _ = start()
    from alula.deploy_ros2.adapters import multirotor

    cycles: list[dict[str, float]] = []
    this: dict[str, float] = {}

    def timed(name: str, function: Callable) -> Callable:
        def call(*args, **kwargs):
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                this[name] = 1e6 * (time.perf_counter() - begun)
                if name == "rest":
                    # Only cycles in which all of it happened: not those of the timer, nor those between two steps.
                    if len(this) == len(PARTS):
                        cycles.append(dict(this))
                    this.clear()

        return call

    def wrap(owner: object, attribute: str, name: str) -> None:
        setattr(owner, attribute, timed(name, getattr(owner, attribute)))

    pilot, adapter = node._pilot, node._adapter
    assert pilot is not None
    steps: Any = pilot.runner._steps
    # In ONNX Runtime the network is a call of its own; in C it is one with schedule and histories.
    wrap(*((steps._network, "run") if hasattr(steps, "_network") else (steps, "_step")), "network")
    wrap(multirotor, "odometry_samples", "samples")
    wrap(adapter, "reference", "reference")
    wrap(pilot.runner._observer, "fill", "observe")
    wrap(steps, "step", "steps")
    wrap(pilot.safety, "update", "safety")
    wrap(adapter, "send", "publish")
    wrap(node, "_cycle", "rest")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)
    inside = ("reference", "observe", "steps", "safety", "publish")
    for cycle in cycles:
        cycle["rest"] -= sum(cycle[name] for name in inside)
        cycle["steps"] -= cycle["network"]
    if not cycles:
        raise SystemExit("no whole cycle: is the computer busy?")
    return {name: median(cycle[name] for cycle in cycles) for name in PARTS}


def main() -> None:
    match sys.argv[1]:
        case "echo":
            echo()
            return
        case "start":
            found = start()[2]
        case _:
            found = parts(float(os.environ["SECONDS_OF_FLIGHT"]))
    Path(os.environ["REPORT"]).write_text(json.dumps(found))
    os._exit(0)


if __name__ == "__main__":
    main()
