"""A node as a process: errors in one line, signals that let it say its last word."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from alula.errors import AlulaError

AnyNode = TypeVar("AnyNode", bound=Node)
LOOK = 0.1
"""How often a process without messages looks for signals [s]."""


def run(
    make: Callable[[], AnyNode],
    last: Callable[[AnyNode], None] | None = None,
    look: Callable[[AnyNode], float] = lambda _: LOOK,
) -> None:
    """Make a node and spin it until SIGINT or SIGTERM; ends the process.

    Args:
        make: makes the node.
        last: what to do with it when the signal has come, while it can still send.
        look: how often it is to look for messages and signals while none comes [s].
    """
    # rclpy's own handlers would close the context before the last word is sent.
    rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _: stop.append(n))
    code = 0
    try:
        node = make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not stop:
            executor.spin_once(timeout_sec=look(node))
        if last is not None:
            with suppress(Exception):
                last(node)
    except AlulaError as e:
        print(f"error: {e}", file=sys.stderr)
        code = 2
    with suppress(Exception):
        rclpy.try_shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Nothing is left to be done, and threads of the middleware take their time.
    os._exit(code)
