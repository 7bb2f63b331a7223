"""A policy as firmware in the emulator: built, asked step by step, its instructions counted.

The protocol (docs/processor-in-the-loop.md) is spoken by targets/bare_metal/pil.c on the other side.
"""

import struct
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alula.errors import AlulaError
from alula.firmware_export.qemu import LINK_FLAGS, Board, LinkName
from alula.firmware_export.toolchain import BARE_METAL, Target, build_image, check_export
from alula.policies.onnx_file import Policy

MAGIC, VERSION = b"\xa1\x0a", 1
HEADER, CRC = struct.Struct("<2sBBI"), struct.Struct("<I")
HELLO, STEP, SELF_TEST, REFUSED = b"HSTE"
REASONS = {1: "wrong CRC", 2: "wrong version", 3: "wrong length", 4: "unknown kind"}
MAX_PAYLOAD = 10_000_000
MAX_VEHICLES = 1000
"""Policies side by side in one image; with 2 kB each they fit the boards' 4 MB."""
START_TIMEOUT_S = 20.0
"""Longest time until the firmware says hello [s]."""
TIMEOUT_S = 30.0
"""Longest time for an answer [s]."""
BETWEEN, HELD = 1, 32 + 64 + 128 + 256
"""Bits of policy_status_t, as policy.h names them."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What n robots' policies did in a step."""

    action: np.ndarray
    """Actions [n, A], float32."""
    status: np.ndarray
    """Sums of the bits of policy_status_t (n,), uint32."""
    instructions: np.ndarray
    """Instructions of each policy_step where they are counted, else meaningless (n,)."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Instructions, not cycles, of the library's functions on a processor, without the firmware around."""

    step: float
    """Median of policy_step where a step is due, over all golden sequences."""
    step_max: float
    """The largest of these."""
    between: float
    """Median of policy_step where no step is due."""
    held: float
    """Median of policy_step with an observation that is not a number."""
    self_test: float
    """policy_self_test, once."""


def frame(kind: int, payload: bytes = b"") -> bytes:
    """A request or answer as it travels."""
    body = HEADER.pack(MAGIC, VERSION, kind, len(payload)) + payload
    return body + CRC.pack(zlib.crc32(body))


def build_firmware(
    c_dir: str | Path,
    target: Target,
    image: Path,
    *,
    link: LinkName = "uart",
    vehicles: int = 1,
    flags: Sequence[str] = (),
    sources: Sequence[Path] = (),
) -> None:
    """Compile an exported policy to the firmware that an `Emulator` talks to.

    Args:
        c_dir: folder with policy.c and policy.h.
        target: processor and board.
        image: ELF file to write.
        link: how bytes shall travel.
        vehicles: policies side by side.
        flags: compiler flags after ours (-O2).
        sources: further C files, e.g. another memcpy.

    Raises:
        AlulaError: no export there, tools are missing, or the compiler refuses.
    """
    c_dir = Path(c_dir).resolve()
    check_export(c_dir)
    if not 1 <= vehicles <= MAX_VEHICLES:
        raise AlulaError(f"vehicles is {vehicles}; allowed: 1 to {MAX_VEHICLES}")
    build_image(
        target,
        [BARE_METAL / "pil.c", c_dir / "policy.c", *sources],
        image,
        include=[c_dir],
        flags=[f"-DPIL_VEHICLES={vehicles}u", *LINK_FLAGS[link], *flags],
    )


