"""The policy's steps by the exported C, compiled for this computer and called through ctypes."""

import ctypes
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alula.deploy_ros2.steps import LOST, TIME_BACKWARDS, Counters
from alula.errors import AlulaError
from alula.firmware_export.c_export import export_c
from alula.firmware_export.host import load_source

if TYPE_CHECKING:
    from alula.policies.onnx_file import Policy

SOURCE = """
#include "policy.c"

uint32_t robot_bytes(void)
{
    return (uint32_t)sizeof(policy_t);
}

void robot_init(policy_t *robot, const uint32_t *stale_us, uint32_t lost_steps)
{
    policy_init(robot);
    memcpy(robot->stale_us, stale_us, sizeof robot->stale_us);
    robot->lost_steps = lost_steps;
}

policy_counters_t *robot_counters(policy_t *robot)
{
    return &robot->counters;
}

uint32_t robot_step(policy_t *robot, const float *supplied, const uint64_t *stamps_us, uint64_t now_us,
                    float *action)
{
    policy_observation_t observation;
    memcpy(&observation, supplied, POLICY_NUM_SUPPLIED * sizeof(float));
    memcpy(observation.time_us, stamps_us, sizeof observation.time_us);
    return policy_step(robot, &observation, now_us, action);
}
"""


class _Counters(ctypes.Structure):
    """policy_counters_t."""

    _fields_ = [(name, ctypes.c_uint32) for name in Counters.__dataclass_fields__]


class CSteps:
    """One robot's policy in C: the same calls as `Steps`."""

    def __init__(self, policy: "Policy", stale_us: list[int], lost_steps: int) -> None:
        with tempfile.TemporaryDirectory(prefix="alula-c-") as scratch:
            path = Path(scratch) / "policy.onnx"
            path.write_bytes(policy.data)
            export_c(path, Path(scratch) / "c")
            library = load_source(Path(scratch) / "c", SOURCE)
        sizes = policy.contract.supplied_size, len(policy.contract.supplied)
        self._supplied = np.zeros(sizes[0], np.float32)
        self._stamps = np.zeros(sizes[1], np.uint64)
        self.action = np.zeros(policy.contract.action_size, np.float32)
        """Last action given out."""
        # 64-bit words, since policy_t is aligned to 8 bytes
        self._robot = np.zeros(-(-library.robot_bytes() // 8), np.uint64)
        limits = np.array(stale_us, np.uint32)
        library.robot_init.restype = library.policy_reset.restype = None
        self._init, self._limits, self._lost_steps = library.robot_init, limits, lost_steps
        self._reset, self._step = library.policy_reset, library.robot_step
        self._step.restype = ctypes.c_uint32
        library.robot_counters.restype = ctypes.POINTER(_Counters)
        self._counters = library.robot_counters(self._pointer(self._robot)).contents
        self._arguments = [self._pointer(a) for a in (self._robot, self._supplied, self._stamps)]
        self._action = self._pointer(self.action)
        self.init()

    def init(self) -> None:
        """As new: the past forgotten, the counters at zero."""
        self._init(self._arguments[0], self._pointer(self._limits), self._lost_steps)

    @property
    def counters(self) -> Counters:
        """What happened so far."""
        return Counters(
            **{name: getattr(self._counters, name) for name in Counters.__dataclass_fields__}
        )

    def no_time(self) -> int:
        """A call whose time is no time: as one with an earlier time than before."""
        self._counters.time_backwards += 1
        lost = self._counters.held_in_a_row > self._lost_steps
        return TIME_BACKWARDS | (LOST if lost else 0)

    def reset(self) -> None:
        """Forget the past; counters stay."""
        self._reset(self._arguments[0])

    def step(self, supplied: np.ndarray, stamps_us: list[int], now_us: int) -> int:
        """One call; the action is in `action`, the bits of Status are returned."""
        if supplied.shape != self._supplied.shape:
            raise AlulaError(f"supplied {supplied.shape}; allowed: {self._supplied.shape}")
        self._supplied[:] = supplied
        self._stamps[:] = stamps_us
        return self._step(*self._arguments, ctypes.c_uint64(now_us), self._action)

    @staticmethod
    def _pointer(array: np.ndarray) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data)
