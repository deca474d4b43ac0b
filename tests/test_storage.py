import os
import time

import pytest

from simam_repro.storage import (
    atomic_folder,
    atomic_path,
    read_json,
    remove_leftovers,
    remove_temporaries,
    write_json,
    write_text,
)  # fmt: skip


class Interrupted(Exception):
    pass


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_and_replaces(tmp_path):
    target = tmp_path / "new" / "file.txt"
    write_text(target, "one")
    write_text(target, "two")
    assert target.read_text() == "two"
    assert names(target.parent) == ["file.txt"]


def test_file_keeps_its_old_content_while_it_is_written(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


def test_failed_file_leaves_the_old_one(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(Interrupted), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise Interrupted
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_failed_new_file_leaves_nothing(tmp_path):
    with pytest.raises(Interrupted), atomic_path(tmp_path / "file.txt") as temporary:
        temporary.write_text("half")
        raise Interrupted
    assert names(tmp_path) == []


def test_a_writer_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file.txt"):
        pass
    assert names(tmp_path) == []


def test_temporary_file_keeps_the_suffix(tmp_path):
    with atomic_path(tmp_path / "array.npz") as temporary:
        temporary.write_bytes(b"")
        assert temporary.suffix == ".npz" and temporary.parent == tmp_path


def test_folder_appears_and_replaces(tmp_path):
    target = tmp_path / "set"
    for content in ("one", "two"):
        with atomic_folder(target) as temporary:
            (temporary / content).write_text(content)
    assert names(target) == ["two"]
    assert names(tmp_path) == ["set"]


def test_folder_starts_empty_beside_the_old_one(tmp_path):
    target = tmp_path / "set"
    target.mkdir()
    (target / "old").touch()
    with atomic_folder(target) as temporary:
        assert names(temporary) == [] and names(target) == ["old"]


def test_failed_folder_leaves_the_old_one(tmp_path):
    target = tmp_path / "set"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(Interrupted), atomic_folder(target) as temporary:
        (temporary / "half").touch()
        raise Interrupted
    assert names(target) == ["old"]
    assert names(tmp_path) == ["set"]


def test_failed_new_folder_leaves_nothing(tmp_path):
    with pytest.raises(Interrupted), atomic_folder(tmp_path / "set") as temporary:
        (temporary / "half").touch()
        raise Interrupted
    assert names(tmp_path) == []


def test_json_round_trip(tmp_path):
    value = {"accuracy": 0.1, "name": "é", "best": None, "classes": [1, 2]}
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == value


def test_a_folder_that_takes_a_links_place_leaves_what_it_pointed_to(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").touch()
    (tmp_path / "set").symlink_to(tmp_path / "theirs")
    with atomic_folder(tmp_path / "set") as temporary:
        (temporary / "new").touch()
    assert names(tmp_path) == ["set", "theirs"]
    assert names(tmp_path / "set") == ["new"] and names(tmp_path / "theirs") == ["file"]


def test_a_folder_that_cannot_be_renamed_leaves_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "set"
    target.mkdir()
    (target / "old").touch()
    real = os.rename

    def refuse_new(source, place):
        if (source / "new").exists():
            raise OSError(16, "Device or resource busy")
        real(source, place)

    monkeypatch.setattr(os, "rename", refuse_new)
    with pytest.raises(OSError, match="busy"), atomic_folder(target) as temporary:
        (temporary / "new").touch()
    assert names(tmp_path) == ["set"] and names(target) == ["old"]


def test_leftovers_are_those_of_the_path_and_of_no_other(tmp_path):
    own = [".a[1].npy.0123abcd.tmp", ".a[1].npy.89abcdef.tmp.npy"]
    others = [".a[1].npy.lock", ".a[1].npy.v2.0123abcd.tmp", ".a1.npy.0123abcd.tmp", "a[1].npy"]
    for name in own + others:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "a[1].npy")
    assert names(tmp_path) == sorted(others)


def test_what_another_command_may_be_writing_stays_until_it_is_old(tmp_path):
    with atomic_path(tmp_path / "evaluation.json") as alive:
        alive.write_text("half")
        (tmp_path / "checkpoints" / ".last.0123abcd.tmp").mkdir(parents=True)
        old = tmp_path / ".robustness.json.0123abcd.tmp.json"
        old.touch()
        os.utime(old, (time.time() - 7200,) * 2)
        (tmp_path / ".result.json.0123abcd.tmp.json").touch()
        remove_temporaries(tmp_path, {"result.json", "last"})
        assert names(tmp_path) == sorted([alive.name, "checkpoints"]) and not names(tmp_path / "checkpoints")
    assert (tmp_path / "evaluation.json").read_text() == "half"
