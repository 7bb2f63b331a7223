"""Generates, compiles and calls the multirotor's kernels.

`generated.h` holds equations.py, sensors.py and the task's functions as C, each with the derivatives that
analytic-gradient training needs; `batch.h` and the `.c` files loop over environments.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from alula.robots.multirotor import Multirotor
from alula.sim.compile import compile_library
from alula.sim.config import MAX_DELAY_STEPS
from alula.sim.multirotor.equations import Disturbance, Geometry, Params, State, rk4_step
from alula.sim.sensors import SENSED_SIZE, Sensed, sense
from alula.sim.trace import Argument, Expr, Graph, c_function, count_flops, vjp

HERE = Path(__file__).parent
LANES = 16
"""Environments a block, as in lanes.h."""
HEADERS = (HERE / "lanes.h", HERE / "batch.h", HERE / "step.h")
Rows = list[Expr]

_FLOATS = [
    "state",
    "params",
    "constant",
    "gust",
    "action_delay",
    "observation_delay",
    "trajectory",
    "clock",
    "actions",
    "sensed",
    "observed",
    "reward",
    "failed",
]
_SHARED = ["nominal", "uniform", "noise", "weights", "bank"]
_SIZES = [
    "n_blocks",
    "history",
    "tape_length",
    "substeps",
    "episode_steps",
    "n_bank",
    "action_delay_low",
    "action_delay_high",
    "observation_delay_low",
    "observation_delay_high",
    "noisy",
]
_NUMBERS = [
    "control_dt",
    "throttle_min",
    "throttle_max",
    "hover_action",
    "hover_fraction",
    "force_std",
    "torque_std",
    "gust_std",
    "gust_decay",
    "start_position",
    "start_tilt",
    "start_velocity",
    "start_rate",
    "start_rotor",
    "start_at_rest",
    "limit_position",
    "limit_velocity",
    "limit_rate",
    "random_mass",
    "random_inertia",
    "random_thrust",
    "random_rotor",
    "random_lag",
    "random_torque",
    "random_drag",
]


class Batch(ctypes.Structure):
    """The C structure `Batch` of batch.h, field by field."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in _FLOATS),
        ("rng", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in _SHARED),
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, ctypes.c_float) for name in _NUMBERS),
    ]


