"""Int8 weights: the numbers by hand, and the C kernels against their numpy models bit by bit."""

import shutil
import subprocess
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest

from alula.errors import AlulaError
from alula.firmware_export.c_export import export_c
from alula.firmware_export.c_layers import KERNELS, matrices
from alula.firmware_export.c_text import table
from alula.firmware_export.host import build_host
from alula.firmware_export.qemu import LINK_FLAGS, Board
from alula.firmware_export.quantise import (
    FORMATS,
    Format,
    activation_bits,
    dense_int8_float,
    dense_int8_int16,
    float_words,
    input_factors,
    int8_product,
    int16_words,
    network_step,
    quantise,
    quantise_activations,
    table_bytes,
)
from alula.firmware_export.toolchain import TARGETS, available, build_image
from alula.policies.golden import replay
from alula.policies.network import Controller
from alula.policies.onnx_file import load_policy, write_policy

example = run_path(str(Path(__file__).parents[1] / "policies" / "example.py"))

STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wdouble-promotion", "-Wshadow"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
INT8: tuple[Format, ...] = ("int8-float", "int8-int16")
MODEL = {"int8-float": dense_int8_float, "int8-int16": dense_int8_int16}
needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc to compile the kernels")


def draw(inputs, outputs, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    weights = scale * rng.normal(size=(inputs, outputs))
    x = rng.normal(size=inputs) * rng.uniform(0.01, 30.0)
    return weights.astype(np.float32), rng.normal(size=outputs).astype(np.float32), x


HOST = """#include <stdio.h>
static void give(const float *y, uint32_t n)
{
    fwrite(y, sizeof *y, n, stdout);
}
"""
BOARD = """#include <board.h>
static void give(const float *y, uint32_t n)
{
    board_write((const uint8_t *)y, n * (uint32_t)sizeof *y);
}
"""


def program(cases, format, give=HOST):
    """C that gives y for each (weights, bias, x), one after the other."""
    definitions, body, kernel = [], [], ""
    for i, (weights, bias, x) in enumerate(cases):
        made = int8_product(
            weights, bias, format, name=str(i), note="case", source=f"X_{i}", target="y"
        )
        kernel = made.kernel
        # x ends with its array, and so does the scratch: reading or writing beyond is found
        definitions += [*made.tables, table(f"X_{i}", x, "x")]
        body += [
            "    {",
            f"        float y[{made.outputs}];",
            f"        struct {{ uint32_t quantised[{max(1, made.scratch_words)}]; }} state, *policy = &state;",
            "        memset(policy, 0x5a, sizeof state);",
            f"        {made.call}",
            f"        give(y, {bias.size}u);",
            "    }",
        ]
    source = (KERNELS / kernel).read_text(encoding="ascii")
    start = "    board_open();" if give is BOARD else ""
    parts = ["#include <stdint.h>\n#include <string.h>", give, source, *definitions]
    parts += ["int main(void)\n{", start, *body, "    return 0;\n}\n"]
    return "\n".join(parts)


def split(data, cases):
    """y of each case from the bytes that a program gave."""
    y = np.frombuffer(data, np.float32)
    return np.split(y, np.cumsum([bias.size for _, bias, _ in cases])[:-1])


def run_c(tmp_path, cases, format, *flags):
    """y of each case from the C kernel on this computer."""
    (tmp_path / "case.c").write_text(program(cases, format))
    command = ["gcc", "-std=c99", "-O1", *STRICT, "-Werror", *flags, "case.c", "-o", "case"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return split(subprocess.run([tmp_path / "case"], check=True, capture_output=True).stdout, cases)


def hard_cases():
    """Sizes around the blocks, sizes of numbers, zeros, and the largest sums."""
    cases = [draw(i, o, seed=17 * i + o) for i in (1, 2, 3, 4, 5, 8, 13) for o in range(1, 10)]
    cases += [draw(146, 64), draw(64, 4), draw(600, 3)]
    cases += [draw(9, 5, scale=1e-30), draw(9, 5, scale=1e17)]
    weights, bias, x = draw(10, 6)
    cases += [(weights, bias, factor * x) for factor in (1e-41, 1e-30, 1e15)]
    weights, bias, x = draw(9, 5)
    weights[:, 2] = 0.0
    cases += [(weights, bias, x), (0.0 * weights, bias, x), (weights, bias, 0.0 * x)]
    # every input and every weight at its largest, with both signs
    extreme = np.array([[1.0, -1.0, 1.0, -1.0]])
    for inputs in (516, 517):
        for value in (1.0, -1.999999):
            cases.append((np.repeat(extreme, inputs, 0), bias[:4], np.full(inputs, value)))
    return cases


def model(case, format):
    weights, bias, x = case
    q, scale = quantise(weights)
    return MODEL[format](np.asarray(x, np.float32)[None], q, scale, bias)[0]


def test_weights_by_hand():
    q, scale = quantise(np.array([[1.27, -2.0, 0.0], [0.5, 1.0, 0.0], [-0.004, 0.004, 0.0]]))
    assert scale == pytest.approx([0.01, 2.0 / 127, 0.0], rel=1e-6)
    # 1 / (2 / 127) = 63.5 goes to the even 64; in float32 the scale is a little larger or smaller than 2 / 127
    assert q[:, 0].tolist() == [127, 50, 0]
    assert q[0, 1] == -127
    assert q[1, 1] in (63, 64)
    assert q[:, 2].tolist() == [0, 0, 0]
    assert q.dtype == np.int8
    assert scale.dtype == np.float32


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1.0, 1e17])
def test_weights_are_within_half_a_step(size):
    weights = draw(50, 6, scale=size)[0]
    q, scale = quantise(weights)
    assert (np.abs(q.max(axis=0)) <= 127).all()
    assert (np.abs(q).max(axis=0) == 127).all()
    error = np.abs(weights.astype(np.float64) - scale * q.astype(np.float64))
    assert (error <= 0.500001 * scale).all()


