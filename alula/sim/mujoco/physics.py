"""What moves N copies of a model: MuJoCo's C library on all cores, or another with the same face."""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

import os
from typing import Protocol

import mujoco
import numpy as np
from mujoco.batch import MODEL_FIELDS, Batch, SimulationError

TO_VELOCITY = int(mujoco.mjtStage.mjSTAGE_VEL)
"""After the steps positions, velocities and their sensors are made current."""
NO_STAGE = int(mujoco.mjtStage.mjSTAGE_NONE)


def keep_quiet() -> None:
    """What diverges is found and counted; MuJoCo would write a MUJOCO_LOG.TXT into the working directory."""
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(lambda message: None)


class Physics(Protocol):
    """N simulations of one model. What is written into the state arrays counts from the next call on."""

    qpos: np.ndarray
    """Generalised positions (N, nq)."""
    qvel: np.ndarray
    """Generalised velocities (N, nv)."""
    ctrl: np.ndarray
    """Controls of the actuators (N, nu)."""
    act: np.ndarray
    """States of the actuators (N, na)."""
    history: np.ndarray
    """Past controls of delayed actuators (N, nhistory)."""
    xfrc_applied: np.ndarray
    """Forces [N] and torques [N m] on bodies, at their centres, in the world (N, nbody, 6)."""
    sensordata: np.ndarray
    """Values of the model's sensors (N, nsensordata), to be read only."""

    def expand(self, name: str) -> np.ndarray:
        """A field of the model for each simulation apart (N, ...), to be written, then `set_const`."""
        ...

    def set_const(self, ids: np.ndarray) -> None:
        """Take over what was written into expanded fields, and what MuJoCo derives from them."""
        ...

    def reset(self, ids: np.ndarray) -> None:
        """State of the model at time 0 in these simulations: nothing is left of before."""
        ...

    def forward(self, ids: np.ndarray) -> None:
        """Make sensors current after the state of these simulations was written."""
        ...

    def step(self, steps: int) -> np.ndarray:
        """Advance all by `steps` physics steps; the simulations that raised an error (n).

        Sensors of positions and velocities belong to the new state; those of forces to the last physics step.
        """
        ...


class ThreadedPhysics:
    """`mujoco.batch` on the CPU: bitwise the same for any number of threads.

    One MjData a thread, not one an environment: it stays in the processor's cache, which is worth more than that the
    last stages of a step, computed for the sensors, are computed once more at the beginning of the next.
    """

    def __init__(self, model: mujoco.MjModel, n_envs: int, threads: int | None = None) -> None:
        keep_quiet()
        threads = min(threads or len(os.sched_getaffinity(0)), n_envs)
        self._batch = batch = Batch(model, n_envs, threads)
        self.qpos, self.qvel, self.ctrl, self.act, self.history, self.sensordata = (
            batch.bind(name) for name in ("qpos", "qvel", "ctrl", "act", "history", "sensordata")
        )
        self.xfrc_applied = batch.bind("xfrc_applied")

    def expand(self, name: str) -> np.ndarray:
        """As `Physics.expand`."""
        return self._batch.expand(name)

    def expanded(self) -> dict[str, np.ndarray]:
        """Fields of the model that each simulation has for itself, by name: those of `expand`, and what MuJoCo derived from them."""
        fields = {name: self._batch.expanded(name) for name in MODEL_FIELDS}
        return {name: field for name, field in fields.items() if field is not None}

    def set_const(self, ids: np.ndarray) -> None:
        """As `Physics.set_const`."""
        self._batch.set_const(ids)

    def reset(self, ids: np.ndarray) -> None:
        """As `Physics.reset`."""
        self._batch.reset(ids, stage=NO_STAGE)

    def forward(self, ids: np.ndarray) -> None:
        """As `Physics.forward`."""
        self._batch.forward(ids)

    def step(self, steps: int) -> np.ndarray:
        """As `Physics.step`."""
        try:
            self._batch.step(nstep=steps, stage=TO_VELOCITY)
        except SimulationError as e:
            return np.asarray(e.ids)
        return np.empty(0, int)
