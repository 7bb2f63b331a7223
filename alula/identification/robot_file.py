"""An identified robot written as a robot file: whole or not at all."""

import os
import tempfile
from pathlib import Path

from alula.errors import AlulaError
from alula.identification.result import Identification
from alula.robots.multirotor import robot_table


def write_robot(
    identification: Identification,
    path: str | Path,
    *,
    overwrite: bool = False,
    description: str = "identified by alula from flight logs",
) -> Path:
    """Write the identified robot as TOML, with provenance.

    The file appears complete under its name or not at all.

    Args:
        identification: must hold a robot.
        path: where to; its folder must exist.
        overwrite: allow replacing an existing file.
        description: one line about the robot.

    Raises:
        AlulaError: no robot identified, the path exists, or the disk refuses.
    """
    import tomli_w

    if identification.robot is None:
        reason = next((r for r in identification.unobservable if r.startswith("robot:")), "")
        raise AlulaError(f"no robot to write to {path}: {reason.removeprefix('robot: ')}")
    path = Path(path)
    if path.exists() and not overwrite:
        raise AlulaError(f"{path} exists; allowed: a new file name")
    robot = identification.robot
    if path.suffix != ".toml":
        raise AlulaError(f"robot file {path}: allowed: a name that ends in .toml")
    table = robot_table(
        robot,
        description=description,
        extra=provenance(identification),
    )
    write_whole(path, tomli_w.dumps(table))
    return path


def provenance(identification: Identification) -> dict:
    """Log, window, tool, intervals and what was not observable, without paths of this machine."""
    log = {k: v for k, v in identification.log.items() if k != "path"}
    log["file"] = Path(identification.log["path"]).name
    return {
        "log": log,
        "window_s": [identification.from_s, identification.to_s],
        "mass_kg": identification.mass_kg,
        "r2": identification.r2,
        "intervals_95": {k: list(v) for k, v in identification.intervals.items()},
        "unobservable": identification.unobservable,
    } | {k: v for k, v in identification.extras.items() if k.startswith("inertia_")}


def write_whole(path: Path, text: str) -> None:
    """Write beside the target, then rename over it."""
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = ""
    except OSError as e:
        raise AlulaError(f"robot file {path}: cannot be written: {e.strerror}") from None
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
