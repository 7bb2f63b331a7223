"""trace.py: what is recorded, its reverse-mode derivatives, and the C printed from it."""

import ctypes
import math
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch

from alula.sim import trace
from alula.sim.compile import compile_library
from alula.sim.multirotor.kernels import HERE, aligned, pointer
from alula.sim.trace import Argument, Expr, Graph, c_function, vjp

helper = run_path(str(Path(__file__).parent / "torch_scalar.py"))
scalars, tensor = helper["scalars"], helper["tensor"]

LANES = 16
NUMPY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "sqrt": math.sqrt,
    "sin": math.sin,
    "max": max,
    "min": min,
    "where_gt": lambda a, b, x, y: x if a > b else y,
}


def evaluate(expr: Expr, inputs: dict[str, list[float]]) -> float:
    """Value of an expression in float64."""
    if expr.op == "const":
        return expr.value
    if expr.op == "input":
        name, row = expr.value
        return inputs[name][row]
    return NUMPY[expr.op](*(evaluate(a, inputs) for a in expr.args))


FUNCTIONS = {
    "a+b": lambda a, b: a + b,
    "2+a": lambda a, b: 2.0 + a,
    "a+0": lambda a, b: a + 0.0 + b,
    "a-b": lambda a, b: a - b,
    "2-a": lambda a, b: 2.0 - a,
    "0-a": lambda a, b: 0.0 - a,
    "a-2": lambda a, b: a - 2.0,
    "a*b": lambda a, b: a * b,
    "3*a": lambda a, b: 3.0 * a * b,
    "1*a": lambda a, b: 1 * a * b,
    "-1*a": lambda a, b: -1 * a * b,
    "0*a": lambda a, b: 0.0 * a + b,
    "a/b": lambda a, b: a / b,
    "a/3": lambda a, b: a / 3.0,
    "3/a": lambda a, b: 3.0 / a,
    "-a": lambda a, b: -a,
    "--a": lambda a, b: -(0.0 - (a * b)),
    "a+-b": lambda a, b: a + (-b),
    "-a+b": lambda a, b: -a + b,
    "-a+-b": lambda a, b: -a + -b,
    "a--b": lambda a, b: a - (-b),
    "-a-b": lambda a, b: -a - b,
    "-a*-b": lambda a, b: (-a) * (-b),
    "a*-b": lambda a, b: a * (-b),
    "a*a*a": lambda a, b: a * a * a,
    "sqrt": lambda a, b: np.sqrt(a * a + b * b),
    "sin": lambda a, b: np.sin(3.0 * a + b),
    "max": lambda a, b: np.maximum(a, b) * a,
    "min": lambda a, b: np.minimum(a, b) * a,
    "max const": lambda a, b: np.maximum(a, 0.9) * b,
    "min const": lambda a, b: np.minimum(0.9, a) * b,
    "reuse": lambda a, b: (a * b) / (1.0 + a * b) - np.sin(a * b) * a,
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("at", [(0.7, 1.3), (1.3, 0.7), (2.0, -0.4)])
def test_value_and_derivative_against_torch(name: str, at: tuple[float, float]) -> None:
    function = FUNCTIONS[name]
    graph = Graph()
    symbols, g = graph.inputs("x", 2), graph.inputs("g", 1)
    output = function(*symbols)
    inputs = {"x": list(at), "g": [1.7]}
    x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    expected = tensor([function(*scalars(x))])
    assert evaluate(output, inputs) == pytest.approx(expected.item(), rel=1e-14)
    expected.backward(torch.tensor([1.7], dtype=torch.float64))
    found = [evaluate(d, inputs) for d in vjp([output], g, symbols)]
    np.testing.assert_allclose(found, x.grad.numpy(), rtol=1e-13, atol=1e-15)


def test_a_derivative_by_hand() -> None:
    graph = Graph()
    a, b = graph.inputs("x", 2)
    (g,) = graph.inputs("g", 1)
    da, db = vjp([(a * b + np.sin(a)) / b], [g], [a, b])
    inputs = {"x": [0.5, 2.0], "g": [1.0]}
    # d/da (a + sin(a) / b) = 1 + cos(0.5) / 2 = 1.43879128; d/db = -sin(0.5) / 4 = -0.11985638
    assert evaluate(da, inputs) == pytest.approx(1.43879128, abs=1e-8)
    assert evaluate(db, inputs) == pytest.approx(-0.11985638, abs=1e-8)


def test_outputs_and_cotangents_add_up() -> None:
    graph = Graph()
    a, b, unused = graph.inputs("x", 3)
    g = graph.inputs("g", 3)
    product = a * b
    # J' g for (a b, a, a b): the shared output counts twice, a plain number not at all
    derivatives = vjp([product, a, product, 4.0], [*g, g[0]], [a, b, unused])
    inputs = {"x": [3.0, 5.0, 7.0], "g": [1.0, 10.0, 100.0]}
    assert [evaluate(d, inputs) for d in derivatives] == [5 + 10 + 500, 3 + 300, 0.0]
    assert derivatives[2].is_const(0.0)


@pytest.mark.parametrize(
    ("function", "at", "expected"),
    [
        (np.maximum, (2.0, 1.0), (1.0, 0.0)),
        (np.maximum, (1.0, 2.0), (0.0, 1.0)),
        (np.maximum, (1.0, 1.0), (0.0, 1.0)),
        (np.minimum, (1.0, 2.0), (1.0, 0.0)),
        (np.minimum, (2.0, 1.0), (0.0, 1.0)),
        (np.minimum, (1.0, 1.0), (0.0, 1.0)),
    ],
)
def test_kinks_take_the_second_argument(function, at, expected) -> None:
    graph = Graph()
    symbols, g = graph.inputs("x", 2), graph.inputs("g", 1)
    found = vjp([function(*symbols)], g, symbols)
    assert tuple(evaluate(d, {"x": list(at), "g": [1.0]}) for d in found) == expected


def test_a_rotor_at_its_throttle_pulls_one_way_only() -> None:
    # d/de (max(e, 0) r + min(e, 0) f) at e = 0: neither term's first argument is taken
    graph = Graph()
    e, r, f = graph.inputs("x", 3)
    g = graph.inputs("g", 1)
    (slope,) = vjp([np.maximum(e, 0.0) * r + np.minimum(e, 0.0) * f], g, [e])
    at = {x: evaluate(slope, {"x": [x, 2.0, 5.0], "g": [1.0]}) for x in (-1e-3, 0.0, 1e-3)}
    assert at == {-1e-3: 5.0, 0.0: 0.0, 1e-3: 2.0}


def test_a_second_derivative_of_a_kink_is_refused() -> None:
    graph = Graph()
    (a,), g = graph.inputs("x", 1), graph.inputs("g", 1)
    slope = vjp([np.maximum(a, 0.0) * a], g, [a])
    with pytest.raises(NotImplementedError):
        vjp(slope, g, [a])


def test_constants_are_folded_and_identities_cost_nothing() -> None:
    graph = Graph()
    (a,) = graph.inputs("x", 1)
    two, three = graph.constant(2.0), graph.constant(3)
    for folded, value in (
        (two + three, 5.0), (two - three, -1.0), (two * three, 6.0), (two / 4.0, 0.5), (-two, -2.0),
        (np.sqrt(graph.constant(9.0)), 3.0), (np.maximum(two, 3.0), 3.0), (np.minimum(two, 3.0), 2.0),
        (np.sin(graph.constant(0.0)), 0.0), (0.0 * a, 0.0),
    ):  # fmt: skip
        assert folded.is_const(value)
    for same in (a + 0.0, 0.0 + a, a - 0.0, a * 1.0, 1.0 * a, a / 1.0, -(0.0 - a)):
        assert same is a


def test_equal_expressions_are_recorded_once() -> None:
    graph = Graph()
    a, b = graph.inputs("x", 2)
    assert a * b is b * a
    assert a + b is b + a
    assert a - b is not b - a
    assert a / b is not b / a
    assert np.sin(a + b) is np.sin(b + a)
    assert graph.inputs("x", 1)[0] is a
    assert graph.inputs("y", 1)[0] is not a
    source = c_function(
        "f", [Argument(name="x", size=2)], lambda x: {"y": [x[0] * x[1], x[1] * x[0] + 1.0]}
    )
    assert source.count(" * t") == 1


def test_what_cannot_be_recorded_is_refused() -> None:
    (a,) = Graph().inputs("x", 1)
    for attempt in (
        lambda: np.cos(a),
        lambda: np.exp(a),
        lambda: np.maximum.reduce([a, a]),
        lambda: np.sqrt(a, out=np.zeros(1)),
        lambda: np.maximum(a, np.zeros(2)),
        lambda: bool(a > 0.0),
        lambda: a**2,
    ):
        with pytest.raises(TypeError):
            attempt()


def _rational(x, p):
    """Everything the printer knows, with awkward constants."""
    a, b, c, d = x
    u, v = p
    y = [
        a + b * c - d / (2.5 + b * b),
        -np.sqrt(a * a + 1e-12) * 1e20 * 1e-20,
        np.sin(3.0 * a + 0.1) * u - v * np.sin(40.0 * d),
        np.maximum(a, b) - np.minimum(c, -0.3),
        2.0,
        -1.0 / (3.0 + a * a),
        a,
    ]
    z = [a * d, 0.0, b - 1.0]
    return y, z


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> ctypes.CDLL:
    main = tmp_path_factory.mktemp("trace") / "trace_test.c"
    main.write_text(
        '#include "lanes.h"\n#include "generated.h"\n'
        "void run(const float *x, const float *p, float *y, float *z)\n"
        "{ EACH_VECTOR(o) f(x + o, p, y + o, z + o); }\n"
        "void run_vjp(const float *x, const float *p, const float *g, float *d)\n"
        "{ EACH_VECTOR(o) f_vjp(x + o, p, g + o, d + o); }\n"
    )
    arguments = [Argument(name="x", size=4), Argument(name="p", size=2, uniform=True)]

    def f(x, p):
        y, z = _rational(x, p)
        return {"y": y, "add_z": z}

    def f_vjp(x, p, g):
        return {"d": vjp(_rational(x, p)[0], g, x)}

    generated = c_function("f", arguments, f) + c_function(
        "f_vjp", [*arguments, Argument(name="g", size=7)], f_vjp
    )
    return compile_library(main, (HERE / "lanes.h",), generated)


def _lanes(rng: np.random.Generator, rows: int) -> np.ndarray:
    out = aligned((rows, LANES))
    out[:] = rng.uniform(-1.5, 1.5, (rows, LANES))
    return out


def test_c_computes_what_the_function_computes(compiled) -> None:
    rng = np.random.default_rng(0)
    x, p = _lanes(rng, 4), np.array([0.7, -1.3], np.float32)
    y, z = aligned((7, LANES)), _lanes(rng, 3)
    before = z.copy()
    compiled.run(*(ctypes.c_void_p(pointer(a)) for a in (x, p, y, z)))
    expected_y, expected_z = _rational(x.astype(np.float64), p.astype(np.float64))
    expected_y[4] = np.full(LANES, 2.0)
    # sin is a polynomial good to 4e-6; everything else rounds in float32
    np.testing.assert_allclose(y, np.array(expected_y), rtol=2e-6, atol=2e-5)
    np.testing.assert_allclose(y[[0, 1, 3, 4, 5, 6]], np.array(expected_y)[[0, 1, 3, 4, 5, 6]],
                               rtol=1e-6, atol=5e-7)  # fmt: skip
    np.testing.assert_allclose(z[0], before[0] + expected_z[0], rtol=1e-6, atol=5e-7)
    np.testing.assert_array_equal(z[1], before[1])
    np.testing.assert_allclose(z[2], before[2] + expected_z[2], rtol=1e-6, atol=5e-7)


def test_c_derivative_against_torch(compiled) -> None:
    rng = np.random.default_rng(1)
    x, p, g = _lanes(rng, 4), np.array([0.7, -1.3], np.float32), _lanes(rng, 7)
    d = aligned((4, LANES))
    compiled.run_vjp(*(ctypes.c_void_p(pointer(a)) for a in (x, p, g, d)))
    tx = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    y = tensor(_rational(scalars(tx), [float(c) for c in p])[0])
    y.backward(torch.tensor(g, dtype=torch.float64))
    # sin(40 d) has the slope 40: its polynomial's error counts forty times
    np.testing.assert_allclose(d, tx.grad.numpy(), rtol=1e-5, atol=4e-4)
    np.testing.assert_allclose(d[1:3], tx.grad.numpy()[1:3], rtol=2e-6, atol=2e-6)


def test_flops_are_counted_once_each() -> None:
    def build(x):
        product = x[0] * x[1]
        return {"y": [product + 1.0, np.sqrt(product), np.maximum(product, x[0])]}

    # one product, one sum, one root, one maximum
    assert trace.count_flops(build, [2]) == 4
