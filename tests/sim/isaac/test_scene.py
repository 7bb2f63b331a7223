"""What Isaac is built from must be what MuJoCo simulates."""

# mujoco loads its names from a compiled module.
from dataclasses import replace
from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest

from alula.errors import AlulaError
from alula.robots.arm import load_arm
from alula.sim.arm_config import ArmRandomization, ArmSimConfig
from alula.sim.isaac.scene import drives, robot_bodies, scene_of
from alula.sim.mujoco.arm_model import build_arm_model
from alula.tasks import insert, lift, pivot_lift, push, reach

CONFIG = ArmSimConfig()


def model_of(robot: str, task, config: ArmSimConfig = CONFIG) -> mujoco.MjModel:
    return build_arm_model(load_arm(robot), task, config)


@pytest.mark.parametrize(("robot", "task"), [("panda", lift), ("ur5e", reach)])
def test_the_urdf_has_the_frames_and_inertias_of_the_model(robot: str, task) -> None:
    ours = model_of(robot, task)
    scene = scene_of(ours, load_arm(robot), 2, "cpu")
    spec = mujoco.MjSpec.from_string(scene["urdf"])
    spec.compiler.fusestatic = False
    theirs = spec.compile()
    a, b, rng = mujoco.MjData(ours), mujoco.MjData(theirs), np.random.default_rng(0)
    for _ in range(3):
        for joint in scene["joints"]:
            q = rng.uniform(-1.0, 1.0)
            a.joint(joint["name"]).qpos, b.joint(joint["name"]).qpos = q, q
        mujoco.mj_forward(ours, a)
        mujoco.mj_forward(theirs, b)
        for body in robot_bodies(ours):
            name = ours.body(body).name
            x, y = a.body(name), b.body(name)
            np.testing.assert_allclose(x.xpos, y.xpos, atol=1e-9)
            np.testing.assert_allclose(x.xmat, y.xmat, atol=1e-9)
            if body == robot_bodies(ours)[0]:
                continue  # fixed to the world
            np.testing.assert_allclose(x.xipos, y.xipos, atol=1e-9)
            np.testing.assert_allclose(ours.body(name).mass, theirs.body(name).mass)
            inertias = [
                d.ximat.reshape(3, 3) @ np.diag(m.body(name).inertia) @ d.ximat.reshape(3, 3).T
                for d, m in ((x, ours), (y, theirs))
            ]
            np.testing.assert_allclose(*inertias, atol=1e-9)


def test_only_what_collides_has_shapes() -> None:
    scene = scene_of(model_of("panda", lift), load_arm("panda"), 1, "cpu")
    root = ElementTree.fromstring(scene["urdf"])
    shapes = {x.get("name"): len(x.findall("collision")) for x in root.findall("link")}
    assert {k: v for k, v in shapes.items() if v} == {
        "panda_link6": 1, "panda_link7": 1, "panda_hand": 1, "panda_leftfinger": 2, "panda_rightfinger": 2,
    }  # fmt: skip
    pad = root.findall("link[@name='panda_leftfinger']/collision/geometry/box")[1]
    # 18 x 15 x 18 mm
    assert [float(x) for x in (pad.get("size") or "").split()] == pytest.approx(
        [0.018, 0.015, 0.018]
    )


def test_what_the_scene_says_of_panda_and_cube() -> None:
    scene = scene_of(model_of("panda", lift), load_arm("panda"), 3, "cuda:0")
    assert scene["n_envs"] == 3
    # 0.02 s in 4 steps
    assert scene["dt"] == 0.005
    assert scene["compensated"]
    assert scene["floor"]
    assert scene["friction"] == 1.0
    assert scene["touched"] == ["panda_leftfinger", "panda_rightfinger"]
    assert scene["boxes"] == [{"name": "object", "size": [0.04, 0.04, 0.04], "mass": pytest.approx(0.1)}]  # fmt: skip


def test_one_gripper_drive_is_shared_by_its_two_fingers() -> None:
    found = {d.joint: d for d in drives(model_of("panda", lift), load_arm("panda"))}
    first, second = found["panda_finger_joint1"], found["panda_finger_joint2"]
    # The servo has 2000 N/m for both, each finger its own damping of 200 N s/m; 100 N together.
    for d in (first, second):
        assert (d.stiffness, d.damping, d.armature) == (1000.0, 200.0, 1.0)
        assert (d.scale, d.offset) == (1.0, 0.0)
        assert d.effort_max == load_arm("panda").effort_max[-1] / 2.0
    assert first.ctrl == second.ctrl
    shoulder = found["panda_joint1"]
    assert (shoulder.stiffness, shoulder.damping, shoulder.effort_max) == (3000.0, 150.0, 87.0)


def test_torques_are_torques() -> None:
    model = model_of("ur5e", reach, ArmSimConfig(action="joint_torque"))
    for d in drives(model, load_arm("ur5e")):
        assert not d.servo
        assert (d.stiffness, d.damping, d.scale, d.offset) == (0.0, 0.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("robot", "task", "config", "says"),
    [
        ("panda", push, CONFIG, r"friction of the shapes is \[0.4, 1.0\]"),
        ("panda", insert, CONFIG, "object 'hole'"),
        ("panda", pivot_lift, CONFIG, "fixed to the world"),
        ("ur5e", reach, replace(CONFIG, randomization=ArmRandomization(actuator_lag=(0.0, 0.02))), "lag or delay"),
        ("panda", lift, replace(CONFIG, action="joint_torque"), "held together"),
    ],
)  # fmt: skip
def test_what_isaac_cannot_have_is_refused(
    robot: str, task, config: ArmSimConfig, says: str
) -> None:
    model = model_of(robot, task, config)
    with pytest.raises(AlulaError, match=says):
        scene_of(model, load_arm(robot), 1, "cpu")
