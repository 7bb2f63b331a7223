"""The command line: what can be asked for, and how answers and errors are said.

Nothing heavy is imported here; a command's own imports happen when it runs. Exit codes: 0 done, 1 a check failed,
2 bad input, 130 interrupted.
"""

import inspect
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, assert_never

import tyro

from alula import __version__
from alula.errors import AlulaError

_Kg = Annotated[float, tyro.conf.arg(metavar="KG")]
_Seed = Annotated[int, tyro.conf.arg(metavar="N")]
_Dir = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]
_File = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
_From = Annotated[float | None, tyro.conf.arg(name="from", metavar="S")]
_To = Annotated[float | None, tyro.conf.arg(name="to", metavar="S")]
_Columns = Annotated[tuple[str, ...], tyro.conf.arg(metavar="OURS=THEIRS ...")]
_PresetName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PRESET")]
_PolicyFile = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="POLICY")]
_LogFile = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="LOG")]


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every command takes."""

    json: bool = False
    """End standard output with one line: the result as a JSON object."""


@dataclass(frozen=True, kw_only=True)
class Fly(Common):
    """The main job: train a policy, check it in two simulators, export it, write a report.

    With --log the robot is first identified from that flight log and replaces the preset's robot.
    Ends with exit code 1 and names the check if the policy fails one.

    Examples:
      alula fly
      alula fly --preset l2f-hover --seed 1 --out runs/benchmark
      alula fly --log flight.usd --mass 0.031
    """

    preset: Annotated[str, tyro.conf.arg(metavar="PRESET")] = "crazyflie-hover"
    """Named experiment; `alula presets` lists them."""
    log: _File = None
    """Flight log to identify the robot from: Crazyflie uSD, CSV, parquet or PX4 ULog, also .xz."""
    mass: _Kg = 0.027
    """Take-off mass of the robot in the log [kg]; the default is a bare Crazyflie 2.x."""
    from_s: _From = None
    """First second of the log to use [s]."""
    to_s: _To = None
    """Last second of the log to use [s]."""
    columns: _Columns = ()
    """Names of the log's columns where they are not alula's, as in `alula identify`."""
    seed: _Seed = 0
    """Seed of the training; evaluation draws other numbers."""
    out: _Dir = None
    """Folder for all results; must be new or empty. Default: runs/PRESET-TIME."""
    overwrite: bool = False
    """Replace the folder of an earlier run."""


@dataclass(frozen=True, kw_only=True)
class Train(Common):
    """Train a preset and write its policy file, without the checks and the report of `alula fly`.

    Ctrl-C keeps the best policy so far.

    Examples:
      alula train l2f-hover
      alula train crazyflie-track --seed 3 --out runs/track3
      alula train crazyflie-hover --robot my-robot.toml
    """

    preset: _PresetName
    """Named experiment; `alula presets` lists them."""
    robot: Annotated[str | None, tyro.conf.arg(metavar="ROBOT")] = None
    """Robot name or file in place of the preset's."""
    seed: _Seed = 0
    """Seed of everything random."""
    out: _Dir = None
    """Folder for the policy, its configuration and the training log. Default: runs/PRESET-TIME."""
    overwrite: bool = False
    """Replace the folder of an earlier run."""
    resume: _Dir = None
    """Folder of an interrupted run of the same preset and seed to go on from."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(Common):
    """Fly a policy file in many episodes and state success and errors with 95 % intervals.

    Flight setting and task come from the policy file itself. The robot is the shipped one of the policy's
    name, or the robot.toml that `alula fly` leaves beside the policy.

    Examples:
      alula evaluate runs/benchmark/policy.onnx
      alula evaluate policy.onnx --sim mujoco --episodes 1000
      alula evaluate policy.onnx --robot heavier.toml
      alula evaluate policy.onnx --robot x500 --other-robot
    """

    policy: _PolicyFile
    """Policy file."""
    sim: Literal["multirotor", "mujoco"] = "multirotor"
    """Physics: alula's own kernels, or MuJoCo as the independent second opinion."""
    robot: Annotated[str | None, tyro.conf.arg(metavar="ROBOT")] = None
    """Fly this robot (name or file): a variant of the policy's own, with its name and other numbers."""
    other_robot: bool = False
    """Fly a robot of another name than the policy's all the same, instead of refusing it."""
    episodes: Annotated[int, tyro.conf.arg(metavar="N")] = 1000
    """Number of episodes."""
    seed: _Seed = 0
    """Seed of the episodes; no training seed draws the same ones."""
    randomized: bool = False
    """Draw vehicles and delays over the whole range of the training, instead of the robot as it is."""
    lap: Annotated[float, tyro.conf.arg(metavar="S")] = 5.5
    """Time of one lap of the 2 m x 1 m figure-eight that a tracking policy flies [s]."""


