"""CIFAR-10, from pickled batches to labelled image."""

import hashlib
import os
import pickle

import miniatures
import numpy as np
import pytest
from miniatures import Payload
from refusals import left_behind, refusal

from simam_repro.data.sets import cifar10


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
        "class_names": list(miniatures.CIFAR_LABELS),
        "skipped": [],
        "left_out": {},
    }
    assert cifar.classes == miniatures.CIFAR_LABELS
    assert cifar10.SOURCE.md5["cifar-10-python.tar.gz"] in warned[0]


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


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_crafted_pickle_runs_nothing(refused_cifar, tmp_path, protocol):
    marker = tmp_path / "marker"
    crafted = pickle.dumps({b"data": Payload(os.system, f"touch {marker}")}, protocol=protocol)
    message = refused_cifar({"data_batch_2": crafted})
    assert "data_batch_2" in message and "system" in message
    assert not marker.exists()


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
