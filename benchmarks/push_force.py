"""With what force a policy of panda-push pushes: over the steps in which the box moves.

    python benchmarks/push_force.py [POLICY ...] [--episodes 200] [--seed 77]

Over the range of the training. How much of the time the hand touches the box, and the contact force while it does.
"""

import argparse
from pathlib import Path

import numpy as np

from alula.build import build_robot
from alula.policies.onnx_file import load_policy
from alula.presets import get_preset
from alula.sim.mujoco.arm import MujocoArm
from alula.tasks import push

PUBLISHED = Path(__file__).parents[1] / "docs/results/panda-push/policy.onnx"
MOVING = 0.03
"""Speed from which on the box counts as moving [m/s]."""
TOUCHING = 0.1
"""Force from which on the hand counts as touching [N]."""


def forces(policy: Path, episodes: int, seed: int) -> np.ndarray:
    """Contact force in each step in which the box moves [N]."""
    preset, loaded = get_preset("panda-push"), load_policy(policy)
    sim = MujocoArm(build_robot(preset), push, preset.sim, episodes, threads=1, auto_reset=False)
    observation, found = sim.reset(seed), []
    for _ in range(preset.sim.episode_steps):
        action = loaded.network(np.asarray(observation, np.float32))
        observation = sim.step(action).observation
        sensor = sim.scene.sensor
        moving = np.linalg.norm(sensor["object_velocity_w"], axis=1) > MOVING
        found.append(np.linalg.norm(sensor["push_force_w"], axis=1)[moving])
    return np.concatenate(found)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("policies", nargs="*", type=Path, default=[PUBLISHED])
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=77)
    chosen = parser.parse_args()
    for policy in chosen.policies:
        force = forces(policy, chosen.episodes, chosen.seed)
        touch = force[force > TOUCHING]
        print(
            f"{policy}: touches in {touch.size / force.size:.0%} of the steps in which the box moves, "
            f"with {np.median(touch):.1f} N (median), {np.percentile(touch, 95):.0f} N in 5 % of them"
        )


if __name__ == "__main__":
    main()
