"""The network as C: for each matrix its tables, the kernel that multiplies with it, and the calls in order."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import assert_never, cast

import numpy as np

from alula.errors import AlulaError
from alula.firmware_export.c_text import fill, table
from alula.firmware_export.quantise import FORMATS, Format, input_factors, int8_product
from alula.policies.network import Network

KERNELS = Path(__file__).parent / "kernels"
WIDTH = 16
"""Outputs whose sums stay in registers at once: half of the 32 float registers of a Cortex-M4F."""


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """One product y = x W + b of the network."""

    name: str
    """Suffix of its tables in the C."""
    note: str
    """What it is, in words."""
    weights: np.ndarray
    """W [inputs, outputs]."""
    bias: np.ndarray
    """b [outputs]."""
    format: Format
    """How it is stored."""


@dataclass(kw_only=True)
class Layers:
    """The C of a network, collected matrix by matrix."""

    tables: list[str] = field(default_factory=list)
    """Weights and biases."""
    calls: list[str] = field(default_factory=list)
    """Lines of the function `infer`."""
    kernels: dict[str, str] = field(default_factory=dict)
    """Functions that the calls need, by name."""
    buffers: dict[str, int] = field(default_factory=dict)
    """Float arrays in `policy_t` and their sizes."""
    factors: np.ndarray | None = None
    """Factors of the inputs of an int8 first matrix (`input_factors`) [O]; None for float32."""
    quantised: bool = False
    """Whether any weights are int8."""
    quantised_words: int = 0
    """Words of `policy_t.quantised`, which holds the activations of an int8-int16 product."""
    output: str = ""
    """Buffer that holds z at the end."""

    def buffer(self, name: str, size: int) -> str:
        """An array of `policy_t` that holds at least `size` floats."""
        self.buffers[name] = max(size, self.buffers.get(name, 0))
        return name


def matrices(network: Network, formats: Sequence[Format] | None = None) -> list[Matrix]:
    """The products of a network in the order of the calls.

    Args:
        network: the network.
        formats: one for each matrix, in the same order; None is float32 for all.

    Raises:
        AlulaError: unknown formats, or not one for each matrix.
    """
    arrays = [
        (str(i), f"layer {i}", w, b)
        for i, (w, b) in enumerate(zip(network.weights, network.biases, strict=True))
    ]
    gru, after = network.gru, network.gru_after
    if gru is not None:
        arrays[after:after] = [
            ("GRU_INPUT", "GRU, input", gru.kernel, gru.bias),
            ("GRU_STATE", "GRU, state", gru.recurrent, gru.recurrent_bias),
        ]
    chosen = ["float32"] * len(arrays) if formats is None else list(formats)
    if len(chosen) != len(arrays) or not set(chosen) <= set(FORMATS):
        names = ", ".join(note for _, note, _, _ in arrays)
        raise AlulaError(
            f"matrix formats {', '.join(map(str, chosen))}; allowed: one of {', '.join(FORMATS)} "
            f"for each of: {names}"
        )
    return [
        Matrix(name=name, note=note, weights=w, bias=b, format=cast(Format, f))
        for (name, note, w, b), f in zip(arrays, chosen, strict=True)
    ]


def c_layers(network: Network, formats: Sequence[Format] | None = None) -> Layers:
    """The C of everything between the normalised observation, in `scratch_a`, and z."""
    layers = Layers()
    source = layers.buffer("scratch_a", network.mean.size)
    last = str(len(network.weights) - 1)
    first, *others = matrices(network, formats)
    if first.format != "float32":
        layers.factors = input_factors(first.weights)
        first = replace(first, weights=first.weights / layers.factors[:, None])
    for matrix in (first, *others):
        inputs, outputs = matrix.weights.shape
        if matrix.name == "GRU_STATE":
            state = layers.buffer("recurrent", inputs)
            _add_product(layers, matrix, state, layers.buffer("gates", outputs))
            layers.kernels["gru"] = (KERNELS / "gru.c").read_text(encoding="ascii")
            layers.calls.append(
                f"    gru(policy->{source}, policy->gates, policy->recurrent, {inputs}u);"
            )
            source = "recurrent"
            continue
        target = layers.buffer("scratch_a" if source == "scratch_b" else "scratch_b", outputs)
        _add_product(layers, matrix, source, target)
        if matrix.name not in (last, "GRU_INPUT"):
            layers.kernels["relu"] = (KERNELS / "relu.c").read_text(encoding="ascii")
            layers.calls.append(f"    relu(policy->{target}, {outputs}u);")
        source = target
    checks = [f"all_below(HUGE_BITS, policy->{source}, {network.biases[-1].size}u)"]
    damaged = ["        return 0;"]
    if network.gru is not None:
        checks.append(f"all_below(TWO_BITS, policy->recurrent, {network.state_size}u)")
        damaged.insert(0, "        memset(policy->recurrent, 0, sizeof policy->recurrent);")
    layers.calls += [f"    if (!({' && '.join(checks)})) {{", *damaged, "    }"]
    layers.output = source
    return layers


def _add_product(layers: Layers, matrix: Matrix, source: str, target: str) -> None:
    """The tables, kernels and calls of one product."""
    match matrix.format:
        case "float32":
            _add_float32(layers, matrix, source, target)
        case "int8-float" | "int8-int16":
            _add_int8(layers, matrix, source, target)
        case _:
            assert_never(matrix.format)


def _add_float32(layers: Layers, matrix: Matrix, source: str, target: str) -> None:
    """Blocks of WIDTH outputs, then the rest."""
    inputs, outputs = matrix.weights.shape
    full = outputs // WIDTH
    parts = [(WIDTH, full), (outputs - WIDTH * full, 1)]
    blocked, start = [], 0
    for width, blocks in parts:
        if width == 0 or blocks == 0:
            continue
        layers.kernels[f"dense_{width}"] = _dense_kernel(width)
        skip_w = f" + {start * inputs}u" if start else ""
        skip = f" + {start}u" if start else ""
        layers.calls.append(
            f"    dense_{width}(policy->{source}, {inputs}u, WEIGHT_{matrix.name}{skip_w}, "
            f"BIAS_{matrix.name}{skip}, {blocks}u, policy->{target}{skip});"
        )
        stop = start + width * blocks
        columns = matrix.weights[:, start:stop].reshape(inputs, blocks, width)
        blocked.append(columns.transpose(1, 0, 2).ravel())
        start = stop
    note = f"{matrix.note}, {inputs} inputs x {outputs}"
    layers.tables += [
        table(f"WEIGHT_{matrix.name}", np.concatenate(blocked), f"{note}, in blocks of outputs"),
        table(f"BIAS_{matrix.name}", matrix.bias, matrix.note),
    ]


def _add_int8(layers: Layers, matrix: Matrix, source: str, target: str) -> None:
    """Four outputs at a time: tables and results are rounded up to that."""
    product = int8_product(
        matrix.weights,
        matrix.bias,
        matrix.format,
        name=matrix.name,
        note=matrix.note,
        source=f"policy->{source}",
        target=f"policy->{target}",
    )
    layers.kernels[product.kernel] = (KERNELS / product.kernel).read_text(encoding="ascii")
    layers.tables += product.tables
    layers.calls.append(f"    {product.call}")
    layers.buffer(target, product.outputs)
    layers.quantised = True
    layers.quantised_words = max(layers.quantised_words, product.scratch_words)


def _dense_kernel(width: int) -> str:
    """`dense_WIDTH`: its sums are so many local variables, so that they stay in registers."""

    def lines(indent: int, text: str) -> str:
        return "\n".join(" " * indent + text.format(k=k) for k in range(width))

    return fill(
        KERNELS / "dense_float32.c",
        {
            "WIDTH": str(width),
            "START": lines(8, "float s{k} = b[{k}];"),
            "ACCUMULATE": lines(12, "s{k} += xi * w[{k}];"),
            "STORE": lines(8, "y[{k}] = s{k};"),
        },
    )
