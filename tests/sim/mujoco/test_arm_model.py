"""Models of other people: another order, other defaults, tendons, keyframes; and what is refused, in one line."""

import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from alula.errors import AlulaError
from alula.robots.arm import Arm, load_arm
from alula.sim.arm_config import ArmRandomization, ArmSimConfig
from alula.sim.mujoco.arm import MujocoArm
from alula.tasks import insert, lift, push, reach

FOREIGN = """
<mujoco model="foreign">
  <compiler angle="degree" autolimits="true"/>
  <option integrator="implicitfast" timestep="0.002"/>
  <default>
    <geom contype="0" conaffinity="0" rgba="1 0 0 1"/>
    <joint damping="1" armature="0.1"/>
    <default class="finger">
      <joint type="slide" axis="0 1 0" range="0 0.04"/>
    </default>
  </default>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 0.1" contype="1" conaffinity="1"/>
    <body name="upper" pos="0 0 0.5" gravcomp="1">
      <joint name="yaw" axis="0 0 1" range="-170 170"/>
      <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.03" mass="2"/>
      <body name="lower" pos="0.3 0 0" gravcomp="1">
        <joint name="pitch" axis="0 1 0" range="-90 90"/>
        <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.03" mass="1"/>
        <body name="left" pos="0.3 0.01 0" gravcomp="1">
          <joint name="left_finger" class="finger"/>
          <geom type="box" size="0.02 0.005 0.02" mass="0.05" contype="1" conaffinity="1"/>
          <site name="left_pad"/>
        </body>
        <body name="right" pos="0.3 -0.01 0" quat="0 0 0 1" gravcomp="1">
          <joint name="right_finger" class="finger"/>
          <geom type="box" size="0.02 0.005 0.02" mass="0.05" contype="1" conaffinity="1"/>
          <site name="right_pad"/>
        </body>
        <site name="grip" pos="0.3 0 0"/>
      </body>
    </body>
  </worldbody>
  <tendon>
    <fixed name="split">
      <joint joint="left_finger" coef="0.5"/>
      <joint joint="right_finger" coef="0.5"/>
    </fixed>
  </tendon>
  <equality>
    <joint joint1="left_finger" joint2="right_finger" solref="0.01 1"/>
  </equality>
  <actuator>
    <general name="hand" tendon="split" gainprm="0.4" biastype="affine" biasprm="0 -2550 -100"
      ctrlrange="0 255"/>
    <position name="second" joint="pitch" kp="500" kv="50"/>
    <position name="first" joint="yaw" kp="500" kv="50" gear="2"/>
  </actuator>
  <keyframe><key name="home" qpos="0 0 0.04 0.04" ctrl="255 0 0"/></keyframe>
</mujoco>"""
TOML = """
name = "foreign"
kind = "arm"
joint_names = ["yaw", "pitch", "left_finger"]
model = "scene.xml"
[position_low]
value = [-2.0, -1.5, 0.0]
unit = "rad or m"
source = "test"
[position_high]
value = [2.0, 1.5, 0.04]
unit = "rad or m"
source = "test"
[velocity_max]
value = [2.0, 2.0, 0.2]
unit = "rad/s or m/s"
source = "test"
[effort_max]
value = [50.0, 30.0, 20.0]
unit = "N m or N"
source = "test"
[home]
value = [0.1, 0.3, 0.03]
unit = "rad or m"
source = "test"
"""
QUIET = ArmSimConfig(noise=0.0)


@pytest.fixture
def foreign(tmp_path: Path) -> Arm:
    """A robot file by path, its model beside it."""
    (tmp_path / "scene.xml").write_text(FOREIGN)
    (tmp_path / "foreign.toml").write_text(TOML)
    return load_arm(tmp_path / "foreign.toml")


def changed(arm: Arm, old: str, new: str) -> Arm:
    assert old in arm.model
    return replace(arm, model=arm.model.replace(old, new))


