"""Many multirotors at once on a GPU: the `Simulator` protocol on torch tensors that never leave it.

The kernels are those of the CPU, compiled for one environment a thread (see simulator.cu). An environment draws the
same numbers from the same seed on both, so that flights agree step by step within what rounding leaves.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from alula.errors import AlulaError
from alula.robots.multirotor import Multirotor
from alula.sim.config import MAX_DELAY_STEPS, SimConfig
from alula.sim.multirotor.cuda_kernels import (
    SIMULATOR,
    Exchange,
    Program,
    compile_cuda,
    shared_structure,
)
from alula.sim.multirotor.kernels import Batch, Features, RowCounts
from alula.sim.multirotor.simulator import (
    environment_words,
    flight_numbers,
    own_rows,
    shared_rows,
)

MAX_STEPS = 1_000_000
"""Steps of one call."""


@dataclass(frozen=True, kw_only=True)
class DeviceTransition:
    """As `Transition`, in tensors on the device: views of the simulator's own, which the next step overwrites."""

    observation: Tensor
    """Actor observation [N, O], with noise, delay and histories, in contract order."""
    privileged: Tensor
    """Critic observation [N, Q]: true state, disturbances, parameters."""
    reward: Tensor
    """Reward [N]."""
    terminated: Tensor
    """The task failed [N], bool."""
    truncated: Tensor
    """The time limit was reached [N], bool."""
    final_observation: Tensor
    """Actor observation before the reset [N, O]."""
    final_privileged: Tensor
    """Critic observation before the reset [N, Q]."""


