"""C source -> shared library, compiled once by the system's compiler and kept in a cache folder."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
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
    if not _intact(library):
        _compile(cc, main, headers, generated, library)
    try:
        return ctypes.CDLL(str(library))
    except OSError as e:
        raise AlulaError(f"cannot load compiled kernels: {e}; set ALULA_CACHE") from None


def _intact(library: Path) -> bool:
    """Whether the file is whole: loading a truncated one would kill the process."""
    try:
        data = library.read_bytes()
    except OSError:
        return False
    return data[-32:] == hashlib.sha256(data[:-32]).digest()


def _compile(
    cc: list[str], main: Path, headers: tuple[Path, ...], generated: str, library: Path
) -> None:
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as name:
            work = Path(name)
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
            # The loader ignores what follows the library; `_intact` looks for it.
            data = built.read_bytes()
            built.write_bytes(data + hashlib.sha256(data).digest())
            os.replace(built, library)
    except OSError as e:
        raise AlulaError(
            f"cannot write compiled kernels to {library.parent}: {e.strerror}; set ALULA_CACHE"
        ) from None


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return "".join(sorted({x for x in lines if x.startswith(("model name", "flags", "Features"))}))
