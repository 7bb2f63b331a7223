"""C source -> shared library, compiled once by the system's compiler and kept in a cache folder."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alula.c_compiler import find_compiler
from alula.errors import AlulaError

# No -ffast-math: the kernels round and test for NaN on purpose. Fused multiply-add and vector square roots
# need only the flags below.
FLAGS = (
    "-std=gnu11", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math",
    "-fPIC", "-shared",
)  # fmt: skip


def cache_dir() -> Path:
    """Folder of compiled kernels: $ALULA_CACHE, else $XDG_CACHE_HOME/alula, else ~/.cache/alula."""
    if os.environ.get("ALULA_CACHE"):
        return Path(os.environ["ALULA_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alula"


def compile_library(main: Path, headers: tuple[Path, ...], generated: str) -> ctypes.CDLL:
    """Load the library of `main` and `generated.h`, compiling it unless the cache holds it.

    The cache key covers every source, the flags, the compiler and the processor, so that a library is never
    run where it does not belong.
    """
    cc = find_compiler()
    sources = [main.read_text(), *(h.read_text() for h in headers), generated]
    program = shutil.which(cc[0]) or cc[0]
    made = str(os.stat(program).st_mtime_ns)  # another version of the compiler has another date
    identity = [*sources, *FLAGS, *cc, program, made, _processor()]
    key = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:24]
    folder = cache_dir()
    library = folder / f"{main.stem}-{key}.so"
    if kept(library) is None:
        _compile(cc, main, headers, generated, library)
    try:
        return ctypes.CDLL(str(library))
    except OSError as e:
        raise AlulaError(f"cannot load compiled kernels: {e}; set ALULA_CACHE") from None


def kept(path: Path) -> bytes | None:
    """What `keep` wrote; None where it is not there or not whole: running a truncated one would kill the process."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data[:-32] if data[-32:] == hashlib.sha256(data[:-32]).digest() else None


def keep(path: Path, data: bytes) -> None:
    """Write to the cache, whole or not at all.

    Raises:
        AlulaError: cannot be written.
    """
    with room_for(path) as work:
        whole = work / path.name
        # The loader ignores what follows a library; `kept` looks for it.
        whole.write_bytes(data + hashlib.sha256(data).digest())
        os.replace(whole, path)


@contextmanager
def room_for(path: Path) -> Iterator[Path]:
    """A folder for what becomes `path`, beside it; says how to help oneself where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as work:
            yield Path(work)
    except OSError as e:
        raise AlulaError(
            f"cannot write compiled kernels to {path.parent}: {e.strerror}; set ALULA_CACHE"
        ) from None


def _compile(
    cc: list[str], main: Path, headers: tuple[Path, ...], generated: str, library: Path
) -> None:
    with room_for(library) as work:
        for source in (main, *headers):
            shutil.copy(source, work / source.name)
        (work / "generated.h").write_text(generated)
        built = work / library.name
        done = subprocess.run(
            [*cc, *FLAGS, "-o", str(built), str(work / main.name), "-lm"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            first = next(
                (line for line in done.stderr.splitlines() if "error:" in line), done.stderr
            )
            raise AlulaError(f"{cc[0]} could not compile {main.name}: {first.strip()}")
        keep(library, built.read_bytes())


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return "".join(sorted({x for x in lines if x.startswith(("model name", "flags", "Features"))}))
