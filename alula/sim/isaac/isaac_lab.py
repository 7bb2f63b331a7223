"""Arms in Isaac Lab 2.3 or 3, from its documented classes; run as a script by the interpreter that has it.

What differs between the two (Isaac Lab, "Migrating To 3.0"): quaternions are w, x, y, z in 2 and x, y, z, w in 3; data are
tensors in 2 and hold them as `.torch` in 3; states are written by `write_..._to_sim` in 2 and by `write_..._to_sim_index`
in 3; targets are the articulation's in 2 and its actuators' in 3. Which it is is found by looking, not by version
numbers. Positions are the world's; `env_origins` are the origins of the environments.
"""

# Neither the type checker nor the tests have it.
# pyright: reportMissingImports=false

from __future__ import annotations

import os
import platform
import tempfile
from importlib import metadata
from typing import Any

import numpy as np

POSITION_ITERATIONS, VELOCITY_ITERATIONS = 8, 1
"""Of PhysX' solver."""


class LabPhysics:
    """N arms and boxes."""

    def __init__(self, scene: dict[str, Any], lab: Any, torch: Any) -> None:
        """`lab` has Isaac Lab's modules sim, assets, sensors, actuators and scene, and PhysX' settings with their name."""
        self.given, self.lab, self.torch, self.app = scene, lab, torch, None
        sim_utils = lab.sim
        material = self._material()
        self.sim = sim_utils.SimulationContext(
            sim_utils.SimulationCfg(
                dt=scene["dt"],
                device=scene["device"],
                gravity=tuple(scene["gravity"]),
                physics_material=material,
                # What happens to one environment does not depend on the others.
                **{lab.physics_name: lab.physics_cfg(enable_enhanced_determinism=True)},
            )
        )
        self.folder = tempfile.TemporaryDirectory()
        self.scene = lab.scene.InteractiveScene(self._scene_cfg())
        self.sim.reset()
        self.scene.update(scene["dt"])
        self.robot = self.scene["robot"]
        self.boxes = [self.scene[box["name"]] for box in scene["boxes"]]
        self.joint_names, self.body_names = (
            list(self.robot.joint_names),
            list(self.robot.body_names),
        )
        self.origin_w = _array(_torch(self.scene.env_origins)).astype(np.float64)
        self.quaternion = quaternion_order(lab.assets.AssetBaseCfg.InitialStateCfg().rot)
        self.indexed = hasattr(self.robot, "write_joint_position_to_sim_index")
        self.touched = []
        if scene["touched"]:
            self.contact = self.scene["contact"]
            names = list(self.contact.body_names)
            self.touched = [names.index(name) for name in scene["touched"]]

    def _material(self) -> Any:
        friction = self.given["friction"]
        return self.lab.sim.RigidBodyMaterialCfg(
            static_friction=friction, dynamic_friction=friction, restitution=0.0
        )

    def _scene_cfg(self) -> Any:
        lab, given = self.lab, self.given
        cfg = lab.scene.InteractiveSceneCfg(
            num_envs=given["n_envs"], env_spacing=given["spacing"], replicate_physics=True
        )
        # The scene makes what its configuration has, in this order.
        if given["floor"]:
            ground = lab.sim.GroundPlaneCfg(physics_material=self._material())
            # Group -1 touches all environments.
            cfg.ground = lab.assets.AssetBaseCfg(
                prim_path="/World/ground", spawn=ground, collision_group=-1
            )
        cfg.robot = self._robot_cfg()
        for box in given["boxes"]:
            setattr(cfg, box["name"], self._box_cfg(box))
        if given["touched"]:
            cfg.contact = lab.sensors.ContactSensorCfg(prim_path="{ENV_REGEX_NS}/Robot/.*")
        return cfg

    def _robot_cfg(self) -> Any:
        lab, given = self.lab, self.given
        sim_utils, joints = lab.sim, given["joints"]
        path = os.path.join(self.folder.name, "robot.urdf")
        with open(path, "w") as file:
            file.write(given["urdf"])
        drive = sim_utils.UrdfConverterCfg.JointDriveCfg(
            gains=sim_utils.UrdfConverterCfg.JointDriveCfg.PDGainsCfg(stiffness=0.0, damping=0.0)
        )
        spawn = sim_utils.UrdfFileCfg(
            asset_path=path,
            usd_dir=self.folder.name,
            force_usd_conversion=True,
            fix_base=True,
            merge_fixed_joints=False,
            self_collision=False,
            replace_cylinders_with_capsules=True,
            joint_drive=drive,
            activate_contact_sensors=bool(given["touched"]),
            rigid_props=sim_utils.RigidBodyPropertiesCfg(
                disable_gravity=given["compensated"], linear_damping=0.0, angular_damping=0.0
            ),
            articulation_props=sim_utils.ArticulationRootPropertiesCfg(
                enabled_self_collisions=False,
                solver_position_iteration_count=POSITION_ITERATIONS,
                solver_velocity_iteration_count=VELOCITY_ITERATIONS,
            ),
        )

        def each(key: str) -> dict[str, float]:
            return {joint["name"]: joint[key] for joint in joints}

        actuators = lab.actuators.ImplicitActuatorCfg(
            joint_names_expr=[".*"],
            stiffness=each("stiffness"),
            damping=each("damping"),
            armature=each("armature"),
            friction=0.0,
            effort_limit_sim=each("effort_max"),
            velocity_limit_sim=each("velocity_max"),
        )
        return lab.assets.ArticulationCfg(
            prim_path="{ENV_REGEX_NS}/Robot",
            spawn=spawn,
            init_state=lab.assets.ArticulationCfg.InitialStateCfg(joint_pos=each("home")),
            actuators={"all": actuators},
        )

    def _box_cfg(self, box: dict[str, Any]) -> Any:
        lab = self.lab
        sim_utils = lab.sim
        spawn = sim_utils.CuboidCfg(
            size=tuple(box["size"]),
            rigid_props=sim_utils.RigidBodyPropertiesCfg(
                linear_damping=0.0,
                angular_damping=0.0,
                solver_position_iteration_count=POSITION_ITERATIONS,
                solver_velocity_iteration_count=VELOCITY_ITERATIONS,
            ),
            mass_props=sim_utils.MassPropertiesCfg(mass=box["mass"]),
            collision_props=sim_utils.CollisionPropertiesCfg(),
            physics_material=self._material(),
        )
        begin = lab.assets.RigidObjectCfg.InitialStateCfg(pos=(0.5, 0.0, 0.5))
        prim_path = "{ENV_REGEX_NS}/" + box["name"]
        return lab.assets.RigidObjectCfg(prim_path=prim_path, spawn=spawn, init_state=begin)

    def step(self, steps: int, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As `channel.serve` says: write what was reset, advance, read."""
        given = {
            name: self.torch.tensor(array, device=self.sim.device) for name, array in arrays.items()
        }
        if len(given["ids"]):
            self._write(given)
        for _ in range(steps):
            self._command(given["target"], given["effort"])
            self.scene.write_data_to_sim()
            self.sim.step(render=False)
            self.scene.update(self.given["dt"])
        return self._state()

    def _write(self, given: dict[str, Any]) -> None:
        robot = self.robot
        q, speed = given["joint_position"], given["joint_velocity"]
        # Warp's kernels take 32 bits, torch's indices 64.
        ids = given["ids"].to(self.torch.int32 if self.indexed else self.torch.int64)
        self.scene.reset(ids)
        if self.indexed:
            robot.write_joint_position_to_sim_index(position=q, env_ids=ids)
            robot.write_joint_velocity_to_sim_index(velocity=speed, env_ids=ids)
        else:
            robot.write_joint_state_to_sim(q, speed, env_ids=ids)
        for k, box in enumerate(self.boxes):
            pose = self.torch.cat([given["box_position"][:, k], given["box_quat"][:, k]], dim=1)
            parts = [given["box_velocity"][:, k], given["box_angular_velocity"][:, k]]
            velocity = self.torch.cat(parts, dim=1)
            if self.indexed:
                box.write_root_pose_to_sim_index(root_pose=pose, env_ids=ids)
                box.write_root_velocity_to_sim_index(root_velocity=velocity, env_ids=ids)
            else:
                box.write_root_pose_to_sim(pose, env_ids=ids)
                box.write_root_velocity_to_sim(velocity, env_ids=ids)

    def _command(self, target: Any, effort: Any) -> None:
        command = getattr(getattr(self.robot, "actuators", None), "target_command", None)
        if command is not None:
            command.set_position_index(value=target)
            command.set_effort_index(value=effort)
        elif self.indexed:
            self.robot.set_joint_position_target_index(target=target)
            self.robot.set_joint_effort_target_index(target=effort)
        else:
            self.robot.set_joint_position_target(target)
            self.robot.set_joint_effort_target(effort)

    def _state(self) -> dict[str, np.ndarray]:
        data, n = self.robot.data, self.given["n_envs"]
        body = _torch(data.body_link_pose_w)
        zero = self.torch.zeros(n, 0, 13, device=self.sim.device)
        rows = [
            self.torch.cat([_torch(b.data.root_link_pose_w), _torch(b.data.root_com_vel_w)], dim=1)
            for b in self.boxes
        ]
        box = self.torch.stack(rows, dim=1) if rows else zero
        force = zero[:, :, :3]
        if self.touched:
            seen = self.contact.data
            name = "net_normal_forces_w" if hasattr(seen, "net_normal_forces_w") else "net_forces_w"
            force = _torch(getattr(seen, name))[:, self.touched]
        return {
            "joint_position": _array(_torch(data.joint_pos)),
            "joint_velocity": _array(_torch(data.joint_vel)),
            "body_position": _array(body[:, :, 0:3]),
            "body_quat": _array(body[:, :, 3:7]),
            "box_position": _array(box[:, :, 0:3]),
            "box_quat": _array(box[:, :, 3:7]),
            "box_velocity": _array(box[:, :, 7:10]),
            "box_angular_velocity": _array(box[:, :, 10:13]),
            "touch_force": _array(force),
        }


def quaternion_order(identity: Any) -> str:
    """From how this version writes no rotation."""
    if tuple(identity) == (1.0, 0.0, 0.0, 0.0):
        return "wxyz"
    if tuple(identity) == (0.0, 0.0, 0.0, 1.0):
        return "xyzw"
    raise ValueError(f"the default rotation is {tuple(identity)}; allowed: none")


def _torch(value: Any) -> Any:
    """The tensor of what 2 gives as one, and 3 with one inside."""
    return getattr(value, "torch", value)


def _array(tensor: Any) -> np.ndarray:
    return np.array(tensor.detach().cpu().numpy(), np.float32)


def _versions() -> dict[str, str]:
    found = {}
    for name in ("isaaclab", "isaacsim", "isaaclab_physx", "isaaclab_newton", "torch", "numpy"):
        try:
            found[name + " of isaac-lab"] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def make(scene: dict[str, Any]) -> tuple[LabPhysics, dict[str, Any]]:
    """The physics, and what it says of itself."""
    from isaaclab.app import AppLauncher

    # Before anything else of Isaac's is imported.
    app = AppLauncher(headless=True, device=scene["device"]).app
    import types

    import isaaclab.actuators
    import isaaclab.assets
    import isaaclab.scene
    import isaaclab.sensors
    import isaaclab.sim
    import torch

    try:
        from isaaclab_physx.physics import PhysxCfg

        name = "physics"
    except ModuleNotFoundError:
        # Isaac Lab 2
        PhysxCfg, name = isaaclab.sim.PhysxCfg, "physx"
    lab = types.SimpleNamespace(
        physics_cfg=PhysxCfg,
        physics_name=name,
        sim=isaaclab.sim,
        assets=isaaclab.assets,
        sensors=isaaclab.sensors,
        actuators=isaaclab.actuators,
        scene=isaaclab.scene,
    )
    physics = LabPhysics(scene, lab, torch)
    physics.app = app
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    said = {
        "joint_names": physics.joint_names,
        "body_names": physics.body_names,
        "quaternion": physics.quaternion,
        "states are written": "by index" if physics.indexed else "as in 2",
        "software": dict(_versions(), **{"python of isaac-lab": platform.python_version()}),
        "hardware": {"gpu of isaac-lab": gpu, "device": scene["device"]},
    }
    return physics, said


if __name__ == "__main__":
    import sys

    from channel import serve

    # Nothing of Isaac's may find our files in place of its own.
    del sys.path[0]
    served = serve(make)
    if served is not None:
        served.app.close()
