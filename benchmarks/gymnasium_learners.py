"""PPO, SAC and DSAC-T on Gymnasium's MuJoCo tasks, beside stable-baselines3 with the same settings, steps and seeds.

    pip install 'gymnasium[mujoco]' stable-baselines3    (nothing else here needs them)
    python benchmarks/gymnasium_learners.py --out results.jsonl [--algos ppo sac dsac-t] [--seeds 0 1 2]
    python benchmarks/gymnasium_learners.py --out results.jsonl --speed [--algos ppo sac dsac-t]
    python benchmarks/gymnasium_learners.py --out results.jsonl --table [--write]

Every finished run appends one line a number of steps to the results file, and a run that is there is not made
again, so an interrupted comparison goes on where it was. Runs take hours, in which a shared machine is now fast, now
slow; `--speed` therefore times short stretches of training, the two sides in turns, and appends a line for each. All
on one thread. `--table` prints what is there; `--write` puts it into benchmarks/results/gymnasium.md.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from machine import describe

ENVS = ("InvertedDoublePendulum-v5", "Hopper-v5")
IMPLEMENTATIONS = ("alula", "stable-baselines3")
EPISODES = 20
FIRST_EVALUATION_SEED = 10_000
ROLLOUT = 2048
PPO_STEPS = 245 * ROLLOUT
"""Half a million, in whole rollouts."""
SAC_STEPS = {"InvertedDoublePendulum-v5": (50_000,), "Hopper-v5": (50_000, 150_000)}
WARMUP = 100
"""Random steps of SAC before it learns."""
SAC_UPDATE = 100
"""Steps of an update of ours; the optimiser makes one step after each."""

STRETCH = {"ppo": (2 * ROLLOUT, 12 * ROLLOUT), "sac": (600, 3100), "dsac-t": (600, 3100)}
"""Steps at which a stretch that is timed begins and ends; what is made and warmed up lies before it."""
STRETCHES = 7
"""Of each side."""

Act = Callable[[np.ndarray], np.ndarray]
"""A deterministic policy: an observation [O] to an action [A] in the environment's units."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training run."""

    algo: str
    implementation: str
    env: str
    seed: int

    @property
    def steps(self) -> tuple[int, ...]:
        """Environment steps after which it is evaluated."""
        return (PPO_STEPS,) if self.algo == "ppo" else SAC_STEPS[self.env]


class GymSimulator:
    """One Gymnasium environment as a simulator of one robot; the critic sees what the actor sees."""

    n_envs = 1

    def __init__(self, name: str) -> None:
        import gymnasium

        self._env = gymnasium.make(name)
        space: Any = self._env.action_space
        self._low, self._high = space.low, space.high

    def reset(self, seed: int) -> np.ndarray:
        """A new episode."""
        return self._env.reset(seed=seed)[0].astype(np.float32)[None]

    def to_units(self, action: np.ndarray) -> np.ndarray:
        """Actions in [-1, 1] in the environment's units."""
        return self._low + 0.5 * (action + 1.0) * (self._high - self._low)

    def step(self, action: np.ndarray) -> Any:
        """One step, and the beginning of the next episode where one ended."""
        from alula.sim.protocol import Transition

        moved, reward, terminated, truncated, _ = self._env.step(self.to_units(action[0]))
        final = observation = moved.astype(np.float32)[None]
        if terminated or truncated:
            observation = self._env.reset()[0].astype(np.float32)[None]
        return Transition(
            observation=observation,
            privileged=observation,
            reward=np.array([reward], np.float32),
            terminated=np.array([terminated]),
            truncated=np.array([truncated]),
            final_observation=final,
            final_privileged=final,
        )


def train_alula(job: Job, stops: tuple[int, ...], evaluated: Callable[[int, Act], None]) -> None:
    """Train with this package; `evaluated` gets steps and policy at each of the stops."""
    from alula.training.config import PpoConfig, SacConfig
    from alula.training.learner import Spaces
    from alula.training.ppo import PpoLearner
    from alula.training.sac import SacLearner

    simulator: Any = GymSimulator(job.env)
    n_actions = len(simulator.to_units(np.zeros(1)))
    if job.algo == "ppo":
        ppo = PpoConfig(
            n_envs=1, updates=PPO_STEPS // ROLLOUT - 1, rollout_steps=ROLLOUT, epochs=10, minibatches=ROLLOUT // 64,
            hidden=(64, 64), critic_hidden=(64, 64), learning_rate=3e-4, gamma=0.99, gae_lambda=0.95, clip=0.2,
            value_weight=1.0, max_grad_norm=0.5, initial_std=1.0, privileged=False,
        )  # fmt: skip
        learner = PpoLearner(simulator, ppo, job.seed, Spaces(n_actions=n_actions))
    else:
        sac = SacConfig(
            n_envs=1, updates=(job.steps[-1] - WARMUP) // SAC_UPDATE, steps_per_update=SAC_UPDATE, gradient_steps=1,
            warmup_steps=WARMUP, replay_size=1_000_000, batch_size=256, hidden=(256, 256), critic_hidden=(256, 256),
            learning_rate=3e-4, critic_learning_rate=3e-4, gamma=0.99, tau=0.005, privileged=False,
            distributional=job.algo == "dsac-t",
        )  # fmt: skip
        learner = SacLearner(simulator, sac, job.seed, Spaces(n_actions=n_actions))
    for steps in stops:
        while learner.env_steps < steps:
            learner.update()
        network = learner.network()
        evaluated(
            steps, lambda x, net=network: simulator.to_units(net(x[None].astype(np.float32))[0])
        )


