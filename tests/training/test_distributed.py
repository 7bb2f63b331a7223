"""Workers that share the environments: they learn what one learns that has all of them."""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alula.build import build_robot
from alula.build_workers import build_workers
from alula.errors import AlulaError
from alula.presets import get_preset
from alula.sim.protocol import Transition
from alula.training.config import PpoConfig
from alula.training.distributed import DataParallelPpo
from alula.training.layers import ALONE, Normalizer, standardized
from alula.training.learner import Spaces
from alula.training.ppo import PpoLearner
from alula.training.rollout import Rollout
from alula.training.run import resolved_config, train, updates_saved

N, T, UPDATES = 8, 6, 3
SMALL = PpoConfig(
    n_envs=N, updates=10, rollout_steps=T, epochs=2, minibatches=1, hidden=(8,), critic_hidden=(8,), target_kl=0.01
)  # fmt: skip


class ThreadWorkers:
    """Workers that are threads of this process."""

    def __init__(self, count: int) -> None:
        self.count, self._local = count, threading.local()
        self._barrier, self._tensors = threading.Barrier(count, timeout=30.0), [None] * count

    @property
    def rank(self) -> int:
        return self._local.rank

    def average(self, x: torch.Tensor) -> torch.Tensor:
        self._tensors[self.rank] = x.detach().clone()  # type: ignore[call-overload]
        self._barrier.wait()
        total = torch.stack(self._tensors).mean(0)  # type: ignore[arg-type]
        self._barrier.wait()
        return total

    def run(self, work) -> list:
        """What `work(rank)` returns in each of them."""
        results: list = [None] * self.count

        def go(rank: int) -> None:
            self._local.rank = rank
            results[rank] = work(rank)

        threads = [threading.Thread(target=go, args=(rank,)) for rank in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


class Still:
    """Environments in which nothing happens."""

    def __init__(self, n_envs: int) -> None:
        self.n_envs = n_envs
        self.seeds: list[int] = []

    def reset(self, seed: int) -> np.ndarray:
        self.seeds.append(seed)
        return np.zeros((self.n_envs, 3), np.float32)

    def step(self, action: np.ndarray) -> Transition:
        n, none = self.n_envs, np.zeros(self.n_envs, bool)
        o, q = np.zeros((n, 3), np.float32), np.zeros((n, 2), np.float32)
        return Transition(
            observation=o, privileged=q, reward=np.zeros(n, np.float32), terminated=none, truncated=none,
            final_observation=o, final_privileged=q,
        )  # fmt: skip


def rollouts() -> list[Rollout]:
    """What N environments have seen, made up."""
    random = torch.Generator().manual_seed(1)

    def normal(*more: int) -> torch.Tensor:
        return torch.randn((T, N, *more), generator=random)

    return [
        Rollout(
            observation=2.0 + 3.0 * normal(3), action=normal(2), log_likelihood=-1.0 + 0.1 * normal(),
            privileged=normal(2), reward=normal(), terminated=(normal() > 1.5).float(), ended=(normal() > 1.0).float(),
            value=normal(), next_value=normal(),
        )
        for _ in range(1 + UPDATES)
    ]  # fmt: skip


class Replayed(PpoLearner):
    """A learner that sees given rollouts, or its share of them."""

    def collect(self) -> Rollout:
        share = N // self.workers.count
        mine = slice(self.workers.rank * share, (self.workers.rank + 1) * share)
        self.seen = getattr(self, "seen", -1) + 1
        given = vars(rollouts()[self.seen])
        return Rollout(**{name: x[:, mine] for name, x in given.items()})


def learned(workers) -> PpoLearner:
    config = replace(SMALL, n_envs=N // workers.count)
    learner = Replayed(Still(config.n_envs), config, 5, Spaces(n_actions=2), workers=workers)
    learner.told = [learner.update() for _ in range(UPDATES)]  # type: ignore[attr-defined]
    return learner


@pytest.mark.parametrize("count", [2, 4])
def test_workers_learn_what_one_learns(count: int) -> None:
    alone = learned(ALONE)
    workers = ThreadWorkers(count)
    together = workers.run(lambda rank: learned(workers))
    for learner in together:
        for name, expected in alone._live().items():
            assert torch.allclose(learner._live()[name], expected, rtol=1e-4, atol=1e-5), name
        assert learner.learning_rate == pytest.approx(alone.learning_rate)
        for mine, expected in zip(learner.told, alone.told, strict=True):  # type: ignore[attr-defined]
            assert vars(mine) == pytest.approx(vars(expected), rel=1e-3, abs=1e-5)
    # and the very same in all of them
    for name, expected in together[0]._live().items():
        assert all(torch.equal(learner._live()[name], expected) for learner in together[1:]), name


def test_the_mean_gradient_is_that_of_all_samples() -> None:
    def gradient(workers) -> torch.Tensor:
        config = replace(SMALL, n_envs=N // workers.count, max_grad_norm=1e9)
        learner = Replayed(Still(config.n_envs), config, 5, Spaces(n_actions=2), workers=workers)
        rollout = learner.collect()
        learner._descend(
            *(x.flatten(0, 1) for x in (
                rollout.observation, rollout.action, rollout.log_likelihood, rollout.privileged, rollout.reward,
                rollout.value,
            ))
        )  # fmt: skip
        return torch.cat([p.grad.flatten() for p in learner._parameters])

    whole, workers = gradient(ALONE), ThreadWorkers(2)
    shares = workers.run(lambda rank: gradient(workers))
    assert whole.norm() > 0.1
    assert torch.equal(*shares)
    assert torch.allclose(shares[0], whole, rtol=1e-4, atol=1e-6)


def test_statistics_by_hand() -> None:
    # 1, 2, 3 and 5, 6, 13: mean 5, variance (16 + 9 + 4 + 0 + 1 + 64) / 6 = 94 / 6, and 94 / 5 unbiased
    shares = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([5.0, 6.0, 13.0])]
    workers = ThreadWorkers(2)

    def take_in(rank: int) -> Normalizer:
        normalizer = Normalizer(1, 10.0)
        normalizer.update(shares[rank][:, None], workers)
        return normalizer

    for normalizer in workers.run(take_in):
        assert normalizer.mean.tolist() == pytest.approx([5.0])
        assert normalizer.variance.tolist() == pytest.approx([94.0 / 6.0])
        assert float(normalizer.count) == 6.0
    first, second = workers.run(lambda rank: standardized(shares[rank], workers))
    spread = (94.0 / 5.0) ** 0.5
    assert first.tolist() == pytest.approx([-4.0 / spread, -3.0 / spread, -2.0 / spread])
    assert second.tolist() == pytest.approx([0.0, 1.0 / spread, 8.0 / spread])


def test_workers_fly_their_own_episodes() -> None:
    workers = ThreadWorkers(3)
    config = replace(SMALL, n_envs=2)
    learners = workers.run(
        lambda rank: PpoLearner(Still(2), config, 7, Spaces(n_actions=2), workers=workers)
    )
    seeds = [learner.simulator.seeds[0] for learner in learners]
    assert seeds[0] == 7
    assert len(set(seeds)) == 3
    assert learners[0].env_steps == 3 * 2 * T
    draws = [torch.randn(4, generator=learner._random) for learner in learners]
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[1], draws[2])


@pytest.mark.parametrize(
    ("preset", "workers", "says"),
    [
        ("l2f-hover", 2, "allowed: one, or a preset that learns by PPO on the CPU"),
        ("panda-reach", 3, "a divisor of the 256 environments"),
        ("panda-reach", 0, "workers is 0"),
        ("panda-reach", -1, "workers is -1"),
    ],
)
def test_what_is_refused(tmp_path, preset: str, workers: int, says: str) -> None:
    chosen = get_preset(preset)
    with pytest.raises(AlulaError) as e:
        train(chosen, out=tmp_path, workers=workers)
    assert says in str(e.value)
    assert not list(tmp_path.iterdir())


def test_the_number_of_workers_belongs_to_the_config() -> None:
    preset = get_preset("panda-reach")
    robot = build_robot(preset)
    assert resolved_config(preset, robot, 0) != resolved_config(preset, robot, 0, 2)
    assert "workers" not in resolved_config(preset, robot, 0, 1)


# Processes

HOVER = get_preset("crazyflie-hover-ppo")
assert isinstance(HOVER.algo, PpoConfig)
QUICK = replace(HOVER, algo=replace(HOVER.algo, n_envs=32, updates=4, rollout_steps=8, minibatches=2, hidden=(8,), critic_hidden=(8,)))  # fmt: skip


def scale_tests():
    """What the tests of Ray have to look at processes with."""
    spec = importlib.util.spec_from_file_location(
        "scale_tests", Path(__file__).with_name("test_scale.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_processes_learn_and_survive_a_killed_one() -> None:
    # other tests may have left something that listens
    before = sorted(scale_tests().listening({os.getpid()}))
    learner = build_workers(QUICK, build_robot(QUICK), 0, 2)
    assert isinstance(learner, DataParallelPpo)
    try:
        learner.update()
        assert learner.updates_done == 1
        # a look around and an update, of all environments
        assert learner.env_steps == 2 * 8 * 32
        # their messages need no port
        assert scale_tests().listening({learner._followers[0].pid or 0}) == []
        assert sorted(scale_tests().listening({os.getpid()})) == before
        killed = learner._followers[0]
        os.kill(killed.pid or 0, signal.SIGKILL)
        killed.join()
        told = learner.update()
        assert learner.updates_done == 2
        assert np.isfinite(told.cost)
        assert learner._followers[0].is_alive()
        assert learner._followers[0].pid != killed.pid
        # and one that dies while worker 0 waits for it, in the middle of an update
        killed = learner._followers[0]
        os.kill(killed.pid or 0, signal.SIGSTOP)
        threading.Timer(1.0, killed.kill).start()
        learner.update()
        assert learner.updates_done == 3
        assert learner._followers[0].pid != killed.pid
        kept = learner.snapshot()
        learner.update()
        learner.restore(kept)
        assert learner.updates_done == 3
        learner.update()
        assert learner.updates_done == 4
    finally:
        followers = list(learner._followers)
        learner.close()
    assert not any(f.is_alive() for f in followers)


TRAIN = """
import sys
from dataclasses import replace
from pathlib import Path
from test_distributed import QUICK
from alula.training.run import train
if __name__ == "__main__":
    quick = replace(QUICK, algo=replace(QUICK.algo, updates=int(sys.argv[2])))
    train(quick, out=Path(sys.argv[1]), workers=2, checkpoint_every_s=0.0)
"""


def start(folder: Path, updates: int) -> subprocess.Popen:
    script = folder / "script.py"
    script.write_text(TRAIN)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "TMPDIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, str(script), str(folder / "run"), str(updates)],
        stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True,
    )  # fmt: skip


def ended(pids: list[int]) -> bool:
    """Whether nothing of these processes is left but what their parent has not taken note of."""
    states = []
    for pid in pids:
        try:
            states.append(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0])
        except OSError:
            continue
    return all(state == "Z" for state in states)


@pytest.mark.slow
def test_a_training_with_workers_leaves_a_policy_and_nothing_else(tmp_path) -> None:
    process = start(tmp_path, 4)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert not list(tmp_path.glob("alula-workers-*"))
    names = sorted(p.name for p in (tmp_path / "run").iterdir())
    assert names == ["config.json", "metrics.csv", "policy.onnx"]
    assert '"workers": 2' in (tmp_path / "run" / "config.json").read_text()


@pytest.mark.slow
def test_a_killed_training_ends_its_workers(tmp_path) -> None:
    process = start(tmp_path, 1_000_000)
    try:
        deadline = time.monotonic() + 90.0
        while updates_saved(tmp_path / "run") is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        followers = list(scale_tests().children(process.pid) - {process.pid})
    finally:
        process.kill()
    assert followers
    while not ended(followers):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.communicate()
    assert (updates_saved(tmp_path / "run") or 0) >= 1
    assert not list(tmp_path.glob("alula-workers-*"))
