"""The ONNX graph of a policy: written from plain arrays, and read back only if it is that graph.

::

    observation -> Sub mean -> Mul scale -> Clip -> (Gemm -> Relu)* -> Gemm = z
    action = Clip(z / Sqrt(z z + 1), -1, 1)

A GRU stands before one of the Gemm, written out in plain operators: its tensors are the arrays of `Gru`
as they are (ONNX's own GRU orders the gates otherwise and adds an axis of time), and `state` and
`next_state` are a second input and output.
"""

import hashlib

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message
from onnx import helper

from alula.errors import AlulaError
from alula.policies.metadata import MAX_METADATA_BYTES, METADATA_KEY
from alula.policies.network import Gru, Network

IR_VERSION = 8
OPSET = 17
"""Both as of 2022, so that every runtime since ONNX Runtime 1.14 reads the file."""
OPS = frozenset(
    {"Sub", "Mul", "Clip", "Gemm", "Relu", "Add", "Sqrt", "Div", "Split", "Sigmoid", "Tanh"}
)
GRU_TENSORS = {"gru_kernel": 2, "gru_recurrent": 2, "gru_bias": 1, "gru_recurrent_bias": 1}
"""Tensors of a GRU, in the order of `Gru.arrays`, and their numbers of dimensions."""
MAX_LAYERS = 16
MAX_MAGNITUDE = 1e18
"""Largest |z| that the weights may produce: its square must stay within float32."""
MAX_MEAN = 1e30


