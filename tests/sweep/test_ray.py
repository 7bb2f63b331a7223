"""Sweeps on a Ray of this machine whose workers, head or patience end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from alula.build import build_robot
from alula.policies.onnx_file import load_policy
from alula.presets import get_preset
from alula.settings import with_settings
from alula.training.run import train, updates_saved

pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="ray is not installed")

UPDATES = 800
REQUEST = (
    "sweep", "l2f-hover", "--seeds", "2", "--workers", "2", "--episodes", "20", "--set", "algo.n_envs=16", "--json",
)  # fmt: skip
RUNS = ("000-seed-1000", "000-seed-1001")


def start(out: Path, updates: int = UPDATES) -> subprocess.Popen:
    """A process of its own group and session, as of a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "alula.cli", *REQUEST, "--set", f"algo.updates={updates}", "--out", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def below(pid: int) -> dict[int, str]:
    """Processes below one, and their names."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rsplit(")", 1)[1].split()[1]
            )
            names[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    found, last = {pid}, 0
    while len(found) > last:
        last = len(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return {child: names.get(child, "") for child in found - {pid}}


def wait_for(condition: Callable[[], object], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def saved(out: Path) -> list[int]:
    return [updates_saved(out / "test" / name) or 0 for name in RUNS]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def finish(process: subprocess.Popen) -> dict:
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def same_as_undisturbed(out: Path, tmp_path: Path, updates: int = UPDATES) -> None:
    """Whether the policies are those of runs that nothing happened to."""
    preset = with_settings(get_preset("l2f-hover"), {"algo.updates": updates, "algo.n_envs": 16})
    for name in RUNS:
        folder = tmp_path / f"alone-{name}"
        alone = train(preset, robot=build_robot(preset), seed=int(name[-4:]), out=folder)
        there = load_policy(out / "test" / name / "policy.onnx").network
        for a, b in zip(alone.network.weights, there.weights, strict=True):
            assert (a == b).all()
        config = (out / "test" / name / "config.json").read_bytes()
        assert config == (folder / "config.json").read_bytes()


def test_a_killed_worker_costs_its_current_update(tmp_path) -> None:
    out = tmp_path / "s"
    process = start(out)
    try:
        wait_for(lambda: min(saved(out)) > 20)
        workers = [
            pid for pid, name in below(process.pid).items() if name.startswith("ray::do_run")
        ]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        before = saved(out)
        result = finish(process)
    finally:
        process.kill()
    assert [r["seed"] for r in result["runs"]] == [1000, 1001]
    # one whole training was timed, the other went on from its checkpoint, which is never behind
    assert sum(r["train_s"] is None for r in result["runs"]) == 1
    assert min(before) > 20
    same_as_undisturbed(out, tmp_path)


def test_a_killed_head_goes_on_by_the_same_command(tmp_path) -> None:
    out = tmp_path / "s"
    # Workers take seconds to notice, and must not be done before.
    updates = 4 * UPDATES
    first = start(out, updates)
    try:
        wait_for(lambda: min(saved(out)) > 20)
        everything = below(first.pid)
        first.kill()
        first.communicate()
        # The workers notice, and end; two idle helpers of Ray's may take a minute longer.
        trainers = [pid for pid, name in everything.items() if name.startswith("ray::do_run")]
        wait_for(lambda: not any(map(alive, trainers)), 30.0)
        request, before = (out / "sweep.json").read_bytes(), saved(out)
        second = start(out, updates)
        try:
            result = finish(second)
        finally:
            second.kill()
    finally:
        first.kill()
    assert min(before) > 20
    assert (out / "sweep.json").read_bytes() == request
    assert [r["train_s"] for r in result["runs"]] == [None, None]
    same_as_undisturbed(out, tmp_path, updates)
    wait_for(lambda: not any(map(alive, everything)), 150.0)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(tmp_path, number: int, code: int) -> None:
    out = tmp_path / "s"
    process = start(out)
    try:
        wait_for(lambda: min(saved(out)) > 20)
        everything = below(process.pid)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        text, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == code
    assert text == ""
    assert err == f"alula: interrupted; the same command goes on from there ({out})\n"
    wait_for(lambda: not any(map(alive, everything)), 30.0)
    assert min(saved(out)) > 20
