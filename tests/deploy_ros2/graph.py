"""Says which topics and services each node has, the policy node configured; run as a process by test_graph.py.

A process of its own: two nodes of one name in a domain, or one that this process had earlier, are one to ROS.
"""

import json
import os
import sys

import rclpy

from alula.deploy_ros2.policy_node import PolicyNode
from alula.deploy_ros2.record_node import RecordNode
from alula.deploy_ros2.reference_node import ReferenceNode
from alula.deploy_ros2.sim_node import SimNode
from alula.deploy_ros2.view_node import ViewNode


def known(node):
    """{kind: {name: type}} of a node, as the middleware knows it; of a node of its own process it knows at once."""
    asked = {
        "publish": node.get_publisher_names_and_types_by_node,
        "subscribe": node.get_subscriber_names_and_types_by_node,
        "reply": node.get_service_names_and_types_by_node,
    }
    return {k: {n: t[0] for n, t in ask(node.get_name(), "/")} for k, ask in asked.items()}


rclpy.init(args=sys.argv)
nodes = [make() for make in (PolicyNode, SimNode, ReferenceNode, ViewNode, RecordNode)]
print(nodes[0].trigger_configure().name)
print(json.dumps({node.get_name(): known(node) for node in nodes}))
sys.stdout.flush()
os._exit(0)
