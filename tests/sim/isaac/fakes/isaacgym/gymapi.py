import os
import types

import numpy as np
from fake_engine import Engine, names_of

UP_AXIS_Z, SIM_PHYSX, DOMAIN_SIM, DOF_MODE_POS, DOF_MODE_EFFORT = 1, 2, 3, 1, 3
DOF = [("driveMode", int), ("stiffness", float), ("damping", float), ("armature", float),
       ("effort", float), ("velocity", float), ("friction", float)]  # fmt: skip


class Vec3:
    def __init__(self, x=0.0, y=0.0, z=0.0):
        self.x, self.y, self.z = float(x), float(y), float(z)


class Quat:
    def __init__(self, x=0.0, y=0.0, z=0.0, w=1.0):
        assert (x, y, z, w) == (0.0, 0.0, 0.0, 1.0)


class Transform:
    pass


class PlaneParams:
    pass


class AssetOptions:
    pass


class SimParams:
    def __init__(self):
        self.physx = types.SimpleNamespace()


def acquire_gym():
    return Gym()


class Gym:
    def create_sim(self, compute, graphics, kind, params):
        assert kind == SIM_PHYSX
        assert params.up_axis == UP_AXIS_Z
        self.params, self.floor, self.actors, self.envs = params, False, [], []
        self.prepared, self.written = False, set()
        return "sim"

    def add_ground(self, sim, plane):
        assert (plane.normal.x, plane.normal.y, plane.normal.z) == (0.0, 0.0, 1.0)
        self.floor = True

    def load_asset(self, sim, folder, file, options):
        assert options.fix_base_link
        assert not options.collapse_fixed_joints
        with open(os.path.join(folder, file)) as opened:
            self.urdf = opened.read()
        self.compensated = options.disable_gravity
        self.joint_names, self.body_names = names_of(self.urdf)
        return "robot"

    def create_box(self, sim, x, y, z, options):
        return {"size": [x, y, z], "mass": options.density * x * y * z}

    def get_asset_dof_names(self, asset):
        return self.joint_names

    def get_asset_rigid_body_names(self, asset):
        return self.body_names

    def get_asset_dof_properties(self, asset):
        return np.zeros(len(self.joint_names), DOF)

    def get_asset_rigid_shape_properties(self, asset):
        return [types.SimpleNamespace(friction=0.1)]

    def set_asset_rigid_shape_properties(self, asset, shapes):
        assert shapes[0].friction == 1.0

    def create_env(self, sim, lower, upper, per_row):
        self.envs.append(len(self.envs))
        return self.envs[-1]

    def create_actor(self, env, asset, pose, name, group, touching):
        assert group == env
        self.actors.append((env, asset, np.array([pose.p.x, pose.p.y, pose.p.z]), name, touching))
        return len(self.actors) - 1

    def set_actor_dof_properties(self, env, actor, properties):
        self.properties = properties

    def get_actor_index(self, env, actor, domain):
        assert domain == DOMAIN_SIM
        return actor

    def prepare_sim(self, sim):
        import torch

        self.torch, n = torch, len(self.envs)
        self.robots = [i for i, a in enumerate(self.actors) if a[1] == "robot"]
        self.free = [i for i, a in enumerate(self.actors) if a[1] != "robot"]
        origin = np.stack([self.actors[i][2] for i in self.robots])
        boxes = [
            dict(self.actors[i][1], name=self.actors[i][3])
            for i in self.free[: len(self.free) // n]
        ]
        joints = [
            {"name": name, "servo": p["driveMode"] == DOF_MODE_POS, "stiffness": p["stiffness"],
             "damping": p["damping"], "armature": p["armature"]}
            for name, p in zip(self.joint_names, self.properties, strict=True)
        ]  # fmt: skip
        self.servo = np.array([j["servo"] for j in joints])
        g = self.params.gravity
        self.engine = Engine(
            self.urdf, joints, boxes, origin, dt=self.params.dt, gravity=[g.x, g.y, g.z],
            floor=self.floor, compensated=self.compensated,
        )  # fmt: skip
        self.dof = torch.zeros(n * len(self.joint_names), 2)
        self.root = torch.zeros(len(self.actors), 13)
        self.body = torch.zeros(n * (len(self.body_names) + len(boxes)), 13)
        self.force = torch.zeros(len(self.body), 3)
        self.target = self.effort = torch.zeros(n * len(self.joint_names))
        self.prepared = True

    def acquire_dof_state_tensor(self, sim):
        assert self.prepared
        return self.dof

    def acquire_actor_root_state_tensor(self, sim):
        return self.root

    def acquire_rigid_body_state_tensor(self, sim):
        return self.body

    def acquire_net_contact_force_tensor(self, sim):
        return self.force

    def _put(self, tensor, array):
        tensor[:] = self.torch.tensor(np.asarray(array, np.float32).reshape(tensor.shape))

    def _boxes(self):
        pose = self.engine.poses(self.engine.boxes)
        # w, x, y, z to x, y, z, w
        return np.concatenate(
            [pose[:, :, :3], np.roll(pose[:, :, 3:], -1, axis=2), self.engine.box_velocities()], axis=2
        )  # fmt: skip

    def refresh_dof_state_tensor(self, sim):
        self._put(self.dof, np.stack(self.engine.joints(), axis=2))

    def refresh_actor_root_state_tensor(self, sim):
        self.root[self.free] = self.torch.tensor(self._boxes().reshape(-1, 13).astype(np.float32))

    def refresh_rigid_body_state_tensor(self, sim):
        pose = self.engine.poses(self.engine.bodies)
        links = np.zeros((*pose.shape[:2], 13))
        links[:, :, :3], links[:, :, 3:7] = pose[:, :, :3], np.roll(pose[:, :, 3:], -1, axis=2)
        self._put(self.body, np.concatenate([links, self._boxes()], axis=1))

    def refresh_net_contact_force_tensor(self, sim):
        self._put(self.force, self.engine.forces([*self.engine.bodies, *self.engine.boxes]))

    def set_dof_state_tensor_indexed(self, sim, tensor, indices, n):
        self._once("dof", indices, n)
        state = tensor.view(len(self.envs), -1, 2).numpy()
        for actor in indices.tolist():
            env = self.robots.index(actor)
            self.engine.set_joints(env, state[env, :, 0], state[env, :, 1])

    def set_actor_root_state_tensor_indexed(self, sim, tensor, indices, n):
        self._once("root", indices, n)
        each = len(self.free) // len(self.envs)
        for actor in indices.tolist():
            env, k = divmod(self.free.index(actor), each)
            s = tensor[actor].numpy().astype(float)
            self.engine.set_box(env, k, s[:3], np.roll(s[3:7], 1), s[7:10], s[10:13])

    def _once(self, what, indices, n):
        assert indices.dtype == self.torch.int32
        assert len(indices) == n
        assert what not in self.written, "only the last write before a step counts"
        self.written.add(what)

    def set_dof_position_target_tensor(self, sim, tensor):
        self.target = tensor

    def set_dof_actuation_force_tensor(self, sim, tensor):
        self.effort = tensor

    def simulate(self, sim):
        shape = (len(self.envs), -1)
        self.engine.command(
            self.target.numpy().reshape(shape), self.effort.numpy().reshape(shape), self.servo
        )
        self.engine.simulate()
        self.written.clear()

    def fetch_results(self, sim, wait):
        assert wait
