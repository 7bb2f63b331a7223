"""The export as a whole: every target, what is checked, and what is said where it cannot be."""

import shutil
from dataclasses import replace
from itertools import count
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula.build import load_any_robot
from alula.errors import AlulaError
from alula.export import export, export_text
from alula.firmware_export import host
from alula.firmware_export.host import HostPilot
from alula.firmware_export.toolchain import TARGETS, available
from alula.policies.onnx_file import Policy, load_policy, write_policy
from alula.presets import get_preset
from alula.robots.multirotor import load_robot

feedback_policy = run_path(str(Path(__file__).parent / "evaluation" / "conftest.py"))[
    "feedback_policy"
]
needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc to compile the export")


@pytest.fixture(scope="module")
def hover(tmp_path_factory) -> Path:
    """A policy that flies, and is linear: one matrix."""
    path = tmp_path_factory.mktemp("policy") / "policy.onnx"
    feedback_policy(path, "l2f-hover")
    return path


@needs_gcc
@pytest.mark.parametrize(
    ("target", "some"),
    [
        ("c", {"policy.h", "policy.c", "policy_test.c", "example_main.c", "README.md"}),
        ("crazyflie", {"Makefile", "app-config", "src/alula.c", "src/policy.c"}),
        ("px4", {"README.md", "src/modules/alula/module.yaml", "src/modules/alula/policy.c"}),
    ],
)
def test_every_target_is_written_and_checked(hover, target, some, tmp_path):
    data = export(hover, target, tmp_path / "out")
    assert some <= {str(Path(f).relative_to(tmp_path / "out")) for f in data["files"]}
    assert data["failures"] == []
    assert data["max_abs_diff"] <= 1e-5
    assert data["flight_states"] == 10_000
    assert data["flight_max_abs_diff"] <= 1e-5
    text = export_text(data)
    for t in TARGETS.values():
        reason = available(t, emulator=False)
        if reason is None:
            cost = data["footprint"][t.name]
            assert cost["flash_bytes"] == cost["code_bytes"] + cost["constant_bytes"]
            # normaliser, weights and golden sequences are constants of any compiler
            assert cost["constant_bytes"] >= data["flash_bytes"]
            assert f"{t.title}: flash {cost['flash_bytes']} B" in text
        else:
            assert f"not checked: size on {t.title}: {reason}" in text


@needs_gcc
def test_what_the_flight_shows_is_a_check(hover, tmp_path, monkeypatch):
    class Wrong(HostPilot):
        def __call__(self, supplied):
            return super().__call__(supplied) + np.float32(1e-3)

    monkeypatch.setattr(host, "HostPilot", Wrong)
    data = export(hover, "c", tmp_path / "out")
    assert data["failures"] == ["actions in flight differ by 1.0e-03; allowed: 1e-05"]


@needs_gcc
def test_episodes_that_have_ended_do_not_count(hover, tmp_path, monkeypatch):
    calls = count()

    class Late(HostPilot):
        def __call__(self, supplied):
            # Full throttle ends all episodes within two seconds; what comes later is another policy's.
            action = np.ones_like(super().__call__(supplied))
            return action if next(calls) < 300 else -action

    monkeypatch.setattr(host, "HostPilot", Late)
    monkeypatch.setattr(
        Policy, "controller", lambda self, n: lambda seen: np.ones((n, 4), np.float32)
    )
    data = export(hover, "c", tmp_path / "out")
    assert data["flight_max_abs_diff"] == 0.0


def test_onnx_is_copied(hover, tmp_path):
    data = export(hover, "onnx", tmp_path)
    assert (tmp_path / "policy.onnx").read_bytes() == hover.read_bytes()
    assert data["max_abs_diff"] == load_policy(hover).golden_max_abs_diff
    with pytest.raises(AlulaError, match="allowed: --weights int8 with the C targets"):
        export(hover, "onnx", tmp_path / "other", weights="int8")


@needs_gcc
def test_int8_flies_first(hover, tmp_path):
    data = export(hover, "c", tmp_path / "c", weights="int8")
    assert data["failures"] == []
    assert data["quantisation"]["formats"] == ("int8-int16",)
    assert data["quantisation"]["growth"] <= 0.1
    assert data["self_test"] <= 1e-3
    text = export_text(data)
    assert "int8: layer 0 int8-int16" in text
    assert "int8: the error grows by" in text
    assert "dense_int8" in (tmp_path / "c" / "policy.c").read_text()


def test_without_tools_everything_is_written_and_the_gaps_are_named(hover, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    data = export(hover, "crazyflie", tmp_path / "out")
    assert (tmp_path / "out" / "src" / "policy.c").is_file()
    assert "max_abs_diff" not in data
    text = export_text(data)
    assert "not checked: the compiled C: no C compiler found (tried cc, gcc, clang)" in text
    assert "apt-get install gcc-arm-none-eabi" in text
    assert len(data["not_checked"]) == 1 + len(TARGETS)
    with pytest.raises(AlulaError, match="no C compiler found"):
        export(hover, "c", tmp_path / "int8", weights="int8")
    assert not (tmp_path / "int8").exists()


@pytest.mark.parametrize("weights", ["float32", "int8"])
@pytest.mark.parametrize(
    ("robot", "says"),
    [
        ("panda", "the policy is for a multirotor, not for 'panda'; allowed: a multirotor"),
        ("x500", "the policy is for the robot 'crazyflie-l2f', not 'x500'; allowed: its own"),
    ],
)
def test_another_robot_is_refused_before_anything_is_written(hover, robot, says, weights, tmp_path):
    with pytest.raises(AlulaError, match=says) as raised:
        export(hover, "c", tmp_path / "c", weights=weights, robot=load_any_robot(robot))
    assert "--other-robot" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@needs_gcc
def test_a_robot_that_is_not_here_cannot_judge(hover, tmp_path):
    known = load_policy(hover)
    contract = replace(known.contract, robot="mine")
    write_policy(tmp_path / "p.onnx", known.network, contract)
    data = export(tmp_path / "p.onnx", "c", tmp_path / "c")
    assert [
        w for w in data["not_checked"] if w.startswith("actions in flight: policy is for robot")
    ]
    with pytest.raises(AlulaError, match="policy is for robot"):
        export(tmp_path / "p.onnx", "c", tmp_path / "int8", weights="int8")


@needs_gcc
def test_a_file_of_the_robot_can_judge(tmp_path):
    robot = load_robot(get_preset("x500-hover").robot)
    path = tmp_path / "p.onnx"
    feedback_policy(path, "x500-hover", robot=robot)
    assert "flight_max_abs_diff" in export(path, "px4", tmp_path / "px4", robot=robot)
