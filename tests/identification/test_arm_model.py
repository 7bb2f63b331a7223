"""Torques of a pendulum that a sheet of paper gives, and the regressor that must add up to them."""

import numpy as np
import pytest

from alula.errors import AlulaError
from alula.identification.arm_model import ArmModel
from alula.robots.arm import Arm, load_arm

PENDULUM = """
<mujoco>
  <compiler angle="radian"/>
  <option gravity="0 0 -10"/>
  <worldbody>
    <body gravcomp="1">
      <inertial pos="0.5 0 0" mass="2" diaginertia="0.2 0.3 0.2"/>
      <joint name="hinge" axis="0 -1 0" armature="7" damping="5" frictionloss="3" stiffness="2"/>
    </body>
  </worldbody>
</mujoco>
"""


def pendulum(model: str = PENDULUM, joint: str = "hinge") -> Arm:
    limits = {"position_low": (-4.0,), "position_high": (4.0,)}
    return Arm(
        name="p",
        joint_names=(joint,),
        velocity_max=(9.0,),
        effort_max=(99.0,),
        model=model,
        **limits,  # type: ignore[arg-type]
    )


def test_torque_of_a_pendulum_without_friction_rotor_or_spring():
    q, qd, qdd = np.array([[0.0], [np.pi / 3]]), np.array([[0.0], [2.0]]), np.array([[0.0], [1.5]])
    torque = ArmModel(pendulum()).torque(q, qd, qdd)
    # the axis -y lifts the mass: 2 kg x 10 m/s^2 x 0.5 m = 10 N m; at 60 degrees half of it,
    # and (0.3 + 2 x 0.25) kg m^2 x 1.5 rad/s^2 = 1.2 N m
    np.testing.assert_allclose(torque[:, 0], [10.0, 6.2], rtol=1e-12)


def test_point_masses_add_up_to_a_link():
    arm = load_arm("panda")
    model, rng = ArmModel(arm), np.random.default_rng(0)
    q, qd, qdd = (rng.uniform(-1.0, 1.0, (6, 7)) for _ in range(3))
    columns = model.link_torques(q, qd, qdd)
    assert columns.shape == (6, 7, 70)
    # the links after a joint move with it, those before do not load it
    assert np.all(columns[:, 3, :30] == 0.0)
    assert np.any(columns[:, 3, 30:40] != 0.0)
    # links 1 to 7 and what is bolted to link 7 (hand, fingers at home) are in the columns' span
    torque = model.torque(q, qd, qdd).reshape(-1)
    flat = columns.reshape(42, 70)
    masses = np.linalg.lstsq(flat, torque, rcond=None)[0]
    np.testing.assert_allclose(flat @ masses, torque, atol=1e-9)


def test_regressor_of_the_pendulum():
    still = np.zeros((1, 1))
    columns = ArmModel(pendulum()).link_torques(still, still, np.ones((1, 1)))
    # unit masses at x = 0, 0.1, -0.1: gravity 10 x and inertia x^2
    np.testing.assert_allclose(columns[0, 0, :3], [0.0, 1.01, -0.99], atol=1e-12)


def test_a_gripper_may_be_missing():
    assert ArmModel(load_arm("panda")).counts == (8, 7)
    assert ArmModel(load_arm("ur5e")).counts == (6,)
    slide = PENDULUM.replace('name="hinge"', 'name="hinge" type="slide"')
    assert ArmModel(pendulum(slide)).counts == (1,)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('mass="2"', 'mass="-2"', "does not compile"),
        ('name="hinge"', 'name="hinge" type="ball"', "hinges, slides"),
    ],
)
def test_models_that_are_refused(old, new, words):
    with pytest.raises(AlulaError, match=words) as caught:
        ArmModel(pendulum(PENDULUM.replace(old, new)))
    assert "\n" not in str(caught.value)
