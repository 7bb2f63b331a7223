"""Flights with the processor in the loop: the same as those of the policy file, or a clear error."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import alula.evaluation.pil as pil
from alula.errors import AlulaError
from alula.evaluation.pil import facts, fly_pil, present_samples, run_pil
from alula.firmware_export.c_export import export_c
from alula.firmware_export.toolchain import TARGETS, available
from alula.policies.contract import ActionEntry, Contract, ObservationEntry

ROOT = Path(__file__).resolve().parents[2]
M4F = TARGETS["cortex-m4f"]
PIL_KEYS = (
    *("success", "hover_error_m", "max_abs_diff", "instructions_per_step", "steps_per_s", "target"),
    *("mujoco_success", "mujoco_hover_error_m", "error_gap_m", "mujoco_error_gap_m", "held_steps"),
)


@pytest.fixture
def m4f():
    reason = available(M4F)
    if reason:
        pytest.skip(reason)
    return M4F


@pytest.fixture(scope="module")
def c_dir(hover_path, tmp_path_factory):
    return export_c(hover_path, tmp_path_factory.mktemp("c")).folder


def entry(name, size, history=1):
    return ObservationEntry(name=name, unit="-", frame="-", size=size, history=history)


def test_present_samples_by_hand():
    # position 0..2, velocity 3 samples of 2 at 3..8, three past actions of 1 at 9..11, rate 12..13
    contract = Contract(
        robot="r",
        robot_hash="h",
        task="hover",
        control_dt=0.01,
        observation=(
            entry("position_w", 3),
            entry("velocity_w", 2, 3),
            entry("previous_action", 1, 3),
            entry("angular_velocity_b", 2),
        ),
        action=(ActionEntry(name="a", low=0.0, high=1.0, unit="-", meaning="throttle"),),
        training={},
    )
    assert present_samples(contract).tolist() == [0, 1, 2, 7, 8, 12, 13]


@pytest.mark.parametrize("sim", ["multirotor", "mujoco"])
def test_firmware_flies_as_the_policy_file(sim, m4f, hover_policy, c_dir):
    done = []
    flown = fly_pil(
        *(hover_policy, c_dir, m4f),
        sim=sim,
        episodes=6,
        steps=150,
        progress=lambda which, steps: done.append((which, steps)),
    )
    assert done == [(sim, t + 1) for t in range(150)]
    assert flown.firmware.metrics.episodes == 6
    assert flown.firmware.metrics.survived == flown.onnx.metrics.survived > 0
    assert flown.success_gap == 0.0
    assert 0.0 <= flown.error_gap_m < 1e-3
    assert 0.0 < flown.max_abs_diff <= 1e-5
    assert flown.held_steps == 0
    assert flown.steps_per_s > 100


def test_both_links_fly_alike(m4f, hover_policy, c_dir):
    a, b = (
        fly_pil(hover_policy, c_dir, m4f, episodes=2, steps=40, link=link)
        for link in ("uart", "semihosting")
    )
    assert a.firmware == b.firmware
    assert a.max_abs_diff == b.max_abs_diff


def test_gaps_by_hand(m4f, hover_policy, c_dir):
    flown = fly_pil(hover_policy, c_dir, m4f, episodes=2, steps=110)

    def with_errors(error, rmse, success):
        metrics = replace(
            flown.onnx.metrics, hover_error_m=error, tracking_rmse_m=rmse, success=success
        )
        return replace(flown.onnx, metrics=metrics)

    case = replace(flown, firmware=with_errors(0.02, 0.05, 1.0), onnx=with_errors(0.021, 0.04, 0.5))
    assert case.error_gap_m == pytest.approx(0.01)
    assert case.success_gap == 0.5
    case = replace(flown, firmware=with_errors(0.02, None, 1.0), onnx=with_errors(0.021, None, 1.0))
    assert case.error_gap_m == pytest.approx(0.001)
    case = replace(flown, firmware=with_errors(None, None, 0.0))
    assert np.isnan(case.error_gap_m)


def test_firmware_of_another_policy_is_refused(m4f, hover_policy, c_dir, tmp_path):
    (tmp_path / "policy.c").write_text((c_dir / "policy.c").read_text())
    header = (c_dir / "policy.h").read_text().replace(hover_policy.sha256, "0" * 64)
    (tmp_path / "policy.h").write_text(header)
    with pytest.raises(AlulaError, match="holds policy 000000000000; allowed"):
        fly_pil(hover_policy, tmp_path, m4f, episodes=2, steps=5)


def test_wrong_firmware_is_found_out(m4f, hover_policy, c_dir, tmp_path):
    """C that clips its inputs too early flies, and the difference is seen."""
    text = (c_dir / "policy.c").read_text()
    text, changed = re.subn(r"(#define CLIP) [0-9.]+f", r"\1 0.0625f", text)
    text, too = re.subn(r"(#define CLIP_BITS) 0x\w+", r"\1 0x3d800000u", text)
    assert changed == too == 1
    (tmp_path / "policy.c").write_text(text)
    (tmp_path / "policy.h").write_text((c_dir / "policy.h").read_text())
    flown = fly_pil(hover_policy, tmp_path, m4f, episodes=2, steps=20)
    assert flown.max_abs_diff > 1e-2


@pytest.mark.parametrize("name", list(TARGETS))
def test_all_of_it(name, hover_policy, c_dir):
    target = TARGETS[name]
    reason = available(target)
    if reason:
        pytest.skip(reason)
    found = run_pil(hover_policy, c_dir, target, episodes=3, steps=110)
    data = found.to_json()
    assert {f"pil_{key}" for key in PIL_KEYS} <= set(data)
    assert data["pil_target"] == name
    assert data["pil_episodes"] == 3
    assert data["pil_success"] == found.multirotor.onnx.metrics.success > 0.0
    assert data["pil_mujoco_success"] == found.mujoco.onnx.metrics.success > 0.0
    assert data["pil_success_gap"] == data["pil_mujoco_success_gap"] == 0.0
    assert max(data["pil_error_gap_m"], data["pil_mujoco_error_gap_m"]) < 1e-3
    assert 0.0 < data["pil_max_abs_diff"] <= 1e-5
    assert data["pil_held_steps"] == 0
    assert data["pil_instructions_per_step"] > hover_policy.macs
    json.dumps(data)
    lines = facts(data)
    assert (
        f"{data['pil_instructions_per_step']:.0f} a step" in lines[f"{target.title} instructions"]
    )


@pytest.mark.parametrize("failing", ["multirotor", "mujoco"])
def test_an_error_in_one_simulator_ends_the_other(failing, m4f, hover_policy, c_dir, monkeypatch):
    plain, threads = pil.evaluate, threading.active_count()

    def evaluate(policy, *, sim, steps, act=None, **others):
        if act is None:
            steps = 10
        elif sim == failing:
            time.sleep(0.5)
            raise AlulaError("the simulator is broken")
        return plain(policy, sim=sim, steps=steps, act=act, **others)

    monkeypatch.setattr(pil, "evaluate", evaluate)
    started = time.monotonic()
    # so many steps that the firmware's other flight would take a minute
    with pytest.raises(AlulaError, match="the simulator is broken"):
        run_pil(hover_policy, c_dir, m4f, episodes=2, steps=100_000)
    assert time.monotonic() - started < 20.0
    assert threading.active_count() <= threads + 1


def alula(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "alula.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **environment},
        check=False,
    )


def test_missing_tools_are_named_before_training(tmp_path):
    for arguments, package in (
        (["--pil"], "gcc-arm-none-eabi"),
        (["--pil", "cortex-m7"], "libnewlib-arm-none-eabi"),
        (["--pil", "riscv32"], "picolibc-riscv64-unknown-elf"),
    ):
        done = alula("fly", *arguments, cwd=tmp_path, PATH="/nowhere")
        assert done.returncode == 2
        assert done.stdout == ""
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith("alula: error: target ")
        assert package in line
    assert list(tmp_path.iterdir()) == []


def test_one_target_at_a_time(tmp_path):
    done = alula("fly", "--pil", "cortex-m7", "riscv32", cwd=tmp_path)
    assert done.returncode == 2
    assert "--pil names 2 targets: cortex-m7, riscv32; allowed: one" in done.stderr
    assert alula("fly", "--pil", "avr", cwd=tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_fly_with_the_processor_in_the_loop(m4f, tmp_path):
    done = alula("fly", "--preset", "l2f-hover", "--pil", "--json", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["pil_target"] == "cortex-m4f"
    assert data["pil_episodes"] == 100
    assert data["pil_success"] >= 0.98
    assert max(data["pil_error_gap_m"], data["pil_mujoco_error_gap_m"]) < 1e-3
    assert data["pil_max_abs_diff"] <= 1e-5
    names = [check["name"] for check in data["checks"] if "Cortex-M4F" in check["name"]]
    assert len(names) == 6
    report = (tmp_path / "run" / "report.html").read_text()
    assert "Cortex-M4F firmware in flight" in report