def train_stable_baselines(
    job: Job, stops: tuple[int, ...], evaluated: Callable[[int, Act], None]
) -> None:
    """Train with stable-baselines3: its defaults; for PPO with what its zoo sets for MuJoCo, `normalize`.

    Its learning rate falls linearly to zero as ours does.
    """
    import gymnasium
    from stable_baselines3 import PPO, SAC
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    env: Any = DummyVecEnv([lambda: gymnasium.make(job.env)])
    if job.algo == "ppo":
        env = VecNormalize(env, gamma=0.99)
        model: Any = PPO("MlpPolicy", env, learning_rate=lambda left: 3e-4 * left, seed=job.seed, device="cpu")  # fmt: skip
    else:
        model = SAC("MlpPolicy", env, seed=job.seed, device="cpu")

    def act(x: np.ndarray) -> np.ndarray:
        seen = env.normalize_obs(x) if job.algo == "ppo" else x
        return model.predict(seen, deterministic=True)[0]

    done = 0
    for steps in stops:
        model.learn(steps - done, reset_num_timesteps=done == 0)
        done = steps
        evaluated(steps, act)


def returns(env_name: str, act: Act) -> list[float]:
    """Undiscounted returns of fresh episodes."""
    import gymnasium

    env, found = gymnasium.make(env_name), []
    for k in range(EPISODES):
        observation, total, over = env.reset(seed=FIRST_EVALUATION_SEED + k)[0], 0.0, False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(act(observation))
            total, over = total + float(reward), terminated or truncated
        found.append(total)
    return found


def run(job: Job) -> list[dict[str, Any]]:
    """Train and evaluate; one result for each number of steps."""
    import torch

    torch.set_num_threads(1)
    results: list[dict[str, Any]] = []
    machine = describe()
    wall, cpu = time.perf_counter(), time.process_time()

    def evaluated(steps: int, act: Act) -> None:
        nonlocal wall, cpu
        # up to here, without the time of earlier evaluations
        wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
        found = returns(job.env, act)
        results.append(
            vars(job) | {
                "steps": steps, "return_mean": float(np.mean(found)), "return_std": float(np.std(found)),
                "returns": found, "wall_s": wall_s, "cpu_s": cpu_s, "machine": machine,
            }
        )  # fmt: skip
        wall, cpu = time.perf_counter() - wall_s, time.process_time() - cpu_s

    trainer(job)(job, job.steps, evaluated)
    return results


def trainer(job: Job) -> Callable[[Job, tuple[int, ...], Callable[[int, Act], None]], None]:
    """What trains it."""
    return train_alula if job.implementation == "alula" else train_stable_baselines


def speed(job: Job) -> dict[str, Any]:
    """Seconds of a stretch of training."""
    import torch

    torch.set_num_threads(1)
    marks: list[tuple[float, float]] = []
    machine = describe()
    trainer(job)(
        job, STRETCH[job.algo], lambda steps, act: marks.append((time.perf_counter(), time.process_time()))
    )  # fmt: skip
    (wall, cpu), (wall_end, cpu_end) = marks
    first, last = STRETCH[job.algo]
    return {
        **{k: v for k, v in vars(job).items() if k != "seed"},
        "stretch": last - first, "wall_s": wall_end - wall, "cpu_s": cpu_end - cpu, "machine": machine,
    }  # fmt: skip


def jobs(algos: list[str], envs: list[str], seeds: list[int]) -> list[Job]:
    """All runs, PPO first, the implementations in turn."""
    return [
        Job(algo=algo, implementation=implementation, env=env, seed=seed)
        for algo in ("ppo", "sac", "dsac-t")
        if algo in algos
        for env in envs
        for seed in seeds
        for implementation in IMPLEMENTATIONS
        if algo != "dsac-t" or implementation == "alula"
    ]


