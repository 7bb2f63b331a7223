"""Policies, samples and robots for the tests of the robot side; loaded by several tests."""

from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np

from alula.deploy_ros2.samples import Reference, Sample
from alula.policies.contract import ActionEntry, Contract, ObservationEntry
from alula.policies.onnx_file import load_policy, write_policy
from alula.robots.arm import Arm
from alula.robots.multirotor import load_robot

example = run_path(str(Path(__file__).parents[1] / "policies" / "example.py"))
ROBOT = load_robot("crazyflie")
ARM = Arm(
    name="two-joint",
    joint_names=("shoulder", "elbow"),
    position_low=(-2.0, -1.0),
    position_high=(2.0, 3.0),
    velocity_max=(2.0, 4.0),
    effort_max=(10.0, 5.0),
)


def own(contract, robot=ROBOT):
    """The contract made out for a robot."""
    action = tuple(
        replace(a, name=name, low=robot.throttle_min, high=robot.throttle_max)
        for a, name in zip(contract.action, robot.rotor_names, strict=True)
    )
    return replace(contract, robot=robot.name, robot_hash=robot.hash, action=action)


def written(path, network, contract):
    """The policy through its file."""
    write_policy(path, network, contract)
    return load_policy(path)


def hover(path, *, gru=False, robot=ROBOT, change=None, **settings):
    """A random hover policy."""
    make = example["make_gru_policy" if gru else "make_policy"]
    network, contract = make(**({} if gru else {"hidden": (16, 16)}), **settings)
    contract = own(contract, robot)
    return written(path, network, change(contract) if change else contract)


def with_entries(path, entries, actions, robot, dt=0.01):
    """A random policy with these (name, size) entries and these actions."""
    contract = Contract(
        robot=robot.name,
        robot_hash=robot.hash,
        task="test",
        control_dt=dt,
        observation=tuple(
            ObservationEntry(name=n, unit="-", frame="-", size=s) for n, s in entries
        ),
        action=actions,
        training={},
    )
    return written(path, example["make_network"](contract, hidden=(8,)), contract)


def rotors(robot=ROBOT):
    """Throttle actions of a robot."""
    return tuple(
        ActionEntry(
            name=n, low=robot.throttle_min, high=robot.throttle_max, unit="-", meaning="throttle"
        )
        for n in robot.rotor_names
    )


def joints(arm=ARM, meaning="joint_position"):
    """Joint actions of an arm."""
    return tuple(
        ActionEntry(name=n, low=low, high=high, unit="rad", meaning=meaning)
        for n, low, high in zip(arm.joint_names, arm.position_low, arm.position_high, strict=True)
    )


def state(stamp, position=(0.0, 0.0, 0.0), quat=(1.0, 0.0, 0.0, 0.0), velocity=(0.0, 0.0, 0.0), rate=(0.0, 0.0, 0.0)):  # fmt: skip
    """All samples of a vehicle, measured at one time."""
    values = {
        "position_w": position,
        "quat_wb": quat,
        "velocity_w": velocity,
        "angular_velocity_b": rate,
    }
    return {n: Sample(value=np.array(v, float), stamp=stamp) for n, v in values.items()}


def at(position=(0.0, 0.0, 0.0), stamp=0.0, velocity=(0.0, 0.0, 0.0), acceleration=(0.0, 0.0, 0.0)):
    """A reference."""
    return Reference(
        position_w=np.array(position, float),
        velocity_w=np.array(velocity, float),
        acceleration_w=np.array(acceleration, float),
        stamp=stamp,
    )
