"""QEMU as a board that runs an image, and the bytes that go to it and come back."""

import os
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from alula.errors import AlulaError
from alula.firmware_export.toolchain import Target, require

LinkName = Literal["uart", "semihosting"]
"""How bytes travel: one by one through the board's first serial port, or in blocks through semihosting."""
LINK_FLAGS: dict[LinkName, tuple[str, ...]] = {
    "uart": (),
    "semihosting": ("-DBOARD_SEMIHOSTING=1",),
}
"""Compiler flags that make an image speak over a link."""
ESCAPE = b"\x01"
"""QEMU's multiplexer takes this byte as the begin of a command to itself, and two of them as the byte."""
POLL_S = 0.05
"""How often a silent emulator is asked whether it lives [s]."""


class Board:
    """A running image; use it in a `with`, at whose end the emulator is gone whatever happens."""

    def __init__(
        self, image: Path, target: Target, *, link: LinkName = "uart", icount: bool = False
    ) -> None:
        """Start the emulator.

        Args:
            image: ELF file of `build_image`, compiled with the `LINK_FLAGS` of its link.
            target: processor and board.
            link: how bytes travel.
            icount: let the board's counter count instructions; about 20 % slower.

        Raises:
            AlulaError: there is no emulator, or it does not start.
        """
        require(target)
        self._title = f"{target.qemu[0]} with {target.title} firmware"
        self._files: list[int] = []
        self._folder = tempfile.mkdtemp(prefix="alula-qemu-")
        self._errors = Path(self._folder) / "errors"
        self._process: subprocess.Popen[bytes] | None = None
        self._escape = link == "uart" and target.serial_mux
        command = [*target.qemu, "-kernel", str(Path(image).resolve()), "-display", "none"]
        command += ["-monitor", "none", "-semihosting-config", "enable=on,target=native"]
        if icount:
            command += ["-icount", f"shift={target.icount_shift}"]
        try:
            if link == "uart":
                self._start_uart(command)
            else:
                self._start_semihosting(command)
        except OSError as e:
            self.close()
            raise AlulaError(f"{target.qemu[0]} does not start: {e}") from None
        except BaseException:
            self.close()
            raise

    def _start_uart(self, command: list[str]) -> None:
        ours, theirs = socket.socketpair()
        self._files = [ours.detach()]
        with theirs:
            # Without a FIFO every byte would wait for the emulator's main loop to wake up; its multiplexer
            # reads 32 bytes ahead, which is three times as fast.
            mux = ",mux=on" if self._escape else ""
            serial = ["-chardev", f"socket,id=link,fd={theirs.fileno()}{mux}"]
            self._run([*command, *serial, "-serial", "chardev:link"], (theirs.fileno(),))
        self._in = self._out = self._files[0]

    def _start_semihosting(self, command: list[str]) -> None:
        for name in ("to_firmware", "to_host"):
            path = os.path.join(self._folder, name)
            os.mkfifo(path)
            # For both ways, as opening one end alone would wait for the emulator, which may never come.
            self._files.append(os.open(path, os.O_RDWR | os.O_NONBLOCK))
        self._out, self._in = self._files
        self._run([*command, "-serial", "none"], ())

    def _run(self, command: Sequence[str], keep: tuple[int, ...]) -> None:
        with self._errors.open("wb") as errors:
            # Of its own session, so that Ctrl-C reaches us alone and we end it in order.
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=keep,
                start_new_session=True,
            )
        for file in self._files:
            os.set_blocking(file, False)

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the emulator; what it has not said yet is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        for file in self._files:
            os.close(file)
        self._files = []
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pid(self) -> int | None:
        """Process of the emulator; None once closed."""
        return None if self._process is None else self._process.pid

    def write(self, data: bytes, *, timeout: float) -> None:
        """Send bytes.

        Raises:
            AlulaError: the emulator has ended, or does not take them within `timeout` [s].
        """
        if self._escape:
            data = data.replace(ESCAPE, 2 * ESCAPE)
        rest, deadline = memoryview(data), time.monotonic() + timeout
        while rest:
            if self._process is None:
                raise self._ended()
            try:
                rest = rest[os.write(self._out, rest) :]
            except BlockingIOError:
                self._wait(self._out, select.POLLOUT, deadline, timeout)
            except OSError:
                raise self._ended() from None

    def read(self, count: int, *, timeout: float) -> bytes:
        """Receive exactly `count` bytes.

        Raises:
            AlulaError: the emulator has ended, or does not send them within `timeout` [s].
        """
        data, deadline = bytearray(), time.monotonic() + timeout
        while len(data) < count:
            if self._process is None:
                raise self._ended()
            try:
                got = os.read(self._in, count - len(data))
            except BlockingIOError:
                self._wait(self._in, select.POLLIN, deadline, timeout)
                continue
            except OSError:
                raise self._ended() from None
            if not got:
                raise self._ended()
            data += got
        return bytes(data)

    def wait(self, *, timeout: float) -> int:
        """Wait until the firmware ends the emulation; returns its exit code.

        Raises:
            AlulaError: it does not within `timeout` [s], or the board is closed.
        """
        if self._process is None:
            raise self._ended()
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AlulaError(f"{self._title} did not end within {timeout:g} s") from None

    def _wait(self, file: int, event: int, deadline: float, timeout: float) -> None:
        """Wait until a file is ready; an error if the emulator ends or time is up before."""
        ready = select.poll()
        ready.register(file, event)
        while not ready.poll(1000.0 * POLL_S):
            if self._process is None or self._process.poll() is not None:
                # What it sent before it ended counts
                if ready.poll(0.0):
                    return
                raise self._ended()
            if time.monotonic() > deadline:
                raise AlulaError(f"{self._title} did not answer within {timeout:g} s")

    def _ended(self) -> AlulaError:
        if self._process is None:
            return AlulaError(f"{self._title} has been closed")
        try:
            code = self._process.wait(1.0)
            said = self._errors.read_text(errors="replace").strip().splitlines()
        except (OSError, subprocess.TimeoutExpired):
            return AlulaError(f"{self._title} closed the link")
        return AlulaError(
            f"{self._title} ended with code {code}{f': {said[-1]}' if said else ''}; "
            "allowed: to run until it is closed"
        )
