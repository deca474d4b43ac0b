"""CIFAR-10 and CIFAR-100 from the official Python archives, which are pickles of numpy arrays.

Unpacked once into plain .npy arrays that every later run memory-maps.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from simam_repro.data.archives import Source, check_official, locate, own_archive, read_archive
from simam_repro.data.prepared import ArrayImages, PreparedData, Split, new_set, prepare_once
from simam_repro.errors import UserError
from simam_repro.pickles import unpickle_plain
from simam_repro.storage import checksum, write_json

TRAIN_IMAGES, EVAL_IMAGES = 50_000, 10_000  # as many of each class


@dataclass(frozen=True)
class Layout:
    """An archive's files: the images of each half, the names of the classes; and under which keys they have what."""

    name: str
    source: Source
    classes: int
    batches: dict[str, list[str]]
    meta: str
    class_names: bytes
    labels: bytes

    @property
    def files(self) -> set[str]:
        return {self.meta, *self.batches["train"], *self.batches["eval"]}


def prepare_cifar(layout: Layout, config, root: Path, archive_folders, warn, progress: bool) -> PreparedData:
    """CIFAR-10 or CIFAR-100 from `config.archive`, a found or a downloaded archive."""
    folder = root / (f"{layout.name}_miniature" if config.allow_miniature else layout.name)
    own = own_archive(config.archive) if config.archive else None
    if own:
        folder = root / f"{layout.name}-{checksum(own)[:12]}"

    def unpack() -> None:
        archive = own or locate(layout.source, archive_folders, progress)
        official = check_official(layout.source, archive, warn)
        _unpack(layout, archive, folder, official, config.allow_miniature, progress)

    manifest = prepare_once(folder, unpack)
    return PreparedData(
        layout.name, manifest["sha256"], manifest["stand_in"], tuple(manifest["classes"]),
        train=_open_split(folder, "train"), eval=_open_split(folder, "eval"),
    )  # fmt: skip


def _open_split(folder: Path, half: str) -> Split:
    def array(what, mode=None):
        return np.load(folder / f"{half}_{what}.npy", mmap_mode=mode, allow_pickle=False)

    return Split(ArrayImages(array("images", "r")), array("labels"), tuple(array("ids").tolist()))


def _unpack(layout: Layout, archive: Path, folder: Path, official: bool, miniature: bool, progress: bool) -> None:
    batches = {}
    members = tqdm(
        read_archive(archive), desc=f"unpack {archive.name}", unit=" files", disable=None if progress else True
    )
    for member in members:
        if member.path.name in layout.files:
            batches[member.path.name] = unpickle_plain(member.read(), f"{archive}: {member.path}")
    missing = layout.files - set(batches)
    if missing:
        title = layout.source.title
        raise UserError(f"{archive} lacks {', '.join(sorted(missing))}; is it the Python version of {title}?")
    try:
        classes = [_text(name) for name in batches[layout.meta][layout.class_names]]
        halves = {half: _join(layout, [batches[name] for name in names]) for half, names in layout.batches.items()}
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise UserError(f"{archive} has not the layout of the {layout.source.title} batches ({error!r})") from None
    _check(layout, archive, classes, halves, miniature)
    with new_set(folder) as temporary:
        for half, (images, labels, ids) in halves.items():
            np.save(temporary / f"{half}_images.npy", images)
            np.save(temporary / f"{half}_labels.npy", labels)
            np.save(temporary / f"{half}_ids.npy", ids)
        entries = {"archive": archive.name, "sha256": checksum(archive), "official": official}
        write_json(temporary / "manifest.json", {**entries, "stand_in": miniature, "classes": classes})


def _join(layout: Layout, batches: list[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Batches as images uint8 [N, 32, 32, 3], labels int64 [N], ids [N] (their file names)."""
    planes = np.concatenate([np.asarray(batch[b"data"]) for batch in batches])
    if planes.dtype != np.uint8:
        raise ValueError(f"pixels of type {planes.dtype}, not bytes")
    images = np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    labels = np.concatenate([np.asarray(batch[layout.labels], dtype=np.int64) for batch in batches])
    ids = np.array([_text(name) for batch in batches for name in batch[b"filenames"]])
    if not len(images) == len(labels) == len(ids):
        raise ValueError("images, labels and file names differ in number")
    return images, labels, ids


def _check(layout: Layout, archive: Path, classes: list, halves: dict, miniature: bool) -> None:
    title, expected = layout.source.title, {"train": TRAIN_IMAGES, "eval": EVAL_IMAGES}
    found = {half: len(labels) for half, (_, labels, _) in halves.items()}
    if found != expected and not miniature:
        raise UserError(
            f"{archive} holds {found['train']} + {found['eval']} images where {title} has {TRAIN_IMAGES} + "
            f"{EVAL_IMAGES} (data.allow_miniature=true accepts it, marked as a stand-in)"
        )
    for half, (_, labels, _) in halves.items():
        if len(classes) != layout.classes or not len(labels) or labels.min() < 0 or labels.max() >= layout.classes:
            raise UserError(f"{archive}: no images, or labels outside the {layout.classes} classes")
        if not miniature and set(np.bincount(labels)) != {expected[half] // layout.classes}:
            raise UserError(
                f"{archive}: the {half} images are not {expected[half] // layout.classes} of each class, as "
                f"{title} has them; it is damaged"
            )


def _text(value) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
