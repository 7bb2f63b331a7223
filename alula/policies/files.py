"""Bounded reading and all-or-nothing writing of files."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from alula.errors import AlulaError


def read_bounded(path: str | Path, *, kind: str, max_bytes: int) -> bytes:
    """The whole of a regular file that is at most `max_bytes` long.

    Args:
        path: the file.
        kind: what it should be, for the error message ("policy file").
        max_bytes: largest size that is read.

    Raises:
        AlulaError: no such file, not a regular file, too large, or not readable.
    """
    path = Path(path)
    try:
        # Asked before opening: opening a named pipe would wait for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise AlulaError(f"{kind} {path}: not a regular file")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except (OSError, ValueError) as e:
        if isinstance(e, AlulaError):
            raise
        raise AlulaError(f"{kind} {path}: cannot be read: {_reason(e)}") from None
    if len(data) > max_bytes:
        raise AlulaError(f"{kind} {path}: larger than the allowed {max_bytes} bytes")
    return data


def write_files(
    folder: str | Path,
    files: Mapping[str, bytes],
    *,
    overwrite: bool = False,
    lasting: bool = True,
) -> None:
    """Write all files into a folder or none of them; the folder is made where it is missing.

    Everything is first written and flushed to temporary files in the same folder, so a full disk is
    met before any name appears, and then moved into place.

    Args:
        folder: where to.
        files: content by file name, which may lie in folders below: src/policy.c.
        overwrite: replace files that exist.
        lasting: the files outlive a power failure, too; without it they outlive the process and are written sooner.

    Raises:
        AlulaError: a file exists and `overwrite` is false, or the folder cannot be written.
    """
    folder = Path(folder)
    staged: dict[Path, Path] = {}
    made: list[Path] = []
    try:
        for parent in sorted({(folder / name).parent for name in files} | {folder}):
            made[:0] = _make_folders(parent)
        for name in files:
            target = folder / name
            if target.is_dir():
                raise AlulaError(f"{target} is a folder; allowed: a file name")
            if not overwrite and os.path.lexists(target):
                raise AlulaError(f"{target} exists; allowed: a new name, or overwrite")
        for name, data in files.items():
            target = folder / name
            temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
            staged[temporary] = target
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                if lasting:
                    os.fsync(file.fileno())
        for temporary, target in staged.items():
            temporary.replace(target)
    except BaseException as e:  # Ctrl-C included: nothing half-written may stay.
        for temporary in staged:
            temporary.unlink(missing_ok=True)
        for path in made:
            _remove_if_empty(path)
        if isinstance(e, AlulaError) or not isinstance(e, OSError | ValueError):
            raise
        raise AlulaError(f"{folder} cannot be written: {_reason(e)}") from None


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and its parents; returns those which were new, innermost first."""
    try:
        missing = [p for p in (folder, *folder.parents) if not os.path.lexists(p)]
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as e:
        raise AlulaError(f"{folder} cannot be made: {_reason(e)}") from None
    return missing


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # Somebody else put a file there meanwhile: it is theirs now.


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).splitlines()[0]
