"""The policy file: one ONNX file with network, contract and golden sequences (docs/policy-file.md)."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime as ort

from alula.errors import AlulaError
from alula.policies.contract import Contract, History
from alula.policies.files import read_bounded, write_files
from alula.policies.golden import record, replay
from alula.policies.metadata import MIN_SEQUENCES, Golden, metadata_text, parse_metadata
from alula.policies.network import Controller, Network, Step
from alula.policies.onnx_graph import (
    build_model,
    check_bounded,
    model_metadata,
    parse_model,
    read_network,
    weights_sha256,
)

MAX_FILE_BYTES = 16_000_000
"""Largest policy file that is read; one with 14 000 parameters and 40-step sequences has 0.3 MB."""
GOLDEN_TOLERANCE = 1e-5
"""Largest difference between a recorded and a replayed action."""


class Robot(Protocol):
    """What a policy must agree on with its robot; `alula.robots.multirotor.Multirotor` has it."""

    @property
    def name(self) -> str:
        """Robot name."""
        ...

    @property
    def hash(self) -> str:
        """SHA-256 of the robot's parameters."""
        ...


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A checked policy, ready to act through ONNX Runtime."""

    contract: Contract
    """What it sees and says."""
    network: Network
    """Its float32 arrays."""
    golden: Golden
    """The recorded sequences, which it reproduces."""
    golden_max_abs_diff: float
    """Largest difference met when they were replayed at loading."""
    data: bytes
    """The whole policy file."""
    session: ort.InferenceSession
    """The ONNX Runtime session behind `act`."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Actions [N, A], float32 in [-1, 1], for network inputs [N, O] (see `History.observe`).

        For feed-forward policies only; `controller` serves all.

        Raises:
            AlulaError: the observation has another shape, or the policy is recurrent.
        """
        if self.network.gru is not None:
            raise AlulaError(
                f"policy has a state of {self.network.state_size} floats; allowed: its controller"
            )
        return self.step(observation, np.zeros((*np.shape(observation)[:1], 0), np.float32))[0]

    def step(self, observation: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Actions [N, A] and next states [N, H] for network inputs [N, O] and states [N, H].

        The state is zero after a reset, and [N, 0] for a feed-forward policy.

        Raises:
            AlulaError: observation or state have another shape.
        """
        return _runner(self.session, self.network)(observation, state)

    def controller(self, n: int = 1) -> Controller:
        """Acts for n robots, freshly reset, and keeps their recurrent states."""
        return Controller(self.step, self.network.state_size, n)

    def history(self, n: int = 1) -> History:
        """Assembles the network inputs of n robots, freshly reset."""
        return History(self.contract, n)

    @property
    def sha256(self) -> str:
        """SHA-256 of the policy file."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one step."""
        gru = self.network.gru
        dense = sum(w.size for w in self.network.weights)
        return dense + (gru.kernel.size + gru.recurrent.size if gru else 0)

    @property
    def parameters(self) -> int:
        """Trained numbers: weights and biases."""
        gru = self.network.gru
        biases = sum(b.size for b in self.network.biases)
        return self.macs + biases + (gru.bias.size + gru.recurrent_bias.size if gru else 0)


def write_policy(
    path: str | Path,
    network: Network,
    contract: Contract,
    *,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Write the one policy file, with golden sequences recorded from the arrays in numpy.

    The file is complete or absent: it is read back in memory as a stranger's would be (so ONNX Runtime
    has reproduced the golden sequences), written beside its place and moved there.

    Args:
        path: file to write; its folder is made where it is missing.
        network: the actor, whoever trained it; stored as float32.
        contract: what it sees and says.
        seed: seed of the golden observations.
        overwrite: replace an existing file.

    Raises:
        AlulaError: sizes of network and contract differ, numbers not finite or able to overflow, the
            path exists or cannot be written, or the disk is full.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise AlulaError(f"policy file {path} exists; allowed: a new name, or overwrite")
    network = network.astype(np.float32)
    check_bounded(network)
    _check_sizes(network, contract)
    runtime = _runner(_session(build_model(network, "")), network)
    golden = record(contract, network, seed, MIN_SEQUENCES, runtime)
    metadata = metadata_text(contract, golden, weights_sha256(network))
    model = build_model(network, metadata)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString(deterministic=True)
    policy_from_bytes(data, name=str(path))
    write_files(path.parent, {path.name: data}, overwrite=overwrite)