def test_it_holds_home_and_moves_the_joint_that_is_named(foreign: Arm) -> None:
    simulator = MujocoArm(foreign, lift, QUIET, 4)
    simulator.reset(0)
    home = np.tile(foreign.home, (4, 1))
    simulator._place(np.arange(4), home, {})
    # controls in the model's order: hand, pitch, yaw. 0.4 u = 2550 * 0.03; two joints' shares of 0.5 make one.
    np.testing.assert_allclose(simulator._physics.ctrl[0], [191.25, 0.3, 0.2], rtol=1e-12)
    for _ in range(50):
        simulator.step(np.zeros((4, 3), np.float32))
    np.testing.assert_allclose(simulator.scene.joint_position, home, atol=1e-4)
    # actions: one joint an environment, at 0.5 of its speed for 0.2 s
    for _ in range(10):
        simulator.step(np.eye(4, 3, dtype=np.float32) * [1, 1, -1])
    for _ in range(50):
        simulator.step(np.zeros((4, 3), np.float32))
    moved = simulator.scene.joint_position - home
    expected = np.zeros((4, 3))
    expected[0, 0], expected[1, 1], expected[2, 2] = 0.2, 0.2, -0.02
    np.testing.assert_allclose(moved, expected, atol=2e-4)


def test_the_finger_without_an_action_follows_at_the_start(foreign: Arm) -> None:
    simulator = MujocoArm(foreign, lift, QUIET, 2)
    simulator.reset(0)
    # qpos: yaw, pitch, left, right
    np.testing.assert_allclose(simulator.qpos[:, 3], simulator.qpos[:, 2], atol=1e-12)
    assert simulator.qpos[0, 2] == pytest.approx(0.03)


def test_objects_keep_mujocos_defaults(foreign: Arm) -> None:
    simulator = MujocoArm(foreign, lift, QUIET, 2)
    cube = simulator.model.geom("object")
    assert (cube.contype[0], cube.conaffinity[0]) == (1, 1)
    assert not simulator.model.dof_damping[-6:].any()
    simulator.reset(0)
    for _ in range(50):
        simulator.step(np.zeros((2, 3), np.float32))
    # it lies on the floor and does not fall through
    np.testing.assert_allclose(
        simulator.scene.sensor["object_position_w"][:, 2], lift.HALF_EDGE, atol=1e-3
    )


def test_torques_reach_the_joint_that_is_named(foreign: Arm) -> None:
    config = ArmSimConfig(
        noise=0.0, action="joint_torque", action_scale=1.0, control_dt=0.001, substeps=1
    )
    simulator = MujocoArm(foreign, reach, config, 2)
    simulator.reset(0)
    simulator.step(np.array([[1, 0, 0], [0, -1, 0]], np.float32))
    force = simulator._physics._batch.get_data(0), simulator._physics._batch.get_data(1)  # type: ignore[attr-defined]
    assert simulator._physics.ctrl.tolist() == [[0, 0, 50], [0, -30, 0]]
    assert force[0].qvel[0] > 0.01
    assert force[1].qvel[1] < -0.01


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('axis="0 0 1" range="-170 170"', 'axis="0 0"', "the model of 'foreign' does not compile: "),
        ('type="capsule" fromto="0 0 0 0.3 0 0" size="0.03" mass="2"', 'mass="0"',
         "the model of 'foreign' does not compile: "),
        ('<site name="left_pad"/>', "",
         "the model of 'foreign' lacks the site 'left_pad': the task's sensors left_force refer to it"),
        ('<site name="grip" pos="0.3 0 0"/>', "",
         "robot 'foreign': model is one without these sites; allowed: grip or flange"),
        ('<position name="second" joint="pitch" kp="500" kv="50"/>', "",
         "joint 'pitch' of 'foreign' has 0 actuators in its model; allowed: 1"),
        ('<position name="second"', '<motor name="twice" joint="yaw"/><position name="second"',
         "joint 'yaw' of 'foreign' has 2 actuators in its model; allowed: 1"),
        ('<position name="second"', '<motor name="extra" body="upper"/><position name="second"',
         "the model of 'foreign' does not compile: "),
        ('<position name="second" joint="pitch" kp="500" kv="50"/>', '<motor joint="pitch"/>',
         "the actuator of joint 'pitch' of 'foreign' is no position servo; allowed: "),
        ('<position name="second" joint="pitch" kp="500" kv="50"/>', '<velocity joint="pitch" kv="5"/>',
         "the actuator of joint 'pitch' of 'foreign' is no position servo; allowed: "),
    ],
)  # fmt: skip
def test_a_model_that_does_not_fit_is_refused_in_one_line(
    foreign: Arm, old: str, new: str, text: str
) -> None:
    with pytest.raises(AlulaError) as error:
        MujocoArm(changed(foreign, old, new), lift, QUIET, 2)
    assert str(error.value).startswith(text)
    assert "\n" not in str(error.value)


