"""What the figures were measured on, in one line, and the machine's peak for floors."""

import ctypes
import datetime
import os
import tempfile
import time
from pathlib import Path

from alula.machine import processor_name
from alula.sim.compile import compile_library

PEAK = r"""
#include "generated.h"
typedef float vec __attribute__((vector_size(4 * VW)));
/* Twelve independent chains of fused multiply-adds: more than latency times throughput of any core so far. */
float alula_peak(long loops)
{
    vec a[12], x, y;
    for (int i = 0; i < VW; i++) { x[i] = 0.999f; y[i] = 0.001f; }
    for (int j = 0; j < 12; j++) a[j] = x * (float)j;
    for (long n = 0; n < loops; n++) {
#pragma GCC unroll 12
        for (int j = 0; j < 12; j++) a[j] = a[j] * x + y;
    }
    float s = 0;
    for (int j = 0; j < 12; j++) for (int i = 0; i < VW; i++) s += a[j][i];
    return s;
}
"""


def describe() -> str:
    """Date, processor, cores."""
    load = os.getloadavg()[0]
    return f"{datetime.date.today()}, {processor_name()}, {os.cpu_count()} cores, load {load:.1f} at the start"


def peak_flops(vector_width: int, seconds: float = 0.3) -> float:
    """Fused multiply-adds times two per second on one core, single precision, measured."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "peak.c"
        source.write_text(PEAK)
        library = compile_library(source, (), f"#define VW {vector_width}\n")
    library.alula_peak.argtypes, library.alula_peak.restype = [ctypes.c_long], ctypes.c_float
    loops, best, end = 1_000_000, 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        library.alula_peak(loops)
        best = max(best, loops * 12 * vector_width * 2 / (time.perf_counter() - start))
    return best
