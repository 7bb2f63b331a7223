"""Writing, loading and inspecting a policy file."""

import json
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import jsonschema
import numpy as np
import onnx
import pytest

from alula.errors import AlulaError
from alula.policies.contract import ActionEntry, Contract, ObservationEntry
from alula.policies.golden import draw_observations, replay
from alula.policies.network import Network
from alula.policies.onnx_file import inspect_policy, load_policy, write_policy

example = run_path(str(Path(__file__).parent / "example.py"))
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def path(tmp_path):
    network, contract = example["make_policy"](hidden=(16, 8), past_actions=4, sensor_history=2)
    write_policy(tmp_path / "policy.onnx", network, contract)
    return tmp_path / "policy.onnx"


def tiny():
    """Two inputs a, b; x = (2 (a - 1), b) clipped to +-3; h = relu(x0 - x1); z = 0.75 h."""
    network = Network(
        mean=np.array([1.0, 0.0]),
        scale=np.array([2.0, 1.0]),
        clip=3.0,
        weights=(np.array([[1.0], [-1.0]]), np.array([[0.75]])),
        biases=(np.zeros(1), np.zeros(1)),
    )
    contract = Contract(
        robot="r",
        robot_hash="h",
        task="t",
        control_dt=0.01,
        observation=(ObservationEntry(name="ab", unit="-", frame="-", size=2),),
        action=(ActionEntry(name="M1", low=0.0, high=1.0, unit="-", meaning="throttle"),),
        training={},
    )
    return network, contract


def test_graph_gives_the_hand_computed_action(tmp_path):
    network, contract = tiny()
    write_policy(tmp_path / "p.onnx", network, contract)
    policy = load_policy(tmp_path / "p.onnx")
    # (2, 1): x = (2, 1), h = 1, z = 0.75, 0.75 / sqrt(1.5625) = 0.75 / 1.25 = 0.6
    # (10, 1): x = (18 -> 3, 1), h = 2, z = 1.5, 1.5 / sqrt(3.25) = 0.83205029
    # (1, 1): x = (0, 1), h = relu(-1) = 0, action 0
    action = policy.act(np.array([[2.0, 1.0], [10.0, 1.0], [1.0, 1.0]]))
    np.testing.assert_allclose(action, [[0.6], [0.83205029], [0.0]], rtol=0, atol=1e-7)


def test_what_was_written_is_what_is_loaded(path):
    network, contract = example["make_policy"](hidden=(16, 8), past_actions=4, sensor_history=2)
    policy = load_policy(path)
    assert policy.contract == contract
    for mine, theirs in zip(policy.network.weights, network.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs.astype(np.float32))
    np.testing.assert_array_equal(policy.network.mean, network.mean.astype(np.float32))
    assert policy.golden.supplied.shape == (8, 12, 18)
    assert policy.golden.action.shape == (8, 12, 4)
    assert 0.0 < policy.golden_max_abs_diff < 1e-6


def test_golden_numbers_survive_the_text_exactly(path):
    policy = load_policy(path)
    again = draw_observations(policy.contract, policy.network, 0, 8)
    np.testing.assert_array_equal(policy.golden.supplied, again)


def test_golden_observations_hold_rotations_and_leave_the_clip():
    network, contract = example["make_policy"](past_actions=4)
    drawn = draw_observations(contract, network, 0, 8)
    rot = drawn[:, :, 3:12].reshape(-1, 3, 3).astype(float)
    np.testing.assert_allclose(
        rot @ rot.transpose(0, 2, 1), np.tile(np.eye(3), (96, 1, 1)), atol=1e-6
    )
    assert np.allclose(np.linalg.det(rot), 1.0, atol=1e-6)
    # what is supplied stands first in the observation, previous_action last
    walks = [*range(3), *range(12, 18)]  # all but the rotation
    x = ((drawn - network.mean[:18]) * network.scale[:18])[:, :, walks]
    assert (np.abs(x[-2:]) > network.clip).any()
    assert np.abs(x[:-2]).max() < network.clip


def test_golden_replay_feeds_actions_back():
    contract = example["make_contract"](past_actions=4)
    supplied = np.zeros((1, 6, 18), np.float32)
    seen = []

    def act(observation):
        seen.append(observation[0, 12:28].copy())
        return np.full((1, 4), 0.1 * len(seen), np.float32)

    replay(contract, act, supplied)
    np.testing.assert_allclose(seen[0], np.full(16, -0.25))
    # at the third step the last two of four past actions are 0.1 and 0.2, oldest first
    np.testing.assert_allclose(seen[2], np.repeat([-0.25, -0.25, 0.1, 0.2], 4), rtol=1e-6)


