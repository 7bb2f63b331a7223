"""The PX4 module: what is written and refused, conversions by hand, and a flight as the policy file's."""

import shutil
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula import frames
from alula.errors import AlulaError
from alula.firmware_export.px4 import FILES, MODULE, check_contract, export_px4, rotor_of_motor
from alula.policies.contract import History, ObservationEntry
from alula.policies.onnx_file import load_policy, write_policy
from alula.robots.multirotor import load_robot
from alula.sim.config import SimConfig
from alula.sim.multirotor.simulator import MultirotorSimulator
from alula.tasks import hover, track

needs_gcc = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("g++")), reason="no gcc and g++ to compile the module"
)
HERE = Path(__file__).parent
example = run_path(str(HERE.parent / "policies" / "example.py"))
driver = run_path(str(HERE / "px4_headers" / "driver.py"))
Px4 = driver["Px4"]
HALF = 0.5**0.5


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    network, contract = example["make_policy"](hidden=(8,), past_actions=0)
    return driver["build"](tmp_path_factory.mktemp("px4"), network, contract)


def track_contract():
    return replace(
        example["make_contract"](past_actions=0), observation=track.ENTRIES, task="track"
    )


# What is written, and what is refused


def test_files_and_their_words(tmp_path):
    write_policy(tmp_path / "p.onnx", *example["make_policy"]())
    made = export_px4(tmp_path / "p.onnx", tmp_path / "out")
    names = {str(p.relative_to(tmp_path / "out")) for p in made.files}
    assert names == {*FILES, f"{MODULE}/policy.h", f"{MODULE}/policy.c"}
    assert made.motors == ("M1", "M3", "M4", "M2")
    for path in made.files:
        assert "@" not in path.read_text(encoding="ascii"), path
    flight = (tmp_path / "out" / MODULE / "alula_flight.cpp").read_text()
    assert "{POSITION, ATTITUDE, POSITION, RATES}" in flight
    with pytest.raises(AlulaError, match="exists"):
        export_px4(tmp_path / "p.onnx", tmp_path / "out")
    export_px4(tmp_path / "p.onnx", tmp_path / "out", overwrite=True)


def test_every_parameter_is_declared_documented_and_read():
    module = HERE.parents[1] / "alula/firmware_export/targets/px4" / MODULE
    names = [
        line.strip()[:-1]
        for line in (module / "module.yaml").read_text().splitlines()
        if line.startswith("    ALULA_")
    ]
    header = (module / "alula_module.hpp").read_text()
    readme = (module.parents[2] / "README.md").read_text()
    assert len(names) == 14
    for name in names:
        assert len(name) <= 16
        assert f"px4::params::{name}>" in header
        assert f"`{name}`" in readme


def test_what_the_module_cannot_supply_or_command_is_refused():
    contract = example["make_contract"]()
    check_contract(contract)
    check_contract(track_contract())
    lidar = ObservationEntry(name="lidar", unit="m", frame="b", size=4)
    with pytest.raises(AlulaError, match=r"cannot supply 'lidar' 4x\[m, b\]; allowed: position_w"):
        check_contract(replace(contract, observation=(*contract.observation, lidar)))
    cut = replace(track.ENTRIES[4], size=9)
    with pytest.raises(AlulaError, match="'reference_preview_w' 9x"):
        check_contract(replace(contract, observation=(cut,)))
    rates = tuple(replace(a, meaning="body_rate") for a in contract.action)
    with pytest.raises(AlulaError, match=r"M1 is body_rate 0 to 1.*allowed on PX4: throttle"):
        check_contract(replace(contract, action=rates))
    strong = tuple(replace(a, high=1.5) for a in contract.action)
    with pytest.raises(AlulaError, match=r"0 to 1\.5"):
        check_contract(replace(contract, action=strong))
    with pytest.raises(AlulaError, match="no rotors a, b, c, d; allowed: M1, M2, M3, M4"):
        check_contract(example["make_contract"](names=list("abcd")))
    with pytest.raises(AlulaError, match="13 rotors"):
        check_contract(example["make_contract"](rotors=13))
    with pytest.raises(AlulaError, match=r"control_dt is 0\.0005"):
        check_contract(replace(contract, control_dt=0.0005))


