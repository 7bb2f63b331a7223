"""The exported C under the compilers of its users: no warning, no library, no double, small stack frames; parity."""

import re
import shutil
import subprocess
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula.firmware_export.c_export import export_c
from alula.firmware_export.c_layers import matrices
from alula.firmware_export.quantise import FORMATS
from alula.policies.onnx_file import load_policy, write_policy

HERE = Path(__file__).parent
example = run_path(str(HERE.parent / "policies" / "example.py"))
stepper = run_path(str(HERE / "stepper.py"))
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wdouble-promotion", "-Wshadow"]
STRICT += ["-Wstrict-prototypes", "-Wmissing-prototypes", "-Wundef", "-Wcast-qual", "-Werror"]
CPP = [w for w in STRICT if "prototypes" not in w]
M4F = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]
M7 = ["-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-d16"]
RISCV = ["-march=rv32imafc", "-mabi=ilp32f", "--specs=picolibc.specs"]
CRAZYFLIE = ["-Os", "-std=gnu11", "-Wall", "-Wdouble-promotion", "-Werror", "-Wmissing-braces"]
COMPILERS = {
    "gcc": ("gcc", ["-std=c99", "-O2", *STRICT]),
    "gcc -O3 fast": ("gcc", ["-std=c99", "-O3", "-ffast-math", *STRICT]),
    "gcc -Os": ("gcc", ["-std=c11", "-Os", *STRICT]),
    "g++": ("g++", ["-std=c++17", "-x", "c++", "-O2", *CPP]),
    "clang": ("clang", ["-std=c99", "-O2", *STRICT]),
    "clang C++": ("clang", ["-std=c++17", "-x", "c++", "-O2", *CPP]),
    "Cortex-M4F": ("arm-none-eabi-gcc", ["-std=c99", "-O2", *M4F, *STRICT]),
    "Cortex-M4F -Os": ("arm-none-eabi-gcc", ["-std=c99", "-Os", *M4F, *STRICT]),
    "Cortex-M7": ("arm-none-eabi-gcc", ["-std=c99", "-O2", *M7, *STRICT]),
    "Crazyflie": ("arm-none-eabi-gcc", [*CRAZYFLIE, "-fno-math-errno", *M4F]),
    "RISC-V": ("riscv64-unknown-elf-gcc", ["-std=c99", "-O2", *RISCV, *STRICT]),
}
PACKAGES = {
    "gcc": "gcc",
    "g++": "g++",
    "clang": "clang",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "riscv64-unknown-elf-gcc": "gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf",
}
POLICIES = {
    "feed-forward": lambda: example["make_policy"](sensor_history=3, hidden=(20, 7)),
    "GRU": lambda: example["make_gru_policy"](before=(20,), state=18),
}
DOUBLES = r"__aeabi_(?:d\w+|\w+2d)\b|\.f64\b|__\w*df\w*\d\b|\bf\w+\.d\b"
"""Instructions and helper functions for double arithmetic, in assembly."""
NEEDED = {"memcpy", "memmove", "memset"}
"""All that the policy asks of a C library."""


def need(compiler):
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler} (Debian: {PACKAGES[compiler]})")


SHAPES = {
    **POLICIES,
    "linear": lambda: example["make_policy"](past_actions=0, hidden=()),
    "six rotors": lambda: example["make_policy"](sensor_history=5, rotors=6, hidden=(7,)),
}
KINDS = [(p, f) for p in POLICIES for f in FORMATS] + [
    ("linear", "float32"),
    ("six rotors", "float32"),
]


@pytest.fixture(scope="module", params=KINDS, ids=" ".join)
def folder(request, tmp_path_factory):
    """An export of each kind."""
    name, form = request.param
    place = tmp_path_factory.mktemp("export")
    write_policy(place / "policy.onnx", *SHAPES[name]())
    count = len(matrices(load_policy(place / "policy.onnx").network))
    return export_c(place / "policy.onnx", place / "c", formats=[form] * count).folder


