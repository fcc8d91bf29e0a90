"""A file is there whole or not at all. The order of system calls is proved by tests/proofs/box/durability.py."""

import errno
import os

import pytest

from edge_app.store.durable import has_room, make_folder, temporary_file, write_durably


def test_a_file_is_replaced_as_a_whole(tmp_path):
    write_durably(tmp_path / "a", b"old")
    write_durably(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    write_durably(tmp_path / "a", b"old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_durably(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_temporary_file_that_was_not_moved_is_gone(tmp_path):
    with temporary_file(tmp_path) as file:
        file.write(b"half")
    assert list(tmp_path.iterdir()) == []


def test_folders_are_made_with_those_above_them(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_room_is_measured_with_what_is_to_come(tmp_path):
    free_mb = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize >> 20
    assert has_room(tmp_path, free_mb // 2)
    assert not has_room(tmp_path, free_mb // 2, needed=free_mb << 20)
