"""Text that is safe inside C: identifiers, comments and float literals, whatever a file says."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

RESERVED_WORDS = """
    alignas alignof and and_eq asm atomic_cancel atomic_commit atomic_noexcept auto bitand bitor bool
    break case catch char char16_t char32_t char8_t class co_await co_return co_yield compl concept
    const const_cast consteval constexpr constinit continue decltype default delete do double
    dynamic_cast else enum explicit export extern false float for friend goto if inline int long
    mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public
    reflexpr register reinterpret_cast requires restrict return short signed sizeof static
    static_assert static_cast struct switch synchronized template this thread_local throw true try
    typedef typeid typename typeof typeof_unqual union unsigned using virtual void volatile wchar_t
    while xor xor_eq linux unix i386 arm mips sparc vax sun near far errno
"""
"""Lower-case words of C99 to C23 and C++ to C++23, and macros that compilers predefine."""
MAX_IDENTIFIER = 48
MAX_COMMENT = 100


def identifiers(names: Iterable[str]) -> list[str]:
    """Distinct lower-case C identifiers for arbitrary names, in order.

    Letters, digits and underscores stay; anything else becomes an underscore; reserved words get one
    appended; equal results are numbered.
    """
    taken: set[str] = set()
    result = []
    for name in names:
        word = re.sub(r"[^a-z0-9_]", "_", name.lower(), flags=re.ASCII)[:MAX_IDENTIFIER].strip("_")
        if not word or word[0].isdigit():
            word = f"n{word}"
        if word in RESERVED_WORDS.split():
            word += "_"
        unique, number = word, 2
        while unique in taken:
            unique, number = f"{word}_{number}", number + 1
        taken.add(unique)
        result.append(unique)
    return result


def comment(text: str) -> str:
    """Text that can neither end a comment, nor start one, nor continue a line.

    Only ASCII letters, digits, spaces and a few signs stay: no star, quote, backslash, question mark
    (trigraphs), at-sign (template marks), newline or control character.
    """
    return re.sub(r"[^A-Za-z0-9 _.,:;/+^()%=<>-]", "_", text)[:MAX_COMMENT]


def c_float(value: float | np.floating) -> str:
    """The shortest decimal literal that a C compiler reads back as this float32."""
    # str of a numpy float32 is its shortest exact decimal, and always has a point or an exponent.
    return f"{np.float32(value)!s}f"


def fill(template: Path, marks: Mapping[str, str]) -> str:
    """A template with every `@MARK@` replaced, in one pass: inserted text is not looked at."""
    text = template.read_text(encoding="ascii")
    return re.sub(r"@([A-Z0-9_]+)@", lambda match: marks[match.group(1)], text)


def table(name: str, values: ArrayLike, note: str) -> str:
    """A flat `static const float` array with a comment."""
    flat = [f"{v!s}f" for v in np.asarray(values, np.float32).ravel()]
    rows = ",\n    ".join(", ".join(flat[i : i + 8]) for i in range(0, len(flat), 8))
    return f"/* {note} */\nstatic const float {name}[{len(flat)}] = {{\n    {rows}}};"


def word_table(name: str, values: ArrayLike, note: str) -> str:
    """A flat `static const uint32_t` array with a comment."""
    flat = [f"0x{v:08x}u" for v in np.asarray(values, np.uint32).ravel()]
    rows = ",\n    ".join(", ".join(flat[i : i + 8]) for i in range(0, len(flat), 8))
    return f"/* {note} */\nstatic const uint32_t {name}[{len(flat)}] = {{\n    {rows}}};"
