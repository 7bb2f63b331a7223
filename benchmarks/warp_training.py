"""Train an arm's preset in MuJoCo Warp on the CPU: the way from Warp to C MuJoCo, on a machine without a GPU.

    python benchmarks/warp_training.py panda-reach --seed 100 --out reach.onnx [--updates 150]
    alula evaluate reach.onnx --sim mujoco-warp --randomized --episodes 1000 --seed 7

Needs `pip install "alula[warp]"`. `--out` holds what has been learned so far, also after Ctrl-C. With a GPU,
`alula train PRESET --device cuda` does the same.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

from rich.progress import track

from alula.build import build_base, build_contract, build_robot, build_task
from alula.policies.onnx_file import write_policy
from alula.presets import get_preset
from alula.robots.arm import Arm
from alula.sim.arm_config import ArmSimConfig
from alula.sim.mujoco.arm_warp import WarpArm
from alula.training.config import PpoConfig
from alula.training.learner import Spaces
from alula.training.ppo import PpoLearner


def main() -> None:
    """Train, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("preset")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--updates", type=int, help="another number than the preset's")
    chosen = parser.parse_args()
    if not chosen.out.parent.is_dir():
        parser.error(f"--out {chosen.out}: its folder is not there")
    preset = get_preset(chosen.preset)
    robot, task = build_robot(preset), build_task(preset.task)
    sim, algo = preset.sim, preset.algo
    if not (
        isinstance(robot, Arm) and isinstance(sim, ArmSimConfig) and isinstance(algo, PpoConfig)
    ):
        parser.error(f"preset {preset.name}; allowed: an arm's that learns by PPO")
    algo = replace(algo, updates=chosen.updates or algo.updates)
    arms = WarpArm(robot, task, sim, algo.n_envs, staggered=True, device="cpu")
    spaces = Spaces(
        n_actions=len(sim.action_size(robot)),
        assisting_actions=sim.assisting_actions,
        parameters=arms.n_parameters,
    )
    base = build_base(preset, robot, task)
    learner = PpoLearner(arms, algo, chosen.seed, spaces, base=base)
    start = time.perf_counter()
    try:
        for _ in track(range(algo.updates), preset.name):
            learner.update()
    finally:
        training = {
            "seed": chosen.seed,
            "updates": learner.updates_done,
            "env_steps": learner.env_steps,
        }
        contract = build_contract(preset, robot, task, training)
        write_policy(chosen.out, learner.network(), contract, seed=chosen.seed, overwrite=True)
        seconds = time.perf_counter() - start
        print(f"{learner.env_steps} steps in {seconds:.0f} s, {learner.diverged} diverged")


if __name__ == "__main__":
    main()