@dataclass(frozen=True, kw_only=True)
class Identify(Common):
    """Estimate a robot's parameters from a flight log and write its robot file.

    Reads Crazyflie uSD v2 logs, PX4 ULog, CSV and parquet, also compressed with xz. What the flight does
    not excite is listed as unobservable and not invented; every estimate comes with its 95 % interval.

    Examples:
      alula identify log10 --mass 0.027 --from 35 --to 65
      alula identify flight.csv --mass 0.031 --columns gyro_x=wx gyro_y=wy gyro_z=wz
    """

    log: _LogFile
    """Flight log."""
    mass: _Kg
    """Take-off mass [kg]; weigh it, as no log contains it."""
    from_s: _From = None
    """First second to use [s]."""
    to_s: _To = None
    """Last second to use [s]."""
    columns: _Columns = ()
    """Names of the log's columns where they are not alula's: alula's name = the log's name."""
    out: _File = None
    """Robot file to write (.toml). Default: ./NAME-OF-LOG.toml."""
    overwrite: bool = False
    """Replace an existing robot file."""


@dataclass(frozen=True, kw_only=True)
class Export(Common):
    """Turn a policy file into what a robot runs, and check it on the golden sequences.

    c writes policy.h and policy.c: dependency-free C99 with static memory. onnx writes the checked file again.

    Examples:
      alula export runs/benchmark/policy.onnx --target c --out firmware/
    """

    policy: _PolicyFile
    """Policy file."""
    target: Literal["onnx", "c"]
    """What to write."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder to write into."""
    overwrite: bool = False
    """Replace files of the same names."""


@dataclass(frozen=True, kw_only=True)
class Inspect(Common):
    """Check a policy file and print its contract: what it observes, what it commands, how it was trained.

    Examples:
      alula inspect runs/benchmark/policy.onnx
    """

    policy: _PolicyFile
    """Policy file."""


@dataclass(frozen=True, kw_only=True)
class Bench(Common):
    """Measure this machine: simulator steps per second on one core, or training time.

    Examples:
      alula bench sim
      alula bench train --repeats 5
    """

    what: Annotated[
        Literal["sim", "train"], tyro.conf.Positional, tyro.conf.arg(metavar="sim|train")
    ]
    """The simulator (RK4, reward, reset, observation) or the training of a preset."""
    preset: Annotated[str, tyro.conf.arg(metavar="PRESET")] = "l2f-hover"
    """Named experiment to measure."""
    repeats: Annotated[int, tyro.conf.arg(metavar="N")] = 5
    """Measurements; the median and the spread are reported."""


@dataclass(frozen=True, kw_only=True)
class Presets(Common):
    """List the named experiments."""


@dataclass(frozen=True, kw_only=True)
class Robots(Common):
    """List the robots that ship with alula; a robot is a TOML file, so your own work as well."""


