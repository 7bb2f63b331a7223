"""Arms' joints identified from real logs, against published figures.

    python benchmarks/identify_arm.py DATA

DATA is the folder of real logs ($ALULA_DATA in the tests). Prints Markdown tables and saves them as
benchmarks/identify_arm.md. Nothing here is a timing.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from alula.identification.arm_identify import identify_arm, joint_problems
from alula.identification.arm_logs import read_joint_log
from alula.identification.arm_model import ArmModel
from alula.identification.arm_result import ArmIdentification, JointResult
from alula.identification.arm_samples import prepare
from alula.identification.joint_friction import held_out_rms
from alula.robots.arm import Arm, load_arm

PANDA_FILES = {
    "time": "exciting_traj_time.txt.xz",
    "q": "exciting_traj_positions.txt.xz",
    "qd": "exciting_traj_velocity.txt.xz",
    "tau": "exciting_traj_torques.txt.xz",
}
PANDA_PUBLISHED = (0.234, 0.535, 0.226, 0.267, 0.125, 0.084, 0.057)
"""Residual of the model of Gaz et al. 2019 with its friction on this log, rms by joint [N m]."""
PANDA_NO_FRICTION = (0.334, 0.611, 0.331, 0.594, 0.312, 0.185, 0.278)
"""The same without its friction [N m]."""
GAZ_A = np.array([0.54615, 0.87224, 0.64068, 1.2794, 0.83904, 0.30301, 0.56489])
GAZ_ALPHA = np.array([5.1181, 9.0657, 10.136, 5.5903, 8.3469, 17.133, 10.336])
GAZ_S = np.array([0.039533, 0.025882, -0.04607, 0.036194, 0.026226, -0.021047, 0.0035526])
"""Friction of the same: A / (1 + exp(-alpha (qd + s))) - A / (1 + exp(-alpha s)) [N m, s/rad, rad/s]."""
UR_GAIN = (10.0, 10.6956, 8.4566, 9.0029, 9.48, 10.1232)
"""Drive gains of shamilmamedov/dynamic_calibration, UR10E_parameters.txt [N m/A]."""
UR_VISCOUS = (21.256, 20.221, 10.378, 3.575, 2.491, 3.026)
UR_COULOMB = (12.548, 13.266, 4.994, 1.998, 2.690, 2.298)
"""Friction of the same [N m s/rad, N m]."""
UR_SWEEP, UR_RUN = "ur-20_01_22-joint_1.csv.xz", "ur-20_02_12-50sec_12harm.csv.xz"
UR_COLUMNS = {"time": "1", "q": "2..7", "qd": "8..13"}
UR_JOINTS = ("pan", "lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
UR_LINKS = (
    # a, d, alpha, mass, centre of mass in the frame after the joint
    (0.0, 0.1807, 1, 7.369, (0.021, 0.0, 0.027)),
    (-0.6127, 0.0, 0, 13.051, (0.38, 0.0, 0.158)),
    (-0.57155, 0.0, 0, 3.989, (0.24, 0.0, 0.068)),
    (0.0, 0.17415, 1, 2.1, (0.0, 0.007, 0.018)),
    (0.0, 0.11985, -1, 1.98, (0.0, 0.007, 0.018)),
    (0.0, 0.11655, 0, 0.615, (0.0, 0.0, -0.026)),
)
"""Universal Robots, "Parameters for calculations of kinematics and dynamics": m, quarter turns, kg, m."""


def ur10e(folder: Path, *, model: bool) -> Path:
    """Write a robot file of the UR10e into a folder, with a bare MJCF of its geometry and masses or without one."""
    limits = {
        "position_low": ("rad", -6.2832),
        "position_high": ("rad", 6.2832),
        "velocity_max": ("rad/s", 3.1416),
        "effort_max": ("N m", 330.0),
    }
    text = f'name = "ur10e"\nkind = "arm"\njoint_names = {list(UR_JOINTS)}\n'
    text += 'model = "ur10e.xml"\n' if model else ""
    for key, (unit, value) in limits.items():
        text += f'[{key}]\nvalue = {[value] * 6}\nunit = "{unit}"\nsource = "wide"\n'
    path = folder / ("ur10e.toml" if model else "ur10e-bare.toml")
    path.write_text(text)
    if not model:
        return path
    open_bodies, place = "", "0 0 0"
    euler = "0 0 0"
    for name, (a, d, turns, mass, (x, y, z)) in zip(UR_JOINTS, UR_LINKS, strict=True):
        # the frame after the joint sits at (a, 0, d), turned about x
        centre = (a + x, -turns * z if turns else y, d + (turns * y if turns else z))
        position = " ".join(f"{v:.6g}" for v in centre)
        open_bodies += (
            f'<body pos="{place}" euler="{euler}"><joint name="{name}" axis="0 0 1"/>'
            f'<inertial pos="{position}" mass="{mass}" diaginertia="0.01 0.01 0.01"/>'
        )
        place, euler = f"{a} 0 {d}", f"{turns * np.pi / 2:.9f} 0 0"
    mjcf = f'<mujoco><compiler angle="radian"/><worldbody>{open_bodies}{"</body>" * 6}</worldbody></mujoco>'
    path.with_suffix(".xml").write_text(mjcf)
    return path


def number(joint: JointResult, key: str) -> str:
    """An estimate with its interval."""
    if key not in joint.intervals:
        return "-"
    low, high = joint.intervals[key]
    value = joint.values[key]
    return (
        f"({low:.3g} to {high:.3g})" if value is None else f"{value:.3g} ({low:.3g} to {high:.3g})"
    )


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def gaz_friction(qd: np.ndarray) -> np.ndarray:
    """Friction of Gaz et al. 2019 at velocities (T, 7) [N m]."""
    rest = GAZ_A / (1.0 + np.exp(-GAZ_ALPHA * GAZ_S))
    return GAZ_A / (1.0 + np.exp(-GAZ_ALPHA * (qd + GAZ_S))) - rest


def without_hand(arm: Arm) -> Arm:
    """The Panda as it was when the log was taken: nothing on its flange."""
    root = ElementTree.fromstring(arm.model)
    for part in [*root.iter("body"), *root]:
        for child in list(part):
            mentions = ElementTree.tostring(child, encoding="unicode")
            if child.get("name") == "panda_hand" or (
                part.tag in ("equality", "actuator") and "finger" in mentions
            ):
                part.remove(child)
    by_joint = (
        "joint_names",
        "position_low",
        "position_high",
        "velocity_max",
        "effort_max",
        "home",
    )
    seven = {name: getattr(arm, name)[:7] for name in by_joint}
    return replace(arm, model=ElementTree.tostring(root, encoding="unicode"), **seven)


def panda(data: Path) -> str:
    """The Panda's log: residuals, and friction."""
    folder = data / "panda_gaz2019"
    arm = load_arm("panda")
    found = identify_arm(folder, robot="panda", columns=PANDA_FILES)
    samples = prepare(read_joint_log(folder, arm, (7,), PANDA_FILES))
    problems = joint_problems(samples, ArmModel(arm))
    rigid = ArmModel(without_hand(arm)).torque(samples.q, samples.qd, samples.qdd)
    assert samples.tau is not None
    gaz = np.sqrt(np.mean((samples.tau - rigid - gaz_friction(samples.qd)) ** 2, axis=0))
    rows, friction = [], []
    one = (gaz_friction(np.ones((1, 7))) - gaz_friction(-np.ones((1, 7))))[0] / 2.0
    for k, joint in enumerate(found.joints):
        fixed = held_out_rms(problems[k].problem, (None,))
        free = held_out_rms(problems[k].problem, (None, 1e-6))
        values = [joint.effort_rms, PANDA_NO_FRICTION[k], PANDA_PUBLISHED[k], gaz[k]]
        values += [joint.residual_rms_without_friction, joint.residual_rms, joint.held_out_rms]
        rows.append([str(k + 1), *(f"{v or 0.0:.3f}" for v in (*values, fixed, free))])
        fit = found.series[f"{joint.joint}.coulomb_viscous_offset"]
        ours = fit[0] * np.tanh(1.0 / (joint.smoothing or 1.0)) + fit[1]
        estimates = [number(joint, key) for key in ("coulomb", "viscous", "offset")]
        friction.append([str(k + 1), *estimates, f"{ours:.3f}", f"{one[k]:.3f}"])
    head = [
        "joint",
        "torque",
        "published, no friction",
        "published",
        "on these samples",
        "ours, no friction",
        "ours",
    ]
    head += ["ours, unseen halves", "links fixed, unseen", "links nearly free, unseen"]
    speed = ["joint", "Coulomb [N m]", "viscous [N m s/rad]", "offset [N m]", "at 1 rad/s", "Gaz"]
    return f"Panda, rms [N m]\n\n{table(head, rows)}\nPanda, friction\n\n{table(speed, friction)}"


