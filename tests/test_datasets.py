import hashlib
import io
import json
import os
import pickle
import shutil
import tarfile
import zipfile
from dataclasses import replace
from functools import partial

import miniatures
import numpy as np
import pytest
from PIL import Image

from simam_repro.config import Data
from simam_repro.data import build_loaders, caltech101, cifar10, prepare_data, shapes16
from simam_repro.errors import UserError


def refusal(prepare, *args, **keys) -> str:
    with pytest.raises(UserError) as caught:
        prepare(*args, **keys)
    return str(caught.value)


def left_behind(data_root) -> list:
    return sorted(path.name for path in data_root.glob("*") if path.name != "archives")


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
    assert manifest["skipped"] == ["butterfly/notes.txt"]
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
    }


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
    assert str(caltech_archive) in warned[0] and "official checksum" in warned[0]


def test_official_checksum_does_not_warn(prepare, caltech_archive, warned, monkeypatch, data_root):
    md5 = hashlib.md5(caltech_archive.read_bytes()).hexdigest()
    monkeypatch.setattr(caltech101, "SOURCE", replace(caltech101.SOURCE, md5={caltech_archive.name: md5}))
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


# CIFAR-10


@pytest.fixture
def cifar(prepare, cifar_archive):
    return prepare("cifar10", [cifar_archive.parent], allow_miniature=True)


def source_arrays(*names) -> tuple[np.ndarray, list, list]:
    batches = [miniatures.cifar_batches()[name] for name in names]
    labels = [label for batch in batches for label in batch[b"labels"]]
    files = [name.decode() for batch in batches for name in batch[b"filenames"]]
    return np.concatenate([batch[b"data"] for batch in batches]), labels, files


@pytest.mark.parametrize(
    ("half", "names"), [("train", [f"data_batch_{number}" for number in range(1, 6)]), ("eval", ["test_batch"])]
)
def test_cifar_equals_its_source(cifar, half, names):
    rows, labels, files = source_arrays(*names)
    split = getattr(cifar, half)
    assert split.labels.tolist() == labels
    assert list(split.ids) == files
    for index, row in enumerate(rows):
        # A row holds the red plane, then green, then blue, each row by row.
        pixels = np.asarray(split.images[index]).reshape(1024, 3)
        assert np.array_equal(pixels[:, 0], row[:1024])
        assert np.array_equal(pixels[:, 1], row[1024:2048])
        assert np.array_equal(pixels[:, 2], row[2048:])


def test_cifar_description(cifar, cifar_archive, warned):
    sha256 = hashlib.sha256(cifar_archive.read_bytes()).hexdigest()
    assert cifar.describe() == {
        "name": "cifar10",
        "sha256": sha256,
        "stand_in": True,
        "classes": 10,
        "train_images": 200,
        "eval_images": 40,
    }
    assert cifar.classes == miniatures.CIFAR_LABELS
    assert "official checksum" in warned[0]


def test_cifar_of_data_archive(prepare, cifar_archive, data_root):
    data = prepare("cifar10", archive=str(cifar_archive), allow_miniature=True)
    assert len(data.train) == 200
    assert left_behind(data_root) == [f"cifar10-{data.sha256[:12]}"]


def test_cifar_second_time_needs_no_archive(cifar, prepare):
    again = prepare("cifar10", allow_miniature=True)
    assert again.describe() == cifar.describe()


def test_cifar_counts(prepare, cifar_archive, data_root):
    message = refusal(prepare, "cifar10", [cifar_archive.parent])
    assert all(text in message for text in ("200 + 40", "50000 + 10000", "allow_miniature"))
    assert left_behind(data_root) == []


@pytest.fixture
def refused_cifar(prepare, tmp_path, data_root):
    """refused_cifar({file name: bytes}) -> the message about an archive with these files in place of the good."""

    def run(replaced):
        archive = miniatures.write_cifar(tmp_path / "in" / "cifar-10-python.tar.gz", 4, 4, replaced)
        message = refusal(prepare, "cifar10", [archive.parent], allow_miniature=True)
        assert str(archive) in message
        assert left_behind(data_root) == []
        return message

    return run


class Payload:
    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_crafted_pickle_runs_nothing(refused_cifar, tmp_path, protocol):
    marker = tmp_path / "marker"
    crafted = pickle.dumps({b"data": Payload(os.system, f"touch {marker}")}, protocol=protocol)
    message = refused_cifar({"data_batch_2": crafted})
    assert "data_batch_2" in message and "system" in message
    assert not marker.exists()


@pytest.mark.parametrize("call", [(eval, "1"), (getattr, "x", "upper"), (np.load, "x"), (bytearray, 3)])
def test_pickles_of_other_callables_are_refused(call):
    with pytest.raises(UserError, match="it wants to import"):
        cifar10.unpickle_plain(pickle.dumps(Payload(*call), protocol=2), "here")


