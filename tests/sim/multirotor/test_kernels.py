"""The compiled kernels against the Python functions they were generated from, in float64."""

import ctypes
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import ModuleType

import numpy as np
import pytest
import torch

from alula.robots.multirotor import Multirotor, load_robot
from alula.sim.config import Randomization, SimConfig
from alula.sim.multirotor.equations import Disturbance, Geometry, Params, State, rk4_step
from alula.sim.multirotor.kernels import (
    LANES,
    Features,
    RowCounts,
    aligned,
    pointer,
    simulator_library,
)
from alula.sim.multirotor.simulator import MultirotorSimulator
from alula.sim.sensors import Sensed, sense
from alula.sim.trace import Expr, Graph, vjp
from alula.tasks import hover, track

TESTS = Path(__file__).parents[2]
bodies = run_path(str(TESTS / "physics" / "bodies.py"))
helper = run_path(str(TESTS / "sim" / "torch_scalar.py"))
scalars, tensor = helper["scalars"], helper["tensor"]

ROBOTS = {
    "4 rotors, neither": load_robot("crazyflie-l2f"),
    "4 rotors, drag and rotor inertia": bodies["full_body"](),
    "6 rotors, drag": bodies["hexarotor"](drag_b=(0.3, 0.2, 0.4)),
    "6 rotors, rotor inertia": bodies["hexarotor"](rotor_inertia=2e-5),
}
WILD = SimConfig(
    substeps=2,
    randomization=Randomization(
        mass=0.2, inertia=0.2, thrust=0.25, rotor=0.2, lag=0.4, torque=0.3, drag=0.5
    ),
)


@pytest.fixture(scope="module", params=ROBOTS, ids=lambda name: name)
def flight(request) -> "RandomFlight":
    return RandomFlight(ROBOTS[request.param])


class RandomFlight:
    """32 vehicles with random parameters, states, throttles and disturbances."""

    def __init__(self, robot: Multirotor) -> None:
        self.robot = robot
        self.simulator = MultirotorSimulator(robot, hover, WILD, 32)
        self.simulator.reset(1)
        self.batch = self.simulator.batch
        self.library = simulator_library(Features.of(robot), hover)
        rng = np.random.default_rng(2)
        n, blocks, rows = robot.n_rotors, self.batch.n_blocks, self.batch.rows
        self.start = aligned((blocks, rows.state, LANES))
        q = rng.normal(size=(blocks, 4, LANES))
        self.start[:, 0:3] = rng.uniform(-1, 1, (blocks, 3, LANES))
        self.start[:, 3:6] = rng.uniform(-5, 5, (blocks, 3, LANES))
        self.start[:, 6:10] = q / np.linalg.norm(q, axis=1, keepdims=True)
        self.start[:, 10:13] = rng.uniform(-10, 10, (blocks, 3, LANES))
        self.start[:, 13:] = rng.uniform(0, 1, (blocks, n, LANES))
        self.throttle, self.disturbance = aligned((blocks, n, LANES)), aligned((blocks, 6, LANES))
        self.throttle[:] = rng.uniform(0, 1, self.throttle.shape)
        weight = robot.mass * 9.81
        self.disturbance[:] = weight * rng.normal(0, 0.1, self.disturbance.shape)
        self.disturbance[:, 3:] *= 0.01
        self.dt = float(self.batch.shared["uniform"][-1])

    def step64(self, state, throttle, params, disturbance) -> State:
        """`rk4_step` on rows in whatever precision they come."""
        geometry = Geometry(
            rotor_x=[float(x) for x in self.batch.shared["uniform"][: self.robot.n_rotors]],
            rotor_y=[float(x) for x in self.batch.shared["uniform"][self.robot.n_rotors : -1]],
            spin=self.robot.rotor_spin,
        )
        return rk4_step(
            State.from_rows(state),
            throttle,
            Params.from_rows(params),
            Disturbance.from_rows(disturbance),
            geometry,
            self.dt,
        )

    def rows(self, array: np.ndarray) -> np.ndarray:
        """[rows, N] in float64."""
        return array.transpose(1, 0, 2).reshape(array.shape[1], -1).astype(np.float64)