def test_motors_are_found_by_name():
    def order(names):
        return rotor_of_motor(example["make_contract"](names=names, rotors=len(names)))

    assert order(["M1", "M2", "M3", "M4"]) == (0, 2, 3, 1) == frames.PX4_FROM_ALULA
    # each rotor moved to the front, alone
    assert order(["M2", "M1", "M3", "M4"]) == (1, 2, 3, 0)
    assert order(["M3", "M1", "M2", "M4"]) == (1, 0, 3, 2)
    assert order(["M4", "M1", "M2", "M3"]) == (1, 3, 0, 2)
    # no quad-x: the robot's own order
    assert order(["M2", "M1", "M3", "M4", "M5", "M6"]) == (0, 1, 2, 3, 4, 5)


@needs_gcc
def test_six_rotors_keep_their_order(tmp_path_factory):
    contract = example["make_contract"](rotors=6)
    network = driver["constant_network"](contract, [-0.6, -0.4, -0.2, 0.2, 0.4, 0.6])
    px4 = Px4(driver["build"](tmp_path_factory.mktemp("px4"), network, contract))
    px4.take_off()
    control = px4.motors()[1]
    np.testing.assert_allclose(control[:6], [0.2, 0.3, 0.4, 0.6, 0.7, 0.8], atol=1e-6)
    assert np.isnan(control[6:]).all()


@needs_gcc
def test_a_damaged_policy_does_not_start(tmp_path):
    write_policy(tmp_path / "p.onnx", *example["make_policy"](past_actions=0))
    export_px4(tmp_path / "p.onnx", tmp_path / "out")
    source = tmp_path / "out" / MODULE / "policy.c"
    text = source.read_text()
    start = text.index("{", text.index("GOLDEN_ACTION[")) + 1
    source.write_text(f"{text[:start]} 0.9f + {text[start:]}")
    px4 = Px4(driver["compile_module"](tmp_path / "out", "descriptor"))
    assert px4.command("start") != 0
    assert "self-test: difference 0.9" in px4.said()
    assert px4.run() == 0


# Conversions


@needs_gcc
@pytest.mark.parametrize(
    ("psi", "ned", "world"),
    [
        (0.0, (1, 2, 3), (1, -2, -3)),  # x north, y west
        (np.pi / 2, (1, 2, 3), (2, 1, -3)),  # plain ENU
        (np.pi, (1, 2, 3), (-1, 2, -3)),  # x south, y east
        (np.pi / 4, (1, 1, 0), (2 * HALF, 0, 0)),  # north-east is ahead
    ],
)
def test_world_vectors(library, psi, ned, world):
    c, out = Px4(library).c, driver["floats"]([0] * 3, 3)
    c.convert_vector(driver["ctypes"].c_float(psi), driver["floats"](ned, 3), out)
    np.testing.assert_allclose(out, world, atol=1e-6)


@needs_gcc
def test_body_vectors(library):
    out = driver["floats"]([0] * 3, 3)
    Px4(library).c.convert_body(driver["floats"]((1, 2, 3), 3), out)
    assert list(out) == [1, -2, -3]


LEVEL = np.eye(3)


