"""The network in numpy: the GRU's formula by hand and against torch, shapes, states of several robots."""

from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula.errors import AlulaError
from alula.policies.network import Controller, Gru, Network

example = run_path(str(Path(__file__).parent / "example.py"))


def hand_made():
    """One input, one state: gates with easy logarithms.

    Input x = 1, state h = 0.5::

        r  = sigmoid(ln 3 * 1 + 0 + 0 * 0.5 + 0) = 3 / 4
        z  = sigmoid(0 * 1 - ln 4 + 0 * 0.5 + 0) = 1 / (1 + 4) = 1 / 5
        n  = tanh(0.25 * 1 + 0.5 + 0.75 * (2 * 0.5 - 2)) = tanh(0.75 - 0.75) = 0
        h' = (1 - 1/5) * 0 + 1/5 * 0.5 = 0.1
    """
    return Gru(
        kernel=np.array([[np.log(3.0), 0.0, 0.25]]),
        recurrent=np.array([[0.0, 0.0, 2.0]]),
        bias=np.array([0.0, -np.log(4.0), 0.5]),
        recurrent_bias=np.array([0.0, 0.0, -2.0]),
    )


def test_one_step_by_hand():
    h = hand_made().step(np.array([[1.0]]), np.array([[0.5]]))
    np.testing.assert_allclose(h, [[0.1]], rtol=0, atol=1e-15)


def test_a_second_step_by_hand():
    # x = 2, h = 0.1: r = sigmoid(2 ln 3) = 9/10, z = 1/5 as before,
    # n = tanh(0.5 + 0.5 + 0.9 (2 * 0.1 - 2)) = tanh(-0.62) = -0.5511280
    # h' = 0.8 * -0.5511280 + 0.2 * 0.1 = -0.4209024
    h = hand_made().step(np.array([[2.0]]), np.array([[0.1]]))
    np.testing.assert_allclose(h, [[-0.4209024]], rtol=0, atol=1e-7)


def test_a_network_with_a_gru_by_hand():
    """x = 2 (observation - 1); relu(x); the GRU above; z = 7.5 h'."""
    network = Network(
        mean=np.array([1.0]),
        scale=np.array([2.0]),
        clip=3.0,
        weights=(np.array([[1.0]]), np.array([[7.5]])),
        biases=(np.zeros(1), np.zeros(1)),
        gru=hand_made(),
        gru_after=1,
    )
    # 1.5 gives x = 1, and with the state 0.5 the next one 0.1: z = 0.75, 0.75 / 1.25 = 0.6
    action, state = network.step(np.array([[1.5]]), np.array([[0.5]]))
    np.testing.assert_allclose(action, [[0.6]], rtol=0, atol=1e-15)
    np.testing.assert_allclose(state, [[0.1]], rtol=0, atol=1e-15)
    assert (network.state_size, network.layer_sizes) == (1, [1, 1, 1, 1])


@pytest.mark.parametrize(("inputs", "size"), [(1, 1), (22, 16), (7, 33)])
def test_torch_computes_the_same(inputs, size):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    torch.manual_seed(size)
    cell = torch.nn.GRUCell(inputs, size, dtype=torch.float64)
    gru = Gru(
        kernel=cell.weight_ih.detach().numpy().T,
        recurrent=cell.weight_hh.detach().numpy().T,
        bias=cell.bias_ih.detach().numpy(),
        recurrent_bias=cell.bias_hh.detach().numpy(),
    )
    rng = np.random.default_rng(size)
    mine, theirs = np.zeros((5, size)), torch.zeros(5, size, dtype=torch.float64)
    for t in range(30):
        x = rng.normal(size=(5, inputs)) * (1 + t)
        mine, theirs = gru.step(x, mine), cell(torch.from_numpy(x), theirs)
        np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=0, atol=1e-12)
    assert np.abs(mine).mean() > 0.1


def test_saturated_gates_do_not_overflow():
    with np.errstate(all="raise", under="ignore"):
        h = hand_made().step(np.array([[1e30], [-1e30]]), np.array([[0.5], [0.5]]))
    # n = tanh(+-1e30 / 4) = +-1, z = 1/5: h' = 0.8 * +-1 + 0.1
    np.testing.assert_allclose(h, [[0.9], [-0.7]], rtol=0, atol=1e-15)


@pytest.mark.parametrize("before", [(), (6,), (6, 7)])
@pytest.mark.parametrize("after", [(), (5,)])
def test_the_gru_may_stand_anywhere_before_the_last_layer(before, after):
    network, contract = example["make_gru_policy"](before=before, state=3, after=after)
    assert network.layer_sizes == [22, *before, 3, *after, 4]
    assert network.gru_after == len(before)
    action, state = network.step(np.zeros((2, contract.observation_size)), np.zeros((2, 3)))
    assert (action.shape, state.shape) == ((2, 4), (2, 3))


