"""N free bodies in MuJoCo, VEHICLES to a model, stepped together by one call of `mujoco.rollout`."""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

import os

import mujoco
import numpy as np
from mujoco import rollout

from alula.robots.multirotor import Multirotor
from alula.sim.mujoco.model import VEHICLES, build_model, set_vehicle
from alula.sim.mujoco.vehicles import Vehicles

LOST = 1e6
"""A state beyond this, in SI units, is lost: no vehicle gets there, a diverged integration does."""

_CONTROL = int(mujoco.mjtState.mjSTATE_CTRL) | int(mujoco.mjtState.mjSTATE_QFRC_APPLIED)


class Fleet:
    """MuJoCo's side of N vehicles: models, threads, and the steps of one control period.

    A vehicle whose integration diverges is lost: its state is NaN from then on, and what MuJoCo flies in its
    place is at rest, so that the other vehicles of its model go on undisturbed.
    """

    def __init__(self, robot: Multirotor, n_envs: int, steps: int, timestep: float) -> None:
        self._robot, self._n, self._steps = robot, n_envs, steps
        # diverged flights are counted here; MuJoCo would write a MUJOCO_LOG.TXT into the working directory
        if mujoco.get_mju_user_warning() is None:
            mujoco.set_mju_user_warning(lambda message: None)
        groups = -(-n_envs // VEHICLES)
        self._last = (steps - 0.5) * timestep
        model = build_model(robot, timestep)
        # a copy for each group: MuJoCo takes mass properties from the model
        self._models = [model.__copy__() for _ in range(groups)]
        threads = min(len(os.sched_getaffinity(0)), groups)
        self._datas = [mujoco.MjData(model) for _ in range(threads)]
        self._rollout = rollout.Rollout(nthread=threads if threads > 1 else 0)
        nq, nv, nu = (size // VEHICLES for size in (model.nq, model.nv, model.nu))
        full = groups * VEHICLES
        self._rest = np.zeros(nq)
        self._rest[3] = 1.0
        self._positions = np.tile(self._rest, (full, 1))
        self._velocities = np.zeros((full, nv))
        self._lost = np.arange(full) >= n_envs
        self._start = np.zeros((groups, 1 + VEHICLES * (nq + nv)))
        self._path = np.zeros((groups, steps, self._start.shape[1]))
        control = np.zeros((groups, steps, VEHICLES * (nu + nv)))
        self._control = control
        # views by group, step, vehicle and row
        self._thrust = control[:, :, : VEHICLES * nu].reshape(groups, steps, VEHICLES, nu)
        self._force = control[:, :, VEHICLES * nu :].reshape(groups, steps, VEHICLES, nv)
        self._sensors = np.zeros((groups, steps, model.nsensordata))
        self.position = self._positions[:n_envs]
        """MuJoCo's generalised positions (N, 7 or 8): position_w, quat_wb and the flywheel's angle."""
        self.velocity = self._velocities[:n_envs]
        """Generalised velocities (N, 6 or 7): velocity_w, angular_velocity_b and the flywheel's rate."""

    def set_vehicles(self, rows: np.ndarray, vehicles: Vehicles) -> None:
        """Give the vehicles at index `rows` their parameters (from N drawn ones); none is lost any more."""
        for i in rows:
            set_vehicle(self._models[i // VEHICLES], i % VEHICLES, self._robot, vehicles, i)
        for group in np.unique(rows // VEHICLES):
            mujoco.mj_setConst(self._models[group], self._datas[0])
        self._lost[rows] = False

    def advance(self, thrust: np.ndarray, force: np.ndarray) -> None:
        """Fly K steps.

        Args:
            thrust: of each rotor, averaged over each step [N] (N, K, R).
            force: generalised force: force_w [N], torque_b [N m] and the flywheel's torque (N, K, 6 or 7).
        """
        _put(self._thrust[:, :, :, : thrust.shape[2]], thrust)
        _put(self._force, force)
        diverged = self._diverged(self._positions, self._velocities)
        while True:
            self._lost |= diverged
            self._run()
            stuck = np.repeat(self._path[:, -1, 0] < self._last, VEHICLES)
            if not stuck.any():
                break
            # MuJoCo stops a model where a number is bad: go again without the vehicle that had it
            diverged = stuck & self._diverged(*self._split(self._path[:, -1]))
            if not diverged.any():
                diverged = stuck
        self._positions[:], self._velocities[:] = self._split(self._path[:, -1])
        gone = self._lost[: self._n]
        self.position[gone] = np.nan
        self.velocity[gone] = np.nan

    def _run(self) -> None:
        groups = len(self._models)
        positions = np.where(self._lost[:, None], self._rest, self._positions)
        velocities = np.where(self._lost[:, None], 0.0, self._velocities)
        width = positions.shape[1] * VEHICLES
        self._start[:, 1 : 1 + width] = positions.reshape(groups, -1)
        self._start[:, 1 + width :] = velocities.reshape(groups, -1)
        self._rollout.rollout(
            self._models,
            self._datas,
            self._start,
            self._control,
            control_spec=_CONTROL,
            skip_checks=True,
            nstep=self._steps,
            state=self._path,
            sensordata=self._sensors,
        )

    def _split(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities by vehicle of full states by group."""
        width = self._positions.shape[1] * VEHICLES
        return (
            state[:, 1 : 1 + width].reshape(self._positions.shape),
            state[:, 1 + width :].reshape(self._velocities.shape),
        )

    @staticmethod
    def _diverged(positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        # the flywheel's angle and rate may be large; a comparison with NaN is false
        inside = (np.abs(positions[:, :7]) < LOST).all(axis=1)
        return np.logical_not(inside & (np.abs(velocities[:, :6]) < LOST).all(axis=1))


def _put(target: np.ndarray, values: np.ndarray) -> None:
    """Write values by vehicle (N, K, rows) into a view by group, step, vehicle (G, K, VEHICLES, rows)."""
    whole = len(values) // VEHICLES
    n, rest = whole * VEHICLES, len(values) - whole * VEHICLES
    shape = (whole, VEHICLES, *values.shape[1:])
    target[:whole] = values[:n].reshape(shape).transpose(0, 2, 1, 3)
    if rest:
        target[whole, :, :rest] = values[n:].transpose(1, 0, 2)