@needs_gcc
@pytest.mark.parametrize(
    ("psi", "q", "rot"),
    [
        (0.0, (1, 0, 0, 0), LEVEL),  # nose north, x north
        (np.pi / 2, (1, 0, 0, 0), [[0, -1, 0], [1, 0, 0], [0, 0, 1]]),  # nose north in ENU: +y
        (np.pi / 2, (HALF, 0, 0, HALF), LEVEL),  # nose east in ENU
        (0.0, (HALF, 0, 0, HALF), [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]),  # nose right of x: -y
        (
            0.0,
            (HALF, HALF, 0, 0),
            [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
        ),  # right side down: left is up
        (0.0, (HALF, 0, HALF, 0), [[0, 0, -1], [0, 1, 0], [1, 0, 0]]),  # nose up
        (0.0, (2, 0, 0, 0), LEVEL),  # the length does not matter
        (0.0, (0, 1, 0, 0), np.diag([1, -1, -1])),  # on its back
    ],
)
def test_attitudes(library, psi, q, rot):
    out = driver["floats"]([0] * 9, 9)
    Px4(library).c.convert_rotation(driver["ctypes"].c_float(psi), driver["floats"](q, 4), out)
    np.testing.assert_allclose(np.reshape(out, (3, 3)), rot, atol=1e-6)


@needs_gcc
def test_attitudes_and_vectors_agree_with_frames(library):
    rng, c = np.random.default_rng(0), Px4(library).c
    east = driver["ctypes"].c_float(np.pi / 2)
    for q in rng.normal(size=(20, 4)):
        q /= np.linalg.norm(q)
        out = driver["floats"]([0] * 9, 9)
        c.convert_rotation(east, driver["floats"](q, 4), out)
        expected = frames.rot_from_quat(frames.quat_enu_flu_from_ned_frd(q))
        np.testing.assert_allclose(np.reshape(out, (3, 3)), expected, atol=1e-6)


@needs_gcc
def test_yaw_is_clockwise_from_north(library):
    c = Px4(library).c
    assert c.convert_yaw(driver["floats"]((HALF, 0, 0, HALF), 4)) == pytest.approx(np.pi / 2)
    assert c.convert_yaw(driver["floats"]((HALF, 0, 0, -HALF), 4)) == pytest.approx(-np.pi / 2)


@needs_gcc
def test_preview(library):
    out = driver["floats"]([0] * 12, 12)
    Px4(library).c.convert_preview(
        driver["floats"]((1, 0, -2), 3), driver["floats"]((0, 2, 0), 3), out
    )
    # v tau + a tau^2 / 2 at 0.1, 0.2, 0.4, 0.6 s
    expected = [0.1, 0.01, -0.2, 0.2, 0.04, -0.4, 0.4, 0.16, -0.8, 0.6, 0.36, -1.2]
    np.testing.assert_allclose(out, expected, atol=1e-6)


# The whole loop


@needs_gcc
def test_the_module_flies_as_the_policy_file(tmp_path_factory):
    """A simulated flight in NED and FRD gives the actions of the ONNX file in its own frames."""
    network, contract = example["make_policy"](hidden=(32, 32), past_actions=3)
    folder = tmp_path_factory.mktemp("loop")
    write_policy(folder / "policy.onnx", network, contract)
    export_px4(folder / "policy.onnx", folder / "out")
    wide = dict.fromkeys(("TILT_MAX", "HDG_MAX"), 180) | {"VEL_MAX": 100, "RATE_MAX": 1e4}
    wide |= dict.fromkeys(("DIST_MAX", "FENCE_XY", "FENCE_Z"), 100)
    px4 = Px4(
        driver["compile_module"](folder / "out", "descriptor"),
        **{f"ALULA_{name}": value for name, value in wide.items()},
    )
    policy, history = load_policy(folder / "policy.onnx"), History(contract, 1)
    simulator = MultirotorSimulator(
        load_robot("crazyflie"), hover, SimConfig(), 1, auto_reset=False
    )
    simulator.reset(1)

    def publish():
        x = simulator.state()
        px4.position = frames.ned_from_enu(x.position_w[0])
        px4.velocity = frames.ned_from_enu(x.velocity_w[0])
        px4.q = frames.quat_ned_frd_from_enu_flu(x.quat_wb[0])
        px4.rates = frames.frd_from_flu(x.angular_velocity_b[0])
        return x

    publish()
    px4.take_off()
    reference = px4.position  # held, with the heading of the entry
    worst, most = 0.0, 0.0
    for step in range(60):
        x = publish()
        if step > 0:
            px4.run(dt_us=10_000)
        # the policy's x axis is psi clockwise from north: turn ENU by psi - pi / 2
        psi = float(driver["floats"]([px4.log()[9]], 1)[0])
        c, s = np.sin(psi), np.cos(psi)
        turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        offset = x.position_w[0] - frames.enu_from_ned(np.array(reference))
        rot = frames.rot_from_quat(x.quat_wb[0])
        supplied = [turn @ offset, (turn @ rot).ravel(), turn @ x.velocity_w[0]]
        supplied = np.concatenate([*supplied, x.angular_velocity_b[0]])
        action = policy.act(history.observe(supplied[None].astype(np.float32)))
        history.act(action)
        control = px4.motors()[1][list(frames.ALULA_FROM_PX4)]
        found = 2 * control[None] - 1
        worst = max(worst, np.abs(found - action).max())
        most = max(most, np.abs(action).max())
        simulator.step(action)
    assert px4.motors()[0] == 60
    px4.command("status")
    assert "steps 60, missed 0" in px4.said()
    assert most > 0.2
    assert worst < 1e-5