GRU_SHAPES = {"kernel": (5, 9), "recurrent": (3, 9), "bias": (9,), "recurrent_bias": (9,)}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("kernel", (5, 8)),
        ("kernel", (9,)),
        ("kernel", (0, 9)),
        ("recurrent", (9, 3)),
        ("recurrent", (4, 9)),
        ("recurrent", (3,)),
        ("bias", (8,)),
        ("bias", (1, 9)),
        ("recurrent_bias", (10,)),
    ],
)
def test_gru_arrays_of_other_shapes(name, shape):
    Gru(**{key: np.zeros(s) for key, s in GRU_SHAPES.items()})
    with pytest.raises(AlulaError, match="do not fit together; allowed"):
        Gru(**{key: np.zeros(shape if key == name else s) for key, s in GRU_SHAPES.items()})


@pytest.mark.parametrize("name", GRU_SHAPES)
def test_gru_arrays_not_finite(name):
    arrays = {key: np.zeros(s) for key, s in GRU_SHAPES.items()}
    arrays[name].flat[2] = np.nan
    with pytest.raises(AlulaError, match="GRU holds NaN"):
        Gru(**arrays)


def test_networks_that_do_not_fit_together():
    network, _ = example["make_gru_policy"](before=(6,), state=3, after=(5,))
    gru = network.gru
    with pytest.raises(AlulaError, match=r"gru_after is 3; allowed: 0 to 2"):
        replace(network, gru_after=3)
    with pytest.raises(AlulaError, match=r"gru_after is -1; allowed: 0 to 2"):
        replace(network, gru_after=-1)
    with pytest.raises(AlulaError, match=r"gru_after is 1; allowed: 0 to 0"):
        replace(network, gru=None)
    for bad in (
        {"gru_after": 0},
        {"gru_after": 2},
        {"gru": None, "gru_after": 0},
        {"gru": replace(gru, kernel=gru.kernel[:-1])},
    ):
        with pytest.raises(AlulaError, match="do not fit together"):
            replace(network, **bad)


def test_a_state_needs_a_keeper():
    network, contract = example["make_gru_policy"]()
    observation = np.zeros((1, contract.observation_size))
    with pytest.raises(AlulaError, match="state of 16 floats"):
        network(observation)
    controller = Controller(network.step, 16, 2)
    with pytest.raises(AlulaError, match="observations of 1 robots; allowed: 2"):
        controller(observation)


def test_a_controller_of_a_feed_forward_network_is_the_network():
    network, contract = example["make_policy"](past_actions=2)
    controller = Controller(network.step, network.state_size, 3)
    observation = np.random.default_rng(0).normal(size=(3, contract.observation_size))
    for _ in range(2):
        np.testing.assert_array_equal(controller(observation), network(observation))
    controller.reset()
    assert controller.state.shape == (3, 0)


def test_reset_of_single_robots():
    network, contract = example["make_gru_policy"]()
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 3, contract.observation_size)) * 0.3
    controller, fresh = (Controller(network.step, 16, 3) for _ in range(2))
    after_reset = fresh(second)
    controller(first)
    kept = controller.state
    controller.reset(np.array([False, True, False]))
    assert (controller.state[1] == 0).all()
    np.testing.assert_array_equal(controller.state[[0, 2]], kept[[0, 2]])
    assert (kept[1] != 0).any(), "the array given out before is left alone"
    action = controller(second)
    np.testing.assert_allclose(action[1], after_reset[1], rtol=0, atol=1e-15)
    assert (np.abs(action[[0, 2]] - after_reset[[0, 2]]).max(axis=1) > 1e-3).all()
    controller.reset()
    np.testing.assert_array_equal(controller(second), after_reset)


def test_a_robot_that_is_lost_leaves_the_others_alone():
    network, contract = example["make_gru_policy"]()
    observation = np.full((2, contract.observation_size), 0.1)
    controller, alone = Controller(network.step, 16, 2), Controller(network.step, 16, 1)
    broken = observation.copy()
    broken[0] = np.nan
    for _ in range(3):
        action = controller(broken)
        expected = alone(observation[1:])
    np.testing.assert_allclose(action[1:], expected, rtol=0, atol=1e-15)
    controller.reset(np.array([True, False]))
    assert np.isfinite(controller(observation)).all()


def test_precision_of_all_numbers_is_changed():
    network, _ = example["make_gru_policy"]()
    narrow = network.astype(np.float32)
    assert narrow.gru is not None
    arrays = (narrow.mean, narrow.scale, *narrow.weights, *narrow.biases, *narrow.gru.arrays)
    assert {a.dtype for a in arrays} == {np.dtype(np.float32)}
    assert replace(network, clip=0.1).astype(np.float32).clip == float(np.float32(0.1))
    np.testing.assert_array_equal(narrow.gru.kernel, network.gru.kernel.astype(np.float32))
