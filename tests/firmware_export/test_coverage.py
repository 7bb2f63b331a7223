"""Every line and branch of the exported C is run, and run under the sanitizers."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import pytest

from alula.firmware_export.c_export import export_c
from alula.firmware_export.c_layers import matrices
from alula.firmware_export.quantise import FORMATS
from alula.policies.onnx_file import load_policy, write_policy

pytestmark = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("gcov")), reason="no gcc with gcov (Debian: gcc)"
)
HERE = Path(__file__).parent
example = run_path(str(HERE.parent / "policies" / "example.py"))
EVERY_BIT = 1023


def wide_output(network, factor):
    """The same with a last layer large enough for saturated actions."""
    *rest, last = network.weights
    return replace(network, weights=(*rest, factor * last))


def feed_forward():
    """Past actions, a supplied history, layers with and without full blocks of 16 and of 4."""
    network, contract = example["make_policy"](sensor_history=3, past_actions=4, hidden=(20, 7))
    return wide_output(network, 20.0), contract


def recurrent():
    network, contract = example["make_gru_policy"](sensor_history=2, before=(20,), state=18)
    return wide_output(network, 60.0), contract


POLICIES = {"feed-forward": (feed_forward, 2), "GRU": (recurrent, 2)}
"""Policies, and the number of their histories."""


@pytest.fixture(params=[(p, f) for p in POLICIES for f in FORMATS], ids=" ".join)
def export(request, tmp_path):
    """(folder of an export, definitions for the driver)."""
    name, form = request.param
    make, histories = POLICIES[name]
    write_policy(tmp_path / "policy.onnx", *make())
    policy = load_policy(tmp_path / "policy.onnx")
    formats = [form] * len(matrices(policy.network))
    made = export_c(tmp_path / "policy.onnx", tmp_path / "c", formats=formats)
    shutil.copy(HERE / "coverage_driver.c", made.folder)
    defines = [f"-DHISTORIES={histories}"] + (["-DRECURRENT"] if policy.network.gru else [])
    return made.folder, defines


def build_and_run(folder, *command):
    files = ["policy.c", "coverage_driver.c", "-o", "driver"]
    subprocess.run([*command, *files], cwd=folder, check=True)
    done = subprocess.run([folder / "driver"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) == EVERY_BIT
    return done.stdout


def test_every_line_and_branch_is_taken(export):
    folder, defines = export
    build_and_run(folder, "gcc", "-std=c99", "-O0", "--coverage", *defines)
    done = subprocess.run(
        ["gcov", "--branch-probabilities", "--json-format", "--stdout", "driver-policy.gcda"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    (told,) = [f for f in json.loads(done.stdout)["files"] if f["file"] == "policy.c"]
    source = (folder / "policy.c").read_text().splitlines()
    branches = [(line, b) for line in told["lines"] for b in line["branches"]]
    missed = [f"line {n['line_number']}" for n in told["lines"] if n["count"] == 0]
    missed += [f"branch in line {n['line_number']}" for n, b in branches if b["count"] == 0]
    print(f"{len(told['lines'])} lines, {len(branches)} branches")
    texts = [f"{m}: {source[int(m.split()[-1]) - 1].strip()}" for m in missed]
    assert not missed, "\n".join(texts)
    assert len(branches) > 100


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("level", ["-O1", pytest.param("-O3", marks=pytest.mark.slow)])
def test_sanitizers_find_nothing(export, compiler, level):
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}")
    folder, defines = export
    sanitizers = "-fsanitize=address,undefined,float-cast-overflow"
    flags = ["-std=c99", "-g", level, sanitizers, "-fno-sanitize-recover=all"]
    build_and_run(folder, compiler, *flags, *defines)
