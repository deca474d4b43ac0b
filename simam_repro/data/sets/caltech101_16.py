"""Caltech101-16: 16 classes of Caltech-101 (Fei-Fei et al., 2004), as the original TowerNet experiment.

The original never published its classes; these match the 45 + 12 batches of 32 that it printed.
"""

import itertools
from pathlib import Path

from simam_repro.data import class_folders
from simam_repro.data.archives import Source, check_official, locate, own_archive, read_archive
from simam_repro.data.prepared import PreparedData
from simam_repro.data.sets import DataSet
from simam_repro.errors import UserError
from simam_repro.storage import checksum

CLASSES = (
    "Leopards bonsai brain buddha butterfly car_side chandelier ewer "
    "grand_piano hawksbill ibis ketch laptop starfish sunflower watch"
).split()
TRAIN_IMAGES, EVAL_IMAGES = 1436, 365
PARENT, INNER = "101_ObjectCategories", "101_ObjectCategories.tar.gz"
SOURCE = Source(
    title="Caltech-101",
    url="https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
    md5={"caltech-101.zip": "3138e1922a9193bfa496528edbbc45d0", INNER: "b224c7392d521a49829488ab0f1120d9"},
    megabytes=137,
)


def prepare(config, root: Path, archive_folders, warn, progress: bool) -> PreparedData:
    """Caltech101-16 from the official archive, which `config.archive` may name; or its 16 class folders in Images/."""
    own = own_archive(config.archive) if config.archive else None
    if own and not _is_caltech101(own):
        return _from_own_archive(own, root, config, progress)
    folder = root / ("caltech101_16_miniature" if config.allow_miniature else "caltech101_16")
    if own:
        folder = folder.with_name(f"{folder.name}-{checksum(own)[:12]}")

    def unpack() -> None:
        archive = own or locate(SOURCE, archive_folders, progress)
        official = check_official(SOURCE, archive, warn)
        class_folders.unpack(
            archive, folder, parent=PARENT, classes=CLASSES, inner=INNER,
            check=lambda images: _check_contents(images, archive, config.allow_miniature),
            entries={"official": official, "stand_in": config.allow_miniature},
            skip_damaged=config.skip_damaged, progress=progress,
        )  # fmt: skip

    return class_folders.prepare(folder, unpack, "caltech101_16", config.skip_damaged, config.split)


def _is_caltech101(archive: Path) -> bool:
    """By its first files: whether it is laid out as the official one."""
    first = itertools.islice(read_archive(archive, INNER, say=lambda line: None), 20)
    return any(PARENT in member.path.parts for member in first)


def _check_contents(images: dict, archive: Path, allow_miniature: bool) -> None:
    missing = sorted(set(CLASSES) - set(images))
    if missing:
        raise UserError(f"{archive} lacks the classes {', '.join(missing)}")
    counts = [len(files) for files in images.values()]
    eval_images = sum(-(-count // class_folders.EVAL_EVERY) for count in counts)
    found = (sum(counts) - eval_images, eval_images)
    if found != (TRAIN_IMAGES, EVAL_IMAGES) and not allow_miniature:
        raise UserError(
            f"{archive} gives {found[0]} train and {found[1]} eval images where Caltech101-16 has "
            f"{TRAIN_IMAGES} and {EVAL_IMAGES}: it is damaged or another edition "
            f"(data.allow_miniature=true accepts it, marked as a stand-in)"
        )


def _from_own_archive(archive: Path, root: Path, config, progress: bool) -> PreparedData:
    folder = root / f"{archive.stem}-{checksum(archive)[:12]}"

    def unpack() -> None:
        class_folders.unpack(
            archive, folder, parent="Images", check=lambda images: _check_sixteen(images, archive),
            entries={"official": False, "stand_in": False}, skip_damaged=config.skip_damaged, progress=progress,
        )  # fmt: skip

    return class_folders.prepare(folder, unpack, archive.stem, config.skip_damaged, config.split)


def _check_sixteen(images: dict, archive: Path) -> None:
    if len(images) != len(CLASSES):
        raise UserError(f"{archive} holds {len(images)} class folders in Images/; this experiment needs {len(CLASSES)}")


DATASET = DataSet("Caltech101-16", prepare, classes=len(CLASSES), sources=(SOURCE,), takes=("archive", "split"))
