"""torch, numpy, ONNX Runtime and C answer the golden sequences alike, to 1e-6 (the bar is 1e-5)."""

import shutil
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula.firmware_export.c_export import export_c
from alula.firmware_export.host import build_host
from alula.policies.golden import replay
from alula.policies.network import Controller
from alula.policies.onnx_file import load_policy, write_policy

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc to compile the export")
example = run_path(str(Path(__file__).parents[1] / "policies" / "example.py"))
BAR = 1e-6
SHAPES = {
    "crazyflie": {},
    "second seed": {"seed": 1},
    "third seed": {"seed": 2},
    "no history": {"past_actions": 0},
    "sensor history": {"past_actions": 0, "sensor_history": 7},
    "both histories": {"past_actions": 16, "sensor_history": 3},
    "six rotors": {"rotors": 6},
    "one layer": {"hidden": ()},
    "odd sizes": {"hidden": (33, 17, 9), "past_actions": 5},
    "wide": {"hidden": (256, 128)},
    "GRU": {"state": 16},
    "GRU first": {"before": (), "state": 12},
    "GRU in the middle": {"before": (33, 17), "state": 9, "after": (10,), "past_actions": 5},
    "GRU, wide": {"before": (64,), "state": 64, "seed": 1},
}


def make_policy(shape):
    """(network, contract) of a shape; those that name a state are recurrent."""
    return example["make_gru_policy" if "state" in shape else "make_policy"](**shape)


def torch_step(network):
    """A step of the network in torch, float32."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    mean, scale = torch.from_numpy(network.mean), torch.from_numpy(network.scale)
    layers = [
        (torch.from_numpy(w), torch.from_numpy(b))
        for w, b in zip(network.weights, network.biases, strict=True)
    ]
    cell = None
    if network.gru is not None:
        cell = torch.nn.GRUCell(network.gru.kernel.shape[0], network.state_size)
        kernel, recurrent, bias, recurrent_bias = map(torch.from_numpy, network.gru.arrays)
        cell.load_state_dict(
            {"weight_ih": kernel.T, "weight_hh": recurrent.T, "bias_ih": bias}
            | {"bias_hh": recurrent_bias}
        )

    def step(observation, state):
        h = ((torch.from_numpy(observation) - mean) * scale).clamp(-network.clip, network.clip)
        for i, (w, b) in enumerate(layers):
            if cell is not None and i == network.gru_after:
                h = cell(h, torch.from_numpy(state))
                state = h.numpy()
            h = torch.addmm(b, h, w)
            if i + 1 < len(layers):
                h = torch.relu(h)
        return (h / torch.sqrt(1 + h * h)).numpy(), state

    return torch.no_grad()(step)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_all_runtimes_agree(tmp_path, shape):
    write_policy(tmp_path / "policy.onnx", *make_policy(shape))
    policy = load_policy(tmp_path / "policy.onnx")
    golden, contract, states = policy.golden, policy.contract, policy.network.state_size
    export_c(tmp_path / "policy.onnx", tmp_path / "c")
    host = build_host(tmp_path / "c")
    steps = {
        "torch": torch_step(policy.network),
        "numpy": policy.network.step,
        "onnxruntime": policy.step,
    }
    actions = {
        **{
            name: replay(contract, Controller(step, states, len(golden.supplied)), golden.supplied)
            for name, step in steps.items()
        },
        "c": np.stack([host.run(supplied) for supplied in golden.supplied]),
    }
    # The sequences must say something: neither all zero nor all at the limits.
    assert 0.05 < np.abs(golden.action).mean() < 0.95
    for name, action in actions.items():
        difference = float(np.abs(action - golden.action).max())
        print(f"{name} {difference:.1e}")
        assert difference <= BAR, f"{name} differs by {difference:.3g}"
    assert policy.golden_max_abs_diff == np.abs(actions["onnxruntime"] - golden.action).max()
