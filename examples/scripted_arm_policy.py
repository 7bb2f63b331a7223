"""Write a policy file that moves an arm to a goal without any training: a saturated proportional law.

    python examples/scripted_arm_policy.py ur5e runs/arm/policy.onnx

It is an ordinary policy file, with contract and golden sequences, flown like a trained one (docs/arm.md).
"""

import argparse
import sys

import numpy as np

from alula import __version__
from alula.errors import AlulaError
from alula.policies.contract import ActionEntry, Contract, ObservationEntry
from alula.policies.network import Network
from alula.policies.onnx_file import write_policy
from alula.robots.arm import Arm, load_arm


def joint_reach(
    arm: Arm,
    *,
    control_dt: float = 0.01,
    speed: float = 1.0,
    gain: float = 4.0,
    damping: float = 0.1,
) -> tuple[Network, Contract]:
    """The law as a network of one layer, and its contract.

    For each joint, with the error e = position - goal and the velocity v::

        limit = min(speed, velocity_max / 2)
        z = -(speed / limit) (gain e + damping v)
        action = z / sqrt(1 + z^2)
        commanded position += limit control_dt action

    Far from the goal the joint moves at `limit`; near it the error dies away at the rate speed gain, so gain should be
    below 1 / (4 speed T) where T is the servo's time constant. At rest the error is zero whatever the servo's own.

    Args:
        arm: what is moved.
        control_dt: time between two steps [s].
        speed: largest speed of the commands [rad/s or m/s].
        gain: of the position error [1/rad or 1/m].
        damping: of the velocity [s/rad or s/m].
    """
    n = len(arm.joint_names)
    limit = np.minimum(speed, 0.5 * np.array(arm.velocity_max))
    ratio = speed / limit
    entries = (
        ("joint_position", "rad", arm.position_noise),
        ("joint_velocity", "rad/s", arm.velocity_noise),
        ("joint_position_error", "rad", arm.position_noise),
    )
    contract = Contract(
        robot=arm.name,
        robot_hash=arm.hash,
        task="joint-reach",
        control_dt=control_dt,
        observation=tuple(
            ObservationEntry(name=name, unit=unit, frame="-", size=n, noise=noise)
            for name, unit, noise in entries
        ),
        action=tuple(
            ActionEntry(name=j, low=-step, high=step, unit="rad", meaning="joint_position_delta")
            for j, step in zip(arm.joint_names, (control_dt * limit).tolist(), strict=True)
        ),
        training={"preset": "scripted", "seed": 0, "version": __version__},
    )
    eye = np.eye(n)
    network = Network(
        mean=np.zeros(3 * n),
        scale=np.concatenate([np.ones(n), damping * ratio, gain * ratio]),
        # Out of reach; at 20 the action is 0.99875, which does not yet count as saturated.
        clip=20.0,
        # The position itself is seen, as a trained policy would, but does not count.
        weights=(np.concatenate([0.0 * eye, -eye, -eye]),),
        biases=(np.zeros(n),),
    )
    return network, contract


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="write a scripted joint-reach policy")
    parser.add_argument("robot", help="name of a shipped arm, or path of a robot file")
    parser.add_argument("out", help="policy file to write")
    arguments = parser.parse_args()
    try:
        write_policy(arguments.out, *joint_reach(load_arm(arguments.robot)))
    except AlulaError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    print(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
