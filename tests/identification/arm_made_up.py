"""A made-up arm of two links with known friction, and its logs, simulated by MuJoCo."""

from dataclasses import dataclass, field
from pathlib import Path

import mujoco
import numpy as np

JOINTS = ("shoulder", "elbow")
COULOMB, VISCOUS, ARMATURE = (1.5, 0.6), (0.8, 0.3), (0.30, 0.12)
"""Truth by joint: N m, N m s/rad, kg m^2."""

STIFF = 'solreffriction="0.002 1" solimpfriction="0.99 0.999 0.001"'
"""MuJoCo's friction is soft by default: it lags by 10 ms in a reversal, which looks like 6 % more armature."""
MJCF = """
<mujoco model="two">
  <!-- kept -->
  <compiler angle="radian"/>
  <option timestep="0.001" integrator="implicitfast"/>
  <worldbody>
    <body name="upper">
      <inertial pos="0 0 -0.2" mass="{m1}" diaginertia="0.04 0.04 0.01"/>
      <joint name="shoulder" axis="0 1 0" frictionloss="{f1}" {stiff} damping="{d1}" armature="{a1}"/>
      <body name="lower" pos="0 0 -0.4">
        <inertial pos="0 0 -0.15" mass="{m2}" diaginertia="0.02 0.02 0.005"/>
        <joint name="elbow" axis="0 1 0" frictionloss="{f2}" {stiff} damping="{d2}" armature="{a2}"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""

TOML = """
name = "two"
kind = "arm"
joint_names = ["shoulder", "elbow"]
{model}
[position_low]
value = [-3.2, -3.2]
unit = "rad"
source = "made up"
[position_high]
value = [3.2, 3.2]
unit = "rad"
source = "made up"
[velocity_max]
value = [5.0, 5.0]
unit = "rad/s"
source = "made up"
[effort_max]
value = [100.0, 100.0]
unit = "N m"
source = "made up"
"""


def mjcf(*, mass: tuple[float, float] = (4.0, 2.0), friction: bool = True) -> str:
    """The arm's model, with its friction or as a data sheet would give it."""
    f, d, a = (COULOMB, VISCOUS, ARMATURE) if friction else ((0.0, 0.0),) * 3
    return MJCF.format(
        stiff=STIFF, m1=mass[0], m2=mass[1], f1=f[0], f2=f[1], d1=d[0], d2=d[1], a1=a[0], a2=a[1]
    )


def robot_file(folder: Path, model: str | None = None) -> Path:
    """The robot file, with a model beside it or without one."""
    if model is not None:
        (folder / "two.xml").write_text(model)
    path = folder / "two.toml"
    path.write_text(TOML.format(model='model = "two.xml"' if model is not None else ""))
    return path


@dataclass(frozen=True)
class Log:
    """What a logger of the arm would write."""

    time_s: np.ndarray
    q: np.ndarray
    qd: np.ndarray
    tau: np.ndarray = field(repr=False)

    def table(self, **others: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of a CSV, without torque if others are given in its place."""
        kinds = {"q": self.q, "qd": self.qd} | (others or {"tau": self.tau})
        named = {f"{kind}{k + 1}": v[:, k] for kind, v in kinds.items() for k in range(v.shape[1])}
        return {"time": self.time_s} | named


def move(
    seconds: float = 20.0, *, still: tuple[int, ...] = (), seed: int = 0, noise: float = 0.2
) -> Log:
    """The arm follows sums of sines under servo torques; 500 Hz; torque noise correlated over 0.1 s.

    Args:
        seconds: length of the log.
        still: joints that are held.
        seed: of noise and phases.
        noise: standard deviation of the torque's error [N m].
    """
    rng = np.random.default_rng(seed)
    model = mujoco.MjModel.from_xml_string(mjcf())
    data = mujoco.MjData(model)
    amplitude = np.array([[0.6, 0.3], [0.7, 0.3]])
    amplitude[list(still)] = 0.0
    rate = 2.0 * np.pi * np.array([[0.21, 0.53], [0.17, 0.67]])
    phase = rng.uniform(0.0, 2.0 * np.pi, (2, 2))
    data.qpos[:] = np.sum(amplitude * np.sin(phase), axis=1)
    data.qvel[:] = np.sum(amplitude * rate * np.cos(phase), axis=1)
    rows = []
    for k in range(int(seconds * 1000)):
        angle = rate * (0.001 * k) + phase
        q = np.sum(amplitude * np.sin(angle), axis=1)
        qd = np.sum(amplitude * rate * np.cos(angle), axis=1)
        data.qfrc_applied[:] = 400.0 * (q - data.qpos) + 40.0 * (qd - data.qvel)
        if k % 2 == 0:
            rows.append((0.001 * k, *data.qpos, *data.qvel, *data.qfrc_applied))
        mujoco.mj_step(model, data)
    table = np.array(rows)
    drift, keep = np.zeros(2), np.exp(-0.002 / 0.1)
    for row in table:
        drift = keep * drift + np.sqrt(1.0 - keep**2) * noise * rng.standard_normal(2)
        row[5:] += drift
    table[:, 3:5] += 0.001 * rng.standard_normal((len(table), 2))
    return Log(table[:, 0] + 3.0, table[:, 1:3], table[:, 3:5], table[:, 5:7])