Command = Fly | Train | Evaluate | Identify | Export | Inspect | Bench | Presets | Robots
COMMANDS: dict[str, type[Command]] = {
    "fly": Fly,
    "train": Train,
    "evaluate": Evaluate,
    "identify": Identify,
    "export": Export,
    "inspect": Inspect,
    "bench": Bench,
    "presets": Presets,
    "robots": Robots,
}
ABOUT = """usage: alula COMMAND [OPTIONS]

Train control policies for quadrotors in simulation and put them on real ones.

  alula fly                     train, check in two simulators, export, report
  alula fly --log flight.usd    the same for the robot that flew this log
  alula COMMAND --help          explains a command and shows examples

commands:
{commands}

  --json after any command ends standard output with the result as one JSON object.
  --version prints the version.

exit codes: 0 done, 1 a check failed, 2 bad input, 130 interrupted"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command has to say."""

    data: dict[str, Any]
    """The result as plain JSON values."""
    text: str
    """The same for people."""
    failures: tuple[str, ...] = ()
    """Checks that failed, one line each; any makes the exit code 1."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    # Terminated like interrupted: what is half-written is removed on the way out.
    signal.signal(signal.SIGTERM, _terminate)
    try:
        command = parse(sys.argv[1:] if arguments is None else arguments)
        if command is None:
            return 0
        return _say(run(command), as_json=command.json)
    except AlulaError as e:
        return _error(str(e))
    except BrokenPipeError:
        # The reader of our output has gone; nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as e:
        named = f"{e.filename}: " if e.filename else ""
        return _error(f"{named}{e.strerror or e}")
    except KeyboardInterrupt as e:
        print(f"alula: interrupted{f'; {e}' if str(e) else ''}", file=sys.stderr)
        return 130


def parse(arguments: Sequence[str]) -> Command | None:
    """The command asked for, or None where help or the version was printed instead.

    A command's own usage errors and its `--help` exit here, with 2 and 0.

    Raises:
        AlulaError: unknown command.
    """
    first = arguments[0] if arguments else "--help"
    if first in ("-h", "--help"):
        print(help_text())
        return None
    if first == "--version":
        print(f"alula {__version__}")
        return None
    if first not in COMMANDS:
        raise AlulaError(f"unknown command {first!r}; known: {', '.join(COMMANDS)}")
    kind = COMMANDS[first]
    return tyro.cli(
        kind,
        prog=f"alula {first}",
        description=inspect.getdoc(kind),
        args=list(arguments[1:]),
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def help_text() -> str:
    """What `alula --help` prints: each command with the first line of its description."""
    width = max(map(len, COMMANDS)) + 4
    commands = [f"  {name:{width}}{_summary(kind)}" for name, kind in COMMANDS.items()]
    return ABOUT.format(commands="\n".join(commands))


def run(command: Command) -> Outcome:
    """Do what was asked for.

    Raises:
        AlulaError: bad input.
    """
    from alula import commands

    match command:
        case Fly():
            return commands.fly(command)
        case Train():
            return commands.train(command)
        case Evaluate():
            return commands.evaluate(command)
        case Identify():
            return commands.identify(command)
        case Export():
            return commands.export(command)
        case Inspect():
            return commands.inspect(command)
        case Bench():
            return commands.bench(command)
        case Presets():
            return commands.presets()
        case Robots():
            return commands.robots()
        case _:
            assert_never(command)


def _say(outcome: Outcome, *, as_json: bool) -> int:
    # With --json standard output holds nothing but the object, so that it can be piped.
    print(outcome.text, file=sys.stderr if as_json else sys.stdout, flush=True)
    for failure in outcome.failures:
        print(f"alula: check failed: {failure}", file=sys.stderr)
    if as_json:
        print(json.dumps(_finite(outcome.data), allow_nan=False), flush=True)
    return 1 if outcome.failures else 0


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null stands for both."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float):
        return value if value - value == 0.0 else None
    return value


def _error(message: str) -> int:
    print(f"alula: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _summary(kind: type) -> str:
    return (kind.__doc__ or "").splitlines()[0]


def _terminate(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
