"""The short-horizon actor-critic with its flights on a GPU: `short_horizon.cu`, which is `short_horizon.c`, a thread a flight.

A horizon and its way back stay on the device. Once an update the summed gradients come to the host, where the
optimisers are, and the weights go back: some hundred kilobytes.
"""

import ctypes
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from alula.robots.multirotor import Multirotor
from alula.sim.config import SimConfig
from alula.sim.multirotor.cuda import Kernels, cuda_kernels
from alula.sim.multirotor.cuda_kernels import SIMULATOR, Program
from alula.sim.multirotor.kernels import LANES, Batch, Features
from alula.training.config import ShortHorizonConfig
from alula.training.short_horizon import ShortHorizonLearner
from alula.training.short_horizon_kernels import Learner

HERE = Path(__file__).parent
PROGRAM = Program(
    source=HERE / "short_horizon.cu",
    headers=(HERE / "short_horizon.c", HERE / "dense.h", *SIMULATOR.headers),
    threads=32,
)
PARTS = 16
"""Parts of the flights whose gradients are summed side by side."""


class Place(ctypes.Structure):
    """The C structure `Place` of short_horizon.cu, field by field."""

    _fields_ = [
        ("rooms", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("room", "cursor", "parts")),
    ]


class CudaShortHorizonLearner(ShortHorizonLearner):
    """As `ShortHorizonLearner`, from the same starts; a checkpoint of one is one of the other."""

    def __init__(
        self,
        robot: Multirotor,
        task: ModuleType,
        sim: SimConfig,
        config: ShortHorizonConfig,
        seed: int,
        *,
        trajectories: np.ndarray | None = None,
        kernels: Kernels | None = None,
    ) -> None:
        """As `ShortHorizonLearner`, on `config.device`; `kernels` are used in place of the device's own, as tests do.

        Raises:
            AlulaError: no such GPU, or no compiler.
        """
        self._kernels = kernels or cuda_kernels(Features.of(robot), task, config.device, PROGRAM)
        super().__init__(robot, task, sim, config, seed, trajectories=trajectories, threads=1)
        n, longest = self.batch.n_blocks * LANES, self.longest
        self._n = n
        self._flights = {name: self._sent(_by_flight(x)) for name, x in self.batch.arrays.items()}
        self._shared = {name: self._sent(x) for name, x in self.batch.shared.items()}
        inputs = self._arrays["features"].shape[2]
        made = {
            "actor": self._sent(self.actor), "critic": self._sent(self.critic),
            "scale": self._sent(self._arrays["scale"]),
            "actor_gradient": self._zeros(PARTS, len(self.actor)),
            "critic_gradient": self._zeros(PARTS, len(self.critic)),
            "features": self._zeros(n, longest + 1, inputs),
            "targets": self._zeros(n, longest), "statistics": self._zeros(n, 4),
        }  # fmt: skip
        self._device_batch = Batch.from_buffer_copy(self.batch.struct)
        self._device_batch.n_blocks = n
        for name, x in (self._flights | self._shared).items():
            setattr(self._device_batch, name, x.data_ptr())
        self._device_learner = Learner.from_buffer_copy(self._struct)
        for name, x in made.items():
            setattr(self._device_learner, name, x.data_ptr())
        # Of the host's flights only the start is used.
        room = self._size("alula_room") // LANES
        self._rooms, self._on_device, self._arrays = [], made, {}
        self._room = self._zeros(n, room)
        self._place = Place(self._room.data_ptr(), room, self.batch.first_tape, PARTS)

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, device=self._kernels.device)

    def _sent(self, x: np.ndarray) -> Tensor:
        # Generators are words without a sign, which torch hardly has.
        words = x.view(np.int32) if x.dtype == np.uint32 else x
        return torch.tensor(words, device=self._kernels.device)

    def _fly(self) -> None:
        """One horizon of all flights."""
        made, learner, critic = self._on_device, self._device_learner, self.config.critic
        learner.horizon, learner.critic_weight = self._struct.horizon, self._struct.critic_weight
        made["actor"].copy_(torch.from_numpy(self.actor))
        made["critic"].copy_(torch.from_numpy(self.critic))
        self._launch("alula_learn_actor", self._n)
        self._launch("alula_actor_weights", PARTS * len(self.actor))
        if critic:
            self._launch("alula_learn_critic", self._n)
            self._launch("alula_critic_weights", PARTS * len(self.critic))
        self._launch("alula_close_horizon", self._n)
        for name in ("actor_gradient", "critic_gradient", "statistics"):
            self._arrays[name] = made[name].sum(0, keepdim=True).cpu().numpy()

    def _launch(self, kernel: str, n: int) -> None:
        self._kernels.launch(kernel, n, self._device_batch, self._device_learner, self._place)

    def snapshot(self) -> dict[str, np.ndarray]:
        """As `Learner.snapshot`."""
        for name, x in self._flights.items():
            array = self.batch.arrays[name]
            blocks, width, _ = array.shape
            rows = x.cpu().numpy().view(array.dtype).reshape(blocks, LANES, width)
            array[:] = rows.transpose(0, 2, 1)
        return super().snapshot()

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """As `Learner.restore`."""
        super().restore(snapshot)
        for name, x in self._flights.items():
            x.copy_(self._sent(_by_flight(self.batch.arrays[name])))


def _by_flight(rows: np.ndarray) -> np.ndarray:
    """[blocks, width, LANES] to [flights, width]."""
    blocks, width, lanes = rows.shape
    return np.ascontiguousarray(rows.transpose(0, 2, 1)).reshape(blocks * lanes, width)