COVER = '<body><inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/></body>'


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('mass="1" diag', 'mass="nan" diag', "not finite are numbers of .*body_mass"),
        ('<joint damping="1"', '<joint damping="nan"', "not finite are numbers of .*dof_damping"),
        ('integrator="implicitfast"', 'gravity="0 0 nan"', "not finite are numbers of .*gravity"),
    ],
)  # fmt: skip
def test_numbers_that_no_arm_has_are_refused(foreign: Arm, old: str, new: str, text: str) -> None:
    """MuJoCo compiles them, and the arm diverges."""
    arm = changed(foreign, '<joint name="yaw"', COVER + '<joint name="yaw"')
    with pytest.raises(AlulaError, match=f"the model of 'foreign' does not compile: {text}"):
        MujocoArm(changed(arm, old, new), reach, QUIET, 2)


@pytest.mark.parametrize("lag", [0.0, 0.02])
@pytest.mark.parametrize(
    "actuator",
    ['<intvelocity joint="pitch" kp="500" kv="50" actrange="-3 3"/>',
     '<general joint="pitch" dyntype="integrator" gainprm="500" biastype="affine" biasprm="0 -500 -50"/>'],
)  # fmt: skip
def test_what_integrates_its_control_is_no_position_servo(
    foreign: Arm, actuator: str, lag: float
) -> None:
    arm = changed(foreign, '<position name="second" joint="pitch" kp="500" kv="50"/>', actuator)
    config = replace(QUIET, randomization=ArmRandomization(actuator_lag=(lag, lag)))
    with pytest.raises(AlulaError, match="joint 'pitch' of 'foreign' is no position servo"):
        MujocoArm(arm, reach, config, 2)
    # A motor takes its place.
    MujocoArm(arm, reach, replace(config, action="joint_torque"), 2)


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (push, "the model of 'ur5e' lacks the body 'panda_hand': the task's sensors push_force_w refer to it"),
        (insert, "the model of 'ur5e' lacks the body 'panda_hand', the body 'panda_leftfinger', the body "
         "'panda_rightfinger': the task's excludes refer to it"),
        (lift, "the model of 'ur5e' lacks the site 'left_pad', the site 'right_pad': the task's sensors "
         "left_force, right_force refer to it"),
    ],
)  # fmt: skip
def test_what_a_task_needs_and_an_arm_lacks_is_named(task: ModuleType, text: str) -> None:
    with pytest.raises(AlulaError, match="^" + text):
        MujocoArm(load_arm("ur5e"), task, QUIET, 2)


def test_another_error_is_told_as_it_is(foreign: Arm) -> None:
    """Not as a model that does not compile."""
    arm = changed(foreign, '<position name="second" joint="pitch" kp="500" kv="50"/>', "")
    with pytest.raises(AlulaError, match=r"^joint 'pitch' of 'foreign' has 0 actuators"):
        MujocoArm(arm, reach, replace(QUIET, action="joint_torque"), 2)


def test_an_actuator_of_no_joint_of_the_robot_is_refused(foreign: Arm) -> None:
    fewer = {
        name: getattr(foreign, name)[:2]
        for name in ("joint_names", "position_low", "position_high", "velocity_max", "effort_max", "home")
    }  # fmt: skip
    with pytest.raises(AlulaError, match="actuator 'hand' of 'foreign' moves none of its joints"):
        MujocoArm(replace(foreign, **fewer), lift, QUIET, 2)


