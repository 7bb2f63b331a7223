"""An exported policy call by call: any clock, any stamps, damaged memory; small policies. For several tests."""

import ctypes
import subprocess
from pathlib import Path

import numpy as np

from alula.firmware_export.c_export import export_c
from alula.policies.contract import ActionEntry, Contract, ObservationEntry
from alula.policies.network import Network
from alula.policies.onnx_file import write_policy

SOURCE = r"""
#include "policy.c"
#include <stddef.h>

void t_numbers(uint64_t *numbers)
{
    const uint64_t all[] = {sizeof(policy_t), POLICY_NUM_SUPPLIED, POLICY_NUM_FIELDS, POLICY_NUM_ACTIONS,
        POLICY_STEP_US, POLICY_EARLY_US, POLICY_RESTART_US, POLICY_LOST_STEPS, offsetof(policy_t, lost_steps),
        offsetof(policy_t, counters), offsetof(policy_t, action), sizeof(policy_counters_t)};
    memcpy(numbers, all, sizeof all);
}

uint32_t t_step(policy_t *policy, const float *supplied, const uint64_t *stamps, uint64_t time_us, float *action)
{
    policy_observation_t observation;
    memset(&observation, 0x7f, sizeof observation);
    memcpy(&observation, supplied, POLICY_NUM_SUPPLIED * sizeof(float));
    memcpy(observation.time_us, stamps, sizeof observation.time_us);
    return policy_step(policy, &observation, time_us, action);
}
"""
BETWEEN, MISSED, RESTARTED, CLIPPED, SATURATED = 1, 2, 4, 8, 16
NOT_FINITE, STALE, BACKWARDS, DAMAGED, LOST = 32, 64, 128, 256, 512
COUNTERS = (
    *("steps", "between", "missed", "restarted", "clipped", "saturated"),
    *("not_finite", "stale", "time_backwards", "damaged", "held_in_a_row"),
)


class Library:
    """The compiled export."""

    def __init__(self, folder, command=("gcc", "-O1")):
        source, library = folder / "stepper.c", folder / "stepper.so"
        source.write_text(SOURCE)
        flags = ["-std=c99", "-fPIC", "-shared", f"-I{folder}", str(source), "-o", str(library)]
        # -nostartfiles: the start-up code of -ffast-math would flush subnormal numbers in this process.
        flags += ["-nostartfiles"] if "-ffast-math" in command else []
        subprocess.run([*command, *flags], check=True)
        self.c = ctypes.CDLL(str(library))
        numbers = (ctypes.c_uint64 * 12)()
        self.c.t_numbers(numbers)
        self.size, self.supplied_size, self.fields, self.actions = numbers[:4]
        self.step_us, self.early_us, self.restart_us, self.lost_steps = numbers[4:8]
        self.lost_at, self.counters_at, self.action_at, counters_size = numbers[8:]
        assert counters_size == 4 * len(COUNTERS)
        self.c.t_step.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_uint64, ctypes.c_void_p]
        self.c.t_step.restype = ctypes.c_uint32
        self.c.policy_self_test.restype = ctypes.c_float

    def robot(self):
        """A freshly initialised robot."""
        return Robot(self)


class Robot:
    """One policy_t."""

    def __init__(self, library):
        self.library = library
        self.memory = np.full(library.size, 0xA5, np.uint8)
        # The first member is stale_us.
        self.stale_us = self.memory[: 4 * library.fields].view(np.uint32)
        self._lost = self.memory[library.lost_at :][:4].view(np.uint32)
        self._counters = self.memory[library.counters_at :][: 4 * len(COUNTERS)].view(np.uint32)
        self.initialise()

    def initialise(self):
        self.library.c.policy_init(self.memory.ctypes.data_as(ctypes.c_void_p))

    def reset(self):
        self.library.c.policy_reset(self.memory.ctypes.data_as(ctypes.c_void_p))

    @property
    def lost_steps(self):
        return int(self._lost[0])

    @lost_steps.setter
    def lost_steps(self, value):
        self._lost[0] = value

    def floats(self, words):
        """The last `words` floats in front of the action: scratch memory, state, histories."""
        end = self.library.action_at
        return self.memory[end - 4 * words : end].view(np.float32)

    def step(self, supplied, time_us, stamps=None):
        """(status, action) of one call; without stamps all fields were measured at its time."""
        library = self.library
        supplied = np.broadcast_to(np.asarray(supplied, np.float32), library.supplied_size).copy()
        stamps = np.full(library.fields, time_us, np.uint64) if stamps is None else stamps
        stamps = np.ascontiguousarray(stamps, np.uint64)
        assert stamps.shape == (library.fields,)
        action = np.empty(library.actions, np.float32)
        status = library.c.t_step(
            self.memory.ctypes.data_as(ctypes.c_void_p),
            supplied.ctypes.data_as(ctypes.c_void_p),
            stamps.ctypes.data_as(ctypes.c_void_p),
            time_us,
            action.ctypes.data_as(ctypes.c_void_p),
        )
        assert np.isfinite(action).all()
        assert np.abs(action).max() <= 1.0
        return status, action

    def counters(self):
        """The counters that are not zero, by name."""
        values = dict(zip(COUNTERS, map(int, self._counters), strict=True))
        return {name: value for name, value in values.items() if value}

    def set_counters(self, value):
        self._counters[:] = value


def build(folder: Path, network, contract, command=("gcc", "-O1")) -> Library:
    """Write, export and compile a policy."""
    write_policy(folder / "policy.onnx", network, contract)
    export_c(folder / "policy.onnx", folder / "c")
    return Library(folder / "c", command)


def made(tmp_path_factory, policy, **options) -> Library:
    """A policy (network, contract), built in a folder of its own."""
    return build(tmp_path_factory.mktemp("policy"), *policy, **options)


def close(action, expected) -> None:
    """Actions are these, to float32's accuracy."""
    np.testing.assert_allclose(np.ravel(action), np.ravel(expected), rtol=0, atol=1e-6)


# -- small policies


def squash(z):
    return z / (1 + z * z) ** 0.5


def contract(observation, **changes):
    action = ActionEntry(name="M1", low=0.1, high=0.9, unit="-", meaning="throttle")
    return Contract(
        **{
            "robot": "r",
            "robot_hash": "h",
            "task": "t",
            "control_dt": 0.01,
            "observation": observation,
            "action": (action,),
            "training": {},
            **changes,
        }
    )


def linear(weights, clip=100.0):
    size = len(weights)
    return Network(
        mean=np.zeros(size),
        scale=np.ones(size),
        clip=clip,
        weights=(np.array(weights)[:, None],),
        biases=(np.zeros(1),),
    )


def echo():
    """z = a; b is looked at, but weighs nothing. Age limits: 30 000 us and 20 000 + 30 000 us."""
    entries = (
        ObservationEntry(name="a", unit="m", frame="w", size=1),
        ObservationEntry(name="b", unit="m", frame="w", size=2, delay=0.02),
    )
    return linear([1.0, 0.0, 0.0]), contract(entries)


def recorder():
    """z as in `recorded`, past actions start at -0.5."""
    past = ObservationEntry(
        name="previous_action", unit="-", frame="-", size=1, history=3, initial=-0.5
    )
    entries = (ObservationEntry(name="a", unit="m", frame="w", size=1, history=2), past)
    return linear([0.1, 0.01, 1.0, 0.0, 0.0], clip=1000.0), contract(entries)


def recorded(now, before, past):
    """The recorder's action for a now and a step before, and the oldest of three past actions."""
    return squash(0.01 * now + 0.1 * before + float(np.ravel(past)[0]))
