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

import numpy as np

LENGTH = struct.Struct("<I")


def write(stream, head, arrays):
    """Send a message: plain values, and arrays by name."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    layout = [[name, str(array.dtype), list(array.shape)] for name, array in arrays.items()]
    line = json.dumps(dict(head, arrays=layout)).encode()
    stream.write(LENGTH.pack(len(line)))
    stream.write(line)
    for array in arrays.values():
        stream.write(array.tobytes())
    stream.flush()


def read(stream):
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


def _take(stream, size):
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("the other side has ended")
    return data


def serve(make):
    """Answer on standard input and output until asked to end: `make(scene)` builds the physics, then steps.

    What anyone prints goes to standard error. `make` gives the physics and what it says of itself;
    returns the physics, if any was made.
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
        except ImportError as e:
            traceback.print_exc()
            write(answers, {"missing": e.name or str(e)}, {})
        except Exception as e:
            traceback.print_exc()
            text = " ".join(f"{type(e).__name__}: {e}".split())
            write(answers, {"error": text}, {})