def ur_table(title: str, found: ArmIdentification) -> str:
    """Friction of the UR10e in amperes, beside the published values over the published gains."""
    rows = []
    for k, joint in enumerate(found.joints):
        if joint.r2 is None:
            continue
        gain = UR_GAIN[k]
        cells = [str(k + 1), number(joint, "coulomb_a"), f"{UR_COULOMB[k] / gain:.3f}"]
        cells += [number(joint, "viscous_a"), f"{UR_VISCOUS[k] / gain:.3f}"]
        cells += [number(joint, "drive_gain"), f"{gain:.2f}", f"{joint.r2:.4f}"]
        rows.append([*cells, f"{joint.residual_rms:.3f}", f"{joint.held_out_rms:.3f}"])
    head = ["joint", "Coulomb [A]", "published", "viscous [A s/rad]", "published"]
    head += ["drive gain [N m/A]", "published", "R2", "residual [A]", "unseen halves [A]"]
    return f"{title}\n\n{table(head, rows)}"


def ur(data: Path, folder: Path) -> str:
    """The UR10e's logs: the sweep of joint 1, and the identification run in two ways."""
    logs = data / "ur10e_innopolis"
    bare, full = ur10e(folder, model=False), ur10e(folder, model=True)
    current = UR_COLUMNS | {"i": "14..19"}
    both = current | {"tau": "26..31"}
    parts = [
        ur_table(title, identify_arm(logs / log, robot=robot, columns=columns))
        for title, log, robot, columns in (
            ("UR10e, sweep of joint 1, currents, no model", UR_SWEEP, bare, current),
            ("UR10e, 50 s, currents by the controller's torques, no model", UR_RUN, bare, both),
            ("UR10e, 50 s, currents by published geometry and masses", UR_RUN, full, current),
        )
    ]
    return "\n".join(parts)


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    data = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        text = f"{panda(data)}\n{ur(data, Path(folder))}"
    print(text)
    (Path(__file__).parent / "identify_arm.md").write_text(text)


if __name__ == "__main__":
    main()