def test_weights_too_small_for_a_scale_are_zero():
    q, scale = quantise(np.array([[1e-42, 1.0], [-1e-40, 0.5]]))
    assert q[:, 0].tolist() == [0, 0]
    assert scale[0] == 0.0


def test_input_factors_by_hand():
    weights = np.array([[4.0, -8.0], [0.5, 0.0], [0.7, -0.1], [0.0, 0.0]])
    # largest of each row over 8: 1, 1/16, 0.0875 -> 2^-3.51 -> 2^-4, and nothing below 2^-10
    assert input_factors(weights).tolist() == [1.0, 2.0**-4, 2.0**-4, 2.0**-10]
    assert input_factors(np.zeros((2, 3))).tolist() == [2.0**-10, 2.0**-10]


def test_no_sum_can_overflow():
    worst = np.full((516, 1), 127, np.int8)
    assert activation_bits(worst) == 15
    assert activation_bits(np.full((517, 1), 127, np.int8)) == 14
    assert activation_bits(np.zeros((3, 2), np.int8)) == 15
    for inputs in (516, 517, 2000, 100_000):
        q = np.full((inputs, 1), 127, np.int8)
        assert inputs * 127 * 2 ** activation_bits(q) < 2**31


def test_activations_by_hand():
    # max 3 < 4 = 2^2: k = 15 - 2, so 3 becomes 3 * 8192 and -0.00006 becomes -0.49 -> 0
    whole, unit = quantise_activations(np.array([[3.0, -1.0, -0.00006]]), 15)
    assert whole.tolist() == [[24576, -8192, 0]]
    assert unit.tolist() == [2.0**-13]
    # 32767.5 / 8192 would round to 32768: the next power of two, and the tie 16383.75 goes to 16384
    whole, unit = quantise_activations(np.array([[32767.5 / 8192, 1.0]]), 15)
    assert whole.tolist() == [[16384, 4096]]
    assert unit.tolist() == [2.0**-12]
    whole, unit = quantise_activations(np.array([[32767.0 / 8192, 2.5 / 8192]]), 15)
    assert whole.tolist() == [[32767, 2]]


def test_activations_of_zero_and_beyond():
    whole, unit = quantise_activations(np.array([[0.0, 0.0], [1e-40, 0.0], [1e30, -1e30]]), 15)
    assert whole[0].tolist() == whole[1].tolist() == [0, 0]
    assert whole[2, 0] == -whole[2, 1]
    assert 2**14 <= whole[2, 0] < 2**15
    whole, unit = quantise_activations(np.array([[np.inf, 1.0], [np.nan, 1.0], [3.4027e38, 0]]), 15)
    assert np.isnan(unit).tolist() == [True, True, False]
    assert not whole[:2].any()


def test_layout_by_hand():
    q = np.array([[1, -2, 3, -4, 5], [6, 7, -8, 9, -10]], np.int8)
    # block 0: bytes (1, -2, 3, -4) and (6, 7, -8, 9); block 1: 5 and -10 with zeros
    assert float_words(q).tolist() == [0xFC03FE01, 0x09F80706, 0x00000005, 0x000000F6]
    # halves 256 * (-2) + 1 = -511 and 256 * 7 + 6 = 1798; 256 * (-4) + 3 = -1021 and 256 * 9 - 8 = 2296
    first = [(1798 << 16) | (-511 & 0xFFFF), (2296 << 16) | (-1021 & 0xFFFF), 0, 0]
    second = [(0xFFF6 << 16) | 5, 0, 0, 0]
    assert int16_words(q).tolist() == first + second


