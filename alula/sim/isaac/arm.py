"""Many arms in Isaac: the episodes of `sim.mujoco.arm` on Isaac's physics.

The compiled MuJoCo model says what there is: its joints, drives, masses and shapes are what Isaac is built from, and its
sensors name what is read from Isaac's bodies. So tasks and episodes serve unchanged.
"""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import mujoco
import numpy as np

from alula.errors import AlulaError
from alula.frames import quat_multiply, quat_wxyz_from_xyzw, quat_xyzw_from_wxyz, rot_from_quat
from alula.robots.arm import Arm
from alula.sim.arm_config import ArmSimConfig
from alula.sim.isaac.scene import FREE, drives, free_bodies, scene_of, touched
from alula.sim.isaac.worker import Worker
from alula.sim.mujoco.arm import MujocoArm
from alula.sim.mujoco.physics import Physics

FRAMEPOS = int(mujoco.mjtSensor.mjSENS_FRAMEPOS)
FRAMEQUAT = int(mujoco.mjtSensor.mjSENS_FRAMEQUAT)
FRAMELINVEL = int(mujoco.mjtSensor.mjSENS_FRAMELINVEL)
TOUCH = int(mujoco.mjtSensor.mjSENS_TOUCH)
SITE, XBODY = int(mujoco.mjtObj.mjOBJ_SITE), int(mujoco.mjtObj.mjOBJ_XBODY)
State = dict[str, np.ndarray]
"""What a worker answers, in Isaac's orders and in the world."""


class IsaacArm(MujocoArm):
    """As `MujocoArm`, in Isaac; parameters of single environments are not drawn, so their randomisation must be 0.

    Of a touch sensor the size of the whole contact force on its body is told [N], not of its site alone.
    """

    def __init__(
        self,
        robot: Arm,
        task: ModuleType,
        config: ArmSimConfig,
        n_envs: int,
        *,
        worker: Worker,
        device: str = "cuda:0",
        auto_reset: bool = True,
        strict: bool = False,
        staggered: bool = False,
    ) -> None:
        """Args as `MujocoArm`; the worker is used by one simulator at a time.

        Raises:
            AlulaError: as `MujocoArm`; no Isaac there; a robot, task or setting that the adapters do not know.
        """
        if config.assisting_actions:
            raise AlulaError("assisting_force is not 0; allowed in Isaac: 0")
        self._worker, self._device = worker, device
        super().__init__(
            robot, task, config, n_envs, auto_reset=auto_reset, strict=strict, staggered=staggered
        )

    def _make_physics(self, n_envs: int, threads: int | None) -> Physics:
        return IsaacPhysics(self.model, self.robot, self._worker, n_envs, self._device)


