"""Policy files with a GRU: written, loaded, replayed, told about, and refused."""

import json
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from alula.errors import AlulaError
from alula.policies.contract import ActionEntry, Contract, ObservationEntry
from alula.policies.golden import replay
from alula.policies.metadata import sealed
from alula.policies.network import Controller, Gru, Network
from alula.policies.onnx_file import inspect_policy, load_policy, write_policy
from alula.policies.onnx_graph import read_network, weights_sha256

example = run_path(str(Path(__file__).parent / "example.py"))
SCHEMA = Path(__file__).parents[2] / "docs" / "policy-schema.json"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("policy") / "policy.onnx"
    write_policy(path, *example["make_gru_policy"]())
    return path


def gru_only():
    """One input x; r = 3/4 for x = 1, z = 1/5, n = tanh(x / 4 + 1/2 + r (2 h - 2)); z_out = 7.5 h'."""
    network = Network(
        mean=np.zeros(1),
        scale=np.ones(1),
        clip=3.0,
        weights=(np.array([[7.5]]),),
        biases=(np.zeros(1),),
        gru=Gru(
            kernel=np.array([[np.log(3.0), 0.0, 0.25]]),
            recurrent=np.array([[0.0, 0.0, 2.0]]),
            bias=np.array([0.0, -np.log(4.0), 0.5]),
            recurrent_bias=np.array([0.0, 0.0, -2.0]),
        ),
    )
    contract = Contract(
        robot="r",
        robot_hash="h",
        task="t",
        control_dt=0.01,
        observation=(ObservationEntry(name="x", unit="-", frame="-", size=1),),
        action=(ActionEntry(name="M1", low=0.0, high=1.0, unit="-", meaning="throttle"),),
        recurrent_state_size=1,
        training={},
    )
    return network, contract


def test_graph_gives_the_hand_computed_step(tmp_path):
    write_policy(tmp_path / "p.onnx", *gru_only())
    policy = load_policy(tmp_path / "p.onnx")
    # n = tanh(0.25 + 0.5 + 0.75 (2 * 0.5 - 2)) = 0, h' = 0.8 * 0 + 0.2 * 0.5 = 0.1,
    # 7.5 h' = 0.75, 0.75 / sqrt(1.5625) = 0.6; the second robot's h = -0.5:
    # n = tanh(0.75 - 2.25) = tanh(-1.5) = -0.9051483, h' = 0.8 n - 0.1 = -0.8241186,
    # 7.5 h' = -6.1808895, over sqrt(1 + 38.2033953) = -0.9871636
    action, state = policy.step(np.ones((2, 1)), np.array([[0.5], [-0.5]]))
    np.testing.assert_allclose(state, [[0.1], [-0.8241186]], rtol=0, atol=2e-7)
    np.testing.assert_allclose(action, [[0.6], [-0.9871636]], rtol=0, atol=1e-6)


def test_what_was_written_is_what_is_loaded(path):
    network, contract = example["make_gru_policy"]()
    policy = load_policy(path)
    assert policy.contract == contract
    assert policy.network.gru_after == 1
    assert policy.network.gru is not None
    for mine, theirs in zip(policy.network.gru.arrays, network.gru.arrays, strict=True):
        np.testing.assert_array_equal(mine, theirs.astype(np.float32))
    assert policy.golden.supplied.shape == (8, 24, 18)
    assert policy.golden.action.shape == (8, 24, 4)


def test_golden_sequences_are_as_long_as_the_history_wants(tmp_path):
    write_policy(tmp_path / "p.onnx", *example["make_gru_policy"](past_actions=20, state=4))
    assert load_policy(tmp_path / "p.onnx").golden.action.shape == (8, 28, 4)


@pytest.mark.parametrize(
    "shape",
    [
        {"before": (), "state": 8},
        {"before": (16, 16), "state": 16, "after": (16,)},
        {"before": (16,), "state": 16, "after": (16, 16)},
        {"before": (64,), "state": 64, "seed": 1},
        {"before": (16,), "state": 1},
    ],
)
def test_place_of_the_gru_and_parity(tmp_path, shape):
    """Layers of one size: only the graph says where the GRU stands."""
    network, contract = example["make_gru_policy"](**shape)
    write_policy(tmp_path / "p.onnx", network, contract)
    policy = load_policy(tmp_path / "p.onnx")
    assert policy.network.gru_after == network.gru_after
    golden = policy.golden
    numpy_action = replay(
        contract, Controller(policy.network.step, network.state_size, 8), golden.supplied
    )
    assert np.abs(numpy_action - golden.action).max() <= 3e-6
    assert policy.golden_max_abs_diff <= 3e-6
    assert np.abs(golden.action).mean() > 0.05


