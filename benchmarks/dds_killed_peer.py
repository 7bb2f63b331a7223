"""How long a publisher is held up when another process on the same computer is killed.

Two processes exchange messages at 1 kHz; one is killed with SIGKILL every 1 to 2 s and started anew, the other notes how
long each of its own calls of `publish` took. Run it in the environment to be judged::

    ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST python benchmarks/dds_killed_peer.py --seconds 150
    FASTDDS_BUILTIN_TRANSPORTS=UDPv4 python benchmarks/dds_killed_peer.py --seconds 150
"""

import argparse
import os
import random
import subprocess
import sys
import time

import rclpy
from nav_msgs.msg import Odometry
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float32MultiArray

NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
PERIOD = 0.001
HELD_UP = 0.5
"""A call of `publish` longer than this was held up [s]."""


def peer() -> None:
    """The one that is killed."""
    node = rclpy.create_node("peer")
    publisher = node.create_publisher(Odometry, "odometry", NEWEST)
    node.create_subscription(Float32MultiArray, "command", lambda _: None, NEWEST)
    node.create_timer(PERIOD, lambda: publisher.publish(Odometry()))
    rclpy.spin(node)


def watcher(seconds: float) -> None:
    """The one that is watched."""
    node = rclpy.create_node("watcher")
    publisher = node.create_publisher(Float32MultiArray, "command", NEWEST)
    taken: list[float] = []
    heard = [0]

    def publish() -> None:
        begun = time.perf_counter()
        publisher.publish(Float32MultiArray(data=[1.0, 2.0, 3.0, 4.0]))
        taken.append(time.perf_counter() - begun)

    def hear(_: Odometry) -> None:
        heard[0] += 1

    node.create_subscription(Odometry, "odometry", hear, NEWEST)
    node.create_timer(PERIOD, publish)
    kills, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        other = subprocess.Popen([sys.executable, __file__, "--peer"])
        # From the first message on: on a busy computer a process is long in starting.
        before, patience = heard[0], time.monotonic() + 10.0
        while heard[0] == before and time.monotonic() < patience:
            rclpy.spin_once(node, timeout_sec=0.01)
        until = time.monotonic() + random.uniform(0.5, 1.5)
        while time.monotonic() < until:
            rclpy.spin_once(node, timeout_sec=0.01)
        other.kill()
        other.wait()
        kills += 1
    held_up = [t for t in taken if t > HELD_UP]
    print(
        f"{kills} killed; publish held up {len(held_up)} times, "
        f"longest {max(taken):.4f} s, others at most {max(t for t in taken if t <= HELD_UP):.4f} s",
        flush=True,
    )
    # The middleware may crash where it ends beside processes that were killed.
    os._exit(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long [s]")
    arguments = parser.parse_args()
    rclpy.init()
    peer() if arguments.peer else watcher(arguments.seconds)
