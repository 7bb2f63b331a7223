"""Arrays and plain values over a pair of pipes, between alula and an interpreter that has Isaac.

That interpreter may be Python 3.8 with an old numpy and without alula, so that nothing else is imported here and nothing
newer is used.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import traceback
from collections.abc import Callable
from typing import IO, Any

import numpy as np

LENGTH = struct.Struct("<I")


def write(stream: IO[bytes], head: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Send a message: plain values, and arrays by name."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    layout = [[name, str(array.dtype), list(array.shape)] for name, array in arrays.items()]
    line = json.dumps(dict(head, arrays=layout)).encode()
    stream.write(LENGTH.pack(len(line)))
    stream.write(line)
    for array in arrays.values():
        stream.write(array.tobytes())
    stream.flush()


def read(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Wait for a message; its plain values, and its arrays by name.

    Raises:
        EOFError: the other side has ended.
    """
    (length,) = LENGTH.unpack(_take(stream, LENGTH.size))
    head = json.loads(_take(stream, length).decode())
    arrays = {}
    for name, kind, shape in head.pop("arrays"):
        dtype = np.dtype(kind)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        arrays[name] = np.frombuffer(_take(stream, size), dtype).reshape(shape)
    return head, arrays


def _take(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("the other side has ended")
    return data


def serve(make: Callable[[dict[str, Any]], tuple[Any, dict[str, Any]]]) -> Any:
    """Answer on standard input and output until asked to end. What anyone prints goes to standard error.

    `make` builds a scene (`alula.sim.isaac.scene.scene_of`) and returns the physics and what it says of itself: the
    names of joints and bodies in its order and the order of its quaternions. The physics has `origin_w`, the origins of
    the environments [m] (N, 3), and `step(steps, arrays)`. Everything is in Isaac's orders and in the world, float32.

    Into a step go, for the environments `ids` (n) that were reset, `joint_position` and `joint_velocity` (n, D),
    `box_position`, `box_velocity`, `box_angular_velocity` (n, F, 3) and `box_quat` (n, F, 4); and for all environments
    `target` and `effort` (N, D), of which each joint follows one. Out come the same states of all environments, with
    `body_position` (N, B, 3) and `body_quat` (N, B, 4) of the robot's bodies, and `touch_force` (N, T, 3) [N] on the
    bodies that the scene calls touched.

    Returns:
        The physics, None where none was made.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    questions, physics = sys.stdin.buffer, None
    while True:
        try:
            head, arrays = read(questions)
        except EOFError:
            return physics
        call = head["call"]
        if call == "end":
            write(answers, {}, {})
            return physics
        try:
            if call == "build":
                physics, said = make(head["scene"])
                write(answers, {"said": said}, {"origin_w": physics.origin_w})
            elif physics is not None:
                write(answers, {}, physics.step(head["steps"], arrays))
        except ModuleNotFoundError as e:
            traceback.print_exc()
            write(answers, {"missing": e.name or str(e)}, {})
        except Exception as e:
            traceback.print_exc()
            text = " ".join(f"{type(e).__name__}: {e}".split())
            write(answers, {"error": text}, {})
