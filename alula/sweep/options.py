"""What `alula sweep` can be asked for; field docstrings are the command line's help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from alula.command_base import Common

_Count = Annotated[int, tyro.conf.arg(metavar="N")]


@dataclass(frozen=True, kw_only=True)
class Sweep(Common):
    """Train a preset with many seeds and settings, choose the settings by some seeds, state results of others.

    Runs on Ray: this machine's cores, or a cluster by its address. What was killed, be it a worker or all of it, goes on
    from the last checkpoint when the same command is given again. Needs pip install 'alula[scale]'.

    Examples:
      alula sweep l2f-hover --seeds 10
      alula sweep panda-reach --seeds 10 --set algo.learning_rate=1e-3,3e-3 --set algo.hidden=[64,64],[128,128]
      alula sweep panda-reach --search population --set algo.learning_rate=3e-4,3e-3 --set algo.clip=0.1,0.3
      alula sweep panda-reach --seeds 10 --address auto --out /shared/reach
    """

    preset: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PRESET")]
    """Named experiment; `alula presets` lists them."""
    seeds: _Count = 10
    """Fresh seeds with which what was chosen is trained and stated."""
    settings: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(name="set", metavar="SETTING=VALUE,..."),
    ] = ()
    """A setting of the learner and its values: all of them in a grid, lowest and highest in a population, where one value
    is the same for all members. May be repeated."""
    search: Literal["grid", "population"] = "grid"
    """How the settings are chosen: every combination, or members that follow the best while they learn."""
    tuning_seeds: _Count = 3
    """Seeds of each point of a grid to choose by; 0 chooses nothing and states every point."""
    population: _Count = 8
    """Members of a population."""
    generations: _Count = 10
    """Parts of a population's training; after each the worst quarter follow the best."""
    episodes: _Count = 500
    """Episodes of each evaluation."""
    randomized: bool = False
    """Evaluate over the whole range of the training, instead of the robot as it is."""
    robot: Annotated[str | None, tyro.conf.arg(metavar="ROBOT")] = None
    """Robot name or file in place of the preset's."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Most runs at once. Default: one for each core."""
    address: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """Ray cluster to run on, or auto for this machine's; all its machines must share --out. Default: this machine."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for all runs and tables. Default: runs/sweep-PRESET-HASH, the same for the same request."""
    checkpoint_every_s: Annotated[float, tyro.conf.arg(metavar="S")] = 0.0
    """Least time between two checkpoints of a run [s]; 0 writes one after every update."""
    dashboard: bool = False
    """Show Ray's dashboard on this machine's loopback interface; needs pip install 'ray[default]'."""