def aligned(shape: Sequence[int], dtype: type = np.float32) -> np.ndarray:
    """A zeroed array that starts on a 64-byte boundary, as the kernels' vector loads need."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(count + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + count].view(dtype).reshape(shape)


def pointer(array: np.ndarray | None) -> int | None:
    """Address of a C-contiguous array; None stays None (a null pointer)."""
    if array is None:
        return None
    assert array.flags.c_contiguous
    return array.ctypes.data


@dataclass(frozen=True)
class Features:
    """What the compiled physics must contain; what a robot lacks costs nothing."""

    spin: tuple[int, ...]
    """Rotor directions, +1 counter-clockwise seen from above."""
    drag: bool
    """Any drag."""
    rotor_inertia: bool
    """Rotors with angular momentum."""

    @staticmethod
    def of(robot: Multirotor) -> "Features":
        """The features of a robot."""
        return Features(robot.rotor_spin, any(robot.drag_b), robot.rotor_inertia > 0.0)

    def params(self, rows: Rows) -> Params:
        """The parameters `rows`, with zeros for what is left out."""
        p = Params.from_rows(rows)
        if not self.drag:
            p.drag_b = [0.0, 0.0, 0.0]
        if not self.rotor_inertia:
            p.rotor_momentum = 0.0
        return p


class RowCounts:
    """How many rows each quantity of a robot and task has."""

    def __init__(self, n_rotors: int, task: ModuleType) -> None:
        self.rotors = n_rotors
        self.state = State.size(n_rotors)
        self.params = Params.size(n_rotors)
        self.uniform = 2 * n_rotors + 1
        self.trajectory = task.TRAJECTORY_SIZE
        self.reference = task.REFERENCE_SIZE
        self.observed = sum(e.size for e in task.ENTRIES)
        self.weights = task.WEIGHTS_SIZE
        graph = Graph()
        self.privileged = len(
            task.privileged(
                State.from_rows(graph.inputs("x", self.state)),
                Params.from_rows(graph.inputs("p", self.params)),
                Disturbance.from_rows(graph.inputs("d", 6)),
                graph.inputs("l", 2),
                task.Reference.from_rows(graph.inputs("r", self.reference)),
            )
        )


def generate(features: Features, task: ModuleType) -> str:
    """The text of generated.h for a kind of robot and a task."""
    n = RowCounts(len(features.spin), task)
    counts = {
        "ROTORS": n.rotors, "STATE": n.state, "PARAMS": n.params, "TRAJECTORY": n.trajectory,
        "REFERENCE": n.reference, "OBSERVED": n.observed, "PRIVILEGED": n.privileged,
        "WEIGHTS": n.weights,
    }  # fmt: skip
    defines = [f"#define N_{name} {count}" for name, count in counts.items()]
    return "\n".join([*defines, "", _physics(features, n), _task(n, task)])


def physics_step(features: Features, n: RowCounts) -> Callable[..., Rows]:
    """One physics step, from the rows of state, throttle, parameters, disturbance and what all share."""

    def step(x: Rows, u: Rows, p: Rows, d: Rows, uniform: Rows) -> Rows:
        geometry = Geometry(
            rotor_x=uniform[: n.rotors],
            rotor_y=uniform[n.rotors : 2 * n.rotors],
            spin=features.spin,
        )
        return rk4_step(
            State.from_rows(x),
            u,
            features.params(p),
            Disturbance.from_rows(d),
            geometry,
            uniform[-1],
        ).rows()

    return step


def physics_flops(features: Features, task: ModuleType) -> int:
    """Floating-point operations of one physics step, each + - * / sqrt max min one."""
    n = RowCounts(len(features.spin), task)
    step = physics_step(features, n)
    return count_flops(
        lambda *rows: {"next": step(*rows)}, [n.state, n.rotors, n.params, 6, n.uniform]
    )


def _physics(features: Features, n: RowCounts) -> str:
    step = physics_step(features, n)

    def step_vjp(x: Rows, u: Rows, p: Rows, d: Rows, uniform: Rows, g: Rows) -> dict[str, Rows]:
        rows = vjp(step(x, u, p, d, uniform), g, [*x, *u])
        return {"g_state": rows[: n.state], "g_throttle": rows[n.state :]}

    def sense_vjp(x: Rows, g: Rows) -> dict[str, Rows]:
        return {"add_g_state": vjp(sense(State.from_rows(x)), g, x)}

    state, cotangent = Argument(name="state", size=n.state), Argument(name="g_next", size=n.state)
    inputs = [
        state,
        Argument(name="throttle", size=n.rotors),
        Argument(name="params", size=n.params),
        Argument(name="disturbance", size=6),
        Argument(name="uniform", size=n.uniform, uniform=True),
    ]
    sensed = Argument(name="g_sensed", size=SENSED_SIZE)
    return "\n".join(
        [
            c_function("rk4", inputs, lambda *a: {"next": step(*a)}),
            c_function("rk4_vjp", [*inputs, cotangent], step_vjp),
            c_function("sense", [state], lambda x: {"sensed": sense(State.from_rows(x))}),
            c_function("sense_vjp", [state, sensed], sense_vjp),
        ]
    )


def _task(n: RowCounts, task: ModuleType) -> str:
    def observe(s: Rows, r: Rows) -> Rows:
        return task.observe(Sensed.from_rows(s), task.Reference.from_rows(r))

    def privileged(x: Rows, p: Rows, d: Rows, delay: Rows, r: Rows) -> Rows:
        return task.privileged(
            State.from_rows(x),
            Params.from_rows(p),
            Disturbance.from_rows(d),
            delay,
            task.Reference.from_rows(r),
        )

    def cost(x: Rows, a: Rows, before: Rows, r: Rows, weights: Rows) -> Rows:
        return [task.cost(State.from_rows(x), a, before, task.Reference.from_rows(r), weights)]

    def cost_vjp(*args: Any) -> dict[str, Rows]:
        *inputs, g = args
        x, a, before = inputs[:3]
        rows = vjp(cost(*inputs), g, [*x, *a, *before])
        k, r = n.state, n.rotors
        return {
            "add_g_state": rows[:k],
            "add_g_action": rows[k : k + r],
            "add_g_before": rows[k + r :],
        }

    state, reference = (
        Argument(name="state", size=n.state),
        Argument(name="reference", size=n.reference),
    )
    observed = [Argument(name="sensed", size=SENSED_SIZE), reference]
    seen = [
        state,
        Argument(name="params", size=n.params),
        Argument(name="disturbance", size=6),
        Argument(name="delay", size=2),
        reference,
    ]
    costed = [
        state,
        Argument(name="action", size=n.rotors),
        Argument(name="before", size=n.rotors),
        reference,
        Argument(name="weights", size=n.weights, uniform=True),
    ]
    time = [Argument(name="time", size=1), Argument(name="trajectory", size=n.trajectory)]
    return "\n".join(
        [
            c_function("reference", time, lambda t, q: {"rows": task.reference(t[0], q)}),
            c_function("observe", observed, lambda s, r: {"rows": observe(s, r)}),
            c_function(
                "observe_vjp",
                [*observed, Argument(name="g_rows", size=n.observed)],
                lambda s, r, g: {"g_sensed": vjp(observe(s, r), g, s)},
            ),
            c_function("privileged", seen, lambda *a: {"rows": privileged(*a)}),
            c_function(
                "privileged_vjp",
                [*seen, Argument(name="g_rows", size=n.privileged)],
                lambda *a: {"add_g_state": vjp(privileged(*a[:-1]), a[-1], a[0])},
            ),
            c_function("cost", costed, lambda *a: {"value": cost(*a)}),
            c_function("cost_vjp", [*costed, Argument(name="g_value", size=1)], cost_vjp),
        ]
    )


@lru_cache(maxsize=8)
def simulator_library(features: Features, task: ModuleType) -> ctypes.CDLL:
    """The compiled simulator for a kind of robot and a task."""
    library = compile_library(HERE / "simulator.c", HEADERS, generate(features, task))
    assert MAX_DELAY_STEPS == 3  # MAX_DELAY of batch.h
    ptr, i64 = ctypes.c_void_p, ctypes.c_int64
    batch = ctypes.POINTER(Batch)
    signatures = {
        "alula_reset": [batch, i64, i64, i64],
        "alula_rows": [batch, i64, i64, i64, ptr, ptr],
        "alula_step": [batch, i64, i64, i64, i64, ptr, ctypes.c_int, ptr, ptr, ptr, ptr],
        "alula_physics": [batch, i64, i64, i64, ptr, ptr],
        "alula_physics_vjp": [batch, ptr, ptr, ptr, ptr, ptr],
    }
    for name, arguments in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, None
    return library
