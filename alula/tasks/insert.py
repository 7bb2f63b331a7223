"""Insert a square peg into a hole with 1 mm of clearance, whose place is known to a few millimetres only.

Clearance is what is usual for fits: the hole's width less the peg's, so 0.5 mm on each side of a centred peg. The peg is
welded to the hand, between the fingers: what is asked is to find and fill the hole, not to hold on to the peg. What the
policy is told of the hole is off by `hole_bias_w`, drawn for each episode; where it truly is only the critic sees. All
numbers are chosen.
"""

from functools import lru_cache

import numpy as np

from alula.arrays import namespace
from alula.frames import quat_multiply, rot_from_quat, rotation_between
from alula.policies.contract import ObservationEntry
from alula.robots.arm import Arm
from alula.robots.inverse_kinematics import joint_positions
from alula.sim.arm_scene import Scene, Start, ToolPose

NAME = "insert"
HALF_WIDTH = 0.008
"""Of the peg [m]: a square of 16 mm."""
CLEARANCE = 0.001
"""Width of the hole less that of the peg [m]."""
UPPER, TIP = 0.02, 0.04
"""How far the peg reaches above and below the tool's site [m]."""
PEG_MASS = 0.1
"""[kg]."""
DEPTH = 0.025
"""Of the hole [m]."""
INSERTED = 0.02
"""A tip this deep in the hole is inserted [m]."""
RIM = 0.03
"""Height of the block that has the hole; its floor is the rest thick [m]."""
HALF_BLOCK = 0.04
"""Half the width of the block [m]."""
FRICTION = 0.3
"""Between peg and block [-]; steel on aluminium or plastic, dry to greased: 0.1 to 0.5."""
STIFF = 'solref="0.01 1" solimp="0.99 0.999 0.0002"'
"""Of contacts and weld: two physics steps."""
BLOCK_MASS, BLOCK_DAMPING = 100.0, 1e8
"""The block moves freely only so that an episode can begin with it elsewhere: damped like this [N s/m, N m s/rad], 100 N
move it by 1 um a second [kg]."""
ABOVE = (0.5, 0.0, 0.11)
"""Where the tool starts, pointing down: the tip 40 mm above the rim [m]."""
TURN, SPREAD = 0.3, 0.03
"""The first joint starts up to TURN from there, the others up to SPREAD [rad]."""
OFFSET = 0.01
"""Largest distance of the hole from below the tip at the start [m]."""
YAW = 0.05
"""Largest angle between hole and tool about the vertical at the start [rad]."""
BIAS = 0.002
"""Largest error of what is told of the hole's place, horizontally [m]."""
INSIDE = 0.002
"""A tip below the rim and this close to the hole's axis is in the hole [m]."""
DOWN = (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
"""Rotation matrix from tool to world, row-major: the hand points down as at home."""


def objects(robot: Arm) -> str:
    """Block with hole, peg in the hand, and what is measured of them; the hole's frame is in the middle of its rim."""
    width = HALF_WIDTH + 0.5 * CLEARANCE
    wall, middle = 0.5 * (HALF_BLOCK - width), 0.5 * (HALF_BLOCK + width)
    # Two walls over the whole block, two between them, and the floor: half sizes and places
    boxes = [
        *(
            ((wall, HALF_BLOCK, 0.5 * DEPTH), (sign * middle, 0.0, -0.5 * DEPTH))
            for sign in (-1, 1)
        ),
        *(((width, wall, 0.5 * DEPTH), (0.0, sign * middle, -0.5 * DEPTH)) for sign in (-1, 1)),
        ((HALF_BLOCK, HALF_BLOCK, 0.5 * (RIM - DEPTH)), (0.0, 0.0, -0.5 * (RIM + DEPTH))),
    ]
    block = "".join(
        f'<geom type="box" size="{_text(size)}" pos="{_text(pos)}" friction="{FRICTION} 0.005 0.0001" {STIFF} '
        'rgba="0.45 0.5 0.6 1"/>'
        for size, pos in boxes
    )
    peg = _text((HALF_WIDTH, HALF_WIDTH, 0.5 * (UPPER + TIP)))
    inertia = _text(3 * [BLOCK_MASS * HALF_BLOCK**2])
    return f"""
<mujoco>
  <worldbody>
    <body name="hole" pos="0.5 0 {RIM}" gravcomp="1">
      <joint type="free" damping="{BLOCK_DAMPING}"/>
      <inertial pos="0 0 0" mass="{BLOCK_MASS}" diaginertia="{inertia}"/>
      {block}
      <site name="hole" size="0.002"/>
    </body>
    <body name="peg" pos="0.5 0 0.2" quat="0 1 0 0">
      <freejoint/>
      <geom name="peg" type="box" size="{peg}" pos="0 0 {0.5 * (TIP - UPPER)}" mass="{PEG_MASS}"
        friction="{FRICTION} 0.005 0.0001" {STIFF} rgba="0.9 0.4 0.1 1"/>
      <site name="peg" size="0.002"/>
      <site name="tip" pos="0 0 {TIP}" size="0.002"/>
    </body>
  </worldbody>
  <equality>
    <weld site1="{robot.tool}" site2="peg" {STIFF}/>
  </equality>
  <contact>
    <exclude body1="world" body2="hole"/>
    <exclude body1="panda_hand" body2="peg"/>
    <exclude body1="panda_leftfinger" body2="peg"/>
    <exclude body1="panda_rightfinger" body2="peg"/>
  </contact>
  <sensor>
    <framepos name="tool_position_w" objtype="site" objname="{robot.tool}"/>
    <framequat name="tool_quat_w" objtype="site" objname="{robot.tool}"/>
    <framepos name="tip_h" objtype="site" objname="tip" reftype="site" refname="hole"/>
    <contact name="force_w" body1="hole" body2="peg" num="1" reduce="netforce" data="force torque"/>
  </sensor>
</mujoco>"""


def _text(numbers: tuple[float, ...] | list[float]) -> str:
    return " ".join(f"{x:.6g}" for x in numbers)


def entries(robot: Arm) -> tuple[ObservationEntry, ...]:
    """What the actor sees, in order, with the noise of the robot's sensors; errors are from the tool to where it has the
    peg on the bottom of the hole, as far as its place is known.
    """
    joints = len(robot.joint_names)
    position, velocity = robot.position_noise, robot.velocity_noise
    return (
        ObservationEntry(name="joint_position", unit="rad", frame="-", size=joints, noise=position),
        ObservationEntry(name="joint_velocity", unit="rad/s", frame="-", size=joints, noise=velocity),
        ObservationEntry(name="tool_position_error_w", unit="m", frame="w", size=3),
        ObservationEntry(name="tool_rotation_error_w", unit="rad", frame="w", size=3),
    )  # fmt: skip


@lru_cache
def above(robot: Arm) -> tuple[float, ...]:
    """Joint positions with the tool at ABOVE, fingers at the peg (J)."""
    q = joint_positions(robot, ABOVE, DOWN, robot.home)
    # The last joint is the gripper.
    return (*q[:-1].tolist(), HALF_WIDTH)


def start(rng: np.random.Generator, n: int, robot: Arm, tool_pose: ToolPose) -> Start:
    """Hands above the floor, the peg in them; the hole below, off to a side and turned."""
    width = np.full(len(robot.home), SPREAD)
    width[0], width[-1] = TURN, 0.0
    q = above(robot) + width * rng.uniform(-1.0, 1.0, (n, len(width)))
    q = np.clip(q, robot.position_low, robot.position_high)
    pose = tool_pose(q)
    rot = rot_from_quat(pose[:, 3:])
    hole = np.full((n, 3), RIM)
    hole[:, :2] = (pose[:, :3] + TIP * rot[:, :, 2])[:, :2] + _disc(rng, n, OFFSET)
    # The tool's y axis in the plane is the hole's x axis, as at home; a square hole looks the same after quarter turns.
    yaw = np.arctan2(rot[:, 1, 1], rot[:, 0, 1]) + rng.uniform(-YAW, YAW, n)
    turn = np.stack([np.cos(0.5 * yaw), 0.0 * yaw, 0.0 * yaw, np.sin(0.5 * yaw)], axis=1)
    down = np.full((n, 3), [0.0, 0.0, TIP - DEPTH])
    bias = np.concatenate([_disc(rng, n, BIAS), np.zeros((n, 1))], axis=1)
    half = np.sqrt(0.5)
    return Start(
        joint_position=q,
        goal={
            "position_w": hole + down,
            # DOWN as a quaternion, turned
            "quat_w": quat_multiply(turn, np.array([0.0, half, half, 0.0])),
            "hole_bias_w": bias,
        },
        pose_w={"hole": np.concatenate([hole, turn], axis=1), "peg": pose},
    )


def _disc(rng: np.random.Generator, n: int, radius: float) -> np.ndarray:
    """Points evenly over a disc (n, 2)."""
    r, angle = radius * np.sqrt(rng.uniform(0.0, 1.0, n)), rng.uniform(-np.pi, np.pi, n)
    return np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1)


