"""The Crazyflie app, compiled for this computer against headers that restate the firmware's interfaces."""

import ctypes
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula.build import build_simulator
from alula.errors import AlulaError
from alula.firmware_export import autopilot
from alula.firmware_export.c_export import export_c
from alula.firmware_export.crazyflie import (
    FILES,
    TEMPLATES,
    check_contract,
    export_crazyflie,
)
from alula.firmware_export.host import build_host
from alula.frames import quat_xyzw_from_wxyz, rot_from_quat
from alula.policies.contract import ActionEntry, ObservationEntry
from alula.policies.onnx_file import load_policy, write_policy
from alula.robots.multirotor import load_robot
from alula.sim.config import SimConfig
from alula.tasks import hover, track

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc to compile the app")
HEADERS = Path(__file__).parent / "crazyflie_headers"
FLAGS = [
    "-Os",
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-Wdouble-promotion",
    "-Werror",
    "-Wmissing-braces",
    "-fno-math-errno",
]
M4F = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]
STACK_BYTES = 300
"""Most that one function may take of the stabilizer task's 1800 B."""
S = math.sqrt(0.5)
REASONS = {
    "self_test": 1, "estimator": 2, "airborne": 3, "setpoint": 4, "not_finite": 5, "tilt": 6,
    "heading": 7, "distance": 8, "fence": 9, "speed": 10, "rate": 11, "held": 12, "damaged": 13,
}  # fmt: skip
OFF, WAITING, FLYING, TRIPPED = range(4)
example = run_path(str(Path(__file__).parents[1] / "policies" / "example.py"))


def track_policy():
    contract = example["make_contract"](past_actions=2)
    past = next(e for e in contract.observation if e.name == "previous_action")
    contract = replace(contract, task="track", observation=(*track.ENTRIES, past))
    return example["make_network"](contract, hidden=(8,)), contract


def shuffled_policy():
    return example["make_policy"](hidden=(8,), past_actions=2, names=["M3", "M1", "M4", "M2"])


def make(folder, network, contract):
    """A policy file and its app in `folder`."""
    write_policy(folder / "policy.onnx", network, contract)
    return export_crazyflie(folder / "policy.onnx", folder / "app").folder


def compile_app(app, library):
    sources = [str(HEADERS / "driver.c"), str(app / "src" / "policy.c")]
    includes = [f"-I{app / 'src'}", f"-I{HEADERS}"]
    command = ["gcc", *FLAGS, "-fPIC", "-shared", *includes, *sources, "-lm", "-o", str(library)]
    subprocess.run(command, check=True)
    return library


@pytest.fixture(scope="module")
def apps(tmp_path_factory):
    """Exported and compiled apps by name: (folder, library)."""
    made = {
        "hover": example["make_policy"](hidden=(8,), past_actions=2),
        "track": track_policy(),
        "shuffled": shuffled_policy(),
    }
    result = {}
    for name, (network, contract) in made.items():
        folder = tmp_path_factory.mktemp(name)
        app = make(folder, network, contract)
        result[name] = app, compile_app(app, folder / "app.so")
    return result


def floats(*values):
    return (ctypes.c_float * len(values))(*values)


