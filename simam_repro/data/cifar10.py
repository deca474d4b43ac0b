"""CIFAR-10 (Krizhevsky, 2009): 50,000 + 10,000 images of 32x32, from the official Python archive.

Unpacked once into plain .npy arrays that every later run memory-maps.
"""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from simam_repro.data.archives import Source, check_official, locate, own_archive_checksum, read_archive
from simam_repro.data.prepared import ArrayImages, PreparedData, Split, prepare_once
from simam_repro.errors import UserError
from simam_repro.pickles import unpickle_plain
from simam_repro.storage import atomic_folder, checksum, write_json

TRAIN_IMAGES, EVAL_IMAGES = 50_000, 10_000
SOURCE = Source(
    title="CIFAR-10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    md5={"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"},
    megabytes=171,
)
BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "eval": ["test_batch"]}


def prepare(config, root: Path, archive_folders, warn, progress: bool) -> PreparedData:
    """CIFAR-10 from `config.archive`, a found or a downloaded archive."""
    folder = root / ("cifar10_miniature" if config.allow_miniature else "cifar10")
    if config.archive:
        folder = root / f"cifar10-{own_archive_checksum(config.archive)[:12]}"

    def unpack() -> None:
        archive = Path(config.archive) if config.archive else locate(SOURCE, archive_folders, progress)
        official = check_official(SOURCE, archive, warn)
        _unpack(archive, folder, official, config.allow_miniature, progress)

    manifest = prepare_once(folder, unpack)
    return PreparedData(
        "cifar10", manifest["sha256"], manifest["stand_in"], tuple(manifest["classes"]),
        train=_open_split(folder, "train"), eval=_open_split(folder, "eval"),
    )  # fmt: skip


def _open_split(folder: Path, half: str) -> Split:
    def array(what, mode=None):
        return np.load(folder / f"{half}_{what}.npy", mmap_mode=mode, allow_pickle=False)

    return Split(ArrayImages(array("images", "r")), array("labels"), tuple(array("ids").tolist()))


def _unpack(archive: Path, folder: Path, official: bool, miniature: bool, progress: bool) -> None:
    batches = {}
    members = tqdm(
        read_archive(archive), desc=f"unpack {archive.name}", unit=" files", disable=None if progress else True
    )
    for member in members:
        if member.path.name in ("batches.meta", *BATCHES["train"], *BATCHES["eval"]):
            batches[member.path.name] = unpickle_plain(member.read(), f"{archive}: {member.path}")
    missing = {"batches.meta", *BATCHES["train"], *BATCHES["eval"]} - set(batches)
    if missing:
        raise UserError(f"{archive} lacks {', '.join(sorted(missing))}; is it the Python version of CIFAR-10?")
    try:
        classes = [_text(name) for name in batches["batches.meta"][b"label_names"]]
        halves = {half: _join([batches[name] for name in names]) for half, names in BATCHES.items()}
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise UserError(f"{archive} has not the layout of the CIFAR-10 batches ({error!r})") from None
    _check(archive, classes, halves, miniature)
    with atomic_folder(folder) as temporary:
        for half, (images, labels, ids) in halves.items():
            np.save(temporary / f"{half}_images.npy", images)
            np.save(temporary / f"{half}_labels.npy", labels)
            np.save(temporary / f"{half}_ids.npy", ids)
        entries = {"archive": archive.name, "sha256": checksum(archive), "official": official}
        write_json(temporary / "manifest.json", {**entries, "stand_in": miniature, "classes": classes})


def _join(batches: list[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Batches as images uint8 [N, 32, 32, 3], labels int64 [N], ids [N] (their file names)."""
    planes = np.concatenate([np.asarray(batch[b"data"]) for batch in batches])
    if planes.dtype != np.uint8:
        raise ValueError(f"pixels of type {planes.dtype}, not bytes")
    images = np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    labels = np.concatenate([np.asarray(batch[b"labels"], dtype=np.int64) for batch in batches])
    ids = np.array([_text(name) for batch in batches for name in batch[b"filenames"]])
    if not len(images) == len(labels) == len(ids):
        raise ValueError("images, labels and file names differ in number")
    return images, labels, ids


def _check(archive: Path, classes: list, halves: dict, miniature: bool) -> None:
    found = len(halves["train"][0]), len(halves["eval"][0])
    if found != (TRAIN_IMAGES, EVAL_IMAGES) and not miniature:
        raise UserError(
            f"{archive} holds {found[0]} + {found[1]} images where CIFAR-10 has {TRAIN_IMAGES} + {EVAL_IMAGES} "
            f"(data.allow_miniature=true accepts it, marked as a stand-in)"
        )
    for _, labels, _ in halves.values():
        if len(classes) != 10 or not len(labels) or labels.min() < 0 or labels.max() > 9:
            raise UserError(f"{archive}: no images, or labels outside the 10 classes")


def _text(value) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
