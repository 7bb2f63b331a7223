"""Weights as int8: the numbers, their layout in C, and the arithmetic of the kernels in numpy (docs/quantisation.md)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from alula.firmware_export.c_text import table, word_table
from alula.policies.network import Network, Step

Format = Literal["float32", "int8-float", "int8-int16"]
"""How a matrix is stored and multiplied; the later, the smaller its flash or time."""
FORMATS: tuple[Format, ...] = get_args(Format)
LARGEST = 127
"""Largest |q|; -128 stays unused, so that the range is symmetric and needs no zero point."""
BLOCK = 4
"""Outputs that a kernel computes at once: tables and results are rounded up to it."""
SUM_LIMIT = 2**31 - 1
"""Largest sum that an int32 holds."""
SMALLEST_EXPONENT = -10
"""Exponent of the smallest input factor."""
MAX_BITS = 15
"""Bits of an int16 without its sign."""


def quantise(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 weights with one scale an output: W_ij = s_j q_ij within s_j / 2.

    Args:
        weights: W [I, O].

    Returns:
        q [I, O], int8 in [-127, 127], and s [O], float32. A column of zeros, or of numbers so small that its
        scale would not be a normal float32, gives zeros.
    """
    exact = np.asarray(weights, np.float64)
    # s_j = max_i |W_ij| / 127,   q_ij = W_ij / s_j to the nearest
    scale = (np.abs(exact).max(axis=0) / LARGEST).astype(np.float32)
    scale[scale < np.finfo(np.float32).tiny] = 0.0
    ratio = np.divide(exact, scale, out=np.zeros_like(exact), where=scale > 0.0)
    return np.clip(np.rint(ratio), -LARGEST, LARGEST).astype(np.int8), scale


def input_factors(weights: np.ndarray) -> np.ndarray:
    """Powers of two r [I] that give the rows of W_ij / r_i [I, O] about the same size: at most 1, at least 2^-10.

    For the matrix that the observation goes into, whose inputs x_i r_i cost one multiplication each. Its rows differ
    by a factor of ten and more (a position counts for more than an action of 0.2 s ago), and a scale for the
    largest would leave few steps for the others.
    """
    largest = np.abs(np.asarray(weights, np.float64)).max(axis=1)
    relative = np.maximum(
        largest / max(largest.max(), np.finfo(np.float64).tiny), 2.0**SMALLEST_EXPONENT
    )
    return np.exp2(np.rint(np.log2(relative))).astype(np.float32)


