"""The request of a sweep, and the folder that is made for it and for no other."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import alula
from alula.build import build_robot
from alula.errors import AlulaError
from alula.policies.files import read_bounded, write_files
from alula.presets import Preset
from alula.run_folder import keep_robot_file
from alula.settings import grid
from alula.sweep.run import REQUEST
from alula.training.population import check_ranges

MAX_SEEDS = 1000

Search = Literal["grid", "population"]


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """What is asked of a sweep; everything that decides its results."""

    preset: Preset
    """What to train."""
    robot: str
    """Robot name or file."""
    seeds: int
    """Fresh seeds with which what was chosen is trained and stated."""
    settings: dict[str, list[Any]]
    """Values of each setting: all of a grid, or lowest and highest of a population."""
    search: Search
    """How the settings are chosen."""
    tuning_seeds: int
    """Seeds of each point of a grid; 0 chooses nothing and states every point."""
    population: int
    """Members of a population."""
    generations: int
    """Parts of a member's training, after each of which the worst give up."""
    episodes: int
    """Episodes of each evaluation."""
    randomized: bool
    """Evaluate over the whole range of the training instead of the robot as its file says."""

    def __post_init__(self) -> None:
        bounds = {
            "seeds": (1, MAX_SEEDS),
            "tuning_seeds": (0, MAX_SEEDS),
            "population": (4, 1000),
            "generations": (2, min(1000, self.preset.algo.updates)),
            "episodes": (1, 100_000),
        }
        for name, (low, high) in bounds.items():
            # A population alone has them.
            asked = self.search == "population" or name not in ("population", "generations")
            if asked and not low <= getattr(self, name) <= high:
                raise AlulaError(f"{name} is {getattr(self, name)}; allowed: {low} to {high}")
        if self.search == "population":
            for name, values in self.settings.items():
                if len(values) != 2 or not all(isinstance(v, float) for v in values):
                    raise AlulaError(
                        f"{name} has the values {values}; allowed in a population: lowest and highest of a number "
                        "that is not whole"
                    )
            check_ranges(self.ranges)
        else:
            grid(self.settings)

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest value of each setting of a population."""
        return {name: (values[0], values[1]) for name, values in self.settings.items()}

    def request(self) -> str:
        """The request as JSON text, the same for the same request."""
        table = asdict(self) | {"version": alula.__version__}
        table["robot"] = {"hash": build_robot(self.preset, self.robot).hash}
        if self.search == "grid":
            del table["population"], table["generations"]
        return json.dumps(table, indent=2, sort_keys=True) + "\n"


def default_sweep_folder(config: SweepConfig) -> Path:
    """The same folder for the same request, so that the same command goes on in it."""
    digest = hashlib.sha256(config.request().encode()).hexdigest()[:8]
    return Path("runs") / f"sweep-{config.preset.name}-{digest}"


def claim(out: Path, config: SweepConfig) -> None:
    """Make the folder with request and robot file, or see that it has just this request."""
    request = config.request()
    path = out / REQUEST
    if path.is_file():
        there = read_bounded(path, kind="request", max_bytes=1_000_000).decode("utf-8", "replace")
        if there != request:
            raise AlulaError(
                f"sweep folder {out} was made for another request: {_difference(there, request)}; "
                "allowed: the same request, or another --out"
            )
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise AlulaError(
            f"output folder {out} exists and is not a sweep's (no {REQUEST}); allowed: a new or empty folder"
        )
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        write_files(partial, {REQUEST: request.encode()})
        keep_robot_file(config.robot, partial)
        if out.is_dir():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _difference(there: str, here: str) -> str:
    """The first thing in which two requests differ."""
    try:
        old, new = json.loads(there), json.loads(here)
        names = [k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k)]
    except (ValueError, AttributeError):
        return "its request cannot be read"
    if not names:
        return "its text differs"
    name = names[0]
    if name in ("preset", "robot"):
        return f"another {name}, or the same with other numbers"
    return f"{name} is {old.get(name)} there and {new.get(name)} here"


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """One sweep at a time in a folder; the lock ends with the process, however that ends."""
    with (out / REQUEST).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlulaError(
                f"sweep folder {out} is in use; allowed: one alula sweep in a folder"
            ) from None
        yield
