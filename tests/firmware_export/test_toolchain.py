"""Cross compilers: what is found, what an export costs, the example for a bare microcontroller."""

import struct
from pathlib import Path
from runpy import run_path

import pytest

from alula.errors import AlulaError
from alula.firmware_export.c_export import export_c
from alula.firmware_export.qemu import Board
from alula.firmware_export.toolchain import (
    BARE_METAL,
    LIBRARY_STACK_BYTES,
    TARGETS,
    available,
    build_image,
    footprint,
    get_target,
    read_call_graph,
    require,
    stack_depth,
)
from alula.policies.onnx_file import write_policy

example = run_path(str(Path(__file__).parents[1] / "policies" / "example.py"))
M4F = TARGETS["cortex-m4f"]
NAMES = list(TARGETS)


@pytest.fixture(params=NAMES)
def target(request):
    """Each target whose compiler is here."""
    chosen = TARGETS[request.param]
    reason = available(chosen, emulator=False)
    if reason:
        pytest.skip(reason)
    return chosen


@pytest.fixture
def m4f():
    reason = available(M4F)
    if reason:
        pytest.skip(reason)
    return M4F


def tiny(folder, body, *, state="float x[3]; uint16_t count;"):
    """A folder with a hand-written policy.c."""
    (folder / "policy.h").write_text(
        f"#include <stdint.h>\ntypedef struct {{ {state} }} policy_t;\n"
        "int policy_step(policy_t *policy, int x);\n"
    )
    (folder / "policy.c").write_text(f'#include <string.h>\n#include "policy.h"\n{body}')
    return folder


def test_unknown_target():
    assert get_target("cortex-m7").title == "Cortex-M7"
    with pytest.raises(AlulaError, match=r"unknown target 'avr'; known: cortex-m4f, cortex-m7, ri"):
        get_target("avr")


@pytest.mark.parametrize("name", NAMES)
def test_missing_tools_name_their_packages(name, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    reason = available(TARGETS[name])
    assert reason is not None
    for package in TARGETS[name].packages:
        assert package in reason
    assert TARGETS[name].qemu[0] in reason
    compiler_only = available(TARGETS[name], emulator=False)
    assert compiler_only is not None
    assert "qemu" not in compiler_only
    with pytest.raises(AlulaError, match="apt-get install gcc-"):
        require(TARGETS[name])


def test_missing_library_is_noticed(m4f, tmp_path, monkeypatch):
    for tool in ("gcc", "nm", "objdump"):
        # a compiler that knows no library repeats the name it is asked for
        script = (
            '#!/bin/sh\nfor a; do case "$a" in -print-file-name=*) echo "${a#*=}";; esac; done\n'
        )
        (tmp_path / f"arm-none-eabi-{tool}").write_text(script)
        (tmp_path / f"arm-none-eabi-{tool}").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    reason = available(m4f)
    assert reason is not None
    assert "needs nano.specs, libc_nano.a;" in reason


GRAPH = """graph: { title: "policy.c"
node: { title: "step" label: "step\\npolicy.c:1:1\\n8 bytes (static)" }
node: { title: "policy.c:dense" label: "dense\\npolicy.c:2:1\\n40 bytes (static)" }
node: { title: "observe" label: "observe\\npolicy.c:3:1\\n16 bytes (dynamic,bounded)" }
node: { title: "clamp" label: "clamp\\npolicy.c:4:1\\n32 bytes (static)" }
node: { title: "memcpy" label: "__builtin_memcpy\\n<built-in>" shape : ellipse }
edge: { sourcename: "step" targetname: "policy.c:dense" label: "policy.c:9:1" }
edge: { sourcename: "step" targetname: "observe" label: "policy.c:9:2" }
edge: { sourcename: "observe" targetname: "clamp" label: "policy.c:9:3" }
edge: { sourcename: "observe" targetname: "memcpy" }
}
"""


def test_stack_is_the_deepest_chain():
    frames, calls = read_call_graph(GRAPH)
    assert frames == {"step": 8, "policy.c:dense": 40, "observe": 16, "clamp": 32}
    # step 8 + observe 16 + clamp 32, not step 8 + dense 40
    assert stack_depth("step", frames, calls) == 56
    assert stack_depth("observe", frames, calls) == 48


def test_footprint_by_hand(target, tmp_path):
    body = """
static const uint32_t TABLE[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1};
__attribute__((noinline)) static int deep(const char *text) { volatile char kept[200]; kept[0] = text[0];
    return kept[0]; }
__attribute__((noinline)) int policy_step(policy_t *policy, int x) { volatile char kept[100]; kept[x] = 1; policy->count++;
    return deep((const char *)&kept[0]) + (int)TABLE[x]; }
int policy_self_test(int x);
int policy_self_test(int x) { policy_t policy; policy.count = 0; return policy_step(&policy, x); }
"""
    found = footprint(tiny(tmp_path, body), target)
    # 3 floats, one 16-bit count and its padding
    assert found.ram_bytes == 16
    assert found.constant_bytes == 40
    assert found.flash_bytes == found.code_bytes + 40
    assert 20 <= found.code_bytes <= 300
    # 100 + 200, and at most 16 each for saved registers and alignment
    assert 300 <= found.step_stack_bytes <= 340
    assert found.step_stack_bytes + 16 <= found.stack_bytes <= found.step_stack_bytes + 48
    assert found.target == target.name


def test_variables_count_as_ram_and_their_values_as_flash(target, tmp_path):
    body = "int counter[5], start[3] = {1, 2, 3};\nint policy_step(policy_t *p, int x) { return p->count + x; }"
    found = footprint(tiny(tmp_path, body), target)
    assert found.ram_bytes == 16 + 20 + 12
    assert found.constant_bytes == 12


def test_what_the_library_needs_is_added(target, tmp_path):
    body = "int policy_step(policy_t *p, int x) { memset(p, x, (unsigned)x); return x; }"
    assert footprint(tiny(tmp_path, body), target).step_stack_bytes >= LIBRARY_STACK_BYTES


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "int policy_step(policy_t *p, int x) "
            "{ volatile char k[4]; k[0] = (char)x; return x ? policy_step(p, x / 3) + policy_step(p, 1) + k[0] : 1; }",
            "'policy_step' is recursive",
        ),
        (
            "int policy_step(policy_t *p, int x) { char kept[x]; memset(kept, p->count, (unsigned)x); "
            "return kept[x / 2]; }",
            r"'policy_step' has a stack frame of unknown size \(dynamic\)",
        ),
        (
            "int (*volatile hook)(int);\nint policy_step(policy_t *p, int x) { return hook(x) + p->count; }",
            "'policy_step' calls through a pointer",
        ),
        (
            "void *malloc(unsigned size);\nint policy_step(policy_t *p, int x) "
            "{ return malloc((unsigned)x) == p; }",
            "needs 'malloc'; allowed: memcpy, memmove and memset",
        ),
        ("int policy_step(policy_t *p, int x) { return 0 }", "refuses the source: .*error"),
    ],
    ids=["recursion", "array", "pointer", "heap", "syntax"],
)
def test_what_has_no_bound_is_refused(body, words, target, tmp_path):
    with pytest.raises(AlulaError, match=words) as caught:
        footprint(tiny(tmp_path, body), target)
    assert "\n" not in str(caught.value)


