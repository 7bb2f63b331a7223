"""The process of Isaac: messages, and every way in which there is none."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from alula.errors import AlulaError
from alula.sim.isaac import channel
from alula.sim.isaac.worker import SCRIPTS, NotInstalled, Worker


def test_messages_arrive_whole() -> None:
    stream = io.BytesIO()
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "none": np.zeros((0, 4), np.float32),
        "ids": np.array([3, 1]),
        "turned": np.arange(6.0).reshape(2, 3).T,
    }
    channel.write(stream, {"call": "step", "steps": 4}, arrays)
    channel.write(stream, {}, {})
    stream.seek(0)
    head, got = channel.read(stream)
    assert head == {"call": "step", "steps": 4}
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], array)
        assert got[name].dtype == array.dtype
    assert channel.read(stream) == ({}, {})
    with pytest.raises(EOFError):
        channel.read(stream)


def test_half_a_message_is_none() -> None:
    stream = io.BytesIO()
    channel.write(stream, {}, {"a": np.zeros(100)})
    with pytest.raises(EOFError):
        channel.read(io.BytesIO(stream.getvalue()[:-1]))


@pytest.mark.parametrize(
    ("name", "module", "needs"),
    [
        ("isaac-gym", "isaacgym", "Python 3.7 or 3.8"),
        ("isaac-lab", "isaaclab", "Isaac Lab 2.3 or 3"),
    ],
)
def test_no_isaac_is_one_line_that_says_what_to_do(name, module: str, needs: str) -> None:
    with pytest.raises(
        NotInstalled, match=rf"no module {module}\); allowed: --python FILE, .*{needs}"
    ):
        Worker(name).build({"device": "cpu"})


def test_no_interpreter(tmp_path: Path) -> None:
    with pytest.raises(NotInstalled, match="cannot be run"):
        Worker("isaac-lab", python=tmp_path / "python").build({})


def scripted(monkeypatch, tmp_path: Path, text: str) -> Worker:
    """A worker that runs this in place of Isaac."""
    script = tmp_path / "script.py"
    path = str(Path(channel.__file__).parent)
    script.write_text(
        f"import sys\nsys.path.insert(0, {path!r})\nfrom channel import serve\n{text}"
    )
    monkeypatch.setitem(SCRIPTS, "isaac-lab", str(script))
    return Worker("isaac-lab", python=Path(sys.executable))


DIES = """
import os
class Physics:
    origin_w = [[0.0, 0.0, 0.0]]
    def step(self, steps, arrays):
        print("PhysX: out of memory", flush=True)
        os._exit(3)
serve(lambda scene: (Physics(), {"joint_names": []}))
"""
REFUSES = """
def make(scene):
    print("once")
    raise ValueError("no such\\ndevice")
serve(make)
"""
NO_LIBRARY = """
def make(scene):
    raise ImportError("libpython3.8.so.1.0: cannot open shared object file")
serve(make)
"""
ADDS = """
class Physics:
    origin_w = [[1.0, 2.0, 3.0]]
    def step(self, steps, arrays):
        print("this is not an answer")
        return {"sum": arrays["a"] + steps}
serve(lambda scene: (Physics(), {"names": [scene["name"]]}))
"""


def test_a_worker_that_dies_is_told_with_its_last_line(monkeypatch, tmp_path: Path) -> None:
    worker = scripted(monkeypatch, tmp_path, DIES)
    worker.build({})
    with pytest.raises(AlulaError, match="isaac-lab ended; its last line: PhysX: out of memory"):
        worker.step(1, {})
    with pytest.raises(AlulaError, match="does not run"):
        worker.step(1, {})


def test_a_scene_that_was_refused_is_not_tried_again(monkeypatch, tmp_path: Path) -> None:
    worker = scripted(monkeypatch, tmp_path, REFUSES)
    for _ in range(2):
        with pytest.raises(AlulaError, match="isaac-lab: ValueError: no such device"):
            worker.build({"n_envs": 1})
    assert worker.log().count("once") == 1
    assert any("Traceback" in line for line in worker.log())


def test_an_isaac_that_is_there_and_does_not_load_is_not_called_missing(monkeypatch, tmp_path: Path) -> None:  # fmt: skip
    worker = scripted(monkeypatch, tmp_path, NO_LIBRARY)
    with pytest.raises(AlulaError, match=r"isaac-lab: ImportError: libpython3\.8") as e:
        worker.build({})
    assert not isinstance(e.value, NotInstalled)


def test_what_is_printed_does_not_disturb(monkeypatch, tmp_path: Path) -> None:
    worker = scripted(monkeypatch, tmp_path, ADDS)
    said, origin_w = worker.build({"name": "one"})
    assert said == {"names": ["one"]}
    assert origin_w.tolist() == [[1.0, 2.0, 3.0]]
    for _ in range(3):
        assert worker.step(4, {"a": np.arange(3)})["sum"].tolist() == [4, 5, 6]
    assert worker.log() == ["this is not an answer"] * 3
    # Another scene is another process.
    assert worker.build({"name": "two"})[0] == {"names": ["two"]}
    process = worker._process
    worker.close()
    assert process is not None
    assert process.returncode == 0
