"""The exported C on this computer: compiled, loaded and compared with the policy file."""

import ctypes
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from alula.c_compiler import find_compiler
from alula.errors import AlulaError
from alula.policies.onnx_file import Policy

COMPILE_TIMEOUT = 120.0
"""Longest time the compiler may take [s]."""
HOST_SOURCE = """
#include "policy.c"

uint32_t host_sizes(uint32_t index)
{
    const uint32_t sizes[3] = {POLICY_NUM_SUPPLIED, POLICY_NUM_ACTIONS, (uint32_t)sizeof(policy_t)};
    return sizes[index];
}

float host_self_test(void)
{
    policy_t policy;
    return policy_self_test(&policy);
}

float host_golden_tolerance(void)
{
    return POLICY_GOLDEN_TOLERANCE;
}

uint32_t host_run(const float *supplied, uint32_t steps, float *action)
{
    policy_t policy;
    uint32_t step, held = 0u;
    policy_init(&policy);
    for (step = 0; step < steps; step++) {
        const uint64_t time_us = (uint64_t)step * POLICY_STEP_US;
        policy_observation_t observation;
        memcpy(&observation, supplied + step * POLICY_NUM_SUPPLIED, POLICY_NUM_SUPPLIED * sizeof(float));
        policy_stamp(&observation, time_us);
        held += (policy_step(&policy, &observation, time_us, action + step * POLICY_NUM_ACTIONS) & POLICY_HELD) != 0u;
    }
    return held;
}

void host_init(policy_t *policies, uint32_t count)
{
    while (count-- != 0u) {
        policy_init(&policies[count]);
    }
}

uint32_t host_step(policy_t *policies, uint32_t count, const float *supplied, uint64_t time_us, float *action)
{
    uint32_t i, held = 0u;
    for (i = 0; i < count; i++) {
        policy_observation_t observation;
        memcpy(&observation, supplied + i * POLICY_NUM_SUPPLIED, POLICY_NUM_SUPPLIED * sizeof(float));
        policy_stamp(&observation, time_us);
        held += (policy_step(&policies[i], &observation, time_us, action + i * POLICY_NUM_ACTIONS) & POLICY_HELD)
            != 0u;
    }
    return held;
}

uint32_t host_step_us(void)
{
    return POLICY_STEP_US;
}
"""