class Crazyflie:
    """The app in a firmware that the test plays: airborne, at rest 1 m above the origin, and called at 1 kHz."""

    def __init__(self, library, folder):
        own = folder / f"{len(list(folder.iterdir()))}.so"  # its statics are its own
        shutil.copy(library, own)
        self.lib = ctypes.CDLL(str(own))
        self.lib.driver_log.restype = ctypes.c_double
        self.lib.driver_eight_advance.restype = ctypes.c_float
        self.lib.controllerOutOfTreeTest.restype = ctypes.c_bool
        self.position, self.quat = (0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 1.0)
        self.velocity, self.gyro = (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)
        self.frozen_estimate = self.frozen_gyro = self.frozen_setpoint = False
        self.calls, self.gyro_us, self.setpoint_ticks = 0, 0, 0
        self.set("clock_us", 5_000_000, ctypes.c_uint64)
        self.set("ticks", 5000)
        self.setpoint()
        self.lib.controllerOutOfTreeInit()

    def set(self, name, value, kind=ctypes.c_uint32):
        kind.in_dll(self.lib, name).value = value

    def get(self, name, kind=ctypes.c_uint32):
        return kind.in_dll(self.lib, name).value

    def param(self, name, value):
        assert self.lib.driver_param(name.encode(), ctypes.c_double(value)), name

    def log(self, name):
        value = self.lib.driver_log(name.encode())
        assert value != -1.0, name
        return value

    def setpoint(
        self,
        position=(0.0, 0.0, 1.0),
        velocity=(0, 0, 0),
        acceleration=(0, 0, 0),
        *,
        mode=1,
        body=0,
    ):
        self.lib.driver_setpoint(
            mode, floats(*position), floats(*velocity), floats(*acceleration), body
        )

    def call(self, times=1):
        """`times` calls, 1 ms apart."""
        for _ in range(times):
            self.calls += 1
            now = self.get("clock_us", ctypes.c_uint64) + 1000
            self.set("clock_us", now, ctypes.c_uint64)
            self.set("ticks", self.get("ticks") + 1)
            if not self.frozen_gyro:
                self.gyro_us = now - 200
            if not self.frozen_setpoint:
                self.setpoint_ticks = self.get("ticks")
            self.lib.driver_times(ctypes.c_uint64(self.gyro_us), self.setpoint_ticks)
            # a filter's estimate never stands still: its velocity changes in the last bits
            noise = 0.0 if self.frozen_estimate else 1e-6 * (self.calls % 2)
            vx, vy, vz = self.velocity
            self.lib.driver_state(
                floats(*self.position),
                floats(*self.quat),
                floats(vx + noise, vy, vz),
                floats(*self.gyro),
            )
            self.lib.driver_call(self.calls)

    def take_off(self):
        """Switch on and let the policy take over."""
        self.param("on", 1)
        self.call(2)
        assert self.log("mode") == FLYING, self.log("reason")

    @property
    def forces(self):
        """Motor commands of the last call; None where PID flew."""
        mode, forces = ctypes.c_int(), (ctypes.c_float * 4)()
        self.lib.driver_control(ctypes.byref(mode), forces)
        return list(forces) if mode.value else None

    def observation(self):
        """Floats and ages [us] of what the policy was last shown."""
        values, ages = (ctypes.c_float * 64)(), (ctypes.c_int64 * 8)()
        count = self.lib.driver_observation(values, ages)
        return np.array(values[:count]), list(ages)

    def reference(self):
        """Position, velocity, previews (4, 3) of the reference called on its own."""
        row = np.array((ctypes.c_float * 18).in_dll(self.lib, "reference")[:])
        return row[:3], row[3:6], row[6:].reshape(4, 3)


@pytest.fixture
def cf(apps, tmp_path):
    return Crazyflie(apps["hover"][1], tmp_path)


@pytest.fixture
def tracker(apps, tmp_path):
    return Crazyflie(apps["track"][1], tmp_path)


# Conversions


