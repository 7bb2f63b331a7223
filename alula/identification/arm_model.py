"""What an arm's MJCF says about its torques, and how they change with the links' masses."""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

import copy

import mujoco
import numpy as np

from alula.errors import AlulaError
from alula.robots.arm import Arm

REACH = 0.1
"""Where the point masses sit on the axes of a link's frame [m]."""
_POINTS = REACH * np.array(
    [
        (0.0, 0.0, 0.0),
        (1.0, 0.0, 0.0),
        (-1.0, 0.0, 0.0),
        (0.0, 1.0, 0.0),
        (0.0, -1.0, 0.0),
        (0.0, 0.0, 1.0),
        (0.0, 0.0, -1.0),
        (1.0, 1.0, 0.0),
        (0.0, 1.0, 1.0),
        (1.0, 0.0, 1.0),
    ]
)
"""Ten places whose unit masses span all of a link's mass, centre of mass and inertia (10, 3)."""


class ArmModel:
    """The links of an arm, as far as its measured joints move them.

    Joints that are not measured rest at the robot's home position.
    """

    def __init__(self, arm: Arm) -> None:
        try:
            self._model = mujoco.MjModel.from_xml_string(arm.model)
        except ValueError as e:
            raise AlulaError(
                f"robot {arm.name!r}: model does not compile: {str(e).splitlines()[0]}"
            ) from None
        ids = [self._model.joint(name).id for name in arm.joint_names]
        kinds = self._model.jnt_type[ids]
        moving = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
        if not np.isin(kinds, moving).all():
            raise AlulaError(f"robot {arm.name!r}: joints of other types; allowed: hinges, slides")
        self._qpos = self._model.jnt_qposadr[ids]
        self._dofs = self._model.jnt_dofadr[ids]
        self._bodies = self._model.jnt_bodyid[ids]
        self._home = self._model.qpos0.copy()
        if arm.home:
            self._home[self._qpos] = arm.home
        slides = kinds == mujoco.mjtJoint.mjJNT_SLIDE
        # a gripper's slides at the end of an arm of hinges
        trailing = 0 if slides.all() else int(np.argmin(slides[::-1]))
        self.counts: tuple[int, ...] = tuple(dict.fromkeys((len(ids), len(ids) - trailing)))
        """Numbers of joints that a log may have: all, or all but a gripper's."""

    def torque(self, q: np.ndarray, qd: np.ndarray, qdd: np.ndarray) -> np.ndarray:
        """Torque of gravity and of the links' motion, without friction, damping and rotors.

        tau = M(q) qdd + c(q, qd) + g(q), by recursive Newton-Euler.

        Args:
            q: positions (T, J).
            qd: velocities (T, J).
            qdd: accelerations (T, J).

        Returns:
            Joint torques [N m or N] (T, J).
        """
        return self._torques(self._model, q, qd, qdd)

    def link_torques(self, q: np.ndarray, qd: np.ndarray, qdd: np.ndarray) -> np.ndarray:
        """Torque that unit masses at ten places of each link would add: the inertial regressor.

        Inverse dynamics is linear in a link's mass, first and second moments, and the point masses are a basis of
        these ten numbers.

        Returns:
            Torque per mass [N m/kg or N/kg] (T, J, 10 J).
        """
        model, columns = copy.copy(self._model), []
        model.body_mass[:] = 0.0
        model.body_inertia[:] = 0.0
        for body in self._bodies[: q.shape[1]]:
            model.body_mass[body] = 1.0
            for point in _POINTS:
                model.body_ipos[body] = point
                columns.append(self._torques(model, q, qd, qdd))
            model.body_mass[body] = 0.0
        return np.stack(columns, axis=2)

    def _torques(
        self, model: mujoco.MjModel, q: np.ndarray, qd: np.ndarray, qdd: np.ndarray
    ) -> np.ndarray:
        data, n = mujoco.MjData(model), q.shape[1]
        qpos, dofs = self._qpos[:n], self._dofs[:n]
        data.qpos[:] = self._home
        out, torque = np.zeros(q.shape), np.zeros(model.nv)
        for k in range(len(q)):
            data.qpos[qpos], data.qvel[dofs], data.qacc[dofs] = q[k], qd[k], qdd[k]
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            mujoco.mj_comVel(model, data)
            mujoco.mj_rne(model, data, 1, torque)
            out[k] = torque[dofs]
        return out