def build_model(network: Network, metadata: str) -> onnx.ModelProto:
    """The ONNX model of a network, with its metadata.

    Args:
        network: the network; its arrays are stored as float32.
        metadata: JSON text kept under the key `alula`.
    """
    clip = np.float32(network.clip)
    arrays = {
        "observation_mean": network.mean,
        "observation_scale": network.scale,
        "clip_low": -clip,
        "clip_high": clip,
        "one": np.float32(1.0),
        "action_low": np.float32(-1.0),
        "action_high": np.float32(1.0),
    }
    for i, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        arrays[f"weight_{i}"] = w
        arrays[f"bias_{i}"] = b
    inputs = [_rows("observation", network.mean.shape[0])]
    outputs = [_rows("action", network.biases[-1].shape[0])]
    if network.gru is not None:
        arrays |= zip(GRU_TENSORS, network.gru.arrays, strict=True)
        inputs.append(_rows("state", network.state_size))
        outputs.append(_rows("next_state", network.state_size))
    graph = helper.make_graph(
        _nodes(len(network.weights), None if network.gru is None else network.gru_after),
        "alula_policy",
        inputs,
        outputs,
        [_tensor(name, array) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(
        graph, ir_version=IR_VERSION, opset_imports=opsets, producer_name="alula"
    )
    helper.set_model_props(model, {METADATA_KEY: metadata})
    return model


def _rows(name: str, size: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size])


def _nodes(layers: int, gru_after: int | None) -> list[onnx.NodeProto]:
    node = helper.make_node
    nodes = [
        node("Sub", ["observation", "observation_mean"], ["centred"]),
        node("Mul", ["centred", "observation_scale"], ["scaled"]),
        node("Clip", ["scaled", "clip_low", "clip_high"], ["hidden_0"]),
    ]
    for i in range(layers):
        last = i == layers - 1
        out = "z" if last else f"dense_{i}"
        source = f"hidden_{i}"
        if i == gru_after:
            nodes += _gru_nodes(source)
            source = "next_state"
        nodes.append(node("Gemm", [source, f"weight_{i}", f"bias_{i}"], [out]))
        if not last:
            nodes.append(node("Relu", [out], [f"hidden_{i + 1}"]))
    nodes += [
        node("Mul", ["z", "z"], ["z_squared"]),
        node("Add", ["z_squared", "one"], ["radicand"]),
        node("Sqrt", ["radicand"], ["root"]),
        node("Div", ["z", "root"], ["squashed"]),
        # Rounding may leave the quotient one unit above 1.
        node("Clip", ["squashed", "action_low", "action_high"], ["action"]),
    ]
    return nodes


def _gru_nodes(source: str) -> list[onnx.NodeProto]:
    """The GRU of the tensor `source` and the input `state`; see `network.Gru` for the formula."""
    node = helper.make_node
    gates = ("reset", "update", "new")
    return [
        node("Gemm", [source, "gru_kernel", "gru_bias"], ["gru_input"]),
        node("Gemm", ["state", "gru_recurrent", "gru_recurrent_bias"], ["gru_past"]),
        node("Split", ["gru_input"], [f"input_{gate}" for gate in gates], axis=1),
        node("Split", ["gru_past"], [f"past_{gate}" for gate in gates], axis=1),
        node("Add", ["input_reset", "past_reset"], ["reset_sum"]),
        node("Sigmoid", ["reset_sum"], ["reset"]),
        node("Add", ["input_update", "past_update"], ["update_sum"]),
        node("Sigmoid", ["update_sum"], ["update"]),
        # n = tanh(x Wn + bn + r * (h Un + cn))
        node("Mul", ["reset", "past_new"], ["past_admitted"]),
        node("Add", ["input_new", "past_admitted"], ["new_sum"]),
        node("Tanh", ["new_sum"], ["new"]),
        # h' = (1 - z) * n + z * h
        node("Sub", ["one", "update"], ["renewal"]),
        node("Mul", ["renewal", "new"], ["renewed"]),
        node("Mul", ["update", "state"], ["kept"]),
        node("Add", ["renewed", "kept"], ["next_state"]),
    ]


def _tensor(name: str, array: np.ndarray | np.float32) -> onnx.TensorProto:
    data = np.asarray(array, dtype="<f4")
    return onnx.TensorProto(
        name=name, data_type=onnx.TensorProto.FLOAT, dims=data.shape, raw_data=data.tobytes()
    )


def parse_model(data: bytes) -> onnx.ModelProto:
    """The protobuf of an ONNX file; nothing outside the bytes is ever read.

    Raises:
        AlulaError: not a protobuf message, or no graph in it.
    """
    try:
        model = onnx.ModelProto.FromString(data)
    except (DecodeError, UnicodeDecodeError, ValueError):
        raise AlulaError("not an ONNX file, or cut short") from None
    if not model.graph.node:
        raise AlulaError("not an ONNX file, or cut short: it holds no graph")
    return model


def model_metadata(model: onnx.ModelProto) -> str:
    """The JSON text that alula keeps in the model.

    Raises:
        AlulaError: the model has none, more than one, or one of unreasonable size.
    """
    texts = [p.value for p in model.metadata_props if p.key == METADATA_KEY]
    if len(texts) != 1:
        raise AlulaError(
            f"an ONNX file, but not a policy of alula: {len(texts)} metadata properties "
            f"{METADATA_KEY!r}; allowed: one"
        )
    if not isinstance(texts[0], str):
        raise AlulaError("metadata are not UTF-8 text")
    if len(texts[0]) > MAX_METADATA_BYTES:
        raise AlulaError(f"metadata of {len(texts[0])} characters; allowed: {MAX_METADATA_BYTES}")
    return texts[0]


def read_network(model: onnx.ModelProto, metadata: str) -> Network:
    """The network of a model, if the model is exactly what `build_model` writes for it.

    Comparing with a graph written anew leaves a stranger no freedom but the numbers.

    Raises:
        AlulaError: other operators or opset, external data, missing or malformed tensors, numbers
            that are not finite or can overflow, or any other deviation from the one known graph.
    """
    graph = model.graph
    _check_operators(model)
    arrays = {t.name: _array(t) for t in graph.initializer}
    layers = sum(name.startswith("weight_") for name in arrays)
    recurrent = any(name in GRU_TENSORS for name in arrays)
    wanted = {"observation_mean": 1, "observation_scale": 1, "clip_high": 0, "weight_0": 2}
    for i in range(layers):
        wanted |= {f"weight_{i}": 2, f"bias_{i}": 1}
    for name, dimensions in (wanted | (GRU_TENSORS if recurrent else {})).items():
        if name not in arrays or arrays[name].ndim != dimensions:
            raise AlulaError(f"tensor {name!r} is missing or not of {dimensions} dimensions")
    network = Network(
        mean=arrays["observation_mean"],
        scale=arrays["observation_scale"],
        clip=float(arrays["clip_high"]),
        weights=tuple(arrays[f"weight_{i}"] for i in range(layers)),
        biases=tuple(arrays[f"bias_{i}"] for i in range(layers)),
        gru=_gru(arrays) if recurrent else None,
        gru_after=_gru_after(graph, layers) if recurrent else 0,
    )
    check_bounded(network)
    expected = build_model(network, metadata)
    if not (_same(graph, expected.graph) and model.ir_version == expected.ir_version):
        raise AlulaError("the graph is not that of a policy of alula; see docs/policy-file.md")
    return network


def _gru(arrays: dict[str, np.ndarray]) -> Gru:
    kernel, recurrent, bias, recurrent_bias = (arrays[name] for name in GRU_TENSORS)
    return Gru(kernel=kernel, recurrent=recurrent, bias=bias, recurrent_bias=recurrent_bias)


def _gru_after(graph: onnx.GraphProto, layers: int) -> int:
    """Which hidden_<i> the graph leads into the GRU; the rest of it is compared afterwards."""
    sources = [node.input[0] for node in graph.node if "gru_kernel" in node.input]
    places = [i for i in range(layers) if sources == [f"hidden_{i}"]]
    if not places:
        raise AlulaError(f"the GRU stands nowhere between the {layers} layers")
    return places[0]


def _same(one: Message, other: Message) -> bool:
    # Not `==`: the serialised bytes tell apart what the field comparison calls equal (0.0 and -0.0).
    return one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)


