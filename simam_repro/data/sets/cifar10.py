"""CIFAR-10 (Krizhevsky, 2009): 50,000 + 10,000 images of 32x32 in 10 classes."""

from simam_repro.data.archives import Source
from simam_repro.data.cifar import Layout, prepare_cifar
from simam_repro.data.sets import DataSet

SOURCE = Source(
    title="CIFAR-10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    md5={"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"},
    megabytes=171,
)
LAYOUT = Layout(
    name="cifar10", source=SOURCE, classes=10,
    batches={"train": [f"data_batch_{number}" for number in range(1, 6)], "eval": ["test_batch"]},
    meta="batches.meta", class_names=b"label_names", labels=b"labels",
)  # fmt: skip


def prepare(config, root, archive_folders, warn, progress: bool):
    return prepare_cifar(LAYOUT, config, root, archive_folders, warn, progress)


DATASET = DataSet(SOURCE.title, prepare, classes=LAYOUT.classes, sources=(SOURCE,), takes=("archive",))
