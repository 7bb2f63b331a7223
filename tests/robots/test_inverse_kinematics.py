"""Joint positions for poses of the tool, and joint steps for steps of it: back by forward kinematics, by hand on bars, and
refused out of reach.
"""

from dataclasses import replace

import numpy as np
import pytest

from alula.errors import AlulaError
from alula.robots.arm import Arm, load_arm
from alula.robots.inverse_kinematics import (
    TOOL_DAMPING,
    TOOL_STEP_MAX,
    TOOL_STEPS,
    ToolSteps,
    joint_positions,
    tool_jacobian,
)
from alula.robots.kinematics import Kinematics

# A bar of 2 m that turns about z at a height of 0.5 m
BAR = Arm(
    name="bar",
    joint_names=("yaw",),
    position_low=(-3.0,),
    position_high=(3.0,),
    velocity_max=(1.0,),
    effort_max=(1.0,),
    model="""<mujoco><worldbody><body pos="0 0 0.5">
      <joint name="yaw"/><geom size="0.1"/><site name="flange" pos="2 0 0"/>
    </body></worldbody></mujoco>""",
)


def test_the_jacobian_of_a_bar():
    # A quarter turn: the end moves along -x, and turns about z.
    found = tool_jacobian(Kinematics(BAR), [np.pi / 2])
    np.testing.assert_allclose(found, [[-2.0], [0.0], [0.0], [0.0], [0.0], [1.0]], atol=1e-9)


@pytest.mark.parametrize("name", ["panda", "ur5e"])
def test_poses_are_found_again(name: str):
    robot, rng = load_arm(name), np.random.default_rng(0)
    kinematics, home = Kinematics(robot), np.array(robot.home)
    for _ in range(5):
        q = np.clip(
            home + rng.uniform(-0.5, 0.5, len(home)), robot.position_low, robot.position_high
        )
        position, rot = kinematics.forward(q.tolist())
        found = joint_positions(robot, position, rot, home)
        again, turned = kinematics.forward(found.tolist())
        np.testing.assert_allclose(again, position, atol=1e-6)
        np.testing.assert_allclose(turned, rot, atol=1e-6)
        assert (found >= robot.position_low).all()
        assert (found <= robot.position_high).all()


def test_what_is_out_of_reach_is_refused():
    robot = load_arm("panda")
    with pytest.raises(AlulaError, match=r"no closer than 2\.\d\d\d m to \(3.0, 0.0, 0.5\)"):
        joint_positions(robot, (3.0, 0.0, 0.5), (0, 1, 0, 1, 0, 0, 0, 0, -1), robot.home)


# Two bars of 1 m in the plane, the second turned to the left by q2; a gripper beside them that moves no tool.
TWO_BARS = Arm(
    name="two-bars",
    joint_names=("finger", "first", "second"),
    position_low=(0.0, -3.0, -3.0),
    position_high=(0.1, 3.0, 3.0),
    velocity_max=(0.05, 2.0, 1.0),
    effort_max=(1.0, 1.0, 1.0),
    model="""<mujoco><compiler angle="radian"/><worldbody><body>
      <joint name="first"/><geom size="0.1"/>
      <body pos="1 0 0"><joint name="second"/><geom size="0.1"/><site name="flange" pos="1 0 0"/>
        <body pos="1 0 0"><joint name="finger" type="slide" axis="0 1 0"/><geom size="0.1"/></body>
      </body>
    </body></worldbody></mujoco>""",
)
CORNER = np.array([0.02, 0.0, np.pi / 2])
"""The first bar along x, the second along y: the tool is at (1, 1)."""


def test_the_jacobian_of_two_bars_and_a_slide():
    # About the base (-y, x) = (-1, 1), about the elbow (-1, 0); both turn about z; the finger moves nothing.
    wanted = np.array([[0, -1, -1], [0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 1]])
    kinematics = Kinematics(TWO_BARS)
    assert kinematics.chain == (1, 2)
    np.testing.assert_allclose(tool_jacobian(kinematics, CORNER), wanted, atol=1e-12)
    # A rail along y in place of the first hinge moves the tool along y and turns nothing.
    rail = TWO_BARS.model.replace('name="first"', 'name="first" type="slide" axis="0 1 0"')
    found = tool_jacobian(Kinematics(replace(TWO_BARS, model=rail)), CORNER)
    np.testing.assert_allclose(found[:, 1], [0, 1, 0, 0, 0, 0], atol=1e-12)