def test_onnx_accepts_the_file_and_any_runtime_can_step_it(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    assert [i.name for i in model.graph.input] == ["observation", "state"]
    assert [o.name for o in model.graph.output] == ["action", "next_state"]
    policy = load_policy(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feed = {
        "observation": rng.normal(size=(3, 22)).astype(np.float32),
        "state": rng.uniform(-1, 1, size=(3, 16)).astype(np.float32),
    }
    action, state = session.run(["action", "next_state"], feed)
    mine = policy.step(feed["observation"], feed["state"])
    np.testing.assert_array_equal(action, mine[0])
    np.testing.assert_array_equal(state, mine[1])


def test_replay_needs_the_past(tmp_path):
    """No previous_action: the past lives in the GRU alone."""
    network, contract = example["make_gru_policy"](past_actions=0)
    write_policy(tmp_path / "p.onnx", network, contract)
    policy = load_policy(tmp_path / "p.onnx")
    golden = policy.golden
    order = np.random.default_rng(0).permutation(24)
    shuffled = replay(contract, policy.controller(8), golden.supplied[:, order])
    assert np.abs(shuffled - golden.action[:, order]).max() > 1e-3
    # ... and without its memory the network answers otherwise from the second step on.
    forgetful = policy.controller(8)

    def act(observation):
        forgetful.reset()
        return forgetful(observation)

    difference = np.abs(replay(contract, act, golden.supplied) - golden.action).max(axis=(0, 2))
    assert difference[0] <= 1e-5
    assert (difference[1:] > 1e-3).all()


def test_controller_keeps_each_robots_state(path):
    policy = load_policy(path)
    many, one = policy.controller(8), policy.controller()
    supplied = policy.golden.supplied
    together = replay(policy.contract, many, supplied)
    assert many.state.shape == (8, 16)
    np.testing.assert_allclose(
        replay(policy.contract, one, supplied[3:4])[0], together[3], rtol=0, atol=1e-6
    )
    many.reset(np.arange(8) == 3)
    assert (many.state[3] == 0).all()
    assert (np.abs(many.state[[2, 4]]).max(axis=1) > 0).all()


def test_act_and_step_refuse_what_does_not_fit(path):
    policy = load_policy(path)
    with pytest.raises(AlulaError, match="state of 16 floats; allowed: its controller"):
        policy.act(np.zeros((1, 22)))
    for shape in ((16,), (1, 15), (2, 16)):
        with pytest.raises(AlulaError, match="state of shape"):
            policy.step(np.zeros((1, 22)), np.zeros(shape))
    with pytest.raises(AlulaError, match="observation of shape"):
        policy.step(np.zeros((1, 21)), np.zeros((1, 16)))


def test_inspect_counts_the_gru(path):
    told = json.loads(json.dumps(inspect_policy(path)))
    assert told["layers"] == [22, 16, 16, 4]
    assert told["gru_layer"] == 2
    assert told["macs"] == 22 * 16 + (16 + 16) * 48 + 16 * 4 == 1952
    assert told["parameters"] == 1952 + 16 + 2 * 48 + 4 == 2068
    assert told["contract"]["recurrent_state_size"] == 16


def test_metadata_fit_the_published_schema(path):
    schema = json.loads(SCHEMA.read_text())
    metadata = json.loads(onnx.load(path).metadata_props[0].value)
    jsonschema.validate(metadata, schema)
    for state in (-1, 1025, 1.5, "16"):
        metadata["contract"]["recurrent_state_size"] = state
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(metadata, schema)


def test_hash_covers_every_array_of_the_gru():
    network, _ = example["make_gru_policy"]()
    gru, hashes = network.gru, {weights_sha256(network)}
    for name in ("kernel", "recurrent", "bias", "recurrent_bias"):
        array = getattr(gru, name).copy()
        array.flat[-1] += 1.0
        hashes.add(weights_sha256(replace(network, gru=replace(gru, **{name: array}))))
    assert len(hashes) == 5


def test_no_observation_can_break_a_recurrent_policy(path):
    controller = load_policy(path).controller(200)
    rng = np.random.default_rng(0)
    values = [0.0, 1.0, -1e-40, 1e30, -3.4e38, 3.4e38]
    for _ in range(20):
        action = controller(rng.choice(values, size=(200, 22)).astype(np.float32))
        assert np.abs(action).max() <= 1.0
        assert np.abs(controller.state).max() <= 1.0


# -- refusals ---------------------------------------------------------------------------------------


def refused(path, match):
    with pytest.raises(AlulaError, match=match) as caught:
        load_policy(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def saved(tmp_path, model):
    target = tmp_path / "changed.onnx"
    target.write_bytes(model.SerializeToString())
    return target


def tensor(model, name):
    return next(t for t in model.graph.initializer if t.name == name)


def change_array(model, name, change):
    array = change(numpy_helper.to_array(tensor(model, name)).copy())
    tensor(model, name).CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))


def forge_hash(model):
    """The SHA-256 of the new numbers, as a cunning forger would."""
    value = json.loads(model.metadata_props[0].value)
    value["weights_sha256"] = weights_sha256(read_network(model, model.metadata_props[0].value))
    model.metadata_props[0].value = json.dumps(sealed(value))
    return model


@pytest.mark.parametrize("name", ["gru_kernel", "gru_recurrent", "gru_bias", "gru_recurrent_bias"])
def test_damaged_missing_and_mistyped_arrays(path, tmp_path, name):
    def changed(change):
        model = onnx.load(path)
        change_array(model, name, change)
        return model

    def poisoned(value):
        def change(array):
            array.flat[5] = value
            return array

        return change

    for value in (np.nan, np.inf):
        refused(saved(tmp_path, changed(poisoned(value))), "GRU holds NaN or infinite")
    tampered = changed(lambda a: a + 0.01)
    refused(saved(tmp_path, tampered), "SHA-256 differs")
    refused(saved(tmp_path, forge_hash(tampered)), "does not reproduce its golden sequences")
    refused(saved(tmp_path, changed(lambda a: a[..., :-3])), "do not fit together; allowed")
    refused(saved(tmp_path, changed(lambda a: a[None])), f"holds|'{name}' is missing or not of")
    refused(saved(tmp_path, changed(lambda a: a * 1e20)), "can drive the network")
    model = onnx.load(path)
    model.graph.initializer.remove(tensor(model, name))
    refused(saved(tmp_path, model), f"'{name}' is missing")
    tensor(model := onnx.load(path), name).data_type = onnx.TensorProto.DOUBLE
    refused(saved(tmp_path, model), "data type 11")


def test_no_gru_arrays_at_all(path, tmp_path):
    model = onnx.load(path)
    for name in ("gru_kernel", "gru_recurrent", "gru_bias", "gru_recurrent_bias"):
        model.graph.initializer.remove(tensor(model, name))
    refused(saved(tmp_path, model), "not that of a policy")


@pytest.mark.parametrize("order", [[1, 0, 2], [2, 1, 0], [0, 2, 1]])
def test_swapped_gates(path, tmp_path, order):
    def swap(array):
        return np.concatenate([np.split(array, 3, axis=-1)[i] for i in order], axis=-1)

    model = onnx.load(path)
    for name in ("gru_kernel", "gru_recurrent", "gru_bias", "gru_recurrent_bias"):
        change_array(model, name, swap)
    refused(saved(tmp_path, model), "SHA-256 differs")
    refused(saved(tmp_path, forge_hash(model)), "does not reproduce its golden sequences")


def node(model, output):
    return next(n for n in model.graph.node if output in n.output)


def rewire(what):
    def apply(model):
        graph = model.graph
        match what:
            case "gates swapped in the graph":
                node(model, "input_reset").output[:] = ["input_update", "input_reset", "input_new"]
            case "uneven split":
                node(model, "input_reset").input.append("one")
            case "other axis":
                node(model, "past_reset").attribute[0].i = 0
            case "reset before the product":
                node(model, "past_admitted").input[0] = "update"
            case "update the other way round":
                node(model, "kept").input[0] = "renewal"
            case "tanh for sigmoid":
                node(model, "update").op_type = "Tanh"
            case "state let through":
                node(model, "z").input[0] = "state"
            case "GRU before another layer":
                node(model, "gru_input").input[0] = "hidden_0"
            case "GRU of the state":
                node(model, "gru_input").input[0] = "state"
            case "GRU twice":
                graph.node.append(node(model, "gru_input"))
            case "no GRU":
                graph.node.remove(node(model, "gru_input"))
            case "ONNX's own GRU":
                node(model, "gru_input").op_type = "GRU"
            case "extra output":
                graph.output.add().CopyFrom(graph.output[1])
                graph.output[2].name = "reset"
            case "no next state":
                del graph.output[1]
            case "state of another size":
                graph.input[1].type.tensor_type.shape.dim[1].dim_value = 17
            case "no state":
                del graph.input[1]
            case "inputs swapped":
                first = onnx.ValueInfoProto.FromString(graph.input[0].SerializeToString())
                graph.input[0].CopyFrom(graph.input[1])
                graph.input[1].CopyFrom(first)
            case "default state":
                state = numpy_helper.from_array(np.zeros((1, 16), np.float32), "state")
                graph.initializer.append(state)

    return apply


@pytest.mark.parametrize(
    ("what", "match"),
    [
        ("gates swapped in the graph", "not that of a policy"),
        ("uneven split", "not that of a policy"),
        ("other axis", "not that of a policy"),
        ("reset before the product", "not that of a policy"),
        ("update the other way round", "not that of a policy"),
        ("tanh for sigmoid", "not that of a policy"),
        ("state let through", "not that of a policy"),
        ("GRU before another layer", "do not fit together"),
        ("GRU of the state", "the GRU stands nowhere between the 2 layers"),
        ("GRU twice", "the GRU stands nowhere"),
        ("no GRU", "the GRU stands nowhere"),
        ("ONNX's own GRU", "operator 'GRU' is not allowed"),
        ("extra output", "not that of a policy"),
        ("no next state", "not that of a policy"),
        ("state of another size", "not that of a policy"),
        ("no state", "not that of a policy"),
        ("inputs swapped", "not that of a policy"),
        ("default state", "not that of a policy"),
    ],
)
def test_other_graph(path, tmp_path, what, match):
    model = onnx.load(path)
    rewire(what)(model)
    refused(saved(tmp_path, model), match)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda m: m["contract"].update(recurrent_state_size=0),
            "has 16 recurrent states; .* says 0",
        ),
        (
            lambda m: m["contract"].update(recurrent_state_size=15),
            "16 recurrent states; .* says 15",
        ),
        (lambda m: m["contract"].update(recurrent_state_size=1025), "a whole number 0..1024"),
        (lambda m: m["contract"].update(recurrent_state_size=-1), "a whole number 0..1024"),
        (
            lambda m: [
                g.update(supplied=g["supplied"][:23], action=g["action"][:23]) for g in m["golden"]
            ],
            "23 steps for a recurrent policy; allowed: at least 24",
        ),
        (lambda m: [g["supplied"].reverse() for g in m["golden"]], "does not reproduce"),
    ],
)
def test_metadata_that_do_not_fit(path, tmp_path, change, match):
    model = onnx.load(path)
    value = json.loads(model.metadata_props[0].value)
    change(value)
    model.metadata_props[0].value = json.dumps(sealed(value))
    refused(saved(tmp_path, model), match)


def test_writer_refuses_what_no_consumer_could_use(tmp_path):
    network, contract = example["make_gru_policy"]()
    dense, feed_forward = example["make_policy"](past_actions=1)
    recurrent = replace(network.gru, recurrent=network.gru.recurrent * 1e19)
    for bad_network, bad_contract, match in (
        (network, feed_forward, "the network has 16 recurrent states; the contract says 0"),
        (dense, contract, "the network has 0 recurrent states; the contract says 16"),
        (replace(network, gru=recurrent), contract, "can drive the network"),
    ):
        with pytest.raises(AlulaError, match=match):
            write_policy(tmp_path / "p.onnx", bad_network, bad_contract)
    assert list(tmp_path.iterdir()) == []