class IsaacPhysics:
    """States of MuJoCo's layout on the host, which go to Isaac where they were reset, and come back with each step.

    Isaac computes bodies' poses only in a step; after a reset sensors are those of MuJoCo's kinematics.
    """

    def __init__(
        self, model: mujoco.MjModel, robot: Arm, worker: Worker, n_envs: int, device: str
    ) -> None:
        self._model, self._worker = model, worker
        self.qpos, self.qvel = np.tile(model.qpos0, (n_envs, 1)), np.zeros((n_envs, model.nv))
        self.ctrl, self.act = np.zeros((n_envs, model.nu)), np.zeros((n_envs, 0))
        self.history, self.xfrc_applied = np.zeros((n_envs, 0)), np.zeros((n_envs, model.nbody, 6))
        self.sensordata = np.zeros((n_envs, model.nsensordata))
        self._reset = np.zeros(n_envs, bool)
        self._data = mujoco.MjData(model)
        said, self._origin_w = worker.build(scene_of(model, robot, n_envs, device))
        self._scalar_last = scalar_last(said["quaternion"])
        self._drives = drives(model, robot)
        joints = [model.joint(d.joint) for d in self._drives]
        self._qpos = np.array([int(j.qposadr[0]) for j in joints])
        self._qvel = np.array([int(j.dofadr[0]) for j in joints])
        self._from = places(said["joint_names"], [d.joint for d in self._drives], "joints")
        """Where each of our joints stands among Isaac's (D)."""
        self._to = np.argsort(self._from)
        self._boxes = [
            (int(model.jnt_qposadr[j]), int(model.jnt_dofadr[j]))
            for b in free_bodies(model)
            if model.jnt_type[j := int(model.body_jntadr[b])] == FREE
        ]
        self._readers = [self._reader(s, said) for s in range(model.nsensor)]

    def expand(self, name: str) -> np.ndarray:
        """No parameter can be written for single environments.

        Raises:
            AlulaError: always.
        """
        raise AlulaError(
            f"randomisation changes {name}; allowed in Isaac: none but delays of measurements"
        )

    def set_const(self, ids: np.ndarray) -> None:
        """Nothing to take over."""

    def reset(self, ids: np.ndarray) -> None:
        """As `Physics.reset`."""
        self.qpos[ids], self.qvel[ids], self.ctrl[ids] = self._model.qpos0, 0.0, 0.0

    def forward(self, ids: np.ndarray) -> None:
        """As `Physics.forward`; Isaac is told with the next step, in one write for all that were reset since the last."""
        self._reset[ids] = True
        data = self._data
        for i in ids:
            data.qpos[:], data.qvel[:] = self.qpos[i], self.qvel[i]
            mujoco.mj_fwdPosition(self._model, data)
            mujoco.mj_sensorPos(self._model, data)
            mujoco.mj_fwdVelocity(self._model, data)
            mujoco.mj_sensorVel(self._model, data)
            # Forces stay 0: nothing has touched yet.
            self.sensordata[i] = data.sensordata

    def step(self, steps: int) -> np.ndarray:
        """As `Physics.step`."""
        ids = np.flatnonzero(self._reset)
        self._reset[:] = False
        state = self._worker.step(steps, self._written(ids) | self._commanded())
        self._take(state)
        return np.empty(0, int)

    def _written(self, ids: np.ndarray) -> State:
        """States of these environments, in Isaac's orders and in the world."""
        position, quat, velocity, turning = [], [], [], []
        for at, dof in self._boxes:
            q = self.qpos[ids, at + 3 : at + 7]
            position.append(self.qpos[ids, at : at + 3] + self._origin_w[ids])
            quat.append(quat_xyzw_from_wxyz(q) if self._scalar_last else q)
            velocity.append(self.qvel[ids, dof : dof + 3])
            # MuJoCo's free joint turns in the body's frame: omega_w = R omega_b
            turning.append((rot_from_quat(q) @ self.qvel[ids, dof + 3 : dof + 6, None])[..., 0])
        return {
            "ids": ids.astype(np.int64),
            "joint_position": _single(self.qpos[ids][:, self._qpos][:, self._to]),
            "joint_velocity": _single(self.qvel[ids][:, self._qvel][:, self._to]),
            "box_position": _stacked(position, len(ids), 3),
            "box_quat": _stacked(quat, len(ids), 4),
            "box_velocity": _stacked(velocity, len(ids), 3),
            "box_angular_velocity": _stacked(turning, len(ids), 3),
        }

    def _commanded(self) -> State:
        """Targets of servos and torques of motors, of all environments, in Isaac's order."""
        target = np.stack([d.offset + d.scale * self.ctrl[:, d.ctrl] for d in self._drives], axis=1)
        servo = np.array([d.servo for d in self._drives])
        limit = np.array([d.effort_max for d in self._drives])
        effort = np.where(servo, 0.0, np.clip(target, -limit, limit))
        return {
            "target": _single(np.where(servo, target, 0.0)[:, self._to]),
            "effort": _single(effort[:, self._to]),
        }

    def _take(self, state: State) -> None:
        """Isaac's state into ours."""
        self.qpos[:, self._qpos] = state["joint_position"][:, self._from]
        self.qvel[:, self._qvel] = state["joint_velocity"][:, self._from]
        state["body_position"] = state["body_position"] - self._origin_w[:, None]
        state["box_position"] = state["box_position"] - self._origin_w[:, None]
        if self._scalar_last:
            for name in ("body_quat", "box_quat"):
                state[name] = quat_wxyz_from_xyzw(state[name])
        for i, (at, dof) in enumerate(self._boxes):
            quat = state["box_quat"][:, i].astype(np.float64)
            quat /= np.linalg.norm(quat, axis=1, keepdims=True)
            self.qpos[:, at : at + 3], self.qpos[:, at + 3 : at + 7] = (
                state["box_position"][:, i],
                quat,
            )
            self.qvel[:, dof : dof + 3] = state["box_velocity"][:, i]
            turning = state["box_angular_velocity"][:, i, :, None]
            # omega_b = R^T omega_w
            self.qvel[:, dof + 3 : dof + 6] = (rot_from_quat(quat).swapaxes(1, 2) @ turning)[..., 0]
        for at, read in self._readers:
            self.sensordata[:, at] = read(state)

    def _reader(self, s: int, said: dict[str, Any]) -> tuple[slice, Callable[[State], np.ndarray]]:
        """Where a sensor's numbers stand, and how they follow from Isaac's state."""
        model = self._model
        kind, what, index = (
            int(x[s]) for x in (model.sensor_type, model.sensor_objtype, model.sensor_objid)
        )
        at = slice(model.sensor_adr[s], model.sensor_adr[s] + model.sensor_dim[s])
        name = model.sensor(s).name
        plain = model.sensor_refid[s] < 0 and what in (SITE, XBODY)
        if kind not in (FRAMEPOS, FRAMEQUAT, FRAMELINVEL, TOUCH) or not plain:
            raise AlulaError(
                f"sensor {name!r} is not for Isaac; allowed: framepos, framequat, framelinvel and touch of sites and xbodies"
            )
        body, offset, turn = index, np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0])
        if what == SITE:
            body, offset, turn = (
                int(model.site_bodyid[index]),
                model.site_pos[index],
                model.site_quat[index],
            )
        if kind == TOUCH:
            row = touched(model).index(model.body(body).name)
            return at, lambda state: np.linalg.norm(state["touch_force"][:, row], axis=1)[:, None]
        frees = free_bodies(model)
        group, row = (
            ("box", frees.index(body)) if body in frees else ("body", _named(said, model, body))
        )
        if kind == FRAMEPOS:
            # p + R r
            return (
                at,
                lambda state: (
                    state[f"{group}_position"][:, row]
                    + _turned(state[f"{group}_quat"][:, row], offset)
                ),
            )
        if kind == FRAMEQUAT:
            return at, lambda state: quat_multiply(state[f"{group}_quat"][:, row], turn)
        if group == "body":
            raise AlulaError(
                f"sensor {name!r} is a velocity of the robot; allowed in Isaac: of objects"
            )
        # v + omega x R r
        return (
            at,
            lambda state: (
                state["box_velocity"][:, row]
                + np.cross(
                    state["box_angular_velocity"][:, row],
                    _turned(state["box_quat"][:, row], offset),
                )
            ),
        )