def test_plain_pickles_of_either_numpy_are_read():
    value = {b"data": np.arange(6, dtype=np.uint8).reshape(2, 3), b"labels": [1, 2]}
    for content in (pickle.dumps(value, protocol=2), miniatures.python2_pickle(value)):
        again = cifar10.unpickle_plain(content, "here")
        assert np.array_equal(again[b"data"], value[b"data"]) and again[b"labels"] == [1, 2]


def batch(**changed) -> bytes:
    good = miniatures.cifar_batches(4, 4)["data_batch_1"]
    return miniatures.python2_pickle({**good, **{key.encode(): value for key, value in changed.items()}})


WRONG_BATCHES = {
    "rows too short": batch(data=np.zeros((4, 3000), np.uint8)),
    "a row too few": batch(data=np.zeros((3, 3072), np.uint8)),
    "a label too few": batch(labels=[0, 1, 2]),
    "a file name too few": batch(filenames=[b"a"]),
    "labels of text": batch(labels=[b"cat"] * 4),
    "label 10": batch(labels=[0, 1, 2, 10]),
    "label -1": batch(labels=[0, 1, 2, -1]),
    "pixel 300": batch(data=[[300] * 3072] * 4),
    "pixels of float": batch(data=np.zeros((4, 3072), np.float32)),
    "label 2 ** 70": batch(labels=[0, 1, 2, 2**70]),
    "no labels": batch(labels=None),
    "no dictionary": miniatures.python2_pickle([1, 2]),
    "cut": batch()[:1000],
    "no pickle": b"<html>",
    "empty": b"",
    "not there": None,
}


@pytest.mark.parametrize("content", WRONG_BATCHES.values(), ids=WRONG_BATCHES.keys())
def test_wrong_batch_is_refused(refused_cifar, content):
    assert refused_cifar({"data_batch_1": content})


def test_wrong_number_of_classes_is_refused(refused_cifar):
    assert "10 classes" in refused_cifar({"batches.meta": miniatures.python2_pickle({b"label_names": [b"cat"] * 9})})


def test_cifar100_is_refused(refused_cifar):
    cifar100 = {b"fine_labels": [0] * 4, b"coarse_labels": [0] * 4, b"data": np.zeros((4, 3072), np.uint8)}
    assert "layout" in refused_cifar({"data_batch_1": miniatures.python2_pickle(cifar100)})


def test_empty_batches_are_refused(prepare, tmp_path, data_root):
    archive = miniatures.write_cifar(tmp_path / "in" / "cifar-10-python.tar.gz", 4, eval_images=0)
    assert str(archive) in refusal(prepare, "cifar10", [archive.parent], allow_miniature=True)
    assert left_behind(data_root) == []


# shapes16


def test_shapes16_is_its_seed(tmp_path):
    paths = [tmp_path / "a.zip", tmp_path / "b.zip", tmp_path / "c.zip"]
    for path, seed in zip(paths, (1, 1, 2)):
        shapes16.write_archive(path, images_per_class=1, seed=seed, progress=False)
    first, same, other = (path.read_bytes() for path in paths)
    assert first == same
    assert first != other
    with zipfile.ZipFile(paths[0]) as archive:
        assert len({info.date_time for info in archive.infolist()}) == 1
        assert archive.infolist()[0].date_time[0] == 2021  # not the time of writing


def test_shapes16(prepare, monkeypatch, data_root):
    monkeypatch.setattr(shapes16, "write_archive", partial(shapes16.write_archive, images_per_class=6))
    data = prepare("shapes16")
    assert (data.name, data.stand_in, len(data.classes), len(set(data.classes))) == ("shapes16", True, 16, 16)
    assert (len(data.train), len(data.eval)) == (16 * 4, 16 * 2)
    assert {(image.size, image.mode) for image in data.eval.images} == {((144, 144), "RGB")}
    assert sorted(path.name for path in data_root.iterdir()) == ["archives", "shapes16"]


def test_shapes16_figures_differ_from_their_ground_and_each_other():
    masks = {}
    for name in shapes16.FIGURES:
        masks[name] = shapes16._mask(shapes16.FIGURES[name], np.random.default_rng(3), 72)
        assert 0.03 < masks[name].mean() < 0.9
    names = list(masks)
    for index, name in enumerate(names):
        assert all(np.abs(masks[name] - masks[other]).mean() > 0.01 for other in names[:index])


# real archives


@pytest.fixture(scope="module")
def real_caltech(real_archive_folders, tmp_path_factory):
    if not any(list(folder.rglob(name)) for folder in real_archive_folders for name in caltech101.SOURCE.md5):
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
