"""Joint positions for poses of the tool: back by forward kinematics, by hand on a bar, and refused out of reach."""

import numpy as np
import pytest

from alula.errors import AlulaError
from alula.robots.arm import Arm, load_arm
from alula.robots.inverse_kinematics import joint_positions, tool_jacobian
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
