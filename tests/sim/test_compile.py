"""compile.py: kernels are compiled once, kept, and made again where the kept one is of no use."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alula.c_compiler import find_compiler
from alula.errors import AlulaError
from alula.sim import compile as module
from alula.sim.compile import cache_dir, compile_library

CC = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


class Workshop:
    """A source, a cache of its own, and a compiler that keeps count."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.cache = folder, folder / "cache" / "deep"
        self.main, self.header, self.log = (folder / x for x in ("lib.c", "part.h", "log"))
        self.main.write_text(
            '#include "generated.h"\n#include "part.h"\nint answer(void) { return ANSWER + PART; }\n'
        )
        self.header.write_text("#define PART 2\n")
        cc = folder / "counting-cc"
        cc.write_text(f'#!/bin/sh\necho call >> "{self.log}"\nexec {CC} "$@"\n')
        cc.chmod(0o755)
        monkeypatch.setenv("CC", str(cc))
        monkeypatch.setenv("ALULA_CACHE", str(self.cache))

    def make(self, generated: str = "#define ANSWER 40\n") -> ctypes.CDLL:
        return compile_library(self.main, (self.header,), generated)

    @property
    def compilations(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0

    def files(self) -> list[Path]:
        return sorted(self.cache.iterdir()) if self.cache.exists() else []


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return Workshop(tmp_path, monkeypatch)


def test_a_second_use_does_not_compile(workshop: Workshop) -> None:
    assert workshop.make().answer() == 42
    assert workshop.make().answer() == 42
    assert workshop.compilations == 1
    assert [f.suffix for f in workshop.files()] == [".so"], "no temporary folder stays"


def test_every_source_belongs_to_the_key(workshop: Workshop, monkeypatch) -> None:
    workshop.make()
    assert workshop.make("#define ANSWER 41\n").answer() == 43
    workshop.header.write_text("#define PART 3\n")
    assert workshop.make().answer() == 43
    workshop.main.write_text(workshop.main.read_text() + "/* */")
    workshop.make()
    monkeypatch.setattr(module, "FLAGS", (*module.FLAGS, "-DOTHER"))
    workshop.make()
    monkeypatch.setattr(module, "_processor", lambda: "another")
    workshop.make()
    assert workshop.compilations == 6
    assert len(workshop.files()) == 6


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"not a library",
        lambda data: data[: len(data) // 2],  # loading this one would end the process
        lambda data: data[:-1],
        lambda data: data.replace(b"answer", b"answes"),
    ],
    ids=["empty", "text", "half", "shorter", "changed"],
)
def test_a_damaged_library_is_made_again(workshop: Workshop, monkeypatch, damage) -> None:
    with monkeypatch.context() as patch:  # compiled, but not loaded into this process yet
        patch.setattr(module.ctypes, "CDLL", lambda path: None)
        workshop.make()
    (library,) = workshop.files()
    library.write_bytes(damage(library.read_bytes()))
    assert workshop.make().answer() == 42
    assert workshop.compilations == 2


def test_a_library_that_cannot_be_loaded_at_all(workshop: Workshop, monkeypatch) -> None:
    def refuse(path: str) -> None:  # as on a file system mounted noexec
        raise OSError(f"{path}: failed to map segment from shared object")

    monkeypatch.setattr(module.ctypes, "CDLL", refuse)
    with pytest.raises(AlulaError, match="ALULA_CACHE"):
        workshop.make()


def test_an_error_of_the_compiler_is_shown_and_leaves_nothing(workshop: Workshop) -> None:
    with pytest.raises(AlulaError, match=r"could not compile lib\.c: .*error.*ANSWER"):
        workshop.make("")
    assert workshop.files() == []


def test_no_compiler(workshop: Workshop, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("CC")
    with pytest.raises(AlulaError, match="no C compiler found"):
        find_compiler()
    with pytest.raises(AlulaError, match="no C compiler found"):
        workshop.make()


def test_a_cache_that_cannot_be_made(workshop: Workshop, monkeypatch, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ALULA_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(AlulaError, match=r"cannot write compiled kernels .* set ALULA_CACHE"):
        workshop.make()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_cache_that_cannot_be_written(workshop: Workshop) -> None:
    workshop.cache.mkdir(parents=True)
    workshop.cache.chmod(0o555)
    with pytest.raises(AlulaError, match="cannot write compiled kernels"):
        workshop.make()


def test_where_the_cache_is(monkeypatch) -> None:
    monkeypatch.setenv("ALULA_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_dir() == Path("/a")
    monkeypatch.delenv("ALULA_CACHE")
    assert cache_dir() == Path("/x/alula")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path("/home/me/.cache/alula")


def test_two_processes_may_compile_at_once(workshop: Workshop) -> None:
    code = (
        "from pathlib import Path; from alula.sim.compile import compile_library as c; "
        f"print(c(Path({str(workshop.main)!r}), (Path({str(workshop.header)!r}),), '#define ANSWER 40').answer())"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [r.communicate()[0].strip() for r in runs] == ["42", "42"]
    assert len(workshop.files()) == 1
