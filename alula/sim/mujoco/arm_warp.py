"""Simulated arms on MuJoCo Warp: the same episodes, on a GPU where there is one; on a CPU slow, for tests.

Float32 in place of float64, and MuJoCo's constraints solved by other code: it agrees with C MuJoCo step by step
within the tolerances of tests/sim/mujoco/test_arm_warp.py, and not bitwise.
"""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

import copy

import mujoco
import numpy as np

from alula.errors import AlulaError
from alula.sim.mujoco.arm import MujocoArm
from alula.sim.mujoco.physics import Physics

try:
    import mujoco_warp
    import warp
except ImportError:
    raise AlulaError(
        "mujoco-warp is not installed; allowed: after pip install 'alula[warp]'"
    ) from None

STATE = ("qpos", "qvel", "ctrl", "act", "history", "xfrc_applied")
DERIVED = (
    "body_subtreemass", "body_invweight0", "dof_invweight0", "tendon_invweight0", "actuator_acc0",
)  # fmt: skip
"""Fields that MuJoCo derives from masses and inertias."""
CONTACTS_PER_ENV = 64
"""Room for contacts, common to all: one environment may have more; Warp says when it runs out."""
CONSTRAINTS_PER_ENV = 256
"""Room for rows of constraints in each; a held cube that touches the floor needs about 60."""


class WarpArm(MujocoArm):
    """As `MujocoArm`, on Warp's preferred device; `threads` means nothing there."""

    def _make_physics(self, n_envs: int, threads: int | None) -> Physics:
        return WarpPhysics(self.model, n_envs)


class WarpPhysics:
    """MuJoCo Warp with states on the host, which go to the device and back with each call."""

    def __init__(self, model: mujoco.MjModel, n_envs: int) -> None:
        warp.config.quiet = True
        plain = copy.copy(model)
        # Warp never resets by itself, and knows no flag for it.
        plain.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        self._model = mujoco_warp.put_model(plain)
        self._data = mujoco_warp.make_data(
            plain, n_envs, nconmax=CONTACTS_PER_ENV, njmax=CONSTRAINTS_PER_ENV
        )
        self._n = n_envs
        self._fields: dict[str, np.ndarray] = {}
        self.qpos, self.qvel = np.zeros((n_envs, model.nq)), np.zeros((n_envs, model.nv))
        self.ctrl, self.act = np.zeros((n_envs, model.nu)), np.zeros((n_envs, model.na))
        self.history = np.zeros((n_envs, model.nhistory))
        self.xfrc_applied = np.zeros((n_envs, model.nbody, 6))
        self.sensordata = np.zeros((n_envs, model.nsensordata))
        late = model.sensor_needstage == int(mujoco.mjtStage.mjSTAGE_ACC)
        self._late = np.repeat(late, model.sensor_dim)
        """Numbers of sensors of forces and accelerations."""

    def _upload(self) -> None:
        for name in STATE:
            if getattr(self, name).size:
                getattr(self._data, name).assign(getattr(self, name).astype(np.float32))

    def _download(self) -> None:
        for name in STATE:
            if getattr(self, name).size:
                getattr(self, name)[:] = getattr(self._data, name).numpy()

    def expand(self, name: str) -> np.ndarray:
        """As `Physics.expand`."""
        for field in (name, *DERIVED):
            array = getattr(self._model, field)
            if array.size and array.shape[0] != self._n:
                each = np.repeat(array.numpy(), self._n, axis=0)
                setattr(self._model, field, warp.array(each, dtype=array.dtype))
        self._fields[name] = getattr(self._model, name).numpy().astype(np.float64)
        return self._fields[name]

    def set_const(self, ids: np.ndarray) -> None:
        """As `Physics.set_const`."""
        for name, value in self._fields.items():
            getattr(self._model, name).assign(value.astype(np.float32))
        mujoco_warp.set_const(self._model, self._data)

    def reset(self, ids: np.ndarray) -> None:
        """As `Physics.reset`."""
        chosen = np.zeros(self._n, bool)
        chosen[ids] = True
        self._upload()
        mujoco_warp.reset_data(self._model, self._data, warp.array(chosen, dtype=bool))
        self._download()

    def forward(self, ids: np.ndarray) -> None:
        """As `Physics.forward`; the others' sensors stay as they are."""
        self._upload()
        mujoco_warp.forward(self._model, self._data)
        self.sensordata[ids] = self._data.sensordata.numpy()[ids]

    def step(self, steps: int) -> np.ndarray:
        """As `Physics.step`."""
        self._upload()
        for _ in range(steps):
            mujoco_warp.step(self._model, self._data)
        before = self._data.sensordata.numpy().copy()
        # Sensors of positions and velocities at the new state.
        mujoco_warp.step1(self._model, self._data)
        self.sensordata[:] = np.where(self._late, before, self._data.sensordata.numpy())
        self._download()
        return np.empty(0, int)
