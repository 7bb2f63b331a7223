"""libFuzzer against a second model of every call: any bytes, any clock, any order, damaged memory."""

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import pytest

from alula.firmware_export.c_export import export_c
from alula.firmware_export.quantise import FORMATS
from alula.policies.contract import ActionEntry, Contract, ObservationEntry
from alula.policies.onnx_file import write_policy

HERE = Path(__file__).parent
example = run_path(str(HERE.parent / "policies" / "example.py"))
STATUS = (
    *("between", "missed", "restarted", "clipped", "saturated"),
    *("not_finite", "stale", "time_backwards", "damaged", "lost"),
)
"""Names of the status bits, lowest first."""


def small_policy():
    """Two fields, one with a history of two, two past actions; 7 -> 3 -> 2."""
    contract = Contract(
        robot="r",
        robot_hash="h",
        task="t",
        control_dt=0.01,
        observation=(
            ObservationEntry(name="a", unit="m", frame="w", size=1, history=2, delay=0.02),
            ObservationEntry(
                name="previous_action", unit="-", frame="-", size=2, history=2, initial=-0.5
            ),
            ObservationEntry(name="b", unit="m", frame="w", size=1),
        ),
        action=(
            ActionEntry(name="M1", low=0.0, high=1.0, unit="-", meaning="throttle"),
            ActionEntry(name="M2", low=0.1, high=0.9, unit="-", meaning="throttle"),
        ),
        training={},
    )
    network = example["make_network"](contract, hidden=(3,))
    # Large enough for saturated actions.
    return replace(network, weights=(network.weights[0], 30.0 * network.weights[1])), contract


def all_histories():
    return example["make_policy"](sensor_history=3, past_actions=4, hidden=(20, 7))


POLICIES = {
    "small": (small_policy, {"a": 1, "previous_action": 2}),
    "usual": (example["make_policy"], {"previous_action": 4}),
    "GRU": (example["make_gru_policy"], {"previous_action": 4}),
    "all histories": (all_histories, {"previous_action": 4, "velocity_w": 3}),
    "int8-float": (all_histories, {"previous_action": 4, "velocity_w": 3}),
    "int8-int16": (all_histories, {"previous_action": 4, "velocity_w": 3}),
}
"""Policies, and floats of a sample of each of their histories, in contract order; some are named after their format."""


def fuzzer(folder, name, change=str):
    """The fuzzing program of one of POLICIES, with its policy.c changed; skips where clang is missing."""
    if not shutil.which("clang"):
        pytest.skip("no clang with libFuzzer (Debian: clang, libclang-rt-dev)")
    make, rings = POLICIES[name]
    write_policy(folder / "policy.onnx", *make())
    formats = [name] * 3 if name in FORMATS else None
    made = export_c(folder / "policy.onnx", folder / "c", formats=formats)
    source = made.folder / "policy.c"
    source.write_text(change(source.read_text()))
    command = ["clang", "-std=gnu99", "-g", "-O2", "-fno-sanitize-recover=all"]
    command += [
        "-fsanitize=fuzzer,address,undefined,float-cast-overflow",
    ]
    command += [f"-DFIRST_FLOATS=history_{next(iter(rings))}"]
    command += ["-DRINGS=" + " ".join(f"RING({n}, {size}u)" for n, size in rings.items())]
    command += [f"-I{made.folder}", str(HERE / "fuzz_step.c"), "-o", str(folder / "fuzz")]
    done = subprocess.run(command, capture_output=True, text=True)
    if "libclang_rt.fuzzer" in done.stderr:
        pytest.skip("clang without libFuzzer (Debian: libclang-rt-dev)")
    assert done.returncode == 0, done.stderr
    return folder / "fuzz"


def fuzz(program, runs, *, seconds=0, seed=1, length=64):
    """Inputs, calls of policy_step and how often each status bit came; fails on any finding."""
    command = [program, f"-runs={runs}", f"-seed={seed}", f"-max_len={length}", "-len_control=0"]
    command += [f"-max_total_time={seconds}", f"-artifact_prefix={program.parent}/"]
    # Without its symboliser a finding is still a finding; leaks are looked for once, at the end.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1"}
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = re.search(r"inputs (\d+) calls (\d+) status([ \d]+)", done.stdout)
    assert told, done.stdout
    bits = [int(n) for n in told[3].split()]
    print(done.stderr.splitlines()[-3:], told[0])
    return int(told[1]), int(told[2]), dict(zip(STATUS, bits, strict=True))


@pytest.mark.parametrize("name", POLICIES)
def test_no_bytes_break_a_policy(tmp_path, name):
    # A run is none like the other, whatever its seed: once, 100 000 inputs did not damage the memory in any way that shows.
    inputs, calls, status = fuzz(fuzzer(tmp_path, name), 500_000 if name == "small" else 5_000)
    assert inputs >= 5_000
    assert calls > 5 * inputs
    if name == "small":
        # The inputs reach every bit of the status.
        assert min(status.values()) > 10, status


@pytest.mark.slow
def test_ten_million_inputs(tmp_path):
    inputs, calls, status = fuzz(fuzzer(tmp_path, "small"), 10_000_000, length=32, seed=2)
    assert inputs >= 10_000_000
    assert calls > 20_000_000
    assert min(status.values()) > 1000, status


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("time_us - at > policy->stale_us[i]", "time_us - at >= policy->stale_us[i]"),
        ("late > UINT64_MAX / 2u", "time_us + POLICY_EARLY_US < policy->next_us"),
        ("if (*oldest >= length) {", "if (*oldest > length) {"),
        ("!(all_below(HUGE_BITS, policy->", "!(1 || all_below(HUGE_BITS, policy->"),
        (
            "if (policy->counters.held_in_a_row > policy->lost_steps) {\n            init",
            "if (0) {init",
        ),
    ],
    ids=["age limit", "end of the clock", "end of the ring", "damage", "lost"],
)
def test_the_fuzzer_finds_a_planted_fault(tmp_path, right, wrong):
    """A fuzzer that finds nothing must be one that could."""

    def plant(source):
        assert source.count(right) == 1
        return source.replace(right, wrong)

    with pytest.raises(AssertionError, match=r"does not hold|Sanitizer"):
        fuzz(fuzzer(tmp_path, "small", plant), 300_000)
