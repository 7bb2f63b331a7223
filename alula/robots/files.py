"""Robot files on disk: bounded reading of TOML, and which ones ship with alula."""

import tomllib
from pathlib import Path
from typing import Any

from alula.errors import AlulaError

ROBOT_DIR = Path(__file__).parent
MAX_FILE_BYTES = 1_000_000


def shipped(kind: str) -> tuple[str, ...]:
    """Names of the robots of a kind (multirotor, arm) that ship with alula."""
    files = sorted(ROBOT_DIR.glob("*.toml"))
    return tuple(path.stem for path in files if read_table(path).get("kind") == kind)


def find_robot(name_or_path: str | Path, *kinds: str) -> Path:
    """The file of a robot that ships with alula and is of one of these kinds, or the file given.

    Raises:
        AlulaError: there is none, or it is of another kind.
    """
    name, path = str(name_or_path), Path(name_or_path)
    known = {robot: kind for kind in ("multirotor", "arm") for robot in shipped(kind)}
    if known.get(name) in kinds:
        return ROBOT_DIR / f"{name}.toml"
    if path.is_file():
        return path
    names = ", ".join(robot for robot, kind in known.items() if kind in kinds)
    if name in known:
        article = "an" if known[name] == "arm" else "a"
        raise AlulaError(f"{name!r} is {article} {known[name]}; allowed: {names}, or a .toml file")
    what = "arm" if kinds == ("arm",) else "robot"
    raise AlulaError(f"unknown {what} {name!r}; known: {names}, or a .toml file")


def read_table(path: Path) -> dict[str, Any]:
    """The TOML table of a robot file.

    Raises:
        AlulaError: too large, or not readable as TOML.
    """
    try:
        return tomllib.loads(read_text(path, f"robot file {path}", "TOML"))
    except tomllib.TOMLDecodeError as e:
        raise AlulaError(f"robot file {path}: not readable as TOML: {e}") from None


def read_text(path: Path, what: str, form: str) -> str:
    """The text of a file; `what` it is and its `form` are for error messages.

    Raises:
        AlulaError: too large, or not readable.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise AlulaError(f"{what}: larger than {MAX_FILE_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise AlulaError(f"{what}: not readable as {form}: {e}") from None
