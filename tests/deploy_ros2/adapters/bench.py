"""policy_node and the robot's side in one process, over real DDS; loaded by several tests."""

import os
import time
from contextlib import contextmanager
from pathlib import Path
from runpy import run_path

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node

from alula.deploy_ros2.policy_node import PolicyNode
from alula.policies.contract import ActionEntry, Contract, ObservationEntry
from alula.policies.network import Network
from alula.policies.onnx_file import write_policy

wire = run_path(str(Path(__file__).parents[1] / "ros" / "wire.py"))
LENIENT = {
    "heartbeat": False,
    "fresh": 10.0,
    "safety.stall": 10.0,
    "safety.stall_lost": 10.0,
    "safety.held_time": 10.0,
    "safety.clock_jump": 10.0,
    "safety.deadlines_in_a_row": 100000.0,
    "safety.position_age": 5.0,
    "safety.position_lost": 10.0,
    "safety.attitude_age": 5.0,
    "safety.attitude_lost": 10.0,
    "safety.joint_age": 5.0,
    "safety.joint_lost": 10.0,
    "safety.recoveries": 1000.0,
}
"""A busy computer shall cause no holds of its own."""
PATIENCE = 20.0
"""How long anything may take on a loaded machine before it counts as missing [s]."""


def linear_policy(path, robot, entries, actions, weights, dt=0.01):
    """One layer and nothing else: z = x W, action = z / sqrt(1 + z^2); so z = 3/4 gives 0.6, z = 4/3 gives 0.8.

    entries are (name, size), actions (name, low, high, meaning).
    """
    contract = Contract(
        robot=robot.name,
        robot_hash=robot.hash,
        task="test",
        control_dt=dt,
        observation=tuple(
            ObservationEntry(name=n, unit="-", frame="-", size=s) for n, s in entries
        ),
        action=tuple(
            ActionEntry(name=n, low=low, high=high, unit="-", meaning=m)
            for n, low, high, m in actions
        ),
        training={},
    )
    size, n = sum(s for _, s in entries), len(actions)
    network = Network(
        mean=np.zeros(size),
        scale=np.ones(size),
        clip=10.0,
        weights=(np.array(weights),),
        biases=(np.zeros(n),),
    )
    write_policy(path, network, contract)
    return path


class Bench:
    """A configured policy_node, a node that plays the robot, and the executor that spins both."""

    def __init__(self, node, robot):
        self.node, self.robot = node, robot
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._executor.add_node(robot)

    def spin(self, until, tick=None, patience=PATIENCE):
        """Spin until something is true; tick is called at 100 Hz meanwhile."""
        end, due = time.monotonic() + patience, 0.0
        while not until():
            now = time.monotonic()
            assert now < end, "nothing came"
            if tick is not None and now >= due:
                due = now + 0.01
                tick()
            self._executor.spin_once(timeout_sec=0.002)

    def run(self, seconds, tick):
        """Spin for a while."""
        end = time.monotonic() + seconds
        self.spin(lambda: time.monotonic() >= end, tick, seconds + PATIENCE)

    def activate(self, tick):
        """Activate once every measurement has come."""
        self.spin(lambda: not self.node._obstacle(), tick)
        assert self.node.trigger_activate() == TransitionCallbackReturn.SUCCESS


@contextmanager
def bench(**parameters):
    """A Bench whose policy_node has these parameters (dots written as __)."""
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    values = LENIENT | {k.replace("__", "."): v for k, v in parameters.items()}
    texts = [x for k, v in values.items() for x in ("-p", f"{k}:={wire['_yaml'](v)}")]
    domain = int(os.environ.get("ROS_DOMAIN_ID") or wire["free_domain"]())
    rclpy.init(args=["--ros-args", "--log-level", "error", *texts], domain_id=domain)
    try:
        node, robot = PolicyNode(), Node("robot", use_global_arguments=False)
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        yield Bench(node, robot)
        node.silence("end of the test")
        node.destroy_node()
        robot.destroy_node()
    finally:
        rclpy.shutdown()
