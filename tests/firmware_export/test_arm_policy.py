"""An arm's policy goes through the same export as any other: torch, ONNX Runtime and C answer alike."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alula.cli import main
from alula.export import PARITY_MAX
from alula.firmware_export.c_export import export_c
from alula.firmware_export.host import build_host, golden_difference
from alula.policies.golden import replay
from alula.policies.onnx_file import load_policy
from alula.presets import get_preset
from alula.settings import with_settings
from alula.sim.arm_config import ActionKind
from alula.training.config import PpoConfig

torch = pytest.importorskip("torch")

needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc to compile the export")
RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
TINY = PpoConfig(n_envs=4, updates=2, rollout_steps=8, hidden=(16, 16), critic_hidden=(16,))


def trained(name: str, folder: Path, action: ActionKind | None = None) -> Path:
    """The policy file of a run, robot file beside it."""
    from alula.run_folder import keep_robot_file
    from alula.training.run import train

    settings = {} if action is None else {"sim.action": action}
    preset = with_settings(replace(get_preset(name), algo=TINY), settings)
    keep_robot_file(preset.robot, folder)
    return train(preset, out=folder).policy_path


@pytest.fixture(scope="module")
def panda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained("panda-reach", tmp_path_factory.mktemp("panda"))


@needs_gcc
@pytest.mark.parametrize("name", ["panda", "ur5e"])
def test_golden_parity_of_torch_onnx_and_c(name: str, panda: Path, tmp_path: Path) -> None:
    path = panda if name == "panda" else trained("ur5e-reach", tmp_path)
    policy = load_policy(path)
    network, golden = policy.network, policy.golden
    arrays = zip(network.weights, network.biases, strict=True)
    layers = [(torch.from_numpy(w), torch.from_numpy(b)) for w, b in arrays]
    mean, scale = torch.from_numpy(network.mean), torch.from_numpy(network.scale)

    def in_torch(observation: np.ndarray) -> np.ndarray:
        h = ((torch.from_numpy(observation) - mean) * scale).clamp(-network.clip, network.clip)
        for w, b in layers[:-1]:
            h = torch.relu(h @ w + b)
        z = h @ layers[-1][0] + layers[-1][1]
        return (z / torch.sqrt(1.0 + z * z)).numpy()

    assert np.abs(golden.action).max() > 1e-3
    found = {
        "torch": np.abs(replay(policy.contract, in_torch, golden.supplied) - golden.action).max()
    }
    found["onnx"] = policy.golden_max_abs_diff
    export_c(path, tmp_path / "c")
    found["c"] = golden_difference(policy, build_host(tmp_path / "c"))
    assert max(found.values()) <= PARITY_MAX, found


@needs_gcc
@pytest.mark.parametrize("action", ["joint_torque", "end_effector_delta"])
def test_other_actions_go_out_as_they_are_and_say_what_they_mean(
    action: ActionKind, tmp_path: Path
) -> None:
    path = trained("ur5e-reach", tmp_path, action)
    export_c(path, tmp_path / "c")
    assert golden_difference(load_policy(path), build_host(tmp_path / "c")) <= PARITY_MAX
    readme, header = ((tmp_path / "c" / n).read_text() for n in ("README.md", "policy.h"))
    tool = "tool_x, end_effector_delta, -1 is -0.01, +1 is 0.01 [m]"
    torque = "shoulder_pan_joint, joint_torque, -1 is -75, +1 is 75 [N m or N]"
    assert (torque if action == "joint_torque" else tool) in readme
    assert ("This C does not turn them" in readme) == (action == "end_effector_delta")
    assert ("POLICY_ACTION_TOOL_TURN_Z = 5" in header) == (action == "end_effector_delta")


@needs_gcc
def test_a_loop_that_amplifies_differences_shows_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Corrects a scripted controller at a contact: in two loops of their own, 1e-6 would grow to 1.9.
    policy = RESULTS / "panda-insert" / "policy.onnx"
    assert main(["export", str(policy), "--target", "c", "--out", str(tmp_path / "c"), "--json"]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["flight_max_abs_diff"] <= PARITY_MAX


@needs_gcc
def test_the_commands_take_an_arm(
    panda: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # robot.toml and its model lie beside the policy; the C is also shown what the arm comes through
    arguments = ["export", str(panda), "--target", "c", "--out", str(tmp_path / "c"), "--json"]
    assert main(arguments) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["flight_states"] == 10_000
    assert max(data["max_abs_diff"], data["flight_max_abs_diff"]) <= PARITY_MAX
    arguments = ["export", str(panda), "--target", "onnx", "--out", str(tmp_path), "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["max_abs_diff"] <= PARITY_MAX
    assert load_policy(tmp_path / "policy.onnx").sha256 == load_policy(panda).sha256
    for target, weights, match in (
        ("c", "int8", "int8 weights are judged in flight; allowed for an arm: float32"),
        ("px4", "float32", "PX4 cannot supply 'joint_position'"),
        ("crazyflie", "float32", "a Crazyflie has no rotors panda_joint1"),
    ):
        out = tmp_path / f"{target}-{weights}"
        arguments = ["export", str(panda), "--target", target, "--out", str(out), "--weights", weights]  # fmt: skip
        assert main(arguments) == 2
        assert match in capsys.readouterr().err
        assert not out.exists()
    for robot, match in (
        ("crazyflie", "the policy is for an arm, not for 'crazyflie'; allowed: an arm"),
        ("ur5e", "the policy is for the robot 'panda', not 'ur5e'; allowed: its own robot"),
    ):
        out = tmp_path / robot
        assert main(["export", str(panda), "--target", "c", "--robot", robot, "--out", str(out)]) == 2  # fmt: skip
        assert match in capsys.readouterr().err
        assert not out.exists()
    assert main(["evaluate", str(panda), "--episodes", "2", "--lap", "nan"]) == 2
    assert "lap is nan; allowed: with a policy of a multirotor" in capsys.readouterr().err
    assert main(["evaluate", str(panda), "--episodes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same_robot"]
