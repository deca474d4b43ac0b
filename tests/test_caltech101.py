"""Caltech101-16 and a zip of the user's own, from archive to labelled image."""

import hashlib
import io
import json
import os
import shutil
import tarfile
from dataclasses import replace

import miniatures
import numpy as np
import pytest
from PIL import Image
from refusals import left_behind, refusal

from simam_repro.config import PROJECT_ROOT, Data
from simam_repro.data import archives, build_loaders, prepare_data
from simam_repro.data.sets import caltech101_16
from simam_repro.errors import UserError

# Caltech101-16


def names_in(archive) -> dict[str, list[str]]:
    """{class: sorted file names, underscores for spaces} of a tar: the split's input, computed apart."""
    with tarfile.open(archive) as tar:
        paths = [name.replace(" ", "_").split("/")[1:] for name in tar.getnames() if name.endswith(".jpg")]
    return {name: sorted(file for folder, file in paths if folder == name) for name in miniatures.CALTECH_CLASSES}


@pytest.fixture
def caltech(prepare, caltech_archive):
    return prepare("caltech101_16", [caltech_archive.parent], allow_miniature=True)


def test_caltech_split_is_every_fifth_of_the_sorted_names(caltech, caltech_archive):
    names = names_in(caltech_archive)
    assert set(caltech.eval.ids) == {f"{name}/{file}" for name in names for file in names[name][::5]}
    every = {f"{name}/{file}" for name in names for file in names[name]}
    assert set(caltech.train.ids) == every - set(caltech.eval.ids)
    assert (len(caltech.train), len(caltech.eval)) == (16 * 4, 16 * 2)


def test_caltech_splits_share_what_is_prepared(caltech, prepare, caltech_archive, data_root):
    manifest = (data_root / "caltech101_16_miniature" / "manifest.json").read_bytes()
    names = names_in(caltech_archive)
    for split in range(1, 5):
        other = prepare("caltech101_16", [caltech_archive.parent], allow_miniature=True, split=split)
        assert set(other.eval.ids) == {f"{name}/{file}" for name in names for file in names[name][split::5]}
        assert (other.sha256, other.describe()["split"]) == (caltech.sha256, split)
    assert (data_root / "caltech101_16_miniature" / "manifest.json").read_bytes() == manifest


def test_caltech_labels_are_the_sorted_classes(caltech):
    assert caltech.classes == tuple(sorted(miniatures.CALTECH_CLASSES))
    for split in (caltech.train, caltech.eval):
        assert [caltech.classes[label] for label in split.labels] == [sample.split("/")[0] for sample in split.ids]
        assert split.labels.dtype == np.int64


def test_caltech_pixels_are_those_of_the_archive(caltech, caltech_archive):
    with tarfile.open(caltech_archive) as tar:
        content = tar.extractfile("101_ObjectCategories/watch/image_0002.jpg").read()
    image = caltech.train.images[caltech.train.ids.index("watch/image_0002.jpg")]
    assert np.array_equal(np.asarray(image), np.asarray(Image.open(io.BytesIO(content))))


def test_spaces_become_underscores(caltech):
    assert "bonsai/image_0003.jpg" in caltech.train.ids
    assert not [sample for sample in caltech.train.ids + caltech.eval.ids if " " in sample]


def test_greyscale_opens_as_rgb(caltech):
    path = caltech.eval.images.folder / caltech.eval.images.names[0]  # image 0 of a class is greyscale
    assert Image.open(path).mode == "L"
    assert caltech.eval.images[0].mode == "RGB"


def test_stray_file_is_listed_and_other_classes_are_left_out(caltech, data_root):
    folder = data_root / "caltech101_16_miniature"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["left_out"] == {"count": 1, "reasons": {"no image": 1}, "first": ["butterfly/notes.txt"]}
    assert sorted(path.name for path in (folder / "Images").iterdir()) == sorted(miniatures.CALTECH_CLASSES)


