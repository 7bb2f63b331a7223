"""The command line: what can be asked for, and how answers and errors are said.

Nothing heavy is imported here; a command's own imports happen when it runs. Exit codes: 0 done, 1 a check failed,
2 bad input, 130 interrupted, 143 terminated.
"""

import inspect
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, assert_never

import tyro

from alula import __version__
from alula.command_base import Outcome
from alula.errors import AlulaError
from alula.options import (
    COMMANDS,
    Bench,
    CheckSim,
    Command,
    Evaluate,
    Export,
    Flightlog,
    Fly,
    Identify,
    Inspect,
    Presets,
    Robots,
    Sweep,
    Train,
)

ABOUT = """usage: alula COMMAND [OPTIONS]

Train control policies for quadrotors in simulation and put them on real ones.

  alula fly                     train, check in two simulators, export, report
  alula fly --log flight.usd    the same for the robot that flew this log
  alula COMMAND --help          explains a command and shows examples

commands:
{commands}

  --json after any command ends standard output with the result as one JSON object.
  --version prints the version.

exit codes: 0 done, 1 a check failed, 2 bad input, 130 interrupted, 143 terminated"""


INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    terminated: list[int] = []

    def terminate(number: int, frame: object) -> NoReturn:
        # As Ctrl-C: what was finished is kept, what is half-written is removed on the way out.
        terminated.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    code = _main(arguments)
    return 128 + terminated[0] if terminated and code == INTERRUPTED else code


def _main(arguments: Sequence[str] | None) -> int:
    try:
        command = parse(sys.argv[1:] if arguments is None else arguments)
        if command is None:
            return 0
        return _say(run(command), as_json=command.json)
    except AlulaError as e:
        return _error(e, str(e))
    except BrokenPipeError:
        # The reader of our output has gone; nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as e:
        named = f"{e.filename}: " if e.filename else ""
        return _error(e, f"{named}{e.strerror or e}")
    except KeyboardInterrupt as e:
        print(
            "; ".join(["alula: interrupted", *filter(None, [str(e)]), *_notes(e)]), file=sys.stderr
        )
        return INTERRUPTED


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
        case Sweep():
            return commands.sweep(command)
        case Evaluate():
            return commands.evaluate(command)
        case Identify():
            return commands.identify(command)
        case Export():
            return commands.export(command)
        case Flightlog():
            return commands.flightlog(command)
        case Inspect():
            return commands.inspect(command)
        case Bench():
            return commands.bench(command)
        case CheckSim():
            return commands.check_sim(command)
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
    if outcome.interrupted:
        print(f"alula: interrupted; {outcome.interrupted}", file=sys.stderr)
        return INTERRUPTED
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


def _error(error: BaseException, message: str) -> int:
    message = "; ".join([message, *_notes(error)])
    print(f"alula: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def _summary(kind: type) -> str:
    return (kind.__doc__ or "").splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