@pytest.mark.parametrize("which", COMPILERS)
def test_clean_and_free_of_libraries(folder, which):
    compiler, flags = COMPILERS[which]
    need(compiler)
    for source in ("policy.c", "policy_test.c"):
        command = [compiler, *flags, "-c", source, "-o", f"{source}.o"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    told = subprocess.run(
        ["nm", "-u", "policy.c.o"], cwd=folder, check=True, capture_output=True, text=True
    )
    undefined = {line.split()[-1] for line in told.stdout.splitlines()}
    # An ARM without 64-bit division may use the compiler's own helpers; none for floating point.
    helpers = {
        s for s in undefined if re.fullmatch(r"__aeabi_(memcpy|memset|memclr|memmove|u?l\w+)\d?", s)
    }
    assert undefined <= NEEDED | (helpers if compiler.startswith("arm") else set())


@pytest.mark.parametrize("which", ["Cortex-M4F", "Cortex-M4F -Os", "Cortex-M7", "RISC-V"])
def test_no_double_and_small_frames(folder, which):
    """No instruction or helper for doubles; no stack frame of the steps over 160 B."""
    compiler, flags = COMPILERS[which]
    need(compiler)
    command = [compiler, *flags, "-fstack-usage", "-c", "policy.c", "-o", "frames.o"]
    subprocess.run(command, cwd=folder, check=True)
    rows = [line.split() for line in (folder / "frames.su").read_text().splitlines()]
    frames = {row[0].rsplit(":", 1)[1]: int(row[1]) for row in rows}
    assert all(row[2] == "static" for row in rows)
    print(which, {name: size for name, size in frames.items() if size > 40})
    assert frames.pop("policy_self_test") <= 256
    assert max(frames.values()) <= 160
    command = [compiler, *flags, "-S", "policy.c", "-o", "policy.s"]
    subprocess.run(command, cwd=folder, check=True)
    assert not re.findall(DOUBLES, (folder / "policy.s").read_text())


@pytest.mark.parametrize("which", ["Cortex-M4F", "Cortex-M7", "RISC-V"])
def test_doubles_would_be_noticed(tmp_path, which):
    compiler, flags = COMPILERS[which]
    need(compiler)
    for body in ("x + y", "x * y", "(double)(float)x", "(float)x < 2.0 * y"):
        (tmp_path / "d.c").write_text(
            f"double f(double x, double y);\ndouble f(double x, double y) {{ return {body} + 0 * y; }}\n"
        )
        plain = [f for f in flags if not f.startswith("-W")]
        subprocess.run([compiler, *plain, "-S", "d.c"], cwd=tmp_path, check=True)
        assert re.findall(DOUBLES, (tmp_path / "d.s").read_text())


@pytest.mark.parametrize(
    "command",
    [
        ("gcc", "-O0"),
        ("gcc", "-O2"),
        ("gcc", "-O3", "-march=native"),
        ("gcc", "-O3", "-march=native", "-ffast-math"),
        ("clang", "-O0"),
        ("clang", "-O2"),
        ("clang", "-O3", "-march=native", "-ffast-math"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("name", ["usual", "random", "GRU", "GRU, wide"])
def test_golden_sequences_under_every_optimisation(tmp_path, command, name):
    """Within 1e-5 of the recorded float64 actions, in the C's own self-test and call by call."""
    need(command[0])
    policies = {
        "usual": example["make_policy"],
        "random": lambda: example["make_policy"](hidden=(33, 17, 9), past_actions=5, seed=7),
        "GRU": example["make_gru_policy"],
        "GRU, wide": lambda: example["make_gru_policy"](before=(64,), state=64, seed=1),
    }
    library = stepper["build"](tmp_path, *policies[name](), command=command)
    golden = load_policy(tmp_path / "policy.onnx").golden
    worst = 0.0
    for supplied, actions in zip(golden.supplied, golden.action, strict=True):
        robot = library.robot()
        for k, (sample, expected) in enumerate(zip(supplied, actions, strict=True)):
            _, action = robot.step(sample, k * library.step_us)
            worst = max(worst, float(np.abs(action - expected).max()))
    print(f"{' '.join(command)}, {name}: {worst:.1e}")
    assert worst <= 1e-5
    memory = robot.memory.ctypes.data
    library.c.policy_self_test.argtypes = [stepper["ctypes"].c_void_p]
    assert library.c.policy_self_test(memory) <= 1e-5
