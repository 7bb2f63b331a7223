"""The short-horizon actor-critic for GPUs: its very source on the CPU, flight by flight, against the CPU's own learner."""

import ctypes
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from alula.cli import main
from alula.presets import get_preset
from alula.robots.multirotor import load_robot
from alula.sim.config import Disturbances, Randomization, SimConfig
from alula.sim.multirotor.cuda_kernels import compile_cuda
from alula.sim.multirotor.kernels import Batch, Features
from alula.tasks import hover, track
from alula.training.config import ShortHorizonConfig
from alula.training.short_horizon import ShortHorizonLearner
from alula.training.short_horizon_cuda import PROGRAM, CudaShortHorizonLearner, Place
from alula.training.short_horizon_kernels import Learner

ROBOT = load_robot("crazyflie")
CONFIG = ShortHorizonConfig(
    n_envs=32, updates=20, horizon_start=8, horizon_end=12, hidden=(16, 12), critic_hidden=(12, 8)
)
WILD = SimConfig(
    randomization=Randomization(
        mass=0.2, inertia=0.2, thrust=0.25, rotor=0.1, lag=0.4, torque=0.2, drag=0.3,
        action_delay_steps=(0, 2), observation_delay_steps=(0, 3),
    ),
    history=3, episode_steps=30, disturbances=Disturbances(force=0.05, torque=1e-4, gust=0.05),
)  # fmt: skip
HAS_GPU = torch.cuda.is_available()


@pytest.fixture(scope="module")
def host(on_host):
    """Kernels by task, compiled once."""
    runner = Path(__file__).with_name("short_horizon_host.cpp")
    return lambda task: on_host(Features.of(ROBOT), task, PROGRAM, runner)


def pair(
    host, task: ModuleType = hover, **settings: Any
) -> tuple[ShortHorizonLearner, CudaShortHorizonLearner]:
    config = replace(CONFIG, **settings)
    return (
        ShortHorizonLearner(ROBOT, task, WILD, config, 5, threads=1),
        CudaShortHorizonLearner(ROBOT, task, WILD, config, 5, kernels=host(task)),
    )


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        (hover, {}),
        (track, {}),
        (hover, {"privileged": False}),
        (hover, {"critic": False}),
    ],
    ids=["hover", "track", "symmetric", "no critic"],
)
def test_an_update_is_the_cpus(host, task: ModuleType, settings: dict) -> None:
    cpu, gpu = pair(host, task, **settings)
    ended = 0
    for k in range(6):
        # From the same weights and flights: rounding must not grow from one update to the next.
        gpu.restore(cpu.snapshot())
        a, b = cpu.update(), gpu.update()
        ended += bool(a.failed)
        for name in ("cost", "critic_loss", "position_error", "gradient_norm"):
            assert getattr(b, name) == pytest.approx(getattr(a, name), rel=2e-4, abs=1e-6), (
                k,
                name,
            )
        assert (a.horizon, a.failed) == (b.horizon, b.failed)
        for name in ("actor_gradient", "critic_gradient"):
            x, y = (learner._arrays[name].sum(axis=0) for learner in (cpu, gpu))
            if name == "actor_gradient" or settings.get("critic", True):
                assert np.abs(x).max() > 0.0
                np.testing.assert_allclose(x, y, atol=2e-4 * np.abs(x).max(), err_msg=name)
        kept, other = cpu.snapshot(), gpu.snapshot()
        assert kept.keys() == other.keys()
        for name, array in kept.items():
            if name == "batch_rng":
                np.testing.assert_array_equal(array, other[name])
            elif name.startswith("batch_"):
                # Flights are steered by their own rounding, too.
                np.testing.assert_allclose(array, other[name], atol=5e-3, rtol=1e-3, err_msg=name)


def test_trainings_stay_together(host) -> None:
    cpu, gpu = pair(host)
    for _ in range(15):
        a, b = cpu.update(), gpu.update()
        assert b.cost == pytest.approx(a.cost, rel=0.01)
    assert cpu.env_steps == gpu.env_steps
    np.testing.assert_allclose(cpu.actor, gpu.actor, atol=0.05 * np.abs(cpu.actor).max())


def test_a_checkpoint_goes_on_bit_for_bit(host) -> None:
    _, one = pair(host)
    for _ in range(3):
        one.update()
    kept = one.snapshot()
    _, other = pair(host)
    other.restore(kept)
    for _ in range(3):
        one.update()
        other.update()
    for name, array in one.snapshot().items():
        np.testing.assert_array_equal(array, other.snapshot()[name], err_msg=name)


def test_python_mirrors_the_structures(host) -> None:
    found = (ctypes.c_int64 * 4)()
    host(hover).library.sizes(found)
    assert list(found) == [*map(ctypes.sizeof, (Batch, Learner, Place)), PROGRAM.threads]


@pytest.mark.parametrize("task", [hover, track])
def test_it_compiles_for_gpus(task: ModuleType, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC is not installed")
    monkeypatch.setenv("ALULA_CACHE", str(tmp_path))
    code = compile_cuda(Features.of(ROBOT), task, "compute_90", PROGRAM).decode()
    for kernel in (
        "learn_actor",
        "actor_weights",
        "learn_critic",
        "critic_weights",
        "close_horizon",
    ):
        assert f".entry alula_{kernel}(" in code


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_without_a_gpu_one_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "l2f-hover", "--device", "cuda", "--out", str(tmp_path / "run")]
    assert main(command) == 2
    assert "finds no CUDA GPU" in capsys.readouterr().err


@pytest.mark.skipif(not HAS_GPU, reason="no GPU")
def test_on_the_gpu(host) -> None:
    preset = get_preset("l2f-hover")
    assert isinstance(preset.algo, ShortHorizonConfig)
    assert isinstance(preset.sim, SimConfig)
    config = replace(preset.algo, updates=6, device="cuda")
    robot = load_robot(preset.robot)
    cpu = ShortHorizonLearner(robot, hover, preset.sim, config, 5)
    gpu = CudaShortHorizonLearner(robot, hover, preset.sim, config, 5)
    for _ in range(6):
        gpu.restore(cpu.snapshot())
        a, b = cpu.update(), gpu.update()
        assert b.cost == pytest.approx(a.cost, rel=1e-3)
        assert b.gradient_norm == pytest.approx(a.gradient_norm, rel=1e-2)
