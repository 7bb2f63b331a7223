"""How far a vehicle was from its reference: on the wire, and in the same flight without ROS."""

import math
from collections.abc import Sequence

import numpy as np

from alula.deploy_ros2.adapters.interface import seconds
from alula.deploy_ros2.adapters.vehicle_reference import path_of
from alula.deploy_ros2.node_config import ReferenceConfig
from alula.deploy_ros2.pilot import Around, Pilot
from alula.deploy_ros2.reference_node import window_message
from alula.deploy_ros2.reference_path import resting
from alula.deploy_ros2.runner import PolicyRunner
from alula.deploy_ros2.safety import Safety, State
from alula.deploy_ros2.safety_config import SafetyConfig
from alula.deploy_ros2.samples import Reference
from alula.deploy_ros2.sim_multirotor import SimMultirotor, SimMultirotorConfig
from alula.policies.onnx_file import load_policy
from alula.robots.multirotor import load_robot

FIGURE = ReferenceConfig(shape="figure_eight")
STEP = SimMultirotorConfig().control_dt
RECOVERY = 1.0
"""By then the vehicle has made up for it [s]."""


def beginning(trajectories: Sequence) -> float:
    """When the figure began [s]: before its first message by the time that its first point has got on."""
    first = trajectories[0]
    # x = l/2 sin w t
    x = first.points[0].transforms[0].translation.x
    return seconds(first.header.stamp) - math.asin(2.0 * x / FIGURE.length) * FIGURE.lap / (2.0 * math.pi)  # fmt: skip


def on_the_wire(seen: Sequence, trajectories: Sequence, start_w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Distances from the reference as it was known [m] (T), and the positions (T, 3)."""
    stamps = [seconds(m.header.stamp) for m in trajectories]
    paths = [path_of(m, 0.0)[0] for m in trajectories]
    errors = []
    for o in seen:
        k = int(np.searchsorted(stamps, o.stamp, side="right"))
        reference = paths[k - 1](o.stamp)[0] if k else start_w
        errors.append(np.linalg.norm(o.position_w - reference))
    return np.array(errors), np.array([o.position_w for o in seen])


def calm(latencies: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Which steps (T) say something about tracking: none soon after a busy computer held up robot or policy.

    Args:
        latencies: from each state to the command after it [s] (T).
        times: of the states [s] (T).
    """
    # A command that comes after the next state acts a step late.
    held_up = (latencies > STEP) | (np.diff(times, prepend=times[0]) > 1.5 * STEP)
    last = np.maximum.accumulate(np.where(held_up, times, -np.inf))
    return times - last > RECOVERY


def without_ros(
    policy: str,
    robot_name: str,
    start_w: Sequence[float],
    begin: float,
    times: np.ndarray,
    seed: int,
) -> np.ndarray:
    """The same flight in one process, with states at the same times since take-off (T) [s]: distances [m] (T)."""
    robot = load_robot(robot_name)
    runner = PolicyRunner(load_policy(policy, robot=robot), robot)
    pilot = Pilot(runner, Safety(SafetyConfig(), runner.low, runner.high), robot)
    config = SimMultirotorConfig(robot=robot_name, start=tuple(start_w), seed=seed)
    sim = SimMultirotor(robot, config)
    pilot.start()
    path, shown, errors = resting(np.array(start_w)), begin, []
    # Not at 0, which in messages means no time.
    for time in times.tolist():
        now = 100.0 + time
        while time >= shown + 1.0 / FIGURE.rate:
            shown += 1.0 / FIGURE.rate
            path = path_of(window_message(FIGURE, now, time - begin), now)[0]
        samples = sim.measure(now)
        position, velocity = path(now)
        reference = Reference(
            position_w=position, velocity_w=velocity, acceleration_w=np.zeros(3), stamp=now, trajectory=path
        )  # fmt: skip
        errors.append(np.linalg.norm(samples["position_w"].value - position))
        out = pilot.cycle(now, samples, reference, Around(heartbeat_stamp=now))
        assert out.decision.state is State.POLICY, out.decision.text
        sim.step(out.command)
    return np.array(errors)