def test_seed_decides_the_file(tmp_path):
    network, contract = example["make_policy"](hidden=(8,), past_actions=2)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_policy(tmp_path / name, network, contract, seed=seed)
    a, b, c = ((tmp_path / n).read_bytes() for n in "abc")
    assert a == b != c


def test_onnx_accepts_the_file_and_it_is_of_a_modest_version(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    assert [i.name for i in model.graph.input] == ["observation"]
    assert [o.name for o in model.graph.output] == ["action"]


def test_metadata_fit_the_published_schema(path):
    schema = json.loads((DOCS / "policy-schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    metadata = json.loads(onnx.load(path).metadata_props[0].value)
    jsonschema.validate(metadata, schema)
    for breakage in (
        lambda m: m.pop("golden"),
        lambda m: m["contract"].update(control_dt=0),
        lambda m: m["contract"]["observation"][0].update(size=0),
        lambda m: m["golden"].clear(),
        lambda m: m.update(extra=1),
    ):
        broken = json.loads(json.dumps(metadata))
        breakage(broken)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


def test_inspect_tells_sizes_and_is_plain_json(path):
    told = json.loads(json.dumps(inspect_policy(path)))
    # 12 sensors' floats and two of velocity_w (3 + 9 + 2*3 + 3) = 21, and 4 * 4 past actions
    assert told["layers"] == [37, 16, 8, 4]
    assert told["macs"] == 37 * 16 + 16 * 8 + 8 * 4 == 752
    assert told["parameters"] == 752 + 16 + 8 + 4
    assert told["contract"]["robot"] == "crazyflie"
    assert told["golden_sequences"] == 8
    assert len(told["sha256"]) == 64


def test_act_refuses_another_shape(path):
    policy = load_policy(path)
    for shape in ((37,), (1, 36), (1, 1, 37)):
        with pytest.raises(AlulaError, match="observation of shape"):
            policy.act(np.zeros(shape))


def test_existing_file_is_kept_unless_told(path):
    network, contract = example["make_policy"](hidden=(4,), past_actions=0)
    before = path.read_bytes()
    with pytest.raises(AlulaError, match="exists"):
        write_policy(path, network, contract)
    assert path.read_bytes() == before
    write_policy(path, network, contract, overwrite=True)
    assert load_policy(path).network.weights[0].shape == (18, 4)
    assert [p.name for p in path.parent.iterdir()] == ["policy.onnx"]


def test_writer_refuses_what_no_consumer_could_use(tmp_path):
    network, contract = example["make_policy"](hidden=(4,), past_actions=2)
    target = tmp_path / "p.onnx"
    huge = replace(network, weights=tuple(w * 1e12 for w in network.weights))
    cases = [
        (huge, contract, "drive the network"),
        (replace(network, clip=0.0), contract, "clip"),
        (replace(network, clip=float("nan")), contract, "clip"),
        (replace(network, mean=network.mean + 1e31), contract, "mean"),
        (
            network,
            replace(contract, action=contract.action[:3], observation=contract.observation[:2]),
            "the network takes 26",
        ),
        (network, replace(contract, training={"loss": float("nan")}), "JSON"),
        (network, replace(contract, training={"loss": object()}), "JSON"),
        (network, replace(contract, robot="two\nlines"), "contract.robot"),
        (network, replace(contract, recurrent_state_size=8), "recurrent"),
    ]
    for bad_network, bad_contract, message in cases:
        with pytest.raises(AlulaError, match=message) as caught:
            write_policy(target, bad_network, bad_contract)
        assert "\n" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []


def test_no_observation_can_break_a_policy(path):
    """The interval bound at work: finite in, finite and in [-1, 1] out."""
    policy = load_policy(path)
    rng = np.random.default_rng(0)
    extreme = rng.choice([0.0, 1.0, -1e-40, 1e30, -3.4e38, 3.4e38], size=(500, 37)).astype(
        np.float32
    )
    action = policy.act(extreme)
    assert np.isfinite(action).all()
    assert np.abs(action).max() <= 1.0