def _rotation_error(scene: Scene) -> np.ndarray:
    return rotation_between(scene.sensor["tool_quat_w"], scene.goal["quat_w"])


def observe(scene: Scene) -> list[np.ndarray]:
    """Actor rows in the order of `entries`."""
    error = scene.goal["position_w"] + scene.goal["hole_bias_w"] - scene.sensor["tool_position_w"]
    return [scene.joint_position, scene.joint_velocity, error, _rotation_error(scene)]


def _place(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Of the tip: distance from the hole's axis [m] (N), and depth below the rim, of a tip beside the hole at most 0 [m] (N)."""
    tip = scene.sensor["tip_h"]
    xp = namespace(tip)
    aside = xp.linalg.vector_norm(tip[:, :2], axis=1)
    return aside, xp.where(aside < INSIDE, -tip[:, 2], xp.minimum(-tip[:, 2], 0.0))


def _force(scene: Scene) -> np.ndarray:
    """Of the contact of peg and block [N] (N)."""
    force = scene.sensor["force_w"][:, :3]
    return namespace(force).linalg.vector_norm(force, axis=1)


def privileged(scene: Scene) -> np.ndarray:
    """What the critic sees beside the actor's rows without noise: the hole's true place, the contact's force and torque
    (N, 12).
    """
    tip, wrench = scene.sensor["tip_h"], scene.sensor["force_w"]
    xp = namespace(tip)
    return xp.concat(
        [500.0 * scene.goal["hole_bias_w"], xp.tanh(200.0 * tip), xp.tanh(0.05 * wrench[:, :3]), xp.tanh(wrench[:, 3:])],
        axis=1,
    )  # fmt: skip


def reward(scene: Scene, action: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """Closeness of the tip to the hole's mouth, depth, an upright peg, gentle contact and smooth actions [N].

    ::

        r = 0.5 c(|tip - mouth|) + 2 depth / 0.025 + inserted - 0.5 |phi| - 0.002 max(F - 20, 0) - 0.005 |a - a_before|^2
        c(d) = 1 - tanh(50 d); depth of a tip in the hole, at least 0; there c = 1
    """
    xp, (aside, depth) = namespace(action), _place(scene)
    deep = xp.clip(depth, 0.0, DEPTH)
    away = xp.hypot(aside, xp.minimum(depth, 0.0))
    near = xp.where(deep > 0.0, 1.0, 1.0 - xp.tanh(50.0 * away))
    angle = xp.linalg.vector_norm(_rotation_error(scene), axis=1)
    hard = xp.maximum(_force(scene) - 20.0, 0.0)
    change = ((action - previous) ** 2).sum(1)
    filled = 2.0 * deep / DEPTH + (deep >= INSERTED)
    return 0.5 * near + filled - 0.5 * angle - 0.002 * hard - 0.005 * change


def failed(scene: Scene) -> np.ndarray:
    """The tip is no longer over the block [N]."""
    tip = scene.sensor["tip_h"]
    xp = namespace(tip)
    return xp.max(xp.abs(tip[:, :2]), axis=1) > HALF_BLOCK


def measures(scene: Scene) -> dict[str, np.ndarray]:
    """`depth`: of the tip in the hole [m]; `aside`: its distance from the hole's axis [m]; `force`: of the contact [N] (N)."""
    aside, depth = _place(scene)
    return {"depth": depth, "aside": aside, "force": _force(scene)}


def succeeded(scene: Scene) -> np.ndarray:
    """Whether the tip is INSERTED [N]."""
    return _place(scene)[1] >= INSERTED


def failures(scene: Scene) -> dict[str, np.ndarray]:
    """What became of the others at the end: away from the block, on it beside the hole, or stuck in the hole (N)."""
    depth = _place(scene)[1]
    short, entered = ~succeeded(scene), depth > 0.5 * CLEARANCE
    touching = _force(scene) > 0.0
    return {
        "stuck in the hole": short & entered,
        "on the block beside the hole": short & ~entered & touching,
        "above the block": short & ~entered & ~touching,
    }
