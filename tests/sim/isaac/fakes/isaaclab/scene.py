import types

import numpy as np
import torch
from fake_engine import Engine

from isaaclab import THREE, Cfg, assets, sensors
from isaaclab.sim import SimulationContext


class InteractiveSceneCfg(Cfg):
    pass


def told(array):
    """Data: a tensor in 2, in 3 something that holds one."""
    tensor = torch.tensor(np.asarray(array, np.float32))
    return types.SimpleNamespace(torch=tensor) if THREE else tensor


def order(quat):
    """From w, x, y, z to this version's."""
    return np.roll(quat, -1, axis=-1) if THREE else quat


def numbers(ids):
    assert ids.dtype == (torch.int32 if THREE else torch.int64)
    return ids.tolist()


class InteractiveScene:
    def __init__(self, cfg):
        self.cfg, self.sim = cfg, SimulationContext.made
        self.sim.scene = self
        n = cfg.num_envs
        # A grid around the origin, as Isaac Lab's
        at = np.arange(n)
        self.origin_w = cfg.env_spacing * np.stack([at // 2 - 0.5, at % 2 - 0.5, 0.0 * at], axis=1)
        self.env_origins = torch.tensor(self.origin_w, dtype=torch.float32)

    def start(self):
        robot, cfg = self.cfg.robot, self.cfg
        actuator = robot.actuators["all"]
        with open(robot.spawn.asset_path) as file:
            urdf = file.read()
        joints = [
            {"name": name, "servo": k > 0.0, "stiffness": k, "damping": actuator.damping[name],
             "armature": actuator.armature[name]}
            for name, k in actuator.stiffness.items()
        ]  # fmt: skip
        loose = {k: v for k, v in vars(cfg).items() if isinstance(v, assets.RigidObjectCfg)}
        boxes = [
            {"name": name, "size": list(v.spawn.size), "mass": v.spawn.mass_props.mass}
            for name, v in loose.items()
        ]
        self.engine = Engine(
            urdf, joints, boxes, self.origin_w, dt=self.sim.cfg.dt, gravity=self.sim.cfg.gravity,
            floor=hasattr(cfg, "ground"), compensated=robot.spawn.rigid_props.disable_gravity,
        )  # fmt: skip
        by_name = {j["name"]: j["servo"] for j in joints}
        servo = np.array([by_name[name] for name in self.engine.joint_names])
        self.items = {"robot": Robot(self.engine, servo)}
        for k, name in enumerate(loose):
            self.items[name] = Box(self.engine, k)
        if isinstance(getattr(cfg, "contact", None), sensors.ContactSensorCfg):
            assert robot.spawn.activate_contact_sensors
            self.items["contact"] = Contact(self.engine)
        self.pending = None

    def __getitem__(self, name):
        return self.items[name]

    def reset(self, ids):
        numbers(ids)

    def write_data_to_sim(self):
        robot = self.items["robot"]
        self.pending = (robot.target, robot.effort, robot.servo)

    def simulate(self):
        self.engine.command(*self.pending)
        self.engine.simulate()
        self.pending = None

    def update(self, dt):
        assert dt == self.sim.cfg.dt
        for item in self.items.values():
            item.update()


class Robot:
    def __init__(self, engine, servo):
        self.engine, self.servo, self.data = engine, servo, types.SimpleNamespace()
        self.joint_names, self.body_names = engine.joint_names, engine.body_names
        self.target = self.effort = None
        if THREE:
            command = types.SimpleNamespace(
                set_position_index=lambda *, value: setattr(self, "target", value.numpy()),
                set_effort_index=lambda *, value: setattr(self, "effort", value.numpy()),
            )
            self.actuators = types.SimpleNamespace(target_command=command)
            self.write_joint_position_to_sim_index = self._position
            self.write_joint_velocity_to_sim_index = self._velocity
        else:
            self.write_joint_state_to_sim = self._both
            self.set_joint_position_target = lambda value: setattr(self, "target", value.numpy())
            self.set_joint_effort_target = lambda value: setattr(self, "effort", value.numpy())

    def _position(self, *, position, env_ids):
        self.position = position

    def _velocity(self, *, velocity, env_ids):
        self._both(self.position, velocity, env_ids=env_ids)

    def _both(self, position, velocity, *, env_ids):
        for row, i in enumerate(numbers(env_ids)):
            self.engine.set_joints(i, position[row].numpy(), velocity[row].numpy())

    def update(self):
        position, velocity = self.engine.joints()
        pose = self.engine.poses(self.engine.bodies)
        pose = np.concatenate([pose[:, :, :3], order(pose[:, :, 3:])], axis=2)
        self.data.joint_pos, self.data.joint_vel = told(position), told(velocity)
        self.data.body_link_pose_w = told(pose)


class Box:
    def __init__(self, engine, k):
        self.engine, self.k, self.data = engine, k, types.SimpleNamespace()
        if THREE:
            self.write_root_pose_to_sim_index = lambda *, root_pose, env_ids: self._pose(
                root_pose, env_ids
            )
            self.write_root_velocity_to_sim_index = lambda *, root_velocity, env_ids: (
                self._velocity(root_velocity, env_ids)
            )
        else:
            self.write_root_pose_to_sim = lambda pose, *, env_ids: self._pose(pose, env_ids)
            self.write_root_velocity_to_sim = lambda v, *, env_ids: self._velocity(v, env_ids)

    def _pose(self, pose, ids):
        self.pose = pose.numpy().astype(float)

    def _velocity(self, velocity, ids):
        v = velocity.numpy().astype(float)
        for row, i in enumerate(numbers(ids)):
            quat = np.roll(self.pose[row, 3:], 1) if THREE else self.pose[row, 3:]
            self.engine.set_box(i, self.k, self.pose[row, :3], quat, v[row, :3], v[row, 3:])

    def update(self):
        pose = self.engine.poses([self.engine.boxes[self.k]])[:, 0]
        self.data.root_link_pose_w = told(np.concatenate([pose[:, :3], order(pose[:, 3:])], axis=1))
        self.data.root_com_vel_w = told(self.engine.box_velocities()[:, self.k])


class Contact:
    def __init__(self, engine):
        self.engine, self.body_names, self.data = engine, engine.body_names, types.SimpleNamespace()

    def update(self):
        force = told(self.engine.forces(self.engine.bodies))
        setattr(self.data, "net_normal_forces_w" if THREE else "net_forces_w", force)
