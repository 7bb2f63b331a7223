"""Bounded reading and all-or-nothing writing."""

import os
import resource
from contextlib import contextmanager

import pytest

from alula.errors import AlulaError
from alula.policies.files import read_bounded, write_files


@contextmanager
def small_disk():
    """Files beyond 10 000 bytes fail as on a full disk; so does pytest's own log, so not longer than needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_all_files_arrive(tmp_path):
    write_files(tmp_path / "a" / "b", {"x": b"1", "y": b"22"})
    assert (tmp_path / "a" / "b" / "y").read_bytes() == b"22"
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == ["x", "y"]


def test_folders_below_come_and_go_with_their_files(tmp_path):
    files = {"top": b"1", "src/x": b"2", "src/deep/y": b"3"}
    write_files(tmp_path / "a", files)
    assert {n: (tmp_path / "a" / n).read_bytes() for n in files} == files
    (tmp_path / "b" / "src" / "x").mkdir(parents=True)
    with pytest.raises(AlulaError, match="is a folder"):
        write_files(tmp_path / "b", files)
    assert sorted(p.name for p in (tmp_path / "b").rglob("*")) == ["src", "x"]


def test_full_disk_leaves_nothing(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "small").write_bytes(b"kept")
    for folder in ("new/deep", "old"):
        with small_disk(), pytest.raises(AlulaError, match="cannot be written: File too large"):
            write_files(tmp_path / folder, {"small": b"1", "big": bytes(20_000)}, overwrite=True)
    assert not (tmp_path / "new").exists()
    assert [p.name for p in (tmp_path / "old").iterdir()] == ["small"]
    assert (tmp_path / "old" / "small").read_bytes() == b"kept"


def test_interruption_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_files(tmp_path / "new", {"x": b"1"})
    assert list(tmp_path.iterdir()) == []


def test_one_existing_file_stops_all(tmp_path):
    (tmp_path / "y").write_bytes(b"old")
    with pytest.raises(AlulaError, match="y exists"):
        write_files(tmp_path, {"x": b"1", "y": b"2"})
    assert [p.name for p in tmp_path.iterdir()] == ["y"]
    write_files(tmp_path, {"x": b"1", "y": b"2"}, overwrite=True)
    assert (tmp_path / "y").read_bytes() == b"2"


def test_dangling_link_counts_as_existing(tmp_path):
    (tmp_path / "x").symlink_to("nowhere")
    with pytest.raises(AlulaError, match="x exists"):
        write_files(tmp_path, {"x": b"1"})


def test_folder_in_the_way(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(AlulaError, match="is a folder"):
        write_files(tmp_path, {"x": b"1"}, overwrite=True)


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(AlulaError, match="cannot be"):
        write_files(tmp_path / "file" / "sub", {"x": b"1"})
    with pytest.raises(AlulaError, match="cannot be"):
        write_files(tmp_path / "file", {"x": b"1"})
    with pytest.raises(AlulaError, match="cannot be"):
        write_files("nul\0byte", {"x": b"1"})


def test_reading_is_bounded(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    assert read_bounded(tmp_path / "x", kind="file", max_bytes=5) == b"12345"
    with pytest.raises(AlulaError, match="larger than the allowed 4 bytes"):
        read_bounded(tmp_path / "x", kind="file", max_bytes=4)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no /dev/zero")
def test_devices_are_not_read():
    with pytest.raises(AlulaError, match="not a regular file"):
        read_bounded("/dev/zero", kind="file", max_bytes=4)
