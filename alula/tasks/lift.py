"""Pick a cube from the floor and carry it to a target above it.

Rates, spreads and the measure of success are those of MuJoCo Playground's PandaPickCube (arXiv 2502.08844): 50 Hz,
150 steps, cube and target drawn from 0.4 m x 0.4 m, the target 0.2 m to 0.4 m above the floor.
"""

from functools import lru_cache

import numpy as np

from alula.arrays import namespace
from alula.frames import rot_from_quat
from alula.robots.arm import Arm
from alula.robots.inverse_kinematics import joint_positions
from alula.robots.kinematics import Kinematics
from alula.sim.arm_scene import Scene, Start, ToolPose
from alula.tasks.handled import FINGER, PAD, pose_sensors, to_goal, to_object, turned
from alula.tasks.handled import goal_entries as entries
from alula.tasks.handled import goal_observe as observe

__all__ = [
    "NAME",
    "entries",
    "failed",
    "failures",
    "head_start",
    "measures",
    "objects",
    "observe",
    "privileged",
    "reward",
    "start",
    "succeeded",
]

NAME = "lift"
HALF_EDGE = 0.02
"""Half the edge of the cube [m]."""
MASS = 0.1
"""Of the cube [kg]."""
START = ((0.35, -0.2), (0.65, 0.2))
"""Where the cube lies on the floor: corners of a rectangle, the robot's base at the origin [m]."""
TARGET = ((0.35, -0.2, 0.2), (0.65, 0.2, 0.4))
"""Where it is to be carried [m]."""
REACHED = 0.05
"""A cube this close to its target has arrived [m]."""
LIFTED = 0.05
"""A cube whose centre is this far above its place on the floor has been lifted [m]."""
OVER = 0.05
"""A tool this close to the cube is at it [m]."""
HOLDING = 0.5
"""Both pads press at least so hard on what is held [N]."""
PRESSED, CRUSHED = 5.0, 40.0
"""Of a good grip: no pad presses less than the one, none more than the other [N]; the Panda's fingers press with 20 N."""
NEAR, AWAY = 0.02, 0.04
"""A tool so close to the cube can grip it; one so far away must open first [m]."""
FLUSH = 0.1
"""Fingers this close to the cube turn to its faces [m]."""
CARRY = 0.4
"""Carrying is worth something from this distance to the target on [m]."""
CLEAR = 0.001
"""Pads that are so high have nothing to do with the floor [m]."""
AROUND = 256
"""Hands around cubes on the floor that are sought once, for head starts to choose from."""
ABOVE, BESIDE = 0.08, 0.008
"""Those hands are up to so high above the cube, mostly less, and so far beside it [m]."""
HELD_SPREAD = 0.15
"""Spread of the joints around home with the cube in the hand; the first, which turns the whole arm, has SWING [rad]."""
SWING = 0.375
"""[rad]."""


def objects(robot: Arm) -> str:
    """The cube and what is measured of it."""
    size = f"{HALF_EDGE} {HALF_EDGE} {HALF_EDGE}"
    return f"""
<mujoco>
  <worldbody>
    <body name="object" pos="0.5 0 {HALF_EDGE}">
      <freejoint/>
      <geom name="object" type="box" size="{size}" mass="{MASS}" rgba="0.9 0.4 0.1 1"/>
    </body>
  </worldbody>
  <sensor>{pose_sensors(robot)}
    <touch name="left_force" site="left_pad"/>
    <touch name="right_force" site="right_pad"/>
  </sensor>
</mujoco>"""


def start(rng: np.random.Generator, n: int, robot: Arm, tool_pose: ToolPose) -> Start:
    """Arms around home, open; the cube on the floor, turned at random."""
    home, low, high = (np.array(x) for x in (robot.home, robot.position_low, robot.position_high))
    away = 0.05 * rng.uniform(-1.0, 1.0, (n, len(home)))
    # The last joint is the gripper.
    away[:, -1] = 0.0
    yaw = rng.uniform(-np.pi / 4, np.pi / 4, n)
    place = np.concatenate([rng.uniform(*START, (n, 2)), np.full((n, 1), HALF_EDGE)], axis=1)
    return Start(
        joint_position=np.clip(home + away, low, high),
        goal={"position_w": rng.uniform(*TARGET, (n, 3))},
        pose_w={"object": np.concatenate([place, turned(yaw)], axis=1)},
    )


