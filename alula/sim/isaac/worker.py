"""The process in which Isaac runs, as alula sees it."""

import collections
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from alula.errors import AlulaError
from alula.sim.isaac import channel

IsaacName = Literal["isaac-lab", "isaac-gym"]
SCRIPTS: dict[IsaacName, str] = {"isaac-lab": "isaac_lab.py", "isaac-gym": "isaac_gym.py"}
NEEDED: dict[IsaacName, str] = {
    "isaac-lab": "Isaac Lab 2.3 or 3",
    "isaac-gym": "Isaac Gym Preview 4 (which needs Python 3.7 or 3.8)",
}
END_S = 60.0
"""Isaac Sim takes its time to end [s]."""
LOG_LINES = 40
"""How much of what it printed is kept for a report."""


class NotInstalled(AlulaError):
    """There is no Isaac where it was looked for."""


class Worker:
    """Starts Isaac when a scene is first built, and again for another scene."""

    def __init__(self, name: IsaacName, *, python: Path | None = None) -> None:
        self.name: IsaacName = name
        self.said: dict[str, Any] = {}
        """What it told of itself: versions, names, orders."""
        self._python = str(python or sys.executable)
        self._process: subprocess.Popen[bytes] | None = None
        self._scene: dict[str, Any] = {}
        self._refused: tuple[dict[str, Any], str] | None = None
        self._origin_w = np.zeros((0, 3))
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115

    def build(self, scene: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
        """Have this scene; what Isaac says of it, and the origins of the environments in the world [m] (N, 3).

        Raises:
            NotInstalled: no such interpreter, or no Isaac in it.
            AlulaError: Isaac refuses the scene.
        """
        if self._refused is not None and self._refused[0] == scene:
            # It takes long to start, and would refuse it again.
            raise AlulaError(self._refused[1])
        if self._process is None or scene != self._scene:
            self.close()
            self._start()
            try:
                head, arrays = self._ask({"call": "build", "scene": scene}, {})
            except AlulaError as e:
                self._refused = scene, str(e)
                raise
            self.said, self._origin_w, self._scene = head["said"], arrays["origin_w"], scene
        return self.said, self._origin_w

    def step(self, steps: int, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Write states and targets, advance by physics steps, read the new state.

        Raises:
            AlulaError: Isaac raised an error or ended.
        """
        return self._ask({"call": "step", "steps": steps}, arrays)[1]

    def log(self) -> list[str]:
        """The last lines that it printed."""
        # It writes where the file's position is, so that must stay.
        number = self._log.fileno()
        text = os.pread(number, os.fstat(number).st_size, 0).decode(errors="replace")
        text = text.replace(str(Path.home()), "~")
        return list(collections.deque((x for x in text.splitlines() if x.strip()), LOG_LINES))

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            assert process.stdin is not None
            channel.write(process.stdin, {"call": "end"}, {})
            process.stdin.close()
            process.wait(END_S)
        except (OSError, subprocess.TimeoutExpired):
            process.kill()
            process.wait()

    def _start(self) -> None:
        script = Path(__file__).parent / SCRIPTS[self.name]
        self._log.seek(0)
        self._log.truncate()
        try:
            self._process = subprocess.Popen(
                [self._python, str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
            )
        except OSError as e:
            raise NotInstalled(
                f"{self.name}: {self._python} cannot be run ({e.strerror}); allowed: --python FILE, "
                f"the interpreter that has {NEEDED[self.name]}"
            ) from None

    def _ask(
        self, head: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        process = self._process
        if process is None:
            raise AlulaError(f"{self.name} does not run; allowed: after build")
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            channel.write(process.stdin, head, arrays)
            answer, values = channel.read(process.stdout)
        except (EOFError, OSError):
            self._process = None
            process.kill()
            process.wait()
            last = (self.log() or ["it printed nothing"])[-1].strip()
            raise AlulaError(f"the process of {self.name} ended; its last line: {last}") from None
        if "missing" in answer:
            self.close()
            raise NotInstalled(
                f"{self.name} is not installed for {self._python} (no module {answer['missing']}); "
                f"allowed: --python FILE, the interpreter that has {NEEDED[self.name]}"
            )
        if "error" in answer:
            # Half a step has no meaning.
            self.close()
            raise AlulaError(f"{self.name}: {answer['error']}")
        return answer, values
