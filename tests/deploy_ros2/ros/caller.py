"""Calls services for the tests: a request as a line of JSON in, the answer as one out.

A process of its own: the middleware may crash when a client goes whose server was killed.
"""

import json
import sys
import time

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger


def request(kind: str, argument: list) -> tuple[type, object]:
    """Type and request of a call."""
    if kind == "transition":
        number = getattr(Transition, f"TRANSITION_{argument[0].upper()}")
        return ChangeState, ChangeState.Request(transition=Transition(id=number))
    if kind == "parameter":
        name, value = argument
        message = Parameter(name, value=value).to_parameter_msg()
        return SetParameters, SetParameters.Request(parameters=[message])
    return Trigger, Trigger.Request()


def main() -> None:
    """Serve until the input ends."""
    rclpy.init()
    node, clients = Node("caller"), {}
    for line in sys.stdin:
        name, kind, argument = json.loads(line)
        made, message = request(kind, argument)
        if name not in clients:
            clients[name] = node.create_client(made, name)
        success, begun = False, 0.0
        if clients[name].wait_for_service(timeout_sec=20.0):
            begun = time.time()
            future = clients[name].call_async(message)
            rclpy.spin_until_future_complete(node, future, timeout_sec=20.0)
            if (answer := future.result()) is not None:
                success = answer.results[0].successful if kind == "parameter" else answer.success
        print(json.dumps([begun, success]), flush=True)


if __name__ == "__main__":
    main()