def test_description(caltech, caltech_archive):
    sha256 = hashlib.sha256(caltech_archive.read_bytes()).hexdigest()
    assert caltech.describe() == {
        "name": "caltech101_16",
        "sha256": sha256,
        "stand_in": True,
        "classes": 16,
        "train_images": 64,
        "eval_images": 32,
        "class_names": sorted(miniatures.CALTECH_CLASSES),
        "skipped": [],
        "left_out": {"count": 1, "reasons": {"no image": 1}, "first": ["butterfly/notes.txt"]},
    }


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_official_archives_may_be_named(prepare, caltech, tmp_path, wrapped):
    archive = miniatures.write_caltech(tmp_path / "in" / "any name.zip", wrapped=wrapped)
    named = prepare("caltech101_16", archive=str(archive), allow_miniature=True)
    assert (named.name, named.train.ids, named.eval.ids) == ("caltech101_16", caltech.train.ids, caltech.eval.ids)
    assert "1436" in refusal(prepare, "caltech101_16", archive=str(archive))


def test_a_relative_archive_is_looked_for_where_other_paths_are(prepare, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    miniatures.write_images_zip(tmp_path / "own.zip")
    message = refusal(prepare, "caltech101_16", archive="own.zip")
    assert f"{PROJECT_ROOT}/own.zip is not a file" in message and f"give {tmp_path}/own.zip" in message
    monkeypatch.setattr(archives, "PROJECT_ROOT", tmp_path)
    assert len(prepare("caltech101_16", archive="own.zip").train) == 64


def test_simam_archives_is_read_where_data_is_prepared(caltech_archive, data_root, monkeypatch):
    """In a notebook, by fit() and by evaluation as on the command line: nobody hands the folders on."""
    monkeypatch.setenv("SIMAM_ARCHIVES", f"{data_root}/none:{caltech_archive.parent}")
    config = Data(root=str(data_root), allow_miniature=True)
    assert len(prepare_data(config, warn=lambda message: None, progress=False).train) == 64


def test_official_zip_gives_the_same_set(caltech, prepare, tmp_path, data_root):
    archive = miniatures.write_caltech(tmp_path / "in" / "caltech-101.zip", wrapped=True)
    shutil.rmtree(data_root)
    again = prepare("caltech101_16", [archive.parent], allow_miniature=True)
    assert (again.train.ids, again.eval.ids) == (caltech.train.ids, caltech.eval.ids)


def test_miniature_is_refused_unless_allowed(prepare, caltech_archive, data_root):
    message = refusal(prepare, "caltech101_16", [caltech_archive.parent])
    assert all(text in message for text in ("1436", "365", "64", "32", "allow_miniature"))
    assert left_behind(data_root) == []


def test_missing_class_is_named(prepare, tmp_path, data_root):
    files = {name: content for name, content in miniatures.caltech_files(1).items() if "/ibis/" not in name}
    archive = miniatures.write_tar(tmp_path / "in" / "101_ObjectCategories.tar.gz", files)
    assert "ibis" in refusal(prepare, "caltech101_16", [archive.parent], allow_miniature=True)
    assert left_behind(data_root) == []


def test_unofficial_checksum_warns(caltech, warned, caltech_archive):
    assert len(warned) == 1
    assert str(caltech_archive) in warned[0] and caltech101_16.SOURCE.md5[caltech101_16.INNER] in warned[0]


def test_official_checksum_does_not_warn(prepare, caltech_archive, warned, monkeypatch, data_root):
    md5 = hashlib.md5(caltech_archive.read_bytes()).hexdigest()
    monkeypatch.setattr(caltech101_16, "SOURCE", replace(caltech101_16.SOURCE, md5={caltech_archive.name: md5}))
    prepare("caltech101_16", [caltech_archive.parent], allow_miniature=True)
    assert warned == []
    assert json.loads((data_root / "caltech101_16_miniature" / "manifest.json").read_text())["official"] is True


def test_second_time_needs_no_archive(prepare, caltech_archive, warned, tmp_path):
    (tmp_path / "in").mkdir()
    copy = shutil.copy(caltech_archive, tmp_path / "in")
    first = prepare("caltech101_16", [tmp_path / "in"], allow_miniature=True)
    os.remove(copy)
    warned.clear()
    second = prepare("caltech101_16", [tmp_path / "in"], allow_miniature=True)
    assert second.describe() == first.describe() and second.train.ids == first.train.ids
    assert warned == []


def test_miniature_does_not_pass_for_the_real_set_later(caltech, prepare):
    with pytest.raises(UserError, match="not here and could not be downloaded"):
        prepare("caltech101_16")


def test_damaged_image_is_named(prepare, tmp_path, data_root):
    files = miniatures.caltech_files(2)
    name = "101_ObjectCategories/ewer/image_0002.jpg"
    files[name] = files[name][:-50]  # its header is whole
    archive = miniatures.write_tar(tmp_path / "in" / "101_ObjectCategories.tar.gz", files)
    message = refusal(prepare, "caltech101_16", [archive.parent], allow_miniature=True)
    assert name in message and "damaged" in message
    assert left_behind(data_root) == []


# a zip of the user's own


def test_own_zip_of_sixteen_classes(prepare, tmp_path):
    archive = miniatures.write_images_zip(tmp_path / "flowers.zip")
    data = prepare("caltech101_16", archive=str(archive))
    assert (data.name, data.stand_in, len(data.classes)) == ("flowers", False, 16)
    assert data.classes[3] == "class_number_03"
    assert data.eval.ids[:2] == ("class_number_00/photo_0.jpg", "class_number_00/photo_5.jpg")
    assert (len(data.train), len(data.eval)) == (16 * 4, 16 * 2)


def test_another_archive_of_the_same_name_is_another_set(prepare, tmp_path):
    first = miniatures.write_images_zip(tmp_path / "a" / "own.zip")
    second = miniatures.write_images_zip(tmp_path / "b" / "own.zip", images_per_class=3)
    assert len(prepare("caltech101_16", archive=str(first)).train) == 16 * 4
    assert len(prepare("caltech101_16", archive=str(second)).train) == 16 * 2


@pytest.mark.parametrize("classes", [15, 17])
def test_own_zip_of_other_class_counts_is_refused(prepare, tmp_path, data_root, classes):
    archive = miniatures.write_images_zip(tmp_path / "own.zip", classes=classes, images_per_class=1)
    message = refusal(prepare, "caltech101_16", archive=str(archive))
    assert f"{classes} class folders" in message and "16" in message
    assert left_behind(data_root) == []


def test_names_that_collide_are_refused(prepare, tmp_path, data_root):
    files = {"Images/a class/one two.jpg": miniatures.jpeg(1), "Images/a_class/one_two.jpg": miniatures.jpeg(2)}
    message = refusal(prepare, "caltech101_16", archive=str(miniatures.write_zip(tmp_path / "own.zip", files)))
    assert "a_class/one_two.jpg" in message
    assert left_behind(data_root) == []


def test_archive_without_images_is_refused(prepare, tmp_path):
    archive = miniatures.write_zip(tmp_path / "own.zip", {"Pictures/a/b.jpg": miniatures.jpeg(1)})
    assert "no image in Images/<class>/" in refusal(prepare, "caltech101_16", archive=str(archive))


@pytest.mark.parametrize("dataset", ["caltech101_16", "cifar10"])
def test_own_archive_that_is_not_there(prepare, tmp_path, dataset):
    message = refusal(prepare, dataset, archive=str(tmp_path / "none.zip"))
    assert "data.archive" in message and "none.zip" in message


# real archives


@pytest.fixture(scope="module")
def real_caltech(real_archive_folders, tmp_path_factory):
    if not any(list(folder.rglob(name)) for folder in real_archive_folders for name in caltech101_16.SOURCE.md5):
        pytest.skip("SIMAM_ARCHIVES has no Caltech-101")
    config = Data(root=str(tmp_path_factory.mktemp("real")))
    return prepare_data(config, real_archive_folders, warn=lambda message: None, progress=False)


def test_real_caltech_counts(real_caltech):
    assert (len(real_caltech.train), len(real_caltech.eval)) == (1436, 365)
    assert not real_caltech.stand_in and len(real_caltech.classes) == 16


def test_real_caltech_batches(real_caltech):
    loaders = build_loaders(real_caltech, Data(batch_size=32), seed=0)
    assert (len(loaders.train), len(loaders.eval)) == (45, 12)


def test_real_caltech_greyscale(real_caltech):
    splits = (real_caltech.train, real_caltech.eval)
    modes = [Image.open(split.images.folder / name).mode for split in splits for name in split.ids]
    assert (modes.count("L"), modes.count("RGB")) == (160, 1641)