def test_folder_without_an_export(m4f, tmp_path):
    with pytest.raises(AlulaError, match=r"holds no policy\.c"):
        footprint(tmp_path, m4f)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    write_policy(folder / "policy.onnx", *example["make_policy"](hidden=(16, 16)))
    return export_c(folder / "policy.onnx", folder / "c")


def test_footprint_of_an_export(target, exported):
    found = footprint(exported.folder, target)
    assert found.ram_bytes == exported.ram_bytes
    # a few numbers of the code stand among the constants
    assert exported.flash_bytes <= found.constant_bytes <= exported.flash_bytes + 128
    assert 1000 < found.code_bytes < 8000
    assert found.step_stack_bytes <= found.stack_bytes < 800
    smaller = footprint(exported.folder, target, flags=["-Os"])
    assert smaller.code_bytes < found.code_bytes


HOOKS = r"""
#include "board.h"
#include "policy.h"

uint64_t board_time_us(void);
void board_read_sensors(policy_observation_t *observation);
void board_write_motors(const float command[POLICY_NUM_ACTIONS]);
void board_stop_motors(void);
int board_armed(void);
void board_feed_watchdog(void);

/* Loops of 1 ms; armed from loop 100 on; the sensors die after loop 1000; armed anew from 1900 on, with sensors. */
static uint32_t loops, writes, stops, last_write, wrong;

uint64_t board_time_us(void) { return 1000u * (uint64_t)loops; }

void board_read_sensors(policy_observation_t *observation)
{
    uint32_t i;
    if (loops > 1000u && loops < 1800u) {
        return;
    }
    for (i = 0; i < 3u; i++) {
        observation->rot_wb[4u * i] = 1.0f;
    }
    policy_stamp(observation, board_time_us());
}

void board_write_motors(const float command[POLICY_NUM_ACTIONS])
{
    uint32_t i;
    for (i = 0; i < POLICY_NUM_ACTIONS; i++) {
        wrong += command[i] >= 0.0f && command[i] <= 1.0f ? 0u : 1u;
    }
    writes++;
    if (loops < 1800u) {
        last_write = loops;
    }
}

void board_stop_motors(void) { stops++; }

int board_armed(void) { return loops >= 100u && (loops < 1850u || loops >= 1900u); }

void board_feed_watchdog(void)
{
    if (loops++ == 2000u) {
        const uint32_t said[5] = {writes, stops, last_write, wrong, POLICY_LOST_STEPS};
        board_open();
        board_write((const uint8_t *)said, sizeof said);
        board_exit(42u);
    }
}
"""


def test_example_for_bare_metal_flies_stops_and_stays_stopped(m4f, exported, tmp_path):
    (tmp_path / "hooks.c").write_text(HOOKS)
    image = tmp_path / "example.elf"
    sources = [BARE_METAL / "main.c", exported.folder / "policy.c", tmp_path / "hooks.c"]
    build_image(m4f, sources, image, include=[exported.folder], flags=["-Werror"])
    with Board(image, m4f) as board:
        writes, stops, last, wrong, lost_steps = struct.unpack("<5I", board.read(20, timeout=20))
        assert board.wait(timeout=20) == 42
    assert wrong == 0
    # The last sample is of loop 1000; 3 steps later it is stale; lost_steps held steps later it is lost.
    expected = 1000 + 30 + 10 * lost_steps
    assert abs(last - expected) <= 20
    # From loop 100 to the loss, and from the new arming in loop 1900 to the end; else stopped.
    assert writes == (last - 100 + 1) + (2000 - 1900 + 1)
    assert stops == 1 + 2000 - writes