def load(path: Path) -> list[dict[str, Any]]:
    """Results so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def interval(groups: list[list[float]], draws: int = 10_000) -> tuple[float, float]:
    """Bootstrap 95 % interval of the mean: seeds are drawn, then episodes of each."""
    rng, table = np.random.default_rng(0), np.array(groups)
    seeds = rng.integers(len(table), size=(draws, len(table), 1))
    episodes = rng.integers(table.shape[1], size=(draws, len(table), table.shape[1]))
    low, high = np.percentile(table[seeds, episodes].mean((1, 2)), [2.5, 97.5])
    return float(low), float(high)


ORDER = {name: i for i, name in enumerate((*ENVS, "ppo", "sac", "dsac-t", *IMPLEMENTATIONS))}


def groups(
    results: list[dict[str, Any]], *keys: str
) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Results with the same values of the keys together, in the order of the tables."""
    kinds = {tuple(r[k] for k in keys) for r in results}
    return {
        kind: [r for r in results if tuple(r[k] for k in keys) == kind]
        for kind in sorted(kinds, key=lambda kind: [ORDER.get(x, x) for x in kind])
    }


def table(results: list[dict[str, Any]]) -> str:
    """The committed tables."""
    machines = sorted({r["machine"].rsplit(", load", 1)[0] for r in results})
    lines = [
        "# Learners on Gymnasium's MuJoCo tasks, beside stable-baselines3",
        "",
        "Return of the final deterministic policy, mean over seeds and 20 fresh episodes each, with the bootstrap 95 %",
        "interval (seeds drawn, then episodes); time of training, median of the seeds, on one thread, without",
        "evaluation. Both sides: environment, steps, networks, batches, rates as in `benchmarks/gymnasium_learners.py`",
        "(the defaults of stable-baselines3; PPO with normalised observations and rewards and a rate that falls to zero).",
        f"Runs: {'; '.join(machines)}. Made by `python benchmarks/gymnasium_learners.py --table --write`.",
        "",
        "| task | learner | steps | implementation | seeds | return | 95 % interval | wall time | processor time |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    runs = [r for r in results if "returns" in r]
    for kind, rows in groups(runs, "env", "algo", "steps", "implementation").items():
        env, algo, steps, implementation = kind
        low, high = interval([r["returns"] for r in rows])
        mean = float(np.mean([r["return_mean"] for r in rows]))
        wall, cpu = (median(r[k] for r in rows) for k in ("wall_s", "cpu_s"))
        lines.append(
            f"| {env} | {algo.upper()} | {steps:,} | {implementation} | {len(rows)} | {mean:.0f} | "
            f"{low:.0f} to {high:.0f} | {wall:.0f} s | {cpu:.0f} s |"
        )
    stretches = [r for r in results if "stretch" in r]
    if stretches:
        lines += speed_lines(stretches)
    return "\n".join(lines) + "\n"


def speed_lines(stretches: list[dict[str, Any]]) -> list[str]:
    """The table of how fast both sides are."""
    lines = [
        "",
        "How fast, from short stretches of training in turns (`--speed`); medians, and the quartiles of the ratio of neighbours.",
        "The runs above took hours beside other work, and their wall times show that too.",
        "",
        "| task | learner | stretches of | alula, steps/s | stable-baselines3, steps/s | times as fast | quartiles |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (env, algo), rows in groups(stretches, "env", "algo").items():
        ours, theirs = (
            np.array([r["stretch"] / r["wall_s"] for r in rows if r["implementation"] == name])
            for name in IMPLEMENTATIONS
        )
        pairs = min(len(ours), len(theirs))
        if not pairs:
            continue
        low, middle, high = np.percentile(ours[:pairs] / theirs[:pairs], [25, 50, 75])
        lines.append(
            f"| {env} | {algo.upper()} | {pairs} x {rows[0]['stretch']:,} | {median(ours):.0f} | {median(theirs):.0f} | "
            f"{middle:.2f} | {low:.2f} to {high:.2f} |"
        )
    return lines


def append(path: Path, result: dict[str, Any]) -> None:
    """One line more in the results file."""
    with path.open("a") as file:
        file.write(json.dumps(result) + "\n")


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--algos", nargs="*", default=["ppo", "sac", "dsac-t"])
    parser.add_argument("--envs", nargs="*", default=list(ENVS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if arguments.table:
        text = table(load(arguments.out))
        print(text)
        if arguments.write:
            (Path(__file__).parent / "results" / "gymnasium.md").write_text(text)
        return
    if arguments.speed:
        for _ in range(STRETCHES):
            for job in jobs(arguments.algos, arguments.envs, [0]):
                append(arguments.out, speed(job))
        return
    for job in jobs(arguments.algos, arguments.envs, arguments.seeds):
        done = [r["steps"] for r in load(arguments.out) if r.items() >= vars(job).items()]
        if set(done) >= set(job.steps):
            continue
        for result in run(job):
            if result["steps"] not in done:
                append(arguments.out, result)
            shown = {k: v for k, v in result.items() if k not in ("returns", "machine")}
            print(shown, flush=True)


if __name__ == "__main__":
    main()