@pytest.mark.parametrize(
    ("quat_xyzw", "rot_wb"),
    [
        ((0, 0, 0, 1), [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        # roll +90 degrees: the left side goes up
        ((S, 0, 0, S), [[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
        # pitch +90 degrees: the nose goes down
        ((0, S, 0, S), [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]),
        # yaw +90 degrees: the nose goes left, to world y
        ((0, 0, S, S), [[0, -1, 0], [1, 0, 0], [0, 0, 1]]),
        # a quaternion of length 2 is the same rotation
        ((0, 0, 2 * S, 2 * S), [[0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    ],
)
def test_attitude(cf, quat_xyzw, rot_wb):
    cf.quat = quat_xyzw
    cf.param("on", 1)
    cf.call()
    np.testing.assert_allclose(cf.observation()[0][3:12], np.ravel(rot_wb), atol=1e-6)


def test_position_velocity_and_body_rate(cf):
    cf.setpoint(position=(1.0, 2.0, 3.0))
    cf.position, cf.velocity = (1.5, 1.0, 5.0), (0.1, -0.2, 0.3)
    cf.gyro = (180.0, -90.0, 360.0)
    cf.param("on", 1)
    cf.call()
    seen, ages = cf.observation()
    np.testing.assert_allclose(seen[:3], [0.5, -1.0, 2.0], atol=1e-6)
    np.testing.assert_allclose(seen[12:15], [0.1, -0.2, 0.3], atol=2e-6)
    np.testing.assert_allclose(seen[15:18], [math.pi, -math.pi / 2, 2 * math.pi], rtol=1e-6)
    # estimate new in this call; gyroscope 0.2 ms ago
    assert ages[:4] == [0, 0, 0, 200]
    # the fixed point instead of the setpoint
    cf.param("source", 1)
    cf.param("z", 4.0)
    cf.call()
    np.testing.assert_allclose(cf.observation()[0][:3], [1.5, 1.0, 1.0], atol=1e-6)


def test_tracking_entries(tracker):
    tracker.setpoint(position=(1, 2, 3), velocity=(0.5, 0, 0), acceleration=(0, 2, 0))
    tracker.position, tracker.velocity = (1.25, 2.5, 2.0), (0.75, 0.25, -1.0)
    tracker.param("on", 1)
    tracker.call()
    seen, ages = tracker.observation()
    np.testing.assert_allclose(seen[:3], [0.25, 0.5, -1.0], atol=1e-6)
    np.testing.assert_allclose(seen[12:15], [0.25, 0.25, -1.0], atol=2e-6)
    # v tau + a tau^2 / 2 at 0.1, 0.2, 0.4, 0.6 s
    preview = [[0.05, 0.01, 0], [0.1, 0.04, 0], [0.2, 0.16, 0], [0.3, 0.36, 0]]
    np.testing.assert_allclose(seen[18:30], np.ravel(preview), atol=1e-6)
    assert ages[:5] == [0, 0, 0, 200, 0]
    # velocities in the body's axes are not used
    tracker.setpoint(position=(1, 2, 3), velocity=(0.5, 0, 0), acceleration=(0, 2, 0), body=1)
    tracker.lib.driver_setpoint_reference()
    position, velocity, preview = tracker.reference()
    assert position.tolist() == [1, 2, 3]
    assert not velocity.any()
    assert not preview.any()


def test_entries_are_those_of_the_tasks():
    entries = {e.name: (e.unit, e.frame, e.size) for e in (*hover.ENTRIES, *track.ENTRIES)}
    assert entries == autopilot.SUPPLIED
    text = (TEMPLATES / "src" / "alula_convert.h").read_text()
    ahead = re.search(r"ALULA_PREVIEW_S \{(.*?)\}", text)
    assert ahead is not None
    assert tuple(float(x.strip("f ")) for x in ahead[1].split(",")) == track.PREVIEW_S


def eight(app, length, width, lap, t):
    app.lib.driver_eight(*(ctypes.c_float(x) for x in (length, width, lap, t)))
    return app.reference()


def test_figure_eight(tracker):
    # about (1, 2, 3); 2 m x 1 m, lap 4 s, so w = pi/2 rad/s; at 2 s the phase is w (2 - 1) = pi/2
    position, velocity, preview = eight(tracker, 2.0, 1.0, 4.0, 2.0)
    np.testing.assert_allclose(position, [2.0, 2.0, 3.0], atol=1e-6)
    # v = (length/2 w cos(phase), width w cos(2 phase)) = (0, -pi/2)
    np.testing.assert_allclose(velocity, [0.0, -math.pi / 2, 0.0], atol=1e-6)
    # after 0.2 s more the phase is 0.6 pi: x = sin(0.6 pi) = 0.951057, y = sin(1.2 pi)/2 = -0.293893
    np.testing.assert_allclose(preview[1], [0.951057 - 1.0, -0.293893, 0.0], atol=1e-6)
    # at 1 s, half-way up the ramp: phase w/4 = pi/8, rate w/2 = pi/4
    position, velocity, _ = eight(tracker, 2.0, 1.0, 4.0, 1.0)
    np.testing.assert_allclose(position, [1.382683, 2.353553, 3.0], atol=1e-6)
    np.testing.assert_allclose(velocity, [0.725613, 0.555360, 0.0], atol=1e-6)
    # it begins at rest, in the middle
    position, velocity, _ = eight(tracker, 2.0, 1.0, 4.0, 0.0)
    assert (position.tolist(), velocity.tolist()) == ([1, 2, 3], [0, 0, 0])
    # the task's own figure, at equal phase: t here is 1 s more than there
    rows = np.array(track.reference(0.7, track.figure_eight(2.0, 1.0, 5.5)))
    position, velocity, preview = eight(tracker, 2.0, 1.0, 5.5, 1.7 + 5.5)
    np.testing.assert_allclose(position - [1, 2, 3], rows[:3], atol=2e-6)
    np.testing.assert_allclose(velocity, rows[3:6], atol=2e-6)
    np.testing.assert_allclose(preview.ravel(), rows[6:], atol=2e-6)


def test_figure_eight_goes_round_and_round(tracker):
    def advance(lap, t, dt):
        return tracker.lib.driver_eight_advance(*(ctypes.c_float(x) for x in (lap, t, dt)))

    assert advance(4.0, 5.0, 0.5) == 5.5
    assert advance(4.0, 5.5, 0.5) == 2.0  # 6 s is one lap after the ramp
    assert advance(math.nan, 2.5, 0.5) == 2.0  # a lap that is no number becomes 1 s
    tracker.take_off()
    for name, value in (("eight", 1), ("eightLength", 2.0), ("eightWidth", 1.0), ("eightLap", 4.0)):
        tracker.param(name, value)
    tracker.param("maxDistance", 9)
    tracker.call(1 + 2000)
    # the reference is now 1 m ahead in x
    np.testing.assert_allclose(tracker.observation()[0][:3], [-1.0, 0.0, 0.0], atol=1e-3)
    tracker.param("eight", 0)
    tracker.call()
    np.testing.assert_allclose(tracker.observation()[0][:3], 0.0, atol=1e-6)


@pytest.mark.parametrize("name", ["hover", "shuffled"])
def test_each_rotor_alone(apps, tmp_path, name):
    cf = Crazyflie(apps[name][1], tmp_path)
    order = [0, 1, 2, 3] if name == "hover" else [2, 0, 3, 1]  # actions are M3, M1, M4, M2
    for k, motor in enumerate(order):
        action = [-1.0] * 4
        action[k] = 1.0
        cf.lib.driver_motors(floats(*action))
        assert cf.forces == [float(m == motor) for m in range(4)]
    cf.lib.driver_motors(floats(0.0, 0.5, -0.5, 1.0))
    wanted = [0.0] * 4
    for motor, throttle in zip(order, (0.5, 0.75, 0.25, 1.0), strict=True):
        wanted[motor] = throttle
    assert cf.forces == wanted


# Who flies


def test_pid_flies_until_switched_on(cf):
    assert cf.lib.controllerOutOfTreeTest()
    assert cf.get("pid_inits") == 1
    cf.call(3)
    assert cf.forces is None
    assert (cf.get("pid_calls"), cf.log("mode"), cf.log("steps")) == (3, OFF, 0)
    assert (ctypes.c_uint32 * 2).in_dll(cf.lib, "pid_steps")[:] == [2, 3]
    cf.param("on", 1)
    cf.call()  # all is well: the policy takes over at the next call
    assert (cf.get("pid_calls"), cf.log("mode"), cf.log("reason")) == (4, FLYING, 0)
    cf.call()
    actions = [cf.log(f"action{i}") for i in (1, 2, 3, 4)]
    assert cf.forces == pytest.approx([0.5 * (a + 1.0) for a in actions], abs=1e-6)
    assert cf.get("pid_calls") == 4
    cf.param("on", 0)
    cf.call()
    assert (cf.forces, cf.log("mode"), cf.log("trips")) == (None, OFF, 0)


def test_pid_begins_anew_after_the_policy(cf):
    cf.take_off()
    cf.call(5)
    cf.param("on", 0)
    cf.call()
    # first a setpoint without thrust, which makes it forget; then the real one; both with all loops due
    assert (ctypes.c_uint32 * 2).in_dll(cf.lib, "pid_steps")[:] == [0, 0]
    assert (ctypes.c_uint32 * 2).in_dll(cf.lib, "pid_timestamps")[:] == [0, cf.get("ticks")]
    cf.call()
    assert (ctypes.c_uint32 * 2).in_dll(cf.lib, "pid_steps")[:] == [0, cf.calls]


def test_native_rate(cf):
    cf.take_off()
    before = cf.log("steps")
    cf.call(100)  # 0.1 s at 100 Hz
    assert cf.log("steps") - before == 10
    assert cf.log("missed") == cf.log("heldInARow") == 0


def spoil(cf, reason):
    """Bring about the given reason."""
    if reason == "airborne":
        cf.set("is_airborne", 0, ctypes.c_uint8)
    elif reason == "estimator":
        cf.set("estimator_type", 1)
    elif reason == "setpoint":
        cf.setpoint(mode=2)
    elif reason == "tilt":
        cf.quat = (math.sin(math.radians(31)), 0, 0, math.cos(math.radians(31)))  # 62 degrees
    elif reason == "heading":
        cf.quat = (0, 0, math.sin(math.radians(-31)), math.cos(math.radians(31)))
    elif reason == "distance":
        cf.position = (0.6, 0.0, 1.81)  # 1.006 m
    elif reason == "fence":
        cf.position = (0.0, 0.0, 0.14)
    elif reason == "speed":
        cf.velocity = (0.0, -3.01, 0.0)
    elif reason == "rate":
        cf.gyro = (0.0, 0.0, -1001.0)
    else:
        raise AssertionError(reason)


SPOILED = [
    "airborne",
    "estimator",
    "setpoint",
    "tilt",
    "heading",
    "distance",
    "fence",
    "speed",
    "rate",
]


def mend(cf):
    cf.set("is_airborne", 1, ctypes.c_uint8)
    cf.set("estimator_type", 2)
    cf.setpoint()
    cf.position, cf.quat = (0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 1.0)
    cf.velocity = cf.gyro = (0.0, 0.0, 0.0)


@pytest.mark.parametrize("reason", SPOILED)
def test_every_trip_gives_back_to_pid_until_switched_off_and_on(cf, reason):
    cf.take_off()
    cf.call(20)
    spoil(cf, reason)
    cf.call()
    assert cf.forces is None
    assert (cf.log("mode"), cf.log("reason"), cf.log("trips")) == (TRIPPED, REASONS[reason], 1)
    assert cf.log(f"trip{reason.capitalize()}") == 1
    mend(cf)
    cf.call(500)
    assert (cf.forces, cf.log("mode"), cf.log("reason")) == (None, TRIPPED, REASONS[reason])
    cf.param("on", 0)
    cf.call()
    assert (cf.log("mode"), cf.log("reason")) == (OFF, 0)
    cf.take_off()
    cf.call()
    assert cf.forces is not None
    assert cf.log("trips") == 1


@pytest.mark.parametrize("reason", SPOILED)
def test_the_policy_waits_where_something_speaks_against_it(cf, reason):
    spoil(cf, reason)
    cf.param("on", 1)
    cf.call(50)
    assert (cf.forces, cf.log("mode"), cf.log("reason")) == (None, WAITING, REASONS[reason])
    mend(cf)
    cf.call(2)
    assert (cf.log("mode"), cf.log("trips")) == (FLYING, 0)
    assert cf.forces is not None


def test_just_within_the_limits(cf):
    cf.take_off()
    cf.quat = (math.sin(math.radians(29)), 0, 0, math.cos(math.radians(29)))
    cf.position, cf.velocity, cf.gyro = (0.6, 0.0, 1.79), (0.0, -2.99, 0.0), (0.0, 0.0, -999.0)
    cf.call(5)
    assert cf.log("mode") == FLYING


@pytest.mark.parametrize("source", [0, 1])
def test_loss_of_the_setpoints(cf, source):
    cf.param("source", source)
    cf.param("z", 1.0)
    cf.take_off()
    cf.frozen_setpoint = True
    cf.call(300)
    assert cf.log("mode") == FLYING
    cf.call()
    assert (cf.log("mode"), cf.log("reason")) == (TRIPPED, REASONS["setpoint"])


def test_a_stale_estimate_is_held_then_trips(cf):
    cf.take_off()
    cf.call(20)
    cf.frozen_estimate = True
    cf.call(40)
    # the sample of about 40 ms ago is beyond the three steps of 10 ms that it may be old
    assert (cf.log("mode"), cf.log("stale")) == (FLYING, 1)
    held = cf.forces
    cf.call(60)
    assert (cf.log("mode"), cf.forces) == (FLYING, held)
    cf.call(60)
    assert (cf.log("mode"), cf.log("reason"), cf.log("tripHeld")) == (TRIPPED, REASONS["held"], 1)


def test_a_stale_gyroscope_trips_and_a_short_gap_does_not(cf):
    cf.take_off()
    cf.frozen_gyro = True
    cf.call(80)
    assert cf.log("heldInARow") > 2
    cf.frozen_gyro = False
    cf.call(20)
    assert (cf.log("mode"), cf.log("heldInARow")) == (FLYING, 0)
    cf.frozen_gyro = True
    cf.call(200)
    assert (cf.log("mode"), cf.log("reason")) == (TRIPPED, REASONS["held"])


@pytest.mark.parametrize("part", ["position", "quat", "velocity", "gyro"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_estimates_that_are_no_numbers(cf, part, bad):
    good = getattr(cf, part)
    broken = (bad, *good[1:])
    setattr(cf, part, broken)
    cf.param("on", 1)
    cf.call(30)
    assert (cf.forces, cf.log("mode"), cf.log("reason")) == (None, WAITING, REASONS["not_finite"])
    setattr(cf, part, good)
    cf.call(12)
    assert cf.log("mode") == FLYING
    before = cf.forces
    setattr(cf, part, broken)
    cf.call(50)
    # the last valid action is repeated, for a while
    assert (cf.log("mode"), cf.forces) == (FLYING, before)
    assert all(0.0 <= f <= 1.0 for f in cf.forces)
    setattr(cf, part, good)
    cf.call(20)
    assert (cf.log("mode"), cf.log("heldInARow")) == (FLYING, 0)
    setattr(cf, part, broken)
    cf.call(150)
    assert (cf.forces, cf.log("mode"), cf.log("reason")) == (None, TRIPPED, REASONS["held"])


@pytest.mark.parametrize(
    ("limit", "reason"),
    [("maxTilt", "tilt"), ("maxHeading", "heading"), ("maxDistance", "distance"), ("fenceXY", "fence"),
     ("fenceLow", "fence"), ("fenceHigh", "fence"), ("maxSpeed", "speed"), ("maxRate", "rate")],
)  # fmt: skip
def test_a_limit_that_is_no_number_trips(cf, limit, reason):
    cf.take_off()
    cf.param(limit, math.nan)
    cf.call()
    assert (cf.log("mode"), cf.log("reason")) == (TRIPPED, REASONS[reason])


def test_damaged_memory_trips_at_once(cf):
    cf.take_off()
    cf.lib.driver_damage()
    cf.call(10)
    assert (cf.log("mode"), cf.log("reason"), cf.log("tripDamaged")) == (
        TRIPPED,
        REASONS["damaged"],
        1,
    )
    # switching on again begins with a fresh memory
    cf.param("on", 0)
    cf.call()
    cf.take_off()
    cf.call(50)
    assert cf.log("mode") == FLYING


def test_the_clock_may_be_set_back(cf):
    cf.take_off()
    cf.call(50)
    cf.set("clock_us", 0, ctypes.c_uint64)
    cf.call(50)
    assert cf.log("mode") == FLYING
    assert cf.log("restarted") == 1


def test_a_changed_action_fails_the_self_test(apps, tmp_path):
    app = tmp_path / "app"
    shutil.copytree(apps["hover"][0], app)
    source = app / "src" / "policy.c"
    text, count = re.subn(
        r"(GOLDEN_ACTION\[\d+\] = \{\s*)(-?[\d.e-]+)f",
        lambda m: f"{m[1]}{float(m[2]) + 0.01}f",
        source.read_text(),
    )
    assert count == 1
    source.write_text(text)
    cf = Crazyflie(compile_app(app, tmp_path / "app.so"), tmp_path)
    assert not cf.lib.controllerOutOfTreeTest()
    assert (cf.log("ready"), cf.log("selfTest")) == (0, pytest.approx(0.01, rel=1e-2))
    # a start that is forced all the same: PID flies
    cf.param("on", 1)
    cf.call(50)
    assert (cf.forces, cf.log("mode"), cf.log("reason")) == (None, WAITING, REASONS["self_test"])


def test_pid_must_be_sound_too(cf):
    cf.set("pid_is_sound", 0, ctypes.c_uint8)
    assert not cf.lib.controllerOutOfTreeTest()


def test_chosen_again_in_flight(cf):
    cf.take_off()
    cf.call(30)
    steps = cf.log("steps")
    cf.lib.controllerOutOfTreeInit()
    # switched off, and without a second self-test, which would have set the counters to zero
    assert (cf.log("mode"), cf.log("steps")) == (OFF, steps)
    cf.call(5)
    assert cf.forces is None
    cf.take_off()


# Flight


@pytest.mark.parametrize("name", ["hover", "track"])
def test_it_flies_as_the_policy_file_does(apps, tmp_path, name):
    """Closed loop: the app flies a simulated quadrotor whose state it gets in the firmware's units."""
    folder, library = apps[name]
    policy = load_policy(folder.parent / "policy.onnx")
    export_c(folder.parent / "policy.onnx", tmp_path / "c")
    cf = Crazyflie(library, tmp_path)
    # a random network does not hover: the limits are off, and nothing counts but equal actions
    for limit in ("maxDistance", "fenceXY", "fenceHigh", "maxSpeed", "maxRate"):
        cf.param(limit, 1e6)
    for limit, value in (("fenceLow", -1e6), ("maxTilt", 180), ("maxHeading", 181)):
        cf.param(limit, value)
    cf.setpoint(position=(0, 0, 0))
    robot = load_robot("crazyflie")
    simulator = build_simulator("multirotor", robot, hover, SimConfig(), 1, auto_reset=False)
    simulator.reset(0)
    history, shown, flown, expected = policy.history(), [], [], []
    cf.take_off()
    cf.lib.controllerOutOfTreeInit()  # so that the first step falls on the first state
    for step in range(150):
        state = simulator.state()
        cf.position, cf.velocity = tuple(state.position_w[0]), tuple(state.velocity_w[0])
        cf.quat = tuple(quat_xyzw_from_wxyz(state.quat_wb[0]))
        cf.gyro = tuple(np.degrees(state.angular_velocity_b[0]))
        if step == 0:
            cf.param("on", 1)
            cf.call()
        # a call up to an eighth of a step early counts as on time: steps fall at 0, 9, 19, 29, ... ms
        cf.call({0: 1, 1: 9}.get(step, 10))
        rot = rot_from_quat(state.quat_wb[0]).ravel()
        row = [*state.position_w[0], *rot, *state.velocity_w[0], *state.angular_velocity_b[0]]
        row += [0.0] * 12 if name == "track" else []
        shown.append(row)
        expected.append(policy.act(history.observe(np.array([row], np.float32)))[0])
        history.act(expected[-1][None])
        flown.append([cf.log(f"action{i}") for i in (1, 2, 3, 4)])
        simulator.step(np.array([flown[-1]], np.float32))
    assert cf.log("mode") == FLYING
    assert cf.log("missed") == cf.log("stale") == 0
    assert np.ptp(expected, axis=0).min() > 0.1  # the flight asks for something
    np.testing.assert_allclose(flown, expected, atol=1e-5)
    host = build_host(tmp_path / "c").run(np.array(shown, np.float32))
    np.testing.assert_allclose(flown, host, atol=1e-5)


# The folder


def test_what_is_written(apps, tmp_path):
    folder = apps["hover"][0]
    written = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert written == {*FILES, "src/policy.h", "src/policy.c"}
    export_c(folder.parent / "policy.onnx", tmp_path)
    assert (folder / "src/policy.c").read_bytes() == (tmp_path / "policy.c").read_bytes()
    assert (
        "# CONFIG_ENABLE_THRUST_BAT_COMPENSATED is not set\n" in (folder / "app-config").read_text()
    )
    for name in FILES:
        assert not re.search(r"@[A-Z0-9_]+@", (folder / name).read_text()), name
    with pytest.raises(AlulaError, match="exists; allowed: a new name, or overwrite"):
        export_crazyflie(folder.parent / "policy.onnx", folder)
    again = export_crazyflie(folder.parent / "policy.onnx", folder, overwrite=True)
    assert {str(p.relative_to(folder)) for p in again.files} == written
    assert (again.robot, again.task, again.macs > 100) == ("crazyflie", "hover", True)


def test_parameters_and_logs_are_documented(apps):
    source = (TEMPLATES / "src" / "alula.c").read_text()
    names = re.findall(r"(?:PARAM|LOG)_ADD\(\w+, (\w+),", source)
    assert len(names) > 45
    readme = (apps["hover"][0] / "README.md").read_text()
    for name in names:
        assert f"`{name}`" in readme or name in {"action2", "action3"}, name


def test_names_fit_the_radio_protocol():
    # group and name of a variable travel together in one packet of 26 bytes, with two terminators
    source = (TEMPLATES / "src" / "alula.c").read_text()
    assert all(len("alula" + n) <= 24 for n in re.findall(r"_ADD\(\w+, (\w+),", source))


def stack(app, compiler, flags, folder):
    """Stack of every function [B], by name, of the app compiled with the firmware's flags."""
    found = {}
    for name in ("alula", "policy"):
        source = app / "src" / f"{name}.c"
        output = folder / f"{name}.o"
        command = [compiler, *FLAGS, *flags, "-fstack-usage", f"-I{HEADERS}", "-c", str(source)]
        subprocess.run([*command, "-o", str(output)], check=True)
        for line in output.with_suffix(".su").read_text().splitlines():
            place, size, kind = line.split("\t")
            assert kind == "static", line
            found[place.rsplit(":", 1)[1]] = int(size)
    return found


@pytest.mark.parametrize("name", ["hover", "track"])
def test_compiles_as_in_the_firmware_with_little_stack(apps, tmp_path, name):
    assert "controllerOutOfTree" in stack(apps[name][0], "gcc", [], tmp_path)
    if not shutil.which("arm-none-eabi-gcc"):
        pytest.skip("no arm-none-eabi-gcc (package gcc-arm-none-eabi)")
    used = stack(apps[name][0], "arm-none-eabi-gcc", M4F, tmp_path)
    assert max(used.values()) <= STACK_BYTES, used
    # in flight: the controller, a step, and what that calls
    rest = sorted(v for k, v in used.items() if k not in ("controllerOutOfTree", "policy_step"))
    del rest[-1]  # policy_self_test, which runs at start-up
    assert (
        used["controllerOutOfTree"] + used["policy_step"] + rest[-1] + rest[-2] <= 2 * STACK_BYTES
    )


def test_refuses_battery_compensation(apps, tmp_path):
    source = apps["hover"][0] / "src" / "alula.c"
    command = ["gcc", *FLAGS, f"-I{HEADERS}", "-DCONFIG_ENABLE_THRUST_BAT_COMPENSATED=1"]
    done = subprocess.run(
        [*command, "-c", str(source), "-o", str(tmp_path / "x.o")], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "battery compensation is on" in done.stderr


# Contracts that a Crazyflie cannot serve


def refused(tmp_path, contract):
    write_policy(tmp_path / "p.onnx", example["make_network"](contract, hidden=(8,)), contract)
    with pytest.raises(AlulaError) as caught:
        export_crazyflie(tmp_path / "p.onnx", tmp_path / "app")
    assert not (tmp_path / "app").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_observations_it_cannot_supply(tmp_path):
    contract = example["make_contract"](past_actions=0)
    wind = ObservationEntry(name="wind_w", unit="m/s", frame="w", size=3)
    message = refused(tmp_path, replace(contract, observation=(*contract.observation, wind)))
    assert (
        "a Crazyflie cannot supply 'wind_w' 3x[m/s, w]; allowed: position_w 3x[m, w], " in message
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"unit": "deg/s"}, r"'angular_velocity_b' 3x\[deg/s, b\]"),
        ({"frame": "w"}, r"'angular_velocity_b' 3x\[rad/s, w\]"),
        ({"size": 2}, r"'angular_velocity_b' 2x\[rad/s, b\]"),
    ],
)
def test_observations_of_another_kind(entry, message):
    contract = example["make_contract"](past_actions=0)
    *others, rate = contract.observation
    with pytest.raises(AlulaError, match=message):
        check_contract(replace(contract, observation=(*others, replace(rate, **entry))))


def test_rotors_and_commands_it_does_not_have(tmp_path):
    contract = example["make_contract"](past_actions=0, rotors=6)
    assert "no rotors M1, M2, M3, M4, M5, M6; allowed: M1, M2, M3, M4" in refused(
        tmp_path, contract
    )
    contract = example["make_contract"](past_actions=0, names=["m1", "m2", "m3", "m4"])
    with pytest.raises(AlulaError, match="no rotors m1"):
        check_contract(contract)
    good = example["make_contract"](past_actions=0)
    for change in ({"meaning": "thrust"}, {"unit": "N"}, {"high": 2.0}, {"low": -0.5}):
        action = tuple(
            ActionEntry(**{**vars(a), **change}) if a.name == "M2" else a for a in good.action
        )
        with pytest.raises(AlulaError, match=r"action M2 is .* allowed on a Crazyflie: throttle"):
            check_contract(replace(good, action=action))
    with pytest.raises(
        AlulaError, match=r"control_dt is 0\.0005 s; allowed on a Crazyflie: >= 0\.001"
    ):
        check_contract(replace(good, control_dt=0.0005))