@lru_cache
def _around(robot: Arm) -> np.ndarray:
    """Joint positions with the tool where a cube may lie, or above it, turned as at home (AROUND, J)."""
    rng, home_rot = np.random.default_rng(0), Kinematics(robot).forward(list(robot.home))[1]
    places = np.concatenate(
        [rng.uniform(*START, (AROUND, 2)), HALF_EDGE + ABOVE * rng.random((AROUND, 1)) ** 2], axis=1
    )
    return np.array([joint_positions(robot, p, home_rot, robot.home) for p in places.tolist()])


def head_start(rng: np.random.Generator, n: int, robot: Arm, tool_pose: ToolPose) -> Start:
    """Hands with the cube in the air, or open ones around a cube on the floor: to carry, to grasp and to reach are learned
    in that order, each with something to gain by it.
    """
    begun = start(rng, n, robot, tool_pose)
    home, low, high = (np.array(x) for x in (robot.home, robot.position_low, robot.position_high))
    in_air = rng.random(n) < 0.5
    away = HELD_SPREAD * rng.uniform(-1.0, 1.0, (n, len(home)))
    away[:, 0] *= SWING / HELD_SPREAD
    around = _around(robot)[rng.integers(0, AROUND, n)] + 0.01 * rng.uniform(-1.0, 1.0, away.shape)
    joints = np.where(in_air[:, None], home + away, around)
    joints[:, -1] = np.where(in_air, HALF_EDGE, high[-1])
    joints = np.clip(joints, low, high)
    tool = tool_pose(joints)
    rot = rot_from_quat(tool[:, 3:])
    yaw = np.arctan2(rot[:, 1, 0], rot[:, 0, 0]) + 0.1 * rng.uniform(-1.0, 1.0, n)
    place = np.concatenate([tool[:, :2], np.full((n, 1), HALF_EDGE), turned(yaw)], axis=1)
    place[:, :2] += BESIDE * rng.uniform(-1.0, 1.0, (n, 2))
    pose = np.where(in_air[:, None], tool, place)
    return Start(joint_position=joints, goal=begun.goal, pose_w={"object": pose})


def _forces(scene: Scene) -> np.ndarray:
    """Of the two pads [N] (N, 2)."""
    left, right = scene.sensor["left_force"], scene.sensor["right_force"]
    return namespace(left).concat([left, right], axis=1)


def _held(scene: Scene) -> np.ndarray:
    way, forces = to_object(scene), _forces(scene)
    xp = namespace(way)
    return (xp.linalg.vector_norm(way, axis=1) < OVER) & (xp.min(forces, axis=1) > HOLDING)


def privileged(scene: Scene) -> np.ndarray:
    """What the critic sees beside the actor's rows without noise: the cube's motion, the pads' forces."""
    velocity = scene.sensor["object_velocity_w"]
    xp = namespace(velocity)
    forces = xp.tanh(0.05 * _forces(scene))
    return xp.concat([velocity, forces, _held(scene)[:, None]], axis=1)


def _clearance(scene: Scene, up: np.ndarray) -> np.ndarray:
    """Height of the pads' lowest corner above the floor, for a hand whose fingers open along the tool's y [m] (N);
    `up` is the world's z in the tool's axes (N, 3).
    """
    x, y, z = (namespace(up).abs(up[:, k]) for k in range(3))
    # lowest corner of a box: its middle less sum_k |R_zk| half_k
    half = x * PAD + y * (scene.joint_position[:, -1] + FINGER) + z * PAD
    return scene.sensor["tool_position_w"][:, 2] - half


