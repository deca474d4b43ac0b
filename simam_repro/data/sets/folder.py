"""Anyone's own images: `folder/{train,eval}/<class>/*` or `folder/<class>/*` with the split rule of class_folders.

Start-up lists names and opens nothing, so that a tree of ImageNet's size is ready in seconds.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from simam_repro.config import PROJECT_ROOT
from simam_repro.data import class_folders
from simam_repro.data.prepared import FileImages, PreparedData, Split, prepare_once
from simam_repro.data.sets import DataSet
from simam_repro.errors import UserError
from simam_repro.storage import atomic_folder, write_json

_CHECKED_AT_ONCE = 1000
LAYOUT = "it needs train/<class>/ and eval/<class>/ with images, or <class>/ with images"


def prepare(config, root: Path, archive_folders, warn, progress: bool) -> PreparedData:
    """The images below `config.folder`. `sha256` is of the list of names, not of the images."""
    folder = PROJECT_ROOT / config.folder
    if not folder.is_dir():
        raise UserError(f"data.folder: {folder} is not a folder; {LAYOUT}")
    classes, train, evaluation = _splits(folder)
    if len(classes) < 2:
        raise UserError(f"data.folder: {folder} has the class {classes[0]} only, training needs two; {LAYOUT}")
    damaged: list[str] = []
    if config.skip_damaged:
        damaged = _damaged_on_record(root, folder, (*train.ids, *evaluation.ids), progress)
        classes, train, evaluation = _splits(folder, frozenset(damaged))
    listing = "\n".join([*train.ids, "", *evaluation.ids])
    digest = hashlib.sha256(listing.encode()).hexdigest()
    return PreparedData(folder.name, digest, False, classes, train, evaluation, tuple(damaged))


def check_images(data: PreparedData, progress: bool = True) -> None:
    """Open every image, which `prepare` does not. Raises UserError that names the first damaged one."""
    damaged = {**find_damaged(data.train.images, progress), **find_damaged(data.eval.images, progress)}
    if damaged:
        more = f" ({len(damaged) - 1} more: {', '.join(list(damaged)[1:6])})" if len(damaged) > 1 else ""
        raise UserError(next(iter(damaged.values())) + more)


def find_damaged(images: FileImages, progress: bool = True) -> dict[str, str]:
    """{name: what is wrong with it} of the images that do not open."""

    def problem(index: int) -> str | None:
        try:
            images[index]
        except UserError as error:
            return str(error)
        return None

    damaged = {}
    bar = tqdm(total=len(images), desc="check images", unit=" images", disable=None if progress else True)
    with bar, ThreadPoolExecutor() as pool:
        for start in range(0, len(images), _CHECKED_AT_ONCE):
            indices = range(start, min(start + _CHECKED_AT_ONCE, len(images)))
            problems = dict(zip(indices, pool.map(problem, indices)))
            damaged.update({images.names[index]: text for index, text in problems.items() if text})
            bar.update(len(indices))
    return damaged


def _damaged_on_record(root: Path, folder: Path, names: tuple[str, ...], progress: bool) -> list[str]:
    """The damaged ones among `folder/name`; each state of a folder is checked once and kept in `root`."""
    state = hashlib.sha256(str(folder).encode())
    for name in sorted(names):
        status = (folder / name).stat()
        state.update(f"\n{name} {status.st_size} {status.st_mtime_ns}".encode())
    record = root / f"{folder.name}-checked-{state.hexdigest()[:12]}"

    def check() -> None:
        damaged = find_damaged(FileImages(folder, names), progress)
        with atomic_folder(record) as temporary:
            write_json(temporary / "manifest.json", {"folder": str(folder), "damaged": sorted(damaged)})

    return prepare_once(record, check)["damaged"]


def _splits(folder: Path, damaged: frozenset[str] = frozenset()) -> tuple[tuple[str, ...], Split, Split]:
    if (folder / "train").is_dir() and (folder / "eval").is_dir():
        return _two_halves(folder, damaged)
    images = _list_classes(folder)
    return tuple(images), *class_folders.split_by_position(folder, images, damaged)


def _two_halves(folder: Path, damaged: frozenset[str]) -> tuple[tuple[str, ...], Split, Split]:
    halves = {half: _list_classes(folder / half) for half in ("train", "eval")}
    if halves["train"].keys() != halves["eval"].keys():
        differing = sorted(halves["train"].keys() ^ halves["eval"].keys())
        raise UserError(f"data.folder: {folder}: train/ and eval/ differ in the classes {', '.join(differing[:5])}")

    def split(half: str) -> Split:
        named = [
            (f"{half}/{name}/{file}", label)
            for label, name in enumerate(halves[half])
            for file in halves[half][name]
            if f"{half}/{name}/{file}" not in damaged
        ]
        empty = halves[half].keys() - {name.split("/")[1] for name, _ in named}
        if empty:
            raise UserError(f"data.folder: {folder / half}: every image of {', '.join(sorted(empty))} is damaged")
        return class_folders.file_split(folder, named)

    return tuple(halves["train"]), split("train"), split("eval")


def _list_classes(folder: Path) -> dict[str, list[str]]:
    """{class: sorted image names}, classes sorted; hidden folders and files left out."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    classes = {name: _list_images(folder / name) for name in names}
    empty = [name for name, files in classes.items() if not files]
    if empty or not classes:
        raise UserError(
            f"data.folder: no images in {', '.join(str(folder / name) for name in empty) or folder}; {LAYOUT}"
        )
    return classes


def _list_images(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if class_folders.is_image_name(entry.name) and not entry.name.startswith(".")
        )


DATASET = DataSet("folder", prepare, classes=None, takes=("folder",), check=check_images)