def _scale(rows: np.ndarray) -> np.ndarray:
    """Typical size of each group of state rows, for relative errors."""
    size = np.ones((rows.shape[0], 1))
    size[3:6], size[10:13] = 5.0, 10.0
    return size


def test_features_of_the_robots() -> None:
    features = [Features.of(r) for r in ROBOTS.values()]
    assert [(f.drag, f.rotor_inertia) for f in features] == [
        (False, False), (True, True), (True, False), (False, True),
    ]  # fmt: skip


def test_physics_is_the_equations_within_float32(flight) -> None:
    batch, steps = flight.batch, 3
    batch.arrays["state"][:] = flight.start
    flight.library.alula_physics(
        ctypes.byref(batch.struct), 0, batch.n_blocks, steps, pointer(flight.throttle),
        pointer(flight.disturbance),
    )  # fmt: skip
    x = flight.rows(flight.start)
    moved = x
    for _ in range(steps * WILD.substeps):
        moved = np.array(
            flight.step64(
                list(moved), list(flight.rows(flight.throttle)), list(flight.rows(batch.arrays["params"])),
                list(flight.rows(flight.disturbance)),
            ).rows()
        )  # fmt: skip
    found = flight.rows(batch.arrays["state"])
    assert np.abs(moved - x).max(axis=1).min() > 1e-3, "every row has moved"
    # six steps of float32: a few units of 6e-8 each
    assert (np.abs(found - moved) / _scale(found)).max() < 2e-6


def test_physics_vjp_against_torch(flight) -> None:
    batch = flight.batch
    batch.arrays["state"][:] = flight.start
    cotangent, g_state, g_throttle = (
        aligned(flight.start.shape), aligned(flight.start.shape), aligned(flight.throttle.shape),
    )  # fmt: skip
    cotangent[:] = np.random.default_rng(4).normal(size=cotangent.shape)
    flight.library.alula_physics_vjp(
        ctypes.byref(batch.struct), pointer(flight.throttle), pointer(flight.disturbance),
        pointer(cotangent), pointer(g_state), pointer(g_throttle),
    )  # fmt: skip
    x = torch.tensor(flight.rows(flight.start), requires_grad=True)
    u = torch.tensor(flight.rows(flight.throttle), requires_grad=True)
    params = list(flight.rows(batch.arrays["params"]))
    following = flight.step64(scalars(x), scalars(u), params, list(flight.rows(flight.disturbance)))
    tensor(following.rows()).backward(torch.tensor(flight.rows(cotangent)))
    for found, expected in ((g_state, x.grad.numpy()), (g_throttle, u.grad.numpy())):
        error = np.linalg.norm(flight.rows(found) - expected, axis=0)
        # relative to each environment's own gradient
        assert (error / np.linalg.norm(expected, axis=0)).max() < 1e-5
        assert np.abs(expected).max(axis=1).min() > 1e-3, "no row's derivative is trivially zero"


def evaluate(roots: list[Expr], inputs: dict[str, list[np.ndarray]]) -> np.ndarray:
    """Values of expressions over arrays in float64, each node once: [roots, ...]."""
    operations = {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative,
        "sqrt": np.sqrt, "sin": np.sin, "max": np.maximum, "min": np.minimum,
        "where_gt": lambda a, b, x, y: np.where(a > b, x, y),
    }  # fmt: skip
    nodes: dict[int, Expr] = {}
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node.index not in nodes:
            nodes[node.index] = node
            stack.extend(node.args)
    values: dict[int, np.ndarray] = {}
    for index in sorted(nodes):
        node = nodes[index]
        if node.op == "const":
            values[index] = np.float64(node.value)
        elif node.op == "input":
            values[index] = inputs[node.value[0]][node.value[1]]
        else:
            values[index] = operations[node.op](*(values[a.index] for a in node.args))
    return np.array(np.broadcast_arrays(*(values[r.index] for r in roots)))


