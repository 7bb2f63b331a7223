"""N copies of a model in MuJoCo Warp, their states as torch's tensors, the steps of a policy step as one CUDA graph."""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

import copy
from collections.abc import Iterable
from typing import Any

import mujoco
import mujoco_warp
import torch
import warp
from torch import Tensor

from alula.errors import AlulaError

CONTACTS_PER_ENV = 64
"""Room for contacts, common to all: one environment may have more."""
CONSTRAINTS_PER_ENV = 256
"""Room for rows of constraints in each; a held cube that touches the floor needs about 60."""


class WarpPhysics:
    """N simulations of one model on a device. What is written into its tensors counts from the next step on."""

    def __init__(
        self,
        model: mujoco.MjModel,
        own_fields: Iterable[str],
        n_envs: int,
        substeps: int,
        device: torch.device,
    ) -> None:
        """`own_fields` names the fields of the model that each simulation has for itself.

        Raises:
            AlulaError: something in the model that Warp does not know.
        """
        warp.config.log_level = warp.LOG_WARNING
        warp.init()
        self._device, self._substeps = warp.device_from_torch(device), substeps
        plain = copy.copy(model)
        # Warp never resets by itself, and knows no flag for it.
        plain.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        # Of boxes that touch, Warp then finds C MuJoCo's contacts. Its own method for convex shapes has others in most of
        # the states of a peg in a hole, and insertions that succeed there fail.
        plain.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_NATIVECCD)
        with warp.ScopedDevice(self._device):
            try:
                self._model = mujoco_warp.put_model(plain)
            except NotImplementedError as e:
                raise AlulaError(f"MuJoCo Warp cannot move this model: {e}") from None
            # It is told by `overflow`, once, and not by every step.
            self._model.opt.warn_overflow = 0
            self._data = data = mujoco_warp.make_data(
                plain, n_envs, nconmax=CONTACTS_PER_ENV, njmax=CONSTRAINTS_PER_ENV
            )
        self.qpos, self.qvel, self.ctrl, self.act, self.history, self.xfrc_applied = (
            warp.to_torch(getattr(data, name))
            for name in ("qpos", "qvel", "ctrl", "act", "history", "xfrc_applied")
        )
        """As of `Physics`."""
        self.overflow = warp.to_torch(data.overflow)
        """What there was no room for since the start of the episode, in bits of Warp's (N)."""
        self.zero_at_start = (
            self.qvel, self.xfrc_applied, self.overflow,
            *(warp.to_torch(getattr(data, name)) for name in ("time", "qacc_warmstart")),
        )  # fmt: skip
        """States that are zero when an episode begins."""
        self._now, self._before = warp.to_torch(data.sensordata), warp.clone(data.sensordata)
        self._late_values = warp.to_torch(self._before)
        self.sensordata = torch.zeros_like(self._now)
        """As of `Physics`."""
        late = model.sensor_needstage == int(mujoco.mjtStage.mjSTAGE_ACC)
        self._late = torch.as_tensor(late.repeat(model.sensor_dim), device=device)
        """Numbers of sensors of forces and accelerations."""
        self.fields = {
            name: self._own(name, n_envs)
            for name in own_fields
            if isinstance(getattr(self._model, name, None), warp.array)
        }
        """Those of them that Warp has (N, ...)."""
        self._graph = self._captured() if self._device.is_cuda else None

    def _own(self, name: str, n_envs: int) -> Tensor:
        shared = getattr(self._model, name)
        each = warp.to_torch(shared)[:1].repeat_interleave(n_envs, 0).contiguous()
        setattr(self._model, name, warp.from_torch(each, dtype=shared.dtype))
        return each

    def _captured(self) -> Any:
        # Warp has a stream of its own until the graph is launched on torch's.
        torch.cuda.synchronize(self.qpos.device)
        with warp.ScopedDevice(self._device):
            # Kernels are loaded by a first run, which a capture could not do.
            self._run()
            with warp.ScopedCapture() as capture:
                self._run()
        warp.synchronize_device(self._device)
        return capture.graph

    def _run(self) -> None:
        for _ in range(self._substeps):
            mujoco_warp.step(self._model, self._data)
        warp.copy(self._before, self._data.sensordata)
        # Sensors of positions and velocities at the new state.
        mujoco_warp.step1(self._model, self._data)

    def step(self) -> None:
        """Advance all by the physics steps of a policy step; sensors as of `Physics.step`."""
        if self._graph is None:
            with warp.ScopedDevice(self._device):
                self._run()
        else:
            stream = warp.stream_from_torch(torch.cuda.current_stream(self.qpos.device))
            warp.capture_launch(self._graph, stream=stream)
        torch.where(self._late, self._late_values, self._now, out=self.sensordata)
