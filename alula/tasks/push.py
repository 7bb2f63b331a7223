"""Push a box over the floor to a target with the gripper closed; the box is too wide to be grasped.

The measure of success is that of FetchPush (M. Plappert et al., "Multi-Goal Reinforcement Learning: Challenging Robotics
Environments and Request for Research", arXiv 1802.09464): the object within 5 cm of its target. Box, spreads and rates
are chosen.
"""

from functools import lru_cache

import numpy as np

from alula.arrays import namespace
from alula.frames import rot_from_quat
from alula.robots.arm import Arm
from alula.robots.inverse_kinematics import joint_positions
from alula.sim.arm_scene import Scene, Start, ToolPose
from alula.tasks.handled import goal_entries as entries
from alula.tasks.handled import goal_observe as observe
from alula.tasks.handled import pose_sensors, to_goal, to_object, turned

__all__ = [
    "NAME",
    "entries",
    "failed",
    "failures",
    "measures",
    "objects",
    "observe",
    "privileged",
    "reward",
    "start",
    "succeeded",
]

NAME = "push"
HALF_EDGE, HALF_HEIGHT = 0.045, 0.02
"""Of the box [m]: 9 cm, where the fingers open 8 cm."""
MASS = 0.3
"""Of the box [kg]."""
FRICTION = 0.4
"""Between the box and the floor [-]; wood on wood, chosen."""
AREA = ((0.4, -0.2), (0.6, 0.2))
"""Where box and target lie: corners of a rectangle, the robot's base at the origin [m]."""
APART = (0.1, 0.25)
"""Distance of the target from the box at the start [m]."""
ABOVE = (0.5, 0.0, 0.15)
"""Where the tool starts, pointing down, give or take SPREAD in each joint [m]."""
SPREAD = 0.05
"""[rad]."""
REACHED = 0.05
"""A box this close to its target has arrived [m]."""
MOVED = 0.01
"""A box this far from where it started has been moved [m]."""
BEHIND = 0.065
"""The closed hand is to be so far behind the box's middle, seen from the target [m]: about where it touches it."""
HARD = 50.0
"""A push that costs most of what pushes can cost [N]; the box slides under 1.2 N."""
LOST = 0.4
"""A box this far from the middle of AREA is out of reach [m]."""
DOWN = (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
"""Rotation matrix from tool to world, row-major: the hand points down as at home."""


def objects(robot: Arm) -> str:
    """The box and what is measured of it.

    Its friction counts with the floor, by its priority; with the fingers, whose priority is the same, theirs is larger.
    """
    size = f"{HALF_EDGE} {HALF_EDGE} {HALF_HEIGHT}"
    return f"""
<mujoco>
  <worldbody>
    <body name="object" pos="0.5 0 {HALF_HEIGHT}">
      <freejoint/>
      <geom name="object" type="box" size="{size}" mass="{MASS}" priority="1" friction="{FRICTION} 0.005 0.0001"
        condim="4" rgba="0.9 0.4 0.1 1"/>
    </body>
  </worldbody>
  <sensor>{pose_sensors(robot)}
    <frameangvel name="object_angular_velocity_w" objtype="xbody" objname="object"/>
    <contact name="push_force_w" subtree1="panda_hand" body2="object" num="1" reduce="netforce" data="force"/>
  </sensor>
</mujoco>"""


@lru_cache
def _above(robot: Arm) -> tuple[float, ...]:
    """Joint positions with the tool at ABOVE, the gripper closed (J)."""
    q = joint_positions(robot, ABOVE, DOWN, robot.home)
    # The last joint is the gripper.
    return (*q[:-1].tolist(), 0.0)


def start(rng: np.random.Generator, n: int, robot: Arm, tool_pose: ToolPose) -> Start:
    """Hands closed above the floor; the box on the floor, turned at random, its target around it."""
    above, low, high = (
        np.array(x) for x in (_above(robot), robot.position_low, robot.position_high)
    )
    away = SPREAD * rng.uniform(-1.0, 1.0, (n, len(above)))
    away[:, -1] = 0.0
    place, goal, missing = np.zeros((n, 3)), np.zeros((n, 3)), np.arange(n)
    place[:, 2] = goal[:, 2] = HALF_HEIGHT
    while len(missing):
        place[missing, :2], goal[missing, :2] = rng.uniform(*AREA, (2, len(missing), 2))
        apart = np.linalg.norm(goal[missing] - place[missing], axis=1)
        missing = missing[(apart < APART[0]) | (apart > APART[1])]
    yaw = rng.uniform(-np.pi / 4, np.pi / 4, n)
    return Start(
        joint_position=np.clip(above + away, low, high),
        goal={"position_w": goal, "start_w": place},
        pose_w={"object": np.concatenate([place, turned(yaw)], axis=1)},
    )


def privileged(scene: Scene) -> np.ndarray:
    """What the critic sees beside the actor's rows without noise: the box's motion, the push (N, 9).

    Friction and mass are among the randomised parameters, which the simulator adds.
    """
    s = scene.sensor
    xp = namespace(s["push_force_w"])
    force = xp.tanh(0.05 * s["push_force_w"])
    return xp.concat([s["object_velocity_w"], 0.2 * s["object_angular_velocity_w"], force], axis=1)


def reward(scene: Scene, action: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """Closeness of the tool to its place behind the box, of box and target, an upright and gentle hand, smooth actions [N].

    ::

        r = 0.5 c(5 d) + 0.25 c(20 d) - 0.2 z_z + 2 c(5 e) + arrived - 2 tanh(F / HARD) - 0.005 |a - a_before|^2
        c(x) = 1 - tanh(x);  e = |box - target|;  arrived = e < 5 cm;  z_z: height of the tool's axis, -1 straight down;
        F: of the hand on the box
        d = |tool - behind|, 0 where the box has arrived;  behind: BEHIND the box's middle on the line from the target
    """
    xp, s, way = namespace(action), scene.sensor, to_goal(scene)
    e = xp.linalg.vector_norm(way, axis=1)
    ahead = way / xp.maximum(e, 1e-6)[:, None]
    arrived = e < REACHED
    d = xp.linalg.vector_norm(to_object(scene) - BEHIND * ahead, axis=1) * ~arrived
    behind = 0.5 * (1.0 - xp.tanh(5.0 * d)) + 0.25 * (1.0 - xp.tanh(20.0 * d))
    upright = -rot_from_quat(s["tool_quat_w"])[:, 2, 2]
    force = xp.linalg.vector_norm(s["push_force_w"], axis=1)
    price = 2.0 * xp.tanh(force / HARD) + 0.005 * ((action - previous) ** 2).sum(1)
    return behind + 0.2 * upright + 2.0 * (1.0 - xp.tanh(5.0 * e)) + arrived - price


def failed(scene: Scene) -> np.ndarray:
    """The box is out of reach [N]."""
    place = scene.sensor["object_position_w"]
    x, y = (place[:, k] - 0.5 * (AREA[0][k] + AREA[1][k]) for k in range(2))
    return namespace(place).hypot(x, y) > LOST


def measures(scene: Scene) -> dict[str, np.ndarray]:
    """`error`: distance of the box from its target [m]; `moved`: from where it started [m] (N)."""
    moved = scene.sensor["object_position_w"] - scene.goal["start_w"]
    return {"error": np.linalg.norm(to_goal(scene), axis=1), "moved": np.linalg.norm(moved, axis=1)}


def succeeded(scene: Scene) -> np.ndarray:
    """Whether the box is within REACHED of its target [N]."""
    return np.linalg.norm(to_goal(scene), axis=1) <= REACHED


def failures(scene: Scene) -> dict[str, np.ndarray]:
    """What became of the others at the end: never moved, out of reach, or elsewhere (N)."""
    short, lost = ~succeeded(scene), failed(scene)
    still = measures(scene)["moved"] < MOVED
    return {
        "never moved the box": short & still,
        "pushed out of reach": short & lost,
        "moved, not to the target": short & ~still & ~lost,
    }