class Emulator:
    """A policy's firmware at work; use it in a `with`, at whose end the emulator is gone."""

    def __init__(
        self,
        policy: Policy,
        image: Path,
        target: Target,
        *,
        link: LinkName = "uart",
        icount: bool = False,
        timeout: float = TIMEOUT_S,
    ) -> None:
        """Start the firmware and check that it is this policy's.

        Args:
            policy: the policy that was exported.
            image: ELF file of `build_firmware`.
            target: processor and board.
            link: how bytes travel, as the image was built.
            icount: count instructions.
            timeout: longest time for an answer [s].

        Raises:
            AlulaError: the emulator does not start, or runs something else than this policy.
        """
        self._timeout = timeout
        self._shape = policy.contract.supplied_size, policy.contract.action_size
        self._instructions_per_tick = target.instructions_per_tick
        self._board = Board(image, target, link=link, icount=icount)
        try:
            self._hello(policy, min(timeout, START_TIMEOUT_S))
        except BaseException:
            self._board.close()
            raise

    def _hello(self, policy: Policy, timeout: float) -> None:
        # A serial port may lose the first byte as it opens; the firmware skips what begins no frame.
        self._board.write(b"\0", timeout=timeout)
        payload = self._ask(HELLO, b"", timeout)
        if len(payload) != 80:
            raise AlulaError(f"the firmware's hello has {len(payload)} bytes; allowed: 80")
        sha256 = payload[:64].decode("ascii", "replace")
        supplied, actions, self.vehicles, self.ram_bytes = struct.unpack("<4I", payload[64:])
        if sha256 != policy.sha256:
            raise AlulaError(
                f"the firmware holds policy {sha256[:12]}; allowed: {policy.sha256[:12]}, "
                "the policy that is flown"
            )
        if (supplied, actions) != self._shape:
            raise AlulaError(
                f"the firmware takes {supplied} floats and gives {actions}; allowed: {self._shape}"
            )

    def __enter__(self) -> "Emulator":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the emulator."""
        self._board.close()

    @property
    def pid(self) -> int | None:
        """Process of the emulator; None once closed."""
        return self._board.pid

    def step(self, supplied: np.ndarray, time_us: int, reset: np.ndarray | bool = False) -> Answer:
        """One call of policy_step for each of n robots, all samples measured now.

        Args:
            supplied: present samples [n, supplied_size], in contract order; n up to `vehicles`.
            time_us: time on the robots' clock [us].
            reset: robots that forget their past before (n,), or all or none.

        Raises:
            AlulaError: wrong shape, or an answer that does not come or is damaged.
        """
        supplied = np.ascontiguousarray(supplied, "<f4")
        n = len(supplied)
        if supplied.shape != (n, self._shape[0]) or not 1 <= n <= self.vehicles:
            raise AlulaError(
                f"observations of shape {supplied.shape}; "
                f"allowed: (1 to {self.vehicles}, {self._shape[0]})"
            )
        flags = np.broadcast_to(np.asarray(reset, np.uint8), (n,))
        request = struct.pack("<Q", time_us) + flags.tobytes() + supplied.tobytes()
        answer = self._ask(STEP, request, self._timeout)
        size = self._shape[1]
        if len(answer) != n * (8 + 4 * size):
            raise AlulaError(
                f"the firmware answers with {len(answer)} bytes; allowed: {n * (8 + 4 * size)}"
            )
        words = np.frombuffer(answer, "<u4", 2 * n)
        return Answer(
            action=np.frombuffer(answer, "<f4", n * size, 8 * n).reshape(n, size).copy(),
            status=words[:n].copy(),
            instructions=self._instructions_per_tick * words[n:],
        )

    def self_test(self) -> tuple[float, float]:
        """Largest difference over the golden sequences inside the firmware, and its instructions.

        Raises:
            AlulaError: an answer that does not come or is damaged.
        """
        answer = self._ask(SELF_TEST, b"", self._timeout)
        if len(answer) != 8:
            raise AlulaError(f"the firmware answers with {len(answer)} bytes; allowed: 8")
        difference, ticks = struct.unpack("<fI", answer)
        return difference, self._instructions_per_tick * ticks

    def _ask(self, kind: int, payload: bytes, timeout: float) -> bytes:
        """Payload of the answer to a request."""
        self._board.write(frame(kind, payload), timeout=timeout)
        header = self._board.read(HEADER.size, timeout=timeout)
        magic, version, answered, length = HEADER.unpack(header)
        if magic != MAGIC or length > MAX_PAYLOAD:
            raise AlulaError(f"the firmware answers {header.hex()}, which begins no frame of alula")
        if version != VERSION:
            raise AlulaError(f"the firmware speaks version {version}; allowed: {VERSION}")
        rest = self._board.read(length + CRC.size, timeout=timeout)
        if zlib.crc32(header + rest[:-4]) != CRC.unpack(rest[-4:])[0]:
            raise AlulaError("an answer of the firmware is damaged: its CRC-32 differs")
        if answered == REFUSED and length == 4:
            reason = CRC.unpack(rest[:4])[0]
            raise AlulaError(f"the firmware refuses a request: {REASONS.get(reason, reason)}")
        if answered != kind:
            raise AlulaError(f"the firmware answers {answered} to a request of kind {kind}")
        return rest[:-4]


def golden_max_abs_diff(policy: Policy, emulator: Emulator) -> float:
    """Largest difference over all golden sequences of the policy file, sent over the link."""
    golden, dt_us = policy.golden, _step_us(policy)
    worst = 0.0
    for start in range(0, len(golden.supplied), emulator.vehicles):
        rows = slice(start, start + emulator.vehicles)
        for t in range(golden.supplied.shape[1]):
            answer = emulator.step(golden.supplied[rows, t], t * dt_us, reset=t == 0)
            difference = np.abs(answer.action - golden.action[rows, t]).max()
            worst = float(np.maximum(worst, difference))  # unlike max, hands on a NaN
    return worst


def instructions(
    policy: Policy,
    c_dir: str | Path,
    target: Target,
    *,
    flags: Sequence[str] = (),
    sources: Sequence[Path] = (),
) -> Counts:
    """Count instructions of the library's functions while all golden sequences run.

    They are instructions, not cycles: a division counts as much as a move, a load from slow flash nothing
    more. The call and its return are included, the firmware around it is not.

    Args:
        policy: the policy that was exported.
        c_dir: folder with policy.c and policy.h.
        target: processor and board.
        flags: compiler flags after ours (-O2), e.g. -O3.
        sources: further C files, e.g. another memcpy.

    Raises:
        AlulaError: as `build_firmware` and `Emulator`.
    """
    golden, dt_us = policy.golden, _step_us(policy)
    count, steps = golden.supplied.shape[:2]
    with tempfile.TemporaryDirectory(prefix="alula-firmware-") as scratch:
        image = Path(scratch) / "firmware.elf"
        link: LinkName = "semihosting"
        build_firmware(
            *(c_dir, target, image), link=link, vehicles=count, flags=flags, sources=sources
        )
        due, between = [], []
        with Emulator(policy, image, target, link=link, icount=True) as emulator:
            for t in range(steps):
                answer = emulator.step(golden.supplied[:, t], t * dt_us, reset=t == 0)
                due.append(answer.instructions)
                answer = emulator.step(golden.supplied[:, t], t * dt_us + 1)
                _expect(answer, BETWEEN, "a call between two steps")
                between.append(answer.instructions)
            nothing = np.full_like(golden.supplied[:, 0], np.nan)
            held = emulator.step(nothing, steps * dt_us)
            _expect(held, HELD, "an observation that is not a number")
            _, self_test = emulator.self_test()
    return Counts(
        step=float(np.median(due)),
        step_max=float(np.max(due)),
        between=float(np.median(between)),
        held=float(np.median(held.instructions)),
        self_test=self_test,
    )


def _expect(answer: Answer, bits: int, what: str) -> None:
    if not (answer.status & bits).all():
        raise AlulaError(f"{what} gives status {int(answer.status.min())}; allowed: with {bits}")


def _step_us(policy: Policy) -> int:
    return round(1e6 * policy.contract.control_dt)
