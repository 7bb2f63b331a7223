"""The smallest arm, of round numbers, and a task that only looks at it: for numbers worked out by hand.

A link of 2 kg whose centre is 0.5 m from its hinge, 0.1 kg m^2 about that centre: 0.6 kg m^2 about the hinge. The
motor has 3 N m. A cube of 1 kg with edges of 0.1 m may lie beside it.
"""

import numpy as np

from alula.policies.contract import ObservationEntry
from alula.robots.arm import Arm
from alula.sim.arm_scene import Start

NAME = "look"
INERTIA = 0.6
"""About the hinge, without armature [kg m^2]."""
EFFORT = 3.0
"""Largest torque [N m]."""
VELOCITY = 2.0
"""Largest speed, which scales joint_position_delta [rad/s]."""


def make_arm(
    *, joint: str = "", gravity: str = "0 0 -9.81", axis: str = "0 0 1", servo: str = 'kp="10"', link: str = ""
) -> Arm:  # fmt: skip
    """One hinge; attributes of joint, servo and body may be added."""
    model = f"""
<mujoco>
  <option gravity="{gravity}" integrator="implicitfast" cone="elliptic" impratio="100"/>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 0.1" friction="0.5 0 0" pos="0 0 -1"/>
    <body name="link" {link}>
      <inertial pos="0.5 0 0" mass="2" diaginertia="0.1 0.1 0.1"/>
      <joint name="hinge" axis="{axis}" {joint}/>
      <site name="flange" pos="1 0 0"/>
    </body>
  </worldbody>
  <actuator><position joint="hinge" {servo}/></actuator>
</mujoco>"""
    return Arm(
        name="one-joint", joint_names=("hinge",), position_low=(-100.0,), position_high=(100.0,),
        velocity_max=(VELOCITY,), effort_max=(EFFORT,), home=(0.0,), model=model,
    )  # fmt: skip


def objects(robot: Arm) -> str:
    return """
<mujoco>
  <worldbody>
    <body name="object">
      <freejoint/>
      <geom name="object" type="box" size="0.05 0.05 0.05" mass="1" friction="0.5 0 0"/>
    </body>
  </worldbody>
  <sensor><framepos name="object_position_w" objtype="xbody" objname="object"/></sensor>
</mujoco>"""


def entries(robot: Arm) -> tuple[ObservationEntry, ...]:
    return (
        ObservationEntry(name="joint_position", unit="rad", frame="-", size=1, noise=0.02),
        ObservationEntry(name="joint_velocity", unit="rad/s", frame="-", size=1, noise=0.0),
        ObservationEntry(name="object_position_w", unit="m", frame="w", size=3, noise=0.5),
    )


def start(rng: np.random.Generator, n: int, robot: Arm, tool_pose: object) -> Start:
    """All at rest; the cube on the floor, 3 m from the hinge."""
    return Start(
        joint_position=np.zeros((n, 1)),
        pose_w={"object": np.tile([0.0, 3.0, -0.95, 1.0, 0.0, 0.0, 0.0], (n, 1))},
    )


def observe(scene) -> list[np.ndarray]:
    return [scene.joint_position, scene.joint_velocity, scene.sensor["object_position_w"]]


def privileged(scene) -> np.ndarray:
    return scene.joint_position[:, :0]


def reward(scene, action: np.ndarray, previous: np.ndarray) -> np.ndarray:
    return 1.0 + action[:, 0] - previous[:, 0]


def failed(scene) -> np.ndarray:
    return scene.joint_position[:, 0] > np.inf
