"""Firmware in the emulator: the bytes, what is refused, what is counted, and that nothing is left behind."""

import os
import signal
import struct
import time
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula.errors import AlulaError
from alula.firmware_export.c_export import export_c
from alula.firmware_export.emulator import (
    Emulator,
    build_firmware,
    frame,
    golden_max_abs_diff,
    instructions,
)
from alula.firmware_export.qemu import LINK_FLAGS, Board
from alula.firmware_export.toolchain import TARGETS, available, build_image
from alula.policies.onnx_file import load_policy, write_policy

example = run_path(str(Path(__file__).parents[1] / "policies" / "example.py"))
LINKS = list(LINK_FLAGS)
BETWEEN, NOT_FINITE = 1, 32


def needed(name):
    reason = available(TARGETS[name])
    if reason:
        pytest.skip(reason)
    return TARGETS[name]


@pytest.fixture(params=list(TARGETS))
def target(request):
    return needed(request.param)


@pytest.fixture
def m4f():
    return needed("cortex-m4f")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(policy, folder of its C)."""
    folder = tmp_path_factory.mktemp("c")
    write_policy(folder / "policy.onnx", *example["make_policy"](hidden=(32, 32)))
    export_c(folder / "policy.onnx", folder / "c")
    return load_policy(folder / "policy.onnx"), folder / "c"


@pytest.fixture
def firmware(m4f, exported, tmp_path):
    """(policy, image for the M4F with three vehicles over the serial port)."""
    build_firmware(exported[1], m4f, tmp_path / "f.elf", vehicles=3)
    return exported[0], tmp_path / "f.elf"


def image_of(source, target, folder, link="uart"):
    (folder / "main.c").write_text(source)
    build_image(target, [folder / "main.c"], folder / "main.elf", flags=LINK_FLAGS[link])
    return folder / "main.elf"


def assert_gone(pid):
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def crc_by_bits(data):
    """CRC-32 of IEEE 802.3, one bit at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_frame_by_hand():
    # The check value of this CRC, and a hello: magic, version 1, 'H', no payload
    assert crc_by_bits(b"123456789") == 0xCBF43926
    head = bytes([0xA1, 0x0A, 1, 0x48, 0, 0, 0, 0])
    assert frame(ord("H")) == head + crc_by_bits(head).to_bytes(4, "little")
    body = bytes([0xA1, 0x0A, 1, 0x53, 2, 0, 0, 0, 7, 9])
    assert frame(ord("S"), b"\x07\x09") == body + crc_by_bits(body).to_bytes(4, "little")


def answer_of(board):
    """(kind, payload) of the next frame, its bytes checked by hand."""
    head = board.read(8, timeout=10)
    assert head[:3] == b"\xa1\x0a\x01"
    rest = board.read(int.from_bytes(head[4:], "little") + 4, timeout=10)
    assert crc_by_bits(head + rest[:-4]).to_bytes(4, "little") == rest[-4:]
    return chr(head[3]), rest[:-4]


def test_firmware_answers_and_refuses(firmware, m4f):
    policy, image = firmware
    refused = lambda reason: ("E", bytes([reason, 0, 0, 0]))  # noqa: E731
    hello = frame(ord("H"))
    wrong_version = bytes([0xA1, 0x0A, 2, 0x48, 0, 0, 0, 0])
    wrong_version += crc_by_bits(wrong_version).to_bytes(4, "little")
    with Board(image, m4f) as board:

        def ask(data):
            board.write(data, timeout=10)
            return answer_of(board)

        # Whatever begins no frame is skipped, half a magic too
        kind, payload = ask(b"\0abc\xa1\xa1\x0b\xa1" + hello)
        assert kind == "H"
        assert payload[:64].decode() == policy.sha256
        supplied, actions, vehicles, ram = struct.unpack("<4I", payload[64:])
        assert (supplied, actions, vehicles) == (18, 4, 3)
        assert 500 < ram < 3000
        assert ask(hello[:-1] + bytes([hello[-1] ^ 1])) == refused(1)
        assert ask(wrong_version) == refused(2)
        assert ask(frame(ord("H"), b"x")) == refused(3)
        assert ask(frame(ord("S"), bytes(8 + 73 - 1))) == refused(3)
        assert ask(frame(ord("S"))) == refused(3)
        assert ask(frame(ord("S"), bytes(8 + 4 * 73))[:8])[1] == bytes([3, 0, 0, 0])
        assert ask(frame(ord("Q"))) == refused(4)
        kind, payload = ask(frame(ord("S"), struct.pack("<QB", 0, 1) + bytes(72)))
        assert (kind, len(payload)) == ("S", 4 + 4 + 16)
        assert ask(hello)[0] == "H"


