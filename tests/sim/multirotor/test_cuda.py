"""The kernels of CudaMultirotor: the very source on the CPU against the CPU's simulator, and compiled for GPUs.

What needs a GPU skips where there is none; the class, its kernels and their arguments are all run without one.
"""

import ctypes
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, cast

import numpy as np
import pytest
import torch

from alula import bench_gpu
from alula.build import build_learner, build_robot
from alula.cli import main
from alula.commands import on_device
from alula.errors import AlulaError
from alula.presets import get_preset
from alula.robots.multirotor import load_robot
from alula.sim.config import Disturbances, Randomization, SimConfig, Start
from alula.sim.multirotor import cuda
from alula.sim.multirotor.cuda import CudaMultirotor, find_gpu
from alula.sim.multirotor.cuda_kernels import (
    SIMULATOR,
    Exchange,
    compile_cuda,
    shared_structure,
)
from alula.sim.multirotor.kernels import Batch, Features, RowCounts, aligned
from alula.sim.multirotor.simulator import MultirotorSimulator
from alula.sim.protocol import Simulator
from alula.tasks import hover, track
from alula.training.config import PpoConfig, SacConfig
from alula.training.learner import Spaces
from alula.training.ppo import PpoLearner
from alula.training.sac import SacLearner

ROBOT = load_robot("crazyflie")
TASKS = {"hover": hover, "track": track}
RANDOM = Randomization(
    mass=0.2, inertia=0.2, thrust=0.25, rotor=0.1, lag=0.4, torque=0.2, drag=0.3,
    action_delay_steps=(0, 2), observation_delay_steps=(0, 3),
)  # fmt: skip
WILD = SimConfig(
    randomization=RANDOM,
    history=3,
    episode_steps=40,
    disturbances=Disturbances(force=0.05, torque=1e-4, gust=0.05),
)
N = 40
"""Not a multiple of anything that matters."""
HAS_GPU = torch.cuda.is_available()


@pytest.fixture(scope="module")
def host(on_host):
    """Kernels by task, compiled once."""
    runner = Path(__file__).with_name("cuda_host.cpp")
    return lambda task: on_host(Features.of(ROBOT), task, SIMULATOR, runner)


def pair(
    host, config: SimConfig, task: ModuleType = hover, n: int = N, **options
) -> tuple[MultirotorSimulator, CudaMultirotor]:
    cpu = MultirotorSimulator(ROBOT, task, config, n, **options)
    return cpu, CudaMultirotor(ROBOT, task, config, n, kernels=host(task), **options)