def task_functions(task: ModuleType, n: RowCounts) -> dict:
    """Each differentiated function: its arguments' sizes, the differentiated ones first, and itself."""

    def privileged(x, p, d, delay, r):
        return task.privileged(
            State.from_rows(x), Params.from_rows(p), Disturbance.from_rows(d), delay,
            task.Reference.from_rows(r),
        )  # fmt: skip

    return {
        "sense": ([n.state], 1, lambda x: sense(State.from_rows(x))),
        "observe": (
            [18, n.reference], 1,
            lambda s, r: task.observe(Sensed.from_rows(s), task.Reference.from_rows(r)),
        ),
        "privileged": ([n.state, n.params, 6, 2, n.reference], 1, privileged),
        "cost": (
            [n.state, n.rotors, n.rotors, n.reference, n.weights], 3,
            lambda x, a, b, r, w: [task.cost(State.from_rows(x), a, b, task.Reference.from_rows(r), w)],
        ),
    }  # fmt: skip


@pytest.mark.parametrize("task", [hover, track], ids=["hover", "track"])
@pytest.mark.parametrize("name", ["sense", "observe", "privileged", "cost"])
def test_vjp_of_sensors_and_tasks_against_torch(task: ModuleType, name: str) -> None:
    sizes, wanted, function = task_functions(task, RowCounts(4, task))[name]
    rng = np.random.default_rng(5)
    values = [rng.uniform(0.2, 1.5, (size, 7)) * rng.choice([-1, 1], (size, 7)) for size in sizes]
    if name == "privileged":
        values[1] = np.abs(values[1])
    if name == "cost":
        values[4] = np.abs(values[4])
    graph = Graph()
    symbols = [graph.inputs(f"x{i}", size) for i, size in enumerate(sizes)]
    outputs = function(*symbols)
    g = graph.inputs("g", len(outputs))
    derivative = vjp(outputs, g, [s for rows in symbols[:wanted] for s in rows])
    inputs = {f"x{i}": list(v) for i, v in enumerate(values)}
    inputs["g"] = list(rng.normal(size=(len(outputs), 7)))
    leaves = [torch.tensor(v, requires_grad=True) for v in values]
    expected = tensor(function(*(scalars(leaf) for leaf in leaves)))
    np.testing.assert_allclose(evaluate(outputs, inputs), expected.detach().numpy(), rtol=1e-12)
    expected.backward(torch.tensor(np.array(inputs["g"])))
    grads = np.concatenate([leaf.grad.numpy() for leaf in leaves[:wanted]])
    np.testing.assert_allclose(evaluate(derivative, inputs), grads, rtol=1e-11, atol=1e-13)


def test_reset_draws_match_their_lag_factors(flight) -> None:
    p = Params.from_rows(list(flight.rows(flight.batch.arrays["params"])))
    # left over after half a physics step of 0.01 s / 2
    np.testing.assert_allclose(p.rise, np.exp(-0.0025 * p.lag_up_inv), rtol=1e-6)
    np.testing.assert_allclose(p.fall, np.exp(-0.0025 * p.lag_down_inv), rtol=1e-6)


def test_nothing_is_left_out_of_a_robot_that_has_it() -> None:
    # the same vehicle with and without drag and heavy rotors must fly differently
    full, plain = ROBOTS["4 rotors, drag and rotor inertia"], bodies["body"](
        inertia=(0.011, 0.014, 0.021), thrust_curve=(0.1, 0.7, 4.2)
    )  # fmt: skip
    ends = []
    for robot in (full, plain, replace(full, drag_b=(0.0, 0.0, 0.0))):
        flight = RandomFlight(robot)
        flight.batch.arrays["state"][:] = flight.start
        flight.library.alula_physics(
            ctypes.byref(flight.batch.struct),
            0,
            2,
            2,
            pointer(flight.throttle),
            pointer(flight.disturbance),
        )
        ends.append(flight.rows(flight.batch.arrays["state"]))
    assert np.abs(ends[0] - ends[1])[3:6].max() > 1e-2
    assert np.abs(ends[0] - ends[2])[3:6].max() > 1e-2
    assert np.abs(ends[1] - ends[2])[10:13].max() > 1e-2