ECHO = """
#include "board.h"
int main(void)
{
    uint8_t bytes[256];
    board_open();
    do {
        board_read(bytes, 1u);
    } while (bytes[0] != 0xA5u);
    for (;;) {
        board_read(bytes, sizeof bytes);
        board_write(bytes, sizeof bytes);
    }
}
"""


@pytest.mark.parametrize("link", LINKS)
def test_every_byte_passes_the_link(target, link, tmp_path):
    with Board(image_of(ECHO, target, tmp_path, link), target, link=link) as board:
        data = bytes(range(256))
        # a serial port may lose the first byte as it opens
        board.write(b"\0\xa5", timeout=10)
        for k in range(8):
            turned = data[k:] + data[:k]
            board.write(turned, timeout=10)
            assert board.read(256, timeout=10) == turned


LOOP = """
#include "board.h"
/* two instructions a round */
__attribute__((noinline)) static void rounds(uint32_t n)
{
#ifdef __riscv
    __asm volatile("1: addi %0, %0, -1\\n\\tbnez %0, 1b" : "+r"(n));
#else
    __asm volatile("1: subs %0, %0, #1\\n\\tbne 1b" : "+r"(n) : : "cc");
#endif
}
static uint32_t timed(uint32_t n)
{
    const uint32_t ticks = board_ticks();
    rounds(n);
    return board_ticks() - ticks;
}
int main(void)
{
    uint32_t ticks[3];
    board_open();
    ticks[0] = timed(1000u);
    ticks[1] = timed(101000u);
    ticks[2] = timed(50001000u);
    board_write((const uint8_t *)ticks, sizeof ticks);
    return 7;
}
"""


@pytest.mark.parametrize("link", LINKS)
def test_counter_counts_instructions(target, link, tmp_path):
    image = image_of(LOOP, target, tmp_path, link)
    with Board(image, target, link=link, icount=True) as board:
        counted = struct.unpack("<3I", board.read(12, timeout=60))
        assert board.wait(timeout=20) == 7
    short, middle, long = (target.instructions_per_tick * ticks for ticks in counted)
    # 2 x 1000 instructions, and a few for the call
    assert 2000 <= short <= 2020
    # to a tick; the last is longer than SysTick's 24 bits
    assert middle - short == pytest.approx(200_000, abs=1.5)
    assert long - short == pytest.approx(100_000_000, abs=1.5)


def test_golden_parity_on_every_target_and_link(target, exported, tmp_path):
    policy, c_dir = exported
    actions = []
    for link in LINKS:
        build_firmware(c_dir, target, tmp_path / "f.elf", link=link, vehicles=3)
        with Emulator(policy, tmp_path / "f.elf", target, link=link) as emulator:
            assert golden_max_abs_diff(policy, emulator) <= 1e-5
            difference, _ = emulator.self_test()
            assert 0.0 <= difference <= 1e-5
            answer = emulator.step(policy.golden.supplied[:3, 0], 0, reset=True)
            actions.append(answer.action)
            assert np.abs(answer.action - policy.golden.action[:3, 0]).max() <= 1e-5
    assert (actions[0] == actions[1]).all()


