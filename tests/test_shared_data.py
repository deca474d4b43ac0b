"""Data that several jobs share: nothing is lost, nothing half is trained on, nothing of the user's goes."""

import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time

import keep_results
import miniatures
import pytest
from refusals import left_behind, refusal

from simam_repro.cli.commands import prepare_data as command
from simam_repro.config import Data, Model
from simam_repro.data import class_folders

FORK = multiprocessing.get_context("fork")


def below(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# two jobs


def _prepare(archive, root, temporary, delay):
    os.environ["TMPDIR"], tempfile.tempdir = str(temporary), None
    time.sleep(delay)
    sys.argv = ["prepare_data.py", "-c", "configs/caltech_towernet.yaml"]
    sys.argv += ["-o", f"data.archive={archive}", "-o", f"data.root={root}"]
    command.main()


def race(folder, archive, images: int, delay: float) -> str:
    """Two `prepare_data.py`, each with a /tmp of its own, the second `delay` seconds later; "" when all is well."""
    temporaries = [folder / "tmp 1", folder / "tmp 2"]
    jobs = []
    for temporary, wait in zip(temporaries, (0, delay)):
        temporary.mkdir(parents=True)
        jobs.append(FORK.Process(target=_prepare, args=(archive, folder / "data", temporary, wait)))
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    sets = [path for path in (folder / "data").iterdir() if (path / "manifest.json").is_file()]
    manifest = json.loads((sets[0] / "manifest.json").read_text()) if sets else {"images": {}}
    listed = sum(map(len, manifest["images"].values()))
    found = len(list((folder / "data").glob("*/Images/*/*.jpg")))
    left = sorted(path.name for path in (folder / "data").glob(".*")) + [
        path.name for temporary in temporaries for path in temporary.iterdir()
    ]
    codes = [job.exitcode for job in jobs]
    whole = codes == [0, 0] and len(sets) == 1 and found == listed == images and not left
    return "" if whole else f"exit codes {codes}, {found} of {listed} images, left behind: {left}"


@pytest.mark.parametrize("delay", [0, 0.15])
def test_two_jobs_with_a_tmp_of_their_own_prepare_one_root(tmp_path, delay):
    archive = miniatures.write_images_zip(tmp_path / "own.zip", images_per_class=6)
    assert race(tmp_path / "race", archive, 16 * 6, delay) == ""


@pytest.mark.slow
def test_two_jobs_with_a_tmp_of_their_own_prepare_one_root_20_times(tmp_path):
    archive = miniatures.write_images_zip(tmp_path / "own.zip", images_per_class=250)
    began = time.monotonic()
    job = FORK.Process(target=_prepare, args=(archive, tmp_path / "alone", tmp_path, 0))
    job.start()
    job.join()
    alone = time.monotonic() - began
    failed = {}
    for number in range(20):
        delay = alone * number / 19  # the last one comes when the first is done
        if trouble := race(tmp_path / str(number), archive, 16 * 250, delay):
            failed[f"{delay:.2f} s"] = trouble
        shutil.rmtree(tmp_path / str(number))
    print(f"\n{20 - len(failed)} of 20 whole; alone it takes {alone:.1f} s", *failed.items(), sep="\n")
    assert failed == {}


# what is not whole


@pytest.fixture
def caltech(prepare, caltech_archive, data_root):
    """caltech() -> the prepared set; its folder is data_root/caltech101_16_miniature."""

    def run():
        return prepare("caltech101_16", [caltech_archive.parent], allow_miniature=True)

    run.folder = data_root / "caltech101_16_miniature"
    return run


@pytest.fixture
def cifar(prepare, cifar_archive, data_root):
    def run():
        return prepare("cifar10", [cifar_archive.parent], allow_miniature=True)

    run.folder = data_root / "cifar10_miniature"
    return run


def forget_files(folder):
    """As the versions before this one prepared it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]
    (folder / "manifest.json").write_text(json.dumps(manifest))


def lose(path):
    path.unlink()


def cut(path):
    os.truncate(path, path.stat().st_size - 1)


def lose_in_an_old_set(path):
    forget_files(next(parent for parent in path.parents if (parent / "manifest.json").is_file()))
    path.unlink()


@pytest.mark.parametrize("harm", [lose, cut, lose_in_an_old_set])
@pytest.mark.parametrize(
    ("data_set", "file"), [("caltech", "Images/bonsai/image_0002.jpg"), ("cifar", "train_labels.npy")]
)
def test_a_set_that_is_not_whole_is_prepared_again(request, capsys, data_set, file, harm):
    prepared = request.getfixturevalue(data_set)
    prepared()
    before = {path: path.read_bytes() for path in prepared.folder.rglob("*") if path.is_file()}
    harm(prepared.folder / file)
    prepared()
    assert f"{prepared.folder} lacks 1 of its " in capsys.readouterr().err
    assert {path: path.read_bytes() for path in prepared.folder.rglob("*") if path.is_file()} == before
    assert left_behind(prepared.folder.parent) == [prepared.folder.name]
    prepared()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("data_set", ["caltech", "cifar"])
def test_a_set_of_an_older_version_is_used_as_it_is(request, capsys, data_set, tmp_path):
    prepared = request.getfixturevalue(data_set)
    prepared()
    forget_files(prepared.folder)
    manifest = (prepared.folder / "manifest.json").read_bytes()
    prepared()
    assert (prepared.folder / "manifest.json").read_bytes() == manifest and capsys.readouterr().err == ""


def test_what_the_user_put_into_a_set_keeps_it_from_being_replaced(caltech):
    caltech()
    (caltech.folder / "notes.txt").write_text("mine")
    caltech()  # it disturbs nothing
    (caltech.folder / "Images" / "bonsai" / "image_0002.jpg").unlink()
    before = below(caltech.folder)
    assert "notes.txt is not of the data set" in refusal(caltech)
    assert below(caltech.folder) == before and left_behind(caltech.folder.parent) == [caltech.folder.name]


def test_a_set_that_loses_files_while_it_is_written_does_not_appear(caltech, data_root, monkeypatch):
    real = class_folders.checksum

    def clean_up_and_check(path):
        for image in data_root.glob(".*.tmp/Images/*/image_0001.jpg"):
            image.unlink()
        return real(path)

    monkeypatch.setattr(class_folders, "checksum", clean_up_and_check)
    assert "16 files vanished while the set was written" in refusal(caltech)
    assert not data_root.exists()


def test_leftovers_of_the_set_go_and_those_of_others_stay(caltech, data_root):
    own, other = (data_root / f".{name}.0123abcd.tmp" for name in (caltech.folder.name, f"{caltech.folder.name}.v2"))
    for leftover in (own, other):
        leftover.mkdir(parents=True)
    (data_root / f".{caltech.folder.name}.89abcdef.tmp").symlink_to(other)
    caltech()
    assert left_behind(data_root) == sorted([other.name, caltech.folder.name])


# the user's own folders


def notes(folder):
    (folder / "notes.txt").write_text("mine")


def a_manifest_of_something_else(folder):
    (folder / "manifest.json").write_text('{"images": {"a": ["b.jpg"]}, "version": 3}')


def a_cut_manifest(folder):
    (folder / "manifest.json").write_text('{"archive": "x.zip", "sha')


def hidden(folder):
    (folder / ".git").mkdir()


@pytest.mark.parametrize("data_set", ["caltech", "cifar"])
@pytest.mark.parametrize("content", [notes, a_manifest_of_something_else, a_cut_manifest, hidden])
def test_a_folder_that_is_not_this_projects_is_never_replaced(request, data_set, content):
    prepared = request.getfixturevalue(data_set)
    prepared.folder.mkdir(parents=True)
    content(prepared.folder)
    before = {path: path.read_bytes() for path in prepared.folder.rglob("*") if path.is_file()}
    message = refusal(prepared)
    assert str(prepared.folder) in message and "name another data.root" in message
    assert {path: path.read_bytes() for path in prepared.folder.rglob("*") if path.is_file()} == before
    assert left_behind(prepared.folder.parent) == [prepared.folder.name]


def test_shapes16_refuses_too(prepare, data_root):
    folder = data_root / "shapes16-v1-60x144-seed16"
    folder.mkdir(parents=True)
    notes(folder)
    assert "not made by this project" in refusal(prepare, "shapes16")
    assert below(data_root) == {folder.name, f"{folder.name}/notes.txt"}


def test_an_empty_folder_is_taken(caltech):
    caltech.folder.mkdir(parents=True)
    assert len(caltech().train) == 64


# links to another disk


def to_an_empty_folder(link, disk):
    disk.mkdir(parents=True)
    link.symlink_to(disk)


def to_nothing_yet(link, disk):
    link.symlink_to(disk)


@pytest.mark.parametrize("kind", [to_an_empty_folder, to_nothing_yet])
def test_a_sets_folder_may_be_a_link(caltech, data_root, tmp_path, kind):
    disk = tmp_path / "disk" / "caltech"
    data_root.mkdir()
    kind(caltech.folder, disk)
    caltech()
    assert caltech.folder.is_symlink() and (disk / "manifest.json").is_file()
    (disk / "Images" / "bonsai" / "image_0002.jpg").unlink()
    assert len(caltech().train) == 64 and caltech.folder.is_symlink()
    assert left_behind(data_root) == [caltech.folder.name] and os.listdir(disk.parent) == ["caltech"]


def test_a_link_to_the_users_own_folder_is_refused(caltech, data_root, tmp_path):
    (tmp_path / "thesis").mkdir()
    notes(tmp_path / "thesis")
    data_root.mkdir()
    caltech.folder.symlink_to(tmp_path / "thesis")
    assert "not made by this project" in refusal(caltech)
    assert os.listdir(tmp_path / "thesis") == ["notes.txt"] and left_behind(data_root) == [caltech.folder.name]


def test_a_link_in_a_circle_is_refused(caltech, data_root):
    data_root.mkdir()
    caltech.folder.symlink_to(caltech.folder)
    refusal(caltech)
    assert left_behind(data_root) == [caltech.folder.name]


# the home folder


def test_a_tilde_is_the_home_folder_in_every_path_of_a_config(tmp_path, monkeypatch, caltech_archive):
    monkeypatch.setenv("HOME", str(tmp_path))
    paths = {"root": "~/data", "archive": "~/own.zip"}
    config = Data(**paths)
    assert (config.root, config.archive) == (str(tmp_path / "data"), str(tmp_path / "own.zip"))
    assert Data(dataset="folder", folder="~").folder == str(tmp_path)
    assert Model(weights="~/a.safetensors").weights == str(tmp_path / "a.safetensors")
    assert Data(root="data/~x").root == "data/~x"
    with pytest.raises(ValueError, match="no home folder"):
        Data(root="~nobody-of-this-name/data")


# keeping


def test_a_link_in_a_run_is_not_kept(tmp_path):
    (tmp_path / "secret").write_text("key")
    for name in ("config.yaml", "environment.json", "metrics.jsonl"):
        (tmp_path / name).touch()
    (tmp_path / "result.json").symlink_to(tmp_path / "secret")
    assert "result.json is a link" in refusal(keep_results.copy_file, tmp_path / "result.json", tmp_path / "results")
    assert not (tmp_path / "results").exists()
