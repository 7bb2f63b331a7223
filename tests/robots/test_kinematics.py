"""Forward kinematics of an arm's tool: numbers worked out by hand, MuJoCo, and what is refused."""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

import math

import mujoco
import numpy as np
import pytest

from alula.errors import AlulaError
from alula.robots.arm import Arm, load_arm
from alula.robots.kinematics import Kinematics

HALF = math.sqrt(0.5)
# Two bars of 2 m and 1 m; the first turns about z, the second about its own y, as its class says.
TWO_BARS = """<mujoco>
  <compiler angle="radian"/>
  <default><default class="pitch"><joint axis="0 1 0"/></default></default>
  <worldbody><body pos="0 0 0.5">
    <joint name="yaw"/><geom size="0.1"/>
    <body pos="2 0 0" childclass="pitch"><joint name="pitch"/><geom size="0.1"/><site name="flange" pos="1 0 0"/></body>
  </body></worldbody>
</mujoco>"""
# Everything at once that is understood: degrees, every orientation, axes and anchors, references, classes in classes,
# fixed bodies, two joints in a body.
CROOKED = """<mujoco>
  <compiler angle="degree" eulerseq="zYx"/>
  <default>
    <site pos="0.3 0 0.1" axisangle="1 1 0 20"/>
    <default class="slides"><joint type="slide" axis="1 2 -1"/>
      <default class="tilted"><joint pos="0.1 0 0.2" ref="0.05"/></default>
    </default>
  </default>
  <worldbody>
    <body pos="0.1 0.2 0.3" quat="2 1 0 -1" gravcomp="1">
      <joint name="a" axis="0 0 -3" ref="30" pos="0.2 0.1 0"/><geom size="0.1"/>
      <body pos="0.4 0 0" euler="10 20 -30" childclass="slides">
        <geom size="0.1"/><joint name="b" class="tilted"/><joint name="f" type="hinge" axis="1 0 0" ref="7"/>
        <body xyaxes="1 0.2 0 0.3 2 1">
          <geom size="0.1"/><joint name="c"/><joint name="d" type="hinge" axis="0 1 1" pos="0 0.3 0"/>
          <body axisangle="0 3 4 100" pos="0 0 0.2" childclass="main">
            <body pos="0 0.1 0"><geom size="0.1"/><joint name="e" axis="0 1 0"/>
              <site name="tilted" euler="1 2 3"/><site name="grip"/><site name="flange" pos="1 0 0"/>
            </body>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
</mujoco>"""


def arm_of(model, *joints) -> Arm:
    """An arm with this model."""
    n = len(joints)
    low, high, one = (-3.0,) * n, (3.0,) * n, (1.0,) * n
    return Arm(
        name="own", joint_names=joints, position_low=low, position_high=high,
        velocity_max=one, effort_max=one, model=model,
    )  # fmt: skip


def assert_as_mujoco(arm, site, times=50):
    """Poses at random positions are MuJoCo's to 1e-9."""
    kinematics = Kinematics(arm, site)
    model = mujoco.MjModel.from_xml_string(arm.model)
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    at = [model.joint(name).qposadr[0] for name in arm.joint_names]
    for _ in range(times):
        data.qpos[at] = q = rng.uniform(arm.position_low, arm.position_high)
        mujoco.mj_kinematics(model, data)
        position, rot = kinematics.forward(q.tolist())
        np.testing.assert_allclose(position, data.site(site).xpos, atol=1e-9, rtol=0)
        np.testing.assert_allclose(rot, data.site(site).xmat, atol=1e-9, rtol=0)


def test_two_bars_by_hand():
    forward = Kinematics(arm_of(TWO_BARS, "pitch", "yaw")).forward
    position, rot = forward([0.0, 0.0])
    assert position == pytest.approx([3.0, 0.0, 0.5])
    assert rot == pytest.approx([1, 0, 0, 0, 1, 0, 0, 0, 1])
    # A quarter turn to the left, then the second bar down by 45 degrees
    position, rot = forward([math.pi / 4, math.pi / 2])
    assert position == pytest.approx([0.0, 2.0 + HALF, 0.5 - HALF])
    # x of the site: left and down; y: backwards; z: left and up
    assert rot == pytest.approx([0, -1, 0, HALF, 0, HALF, -HALF, 0, HALF])


def test_the_panda_by_hand():
    kinematics = Kinematics(load_arm("panda"), "flange")
    # Upright: 0.333 + 0.316 + 0.384 up, then 0.088 forward and the flange 0.107 down
    position, rot = kinematics.forward([0.0] * 8)
    assert position == pytest.approx([0.088, 0.0, 0.333 + 0.316 + 0.384 - 0.107])
    assert rot == pytest.approx([1, 0, 0, 0, -1, 0, 0, 0, -1])
    # Joint 1 to the left, joint 2 forward by a quarter turn: what was up is left, what was forward is down. Joint 7 turns
    # the flange about its own z, which points back to the base; the finger moves nothing.
    turn = math.pi / 2
    position, rot = kinematics.forward([turn, turn, 0.0, 0.0, 0.0, 0.0, turn, 0.04])
    assert position == pytest.approx([0.0, 0.316 + 0.384 - 0.107, 0.333 - 0.088])
    # Rz(90) Ry(90) diag(1, -1, -1) Rz(90)
    assert rot == pytest.approx([1, 0, 0, 0, 0, -1, 0, 1, 0])