def test_vehicles_are_apart(firmware, m4f):
    policy, image = firmware
    rows = policy.golden.supplied[:3]
    with Emulator(policy, image, m4f) as emulator:
        emulator.step(rows[:, 0], 0, reset=True)
        bad = rows[:, 1].copy()
        bad[1, 4] = np.nan
        answer = emulator.step(bad, 10_000)
        assert (answer.status & NOT_FINITE).astype(bool).tolist() == [False, True, False]
        assert np.abs(answer.action[[0, 2]] - policy.golden.action[[0, 2], 1]).max() <= 1e-5
        # held: the action of the step before
        assert np.abs(answer.action[1] - policy.golden.action[1, 0]).max() <= 1e-5
        # 4 ms later no step is due
        assert (emulator.step(rows[:, 2], 14_000).status & BETWEEN).all()
        # the second begins anew, the others go on
        anew = rows[:, 2].copy()
        anew[1] = rows[1, 0]
        answer = emulator.step(anew, 20_000, reset=np.array([False, True, False]))
        assert np.abs(answer.action[[0, 2]] - policy.golden.action[[0, 2], 2]).max() <= 1e-5
        assert np.abs(answer.action[1] - policy.golden.action[1, 0]).max() <= 1e-5
        # fewer than there are
        assert emulator.step(rows[:1, 3], 30_000).action.shape == (1, 4)
        for shape in ((4, 18), (0, 18), (3, 17), (18,)):
            with pytest.raises(AlulaError, match=r"allowed: \(1 to 3, 18\)"):
                emulator.step(np.zeros(shape), 40_000)


def test_instructions_of_a_policy(target, exported):
    policy, c_dir = exported
    counts = instructions(policy, c_dir, target)
    # A multiply-accumulate takes more than one instruction and less than ten.
    assert policy.macs < counts.step < 10 * policy.macs
    assert counts.step <= counts.step_max < 1.1 * counts.step
    assert 20 < counts.between < 400
    assert counts.between < counts.held < counts.step / 5
    # All counted golden steps, and the comparison with the record
    assert counts.self_test > 100 * counts.step / 10
    again = instructions(policy, c_dir, target)
    assert again.step == pytest.approx(counts.step, abs=2.0)
    slower = instructions(policy, c_dir, target, flags=["-O0"])
    assert slower.step > 1.5 * counts.step


def test_other_sources_take_part(m4f, exported, tmp_path):
    policy, c_dir = exported
    (tmp_path / "slow.c").write_text(
        "#include <stddef.h>\n"
        "void *memset(void *to, int value, size_t count);\n"
        "void *memset(void *to, int value, size_t count)\n"
        "{ volatile unsigned char *p = to; while (count--) { *p++ = (unsigned char)value; } return to; }\n"
    )
    plain = instructions(policy, c_dir, m4f)
    slow = instructions(policy, c_dir, m4f, sources=[tmp_path / "slow.c"])
    assert slow.self_test > plain.self_test


def test_wrong_firmware(firmware, m4f, exported, tmp_path):
    write_policy(tmp_path / "p.onnx", *example["make_policy"](hidden=(32, 32), seed=1))
    other = load_policy(tmp_path / "p.onnx")
    held = f"holds policy {firmware[0].sha256[:12]}; allowed: {other.sha256[:12]}"
    with pytest.raises(AlulaError, match=held):
        Emulator(other, firmware[1], m4f)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("for (;;) {}", "did not answer within 2 s"),
        ("return 3;", "ended with code 3"),
        ("*(volatile uint32_t *)0x90000000u = 1u;", "ended with code 255"),
        (
            'board_open(); board_write((const uint8_t *)"hello, world", 12u); for (;;) {}',
            "begins no frame",
        ),
        ("board_open(); board_write(answer, 40u); for (;;) {}", "did not answer within 2 s"),
        ("board_open(); board_write(answer, 40u); return 9;", "ended with code 9"),
        (
            "board_open(); answer[30]++; board_write(answer, sizeof answer); for (;;) {}",
            "CRC-32 differs",
        ),
        (
            "board_open(); answer[2]++; board_write(answer, sizeof answer); for (;;) {}",
            "speaks version 2",
        ),
    ],
)
@pytest.mark.parametrize("link", LINKS)
def test_firmware_that_misbehaves(source, words, link, m4f, exported, tmp_path):
    good = frame(ord("H"), bytes(80))
    text = ", ".join(map(str, good))
    source = (
        f'#include "board.h"\nstatic uint8_t answer[{len(good)}] = {{{text}}};\n'
        f"int main(void)\n{{\n    (void)answer;\n    {source}\n    return 0;\n}}\n"
    )
    image = image_of(source, m4f, tmp_path, link)
    started = time.monotonic()
    with pytest.raises(AlulaError, match=words) as caught:
        Emulator(exported[0], image, m4f, link=link, timeout=2.0)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 8.0


