"""Lift a flat box that cannot be grasped where it lies: only at its thin side, once it stands out over a table's edge.

The box is wider than the fingers open, both ways, and lies flat on a low table. Pressed and drawn from above it comes over
the edge; then fingers above and below it can close. What kind of task this is: W. Zhou and D. Held, "Learning to Grasp
the Ungraspable with Emergent Extrinsic Dexterity" (arXiv 2211.01500), at a wall, and arXiv 2503.23120, also at edges. All
numbers are chosen.
"""

from functools import lru_cache

import numpy as np

from alula.arrays import namespace
from alula.frames import quat_multiply, rot_from_quat
from alula.robots.arm import Arm
from alula.robots.inverse_kinematics import joint_positions
from alula.sim.arm_scene import Scene, Start, ToolPose
from alula.tasks.handled import PAD, entries, observe, pose_sensors, to_object, turned

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

NAME = "pivot_lift"
HALF_EDGE, HALF_HEIGHT = 0.05, 0.0075
"""Of the box [m]: 10 cm x 10 cm x 1.5 cm, where the fingers open 8 cm."""
MASS = 0.2
"""Of the box [kg]."""
TABLE_LOW, TABLE_HIGH = (0.3, -0.05, 0.0), (0.7, 0.3, 0.2)
"""Corners of the table [m]; the edge in question is the one at the lowest y."""
EDGE, TOP = TABLE_LOW[1], TABLE_HIGH[2]
"""Where that edge is (y) and how high the table (z) [m]."""
BOX_FRICTION, TABLE_FRICTION = 0.6, 0.2
"""Between the box and whatever touches it, and between it and the table [-]. Below 1 two pads slip off its corners, which
come together at a right angle."""
START = ((0.45, 0.01), (0.55, 0.03))
"""Where the box starts: x of its middle; how far its nearer side lies behind the edge [m]."""
STIFF = 'solref="0.01 1" solimp="0.99 0.999 0.001"'
"""Of the table's contacts: two physics steps, and a box pressed on it with 100 N sinks in by less than 0.2 mm. Between pads and
box that is too stiff: what is held chatters."""
YAW = 0.2
"""It is turned by up to this at the start [rad]."""
TOOL = (0.5, 0.0, 0.33)
"""Where the tool starts, give or take SPREAD in each joint [m]."""
OPEN = 0.02
"""Where the fingers start: half their width [m]."""
TILT = np.pi / 4
"""The hand starts tilted by this from straight down, pointing away from the edge [rad]."""
SPREAD = 0.05
"""[rad]."""
LIFTED = 0.05
"""A box whose middle is this far above its place on the table has been lifted [m]."""
HEIGHT = 0.1
"""How high it is to be lifted; to hold it there is worth the most [m]."""
HOLDING = 0.5
"""Both pads press at least so hard on what is held [N]."""
AT_BOX = 0.08
"""A tool this close to the box's middle is at it [m]."""
INSIDE = 0.014
"""The fingers are to close this far inside of the box's side [m]."""
NEAR, AWAY, TURNED = 0.02, 0.04, 0.15
"""A tool so close to where it is to close can grip; one so far away must open first; one so close turns to the box [m]."""
OVER, FREE = (-0.03, 0.04), 0.025
"""How far the side is to come out over the edge, from where on; from where on a finger fits below it [m]."""
HANDS = 128
"""Poses of each kind that are sought once, for head starts to choose from."""
BESIDE = (0.027, 0.045)
"""How far the box stands out over the edge where a hand is beside it: less than half, or it would tip [m]."""


