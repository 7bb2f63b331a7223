"""Files that must be refused: each with one AlulaError of one line, and nothing else."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from runpy import run_path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from alula.errors import AlulaError
from alula.policies import onnx_file
from alula.policies.metadata import METADATA_KEY, sealed
from alula.policies.onnx_file import load_policy, policy_from_bytes, write_policy
from alula.policies.onnx_graph import read_network, weights_sha256

example = run_path(str(Path(__file__).parent / "example.py"))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    network, contract = example["make_policy"](hidden=(8, 8), past_actions=3)
    path = tmp_path_factory.mktemp("policy") / "policy.onnx"
    write_policy(path, network, contract)
    return path


@pytest.fixture(scope="module")
def recurrent_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("recurrent") / "policy.onnx"
    write_policy(path, *example["make_gru_policy"](before=(8,), state=8))
    return path


def refused(path, match, **kwargs):
    with pytest.raises(AlulaError, match=match) as caught:
        load_policy(path, **kwargs)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500


def saved(tmp_path, model):
    target = tmp_path / "changed.onnx"
    target.write_bytes(model.SerializeToString())
    return target


def with_metadata(tmp_path, path, change):
    model = onnx.load(path)
    value = json.loads(model.metadata_props[0].value)
    recorded = value["sha256"]
    changed = change(value)
    value = value if changed is None else changed
    text = value if isinstance(value, str) else json.dumps(resealed(value, recorded))
    model.metadata_props[0].value = text
    return saved(tmp_path, model)


def resealed(value, recorded):
    """With the SHA-256 of what now stands there, as a cunning forger would, unless that was what changed."""
    whole = isinstance(value, dict) and value.get("sha256") == recorded
    return sealed(value) if whole else value


def tensor(model, name):
    return next(t for t in model.graph.initializer if t.name == name)


def set_array(model, name, array):
    tensor(model, name).CopyFrom(numpy_helper.from_array(np.asarray(array, np.float32), name))


def with_fresh_hash(tmp_path, model):
    """Save a tampered model with the SHA-256 of its new weights, as a cunning forger would."""
    value = json.loads(model.metadata_props[0].value)
    value["weights_sha256"] = weights_sha256(read_network(model, model.metadata_props[0].value))
    model.metadata_props[0].value = json.dumps(sealed(value))
    return saved(tmp_path, model)


def test_unchanged_file_loads(path, tmp_path):
    load_policy(path)
    load_policy(with_metadata(tmp_path, path, lambda m: None))


@pytest.mark.parametrize(
    "where", ["throttle", '"initial":-0.25', "rot_wb", '"high":1.0', '"delay":0.0']
)
def test_damaged_metadata(path, tmp_path, where):
    """A flipped bit that leaves JSON of the right form is found all the same."""
    model = onnx.load(path)
    text = model.metadata_props[0].value
    assert where in text
    k = text.index(where) + len(where) - 1
    model.metadata_props[0].value = text[:k] + chr(ord(text[k]) ^ 1) + text[k + 1 :]
    refused(saved(tmp_path, model), "metadata are not the recorded ones")


def test_missing_folder_and_special_files(path, tmp_path):
    refused(tmp_path / "none.onnx", "cannot be read")
    refused(tmp_path, "not a regular file")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not a regular file")
    with pytest.raises(AlulaError, match="cannot be read"):
        load_policy("nul\0byte.onnx")


@pytest.mark.parametrize("seventh", range(7))
def test_truncated(path, tmp_path, seventh):
    data = path.read_bytes()
    target = tmp_path / "cut.onnx"
    target.write_bytes(data[: len(data) * seventh // 7])
    refused(target, "cut short|not a policy|metadata|graph|tensor|operator")


@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_garbage(tmp_path, size):
    target = tmp_path / "noise.onnx"
    target.write_bytes(np.random.default_rng(size).bytes(size))
    refused(target, "not an ONNX file")


def test_foreign_onnx(tmp_path):
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    refused(saved(tmp_path, helper.make_model(graph)), "an ONNX file, but not a policy of alula")


def test_oversized(tmp_path):
    target = tmp_path / "big.onnx"
    with target.open("wb") as file:
        file.truncate(onnx_file.MAX_FILE_BYTES + 1)
    refused(target, "larger than the allowed 16000000 bytes")


def test_oversized_metadata(path, tmp_path):
    refused(
        with_metadata(tmp_path, path, lambda m: " " * 8_000_001), "metadata of 8000001 characters"
    )


def test_two_metadata(path, tmp_path):
    model = onnx.load(path)
    model.metadata_props.add(key=METADATA_KEY, value="{}")
    refused(saved(tmp_path, model), "2 metadata properties")


def test_external_data_is_never_followed(path, tmp_path):
    (tmp_path / "secret.bin").write_bytes(bytes(4 * 4))
    for flagged in (True, False):
        model = onnx.load(path)
        bias = tensor(model, "bias_2")
        bias.ClearField("raw_data")
        bias.external_data.add(key="location", value="secret.bin")
        if flagged:
            bias.data_location = onnx.TensorProto.EXTERNAL
        refused(saved(tmp_path, model), "'bias_2' lies outside the file")


def test_tampered_weight(path, tmp_path):
    model = onnx.load(path)
    bias = numpy_helper.to_array(tensor(model, "bias_2"))
    set_array(model, "bias_2", bias + 0.001)
    refused(saved(tmp_path, model), "SHA-256 differs")
    refused(with_fresh_hash(tmp_path, model), "does not reproduce its golden sequences")


def test_tampered_golden_action(path, tmp_path):
    def change(m):
        m["golden"][5]["action"][4][2] += 2e-5

    refused(with_metadata(tmp_path, path, change), "largest difference .*e-05; allowed: 1e-05")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["weight_1", "bias_0", "observation_mean", "observation_scale"])
def test_not_finite_weight(path, tmp_path, name, value):
    model = onnx.load(path)
    array = numpy_helper.to_array(tensor(model, name)).copy()
    array.flat[3] = value
    set_array(model, name, array)
    refused(saved(tmp_path, model), "NaN or infinite")


def test_weights_that_overflow(path, tmp_path):
    model = onnx.load(path)
    set_array(model, "weight_1", np.full((8, 8), 1e30))
    refused(saved(tmp_path, model), "can drive the network")


@pytest.mark.parametrize("clip", [0.0, -1.0, np.nan, np.inf])
def test_bad_clip(path, tmp_path, clip):
    model = onnx.load(path)
    set_array(model, "clip_high", clip)
    set_array(model, "clip_low", -clip)
    refused(saved(tmp_path, model), "clip of the normalised observation")


def change_graph(name):
    def apply(model):
        graph = model.graph
        match name:
            case "operator":
                graph.node[2].op_type = "Loop"
            case "domain":
                graph.node[2].domain = "com.example"
            case "other whitelisted operator":
                graph.node[0].op_type = "Add"
            case "attribute":
                graph.node[3].attribute.add(name="alpha", f=2.0, type=1)
            case "order":
                graph.node[0].input[:] = reversed(graph.node[0].input)
            case "extra node":
                graph.node.append(graph.node[-1])
            case "missing node":
                del graph.node[-1]
            case "input name":
                graph.input[0].name = "obs"
            case "input shape":
                graph.input[0].type.tensor_type.shape.dim[1].dim_value += 1
            case "output type":
                graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
            case "opset":
                model.opset_import[0].version = 999
            case "opset domain":
                model.opset_import.add(domain="com.example", version=1)
            case "ir version":
                model.ir_version = 3
            case "function":
                model.functions.add(name="f")
            case "training graph":
                model.training_info.add()
            case "sparse":
                graph.sparse_initializer.add()
            case "clip low":
                set_array(model, "clip_low", -1.0)
            case "one":
                set_array(model, "one", 2.0)
            case "final clip":
                set_array(model, "action_high", 7.0)
            case "double initialiser":
                graph.initializer.append(tensor(model, "bias_0"))
            case "extra initialiser":
                graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "x"))
            case "many initialisers":
                for i in range(200):
                    graph.initializer.add(name=f"x{i}")
            case "missing initialiser":
                del graph.initializer[list(graph.initializer).index(tensor(model, "bias_1"))]
            case "missing first layer":
                tensor(model, "weight_0").name = "weight_7"
            case "transposed":
                tensor(model, "weight_0").dims[:] = reversed(tensor(model, "weight_0").dims)
            case "dimensions":
                tensor(model, "bias_0").dims[:] = [2, 4]
            case "negative dimension":
                tensor(model, "bias_0").dims[:] = [-8]
            case "two negative dimensions":
                tensor(model, "bias_0").dims[:] = [-2, -4]
            case "huge dimension":
                tensor(model, "bias_0").dims[:] = [2**62, 2**62]
            case "many dimensions":
                tensor(model, "bias_0").dims[:] = [1] * 5000 + [8]
            case "short data":
                tensor(model, "bias_0").raw_data = b"\0" * 31
            case "double precision":
                tensor(model, "bias_0").data_type = onnx.TensorProto.DOUBLE
            case "float_data":
                tensor(model, "bias_0").float_data.append(1.0)
            case "doc string":
                graph.doc_string = "hello"

    return apply


@pytest.mark.parametrize(
    ("what", "match"),
    [
        ("operator", "operator 'Loop' is not allowed"),
        ("domain", "operator 'Clip' is not allowed"),
        ("other whitelisted operator", "not that of a policy"),
        ("attribute", "not that of a policy"),
        ("order", "not that of a policy"),
        ("extra node", "not that of a policy"),
        ("missing node", "not that of a policy"),
        ("input name", "not that of a policy"),
        ("input shape", "not that of a policy"),
        ("output type", "not that of a policy"),
        ("opset", "operator sets"),
        ("opset domain", "operator sets"),
        ("ir version", "not that of a policy"),
        ("function", "functions or training"),
        ("training graph", "functions or training"),
        ("sparse", "not that of a policy"),
        ("clip low", "not that of a policy"),
        ("one", "not that of a policy"),
        ("final clip", "not that of a policy"),
        ("double initialiser", "not that of a policy"),
        ("extra initialiser", "not that of a policy"),
        ("many initialisers", "at most 16 layers"),
        ("missing initialiser", "tensor 'bias_1' is missing"),
        ("missing first layer", "tensor 'weight_0' is missing"),
        ("transposed", "do not fit together"),
        ("dimensions", "tensor 'bias_0' is missing or not of 1 dim"),
        ("negative dimension", "holds 32 bytes"),
        ("two negative dimensions", "holds 32 bytes"),
        ("huge dimension", "holds 32 bytes"),
        ("many dimensions", "holds 32 bytes"),
        ("short data", "holds 31 bytes"),
        ("double precision", "data type 11; allowed: float32"),
        ("float_data", "not that of a policy"),
        ("doc string", "not that of a policy"),
    ],
)
def test_other_graph(path, tmp_path, what, match):
    model = onnx.load(path)
    change_graph(what)(model)
    refused(saved(tmp_path, model), match)


@dataclass(frozen=True)
class Body:
    name: str
    hash: str


def test_wrong_robot_names_both(path):
    load_policy(path, robot=Body("crazyflie", "ab" * 32))
    refused(
        path,
        "robot 'crazyflie' .hash abababababab., not for 'x500' .hash cdcdcdcdcdcd",
        robot=Body("x500", "cd" * 32),
    )
    refused(path, "not for 'crazyflie' .hash cdcdcdcdcdcd", robot=Body("crazyflie", "cd" * 32))
    refused(path, "not for 'x500'", robot=Body("x500", "ab" * 32))


def test_wrong_schema_version(path, tmp_path):
    for version in (0, 2, "1", None, 10**4000, True):
        changed = with_metadata(
            tmp_path, path, lambda m, v=version: m["contract"].update(schema_version=v)
        )
        refused(changed, "schema version|schema_version")


def test_metadata_of_another_network(path, tmp_path):
    _, contract = example["make_policy"](past_actions=2)
    entries = contract.to_json()["observation"]

    def change(m):
        m["contract"]["observation"] = entries

    refused(with_metadata(tmp_path, path, change), "the network takes 30 floats .* says 26")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "3",
        '"x"',
        "[" * 100_000,
        '{"contract":' * 50_000,
        "9" * 5000,
        "{}",
        "NaN",
    ],
)
def test_metadata_that_are_no_object(path, tmp_path, text):
    refused(with_metadata(tmp_path, path, lambda m: text), "metadata|lacks")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("field", ['"control_dt": 0.01', '"success": 0.997'])
def test_not_finite_numbers(path, tmp_path, field, number):
    def change(m):
        text = json.dumps(m)
        assert field in text
        return text.replace(field, field.split(":")[0] + ": " + number)

    refused(with_metadata(tmp_path, path, change), "allowed: finite numbers")


TOP = ["contract", "golden", "golden_runtime", "weights_sha256", "sha256"]
CONTRACT = [
    "robot",
    "robot_hash",
    "task",
    "control_dt",
    "observation",
    "action",
    "recurrent_state_size",
    "training",
    "schema_version",
]
OBSERVATION = ["name", "unit", "frame", "size", "history", "delay", "noise", "initial"]
ACTION = ["name", "low", "high", "unit", "meaning"]
PLACES = [
    *(((), k) for k in TOP),
    *((("contract",), k) for k in CONTRACT),
    *((("contract", "observation", 1), k) for k in OBSERVATION),
    *((("contract", "action", 3), k) for k in ACTION),
    *((("golden", 2), k) for k in ("supplied", "action")),
]


def at(value, where):
    for key in where:
        value = value[key]
    return value


@pytest.mark.parametrize(("where", "key"), PLACES)
def test_missing_and_mistyped_fields(path, tmp_path, where, key):
    def without(m):
        del at(m, where)[key]

    refused(with_metadata(tmp_path, path, without), f"lacks '{key}'|schema version")
    for wrong in (
        None,
        True,
        [],
        {},
        [None],
        {"a": 1},
        "\n",
        "\x1b[2J",
        "\ud800",
        -1,
        1e31,
        10**400,
        "x" * 201,
    ):
        if key == "training" and isinstance(wrong, dict):
            continue
        if wrong == -1 and key in ("delay", "noise", "initial", "low", "high"):
            continue

        def mistyped(m, wrong=wrong):
            at(m, where)[key] = wrong

        refused(
            with_metadata(tmp_path, path, mistyped),
            "allowed|schema|shape|golden|at least|supplies|SHA",
        )


@pytest.mark.parametrize(
    "where", [(), ("contract",), ("contract", "observation", 0), ("golden", 0)]
)
def test_unknown_field(path, tmp_path, where):
    refused(
        with_metadata(tmp_path, path, lambda m: at(m, where).update(surprise=1)),
        "unknown 'surprise'",
    )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m: m["contract"]["observation"][0].update(size=10**9), "0..4096|1..4096"),
        (lambda m: m["contract"]["observation"][0].update(size=0), "1..4096"),
        (lambda m: m["contract"]["observation"][2].update(history=10**6), "1..1024"),
        (lambda m: m["contract"]["observation"][2].update(history=2.5), "whole number"),
        (lambda m: m["contract"]["observation"][2].update(size=3), "previous_action has size 3"),
        (lambda m: m["contract"]["observation"][0].update(name="rot_wb"), "distinct names"),
        (lambda m: m["contract"]["action"][0].update(name="M2"), "distinct names"),
        (
            lambda m: m["contract"].update(observation=m["contract"]["observation"] * 60),
            "at most 256",
        ),
        (lambda m: m["contract"].update(observation=m["contract"]["observation"][2:3]), "supplies"),
        (lambda m: m["contract"].update(recurrent_state_size=4), "recurrent"),
        (lambda m: m["contract"].update(control_dt=0), "control_dt"),
        (lambda m: m["contract"].update(control_dt=-0.01), "control_dt"),
        (lambda m: m["contract"].update(training={"a": ["\x07"]}), "printable"),
        (lambda m: m["contract"].update(training={"\x07": 1}), "printable"),
        (lambda m: m["golden"].pop(), "7 golden sequences; allowed: at least 8"),
        (lambda m: m["golden"].extend(m["golden"] * 10), "at most 64"),
        (lambda m: m["golden"][0]["supplied"].pop(), "one shape"),
        (lambda m: [g["supplied"].pop() for g in m["golden"]], "have shape"),
        (
            lambda m: [g.update(supplied=g["supplied"][:3]) for g in m["golden"]],
            "3 steps; allowed: more than the longest history 3",
        ),
        (lambda m: m["golden"][0]["supplied"][0].append(0.0), "one shape"),
        (lambda m: m["golden"][0]["supplied"][0].__setitem__(0, "1"), "list of numbers"),
        (lambda m: m["golden"][0]["supplied"][0].__setitem__(0, True), "list of numbers"),
        (lambda m: m["golden"][0]["supplied"][0].__setitem__(0, 1e39), "beyond float32"),
        (lambda m: m["golden"][0]["supplied"][0].__setitem__(0, 10**400), "not arrays of numbers"),
        (lambda m: m.update(weights_sha256="0" * 64), "SHA-256 differs"),
    ],
)
def test_out_of_bounds(path, tmp_path, change, match):
    def apply(m):
        change(m)

    refused(with_metadata(tmp_path, path, apply), match)


@pytest.mark.parametrize("kind", ["path", "recurrent_path"])
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_bytes_load_or_are_refused(request, kind, data):
    original = bytearray(request.getfixturevalue(kind).read_bytes())
    # Half of the damage goes to the beginning, where the graph is.
    place = st.one_of(
        st.integers(0, len(original) - 1),
        st.integers(0, min(2000, len(original) - 1)),
    )
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(place) % len(original)
        if data.draw(st.booleans()):
            original[index] ^= data.draw(st.integers(1, 255))
        else:
            original[index : index + data.draw(st.integers(1, 40))] = data.draw(
                st.binary(max_size=40)
            )
    try:
        policy = policy_from_bytes(bytes(original), name="damaged")
    except AlulaError as e:
        message = str(e)
    else:
        message = ""
    if not message:
        observation = np.zeros((1, policy.contract.observation_size))
        assert np.isfinite(policy.controller()(observation)).all()
    assert "\n" not in message


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data):
    with pytest.raises(AlulaError):
        policy_from_bytes(data, name="noise")
