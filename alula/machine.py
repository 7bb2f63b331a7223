"""What the figures that alula prints were measured on."""

import platform
from pathlib import Path


def processor_name() -> str:
    """Of this machine's first processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
