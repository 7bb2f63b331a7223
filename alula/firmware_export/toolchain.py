"""Cross compilers for microcontrollers: which there are, images for them, and what a policy costs there."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from alula.errors import AlulaError

TargetName = Literal["cortex-m4f", "cortex-m7", "riscv32"]
BARE_METAL = Path(__file__).parent / "targets" / "bare_metal"
COMPILE_TIMEOUT_S = 120.0
"""Longest time a tool may take [s]."""
LIBRARY_STACK_BYTES = 64
"""Stack allowed for a routine of the C library or the compiler's own, which leave no report [B]; the
largest met is the 64-bit division of libgcc for Arm, 48 B."""
LIBRARY_ROUTINES = re.compile(r"mem(cpy|move|set)|__\w+")
"""What a policy may leave undefined: string.h, and what the compiler calls by itself."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A processor: how to compile for it, and the board on which the emulator has it."""

    name: TargetName
    """Name on the command line."""
    title: str
    """Name for people."""
    prefix: str
    """What the names of compiler and binutils begin with."""
    flags: tuple[str, ...]
    """Compiler flags that choose processor, calling convention and library."""
    libraries: tuple[str, ...]
    """Files that the compiler must find, as its library is a package of its own."""
    board: str
    """Start-up code `BOARD.c` and linker script `BOARD.ld` in targets/bare_metal."""
    qemu: tuple[str, ...]
    """Emulator and machine."""
    icount_shift: int
    """One instruction takes 2^shift ns of the emulated time when instructions are counted."""
    instructions_per_tick: float
    """Instructions a tick of the board's counter stands for, with that shift."""
    serial_mux: bool
    """Whether the emulator is to read ahead for a serial port without a FIFO."""
    packages: tuple[str, ...]
    """Debian packages of compiler, library and emulator."""


