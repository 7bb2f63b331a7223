"""The exported PX4 module on this computer, with a test in the place of PX4; loaded by test_px4.py."""

import ctypes
import itertools
import shutil
import subprocess

import numpy as np

from alula.firmware_export.px4 import export_px4
from alula.policies.network import Network
from alula.policies.onnx_file import write_policy

HEADERS = __file__.rsplit("/", 1)[0]
MODE, ARMING_CHECK = 23, 3
NAN3 = (np.nan,) * 3
SENSED = 10
"""Entries of the log before the action and the observation."""
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wdouble-promotion", "-Wfloat-equal"]
"""As PX4 compiles a module."""
numbers = itertools.count()


def constant_network(contract, action):
    """A network that always says `action`: a = z / sqrt(1 + z^2) with z the bias."""
    a, size = np.array(action), contract.observation_size
    return Network(
        mean=np.zeros(size),
        scale=np.ones(size),
        clip=100.0,
        weights=(np.zeros((size, len(a))),),
        biases=(a / np.sqrt(1 - a * a),),
    )


def compile_module(folder, version):
    """Compile an exported folder against the restated headers; returns the library's path."""
    module = folder / "src/modules/alula"
    flags = [*WARNINGS, "-O1", "-fPIC", "-I", str(module)]
    policy, library = module / f"policy-{version}.o", folder / f"alula-{version}.so"
    c = ["gcc", "-std=gnu11", *flags, "-c", f"{module}/policy.c"]
    subprocess.run([*c, "-o", str(policy)], check=True)
    descriptor = int(version == "descriptor")
    # Without -fno-gnu-unique all copies of the library would share their messages.
    cpp = ["g++", "-std=c++17", *flags, "-fno-gnu-unique", "-shared"]
    cpp += [
        f"-DALULA_MODULE_DESCRIPTOR={descriptor}",
        f"-I{HEADERS}/{version}",
        f"-I{HEADERS}/common",
    ]
    sources = [f"{HEADERS}/harness.cpp", f"{module}/alula_flight.cpp", str(policy)]
    subprocess.run([*cpp, *sources, "-o", str(library)], check=True)
    return library


def build(folder, network, contract, version="descriptor"):
    """Write, export and compile a policy; returns the library's path."""
    write_policy(folder / "policy.onnx", network, contract)
    export_px4(folder / "policy.onnx", folder / "out")
    return compile_module(folder / "out", version)


def floats(values, size):
    """A C array."""
    return (ctypes.c_float * size)(*values)


class Px4:
    """A vehicle with PX4 on it. Everything in PX4's frames: NED, FRD, quaternions scalar first."""

    def __init__(self, library, **parameters):
        copy = library.with_name(f"{library.stem}-{next(numbers)}.so")
        shutil.copy(library, copy)
        self.c = ctypes.CDLL(str(copy))
        self.c.px4_said.restype = ctypes.c_char_p
        self.c.convert_yaw.restype = ctypes.c_float
        self.now_us = 1_000_000
        self.position, self.velocity = [10.0, 20.0, -5.0], [0.0, 0.0, 0.0]
        self.q, self.rates = [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
        self.armed, self.mode, self.allocation = False, 4, True
        self.valid, self.position_resets, self.attitude_resets = True, 0, 0
        self.silent, self.ages_us = set(), {}
        self.set(**parameters)

    def set(self, **parameters):
        """Set parameters."""
        for name, value in parameters.items():
            assert self.c.px4_parameter(name.encode(), ctypes.c_double(value))

    def command(self, word):
        """`alula <word>` on PX4's console."""
        return self.c.px4_command(word.encode())

    def said(self):
        """What the module printed since the last call."""
        return self.c.px4_said().decode()

    def publish(self):
        """New samples of everything that is not in `silent`, measured `ages_us` ago."""

        def sample(name):
            return ctypes.c_uint64(self.now_us - self.ages_us.get(name, 0))

        self.c.px4_clock(ctypes.c_uint64(self.now_us))
        if "rates" not in self.silent:
            self.c.px4_rates(sample("rates"), floats(self.rates, 3))
        if "attitude" not in self.silent:
            self.c.px4_attitude(sample("attitude"), floats(self.q, 4), self.attitude_resets)
        if "position" not in self.silent:
            p, v = floats(self.position, 3), floats(self.velocity, 3)
            resets = self.position_resets
            self.c.px4_position(sample("position"), p, v, int(self.valid), resets)
        self.c.px4_status(int(self.armed), self.mode)
        self.c.px4_allocation(int(self.allocation))

    def run(self, seconds=0.0, *, dt_us=2500):
        """Run the work item at the gyroscope's rate; once at least."""
        end = self.now_us + round(1e6 * seconds)
        while True:
            self.now_us += dt_us
            self.publish()
            alive = self.c.px4_run()
            if self.now_us >= end:
                return alive

    def setpoint(self, position=NAN3, velocity=NAN3, acceleration=NAN3, yaw=np.nan, age_us=0):
        """A trajectory setpoint."""
        time = ctypes.c_uint64(self.now_us - age_us)
        arrays = [floats(x, 3) for x in (position, velocity, acceleration)]
        self.c.px4_setpoint(time, *arrays, ctypes.c_float(yaw))

    def register(self, success=True):
        """Commander's answer to the registration."""
        assert self.c.px4_register(MODE, ARMING_CHECK, int(success))

    def can_run(self):
        """The module's answer to an arming check."""
        self.now_us += 2500
        self.publish()
        return self.c.px4_arming_check(next(numbers) % 256)

    def motors(self):
        """(messages so far, the last one)."""
        control = floats([0] * 12, 12)
        return self.c.px4_motors(control), np.array(control)

    def mode_command(self):
        """(commands so far, the mode of the last one)."""
        mode = ctypes.c_float()
        return self.c.px4_mode_command(ctypes.byref(mode)), mode.value

    def controllers(self):
        """What was last asked of PX4's controllers: let go, take over, None."""
        return {1: "let go", 0: "take over", -1: None}[self.c.px4_controllers(MODE)]

    def log(self):
        """The last entry of the log."""
        data = floats([0] * 58, 58)
        assert self.c.px4_log(data) > 0
        return np.array(data)

    def see(self, seconds=0.1):
        """Fly on until the log has a new entry; returns the observation in it."""
        self.run(seconds)
        return self.log()[SENSED + 4 :]

    def take_off(self):
        """Start the module, arm in Hold, select the mode, let go of the motors: the policy flies."""
        assert self.command("start") == 0
        self.run()
        self.register()
        self.armed = True
        self.run()
        self.enter()

    def enter(self):
        """Select the mode; PX4 lets go of the motors when it is asked."""
        self.mode = MODE
        self.allocation = True
        self.run()
        assert self.controllers() == "let go"
        self.allocation = False
        self.run()