def actions(steps: int, n: int = N, seed: int = 0, spread: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (ROBOT.hover_action + spread * rng.standard_normal((steps, n, 4))).astype(np.float32)


def rows_of(cpu: MultirotorSimulator, name: str) -> np.ndarray:
    """An array of the CPU's in the order of the GPU's [rows, N]."""
    array = cpu.batch.arrays[name]
    return array.transpose(1, 0, 2).reshape(array.shape[1], array.shape[0] * 16)[:, : cpu.n_envs]


def give(cpu: MultirotorSimulator, gpu: CudaMultirotor) -> None:
    """Take the CPU's state over, so that the next step begins at the very same numbers."""
    for name in ("state", "gust"):
        gpu.arrays[name].copy_(torch.from_numpy(rows_of(cpu, name).copy()))


def close(a: np.ndarray, b: torch.Tensor, tolerance: float) -> None:
    np.testing.assert_allclose(b.numpy(), a, rtol=tolerance, atol=tolerance)


FIELDS = (
    "observation", "privileged", "reward", "final_observation", "final_privileged",
)  # fmt: skip


def test_structures_are_mirrored(host) -> None:
    for task in TASKS.values():
        found = (ctypes.c_int64 * 4)()
        host(task).library.sizes(found)
        shared = shared_structure(RowCounts(4, task))
        assert list(found) == [*map(ctypes.sizeof, (Batch, shared, Exchange)), SIMULATOR.threads]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_same_seed_same_episodes_step_by_step(host, task: ModuleType) -> None:
    # 600 steps from the CPU's state each: everything random happens, only one step's rounding is left
    cpu, gpu = pair(host, replace(WILD, episode_steps=70), task)
    close(cpu.reset(3), gpu.reset(3), 3e-6)
    failed = late = 0
    for action in actions(600):
        a, b = cpu.step(action), gpu.step(torch.from_numpy(action))
        np.testing.assert_array_equal(a.terminated, b.terminated.numpy())
        np.testing.assert_array_equal(a.truncated, b.truncated.numpy())
        for name in FIELDS:
            close(getattr(a, name), getattr(b, name), 5e-6)
        failed += int(a.terminated.sum())
        late += int(a.truncated.sum())
        np.testing.assert_array_equal(
            rows_of(cpu, "rng").view(np.int32), gpu.arrays["rng"].numpy(), "as many draws"
        )
        for name in ("action_delay", "observation_delay", "trajectory", "clock", "failed"):
            np.testing.assert_array_equal(rows_of(cpu, name), gpu.arrays[name].numpy(), name)
        close(rows_of(cpu, "params"), gpu.arrays["params"], 1e-6)
        close(rows_of(cpu, "state"), gpu.arrays["state"], 5e-6)
        give(cpu, gpu)
    assert failed > 100
    assert late > 30


def test_flights_agree_over_whole_episodes(host) -> None:
    # the same, but each from its own state: what rounding does in 40 steps of an unstable vehicle
    cpu, gpu = pair(host, WILD, track)
    cpu.reset(5)
    gpu.reset(5)
    worst = 0.0
    for action in actions(200, spread=0.2):
        cpu.step(action)
        gpu.step(torch.from_numpy(action))
        worst = max(worst, float(np.abs(rows_of(cpu, "state") - gpu.arrays["state"].numpy()).max()))
    assert worst < 1e-3


@pytest.mark.parametrize("history", [0, 32, 64])
def test_histories_and_the_ring(host, history: int) -> None:
    config = replace(WILD, history=history, episode_steps=150)
    cpu, gpu = pair(host, config, hover, 5)
    close(cpu.reset(1), gpu.reset(1), 3e-6)
    for action in actions(200, 5, spread=0.1):
        a, b = cpu.step(action), gpu.step(torch.from_numpy(action))
        past = slice(18, None)
        for name in FIELDS:
            close(getattr(a, name), getattr(b, name), 5e-6)
        np.testing.assert_array_equal(a.observation[:, past], b.observation.numpy()[:, past])
        give(cpu, gpu)


def test_without_automatic_reset_the_failed_stay(host) -> None:
    config = replace(WILD, start=Start(tilt=3.0, velocity=5.0), episode_steps=10_000)
    cpu, gpu = pair(host, config, hover, auto_reset=False)
    cpu.reset(2)
    gpu.reset(2)
    for action in actions(120):
        a, b = cpu.step(action), gpu.step(torch.from_numpy(action))
        np.testing.assert_array_equal(a.terminated, b.terminated.numpy())
        close(a.observation, b.observation, 1e-4)
        give(cpu, gpu)
    assert a.terminated.all()


def test_several_steps_in_one_kernel_are_the_same_as_one_by_one(host) -> None:
    one = CudaMultirotor(ROBOT, track, WILD, N, kernels=host(track))
    many = CudaMultirotor(ROBOT, track, WILD, N, kernels=host(track))
    one.reset(7)
    many.reset(7)
    plan = torch.from_numpy(actions(90))
    recording = many.recording(90)
    last = many.fly(plan, 90, recording)
    for t, action in enumerate(plan):
        now = one.step(action)
        assert torch.equal(recording.reward[t], now.reward)
        assert torch.equal(recording.terminated[t], now.terminated)
        assert torch.equal(recording.truncated[t], now.truncated)
        assert torch.equal(recording.observed[t].T, now.observation[:, : one.rows.observed])
    assert torch.equal(last.observation, now.observation)
    assert torch.equal(last.final_privileged, now.final_privileged)
    for name, array in one.arrays.items():
        assert torch.equal(array, many.arrays[name]), name
    # held, and nothing recorded: the flags tell of all steps
    held, flags = plan[0], torch.zeros(N, dtype=torch.bool)
    for _ in range(45):
        now = one.step(held)
        flags |= now.terminated | now.truncated
    last = many.fly(held, 45)
    assert torch.equal(last.terminated | last.truncated, flags)
    assert torch.equal(last.reward, now.reward)


def test_actions_may_lie_anyhow_and_are_limited(host) -> None:
    one = CudaMultirotor(ROBOT, hover, WILD, N, kernels=host(hover))
    other = CudaMultirotor(ROBOT, hover, WILD, N, kernels=host(hover))
    one.reset(0)
    other.reset(0)
    action = 3.0 * torch.from_numpy(actions(1)[0])
    a = one.step(action)
    b = other.step(action.clamp(-1.0, 1.0).T.contiguous().T)
    assert torch.equal(a.observation, b.observation)


def test_an_action_that_is_no_number_ends_that_episode_alone(host) -> None:
    cpu, gpu = pair(host, WILD, hover, 8)
    cpu.reset(0)
    gpu.reset(0)
    action = torch.full((8, 4), ROBOT.hover_action)
    cpu.step(action.numpy())
    action[3, 1], action[5, 0] = torch.nan, torch.inf
    t = gpu.step(action)
    assert t.terminated.tolist() == [False, False, False, True, False, True, False, False]
    for x in (t.observation, t.privileged, t.reward, t.final_privileged):
        assert torch.isfinite(x).all()
    ok = [0, 1, 2, 4, 6, 7]
    np.testing.assert_allclose(
        gpu.arrays["state"].numpy()[:, ok], rows_of(cpu, "state")[:, ok], atol=1e-5
    )


def test_physics_alone(host) -> None:
    cpu, gpu = pair(host, WILD, hover, 16)
    cpu.reset(0)
    gpu.reset(0)
    give(cpu, gpu)
    rng = np.random.default_rng(0)
    throttle, disturbance = aligned((1, 4, 16)), aligned((1, 6, 16))
    throttle[:] = rng.uniform(0.3, 0.6, throttle.shape)
    library, batch = cpu._library, cpu.batch
    library.alula_physics(
        ctypes.byref(batch.struct), 0, 1, 10, throttle.ctypes.data, disturbance.ctypes.data
    )
    gpu.physics(torch.from_numpy(throttle[0]), torch.from_numpy(disturbance[0]), 10)
    close(rows_of(cpu, "state"), gpu.arrays["state"], 1e-4)


def test_state_is_a_view(host) -> None:
    cpu, gpu = pair(host, WILD, track, 3)
    cpu.reset(4)
    gpu.reset(4)
    for action in actions(5, 3, spread=0.05):
        cpu.step(action)
        gpu.step(torch.from_numpy(action))
    a, b = cpu.state(), gpu.state()
    for name in a.__dataclass_fields__:
        close(getattr(a, name), getattr(b, name), 1e-4)
    assert b.position_w.data_ptr() == gpu.arrays["state"].data_ptr()


def test_ppo_learns_from_tensors_what_it_learns_from_arrays(host) -> None:
    config = PpoConfig(n_envs=N, updates=3, rollout_steps=8, hidden=(8,), critic_hidden=(8,))
    first: list[Any] = []
    for simulator in pair(host, WILD, hover):
        learner = PpoLearner(
            cast(Simulator, simulator), config, 1, Spaces(n_actions=4, first_action=0.1)
        )
        learner._now = learner._environments.begin(1)
        first.append((learner.collect(), learner.update(), learner.snapshot()))
    (a, seen_a, kept_a), (b, seen_b, kept_b) = first
    for name in ("observation", "privileged", "reward", "terminated", "ended", "next_value"):
        close(getattr(a, name).numpy(), getattr(b, name), 1e-3)
    # rows of their own, not the simulator's, which its next step overwrites
    assert not torch.equal(b.observation[0], b.observation[-1])
    assert seen_a.cost == pytest.approx(seen_b.cost, abs=1e-3)
    for name, array in kept_a.items():
        np.testing.assert_allclose(array, kept_b[name], atol=2e-3, rtol=1e-2, err_msg=name)


def test_sac_learns_from_tensors_what_it_learns_from_arrays(host) -> None:
    config = SacConfig(
        n_envs=N, updates=2, steps_per_update=4, gradient_steps=1, warmup_steps=4 * N, batch_size=64,
        hidden=(8,), critic_hidden=(8,), replay_size=10 * N,
    )  # fmt: skip
    found: list[Any] = []
    for simulator in pair(host, WILD, hover):
        learner = SacLearner(
            cast(Simulator, simulator), config, 1, Spaces(n_actions=4, first_action=0.1)
        )
        assert learner.replay.size == 4 * N
        found.append((learner.replay.newest(10**9), learner.update(), learner.snapshot()))
    (flown_a, seen_a, kept_a), (flown_b, seen_b, kept_b) = found
    # The replay holds the very steps, and with their final rows those of ended episodes.
    np.testing.assert_allclose(flown_a, flown_b, atol=2e-3, rtol=1e-3)
    assert seen_a.cost == pytest.approx(seen_b.cost, abs=1e-3)
    for name in ("target_0", "actor_mean", "critic_mean"):
        np.testing.assert_allclose(kept_a[name], kept_b[name], atol=2e-3, rtol=1e-2, err_msg=name)


def test_training_on_a_gpu_needs_one(tmp_path) -> None:
    preset = get_preset("crazyflie-hover-ppo")
    assert on_device(preset, "cpu") is preset
    assert on_device(preset, "cuda:1").algo.device == "cuda:1"  # type: ignore[union-attr]
    with pytest.raises(AlulaError, match="device is 'gpu'; allowed: cpu, cuda"):
        on_device(preset, "gpu")
    if not HAS_GPU:
        for flown in (preset, get_preset("l2f-hover")):
            with pytest.raises(AlulaError, match="finds no CUDA GPU"):
                build_learner(on_device(flown, "cuda"), build_robot(flown), 0)
        arm = get_preset("panda-reach")
        with pytest.raises(AlulaError, match=r"finds no CUDA GPU|mujoco-warp is not installed"):
            build_learner(on_device(arm, "cuda"), build_robot(arm), 0)
        insert = get_preset("panda-insert-sac")
        assert on_device(insert, "cuda:1").algo.device == "cuda:1"  # type: ignore[union-attr]


class DriverOnHost:
    """The driver's functions that CudaKernels calls, with the launched kernels run on the CPU."""

    CUresult = SimpleNamespace(CUDA_SUCCESS=0)
    arguments: ClassVar = {
        "alula_reset": 3, "alula_step": 3, "alula_physics": 5, "alula_multiply_add": 4,
        "alula_reference": 3,
    }  # fmt: skip

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library, self.threads = library, 0

    def cuModuleLoadData(self, code: bytes) -> tuple:
        return (0, code) if code == b"machine code" else (SimpleNamespace(name="BAD_IMAGE"), None)

    def cuModuleGetFunction(self, module: bytes, name: bytes) -> tuple:
        return 0, name.decode()

    def cuLaunchKernel(self, f, gx, gy, gz, bx, by, bz, shared, stream, params, extra) -> tuple:
        assert (gy, gz, bx, by, bz, shared, stream, extra) == (
            1,
            1,
            SIMULATOR.threads,
            1,
            1,
            0,
            77,
            0,
        )
        pointers = ctypes.cast(params, ctypes.POINTER(ctypes.c_void_p))
        self.threads = gx * bx  # also those beyond the last environment, as a GPU would
        run = getattr(self.library, f"run_{f}")
        run(ctypes.c_uint(self.threads), *map(ctypes.c_void_p, pointers[: self.arguments[f]]))
        return (0,)


def test_what_the_driver_is_told(host, monkeypatch) -> None:
    driver = DriverOnHost(host(hover).library)
    monkeypatch.setattr(cuda, "find_gpu", torch.device)
    monkeypatch.setattr(cuda, "compile_cuda", lambda features, task, arch, program: arch_code[arch])
    monkeypatch.setattr(cuda, "import_module", lambda name: {"cuda.bindings.driver": driver}[name])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    stream = SimpleNamespace(cuda_stream=77)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    arch_code = {"sm_90": b"machine code"}
    n = SIMULATOR.threads + 3
    one = CudaMultirotor(ROBOT, hover, WILD, n, kernels=host(hover))
    kernels = cuda.CudaKernels(Features.of(ROBOT), hover, "cpu")
    other = CudaMultirotor(ROBOT, hover, WILD, n, kernels=kernels)
    assert torch.equal(one.reset(0), other.reset(0))
    assert driver.threads == 2 * SIMULATOR.threads
    for action in map(torch.from_numpy, actions(50, n)):
        a, b = one.step(action), other.step(action)
        assert torch.equal(a.observation, b.observation)
    one.fly(action, 7, one.recording(7))
    other.fly(action, 7, other.recording(7))
    a, b = one.state(), other.state()
    assert torch.equal(a.position_w, b.position_w)
    assert torch.equal(a.reference_position_w, b.reference_position_w)
    throttle, calm = torch.full((4, n), 0.5), torch.zeros((6, n))
    one.physics(throttle, calm, 3)
    other.physics(throttle, calm, 3)
    assert torch.equal(one.arrays["state"], other.arrays["state"])
    assert torch.equal(one.multiply_add(2), other.multiply_add(2))
    arch_code["sm_90"] = b"something else"
    with pytest.raises(AlulaError, match="cuModuleLoadData failed: BAD_IMAGE"):
        cuda.CudaKernels(Features.of(ROBOT), hover, "cpu")


def test_bench_gpu_measures_and_says_what(host, monkeypatch) -> None:
    for name in ("PHYSICS_STEPS", "FLIGHT_STEPS", "FMA_STEPS"):
        monkeypatch.setattr(bench_gpu, name, 2)
    preset = get_preset("crazyflie-hover")
    data = bench_gpu.bench_gpu(preset, repeats=2, kernels=host(hover), sizes=(4, 8))
    assert json.loads(json.dumps(data)) == data
    assert data["flops_a_physics_step"] == 550  # as benchmarks/results/simulator.md counts them
    assert [m["n_envs"] for m in data["physics"]] == [4, 8]
    for m in (*data["physics"], *data["flight"]):
        assert 0.0 < m["per_s_min"] <= m["per_s"] <= m["per_s_max"]
    assert data["floor_steps_per_s"] == pytest.approx(data["fp32_flops_per_s"] / 550)
    assert data["dt_s"] == preset.sim.control_dt
    assert "550 operations" in bench_gpu.text(data)
    with pytest.raises(AlulaError, match="is an arm's"):
        bench_gpu.bench_gpu(get_preset("panda-reach"), repeats=1)
    with pytest.raises(AlulaError, match="repeats is 0"):
        bench_gpu.bench_gpu(preset, repeats=0)


def test_multiplications_and_additions_are_done(host) -> None:
    sim = CudaMultirotor(ROBOT, hover, WILD, 3, kernels=host(hover))
    # x <- x dt + dt in 8 chains, often enough to forget the start: 8 dt / (1 - dt)
    dt = np.float64(np.float32(WILD.control_dt))
    np.testing.assert_allclose(sim.multiply_add(2).numpy(), 8 * dt / (1 - dt), rtol=1e-6)


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_bench_gpu_without_one_fails_and_says_why(capsys) -> None:
    assert main(["bench", "gpu", "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1]) == {"preset": "l2f-hover", "gpu": "none"}
    assert "finds no CUDA GPU" in said.err
    assert main(["bench", "gpu", "--preset", "no"]) == 2


def test_bad_input(host) -> None:
    sim = CudaMultirotor(ROBOT, hover, WILD, 4, kernels=host(hover))
    good = torch.zeros(4, 4)
    for bad in (torch.zeros(4, 3), torch.zeros(5, 4), good.double(), torch.zeros(16)):
        with pytest.raises(AlulaError, match=r"action is .* allowed: \(4, 4\), torch.float32"):
            sim.step(bad)
    for call in (
        lambda: sim.fly(good, 0),
        lambda: sim.fly(torch.zeros(3, 4, 4), 4),
        lambda: sim.fly(good, 4, sim.recording(3)),
        lambda: sim.physics(torch.zeros(8, 4).T, torch.zeros(6, 4), 1),
        lambda: sim.reset(-1),
        lambda: CudaMultirotor(ROBOT, hover, WILD, 0, kernels=host(hover)),
    ):
        with pytest.raises(AlulaError, match="allowed"):
            call()


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_without_a_gpu_one_line_says_so() -> None:
    with pytest.raises(AlulaError, match="finds no CUDA GPU; allowed: 'cpu'") as caught:
        CudaMultirotor(ROBOT, hover, WILD, 16)
    assert "\n" not in str(caught.value)


def nvrtc_or_skip() -> None:
    try:
        compile_cuda(Features.of(ROBOT), hover, "sm_0")
    except AlulaError as e:
        if "not installed" in str(e):
            pytest.skip(str(e))


@pytest.mark.parametrize(
    ("robot", "task"),
    [
        ("crazyflie", track),
        pytest.param("crazyflie-l2f", hover, marks=pytest.mark.slow),
        pytest.param("x500", hover, marks=pytest.mark.slow),
    ],
    ids=["crazyflie-track", "l2f-hover", "x500-hover"],
)
def test_every_kernel_compiles_to_ptx(robot: str, task: ModuleType, tmp_path, monkeypatch) -> None:
    nvrtc_or_skip()
    monkeypatch.setenv("ALULA_CACHE", str(tmp_path))
    features = Features.of(load_robot(robot))
    ptx = compile_cuda(features, task, "compute_90").decode()
    for kernel in ("alula_reset", "alula_step", "alula_physics", "alula_reference"):
        assert f".visible .entry {kernel}(" in ptx
    assert ".local" not in ptx, "an environment's rows stay in registers"
    assert compile_cuda(features, task, "compute_90").decode() == ptx
    assert len(list(tmp_path.iterdir())) == 1, "from the cache"
    with pytest.raises(AlulaError, match=r"NVRTC could not compile simulator\.cu for sm_12345"):
        compile_cuda(features, task, "sm_12345")


@pytest.mark.skipif(not HAS_GPU, reason="no GPU")
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_on_the_gpu(host, task: ModuleType) -> None:
    cpu = MultirotorSimulator(ROBOT, task, WILD, N)
    gpu = CudaMultirotor(ROBOT, task, WILD, N)
    on_host = CudaMultirotor(ROBOT, task, WILD, N, kernels=host(task))
    close(cpu.reset(3), gpu.reset(3).cpu(), 3e-6)
    on_host.reset(3)
    for action in actions(300):
        a, b = cpu.step(action), gpu.step(torch.from_numpy(action).to(gpu.device))
        np.testing.assert_array_equal(a.terminated, b.terminated.cpu().numpy())
        for name in FIELDS:
            close(getattr(a, name), getattr(b, name).cpu(), 5e-5)
        give(cpu, gpu)


@pytest.mark.skipif(not HAS_GPU, reason="no GPU")
def test_a_graph_holds_steps() -> None:
    plain, sim = CudaMultirotor(ROBOT, hover, WILD, N), CudaMultirotor(ROBOT, hover, WILD, N)
    plain.reset(0)
    sim.reset(0)
    action = torch.full((N, 4), ROBOT.hover_action, device=sim.device)
    for s in (plain, sim):
        s.step(action)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(3):
            sim.step(action)
    sim.reset(0)
    sim.step(action)
    for _ in range(10):
        graph.replay()
    for _ in range(30):
        plain.step(action)
    for name, array in plain.arrays.items():
        assert torch.equal(array, sim.arrays[name]), name


def test_find_gpu_names_what_there_is(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert find_gpu("cuda") == torch.device("cuda:1")
    assert find_gpu("cuda:0") == torch.device("cuda:0")
    with pytest.raises(AlulaError, match="allowed: cuda, cuda:0, cuda:1"):
        find_gpu("cuda:2")