def scalar_last(order: str) -> bool:
    """Whether quaternions are x, y, z, w.

    Raises:
        AlulaError: neither of the two orders.
    """
    if order not in ("wxyz", "xyzw"):
        raise AlulaError(f"quaternion order {order!r}; allowed: wxyz, xyzw")
    return order == "xyzw"


def places(theirs: Sequence[str], ours: Sequence[str], what: str) -> np.ndarray:
    """Where each of our names stands among theirs (n).

    Raises:
        AlulaError: not the same names.
    """
    if sorted(theirs) != sorted(ours):
        raise AlulaError(f"{what} of Isaac: {', '.join(theirs)}; allowed: {', '.join(ours)}")
    return np.array([list(theirs).index(name) for name in ours], int)


def _named(said: dict[str, Any], model: mujoco.MjModel, body: int) -> int:
    name = model.body(body).name
    if name not in said["body_names"]:
        known = ", ".join(said["body_names"])
        raise AlulaError(f"body {name!r} is not among Isaac's; known: {known}")
    return said["body_names"].index(name)


def _turned(quat: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """R v (n, 3)."""
    return rot_from_quat(quat) @ vector


def _single(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


def _stacked(rows: list[np.ndarray], n: int, size: int) -> np.ndarray:
    """One array (n, F, size) of those of each free body."""
    return _single(np.stack(rows, axis=1)) if rows else np.zeros((n, 0, size), np.float32)
