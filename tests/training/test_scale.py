"""Runs on Ray: what becomes of those that fail or lose their workers, and what a local Ray listens on."""

import importlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from alula.errors import AlulaError
from alula.training import scale
from alula.training.scale import LOOPBACK, OBJECT_STORE_BYTES, ray_session, run_all


class RayError(Exception):
    """What a lost worker ends in."""


class RayTaskError(RayError):
    """What a worker's own error ends in."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class FakeRay:
    """Does a task when it is waited for, in order; a task that raises LostWorker has lost it."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self) -> None:
        self.most = 0

    def remote(self, **options):
        assert options == {"num_cpus": 1, "max_retries": 0}
        return lambda work: SimpleNamespace(remote=lambda run: (object(), work, run))

    def wait(self, references, num_returns, timeout):
        self.most = max(self.most, len(references))
        return references[:num_returns], references[num_returns:]

    def get(self, reference):
        _, work, run = reference
        try:
            work(run)
        except RayError:
            raise
        except Exception as e:
            raise RayTaskError(e) from None


def go(work, runs, *, workers: int = 2, reached=lambda run: 0):
    seen, lost = [], []
    ray = FakeRay()
    failed = run_all(
        ray,  # type: ignore[arg-type]
        runs, work, workers=workers, reached=reached, look=seen.append,
        lost=lambda run, done: lost.append((run, done)),
    )  # fmt: skip
    return failed, lost, seen, ray.most


def test_every_run_is_done_once_and_no_more_than_asked_at_once() -> None:
    done = []
    failed, lost, seen, most = go(done.append, list(range(7)), workers=3)
    assert sorted(done) == list(range(7))
    assert (failed, lost, most) == ({}, [], 3)
    assert seen[-1] == []


def test_an_error_fails_its_run_alone() -> None:
    def work(run: int) -> None:
        if run == 1:
            raise AlulaError("bad setting")
        if run == 2:
            raise ValueError("two\nlines")

    failed, lost, _, _ = go(work, [0, 1, 2, 3])
    assert failed == {1: "bad setting", 2: "ValueError: two"}
    assert lost == []


def test_a_run_that_comes_further_may_lose_any_number_of_workers() -> None:
    done = {"updates": 0}

    def work(run: int) -> None:
        done["updates"] += 1
        if done["updates"] < 20:
            raise RayError("killed")

    failed, lost, _, _ = go(work, [0], reached=lambda run: done["updates"])
    assert failed == {}
    assert lost == [(0, k) for k in range(1, 20)]


def test_a_run_that_loses_its_workers_and_comes_no_further_is_given_up() -> None:
    tries = []

    def work(run: int) -> None:
        tries.append(run)
        raise RayError("killed\nby whom?")

    failed, _, _, _ = go(work, [0])
    assert failed == {0: "lost its worker 3 times: RayError: killed"}
    assert tries == [0, 0, 0]


def test_without_ray_one_line_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(AlulaError) as e, ray_session(workers=1, address=None):
        pass
    assert "pip install 'alula[scale]'" in str(e.value)
    assert "\n" not in str(e.value)


def test_a_dashboard_of_a_cluster_is_refused() -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    with (
        pytest.raises(AlulaError, match="--dashboard"),
        ray_session(workers=1, address="auto", dashboard=True),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:1", "Connection refused"),
        ("auto", "nobody is there"),
    ],
)
def test_a_lost_cluster_is_named(monkeypatch, address: str, says: str) -> None:
    def init(**_: object) -> None:
        raise ConnectionError("nobody is there\nand more")

    fake = SimpleNamespace(init=init, shutdown=lambda: None)
    monkeypatch.setattr(scale, "_import_ray", lambda **_: fake)
    with pytest.raises(AlulaError) as e, ray_session(workers=1, address=address):
        pass
    assert str(e.value).startswith(f"the cluster at {address} cannot be used: ")
    assert says in str(e.value)
    assert "\n" not in str(e.value)


def children(pid: int) -> set[int]:
    """A process and all below it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    found, last = {pid}, 0
    while len(found) > last:
        last = len(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return found


def listening(pids: set[int]) -> list[str]:
    """Addresses that processes listen on, by /proc."""
    inodes = set()
    for pid in pids:
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                link = os.readlink(f"/proc/{pid}/fd/{fd}")
                if link.startswith("socket:["):
                    inodes.add(link[8:-1])
        except OSError:
            continue
    found = []
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        with open(f"/proc/net/{table}") as file:
            for line in file.readlines()[1:]:
                parts = line.split()
                if parts[3] == "0A" and parts[9] in inodes:
                    raw = bytes.fromhex(parts[1].split(":")[0])
                    words = [raw[i : i + 4][::-1] for i in range(0, len(raw), 4)]
                    found.append(socket.inet_ntop(family, b"".join(words)))
    return found


def nothing(run: int) -> None:
    time.sleep(1.0)


ALONE = f"""
import sys, time
from alula.training.scale import ray_session, run_all
from tests_scale import children, listening, nothing
import os
with ray_session(workers=2, address=None) as (ray, workers):
    addresses = set()
    failed = run_all(
        ray, [0, 1], nothing, workers=workers, reached=lambda run: 0, lost=print,
        look=lambda busy: addresses.update(listening(children(os.getpid()))),
    )
    store = ray.cluster_resources()["object_store_memory"]
print(workers, failed, len(addresses) > 0, all(a in ("{LOOPBACK}", "::ffff:{LOOPBACK}") for a in addresses))
print(store <= {OBJECT_STORE_BYTES}, addresses, file=sys.stderr)
deadline = time.monotonic() + 10
while len(children(os.getpid())) > 1 and time.monotonic() < deadline:
    time.sleep(0.1)
print(len(children(os.getpid())) == 1)
"""


@pytest.mark.slow
def test_a_local_ray_listens_on_loopback_alone_and_ends_with_the_block(tmp_path) -> None:
    pytest.importorskip("ray")
    (tmp_path / "tests_scale.py").symlink_to(__file__)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", ALONE],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    assert done.stdout == "2 {} True True\nTrue\n", done.stdout + done.stderr
    assert done.stderr.startswith("True"), done.stderr
    # no token and no logs are left behind
    assert not (tmp_path / ".ray").exists()
