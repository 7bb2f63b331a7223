"""A toy arm and its task, whose outcomes can be counted by hand; loaded by several tests."""

from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np

from alula.evaluation.arm_physics import Setting
from alula.policies.contract import ObservationEntry
from alula.robots.arm import Arm
from alula.sim.arm_config import ArmSimConfig
from alula.sim.arm_scene import Start

TOY = Arm(
    name="toy",
    joint_names=("j",),
    position_low=(-3.0,),
    position_high=(3.0,),
    velocity_max=(2.0,),
    effort_max=(50.0,),
    home=(0.0,),
    model="""
<mujoco>
  <option integrator="implicitfast" cone="elliptic"/>
  <worldbody>
    <geom type="plane" size="1 1 0.1"/>
    <body name="link" pos="0 0 0.5">
      <joint name="j" axis="0 0 1" damping="0.5" frictionloss="0.1" armature="0.01"/>
      <inertial pos="0.3 0 0" mass="1" diaginertia="0.01 0.02 0.03"/>
      <geom type="sphere" size="0.05" pos="0.3 0 0"/>
      <site name="flange" pos="0.3 0 0"/>
    </body>
  </worldbody>
  <actuator><position joint="j" kp="100" kv="10"/></actuator>
</mujoco>""",
)
"""A link of 1 kg on a vertical hinge; action 1 turns its target by 0.5 * 2 rad/s * 0.02 s = 0.02 rad a step."""
GOALS = (0.0, 0.1, 0.3)
"""Where environment k is to turn: GOALS[k % 3] [rad]."""
LIMIT = 0.8
"""Beyond this the episode ends early [rad]."""
OBJECTS = """
<mujoco>
  <worldbody>
    <body name="object" pos="0.6 0 0.02">
      <freejoint/>
      <geom name="object" type="box" size="0.02 0.02 0.02" mass="0.1"/>
    </body>
  </worldbody>
  <sensor><framepos name="object_position_w" objtype="xbody" objname="object"/></sensor>
</mujoco>"""


def _start(rng, n, robot, tool_pose):
    pose = np.tile([0.6, 0.0, 0.02, 1.0, 0.0, 0.0, 0.0], (n, 1))
    goal = np.resize(GOALS, n)[:, None]
    position = np.concatenate([0.3 * np.cos(goal), 0.3 * np.sin(goal), 0.0 * goal + 0.5], axis=1)
    return Start(
        joint_position=np.zeros((n, 1)),
        goal={"angle": goal, "position_w": position},
        pose_w={"object": pose},
    )


def _error(scene):
    return np.abs(scene.goal["angle"] - scene.joint_position)[:, 0]


def toy_task(**changes: Any) -> ModuleType:
    """Turn to the goal; every step is worth 1. `changes` replace functions."""
    functions = {
        "NAME": "toy",
        "__name__": "toy",
        "objects": lambda robot: OBJECTS,
        "entries": lambda robot: (
            ObservationEntry(name="joint_position", unit="rad", frame="-", size=1),
            ObservationEntry(name="goal", unit="rad", frame="-", size=1),
        ),
        "start": _start,
        "observe": lambda scene: [scene.joint_position, scene.goal["angle"]],
        "privileged": lambda scene: scene.joint_position,
        "reward": lambda scene, action, previous: np.ones(len(action)),
        "failed": lambda scene: scene.joint_position[:, 0] > LIMIT,
        "measures": lambda scene: {"angle": _error(scene)},
        "succeeded": lambda scene: _error(scene) < 0.02,
        "failures": lambda scene: {
            "close": (_error(scene) >= 0.02) & (_error(scene) < 0.2),
            "not at the goal": _error(scene) >= 0.02,
        },
    }
    return cast(ModuleType, SimpleNamespace(**(functions | changes)))


def toy_setting(**changes: Any) -> Setting:
    """The toy without noise and history."""
    config = ArmSimConfig(history=0, noise=0.0)
    return Setting(robot=TOY, task=toy_task(**changes), config=config)