def reward(scene: Scene, action: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """Tool at the cube, upright, flush and off the floor; closing around it; a grip that holds it, and how far it is carried [N].

    ::

        r = 0.5 c(5 d) + 0.25 c(20 d) - 0.4 z_z + 0.5 flush exp(-(d / 0.1)^2)
            + 0.1 away (1 + a_grip) + near (0.25 (1 - a_grip) + grip carried) - 0.5 min(max(1 - clearance / 1 mm, 0), 1) - 0.001 |a - a_before|^2
        c(x) = 1 - tanh(x);  d = |tool - cube|;  near, away = exp(-(d / 0.02)^2), 1 - exp(-(d / 0.04)^2);  z the tool's axis
        flush   = (max_k |y . e_k| - 0.7) / 0.3;  y the axis along which the fingers open, e_k those of the cube
        grip    = min(F_min / 5 N, 1) min(max(2 - F_max / 40 N, 0), 1), of the two pads
        carried = 0.5 + 5 max(1 - |cube - target| / 0.4, 0) + 2 c(20 |cube - target|)

    Each piece keeps learning out of a dead end that it was seen in: fingers that never close, or close before they are
    around the cube; fingers that take it by its edges; arms that wedge it between open fingers, and press too hard; a hand
    that is pressed on the floor and has its servo targets far below, from where no random action lifts it.
    """
    xp = namespace(action)
    d, distance = (xp.linalg.vector_norm(v, axis=1) for v in (to_object(scene), to_goal(scene)))
    rot, cube_rot = (rot_from_quat(scene.sensor[k]) for k in ("tool_quat_w", "object_quat_w"))
    up = rot[:, 2]
    along = xp.abs(xp.sum(cube_rot * rot[:, :, 1:2], axis=1))
    flush = (xp.max(along, axis=1) - 0.7) / 0.3
    at_cube = 0.5 * (1.0 - xp.tanh(5.0 * d)) + 0.25 * (1.0 - xp.tanh(20.0 * d))
    forces = _forces(scene)
    grip = xp.clip(xp.min(forces, axis=1) / PRESSED, 0.0, 1.0)
    grip = grip * xp.clip(2.0 - xp.max(forces, axis=1) / CRUSHED, 0.0, 1.0)
    carried = 0.5 + 5.0 * xp.maximum(1.0 - distance / CARRY, 0.0)
    carried += 2.0 * (1.0 - xp.tanh(20.0 * distance))
    near, away = xp.exp(-((d / NEAR) ** 2)), 1.0 - xp.exp(-((d / AWAY) ** 2))
    opening = action[:, -1]
    floor = xp.clip(1.0 - _clearance(scene, up) / CLEAR, 0.0, 1.0)
    change = ((action - previous) ** 2).sum(1)
    hand = 0.1 * away * (1.0 + opening) + near * (0.25 * (1.0 - opening) + grip * carried)
    attitude = 0.5 * flush * xp.exp(-((d / FLUSH) ** 2)) - 0.4 * up[:, 2]
    return at_cube + attitude + hand - 0.5 * floor - 0.001 * change


def failed(scene: Scene) -> np.ndarray:
    """The cube has left the reach of the arm [N]."""
    x, y, z = (scene.sensor["object_position_w"][:, k] for k in range(3))
    xp = namespace(z)
    return (xp.abs(x - 0.5) > 0.6) | (xp.abs(y) > 0.6) | (z < -0.1)


def measures(scene: Scene) -> dict[str, np.ndarray]:
    """`error`: distance of the cube from its target [m]; `height`: of the cube above its place on the floor [m] (N)."""
    height = scene.sensor["object_position_w"][:, 2] - HALF_EDGE
    return {"error": np.linalg.norm(to_goal(scene), axis=1), "height": height}


def succeeded(scene: Scene) -> np.ndarray:
    """Whether the cube is within REACHED of its target [N]."""
    return np.linalg.norm(to_goal(scene), axis=1) <= REACHED


def failures(scene: Scene) -> dict[str, np.ndarray]:
    """What became of the others at the end: the tool hovers over a cube that it has not lifted, or never came there,
    or the cube was lifted and is not where it should be (N).
    """
    near = np.linalg.norm(to_object(scene), axis=1) < OVER
    lifted = measures(scene)["height"] > LIFTED
    lost = ~succeeded(scene)
    return {
        "hovers over the cube without lifting": lost & near & ~lifted,
        "never at the cube": lost & ~near & ~lifted,
        "lifted, not at the target": lost & lifted,
    }
