"""CIFAR-100 (Krizhevsky, 2009): 50,000 + 10,000 images of 32x32 in 100 classes (the fine labels)."""

from simam_repro.data.archives import Source
from simam_repro.data.cifar import Layout, prepare_cifar
from simam_repro.data.sets import DataSet

SOURCE = Source(
    title="CIFAR-100",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    md5={"cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85"},
    megabytes=169,
)
LAYOUT = Layout(
    name="cifar100", source=SOURCE, classes=100, batches={"train": ["train"], "eval": ["test"]},
    meta="meta", class_names=b"fine_label_names", labels=b"fine_labels",
)  # fmt: skip


def prepare(config, root, archive_folders, warn, progress: bool):
    return prepare_cifar(LAYOUT, config, root, archive_folders, warn, progress)


DATASET = DataSet(SOURCE.title, prepare, classes=LAYOUT.classes, sources=(SOURCE,), takes=("archive",))