class HostPilot:
    """N robots under an exported policy; every call is the next step of all."""

    def __init__(self, library: ctypes.CDLL, n: int, sizes: tuple[int, int, int]) -> None:
        self._supplied, self._actions, size = sizes
        self._policies = np.zeros(
            (n, size // 8), np.uint64
        )  # whole policy_t, aligned as it must be
        floats = np.ctypeslib.ndpointer(np.float32, flags="C_CONTIGUOUS")
        words = np.ctypeslib.ndpointer(np.uint64, flags="C_CONTIGUOUS")
        self._step = library.host_step
        self._step.argtypes = [words, ctypes.c_uint32, floats, ctypes.c_uint64, floats]
        self._step.restype = ctypes.c_uint32
        library.host_step_us.restype = ctypes.c_uint32
        self._step_us: int = library.host_step_us()
        self._next_us = 0
        library.host_init.argtypes = [words, ctypes.c_uint32]
        library.host_init.restype = None
        library.host_init(self._policies, n)
        self.held = 0
        """Steps held so far, of all robots together."""

    def __call__(self, supplied: np.ndarray) -> np.ndarray:
        """Actions [N, A] for the supplied observations [N, supplied_size] of now.

        Raises:
            AlulaError: the observations have another shape.
        """
        supplied = np.ascontiguousarray(supplied, np.float32)
        n = len(self._policies)
        if supplied.shape != (n, self._supplied):
            raise AlulaError(
                f"observations of shape {supplied.shape}; allowed: ({n}, {self._supplied})"
            )
        action = np.empty((n, self._actions), np.float32)
        self.held += self._step(self._policies, n, supplied, self._next_us, action)
        self._next_us += self._step_us
        return action


class HostPolicy:
    """An exported policy as native code of this computer."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        floats = np.ctypeslib.ndpointer(np.float32, flags="C_CONTIGUOUS")
        self._run = library.host_run
        self._run.argtypes = [floats, ctypes.c_uint32, floats]
        self._run.restype = ctypes.c_uint32
        self._self_test = library.host_self_test
        self._self_test.restype = ctypes.c_float
        library.host_golden_tolerance.restype = ctypes.c_float
        self.golden_tolerance: float = library.host_golden_tolerance()
        """Largest result of `self_test` that is sound."""
        sizes = library.host_sizes
        sizes.argtypes = [ctypes.c_uint32]
        sizes.restype = ctypes.c_uint32
        self.supplied_size: int = sizes(0)
        """Floats of one observation."""
        self.action_size: int = sizes(1)
        """Actions A."""
        self.ram_bytes: int = sizes(2)
        """Size of one `policy_t` on this computer [B]."""

    def run(self, supplied: np.ndarray) -> np.ndarray:
        """Actions [T, A] for supplied observations [T, supplied_size] after a reset.

        Raises:
            AlulaError: the observations have another shape.
        """
        return self.run_counting(supplied)[0]

    def run_counting(self, supplied: np.ndarray) -> tuple[np.ndarray, int]:
        """As `run`, with the count of held steps (inputs that were NaN or infinite)."""
        supplied = np.ascontiguousarray(supplied, np.float32)
        if supplied.ndim != 2 or supplied.shape[1] != self.supplied_size:
            raise AlulaError(
                f"observations of shape {supplied.shape}; allowed: (T, {self.supplied_size})"
            )
        action = np.empty((supplied.shape[0], self.action_size), np.float32)
        held = self._run(supplied, supplied.shape[0], action)
        return action, held

    def pilot(self, n: int) -> HostPilot:
        """The policy on n robots, freshly reset, each with its own histories."""
        return HostPilot(self._library, n, (self.supplied_size, self.action_size, self.ram_bytes))

    def self_test(self) -> float:
        """Largest difference over the golden sequences inside the C."""
        return float(self._self_test())


def build_host(c_dir: str | Path) -> HostPolicy:
    """Compile an export of `export_c` with this computer's C compiler ($CC, cc, gcc or clang).

    Raises:
        AlulaError: no export in the folder, no compiler, or the compiler refuses the source.
    """
    return HostPolicy(load_source(c_dir, HOST_SOURCE))


def load_source(c_dir: str | Path, source: str) -> ctypes.CDLL:
    """Compile a C source that includes policy.c of an export, and load it into this process.

    Raises:
        AlulaError: as `build_host`.
    """
    c_dir = Path(c_dir).resolve()
    if not (c_dir / "policy.c").is_file():
        raise AlulaError(f"{c_dir} holds no policy.c; allowed: a folder written by the C export")
    with tempfile.TemporaryDirectory(prefix="alula-c-") as scratch:
        path, library = Path(scratch) / "host.c", Path(scratch) / "policy.so"
        path.write_text(source, encoding="ascii")
        flags = ["-std=c99", "-O2", "-fPIC", "-shared", f"-I{c_dir}"]
        _compile([*find_compiler(), *flags, str(path), "-o", str(library)])
        try:
            # Once loaded, the library lives on without its file.
            return ctypes.CDLL(str(library))
        except OSError:
            raise AlulaError("the C compiler did not give a library for this computer") from None


def c_max_abs_diff(policy: Policy, c_dir: str | Path) -> float:
    """Largest difference between the compiled C and all golden actions of the policy.

    Raises:
        AlulaError: as `build_host`.
    """
    return golden_difference(policy, build_host(c_dir))


def golden_difference(policy: Policy, host: HostPolicy) -> float:
    """Largest difference between a compiled export and all golden actions of the policy."""
    golden = policy.golden
    actions = np.stack([host.run(supplied) for supplied in golden.supplied])
    return float(np.abs(actions - golden.action).max())


def _compile(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMPILE_TIMEOUT)
    except subprocess.CalledProcessError as e:
        lines = [line for line in e.stderr.splitlines() if "error" in line] or ["no message"]
        raise AlulaError(f"{command[0]} refuses the exported C: {lines[0]}") from None
    except (OSError, subprocess.TimeoutExpired) as e:
        raise AlulaError(f"{command[0]} did not run: {str(e).splitlines()[0]}") from None
