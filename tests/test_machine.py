"""What is said of the machine."""

import subprocess
import sys

import numpy as np

from alula.machine import peak_memory_mb

ASK = "from alula.machine import peak_memory_mb; print(peak_memory_mb())"


def test_peak_memory_is_that_of_the_process_alone() -> None:
    before = peak_memory_mb()
    large = np.ones(40_000_000)
    # At its peak this process has all of it; one that it starts has none.
    assert peak_memory_mb() > max(before, 300.0)
    told = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    assert 1.0 < float(told.stdout) < 200.0
    del large
    assert peak_memory_mb() > 300.0
