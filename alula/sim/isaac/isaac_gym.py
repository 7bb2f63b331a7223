"""Arms in Isaac Gym Preview 4, from its tensor API; run as a script by the interpreter that has it (Python 3.7 or 3.8).

Tensors are global: rows of all actors, of all bodies and of all joints one after another, in the order of creation.
Quaternions are x, y, z, w. All environments have their origin at 0 and the actors stand apart, so that positions are the
world's, whatever an environment's frame would be. What was reset is written once before a step: on a GPU only the last
such write before a step counts, and bodies' poses are computed in the step alone.
"""

# Neither the type checker nor the tests have it.
# pyright: reportMissingImports=false

from __future__ import annotations

import math
import os
import platform
import tempfile
from typing import Any

import numpy as np

POSITION_ITERATIONS, VELOCITY_ITERATIONS = 8, 1
"""Of PhysX' solver."""


class GymPhysics:
    """N arms and boxes."""

    def __init__(self, scene: dict[str, Any], gymapi: Any, gymtorch: Any, torch: Any) -> None:
        self.scene, self.gymapi, self.gymtorch, self.torch = scene, gymapi, gymtorch, torch
        self.gym = gymapi.acquire_gym()
        self.on_gpu = scene["device"] != "cpu"
        n, self.boxes = scene["n_envs"], scene["boxes"]
        columns = math.ceil(math.sqrt(n))
        at = np.arange(n)
        grid = np.stack([at % columns, at // columns, 0 * at], axis=1)
        self.origin_w = scene["spacing"] * grid.astype(np.float64)
        self.sim = self._make_sim()
        self._make_actors()
        self.gym.prepare_sim(self.sim)
        self._wrap()

    def _make_sim(self) -> Any:
        gymapi, scene = self.gymapi, self.scene
        params = gymapi.SimParams()
        params.dt, params.substeps = scene["dt"], 1
        params.up_axis, params.gravity = gymapi.UP_AXIS_Z, gymapi.Vec3(*scene["gravity"])
        params.use_gpu_pipeline = params.physx.use_gpu = self.on_gpu
        params.physx.num_position_iterations = POSITION_ITERATIONS
        params.physx.num_velocity_iterations = VELOCITY_ITERATIONS
        gpu = int(scene["device"].split(":")[1]) if ":" in scene["device"] else 0
        # Graphics -1: none.
        sim = self.gym.create_sim(gpu, -1, gymapi.SIM_PHYSX, params)
        if scene["floor"]:
            plane = gymapi.PlaneParams()
            plane.normal = gymapi.Vec3(0.0, 0.0, 1.0)
            plane.static_friction = plane.dynamic_friction = scene["friction"]
            self.gym.add_ground(sim, plane)
        return sim

    def _make_actors(self) -> None:
        gym, gymapi = self.gym, self.gymapi
        asset = self._robot_asset()
        self.joint_names = list(gym.get_asset_dof_names(asset))
        self.body_names = list(gym.get_asset_rigid_body_names(asset))
        properties = self._properties(asset)
        boxes = [self._box_asset(box) for box in self.boxes]
        zero, self.robots, self.free = gymapi.Vec3(0.0, 0.0, 0.0), [], []
        for i, origin in enumerate(self.origin_w):
            env = gym.create_env(self.sim, zero, zero, len(self.origin_w))
            # What has a group of its own touches nothing of others; equal bits of filters do not touch: no self-collision.
            robot = gym.create_actor(env, asset, self._pose(origin), "robot", i, 1)
            gym.set_actor_dof_properties(env, robot, properties)
            self.robots.append(gym.get_actor_index(env, robot, gymapi.DOMAIN_SIM))
            row = []
            for k, box in enumerate(boxes):
                place = origin + np.array([0.5 + 0.2 * k, 0.0, 0.5])
                name = self.boxes[k]["name"]
                actor = gym.create_actor(env, box, self._pose(place), name, i, 0)
                row.append(gym.get_actor_index(env, actor, gymapi.DOMAIN_SIM))
            self.free.append(row)

    def _pose(self, position: np.ndarray) -> Any:
        pose = self.gymapi.Transform()
        pose.p = self.gymapi.Vec3(*[float(x) for x in position])
        pose.r = self.gymapi.Quat(0.0, 0.0, 0.0, 1.0)
        return pose

    def _robot_asset(self) -> Any:
        options = self.gymapi.AssetOptions()
        options.fix_base_link = True
        options.collapse_fixed_joints = False
        options.disable_gravity = self.scene["compensated"]
        options.replace_cylinder_with_capsule = True
        options.override_com = options.override_inertia = False
        options.linear_damping = options.angular_damping = 0.0
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "robot.urdf"), "w") as file:
                file.write(self.scene["urdf"])
            asset = self.gym.load_asset(self.sim, folder, "robot.urdf", options)
        self._rub(asset)
        return asset

    def _box_asset(self, box: dict[str, Any]) -> Any:
        options = self.gymapi.AssetOptions()
        options.density = box["mass"] / (box["size"][0] * box["size"][1] * box["size"][2])
        options.linear_damping = options.angular_damping = 0.0
        asset = self.gym.create_box(self.sim, *(box["size"] + [options]))
        self._rub(asset)
        return asset

    def _rub(self, asset: Any) -> None:
        shapes = self.gym.get_asset_rigid_shape_properties(asset)
        for shape in shapes:
            shape.friction = self.scene["friction"]
        self.gym.set_asset_rigid_shape_properties(asset, shapes)

    def _properties(self, asset: Any) -> Any:
        """Drives by name, in the order of the asset."""
        by_name = {joint["name"]: joint for joint in self.scene["joints"]}
        properties = self.gym.get_asset_dof_properties(asset)
        for row, name in enumerate(self.joint_names):
            joint = by_name[name]
            servo = self.gymapi.DOF_MODE_POS if joint["servo"] else self.gymapi.DOF_MODE_EFFORT
            properties["driveMode"][row] = servo
            properties["stiffness"][row] = joint["stiffness"]
            properties["damping"][row] = joint["damping"]
            properties["armature"][row] = joint["armature"]
            properties["effort"][row] = joint["effort_max"]
            properties["velocity"][row] = joint["velocity_max"]
            properties["friction"][row] = 0.0
        return properties

    def _wrap(self) -> None:
        gym, sim, wrap, n = self.gym, self.sim, self.gymtorch.wrap_tensor, self.scene["n_envs"]
        self.dof = wrap(gym.acquire_dof_state_tensor(sim))
        self.root = wrap(gym.acquire_actor_root_state_tensor(sim))
        self.body = wrap(gym.acquire_rigid_body_state_tensor(sim))
        self.force = wrap(gym.acquire_net_contact_force_tensor(sim))
        self.dof_of_env = self.dof.view(n, len(self.joint_names), 2)
        # In each environment the robot's bodies, then the boxes
        self.body_of_env = self.body.view(n, len(self.body_names) + len(self.boxes), 13)
        self.force_of_env = self.force.view(n, len(self.body_names) + len(self.boxes), 3)
        integers, device = self.torch.int32, self.dof.device
        self.robots = self.torch.tensor(self.robots, dtype=integers, device=device)
        self.free = self.torch.tensor(self.free, dtype=integers, device=device).view(
            n, len(self.boxes)
        )
        self.touched = [self.body_names.index(name) for name in self.scene["touched"]]
        self._refresh()

    def _refresh(self) -> None:
        self.gym.refresh_dof_state_tensor(self.sim)
        self.gym.refresh_actor_root_state_tensor(self.sim)
        self.gym.refresh_rigid_body_state_tensor(self.sim)
        self.gym.refresh_net_contact_force_tensor(self.sim)

    def step(self, steps: int, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As `channel.serve` says: write what was reset, advance, read."""
        gym, sim, unwrap = self.gym, self.sim, self.gymtorch.unwrap_tensor
        # Kept to the end: the simulator reads them in the step.
        kept = self._write({name: self._tensor(array) for name, array in arrays.items()})
        target, effort = self._tensor(arrays["target"]), self._tensor(arrays["effort"])
        for _ in range(steps):
            gym.set_dof_position_target_tensor(sim, unwrap(target))
            gym.set_dof_actuation_force_tensor(sim, unwrap(effort))
            gym.simulate(sim)
            if not self.on_gpu:
                gym.fetch_results(sim, True)
        del kept
        self._refresh()
        return self._state()

    def _write(self, given: dict[str, Any]) -> list[Any]:
        gym, sim, unwrap, ids = self.gym, self.sim, self.gymtorch.unwrap_tensor, given["ids"].long()
        if not len(ids):
            return []
        self.dof_of_env[ids, :, 0] = given["joint_position"]
        self.dof_of_env[ids, :, 1] = given["joint_velocity"]
        # Only actors with joints: others among them would shift the rows.
        robots = self.robots[ids].contiguous()
        gym.set_dof_state_tensor_indexed(sim, unwrap(self.dof), unwrap(robots), len(robots))
        if not self.boxes:
            return [robots]
        boxes = self.free[ids].flatten().contiguous()
        rows = boxes.long()
        self.root[rows, 0:3] = given["box_position"].view(-1, 3)
        self.root[rows, 3:7] = given["box_quat"].view(-1, 4)
        self.root[rows, 7:10] = given["box_velocity"].view(-1, 3)
        self.root[rows, 10:13] = given["box_angular_velocity"].view(-1, 3)
        gym.set_actor_root_state_tensor_indexed(sim, unwrap(self.root), unwrap(boxes), len(boxes))
        return [robots, boxes]

    def _state(self) -> dict[str, np.ndarray]:
        links = len(self.body_names)
        bodies, boxes = self.body_of_env[:, :links], self.body_of_env[:, links:]
        return {
            "joint_position": _array(self.dof_of_env[:, :, 0]),
            "joint_velocity": _array(self.dof_of_env[:, :, 1]),
            "body_position": _array(bodies[:, :, 0:3]),
            "body_quat": _array(bodies[:, :, 3:7]),
            "box_position": _array(boxes[:, :, 0:3]),
            "box_quat": _array(boxes[:, :, 3:7]),
            "box_velocity": _array(boxes[:, :, 7:10]),
            "box_angular_velocity": _array(boxes[:, :, 10:13]),
            "touch_force": _array(self.force_of_env[:, self.touched]),
        }

    def _tensor(self, array: np.ndarray) -> Any:
        return self.torch.tensor(array, device=self.dof.device)


def _array(tensor: Any) -> np.ndarray:
    return np.array(tensor.cpu().numpy(), np.float32)


def make(scene: dict[str, Any]) -> tuple[GymPhysics, dict[str, Any]]:
    """The physics, and what it says of itself."""
    # isaacgym refuses to be imported after torch.
    import isaacgym
    from isaacgym import gymapi, gymtorch

    import torch  # isort: skip

    physics = GymPhysics(scene, gymapi, gymtorch, torch)
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    said = {
        "joint_names": physics.joint_names,
        "body_names": physics.body_names,
        "quaternion": "xyzw",
        "software": {
            "isaacgym": getattr(isaacgym, "__version__", "unknown"),
            "python of isaac-gym": platform.python_version(),
            "torch of isaac-gym": torch.__version__,
            "numpy of isaac-gym": np.__version__,
        },
        "hardware": {"gpu of isaac-gym": gpu, "device": scene["device"]},
    }
    return physics, said


if __name__ == "__main__":
    import sys

    from channel import serve

    # Nothing of Isaac's may find our files in place of its own.
    del sys.path[0]
    serve(make)