def _check_operators(model: onnx.ModelProto) -> None:
    graph = model.graph
    if len(graph.node) > 4 * MAX_LAYERS or len(graph.initializer) > 4 * MAX_LAYERS:
        raise AlulaError(f"{len(graph.node)} nodes; allowed: at most {MAX_LAYERS} layers")
    for node in graph.node:
        if node.op_type not in OPS or node.domain:
            raise AlulaError(f"operator {node.op_type[:40]!r} is not allowed in a policy")
    opsets = [(o.domain[:40], o.version) for o in model.opset_import]
    if opsets != [("", OPSET)]:
        raise AlulaError(f"operator sets {opsets[:3]}; allowed: the standard one, version {OPSET}")
    if model.functions or model.training_info:
        raise AlulaError("functions or training graphs inside; allowed: one plain graph")


def _array(tensor: onnx.TensorProto) -> np.ndarray:
    name = tensor.name[:40]
    # Protobuf hands over bytes where a file's text is not UTF-8.
    if not isinstance(name, str):
        raise AlulaError(f"tensor {name!r}: its name is not UTF-8 text")
    if tensor.external_data or tensor.data_location != onnx.TensorProto.DEFAULT:
        raise AlulaError(f"tensor {name!r} lies outside the file; allowed: everything inside")
    if tensor.data_type != onnx.TensorProto.FLOAT:
        raise AlulaError(f"tensor {name!r} has data type {tensor.data_type}; allowed: float32")
    shape = tuple(tensor.dims)
    count = 1
    for size in shape:
        count *= size
    if len(shape) > 2 or any(s < 1 for s in shape) or len(tensor.raw_data) != 4 * count:
        raise AlulaError(
            f"tensor {name!r} of shape {shape[:4]} holds {len(tensor.raw_data)} bytes; "
            "allowed: 4 for each number"
        )
    # A copy in native order: aligned, writeable, and free of the file's buffer.
    return np.frombuffer(tensor.raw_data, "<f4").reshape(shape).astype(np.float32)


def check_bounded(network: Network) -> None:
    """Refuse a network that could produce an infinity from any finite observation.

    Interval bound, layer by layer, from |x| <= clip::

        bound_j = sum_i |W_ij| max(bound) + |b_j|,   and |z| < 1e18, so that 1 + z^2 is finite

    A GRU's state is at most 1 whatever comes in, if the sums inside its gates are finite.

    Raises:
        AlulaError: clip not positive and finite, or numbers so large that float32 overflows.
    """
    if not 0.0 < network.clip < MAX_MEAN:
        raise AlulaError(f"clip of the normalised observation is {network.clip}; allowed: > 0")
    # Below 1e30, observation - mean cannot overflow for any finite float32 observation.
    if np.abs(network.mean).max() > MAX_MEAN:
        raise AlulaError("observation mean beyond 1e30; allowed: numbers of this world")
    bound = network.clip
    for i, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        if network.gru is not None and i == network.gru_after:
            kernel, recurrent, bias, recurrent_bias = network.gru.arrays
            _check_sum(_largest(kernel, bias, bound) + _largest(recurrent, recurrent_bias, 1.0))
            bound = 1.0
        bound = _check_sum(_largest(w, b, bound))


def _largest(w: np.ndarray, b: np.ndarray, bound: float) -> float:
    """Largest |x W + b| for |x| <= bound."""
    rows = np.abs(w).sum(axis=0, dtype=np.float64) * bound + np.abs(b)
    return float(rows.max())


def _check_sum(bound: float) -> float:
    if bound > MAX_MAGNITUDE:
        raise AlulaError(
            f"the weights can drive the network to {bound:.1e}; allowed: {MAX_MAGNITUDE:.0e}"
        )
    return bound


def weights_sha256(network: Network) -> str:
    """SHA-256 of all numbers as little-endian float32: mean, scale, clip, each W and b, then the GRU's."""
    digest = hashlib.sha256()
    pairs = [a for pair in zip(network.weights, network.biases, strict=True) for a in pair]
    gru = () if network.gru is None else network.gru.arrays
    for array in (network.mean, network.scale, np.float32(network.clip), *pairs, *gru):
        digest.update(np.asarray(array, dtype="<f4").tobytes())
    return digest.hexdigest()