def test_image_for_the_other_link(m4f, exported, tmp_path):
    policy, c_dir = exported
    build_firmware(c_dir, m4f, tmp_path / "f.elf", link="semihosting")
    with pytest.raises(AlulaError, match="ended with code 1"):
        Emulator(policy, tmp_path / "f.elf", m4f, link="uart", timeout=5.0)
    build_firmware(c_dir, m4f, tmp_path / "f.elf", link="uart")
    with pytest.raises(AlulaError, match="did not answer"):
        Emulator(policy, tmp_path / "f.elf", m4f, link="semihosting", timeout=1.0)


@pytest.mark.parametrize("link", LINKS)
def test_emulator_that_is_killed_in_flight(m4f, exported, link, tmp_path):
    policy, c_dir = exported
    build_firmware(c_dir, m4f, tmp_path / "f.elf", link=link)
    with Emulator(policy, tmp_path / "f.elf", m4f, link=link) as emulator:
        emulator.step(policy.golden.supplied[:1, 0], 0, reset=True)
        pid = emulator.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        started = time.monotonic()
        with pytest.raises(AlulaError, match=r"ended with code -9|closed the link"):
            emulator.step(policy.golden.supplied[:1, 1], 10_000)
        assert time.monotonic() - started < 3.0
    assert_gone(pid)
    with pytest.raises(AlulaError, match="has been closed"):
        emulator.step(policy.golden.supplied[:1, 1], 10_000)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_nothing_is_left_behind(m4f, exported, link, error, tmp_path, monkeypatch):
    policy, c_dir = exported
    build_firmware(c_dir, m4f, tmp_path / "f.elf", link=link)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    pids = []

    def interrupted():
        with Emulator(policy, tmp_path / "f.elf", m4f, link=link) as emulator:
            pids.append(emulator.pid)
            assert len(list(scratch.iterdir())) == 1
            raise error

    with pytest.raises(error):
        interrupted()
    assert_gone(pids[0])
    assert list(scratch.iterdir()) == []


def test_missing_emulator_and_image(firmware, m4f, tmp_path, monkeypatch):
    with pytest.raises(AlulaError, match=r"ended with code 1: .*absent"):
        Emulator(firmware[0], tmp_path / "absent.elf", m4f)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(AlulaError, match=r"apt-get install .*qemu-system-arm"):
        Emulator(*firmware, m4f)


def test_number_of_vehicles(m4f, exported, tmp_path):
    for vehicles in (0, 1001):
        with pytest.raises(AlulaError, match=f"vehicles is {vehicles}; allowed: 1 to 1000"):
            build_firmware(exported[1], m4f, tmp_path / "f.elf", vehicles=vehicles)
    with pytest.raises(AlulaError, match=r"holds no policy\.c"):
        build_firmware(tmp_path, m4f, tmp_path / "f.elf")
    build_firmware(exported[1], m4f, tmp_path / "f.elf", vehicles=1000, link="semihosting")
    policy = exported[0]
    with Emulator(policy, tmp_path / "f.elf", m4f, link="semihosting") as emulator:
        answer = emulator.step(np.repeat(policy.golden.supplied[:1, 0], 1000, axis=0), 0, True)
    assert np.abs(answer.action - policy.golden.action[0, 0]).max() <= 1e-5
