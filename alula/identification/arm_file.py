"""An arm's robot file and model with the joints' identified friction."""

from pathlib import Path
from xml.etree import ElementTree

from alula.errors import AlulaError
from alula.identification.arm_result import ArmIdentification, JointResult
from alula.identification.robot_file import write_whole
from alula.robots.arm import load_arm
from alula.robots.files import ROBOT_DIR, read_table

ATTRIBUTES = {"coulomb": "frictionloss", "viscous": "damping", "armature": "armature"}
"""What an estimate is called at a joint of MJCF."""


def write_arm(
    found: ArmIdentification, robot: str | Path, path: str | Path, *, overwrite: bool = False
) -> Path | None:
    """Write a variant of the robot: its TOML with provenance, and beside it its MJCF with the joints' friction.

    What the log does not show stays as it is in the model, and so do the links. Each file appears whole or not at all,
    the model first.

    Args:
        found: the identification.
        robot: name or file of the arm that was identified.
        path: robot file to write; the model takes its name, with .xml.
        overwrite: allow replacing existing files.

    Returns:
        The robot file; None where there is nothing to write: no model, or nothing seen.

    Raises:
        AlulaError: a file exists, or the disk refuses.
    """
    import tomli_w

    path = Path(path)
    if path.suffix != ".toml":
        raise AlulaError(f"robot file {path}: allowed: a name that ends in .toml")
    seen = {j.joint: attributes(j) for j in found.joints}
    if not found.robot.model or not any(seen.values()):
        return None
    model = path.with_suffix(".xml")
    for file in (path, model):
        if file.exists() and not overwrite:
            raise AlulaError(f"{file} exists; allowed: a new file name")
    base = ROBOT_DIR / f"{robot}.toml"
    table = read_table(base if base.is_file() else Path(robot))
    table |= {
        "model": model.name,
        "description": f"{table.get('description', found.robot.name)}; joints' friction identified from a log",
        "identification": provenance(found),
    }
    write_whole(model, with_joints(found.robot.model, seen, _source(found)))
    write_whole(path, tomli_w.dumps(table))
    load_arm(path)
    return path


def attributes(joint: JointResult) -> dict[str, float]:
    """What of a joint's estimates MJCF can hold: positive, in N m (or N), rad (or m), s."""
    values = {mjcf: joint.values.get(ours) for ours, mjcf in ATTRIBUTES.items()}
    return {name: value for name, value in values.items() if value is not None}


def with_joints(model: str, values: dict[str, dict[str, float]], comment: str) -> str:
    """An MJCF whose named joints have other attributes; its comments stay, and one comes first."""
    keeping = ElementTree.TreeBuilder(insert_comments=True)
    root = ElementTree.fromstring(model, ElementTree.XMLParser(target=keeping))
    for joint in root.iter("joint"):
        for name, value in values.get(joint.get("name", ""), {}).items():
            joint.set(name, f"{value:.6g}")
    note = ElementTree.Comment(f" {comment.replace('--', '- -')} ")
    note.tail = "\n  "
    root.insert(0, note)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def provenance(found: ArmIdentification) -> dict:
    """Log, window, tool, estimates, intervals and what was not observable, without paths of this machine."""
    log = {k: v for k, v in found.log.items() if k != "path"} | {
        "file": Path(found.log["path"]).name
    }
    joints = {
        j.joint: {"effort": j.unit, "explained": j.explained}
        | {k: v for k, v in j.values.items() if v is not None}
        | {k: v for k in ("r2", "held_out_rms") if (v := getattr(j, k)) is not None}
        | {"intervals_95": {k: list(v) for k, v in j.intervals.items()}}
        for j in found.joints
    }
    return {
        "log": log,
        "window_s": [found.from_s, found.to_s],
        "joints": joints,
        "unobservable": found.unobservable,
    }


def _source(found: ArmIdentification) -> str:
    names = ", ".join(ATTRIBUTES.values())
    return (
        f"{names} of the joints as far as {Path(found.log['path']).name} shows them, identified by alula "
        f"{found.log['alula']}; intervals are in the robot file. What follows is the model that this is a variant of."
    )