def load_policy(path: str | Path, *, robot: Robot | None = None, threads: int = 1) -> Policy:
    """Load, check and replay a policy file.

    Args:
        path: the file; it may come from a stranger.
        robot: the robot it shall fly; None skips that check.
        threads: ONNX Runtime's threads inside an operator.

    Raises:
        AlulaError: the file is missing, too large, cut short, foreign, for another robot, in any way
            not what `write_policy` writes, or does not reproduce its golden sequences.
    """
    data = read_bounded(path, kind="policy file", max_bytes=MAX_FILE_BYTES)
    return policy_from_bytes(data, name=str(path), robot=robot, threads=threads)


def policy_from_bytes(
    data: bytes, *, name: str, robot: Robot | None = None, threads: int = 1
) -> Policy:
    """The same as `load_policy` for bytes already read; `name` is for error messages."""
    try:
        if len(data) > MAX_FILE_BYTES:
            raise AlulaError(f"larger than the allowed {MAX_FILE_BYTES} bytes")
        model = parse_model(data)
        text = model_metadata(model)
        contract, golden, recorded_sha256 = parse_metadata(text)
        network = read_network(model, text)
        _check_sizes(network, contract)
        if robot is not None:
            _check_robot(contract, robot)
        if weights_sha256(network) != recorded_sha256:
            raise AlulaError("the weights are not the recorded ones (SHA-256 differs): damaged")
        # A model written anew from the checked arrays: no byte of a stranger's file reaches the runtime.
        session = _session(build_model(network, ""), threads)
        difference = _replay_difference(_runner(session, network), contract, golden)
    except AlulaError as e:
        raise AlulaError(f"policy file {name}: {e}") from None
    return Policy(
        contract=contract,
        network=network,
        golden=golden,
        golden_max_abs_diff=difference,
        data=data,
        session=session,
    )


def inspect_policy(path: str | Path) -> dict[str, Any]:
    """Everything a person wants to know of a policy file, as plain JSON values.

    Raises:
        AlulaError: as `load_policy`.
    """
    policy = load_policy(path)
    return {
        "policy": str(path),
        "sha256": policy.sha256,
        "bytes": len(policy.data),
        "contract": policy.contract.to_json(),
        "layers": policy.network.layer_sizes,
        "gru_layer": None if policy.network.gru is None else policy.network.gru_after + 1,
        "parameters": policy.parameters,
        "macs": policy.macs,
        "golden_sequences": policy.golden.action.shape[0],
        "golden_steps": policy.golden.action.shape[1],
        "golden_runtime": policy.golden.runtime,
        "golden_max_abs_diff": policy.golden_max_abs_diff,
    }


def _check_sizes(network: Network, contract: Contract) -> None:
    found = network.mean.shape[0], network.biases[-1].shape[0]
    wanted = contract.observation_size, contract.action_size
    if found != wanted:
        raise AlulaError(
            f"the network takes {found[0]} floats and gives {found[1]}; "
            f"the contract says {wanted[0]} and {wanted[1]}"
        )
    if network.state_size != contract.recurrent_state_size:
        raise AlulaError(
            f"the network has {network.state_size} recurrent states; "
            f"the contract says {contract.recurrent_state_size}"
        )


def _check_robot(contract: Contract, robot: Robot) -> None:
    if (contract.robot, contract.robot_hash) != (robot.name, robot.hash):
        raise AlulaError(
            f"made for robot {contract.robot!r} (hash {contract.robot_hash[:12]}), "
            f"not for {robot.name!r} (hash {robot.hash[:12]})"
        )


def _session(model: onnx.ModelProto, threads: int = 1) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _runner(session: ort.InferenceSession, network: Network) -> Step:
    """One step of a network's ONNX model; refuses arrays of other shapes."""
    inputs, states = network.mean.shape[0], network.state_size

    def step(observation: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        observation = np.ascontiguousarray(observation, dtype=np.float32)
        if observation.ndim != 2 or observation.shape[1] != inputs:
            raise AlulaError(f"observation of shape {observation.shape}; allowed: (N, {inputs})")
        if state.shape != (len(observation), states):
            raise AlulaError(f"state of shape {state.shape}; allowed: {(len(observation), states)}")
        feed = {"observation": observation}
        if not states:
            return np.asarray(session.run(["action"], feed)[0]), state
        feed["state"] = np.ascontiguousarray(state, dtype=np.float32)
        action, next_state = session.run(["action", "next_state"], feed)
        return np.asarray(action), np.asarray(next_state)

    return step


def _replay_difference(step: Step, contract: Contract, golden: Golden) -> float:
    controller = Controller(step, contract.recurrent_state_size, len(golden.supplied))
    actions = replay(contract, controller, golden.supplied)
    difference = float(np.abs(actions - golden.action).max())
    if not difference <= GOLDEN_TOLERANCE:
        raise AlulaError(
            f"does not reproduce its golden sequences: largest difference {difference:.3g}; "
            f"allowed: {GOLDEN_TOLERANCE:g}"
        )
    return difference
