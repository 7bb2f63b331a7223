"""What the figures that alula prints were measured on."""

import platform
import resource
from pathlib import Path


def processor_name() -> str:
    """Of this machine's first processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def peak_memory_mb() -> float:
    """Largest memory of this process so far [MiB]."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
        return int(peak) / 1024.0
    except (OSError, ValueError):
        # Of a program that a large one starts, Linux counts here what that one had.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
