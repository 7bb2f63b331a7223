"""What every command takes, and what it gives back."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every command takes."""

    json: bool = False
    """End standard output with one line: the result as a JSON object."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command has to say."""

    data: dict[str, Any]
    """The result as plain JSON values."""
    text: str
    """The same for people."""
    failures: tuple[str, ...] = ()
    """Checks that failed, one line each; any makes the exit code 1."""
    interrupted: str = ""
    """What there is all the same, if Ctrl-C or SIGTERM came before the end; makes the exit code 130 or 143."""
