"""Compiles and calls the kernels of the short-horizon actor-critic (`short_horizon.c`)."""

import ctypes
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from alula.sim.compile import compile_library
from alula.sim.multirotor.kernels import HEADERS, Batch, Features, generate

HERE = Path(__file__).parent

_POINTERS = [
    "actor",
    "critic",
    "scale",
    "actor_gradient",
    "critic_gradient",
    "features",
    "targets",
    "statistics",
]
_SIZES = [
    "horizon",
    "max_horizon",
    "h1",
    "h2",
    "critic_h1",
    "critic_h2",
    "use_critic",
    "privileged",
]
_NUMBERS = ["gamma", "lambda_", "clip", "cotangent_limit", "failure", "critic_weight"]


class Learner(ctypes.Structure):
    """The C structure `Learner` of short_horizon.c, field by field."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, ctypes.c_float) for name in _NUMBERS),
    ]


@lru_cache(maxsize=8)
def learner_library(features: Features, task: ModuleType) -> ctypes.CDLL:
    """The compiled learner for a kind of robot and a task."""
    library = compile_library(
        HERE / "short_horizon.c", (*HEADERS, HERE / "dense.h"), generate(features, task)
    )
    ptr, i64 = ctypes.c_void_p, ctypes.c_int64
    batch, learner = ctypes.POINTER(Batch), ctypes.POINTER(Learner)
    for name in ("alula_actor_size", "alula_critic_size", "alula_critic_inputs", "alula_room"):
        function = getattr(library, name)
        function.argtypes, function.restype = [batch, learner], i64
    signatures = {
        "alula_start": [batch, i64, i64, i64],
        "alula_horizon": [batch, learner, i64, i64, i64, ptr],
    }
    for name, arguments in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, None
    return library