def objects(robot: Arm) -> str:
    """Table and box, and what is measured of it. The table's friction counts where the box lies on it, by priority."""
    low, high = np.array(TABLE_LOW), np.array(TABLE_HIGH)
    table, middle = (" ".join(map(str, x)) for x in (0.5 * (high - low), 0.5 * (high + low)))
    size = f"{HALF_EDGE} {HALF_EDGE} {HALF_HEIGHT}"
    return f"""
<mujoco>
  <worldbody>
    <geom name="table" type="box" size="{table}" pos="{middle}" priority="3" friction="{TABLE_FRICTION} 0.005 0.0001"
      {STIFF}
      rgba="0.55 0.5 0.45 1"/>
    <body name="object" pos="0.5 0.02 {TOP + HALF_HEIGHT}">
      <freejoint/>
      <geom name="object" type="box" size="{size}" mass="{MASS}" priority="2" condim="4"
        friction="{BOX_FRICTION} 0.005 0.0001" rgba="0.9 0.4 0.1 1"/>
    </body>
  </worldbody>
  <sensor>{pose_sensors(robot)}
    <frameangvel name="object_angular_velocity_w" objtype="xbody" objname="object"/>
    <contact name="left_force_w" geom1="left_pad" body2="object" num="1" reduce="netforce" data="force"/>
    <contact name="right_force_w" geom1="right_pad" body2="object" num="1" reduce="netforce" data="force"/>
  </sensor>
</mujoco>"""


def tilted(angle: float) -> tuple[float, ...]:
    """Rotation matrix from tool to world, row-major (9): the hand points down, turned about x by an angle [rad] so that
    it points to larger y; the fingers open across x.
    """
    c, s = float(np.cos(angle)), float(np.sin(angle))
    return (1.0, 0.0, 0.0, 0.0, -c, s, 0.0, -s, -c)


@lru_cache
def _above(robot: Arm) -> tuple[float, ...]:
    """Joint positions with the tool at TOOL, tilted (J)."""
    q = joint_positions(robot, TOOL, tilted(TILT), robot.home)
    # The last joint is the gripper.
    return (*q[:-1].tolist(), OPEN)


def start(rng: np.random.Generator, n: int, robot: Arm, tool_pose: ToolPose) -> Start:
    """Hands above the table, half open; the box flat on it behind the edge, turned at random."""
    above, low, high = (
        np.array(x) for x in (_above(robot), robot.position_low, robot.position_high)
    )
    away = SPREAD * rng.uniform(-1.0, 1.0, (n, len(above)))
    away[:, -1] = 0.0
    x, behind = rng.uniform(*START, (n, 2)).T
    yaw = rng.uniform(-YAW, YAW, n)
    # The corner nearest to the edge of a turned square is at half its edge times cos + sin.
    y = EDGE + behind + HALF_EDGE * (np.cos(yaw) + np.abs(np.sin(yaw)))
    place = np.stack([x, y, np.full(n, TOP + HALF_HEIGHT)], axis=1)
    return Start(
        joint_position=np.clip(above + away, low, high),
        pose_w={"object": np.concatenate([place, turned(yaw)], axis=1)},
    )


@lru_cache
def _hands(robot: Arm) -> tuple[np.ndarray, np.ndarray]:
    """Hands in the air, hands open beside a box that stands out over the edge, and hands open astride the edge, one finger on
    top of a box and one below: joint positions (3, HANDS, J), and x and y of the box's middle (of the first: of the hand)
    [m] (3, HANDS, 2).
    """
    rng, above = np.random.default_rng(0), _above(robot)
    quarter = np.pi / 2
    air = rng.uniform((0.42, -0.15, TOP + 0.03, TILT), (0.58, 0.0, TOP + 0.15, quarter), (HANDS, 4))
    x, over, apart, higher, tilt = rng.uniform(
        (0.43, BESIDE[0], 0.0, -0.008, TILT), (0.57, BESIDE[1], 0.08, 0.008, quarter), (HANDS, 5)
    ).T
    # Farther away it is higher, the more so the more it points down.
    z = TOP + HALF_HEIGHT + higher + 0.3 * apart * (quarter - tilt)
    beside = np.stack([x, EDGE - over + INSIDE - apart, z, tilt], axis=1)
    box_beside = np.stack([x, EDGE - over + HALF_EDGE], axis=1)
    x, over, inside, gap, tilt, finger = rng.uniform(
        (0.43, OVER[0], 0.004, 0.0, 0.5, 0.037),
        (0.57, BESIDE[1], 0.018, 0.006, 0.75, 0.04),
        (HANDS, 6),
    ).T
    # The upper finger's lowest corner is f (cos, sin) + PAD (sin, -cos) from the tool, in y and z.
    y = EDGE - over + inside - finger * np.cos(tilt) - PAD * np.sin(tilt)
    z = TOP + 2.0 * HALF_HEIGHT + gap - finger * np.sin(tilt) + PAD * np.cos(tilt)
    astride = np.stack([x, y, z, tilt], axis=1)
    box_below = np.stack([x, EDGE - over + HALF_EDGE], axis=1)
    hands = np.array(
        [
            [joint_positions(robot, place, tilted(angle), above) for *place, angle in kind.tolist()]
            for kind in (air, beside, astride)
        ]
    )
    opened = rng.uniform(OPEN, 2.0 * OPEN, HANDS)
    hands[:, :, -1] = np.stack([np.full(HANDS, HALF_HEIGHT), opened, finger])
    return hands, np.stack([air[:, :2], box_beside, box_below])


