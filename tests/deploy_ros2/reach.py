"""An arm that reaches for goals: the in-process flight, and the figures of any flight; loaded by several tests."""

from dataclasses import dataclass
from pathlib import Path
from runpy import run_path

import numpy as np

from alula.deploy_ros2.runner import PolicyRunner
from alula.deploy_ros2.samples import Sample
from alula.deploy_ros2.sim_arm import SimArm, SimArmConfig
from alula.policies.onnx_file import load_policy, write_policy

scripted = run_path(str(Path(__file__).parents[2] / "examples" / "scripted_arm_policy.py"))
CONTROL_DT = 0.01
"""Period of policy and simulation [s]."""
DURATION = 4.0
"""Time for each reach [s]."""
SETTLED = 0.01
"""A joint this near to its goal has arrived [rad]."""
OFFSETS = (
    (0.5, -0.3, 0.4, -0.6, 0.8, 1.0),
    (-1.0, 0.4, -0.8, 0.5, -0.5, -1.5),
    (1.5, 0.2, 0.6, 1.0, -1.2, 0.3),
)
"""Goals, from home [rad]."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one reach was like."""

    tracking: float
    """Root mean square of all joints' errors over the whole reach [rad]."""
    settling: float
    """When the last joint came nearer than SETTLED for good [s]; infinity: never."""
    final: float
    """Largest error of any joint, on average over the last half second [rad]."""


def goals(arm) -> list[np.ndarray]:
    """Where to reach (J each)."""
    return [np.array(arm.home) + offset for offset in OFFSETS]


def scripted_policy(path, arm):
    """The scripted policy through its file."""
    write_policy(path, *scripted["joint_reach"](arm, control_dt=CONTROL_DT))
    return load_policy(path, robot=arm)


def figures(times: np.ndarray, positions: np.ndarray, goal: np.ndarray) -> Figures:
    """Of joint positions (T, J) at times from the goal's coming [s] (T), rising."""
    error = positions - goal
    worst = np.abs(error).max(axis=1)
    late = np.flatnonzero(worst > SETTLED)
    arrived = len(late) == 0 or late[-1] + 1 < len(times)
    settling = 0.0 if len(late) == 0 else times[late[-1] + 1] if arrived else np.inf
    # Trapezoids, so that a message more or less makes no difference
    square = np.trapezoid((error**2).mean(axis=1), times) / (times[-1] - times[0])
    return Figures(
        tracking=float(np.sqrt(square)),
        settling=float(settling),
        final=float(worst[times > times[-1] - 0.5].mean()),
    )


def fly(arm, policy, goal, engine="onnx", **settings) -> Figures:
    """Reach from home, without ROS; the adapter's arithmetic is in here by hand."""
    sim = SimArm(arm, SimArmConfig(control_dt=CONTROL_DT, **settings))
    runner = PolicyRunner(policy, arm, engine=engine)
    low, high = np.array(arm.position_low), np.array(arm.position_high)
    times, positions, samples, commanded = [], [], {}, None
    for k in range(round(DURATION / CONTROL_DT) + 1):
        now = 100.0 + k * CONTROL_DT
        samples |= sim.measure(now)
        if not samples:
            sim.step()
            continue
        measured = samples["joint_position"].value
        reference = Sample(value=goal, stamp=now, names=arm.joint_names)
        step = runner.step(now, {**samples, "joint_position_reference": reference})
        times.append(k * CONTROL_DT)
        positions.append(measured)
        commanded = np.clip(
            (measured if commanded is None else commanded) + step.command, low, high
        )
        sim.command(commanded)
        sim.step()
    return figures(np.array(times), np.array(positions), goal)
