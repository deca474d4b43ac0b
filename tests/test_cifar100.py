"""CIFAR-100: what differs from CIFAR-10, whose tests cover the code that both share."""

import miniatures
import numpy as np
import pytest
from refusals import left_behind, refusal

from simam_repro.data import cifar
from simam_repro.data.sets import cifar100


@pytest.fixture
def archive(tmp_path):
    return miniatures.write_cifar100(tmp_path / "in" / "cifar-100-python.tar.gz")


@pytest.fixture
def full_size(monkeypatch):
    """The miniature has the official number of images."""
    monkeypatch.setattr(cifar, "TRAIN_IMAGES", 200)
    monkeypatch.setattr(cifar, "EVAL_IMAGES", 100)


def test_cifar100_equals_its_source_with_fine_labels(prepare, archive, warned):
    data = prepare("cifar100", [archive.parent], allow_miniature=True)
    batches = miniatures.cifar100_batches()
    for split, batch in ((data.train, batches["train"]), (data.eval, batches["test"])):
        assert split.labels.tolist() == batch[b"fine_labels"]
        assert list(split.ids) == [name.decode() for name in batch[b"filenames"]]
        for index, row in enumerate(batch[b"data"]):
            assert np.array_equal(np.asarray(split.images[index]), row.reshape(3, 32, 32).transpose(1, 2, 0))
    assert data.classes == tuple(f"fine_{number:02d}" for number in range(100))
    assert (data.name, data.stand_in) == ("cifar100", True)
    assert cifar100.SOURCE.md5["cifar-100-python.tar.gz"] in warned[0]


def test_miniature_is_refused_unless_asked_for(prepare, archive, data_root):
    message = refusal(prepare, "cifar100", [archive.parent])
    assert all(text in message for text in ("200 + 100", "CIFAR-100 has 50000 + 10000", "allow_miniature"))
    assert left_behind(data_root) == []


def test_whole_archive_is_taken(prepare, archive, full_size):
    assert prepare("cifar100", [archive.parent]).stand_in is False


def test_uneven_classes_are_refused(prepare, tmp_path, full_size, data_root):
    batches = miniatures.cifar100_batches()
    batches["test"][b"fine_labels"][0] = batches["test"][b"fine_labels"][1]
    archive = miniatures.write_cifar100(tmp_path / "in" / "cifar-100-python.tar.gz", batches)
    assert "not 1 of each class" in refusal(prepare, "cifar100", [archive.parent])
    assert left_behind(data_root) == []


def test_each_archive_is_refused_as_the_other(prepare, archive, cifar_archive):
    message = refusal(prepare, "cifar100", archive=str(cifar_archive), allow_miniature=True)
    assert "lacks meta, test, train" in message and "Python version of CIFAR-100" in message
    message = refusal(prepare, "cifar10", archive=str(archive), allow_miniature=True)
    assert "lacks batches.meta" in message and "Python version of CIFAR-10?" in message


def test_coarse_labels_alone_are_refused(prepare, tmp_path):
    batches = miniatures.cifar100_batches()
    del batches["train"][b"fine_labels"]
    archive = miniatures.write_cifar100(tmp_path / "in" / "cifar-100-python.tar.gz", batches)
    assert "fine_labels" in refusal(prepare, "cifar100", archive=str(archive), allow_miniature=True)