def head_start(rng: np.random.Generator, n: int, robot: Arm, tool_pose: ToolPose) -> Start:
    """Hands that hold the box in the air, open hands beside a box that stands out, hands astride the edge with a finger on one
    that lies anywhere up to there, and hands as ever above such a one, a quarter each: to lift, to grasp and to draw are
    learned in that order.
    """
    begun = start(rng, n, robot, tool_pose)
    usual = begun.pose_w["object"]
    kind, pick = rng.integers(0, 4, n), rng.integers(0, HANDS, n)
    moved, hand = kind < 3, np.minimum(kind, 2)
    hands, boxes = _hands(robot)
    joints = np.where(moved[:, None], hands[hand, pick], begun.joint_position)
    x, y = boxes[hand, pick].T
    x = np.where(moved, x + 0.02 * rng.uniform(-1.0, 1.0, n), usual[:, 0])
    y = np.where(moved, y, EDGE - rng.uniform(OVER[0], BESIDE[1], n) + HALF_EDGE)
    lying = np.column_stack([x, y, usual[:, 2:]])
    tool = tool_pose(joints)
    # The box in the hand: its y is the tool's z, its z opposite to the tool's y, a quarter turn about x.
    into = rot_from_quat(tool[:, 3:])[:, :, 2]
    quat = quat_multiply(tool[:, 3:], np.array([np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0]))
    held = np.concatenate([tool[:, :3] + (HALF_EDGE - INSIDE) * into, quat], axis=1)
    pose = np.where((kind == 0)[:, None], held, lying)
    return Start(joint_position=joints, pose_w={"object": pose})


def _height(scene: Scene) -> np.ndarray:
    return scene.sensor["object_position_w"][:, 2] - TOP - HALF_HEIGHT


def _held(scene: Scene) -> np.ndarray:
    """Both pads press on the box, against each other: more than 90 degrees apart. A box may lean on the palm too."""
    left, right = scene.sensor["left_force_w"], scene.sensor["right_force_w"]
    xp = namespace(left)
    hard = [xp.linalg.vector_norm(f, axis=1) > HOLDING for f in (left, right)]
    return ((left * right).sum(1) < 0.0) & hard[0] & hard[1]


def privileged(scene: Scene) -> np.ndarray:
    """What the critic sees beside the actor's rows without noise: the box's motion, the pads' forces on it (N, 13)."""
    s, xp = scene.sensor, namespace(scene.joint_position)
    forces = [xp.tanh(0.05 * s[k]) for k in ("left_force_w", "right_force_w")]
    motion = [s["object_velocity_w"], 0.2 * s["object_angular_velocity_w"]]
    return xp.concat([*motion, *forces, _held(scene)[:, None]], axis=1)


