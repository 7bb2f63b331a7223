"""The folder of a run's results: complete or absent, never half-written."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alula.errors import AlulaError
from alula.robots.files import find_robot, read_table

RESULT = "result.json"
"""Written into every finished folder; only folders that hold it are ever replaced."""
CONFIG = "config.json"
"""Marks the folder of a training, whatever else is in it."""
POLICY = "policy.onnx"
"""The policy file in it."""
CHECKPOINT = "checkpoint.npz"
"""What an unfinished training goes on from."""
ROBOT_FILE = "robot.toml"
"""The robot that the policy is for."""


def default_folder(name: str) -> Path:
    """A folder below ./runs that does not exist yet, named after the time."""
    base = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    out, n = base, 1
    while out.exists():
        n += 1
        out = base.with_name(f"{base.name}-{n}")
    return out


@contextmanager
def run_folder(out: Path, *, mark: str, overwrite: bool = False) -> Iterator[Path]:
    """Yield a hidden folder beside `out` that takes its place when the block ends.

    On Ctrl-C it is kept, as `out`, if it already holds a policy. On any other error it stays where it is, which is
    noted on the error, if it holds a checkpoint to go on from, and is removed otherwise.

    Args:
        out: a new or empty folder.
        mark: a file that every folder of this kind holds, CONFIG for a training's; no other folder is replaced.
        overwrite: replace an earlier folder of this kind.

    Raises:
        AlulaError: `out` is not a new or empty folder, nor one that may be replaced, or cannot be made.
    """
    out = Path(os.path.abspath(out))
    _check(out, mark=mark, overwrite=overwrite)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    made = [p for p in (out.parent, *out.parent.parents) if not p.exists()]
    try:
        partial.mkdir(parents=True)
    except OSError as e:
        raise AlulaError(
            f"output folder {out} cannot be made: {e.strerror}; allowed: a writable place"
        ) from None
    try:
        yield partial
        _publish(partial, out)
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt) and (partial / POLICY).is_file():
            write_json(partial / RESULT, {"interrupted": True})
            _publish(partial, out)
            raise KeyboardInterrupt(f"the best policy so far is {out / POLICY}") from None
        if (partial / CHECKPOINT).is_file():
            e.add_note(f"the training so far is kept, to go on from with --resume {partial}")
        raise
    finally:
        if not (partial / CHECKPOINT).is_file():
            shutil.rmtree(partial, ignore_errors=True)
        for folder in made:
            if not any(folder.iterdir()):
                folder.rmdir()


def keep_robot_file(name_or_path: str | Path, folder: Path) -> None:
    """Copy a robot file that has been read without complaint, and the model beside it, into the folder of a run."""
    source = find_robot(name_or_path, "multirotor", "arm")
    shutil.copyfile(source, folder / ROBOT_FILE)
    if model := read_table(source).get("model"):
        shutil.copyfile(source.parent / model, folder / model)


def write_json(path: Path, value: Any) -> None:
    """Write plain values as JSON for people to read."""
    path.write_text(json.dumps(value, indent=2, default=str) + "\n", encoding="utf-8")


def _check(out: Path, *, mark: str, overwrite: bool) -> None:
    if not os.path.lexists(out):
        return
    if not out.is_dir() or out.is_symlink():
        raise AlulaError(f"output folder {out} is not a folder; allowed: a new or empty folder")
    if os.path.ismount(out):
        raise AlulaError(f"output folder {out} is a mount point; allowed: a folder below it")
    if not any(out.iterdir()):
        return
    if not overwrite:
        raise AlulaError(
            f"output folder {out} exists and is not empty; allowed: a new or empty folder, or --overwrite"
        )
    if not (out / RESULT).is_file():
        raise AlulaError(
            f"output folder {out} was not made by alula (no {RESULT}); "
            "--overwrite replaces only folders of earlier runs"
        )
    # The report of `alula fly` has the name of others, and lies beside a policy.
    training = (out / CONFIG).is_file()
    if training != (mark == CONFIG) or not (out / mark).is_file():
        kind = "holds a training" if training else f"has no {mark}"
        raise AlulaError(
            f"output folder {out} {kind}; --overwrite replaces only folders of the same kind"
        )


def _publish(partial: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)