_ARM = {
    "prefix": "arm-none-eabi-",
    "libraries": ("nano.specs", "libc_nano.a"),
    "board": "mps2",
    # A tick is 1 / 25 MHz = 40 ns and an instruction 2^6 = 64 ns.
    "icount_shift": 6,
    "instructions_per_tick": 40.0 / 64.0,
    "serial_mux": True,
    "packages": ("gcc-arm-none-eabi", "libnewlib-arm-none-eabi", "qemu-system-arm"),
}
TARGETS: dict[TargetName, Target] = {
    "cortex-m4f": Target(
        name="cortex-m4f",
        title="Cortex-M4F",
        flags=(
            *("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
            "--specs=nano.specs",
        ),
        qemu=("qemu-system-arm", "-M", "mps2-an386"),
        **_ARM,
    ),
    "cortex-m7": Target(
        name="cortex-m7",
        title="Cortex-M7",
        flags=(
            *("-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-d16"),
            "--specs=nano.specs",
        ),
        qemu=("qemu-system-arm", "-M", "mps2-an500"),
        **_ARM,
    ),
    "riscv32": Target(
        name="riscv32",
        title="RISC-V RV32IMAFC",
        prefix="riscv64-unknown-elf-",
        flags=("-march=rv32imafc", "-mabi=ilp32f", "-mcmodel=medany", "--specs=picolibc.specs"),
        libraries=("picolibc.specs",),
        board="virt",
        qemu=("qemu-system-riscv32", "-M", "virt", "-bios", "none"),
        # The counter is that of retired instructions.
        icount_shift=0,
        instructions_per_tick=1.0,
        serial_mux=False,
        packages=(
            "gcc-riscv64-unknown-elf",
            "picolibc-riscv64-unknown-elf",
            "qemu-system-misc",
        ),
    ),
}
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wdouble-promotion", "-Wshadow")


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What one policy costs on a processor, from the compiler's own reports."""

    target: TargetName
    """Processor."""
    code_bytes: int
    """Machine code of policy.c, the self-test's included [B]; memcpy and its like come on top."""
    constant_bytes: int
    """Weights, normaliser, golden sequences and other constants [B]."""
    ram_bytes: int
    """One `policy_t`, and whatever policy.c holds besides, which is nothing [B]."""
    step_stack_bytes: int
    """Deepest stack of policy_step, with LIBRARY_STACK_BYTES for what it calls outside [B]."""
    stack_bytes: int
    """The same over all functions, which policy_self_test leads [B]."""

    @property
    def flash_bytes(self) -> int:
        """Code and constants [B]."""
        return self.code_bytes + self.constant_bytes


def get_target(name: str) -> Target:
    """The target of that name.

    Raises:
        AlulaError: unknown name; the message lists the known ones.
    """
    for target in TARGETS.values():
        if target.name == name:
            return target
    raise AlulaError(f"unknown target {name!r}; known: {', '.join(get_args(TargetName))}")


def available(target: Target, *, emulator: bool = True) -> str | None:
    """None where compiler, library and emulator are there; else what is missing and how to install it."""
    missing = [t for t in ("gcc", "nm", "objdump") if not shutil.which(target.prefix + t)]
    missing = [target.prefix + tool for tool in missing]
    if not missing:
        missing += [name for name in target.libraries if not _compiler_finds(target, name)]
    if emulator and not shutil.which(target.qemu[0]):
        missing.append(target.qemu[0])
    if not missing:
        return None
    packages = target.packages if emulator else target.packages[:-1]
    return (
        f"target {target.name} needs {', '.join(missing)}; "
        f"install with: apt-get install {' '.join(packages)}"
    )


def require(target: Target, *, emulator: bool = True) -> None:
    """Check that the tools are there.

    Raises:
        AlulaError: they are not; the message names the packages.
    """
    reason = available(target, emulator=emulator)
    if reason:
        raise AlulaError(reason)


def _compiler_finds(target: Target, name: str) -> bool:
    """Whether the compiler knows a library or specs file; it repeats the bare name of one it does not."""
    command = [f"{target.prefix}gcc", *target.flags[:-1], f"-print-file-name={name}"]
    return _output(command).strip() not in ("", name)


def build_image(
    target: Target,
    sources: Sequence[Path],
    image: Path,
    *,
    include: Sequence[Path] = (),
    flags: Sequence[str] = (),
) -> None:
    """Compile and link sources with the board's start-up code to an ELF file that the emulator can load.

    Nothing is linked but these, the C library's memcpy and its like, and the compiler's own routines.

    Args:
        target: processor and board.
        sources: C files, one with `main`; include <board.h> for the link to the host.
        image: ELF file to write.
        include: further folders of headers.
        flags: compiler flags after ours (-O2), so that they win.

    Raises:
        AlulaError: tools are missing, or the compiler or linker refuses.
    """
    require(target, emulator=False)
    script = BARE_METAL / f"{target.board}.ld"
    link = ["-nostartfiles", "-static", "-Wl,--gc-sections", "-T", str(script)]
    command = [
        *_compiler(target, flags),
        *(f"-I{folder}" for folder in (*include, BARE_METAL)),
        *map(str, sources),
        str(BARE_METAL / f"{target.board}.c"),
        *(*link, "-o", str(image)),
    ]
    run_tool(command)


def footprint(c_dir: str | Path, target: Target, *, flags: Sequence[str] = ()) -> Footprint:
    """Flash, RAM and stack of an exported policy on a processor, without running it.

    Args:
        c_dir: folder with policy.c and policy.h.
        target: processor.
        flags: compiler flags after ours (-O2), e.g. -Os.

    Raises:
        AlulaError: tools are missing, the compiler refuses the source, the source needs more than string.h,
            or its stack cannot be bounded (recursion, function pointers, arrays of variable length).
    """
    require(target, emulator=False)
    c_dir = Path(c_dir).resolve()
    check_export(c_dir)
    with tempfile.TemporaryDirectory(prefix="alula-footprint-") as scratch:
        folder = Path(scratch)
        (folder / "instance.c").write_text('#include "policy.h"\npolicy_t policy_instance;\n')
        compiler = [*_compiler(target, flags), f"-I{c_dir}", "-c"]
        report = ["-fcallgraph-info=su", str(c_dir / "policy.c"), "-o", str(folder / "policy.o")]
        run_tool([*compiler, *report])
        run_tool([*compiler, str(folder / "instance.c"), "-o", str(folder / "instance.o")])
        code, constants, static = _sections(target, folder / "policy.o")
        outside = _undefined(target, folder / "policy.o")
        graph = (folder / "policy.ci").read_text()
        instance = _symbol_size(target, folder / "instance.o", "policy_instance")
    frames, calls = read_call_graph(graph)
    deepest = {name: stack_depth(name, frames, calls) for name in frames}
    extra = LIBRARY_STACK_BYTES if outside else 0
    return Footprint(
        target=target.name,
        code_bytes=code,
        constant_bytes=constants,
        ram_bytes=instance + static,
        step_stack_bytes=deepest["policy_step"] + extra,
        stack_bytes=max(deepest.values()) + extra,
    )


def check_export(c_dir: Path) -> None:
    """Check that a folder holds an export.

    Raises:
        AlulaError: it does not.
    """
    if not (c_dir / "policy.c").is_file() or not (c_dir / "policy.h").is_file():
        raise AlulaError(
            f"{c_dir} holds no policy.c and policy.h; allowed: a folder written by the C export"
        )


def read_call_graph(text: str) -> tuple[dict[str, int], dict[str, set[str]]]:
    """Stack frames [B] and calls of every function, from gcc's -fcallgraph-info=su.

    Functions of other files have no frame; they are left out.

    Raises:
        AlulaError: a frame whose size the compiler does not bound.
    """
    frames: dict[str, int] = {}
    calls: dict[str, set[str]] = {}
    for title, label in re.findall(r'^node: \{ title: "([^"]*)" label: "([^"]*)"', text, re.M):
        found = re.search(r"(\d+) bytes \(([a-z,]+)\)", label)
        if found is None:
            continue
        if found[2] not in ("static", "dynamic,bounded"):
            raise AlulaError(
                f"function {title!r} has a stack frame of unknown size ({found[2]}); allowed: none"
            )
        frames[title] = int(found[1])
        calls[title] = set()
    edges = r'^edge: \{ sourcename: "([^"]*)" targetname: "([^"]*)"'
    for source, called in re.findall(edges, text, re.M):
        calls[source].add(called)
    return frames, calls


def stack_depth(
    name: str, frames: dict[str, int], calls: dict[str, set[str]], above: tuple[str, ...] = ()
) -> int:
    """Deepest stack below and with a function [B]: its frame and the deepest of those it calls.

    Raises:
        AlulaError: recursion, or a call through a pointer.
    """
    if name in above:
        raise AlulaError(f"function {name!r} is recursive, its stack has no bound; allowed: none")
    if "__indirect_call" in calls[name]:
        raise AlulaError(f"function {name!r} calls through a pointer; allowed: calls by name")
    known = [c for c in calls[name] if c in frames]
    depths = [stack_depth(c, frames, calls, (*above, name)) for c in known]
    return frames[name] + max(depths, default=0)


def run_tool(command: Sequence[str]) -> None:
    """Run a compiler.

    Raises:
        AlulaError: it does not start, takes too long, or refuses.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise AlulaError(f"{command[0]} did not run: {str(e).splitlines()[0]}") from None
    if done.returncode != 0:
        lines = done.stderr.splitlines()
        wrong = [line for line in lines if "error" in line or "overflowed" in line]
        said = (wrong or lines or ["no message"])[0]
        raise AlulaError(f"{command[0]} refuses the source: {said}")


def _compiler(target: Target, flags: Sequence[str]) -> list[str]:
    # gnu99, not c99, under which gcc would not fuse multiplications and additions: firmware is built that way.
    ours = ("-std=gnu99", "-O2", "-ffunction-sections", "-fdata-sections", *WARNINGS)
    return [f"{target.prefix}gcc", *target.flags, *ours, *flags]


def _output(command: Sequence[str]) -> str:
    """What a tool prints; nothing where it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _sections(target: Target, file: Path) -> tuple[int, int, int]:
    """Bytes of code, of constants and of variables in an object file."""
    text = _output([f"{target.prefix}objdump", "-h", str(file)])
    sizes = {"text": 0, "rodata": 0, "data": 0, "bss": 0}
    for name, size in re.findall(r"^ *\d+ (\S+) +([0-9a-f]{8}) ", text, re.M):
        # .text.policy_step -> text; .srodata is RISC-V's .rodata for small things
        kind = name.split(".")[1].removeprefix("s") if name.startswith(".") else ""
        if kind in sizes:
            sizes[kind] += int(size, 16)
    # variables with a value take both: the value is copied from flash
    return sizes["text"], sizes["rodata"] + sizes["data"], sizes["data"] + sizes["bss"]


def _undefined(target: Target, file: Path) -> list[str]:
    """What an object file needs from elsewhere.

    Raises:
        AlulaError: more than string.h and the compiler's own routines.
    """
    names = [
        line.split()[-1] for line in _output([f"{target.prefix}nm", "-u", str(file)]).splitlines()
    ]
    for name in names:
        if not LIBRARY_ROUTINES.fullmatch(name):
            raise AlulaError(f"the source needs {name!r}; allowed: memcpy, memmove and memset")
    return names


def _symbol_size(target: Target, file: Path, name: str) -> int:
    text = _output([f"{target.prefix}nm", "-S", str(file)])
    found = re.search(rf"^[0-9a-f]+ ([0-9a-f]+) \w {name}$", text, re.M)
    if found is None:
        raise AlulaError(f"{target.prefix}nm does not tell the size of {name!r} in {file.name}")
    return int(found[1], 16)