def activation_bits(q: np.ndarray) -> int:
    """Bits of the int16 activations in front of weights q [I, O]: the most with which no sum can overflow.

    15 for up to 516 inputs, whatever the weights; fewer only for large sums of |q|.
    """
    # |sum_i x_i q_ij| < 2^bits max_j sum_i |q_ij| <= 2^31 - 1
    largest = int(np.abs(q.astype(np.int64)).sum(axis=0).max())
    return min(MAX_BITS, (SUM_LIMIT // max(largest, 1)).bit_length() - 1)


def dense_int8_float(
    x: np.ndarray, q: np.ndarray, scale: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """The products y [N, O] for x [N, I], as kernels/dense_int8_float.c computes it, sum by sum, without fused products."""
    x, weights = np.asarray(x, np.float32), q.astype(np.float32)
    total = np.zeros((len(x), q.shape[1]), np.float32)
    for i in range(q.shape[0]):
        total += x[:, i, None] * weights[i]
    # y_j = b_j + s_j sum_i x_i q_ij
    return bias.astype(np.float32) + scale * total


def quantise_activations(x: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers [N, I] and the unit 2^-k [N] of each row, as `quantise` in kernels/dense_int8_int16.c.

    The unit is the smallest power of two with which every whole number is below 2^bits; ties go to even. A row
    with NaN or infinity gives zeros and the unit NaN.
    """
    magnitude = np.abs(np.asarray(x, np.float32)).view(np.uint32).max(axis=1)
    # max |x| < 2^(e - 126), e one more where it would round to 2^bits:   k = bits + 126 - e
    e = (np.maximum(magnitude, bits << 23) + (1 << 23 >> bits)).astype(np.int64) >> 23
    finite = e < 255
    k = np.where(finite, bits + 126 - e, 0)
    rows = np.where(finite[:, None], x, 0.0).astype(np.float64)
    whole = np.rint(np.ldexp(rows, k[:, None])).astype(np.int64)
    unit = np.where(finite, np.ldexp(1.0, -k), np.nan).astype(np.float32)
    return whole, unit


def dense_int8_int16(
    x: np.ndarray, q: np.ndarray, scale: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """The products y [N, O] for x [N, I], as kernels/dense_int8_int16.c computes it, without fused products."""
    whole, unit = quantise_activations(x, activation_bits(q))
    sums = (whole @ q.astype(np.int64)).astype(np.int32)
    # y_j = b_j + s_j (2^-k sum_i x_i q_ij)
    return bias.astype(np.float32) + scale * (unit[:, None] * sums.astype(np.float32))


def network_step(network: Network, formats: Sequence[Format]) -> Step:
    """One step of a network whose matrices have these formats, in numpy: what the exported C computes.

    Args:
        network: the float32 network.
        formats: of its matrices, in the order of the calls; those of a GRU stand before layer `gru_after`.
    """
    chosen = iter(formats)
    gru, factors = network.gru, np.ones(network.mean.size, np.float32)
    if formats[0] != "float32":
        first = network.weights[0] if gru is None or network.gru_after else gru.kernel
        factors = input_factors(first)
    layers, gates = [], []
    rows = factors[:, None]
    for i, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        if gru is not None and i == network.gru_after:
            gates.append(_product(gru.kernel / rows, gru.bias, next(chosen)))
            gates.append(_product(gru.recurrent, gru.recurrent_bias, next(chosen)))
            rows = np.float32(1.0)
        layers.append(_product(w / rows, b, next(chosen)))
        rows = np.float32(1.0)

    def step(observation: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        h = np.clip((observation - network.mean) * network.scale, -network.clip, network.clip)
        h = h * factors
        for i, layer in enumerate(layers):
            if gru is not None and i == network.gru_after:
                h = state = gru.update(gates[0](h), gates[1](state), state)
            h = layer(h)
            if i + 1 < len(layers):
                h = np.maximum(h, 0.0)
        return h / np.sqrt(1.0 + h * h), state

    return step


def _product(
    weights: np.ndarray, bias: np.ndarray, format: Format
) -> Callable[[np.ndarray], np.ndarray]:
    """The product x W + b in a format."""
    if format == "float32":
        return lambda x: x @ weights + bias
    q, scale = quantise(weights)
    kernel = dense_int8_int16 if format == "int8-int16" else dense_int8_float
    return lambda x: kernel(x, q, scale, bias)


def float_words(q: np.ndarray) -> np.ndarray:
    """Weights [I, O] as the words [block][input] of dense_int8_float: four outputs, the first in the lowest byte."""
    blocks = _padded(q, 1)
    parts = blocks.astype(np.uint8).astype(np.uint32) << np.arange(0, 32, 8, dtype=np.uint32)
    return np.bitwise_or.reduce(parts, axis=2).ravel()


def int16_words(q: np.ndarray) -> np.ndarray:
    """Weights [I, O] as the words [block][pair of inputs][2] of dense_int8_int16.

    Each half of a word is 256 w_i,j+1 + w_ij, the first input in the low half; inputs are rounded up to four.
    """
    blocks = _padded(q, 4).astype(np.int32)
    halves = 256 * blocks[..., 1::2] + blocks[..., 0::2]
    pairs = (halves & 0xFFFF).astype(np.uint32)
    return (pairs[:, 0::2] | pairs[:, 1::2] << 16).ravel()


def _padded(q: np.ndarray, inputs: int) -> np.ndarray:
    """Weights as [block, input, BLOCK], both sizes rounded up with zeros, the inputs to a multiple of `inputs`."""
    rows, columns = -q.shape[0] % inputs, -q.shape[1] % BLOCK
    full = np.pad(q, ((0, rows), (0, columns)))
    return full.reshape(full.shape[0], -1, BLOCK).transpose(1, 0, 2)


@dataclass(frozen=True, kw_only=True)
class Product:
    """The C of one product y = x W + b with int8 weights."""

    kernel: str
    """File in kernels/ that holds its function."""
    tables: tuple[str, ...]
    """Definitions of its tables."""
    call: str
    """The statement that computes it."""
    scratch_words: int
    """Words of `uint32_t policy_t.quantised` it needs; 0 for none."""
    outputs: int
    """Floats that it writes: the outputs rounded up to BLOCK."""


def int8_product(
    weights: np.ndarray,
    bias: np.ndarray,
    format: Format,
    *,
    name: str,
    note: str,
    source: str,
    target: str,
) -> Product:
    """The C of a product in one of the int8 formats.

    Args:
        weights: W [I, O].
        bias: b [O].
        format: int8-float or int8-int16.
        name: suffix of its tables in the C.
        note: what it is, in words.
        source: C expression of x.
        target: C expression of y, with room for the outputs rounded up to BLOCK.
    """
    q, scale = quantise(weights)
    inputs, outputs = q.shape
    blocks = -(-outputs // BLOCK)
    padding = (0, BLOCK * blocks - outputs)
    arguments = f"WEIGHT_{name}, SCALE_{name}, BIAS_{name}, {blocks}u"
    if format == "int8-int16":
        words, scratch = int16_words(q), 2 * (-(-inputs // 4))
        call = (
            f"dense_int8_int16({source}, {inputs}u, {activation_bits(q)}u, {arguments}, "
            f"policy->quantised, {target});"
        )
    else:
        words, scratch = float_words(q), 0
        call = f"dense_int8_float({source}, {inputs}u, {arguments}, {target});"
    text = f"{note}, {inputs} inputs x {outputs}, {format}"
    return Product(
        kernel=f"dense_{format.replace('-', '_')}.c",
        tables=(
            word_table(f"WEIGHT_{name}", words, f"{text}, four int8 a word"),
            table(f"SCALE_{name}", np.pad(scale, padding), f"{note}, weight of 1, by output"),
            table(f"BIAS_{name}", np.pad(bias, padding), note),
        ),
        call=call,
        scratch_words=scratch,
        outputs=BLOCK * blocks,
    )


def table_bytes(inputs: int, outputs: int, format: Format) -> int:
    """Flash of the tables of one matrix and its bias [B]."""
    if format == "float32":
        return 4 * (inputs + 1) * outputs
    columns = -(-outputs // BLOCK) * BLOCK
    rows = -(-inputs // 4) * 4 if format == "int8-int16" else inputs
    return (rows + 8) * columns
