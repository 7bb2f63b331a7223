"""The C compiler of this computer."""

import os
import shlex
import shutil

from alula.errors import AlulaError


def find_compiler() -> list[str]:
    """The C compiler's command: $CC where set, else the first of cc, gcc and clang.

    Raises:
        AlulaError: there is none.
    """
    chosen = os.environ.get("CC", "").strip()
    try:
        candidates = [shlex.split(chosen)] if chosen else [["cc"], ["gcc"], ["clang"]]
    except ValueError:
        raise AlulaError(f"CC is {chosen!r}; allowed: a compiler command") from None
    for command in candidates:
        if shutil.which(command[0]):
            return command
    tried = ", ".join(command[0] for command in candidates)
    raise AlulaError(f"no C compiler found (tried {tried}); install gcc or clang, or set CC")