def test_flash_is_a_quarter():
    assert table_bytes(64, 4, "float32") == 1040
    assert table_bytes(64, 4, "int8-int16") == 64 * 4 + 32
    assert table_bytes(64, 4, "int8-float") == 64 * 4 + 32
    assert table_bytes(146, 64, "int8-int16") == 148 * 64 + 8 * 64
    for format in INT8:
        weights, bias, _ = draw(7, 6)
        made = int8_product(weights, bias, format, name="0", note="", source="x", target="y")
        words = made.tables[0].count("0x")
        assert table_bytes(7, 6, format) == 4 * (words + 2 * 8)


@pytest.mark.parametrize("format", INT8)
def test_the_model_is_near_the_float_product(format):
    weights, bias, x = draw(146, 64)
    q, scale = quantise(weights)
    exact = x @ (q * scale.astype(np.float64)) + bias
    y = model((weights, bias, x), format)
    # each activation is off by half a unit of max |x| / 2^14 at most, each weight counts up to 127 scales
    limit = 146 * 127 * scale * np.abs(x).max() / 2**15 if format == "int8-int16" else 1e-3
    assert (np.abs(y - exact) <= limit).all()
    assert np.abs(y - (x @ weights + bias)).max() < 0.02 * np.abs(x @ weights).max()


@needs_gcc
@pytest.mark.parametrize("format", INT8)
def test_c_is_the_model_bit_by_bit(tmp_path, format):
    cases = hard_cases()
    plain, checked = (run_c(tmp_path, cases, format, *f) for f in ((), SANITIZE))
    for case, y, again in zip(cases, plain, checked, strict=True):
        assert np.array_equal(y.view(np.uint32), model(case, format).view(np.uint32))
        assert np.array_equal(y.view(np.uint32), again.view(np.uint32))


@pytest.mark.parametrize("format", INT8)
@pytest.mark.parametrize("name", TARGETS)
def test_every_processor_finds_the_same_bits(tmp_path, format, name):
    """The instructions of a Cortex-M4 and the portable C are the same arithmetic; also where it fuses products."""
    target = TARGETS[name]
    reason = available(target)
    if reason is not None:
        pytest.skip(reason)
    cases = hard_cases()
    (tmp_path / "case.c").write_text(program(cases, format, BOARD))
    count = 4 * sum(bias.size for _, bias, _ in cases)
    exact, fused = [], []
    for result, contract in ((exact, "off"), (fused, "fast")):
        flags = [*LINK_FLAGS["semihosting"], f"-ffp-contract={contract}"]
        build_image(target, [tmp_path / "case.c"], tmp_path / "case.elf", flags=flags)
        with Board(tmp_path / "case.elf", target, link="semihosting") as board:
            result += split(board.read(count, timeout=60.0), cases)
    for case, y, near in zip(cases, exact, fused, strict=True):
        wanted = model(case, format)
        assert np.array_equal(y.view(np.uint32), wanted.view(np.uint32))
        size = np.abs(case[2]).sum() * np.abs(case[0]).max() + np.abs(case[1]).max()
        assert np.abs(near - wanted).max() <= 1e-6 * size


@needs_gcc
@pytest.mark.parametrize("format", INT8)
def test_zeros_give_the_bias_exactly(tmp_path, format):
    weights, bias, x = draw(6, 5)
    assert run_c(tmp_path, [(weights, bias, 0.0 * x)], format)[0].tolist() == bias.tolist()


@needs_gcc
@pytest.mark.parametrize("at", [0, 2, 4, 5])
@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000, 0x7F800000, 0xFF800000, 0x7F800001])
def test_damage_is_not_hidden(tmp_path, at, bits):
    """Whole numbers know no NaN: an input that is not finite makes every output one that ReLU lets through."""
    case = draw(6, 5)
    source = program([case], "int8-int16")
    damage = f"{{ const uint32_t bad = {bits}u; memcpy(&X_0[{at}], &bad, sizeof bad); }}"
    source = source.replace("static const float X_0", "static float X_0")
    source = source.replace("int main(void)\n{", f"int main(void)\n{{\n    {damage}")
    (tmp_path / "case.c").write_text(source)
    command = ["gcc", "-std=c99", "-O1", *SANITIZE, "case.c", "-o", "case"]
    subprocess.run(command, cwd=tmp_path, check=True)
    given = subprocess.run([tmp_path / "case"], check=True, capture_output=True).stdout
    words = split(given, [case])[0].view(np.uint32)
    # the sign bit is clear: ReLU, which clears negative numbers, lets it through
    assert all(w & 0xFF800000 == 0x7F800000 and w & 0x7FFFFF for w in map(int, words))