def test_the_ur5e_by_hand():
    kinematics = Kinematics(load_arm("ur5e"))
    # Stretched backwards along -x: a2 + a3, d4 + d6 to the right, d1 - d5 up
    position, rot = kinematics.forward([0.0] * 6)
    assert position == pytest.approx([-0.425 - 0.3922, -0.1333 - 0.0996, 0.1625 - 0.0997])
    assert rot == pytest.approx([1, 0, 0, 0, 0, -1, 0, 1, 0])
    # The shoulder turned by a quarter: (x, y) becomes (-y, x)
    position, _ = kinematics.forward([math.pi / 2, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert position == pytest.approx([0.2329, -0.8172, 0.0628])


@pytest.mark.parametrize(("name", "site"), [("panda", "grip"), ("ur5e", "flange")])
def test_shipped_arms_are_as_in_mujoco(name, site):
    assert Kinematics(load_arm(name)).site == site
    assert_as_mujoco(load_arm(name), site, times=200)


@pytest.mark.parametrize("site", ["grip", "flange", "tilted"])
def test_everything_that_is_understood_is_as_in_mujoco(site):
    assert_as_mujoco(arm_of(CROOKED, *"dbfaec"), site)
    assert_as_mujoco(arm_of(CROOKED.replace('ref="30"', ""), *"abcdef"), site)


@pytest.mark.parametrize("order", ["xyz", "XYZ", "zxz", "ZyX"])
def test_euler_angles_in_every_sequence(order):
    model = CROOKED.replace("zYx", order)
    assert_as_mujoco(arm_of(model, *"abcdef"), "tilted", times=3)


def test_a_site_without_joints_and_axes_upside_down():
    fixed = '<mujoco><worldbody><site name="grip" pos="1 2 3"/><body><geom size="1"/><joint name="x"/></body></worldbody></mujoco>'
    assert Kinematics(arm_of(fixed, "x")).forward([1.0])[0] == [1.0, 2.0, 3.0]
    for axis in ("0 0 -1", "-1 0 0", "0 -1 0", "1e-5 0 -1"):
        assert_as_mujoco(arm_of(TWO_BARS.replace("0 1 0", axis), "yaw", "pitch"), "flange", times=3)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('pos="2 0 0"', 'pos="2 0 0" mocap="true"', "<body> 'without a name' has 'mocap'; allowed: "),
        ('pos="2 0 0"', 'pos="2 0"', "has the pos '2 0'; allowed: 3 finite numbers"),
        ('pos="2 0 0"', 'pos="2 0 nan"', "has the pos '2 0 nan'; allowed: 3 finite numbers"),
        ('pos="2 0 0"', 'zaxis="0 1 0"', "has 'zaxis'; allowed: "),
        ('pos="2 0 0"', 'quat="0 0 0 0"', "has the quat .* allowed: no zero length"),
        ('pos="2 0 0"', 'quat="1 0 0 0" euler="0 0 0"', "has quat and euler; allowed: one of"),
        ('name="pitch"/>', 'name="pitch" type="ball"/>', "<joint> 'pitch' is a ball; allowed: hinge, slide"),
        ('name="pitch"/>', 'name="pitch" class="roll"/>', "of class 'roll'; known: main, pitch"),
        ('axis="0 1 0"', 'axis="0 0 0"', "<joint> 'pitch' has the axis .*; allowed: no zero length"),
        ('<joint name="yaw"/>', '<freejoint name="f"/><joint name="yaw"/>', "<freejoint> 'f' moves freely"),
        ('pos="1 0 0"/>', 'fromto="0 0 0 1 0 0"/>', "<site> 'flange' has a fromto"),
        ('<site name="flange" pos="1 0 0"/>', '<frame><site name="flange"/></frame>', "<frame> .* around <site> 'flange'"),
        ('angle="radian"', 'coordinate="global"', "coordinates are 'global'; allowed: 'local'"),
        ('angle="radian"', 'eulerseq="xyw"', "eulerseq is 'xyw'; allowed: three of"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_by_name(old, new, text):
    model = TWO_BARS.replace('pos="0 0 0.5"', 'euler="0 0 0"') if "eulerseq" in new else TWO_BARS
    model = model.replace(old, new)
    assert model != TWO_BARS
    with pytest.raises(AlulaError, match="robot 'own': model: .*" + text):
        Kinematics(arm_of(model, "yaw", "pitch"))


@pytest.mark.parametrize("joints", ["pitch", "yaw"])
def test_a_joint_on_the_way_that_the_robot_does_not_list_is_refused(joints):
    other = {"pitch": "yaw", "yaw": "pitch"}[joints]
    text = f"joint '{other}' of robot 'own' moves the site 'flange' and is not in joint_names; allowed: only {joints} "
    with pytest.raises(AlulaError, match=text):
        Kinematics(arm_of(TWO_BARS, joints))


def test_a_site_that_is_not_there_and_an_arm_without_a_model():
    arm = arm_of(TWO_BARS, "yaw", "pitch")
    with pytest.raises(AlulaError, match="robot 'own': model: no site 'grip'; known: flange"):
        Kinematics(arm, "grip")
    with pytest.raises(AlulaError, match=r"robot 'own': model .* allowed: grip or flange"):
        Kinematics(arm_of(TWO_BARS.replace("flange", "hand"), "yaw", "pitch"))
    with pytest.raises(AlulaError, match="robot 'own' has no model"):
        Kinematics(arm_of("", "yaw"))
