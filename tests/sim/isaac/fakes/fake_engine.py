"""What the fakes of Isaac move arms with: MuJoCo on the URDF, with the joints and bodies in another order, far from the
origin of the world. Quaternions here are w, x, y, z."""

import mujoco
import numpy as np


def names_of(urdf):
    """Names of joints and of bodies, in the order of the fakes: backwards, the base first."""
    spec = mujoco.MjSpec.from_string(urdf)
    bodies = [body.name for body in spec.bodies[1:]]
    return [joint.name for joint in spec.joints][::-1], [bodies[0], *bodies[:0:-1]]


class Engine:
    def __init__(self, urdf, joints, boxes, origin_w, *, dt, gravity, floor, compensated):
        self.origin_w = origin_w
        spec = mujoco.MjSpec.from_string(urdf)
        spec.compiler.fusestatic = False
        spec.option.timestep, spec.option.gravity = dt, gravity
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        for geom in spec.geoms:
            geom.contype, geom.conaffinity = 0, 1
        for body in spec.bodies[1:]:
            body.gravcomp = float(compensated)
        by_name = {j["name"]: j for j in joints}
        for joint in spec.joints:
            given = by_name[joint.name]
            joint.armature = given["armature"]
            joint.damping = [0.0 if given["servo"] else given["damping"], 0.0, 0.0]
            servo = spec.add_actuator(name=joint.name, target=joint.name)
            servo.trntype = mujoco.mjtTrn.mjTRN_JOINT
            if given["servo"]:
                servo.set_to_position(kp=given["stiffness"], kv=given["damping"])
            else:
                servo.set_to_motor()
        for box in boxes:
            body = spec.worldbody.add_body(name=box["name"], pos=[0.5, 0.0, 0.5])
            body.add_freejoint()
            half = [0.5 * x for x in box["size"]]
            body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=half, mass=box["mass"])
        if floor:
            spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[2, 2, 0.1])
        self.model = m = spec.compile()
        self.data = [mujoco.MjData(m) for _ in origin_w]
        self.joint_names, self.body_names = names_of(urdf)
        ids = [m.joint(name).id for name in self.joint_names]
        self.qpos, self.qvel = m.jnt_qposadr[ids], m.jnt_dofadr[ids]
        self.ctrl = [m.actuator(name).id for name in self.joint_names]
        self.bodies = [m.body(name).id for name in self.body_names]
        self.boxes = [m.body(box["name"]).id for box in boxes]
        self.commands = np.zeros((len(origin_w), m.nu))

    def joints(self):
        """Positions and velocities (N, D)."""
        return (
            np.stack([d.qpos[self.qpos] for d in self.data]),
            np.stack([d.qvel[self.qvel] for d in self.data]),
        )

    def poses(self, bodies):
        """In the world (N, B, 7)."""
        rows = [np.concatenate([d.xpos[bodies] + o, d.xquat[bodies]], axis=1)
                for d, o in zip(self.data, self.origin_w, strict=True)]  # fmt: skip
        return np.stack(rows)

    def box_velocities(self):
        """Linear and angular, in the world (N, F, 6)."""
        out = np.zeros((len(self.data), len(self.boxes), 6))
        for i, d in enumerate(self.data):
            for k, body in enumerate(self.boxes):
                at = self.model.jnt_dofadr[self.model.body_jntadr[body]]
                rot = d.xmat[body].reshape(3, 3)
                out[i, k] = [*d.qvel[at : at + 3], *(rot @ d.qvel[at + 3 : at + 6])]
        return out

    def forces(self, bodies):
        """Of contacts (N, B, 3)."""
        return np.stack([d.cfrc_ext[bodies, 3:] for d in self.data])

    def set_joints(self, i, position, velocity):
        d = self.data[i]
        d.qpos[self.qpos], d.qvel[self.qvel] = position, velocity
        d.qacc_warmstart[:] = 0.0

    def set_box(self, i, k, position, quat, velocity, turning):
        d, joint = self.data[i], self.model.body_jntadr[self.boxes[k]]
        at, dof = self.model.jnt_qposadr[joint], self.model.jnt_dofadr[joint]
        d.qpos[at : at + 3], d.qpos[at + 3 : at + 7] = position - self.origin_w[i], quat
        rot = np.zeros(9)
        mujoco.mju_quat2Mat(rot, np.asarray(quat, float))
        d.qvel[dof : dof + 3], d.qvel[dof + 3 : dof + 6] = velocity, rot.reshape(3, 3).T @ turning

    def command(self, target, effort, servo):
        self.commands[:, self.ctrl] = np.where(servo, target, effort)

    def simulate(self):
        for d, command in zip(self.data, self.commands, strict=True):
            d.ctrl[:] = command
            mujoco.mj_step(self.model, d)
            # As in Isaac, poses belong to the new positions.
            mujoco.mj_kinematics(self.model, d)
            mujoco.mj_comPos(self.model, d)
            mujoco.mj_rnePostConstraint(self.model, d)