@needs_gcc
@pytest.mark.parametrize("format", INT8)
@pytest.mark.parametrize("compiler", ["gcc", "clang", "g++"])
def test_kernels_compile_cleanly_everywhere(tmp_path, format, compiler):
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}; package {compiler}")
    suffix = "cpp" if compiler == "g++" else "c"
    (tmp_path / f"case.{suffix}").write_text(program([draw(5, 5)], format))
    standard = [] if compiler == "g++" else ["-std=c99"]
    for level in ("-O0", "-Os", "-O3"):
        command = [compiler, *standard, level, *STRICT, "-Werror", "-c", f"case.{suffix}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@needs_gcc
@pytest.mark.skipif(not shutil.which("gcov"), reason="no gcov; package gcc")
@pytest.mark.parametrize("format", INT8)
def test_every_line_and_branch_is_reached(tmp_path, format):
    """With a network as trained: inputs no multiple of four, and an input that is not finite."""
    weights, bias, x = draw(6, 5)
    wild = np.where(np.arange(6) == 3, np.float32(3.4028235e38), x)
    (tmp_path / "case.c").write_text(
        program([(weights, bias, x), (weights[:4], bias, x[:4]), (weights, bias, wild)], format)
    )
    command = ["gcc", "-std=c99", "-O0", "--coverage", "case.c", "-o", "case"]
    subprocess.run(command, cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "case"], check=True, cwd=tmp_path, capture_output=True)
    notes = next(tmp_path.glob("*.gcno")).name
    report = subprocess.run(
        ["gcov", "-b", "-c", notes], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert "Lines executed:100.00%" in report.stdout, report.stdout
    assert "Taken at least once:100.00%" in report.stdout, report.stdout


def policies():
    """Feed-forward and recurrent policies; the GRU first, last and in between."""
    yield "dense", example["make_policy"](hidden=(13, 7))
    yield "one layer", example["make_policy"](hidden=())
    yield "gru", example["make_gru_policy"](before=(10,), state=6, after=(5,))
    yield "gru first", example["make_gru_policy"](before=(), state=5, past_actions=3)


@needs_gcc
@pytest.mark.parametrize(
    ("name", "made"), list(policies()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_exported_policies_answer_as_the_model(tmp_path, name, made):
    write_policy(tmp_path / "policy.onnx", *made)
    policy = load_policy(tmp_path / "policy.onnx")
    count = len(matrices(policy.network))
    choices: list[Any] = [[f] * count for f in INT8]
    choices += [[FORMATS[(i + k) % 3] for i in range(count)] for k in range(3)]
    for k, formats in enumerate(choices):
        folder = tmp_path / str(k)
        export = export_c(tmp_path / "policy.onnx", folder, formats=formats)
        command = ["gcc", "-std=c99", "-O2", *STRICT, "-Werror", "-c", "policy.c"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        host = build_host(folder)
        assert host.ram_bytes == export.ram_bytes
        step = network_step(policy.network, formats)
        golden = policy.golden
        controller = Controller(step, policy.network.state_size, len(golden.supplied))
        wanted = replay(policy.contract, controller, golden.supplied)
        answers = np.stack([host.run(supplied) for supplied in golden.supplied])
        tolerance = 5e-3 if "int8-int16" in formats else 1e-5
        assert np.abs(answers - wanted).max() < tolerance
        assert host.self_test() < tolerance
        defined = f"#define POLICY_GOLDEN_TOLERANCE {tolerance:g}f"
        assert defined in (folder / "policy.h").read_text()
        assert 1e-5 < np.abs(answers - golden.action).max() < 0.5 or set(formats) == {"float32"}


@needs_gcc
def test_robots_together_fly_as_one_by_one(tmp_path):
    write_policy(tmp_path / "policy.onnx", *example["make_policy"](hidden=(9,)))
    export_c(tmp_path / "policy.onnx", tmp_path / "c", formats=("int8-int16", "int8-float"))
    host = build_host(tmp_path / "c")
    supplied = load_policy(tmp_path / "policy.onnx").golden.supplied
    pilot = host.pilot(len(supplied))
    together = np.stack([pilot(supplied[:, t]) for t in range(supplied.shape[1])], axis=1)
    assert np.array_equal(together, np.stack([host.run(one) for one in supplied]))
    assert pilot.held == 0
    with pytest.raises(AlulaError, match="allowed: "):
        pilot(supplied[:1, 0])
    supplied[2, 0, 3] = np.nan
    held = pilot(supplied[:, 0])
    assert pilot.held == 1
    assert np.array_equal(held[2], together[2, -1])
