"""Policies for tests, written as policy files: hovering by linear feedback, and an arm that holds still."""

from pathlib import Path

import numpy as np
import pytest

from alula.build import build_contract, build_task
from alula.policies.network import Network
from alula.policies.onnx_file import Policy, load_policy, write_policy
from alula.presets import get_preset
from alula.robots.arm import load_arm
from alula.robots.multirotor import Multirotor, load_robot


def feedback_policy(path: Path, preset: str, *, robot: Multirotor | None = None) -> Policy:
    """Write a policy that levels, damps and returns; the gains were found by trying."""
    chosen = get_preset(preset)
    robot = robot or load_robot(chosen.robot)
    contract = build_contract(chosen, robot, build_task(chosen.task), {"seed": 0, "version": "t"})
    gains = np.zeros((3 + 1, contract.observation_size), np.float32)
    roll, pitch, yaw, climb = gains
    # pitch tilts the thrust towards +x; rot_wb rows stand at 3..11, velocity at 12, body rate at 15
    pitch[[0, 12, 5, 16]] = -0.13, -0.095, -0.12, -0.033
    roll[[1, 13, 8, 15]] = 0.13, 0.095, 0.12, -0.033
    yaw[[6, 17]] = -0.4, -0.22
    climb[[2, 14]] = -1.46, -0.26
    weights = np.stack(
        [
            np.sign(y) * roll - np.sign(x) * pitch - spin * yaw + climb
            for (x, y, _), spin in zip(robot.rotor_position_b, robot.rotor_spin, strict=True)
        ],
        axis=1,
    )
    hover = robot.hover_action
    network = Network(
        mean=np.zeros(contract.observation_size, np.float32),
        scale=np.ones(contract.observation_size, np.float32),
        clip=10.0,
        weights=(weights,),
        biases=(np.full(robot.n_rotors, hover / np.sqrt(1.0 - hover * hover), np.float32),),
    )
    write_policy(path, network, contract, overwrite=True)
    return load_policy(path)


@pytest.fixture(scope="session")
def hover_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Policy file of the feedback policy for `l2f-hover`."""
    path = tmp_path_factory.mktemp("policy") / "policy.onnx"
    feedback_policy(path, "l2f-hover")
    return path


@pytest.fixture(scope="session")
def hover_policy(hover_path: Path) -> Policy:
    """The same, loaded."""
    return load_policy(hover_path)


@pytest.fixture(scope="session")
def arm_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy file for `ur5e-reach` that holds the arm where it is."""
    arm, task = load_arm("ur5e"), build_task("reach")
    contract = build_contract(get_preset("ur5e-reach"), arm, task, {"seed": 0, "version": "t"})
    inputs, outputs = contract.observation_size, contract.action_size
    network = Network(
        mean=np.zeros(inputs, np.float32),
        scale=np.ones(inputs, np.float32),
        clip=10.0,
        weights=(np.zeros((inputs, outputs), np.float32),),
        biases=(np.zeros(outputs, np.float32),),
    )
    path = tmp_path_factory.mktemp("arm") / "policy.onnx"
    write_policy(path, network, contract)
    return path


@pytest.fixture(scope="session")
def arm_policy(arm_path: Path) -> Policy:
    """The same, loaded."""
    return load_policy(arm_path)
