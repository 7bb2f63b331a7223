"""Plain scalar functions -> expression graph -> C, with exact reverse-mode derivatives.

Calling a function of `equations.py` or of a task with `Expr` symbols records what it computes. Equal
sub-expressions are recorded once. `vjp` adds the reverse-mode derivative to the same graph, and `c_function`
prints both as straight-line C over vectors of environments; another back end needs only another printer.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


class Graph:
    """A recording: nodes in order of creation, each identical node once."""

    def __init__(self) -> None:
        self._nodes: dict[tuple, Expr] = {}

    def node(self, op: str, *args: "Expr", value: Any = None) -> "Expr":
        """The node `op(args)`; the existing one if there is one."""
        key = (op, value, *(id(a) for a in args))
        found = self._nodes.get(key)
        if found is None:
            found = self._nodes[key] = Expr(self, len(self._nodes), op, args, value)
        return found

    def constant(self, value: float) -> "Expr":
        """A number."""
        return self.node("const", value=float(value))

    def inputs(self, name: str, size: int) -> list["Expr"]:
        """Symbols for the rows of the argument `name`."""
        return [self.node("input", value=(name, row)) for row in range(size)]


class Expr:
    """A scalar that remembers how it was computed; supports + - * / and the NumPy ufuncs below."""

    __slots__ = ("args", "graph", "index", "op", "value")

    def __init__(
        self, graph: Graph, index: int, op: str, args: tuple["Expr", ...], value: Any
    ) -> None:
        self.graph, self.index, self.op, self.args, self.value = graph, index, op, args, value

    def _lift(self, other: Any) -> "Expr":
        return other if isinstance(other, Expr) else self.graph.constant(other)

    def is_const(self, value: float) -> bool:
        """Whether this is that number."""
        return self.op == "const" and self.value == value

    def __add__(self, other: Any) -> "Expr":
        a, b = self, self._lift(other)
        if a.op == b.op == "const":
            return self.graph.constant(a.value + b.value)
        if a.is_const(0.0):
            return b
        if b.is_const(0.0):
            return a
        if b.op == "neg":
            return a - b.args[0]
        if a.op == "neg":
            return b - a.args[0]
        if a.index > b.index:
            a, b = b, a
        return self.graph.node("add", a, b)

    def __sub__(self, other: Any) -> "Expr":
        a, b = self, self._lift(other)
        if a.op == b.op == "const":
            return self.graph.constant(a.value - b.value)
        if b.is_const(0.0):
            return a
        if a.is_const(0.0):
            return -b
        if b.op == "neg":
            return a + b.args[0]
        return self.graph.node("sub", a, b)

    def __mul__(self, other: Any) -> "Expr":
        a, b = self, self._lift(other)
        if a.op == b.op == "const":
            return self.graph.constant(a.value * b.value)
        for x, y in ((a, b), (b, a)):
            if x.is_const(0.0):
                return x
            if x.is_const(1.0):
                return y
            if x.is_const(-1.0):
                return -y
            if x.op == "neg":
                return -(x.args[0] * y)
        if a.index > b.index:
            a, b = b, a
        return self.graph.node("mul", a, b)

    def __truediv__(self, other: Any) -> "Expr":
        b = self._lift(other)
        if b.op == "const":
            return self * (1.0 / b.value)
        return self.graph.node("div", self, b)

    def __neg__(self) -> "Expr":
        if self.op == "const":
            return self.graph.constant(-self.value)
        if self.op == "neg":
            return self.args[0]
        return self.graph.node("neg", self)

    def __radd__(self, other: Any) -> "Expr":
        return self._lift(other) + self

    def __rsub__(self, other: Any) -> "Expr":
        return self._lift(other) - self

    def __rmul__(self, other: Any) -> "Expr":
        return self._lift(other) * self

    def __rtruediv__(self, other: Any) -> "Expr":
        return self._lift(other) / self

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> Any:
        name = {np.maximum: "max", np.minimum: "min", np.sqrt: "sqrt", np.sin: "sin"}.get(ufunc)
        if name is None or method != "__call__" or kwargs:
            return NotImplemented
        lifted = [self._lift(a) for a in args]
        if all(a.op == "const" for a in lifted):
            return self.graph.constant(float(ufunc(*(a.value for a in lifted))))
        return self.graph.node(name, *lifted)


def vjp(outputs: Sequence[Any], cotangents: Sequence[Expr], inputs: Sequence[Expr]) -> list[Expr]:
    """Reverse-mode derivative: sum_i cotangent_i * d output_i / d input_j for every input j.

    At a kink (max or min of equal arguments) the derivative of the second argument is taken.
    """
    graph = inputs[0].graph
    adjoint: dict[int, Expr] = {}

    def add(node: Expr, value: Expr) -> None:
        adjoint[node.index] = adjoint[node.index] + value if node.index in adjoint else value

    for output, cotangent in zip(outputs, cotangents, strict=True):
        if isinstance(output, Expr):
            add(output, cotangent)
    for node in reversed(reachable(outputs)):
        if node.index in adjoint:
            for arg, value in _pull_back(node, adjoint[node.index], graph):
                add(arg, value)
    return [adjoint.get(x.index, graph.constant(0.0)) for x in inputs]


def _pull_back(node: Expr, g: Expr, graph: Graph) -> list[tuple[Expr, Expr]]:
    """(argument, contribution to its adjoint) for one node with adjoint g."""
    match node.op, node.args:
        case "add", (a, b):
            return [(a, g), (b, g)]
        case "sub", (a, b):
            return [(a, g), (b, -g)]
        case "neg", (a,):
            return [(a, -g)]
        case "mul", (a, b):
            return [(a, g * b), (b, g * a)]
        case "div", (a, b):
            return [(a, g / b), (b, -(g * (node / b)))]
        case "sqrt", (a,):
            return [(a, 0.5 * g / node)]
        case "sin", (a,):
            return [(a, g * graph.node("sin", a + math.pi / 2))]
        case (("max" | "min"), (a, b)):
            zero = graph.constant(0.0)
            first, second = (a, b) if node.op == "max" else (b, a)
            taken = graph.node("where_gt", first, second, g, zero)
            other = graph.node("where_gt", first, second, zero, g)
            return [(a, taken), (b, other)]
        case (("const" | "input"), _):
            return []
        case _:
            raise NotImplementedError(f"derivative of {node.op}")


@dataclass(frozen=True, kw_only=True)
class Argument:
    """An argument of a generated C function."""

    name: str
    """C name."""
    size: int
    """Rows."""
    uniform: bool = False
    """One float a row for all environments, instead of a vector of lanes."""


def c_function(
    name: str,
    arguments: Sequence[Argument],
    build: Callable[..., Mapping[str, Sequence[Any]]],
) -> str:
    """C source of `name(inputs..., outputs...)`, recorded by calling `build` with symbols.

    Args:
        name: C name of the function.
        arguments: inputs; `build` receives one list of `Expr` for each.
        build: returns the outputs, name -> rows. Outputs called `add_...` are added to what is there.

    Every input is loaded before the first output is stored, so an output may stand in the place of an input.
    """
    graph = Graph()
    symbols = [graph.inputs(a.name, a.size) for a in arguments]
    outputs = build(*symbols)
    lines = _body(graph, outputs, {a.name for a in arguments if a.uniform})
    parameters = [f"const float *{a.name}" for a in arguments]
    parameters += [f"float *{o}" for o in outputs]
    return "\n".join([f"INLINE void {name}({', '.join(parameters)})", "{", *lines, "}", ""])


_C = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "sqrt": "v_sqrt({0})",
    "sin": "v_sin({0})",
    "max": "v_max({0}, {1})",
    "min": "v_min({0}, {1})",
    "where_gt": "v_where_gt({0}, {1}, {2}, {3})",
}


def _body(graph: Graph, outputs: Mapping[str, Sequence[Any]], uniform: set[str]) -> list[str]:
    """Statements in the order in which the function computed them, inputs just before their first use.

    That order keeps independent operations side by side; printing each output's whole tree in turn makes long
    chains of dependent ones, and the RK4 step a third slower.
    """
    results: dict[str, list[Expr | None]] = {}
    for name, rows in outputs.items():
        lifted = [v if isinstance(v, Expr) else graph.constant(v) for v in rows]
        # adding nothing needs no code
        nothing = name.startswith("add_")
        results[name] = [None if nothing and v.is_const(0.0) else v for v in lifted]
    roots = [v for rows in results.values() for v in rows if v is not None]
    lines: list[str] = []
    done: set[int] = set()

    def emit(node: Expr) -> None:
        if node.index not in done:
            done.add(node.index)
            lines.append(f"    const vec t{node.index} = {_value(node, uniform)};")

    for node in [n for n in reachable(roots) if n.args]:
        for arg in node.args:
            emit(arg)
        emit(node)
    for root in roots:
        emit(root)
    for name, rows in results.items():
        for row, value in enumerate(rows):
            if value is not None:
                address = f"{name} + {row} * LANES"
                before = f"v_load({address}) + " if name.startswith("add_") else ""
                lines.append(f"    v_store({address}, {before}t{value.index});")
    return lines


def reachable(roots: Sequence[Any]) -> list[Expr]:
    """Every node that `roots` depend on, themselves included, in the order of creation; numbers have none."""
    found: dict[int, Expr] = {}
    stack = [r for r in roots if isinstance(r, Expr)]
    while stack:
        node = stack.pop()
        if node.index not in found:
            found[node.index] = node
            stack.extend(node.args)
    return [found[i] for i in sorted(found)]


def _value(node: Expr, uniform: set[str]) -> str:
    if node.op == "const":
        # nine digits say a float32 exactly; e-notation makes it a C floating constant whatever the number
        return f"v_set({float(np.float32(node.value)):.9e}f)"
    if node.op == "input":
        argument, row = node.value
        if argument in uniform:
            return f"v_set({argument}[{row}])"
        return f"v_load({argument} + {row} * LANES)"
    return _C[node.op].format(*(f"t{a.index}" for a in node.args))


def count_flops(build: Callable[..., Mapping[str, Sequence[Any]]], sizes: Sequence[int]) -> int:
    """Floating-point operations (+ - * / sqrt max min, each one) of a recorded function."""
    graph = Graph()
    outputs = build(*(graph.inputs(f"x{i}", n) for i, n in enumerate(sizes)))
    roots = [value for rows in outputs.values() for value in rows]
    return sum(node.op not in ("const", "input") for node in reachable(roots))