@pytest.mark.parametrize("name", ["panda", "ur5e"])
def test_jacobians_of_many_arms_are_those_of_each_and_differences_of_poses(name: str):
    robot, rng = load_arm(name), np.random.default_rng(1)
    kinematics = Kinematics(robot)
    q = rng.uniform(robot.position_low, robot.position_high, (20, len(robot.home)))
    many = tool_jacobian(kinematics, q)
    h = 1e-6
    for k, found in enumerate(many):
        # numpy's sine and the C library's may differ in the last bit.
        np.testing.assert_allclose(tool_jacobian(kinematics, q[k]), found, atol=1e-13)
        for j, step in enumerate(h * np.eye(q.shape[1])):
            (low, low_rot), (high, high_rot) = (kinematics.forward(p) for p in (q[k] - step, q[k] + step))  # fmt: skip
            turn = np.reshape(high_rot, (3, 3)) @ np.reshape(low_rot, (3, 3)).T
            w = 0.5 * np.array(
                [turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]
            )
            differences = np.concatenate([np.subtract(high, low), w]) / (2.0 * h)
            np.testing.assert_allclose(found[:, j], differences, atol=1e-8)


def test_a_step_of_the_tool_by_hand():
    steps = ToolSteps(TWO_BARS, 1.0)
    assert steps.names == (*TOOL_STEPS, "finger")
    assert steps.others == (0,)
    # What the joints' steps 0.01 and -0.02 make of the tool: J (0.01, -0.02) = (0.01, 0.01) along x and y, -0.01 about z.
    # With J^T J = [[3, 2], [2, 2]] and the damping 0.01 the answer is
    # [[3.0001, 2], [2, 2.0001]]^-1 (-0.01, -0.02) = (0.019999, -0.040002) / 2.00050001.
    step = np.array([0.01, 0.01, 0.0, 0.0, 0.0, -0.01, 0.003])
    found = steps.joint_steps(CORNER, step)
    wanted = [0.003, 0.019999 / 2.00050001, -0.040002 / 2.00050001]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)
    # The same for many at once, each with its own targets
    many = steps.joint_steps(np.array([CORNER, np.zeros(3)]), np.array([step, step]))
    np.testing.assert_allclose(many[0], found, rtol=0, atol=1e-12)
    assert np.abs(many[1] - found).max() > 0.001


def test_no_joint_is_faster_than_it_can_and_the_tool_keeps_its_direction():
    # A tenth of a second: 0.2 rad and 0.1 rad at most; asked for are about 0.1 and -0.2.
    steps = ToolSteps(TWO_BARS, 0.1)
    step = np.array([0.1, 0.1, 0.0, 0.0, 0.0, -0.1, 0.5])
    found = steps.joint_steps(CORNER, step)
    free = ToolSteps(TWO_BARS, 1.0).joint_steps(CORNER, step)
    assert found[2] == pytest.approx(-0.1, abs=1e-12)
    assert found[1] == pytest.approx(0.5 * free[1] * 0.2 / -free[2], rel=1e-9)
    assert found[0] == 0.5


def test_steps_near_and_in_singular_positions_are_bounded():
    # Stretched along x no joint moves the tool along x: nothing happens.
    stretched = np.array([0.0, 0.0, 0.0])
    steps = ToolSteps(TWO_BARS, 0.1)
    still = steps.joint_steps(stretched, np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    np.testing.assert_allclose(still, 0.0, atol=1e-15)
    ur5e, rng = load_arm("ur5e"), np.random.default_rng(0)
    steps, reach = ToolSteps(ur5e, 0.02), 0.02 * np.array(ur5e.velocity_max)
    # Elbow and second wrist straight, and within a milliradian of it
    q = rng.uniform(-3.0, 3.0, (300, 6))
    q[:, [2, 4]] = np.linspace(-1e-3, 1e-3, 300)[:, None]
    step = rng.uniform(-1.0, 1.0, (300, 6)) * np.repeat(TOOL_STEP_MAX, 3)
    found = steps.joint_steps(q, step)
    assert (np.abs(found) <= reach * (1.0 + 1e-12)).all()
    # A small step: at most d / (2 damping), whatever the position is
    found = ToolSteps(ur5e, 1.0).joint_steps(q, 1e-3 * step)
    longest = np.linalg.norm(found, axis=1) / np.linalg.norm(1e-3 * step, axis=1)
    assert longest.max() <= 0.5 / TOOL_DAMPING
    assert longest.max() > 0.1 / TOOL_DAMPING


def test_tool_steps_need_a_tool():
    with pytest.raises(AlulaError, match="robot 'bar' has no model"):
        ToolSteps(replace(BAR, model=""), 0.02)
