"""Bring an arm's tool to a pose: the first task of an arm."""

import numpy as np

from alula.arrays import namespace
from alula.errors import AlulaError
from alula.frames import rotation_between
from alula.policies.contract import ObservationEntry
from alula.robots.arm import Arm
from alula.sim.arm_scene import Scene, Start, ToolPose

NAME = "reach"
REACHED = 0.01
"""A tool this close has arrived [m]."""
SPREAD = 0.6
"""Goals are the tool's poses at joint positions that differ from home by up to this [rad]; starts by a third [rad]."""
LOWEST = 0.1
"""Goals are at least this far above the floor [m]."""
ROUNDS = 1000
"""How often a goal is drawn until it is that high."""


def objects(robot: Arm) -> str:
    """Nothing stands around; what is measured of the tool."""
    return f"""
<mujoco>
  <sensor>
    <framepos name="tool_position_w" objtype="site" objname="{robot.tool}"/>
    <framequat name="tool_quat_w" objtype="site" objname="{robot.tool}"/>
  </sensor>
</mujoco>"""


def entries(robot: Arm) -> tuple[ObservationEntry, ...]:
    """What the actor sees, in order, with the noise of the robot's sensors."""
    joints = len(robot.joint_names)
    position, velocity = robot.position_noise, robot.velocity_noise
    return (
        ObservationEntry(name="joint_position", unit="rad", frame="-", size=joints, noise=position),
        ObservationEntry(name="joint_velocity", unit="rad/s", frame="-", size=joints, noise=velocity),
        ObservationEntry(name="tool_position_error_w", unit="m", frame="w", size=3),
        ObservationEntry(name="tool_rotation_error_w", unit="rad", frame="w", size=3),
    )  # fmt: skip


def start(rng: np.random.Generator, n: int, robot: Arm, tool_pose: ToolPose) -> Start:
    """Arms around home; goals that they can reach, above the floor.

    Raises:
        AlulaError: the tool does not come that high.
    """
    home, low, high = (np.array(x) for x in (robot.home, robot.position_low, robot.position_high))
    goal, missing = np.zeros((n, 7)), np.arange(n)
    for _ in range(ROUNDS):
        away = rng.uniform(-SPREAD, SPREAD, (len(missing), len(home)))
        goal[missing] = tool_pose(np.clip(home + away, low, high))
        missing = missing[goal[missing, 2] < LOWEST]
        if not len(missing):
            break
    else:
        raise AlulaError(
            f"the tool of {robot.name!r} is below {LOWEST} m in all of {ROUNDS} poses around home; "
            "allowed: an arm that stands on the floor or higher, z = 0"
        )
    away = rng.uniform(-SPREAD, SPREAD, (n, len(home))) / 3.0
    return Start(
        joint_position=np.clip(home + away, low, high),
        goal={"position_w": goal[:, :3], "quat_w": goal[:, 3:]},
    )


def _errors(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """From the tool to the goal: position [m] (N, 3) and rotation vector [rad] (N, 3), both in the world's frame."""
    position = scene.goal["position_w"] - scene.sensor["tool_position_w"]
    return position, rotation_between(scene.sensor["tool_quat_w"], scene.goal["quat_w"])


def observe(scene: Scene) -> list[np.ndarray]:
    """Actor rows in the order of `entries`."""
    return [scene.joint_position, scene.joint_velocity, *_errors(scene)]


def privileged(scene: Scene) -> np.ndarray:
    """What the critic sees beside the actor's rows without noise: nothing."""
    return scene.joint_position[:, :0]


def reward(scene: Scene, action: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """Closeness of the tool from afar and within a centimetre, slow joints and smooth actions [N].

    ::

        d = sqrt(|e|^2 + 0.01^2)
        r = 1 - d / 0.3 + (1 - tanh(d / 0.02)) / 2 - 0.2 sqrt(|phi|^2 + 0.1^2) - 0.01 |a - a_before|^2 - 0.002 |qd|^2
    """
    xp, (position, rotation) = namespace(action), _errors(scene)
    distance = xp.sqrt((position**2).sum(1) + 0.01**2)
    angle = xp.sqrt((rotation**2).sum(1) + 0.1**2)
    change = ((action - previous) ** 2).sum(1)
    speed = (scene.joint_velocity**2).sum(1)
    close = 1.0 - distance / 0.3 + 0.5 * (1.0 - xp.tanh(distance / 0.02))
    return close - 0.2 * angle - 0.01 * change - 0.002 * speed


def failed(scene: Scene) -> np.ndarray:
    """Nothing ends an episode early [N]."""
    xp = namespace(scene.joint_position)
    return xp.zeros_like(scene.joint_position[:, 0], dtype=xp.bool)


def measures(scene: Scene) -> dict[str, np.ndarray]:
    """How far the tool is from its goal: `error` [m] and `angle` [rad] (N)."""
    position, rotation = _errors(scene)
    return {"error": np.linalg.norm(position, axis=1), "angle": np.linalg.norm(rotation, axis=1)}


def succeeded(scene: Scene) -> np.ndarray:
    """Whether the tool is within REACHED of the goal [N]."""
    return np.linalg.norm(_errors(scene)[0], axis=1) <= REACHED


def failures(scene: Scene) -> dict[str, np.ndarray]:
    """What became of the others at the end (N)."""
    return {"not at the goal": ~succeeded(scene)}
