"""Fixtures shared by all tests."""

import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Generator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# Small networks on one thread: torch's threads wait for each other by spinning, which starves a busy computer. Here, as it
# is read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What starts in the background of a shell ignores Ctrl-C, and so would the processes that tests send it to.
signal.signal(signal.SIGINT, signal.default_int_handler)

MAY_BE_ABSENT = ("real flight logs", "root writes everywhere", "no /dev/zero", "no GPU")
"""What a skip's reason holds where it is not for want of a tool."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With ALULA_ALL_TOOLS set, as in CI, a test that would skip for want of a tool fails."""
    report = yield
    if report.skipped and os.environ.get("ALULA_ALL_TOOLS") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(text in reason for text in MAY_BE_ABSENT):
            report.outcome = "failed"
            report.longrepr = f"every tool must be there (ALULA_ALL_TOOLS): {reason}"
    return report


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real flight logs: $ALULA_DATA, else ../shared/data; skips where neither is."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("ALULA_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"real flight logs not found in {folder}; set ALULA_DATA")
    return folder


class HostKernels:
    """Kernels for a GPU compiled for this processor, a thread after the other: as `sim.multirotor.cuda.Kernels`."""

    def __init__(self, library: ctypes.CDLL) -> None:
        import torch

        self.device, self.library = torch.device("cpu"), library

    def launch(self, name: str, n: int, *arguments: Any) -> None:
        """Run a kernel on `n` threads."""
        getattr(self.library, f"run_{name}")(ctypes.c_uint(n), *map(ctypes.byref, arguments))


@pytest.fixture(scope="session")
def on_host(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., HostKernels]:
    """Compiles a program of CUDA kernels together with a file that runs them: (features, task, program, file), each once."""
    from alula.sim.multirotor.cuda_kernels import sources

    compiler = next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)

    @cache
    def compiled(features: Any, task: ModuleType, program: Any, runner: Path) -> HostKernels:
        if compiler is None:
            pytest.skip("no C++ compiler")
        folder = tmp_path_factory.mktemp(task.NAME)
        for name, text in sources(features, task, program).items():
            (folder / name).write_text(text)
        out = folder / "kernels.so"
        command = [
            compiler, "-std=c++17", "-O1", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared",
            "-fno-math-errno", f"-I{folder}", "-o", str(out), str(runner),
        ]  # fmt: skip
        subprocess.run(command, check=True)
        return HostKernels(ctypes.CDLL(str(out)))

    return compiled
