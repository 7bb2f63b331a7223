"""A run's folder is complete or absent."""

import json

import pytest

from alula.errors import AlulaError
from alula.run_folder import (
    CHECKPOINT,
    CONFIG,
    POLICY,
    RESULT,
    default_folder,
    run_folder,
    write_json,
)


def test_a_finished_run_takes_its_place_at_once(tmp_path):
    out = tmp_path / "a" / "b"
    with run_folder(out, mark=CONFIG) as folder:
        assert not out.exists()
        (folder / "x").write_text("1")
    assert [p.name for p in out.iterdir()] == ["x"]
    assert [p.name for p in out.parent.iterdir()] == ["b"], "no hidden folder stays"


def test_an_empty_folder_may_be_used(tmp_path):
    with run_folder(tmp_path / "out", mark=CONFIG) as folder:
        (folder / "x").write_text("1")
    (tmp_path / "out" / "x").unlink()
    with run_folder(tmp_path / "out", mark=CONFIG) as folder:
        (folder / "y").write_text("2")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["y"]


@pytest.mark.parametrize("error", [AlulaError("bad"), OSError(28, "No space left"), SystemExit(1)])
def test_a_failed_run_leaves_nothing(tmp_path, error):
    def fail(folder):
        (folder / POLICY).write_text("half")
        raise error

    with pytest.raises(type(error)), run_folder(tmp_path / "new" / "out", mark=CONFIG) as folder:
        fail(folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left"), RuntimeError("lost"), KeyboardInterrupt()])  # fmt: skip
def test_an_error_keeps_a_checkpoint_and_names_it(tmp_path, error):
    def fail(folder):
        (folder / CHECKPOINT).write_text("so far")
        raise error

    out = tmp_path / "out"
    with pytest.raises(type(error)) as raised, run_folder(out, mark=CONFIG) as folder:
        fail(folder)
    assert (folder / CHECKPOINT).read_text() == "so far"
    assert not out.exists()
    assert str(folder) in raised.value.__notes__[0]


def test_interruption_keeps_a_policy(tmp_path):
    def interrupt(folder, name):
        (folder / name).write_text("so far")
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), run_folder(out, mark=CONFIG) as folder:
        interrupt(folder, "scratch")
    assert list(tmp_path.iterdir()) == [], "nothing worth keeping"
    with pytest.raises(KeyboardInterrupt, match="out"), run_folder(out, mark=CONFIG) as folder:
        interrupt(folder, POLICY)
    assert (out / POLICY).read_text() == "so far"
    assert json.loads((out / RESULT).read_text()) == {"interrupted": True}


def test_only_earlier_runs_are_replaced(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis").write_text("precious")
    with pytest.raises(AlulaError, match="not empty"), run_folder(out, mark=CONFIG):
        pass
    with (
        pytest.raises(AlulaError, match="not made by alula"),
        run_folder(out, mark=CONFIG, overwrite=True),
    ):
        pass
    write_json(out / RESULT, {})
    write_json(out / CONFIG, {})
    with run_folder(out, mark=CONFIG, overwrite=True) as folder:
        (folder / "new").write_text("1")
    assert [p.name for p in out.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("files", "mark", "says"),
    [
        ([CONFIG, POLICY], "report.html", "holds a training"),
        ([CONFIG, POLICY, "report.html"], "report.html", "holds a training"),
        (["report.html"], CONFIG, "has no config.json"),
        (["report.html"], "check-sim.md", "has no check-sim.md"),
    ],
)
def test_a_folder_of_another_kind_is_never_replaced(tmp_path, files, mark, says):
    out = tmp_path / "out"
    out.mkdir()
    for name in (RESULT, *files):
        (out / name).write_text("{}")
    with pytest.raises(AlulaError, match=says), run_folder(out, mark=mark, overwrite=True):
        pass
    assert sorted(p.name for p in out.iterdir()) == sorted([RESULT, *files])
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_failed_replacement_keeps_the_earlier_run(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    write_json(out / RESULT, {"n": 1})
    write_json(out / CONFIG, {})
    with pytest.raises(ValueError, match="no"), run_folder(out, mark=CONFIG, overwrite=True):
        raise ValueError("no")
    assert json.loads((out / RESULT).read_text()) == {"n": 1}


def test_default_folders_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = default_folder("p")
    first.mkdir(parents=True)
    second = default_folder("p")
    assert first.parent.name == second.parent.name == "runs"
    assert not second.exists()