def reward(scene: Scene, action: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """Tool at the box's side, turned to it; the side out over the edge; closing there; a box that is held, and how high [N].

    ::

        r = 0.5 c(5 d) + 0.25 c(20 d) + (0.4 |y . z_box| + 0.2 z . y_box) exp(-(d / 0.15)^2) + out
            + free (0.1 away (1 + a_grip) + 0.25 near (1 - a_grip))
            + held (0.5 + 5 max(1 - |height - 0.1| / 0.1, 0) + 2 lifted) - 0.001 |a - a_before|^2
        c(x) = 1 - tanh(x);  d from the tool to where it is to close, INSIDE the side at the edge;  y, z axes of the tool
        near, away = exp(-(e / 0.02)^2), 1 - exp(-(e / 0.04)^2);  e as d, what lies along y twice as far
        out  = min(max((over + 0.03) / 0.07, 0), 1), 1 where held;  over: how far the side is out over the edge
        free = over > 0.025

    Closed fingers on top of the box are near to where they are to close, along y: there they must open.
    """
    xp = namespace(action)
    s, height, held = scene.sensor, _height(scene), _held(scene)
    rot, box_rot = (rot_from_quat(s[k]) for k in ("tool_quat_w", "object_quat_w"))
    side = s["object_position_w"] - HALF_EDGE * box_rot[:, :, 1]
    way, over = side + INSIDE * box_rot[:, :, 1] - s["tool_position_w"], EDGE - side[:, 1]
    along_y = (rot[:, :, 1] * way).sum(1)
    d = xp.linalg.vector_norm(way, axis=1)
    e2 = d * d + 3.0 * along_y**2
    flush = xp.abs((rot[:, :, 1] * box_rot[:, :, 2]).sum(1))
    into = (rot[:, :, 2] * box_rot[:, :, 1]).sum(1)
    at_side = 0.5 * (1.0 - xp.tanh(5.0 * d)) + 0.25 * (1.0 - xp.tanh(20.0 * d))
    attitude = (0.4 * flush + 0.2 * into) * xp.exp(-((d / TURNED) ** 2))
    out = xp.where(held, 1.0, xp.clip((over - OVER[0]) / (OVER[1] - OVER[0]), 0.0, 1.0))
    near, away = xp.exp(-e2 / NEAR**2), 1.0 - xp.exp(-e2 / AWAY**2)
    opening = action[:, -1]
    hand = (over > FREE) * (0.1 * away * (1.0 + opening) + 0.25 * near * (1.0 - opening))
    raised = xp.maximum(1.0 - xp.abs(height / HEIGHT - 1.0), 0.0)
    lifted = 0.5 + 5.0 * raised + 2.0 * (height > LIFTED)
    change = ((action - previous) ** 2).sum(1)
    return at_side + attitude + out + hand + held * lifted - 0.001 * change


def failed(scene: Scene) -> np.ndarray:
    """The box fell off the table, on whichever side [N]."""
    return _height(scene) < -0.5 * TOP


def measures(scene: Scene) -> dict[str, np.ndarray]:
    """`height`: of the box's middle above its place on the table; `overhang`: how far its middle is beyond the edge,
    0.05 less than how far its side is [m] (N).
    """
    return {"height": _height(scene), "overhang": EDGE - scene.sensor["object_position_w"][:, 1]}


def succeeded(scene: Scene) -> np.ndarray:
    """Whether the box is LIFTED and held [N]."""
    return (_height(scene) >= LIFTED) & _held(scene)


def failures(scene: Scene) -> dict[str, np.ndarray]:
    """What became of the others at the end (N)."""
    short, height = ~succeeded(scene), _height(scene)
    fell = height < -HALF_HEIGHT
    near = np.linalg.norm(to_object(scene), axis=1) < AT_BOX
    held = _held(scene)
    return {
        "fell off the table": short & fell,
        "held, not lifted": short & ~fell & held,
        "at the box, not held": short & ~fell & ~held & near,
        "never at the box": short & ~fell & ~held & ~near,
    }
