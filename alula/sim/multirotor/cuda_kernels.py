"""Compiles kernels for GPUs: the sources of the CPU's kernels and NVRTC, NVIDIA's compiler at run time.

Nothing here needs a GPU; `cuda.py` launches what comes out.
"""

import ctypes
import hashlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from alula.errors import AlulaError
from alula.sim.compile import cache_dir, keep, kept
from alula.sim.multirotor.kernels import HEADERS, HERE, Features, RowCounts, generate
from alula.sim.sensors import SENSED_SIZE

# What C declares without a word is for the GPU.
FLAGS = ("--std=c++17", "--fmad=true", "--device-as-default-execution-space")


@dataclass(frozen=True, kw_only=True)
class Program:
    """Kernels in CUDA C++."""

    source: Path
    """The file that has them."""
    headers: tuple[Path, ...]
    """What it includes beside generated.h."""
    threads: int
    """Threads of a block, as it says itself."""


SIMULATOR = Program(
    source=HERE / "simulator.cu", headers=(HERE / "thread.h", *HEADERS), threads=128
)


class Exchange(ctypes.Structure):
    """The C structure `Exchange` of simulator.cu, field by field."""

    _fields_ = [
        ("action", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("action_row", "action_env", "action_step")),
        *((name, ctypes.c_int64) for name in ("steps", "auto_reset", "every_step")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "cursor", "observation", "privileged", "final_observation", "final_privileged",
                "observed", "reward", "terminated", "truncated",
            )
        ),
    ]  # fmt: skip


def shared_structure(rows: RowCounts) -> type[ctypes.Structure]:
    """The C structure `Shared` of simulator.cu for a kind of robot and a task; arrays have room for one at least."""
    sizes = {
        "nominal": rows.params,
        "uniform": rows.uniform,
        "noise": SENSED_SIZE,
        "weights": rows.weights,
    }
    fields = [(name, ctypes.c_float * max(size, 1)) for name, size in sizes.items()]
    return type("Shared", (ctypes.Structure,), {"_fields_": fields})


def sources(features: Features, task: ModuleType, program: Program = SIMULATOR) -> dict[str, str]:
    """Every source of the kernels by name, the program itself first."""
    files = (program.source, *program.headers)
    return {f.name: f.read_text() for f in files} | {"generated.h": generate(features, task)}


def compile_cuda(
    features: Features, task: ModuleType, architecture: str, program: Program = SIMULATOR
) -> bytes:
    """Machine code for "sm_90" and the like, PTX for "compute_90", from the cache if it is there.

    Raises:
        AlulaError: the compiler is not installed, does not know the architecture, or refuses the sources.
    """
    nvrtc = _nvrtc()
    texts = sources(features, task, program)
    version = ".".join(map(str, _call(nvrtc, "nvrtcVersion")))
    identity = [*texts, *texts.values(), *FLAGS, architecture, version]
    key = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:24]
    kind = "cubin" if architecture.startswith("sm_") else "ptx"
    path = cache_dir() / f"{program.source.stem}-{key}.{kind}"
    code = kept(path)
    if code is None:
        code = _compile(nvrtc, texts, architecture)
        keep(path, code)
    return code


def _nvrtc() -> Any:
    try:
        nvrtc: Any = import_module("cuda.bindings.nvrtc")
        nvrtc.nvrtcVersion()  # loads the library
    except (ImportError, RuntimeError):  # pathfinder's "not found" is a RuntimeError
        raise AlulaError(
            "NVIDIA's compiler NVRTC is not installed; allowed: after pip install 'alula[cuda]'"
        ) from None
    return nvrtc


def _compile(nvrtc: Any, texts: dict[str, str], architecture: str) -> bytes:
    name, *headers = texts
    encoded = [texts[h].encode() for h in headers]
    (program,) = _call(
        nvrtc, "nvrtcCreateProgram", texts[name].encode(), name.encode(),
        len(headers), encoded, [h.encode() for h in headers],
    )  # fmt: skip
    try:
        options = [f"--gpu-architecture={architecture}".encode(), *(f.encode() for f in FLAGS)]
        (error,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            log = _text(nvrtc, "ProgramLog", program).decode(errors="replace")
            first = next((line for line in log.splitlines() if "error" in line), log)
            raise AlulaError(f"NVRTC could not compile {name} for {architecture}: {first.strip()}")
        if architecture.startswith("sm_"):
            return _text(nvrtc, "CUBIN", program)
        return _text(nvrtc, "PTX", program).rstrip(b"\0")
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _text(nvrtc: Any, what: str, program: Any) -> bytes:
    (size,) = _call(nvrtc, f"nvrtcGet{what}Size", program)
    room = b" " * size
    _call(nvrtc, f"nvrtcGet{what}", program, room)
    return room


def _call(nvrtc: Any, function: str, *arguments: Any) -> tuple:
    error, *results = getattr(nvrtc, function)(*arguments)
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise AlulaError(f"{function} failed: {error.name}")
    return tuple(results)