def test_two_joints_of_one_actuator_are_refused(foreign: Arm) -> None:
    """The action of one of them would do nothing."""
    both = {
        name: (*getattr(foreign, name), getattr(foreign, name)[2])
        for name in ("position_low", "position_high", "velocity_max", "effort_max", "home")
    }
    arm = replace(foreign, joint_names=(*foreign.joint_names, "right_finger"), **both)
    text = "joints 'left_finger' and 'right_finger' of 'foreign' share the actuator 'hand'; allowed: one"
    for action in ("joint_position_delta", "joint_torque"):
        with pytest.raises(AlulaError, match=text):
            MujocoArm(arm, reach, replace(QUIET, action=action), 2)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('range="-90 90"', 'range="-90 80"',
         "limits of joint 'pitch' of 'foreign' are -1.5 to 1.5; allowed: within -1.5708 to 1.39626, the range of the joint"),
        ('gear="2"', 'gear="2" ctrlrange="-4 3.8"',
         "limits of joint 'yaw' of 'foreign' are -2 to 2; allowed: within -2 to 1.9, the ctrlrange of the servo"),
        ('ctrlrange="0 255"', 'ctrlrange="0 127.5"',
         "limits of joint 'left_finger' of 'foreign' are 0 to 0.04; allowed: within 0 to 0.02, the ctrlrange of the servo"),
    ],
)  # fmt: skip
def test_limits_wider_than_the_models_are_refused(
    foreign: Arm, old: str, new: str, text: str
) -> None:
    with pytest.raises(AlulaError) as error:
        MujocoArm(changed(foreign, old, new), reach, QUIET, 2)
    assert str(error.value) == text + " in its model"


def test_a_joint_of_nobodys_that_moves_the_tool_is_refused(foreign: Arm) -> None:
    """Also one that an equality ties to another: the robot would be computed without it."""
    tied = changed(foreign, '<site name="grip" pos="0.3 0 0"/>', """
        <body name="wrist" pos="0.3 0 0"><joint name="roll"/><geom type="sphere" size="0.01" mass="0.1"/>
          <body name="hand"><geom size="0.01" mass="0.1"/><site name="grip" pos="0 0 0.1"/></body>
        </body>""")  # fmt: skip
    tied = changed(tied, "<equality>", '<equality><joint joint1="roll" joint2="pitch"/>')
    with pytest.raises(
        AlulaError, match="joint 'roll' of robot 'foreign' moves the site 'grip' and is"
    ):
        MujocoArm(tied, reach, QUIET, 2)


@pytest.mark.parametrize("missing", [{"home": ()}, {"model": ""}])
def test_an_arm_without_home_or_model_is_refused(missing: dict) -> None:
    arm = replace(load_arm("ur5e"), **missing)
    with pytest.raises(AlulaError, match="robot 'ur5e' has no model or no home; allowed: both"):
        MujocoArm(arm, reach, QUIET, 2)


def test_a_joint_that_is_neither_hinge_nor_slide_is_refused() -> None:
    arm = load_arm("ur5e")
    model = arm.model.replace(
        '<joint name="wrist_3_joint" class="size1"/>', '<joint name="wrist_3_joint" type="ball" range="0 1"/>'
    ).replace('joint="wrist_3_joint" class="size1"', 'joint="wrist_3_joint" kp="5"')  # fmt: skip
    with pytest.raises(AlulaError, match="wrist_3_joint") as error:
        MujocoArm(replace(arm, model=model), reach, QUIET, 2)
    assert "\n" not in str(error.value)


def test_the_warp_back_end_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco_warp", None)
    for name in ("arm_warp", "warp_physics"):
        monkeypatch.delitem(sys.modules, f"alula.sim.mujoco.{name}", raising=False)
    with pytest.raises(AlulaError, match=r"mujoco-warp is not installed; allowed: .*alula\[warp\]"):
        import_module("alula.sim.mujoco.arm_warp")