@dataclass(frozen=True, kw_only=True)
class DeviceState:
    """As `RigidBodyState`, in tensors on the device; all but the last are views of the simulator's own."""

    position_w: Tensor
    """Position [m] (N, 3)."""
    velocity_w: Tensor
    """Velocity [m/s] (N, 3)."""
    quat_wb: Tensor
    """Attitude quaternion, scalar first (N, 4)."""
    angular_velocity_b: Tensor
    """Body rate [rad/s] (N, 3)."""
    rotor_fraction: Tensor
    """Rotor speed over its maximum [-] (N, R)."""
    reference_position_w: Tensor
    """Where the task wants the vehicle now [m] (N, 3)."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """T steps of N environments, as the kernels write them: environments last."""

    observed: Tensor
    """What the task shows the actor after each step, without the past actions [T, rows, N]."""
    reward: Tensor
    """Rewards [T, N]."""
    terminated: Tensor
    """Failures [T, N], bool."""
    truncated: Tensor
    """Time-outs [T, N], bool."""


class Kernels(Protocol):
    """The compiled kernels of a program."""

    @property
    def device(self) -> torch.device:
        """Where tensors must lie."""
        ...

    def launch(self, name: str, n: int, *arguments: Any) -> None:
        """Run a kernel on `n` threads, after what was asked for before; arguments are ctypes objects."""
        ...


class CudaKernels:
    """Kernels on a GPU, launched on torch's current stream."""

    def __init__(
        self, features: Features, task: ModuleType, device: str, program: Program = SIMULATOR
    ) -> None:
        """Compile for the GPU that torch calls `device` and load.

        Raises:
            AlulaError: torch finds no such GPU, or the kernels cannot be compiled.
        """
        self.device = find_gpu(device)
        major, minor = torch.cuda.get_device_capability(self.device)
        code = compile_cuda(features, task, f"sm_{major}{minor}", program)
        self._threads = program.threads
        self._driver: Any = import_module("cuda.bindings.driver")
        torch.zeros(1, device=self.device)  # the context that the kernels are loaded into
        with torch.cuda.device(self.device):
            (self._module,) = self._call("cuModuleLoadData", code)
        self._functions: dict[str, Any] = {}

    def launch(self, name: str, n: int, *arguments: Any) -> None:
        """Run a kernel on `n` threads, after what was asked for before; arguments are ctypes objects."""
        if name not in self._functions:
            (self._functions[name],) = self._call(
                "cuModuleGetFunction", self._module, name.encode()
            )
        addresses = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        with torch.cuda.device(self.device):
            stream = torch.cuda.current_stream(self.device).cuda_stream
            self._call(
                "cuLaunchKernel", self._functions[name], -(-n // self._threads), 1, 1, self._threads, 1, 1,
                0, stream, ctypes.addressof(addresses), 0,
            )  # fmt: skip

    def _call(self, function: str, *arguments: Any) -> tuple:
        error, *results = getattr(self._driver, function)(*arguments)
        if error != self._driver.CUresult.CUDA_SUCCESS:
            raise AlulaError(f"{function} failed: {error.name}")
        return tuple(results)


def find_gpu(device: str) -> torch.device:
    """The GPU that torch calls "cuda" or "cuda:1".

    Raises:
        AlulaError: it is none of torch's.
    """
    if not torch.cuda.is_available():
        raise AlulaError(
            f"device is {device!r}, but torch {torch.__version__} finds no CUDA GPU; allowed: 'cpu'"
        )
    known = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    full = known[torch.cuda.current_device()] if device == "cuda" else device
    if full not in known:
        raise AlulaError(f"device is {device!r}; allowed: cuda, {', '.join(known)}")
    return torch.device(full)


@lru_cache(maxsize=8)
def cuda_kernels(
    features: Features, task: ModuleType, device: str, program: Program = SIMULATOR
) -> CudaKernels:
    """The kernels for a kind of robot and a task, loaded once."""
    return CudaKernels(features, task, device, program)


class CudaMultirotor:
    """N multirotors on a GPU; `reset` and `step` as of `Simulator`, with tensors in place of arrays.

    `step` and `fly` neither wait for the GPU nor allocate, so that a CUDA graph can hold them (give it an action tensor
    that stays in place). An action that is not finite cannot be refused without waiting: it ends that episode as failed.
    """

    def __init__(
        self,
        robot: Multirotor,
        task: ModuleType,
        config: SimConfig,
        n_envs: int,
        *,
        trajectories: np.ndarray | None = None,
        auto_reset: bool = True,
        device: str = "cuda",
        kernels: Kernels | None = None,
    ) -> None:
        """Compile or load the kernels and make room.

        Args:
            robot: the nominal vehicle.
            task: a module of `alula.tasks`.
            config: rates, start, limits, randomisation, delays, noise.
            n_envs: number of environments N.
            trajectories: reference trajectories (n, task.TRAJECTORY_SIZE), drawn per episode.
            auto_reset: start the next episode where one ended; else an ended one stays, still flagged.
            device: the GPU, as torch calls it.
            kernels: compiled kernels to use in place of the device's own, as tests do.

        Raises:
            AlulaError: no such GPU, no compiler, or settings that do not fit.
        """
        if n_envs < 1:
            raise AlulaError(f"n_envs is {n_envs}; allowed: >= 1")
        self._kernels = kernels or cuda_kernels(Features.of(robot), task, device)
        self.robot, self.task, self.config = robot, task, config
        self.device, self._n = self._kernels.device, n_envs
        self.rows = rows = RowCounts(robot.n_rotors, task)
        # A ring over steps: a power of two, and room for the history, the delays and the step itself.
        self._tape = 1 << (config.history + MAX_DELAY_STEPS + 1).bit_length()
        shared = shared_rows(robot, task, config, trajectories)
        self.arrays = {
            name: self._room(width, n_envs) for name, width in own_rows(rows, self._tape).items()
        }
        self.arrays["rng"] = self._room(4, n_envs, dtype=torch.int32)
        """What the environments keep from step to step [rows, N], by the names of `Batch` in batch.h."""
        self._bank = torch.from_numpy(shared["bank"]).to(self.device)
        self._struct = Batch(
            n_blocks=n_envs, tape_length=self._tape, **flight_numbers(robot, config, shared)
        )
        for name, array in {**self.arrays, "bank": self._bank}.items():
            setattr(self._struct, name, array.data_ptr())
        structure = shared_structure(rows)
        self._shared = structure(
            **{name: _floats(shared[name]) for name, _ in structure._fields_}  # type: ignore[misc]
        )
        self._hand_out(auto_reset)

    def _hand_out(self, auto_reset: bool) -> None:
        """Make room for what a step hands out."""
        rows, n = self.rows, self._n
        columns = rows.observed + self.config.history * rows.rotors
        out = {
            "observation": self._room(columns, n), "privileged": self._room(rows.privileged, n),
            "final_observation": self._room(columns, n),
            "final_privileged": self._room(rows.privileged, n), "reward": self._room(n),
            "terminated": self._room(n, dtype=torch.bool),
            "truncated": self._room(n, dtype=torch.bool),
        }  # fmt: skip
        self._cursor = self._room(n, dtype=torch.int32)
        self._now = DeviceTransition(**{name: x.T if x.ndim == 2 else x for name, x in out.items()})
        self._exchange = Exchange(
            steps=1, auto_reset=auto_reset, cursor=self._cursor.data_ptr(),
            **{name: x.data_ptr() for name, x in out.items()},
        )  # fmt: skip

    @property
    def n_envs(self) -> int:
        """Number of environments N."""
        return self._n

    def reset(self, seed: int) -> Tensor:
        """Start all episodes anew; returns the actor observation [N, O], which the next step overwrites."""
        words = environment_words(seed, self._n).reshape(self._n, 4).T.view(np.int32)
        self.arrays["rng"].copy_(torch.from_numpy(words.copy()))
        self._cursor.fill_(self._tape)
        self._launch("alula_reset", self._exchange)
        return self._now.observation

    def step(self, action: Tensor) -> DeviceTransition:
        """Apply actions [N, R] in [-1, 1] for one `control_dt`; larger ones are clipped."""
        self._check("action", action, (self._n, self.rows.rotors))
        self._exchange.action = action.data_ptr()
        self._exchange.action_env, self._exchange.action_row = action.stride()
        self._launch("alula_step", self._exchange)
        return self._now

    def recording(self, steps: int) -> Recording:
        """Room for what `fly` records of `steps` steps."""
        _check_steps(steps)
        return Recording(
            observed=self._room(steps, self.rows.observed, self._n),
            reward=self._room(steps, self._n),
            terminated=self._room(steps, self._n, dtype=torch.bool),
            truncated=self._room(steps, self._n, dtype=torch.bool),
        )

    def fly(
        self, action: Tensor, steps: int, recording: Recording | None = None
    ) -> DeviceTransition:
        """Fly `steps` steps in one kernel, each environment's state in registers throughout.

        Args:
            action: held [N, R], or of each step [steps, N, R].
            steps: number of steps.
            recording: made by `recording(steps)`; what is to be kept of every step.

        Returns:
            What `step` returns, after the last one. Without a recording the flags tell of all steps; with one they and
            the reward are in it, and not in what is returned.
        """
        _check_steps(steps)
        held = action.ndim == 2
        lead = () if held else (steps,)
        self._check("action", action, (*lead, self._n, self.rows.rotors))
        x = Exchange.from_buffer_copy(self._exchange)
        x.steps, x.action = steps, action.data_ptr()
        x.action_step, x.action_env, x.action_row = (0, *action.stride())[-3:]
        if recording is not None:
            self._check_recording(recording, steps)
            x.every_step = 1
            for name in ("observed", "reward", "terminated", "truncated"):
                setattr(x, name, getattr(recording, name).data_ptr())
        self._launch("alula_step", x)
        return self._now

    def physics(self, throttle: Tensor, disturbance: Tensor, steps: int) -> None:
        """Physics alone: `steps` physics steps with throttle [R, N] and force and torque [6, N] held."""
        _check_steps(steps)
        self._check("throttle", throttle, (self.rows.rotors, self._n), contiguous=True)
        self._check("disturbance", disturbance, (6, self._n), contiguous=True)
        self._launch(
            "alula_physics", ctypes.c_int64(steps), ctypes.c_void_p(throttle.data_ptr()),
            ctypes.c_void_p(disturbance.data_ptr()),
        )  # fmt: skip

    def multiply_add(self, steps: int) -> Tensor:
        """Multiply and add 128 times a step in each environment's thread, for the rate at which that goes."""
        _check_steps(steps)
        out = self._room(self._n)
        self._launch("alula_multiply_add", ctypes.c_int64(steps), ctypes.c_void_p(out.data_ptr()))
        return out

    def state(self) -> DeviceState:
        """True state now."""
        x = self.arrays["state"].T
        reference = self._room(self.rows.reference, self._n)
        self._launch("alula_reference", ctypes.c_void_p(reference.data_ptr()))
        return DeviceState(
            position_w=x[:, 0:3],
            velocity_w=x[:, 3:6],
            quat_wb=x[:, 6:10],
            angular_velocity_b=x[:, 10:13],
            rotor_fraction=x[:, 13:],
            reference_position_w=reference[:3].T,
        )

    def _launch(self, kernel: str, *more: Any) -> None:
        self._kernels.launch(kernel, self._n, self._struct, self._shared, *more)

    def _room(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=self.device)

    def _check(
        self, name: str, x: Tensor, shape: Sequence[int], *, contiguous: bool = False
    ) -> None:
        fits = tuple(x.shape) == tuple(shape) and x.dtype == torch.float32
        if not fits or x.device != self.device or (contiguous and not x.is_contiguous()):
            raise AlulaError(
                f"{name} is {tuple(x.shape)}, {x.dtype}, on {x.device}; allowed: {tuple(shape)}, "
                f"torch.float32, on {self.device}{', contiguous' if contiguous else ''}"
            )

    def _check_recording(self, recording: Recording, steps: int) -> None:
        self._check(
            "recording", recording.observed, (steps, self.rows.observed, self._n), contiguous=True
        )


def _floats(values: np.ndarray) -> ctypes.Array:
    return (ctypes.c_float * max(len(values), 1))(*values.tolist())


def _check_steps(steps: int) -> None:
    if not 1 <= steps <= MAX_STEPS:
        raise AlulaError(f"steps is {steps}; allowed: 1 to {MAX_STEPS}")
