"""Anyone's own images: `folder/{train,eval}/<class>/*` or `folder/<class>/*` with the split rule of class_folders.

Start-up lists names and opens nothing, so that a tree of ImageNet's size is ready in seconds.
"""

import hashlib
import os
from pathlib import Path

from simam_repro.config import PROJECT_ROOT
from simam_repro.data import class_folders
from simam_repro.data.prepared import PreparedData, Split
from simam_repro.errors import UserError

LAYOUT = "it needs train/<class>/ and eval/<class>/ with images, or <class>/ with images"


def prepare(config, root: Path, archive_folders, warn, progress: bool) -> PreparedData:
    """The images below `config.folder`. `sha256` is of the list of names, not of the images."""
    folder = PROJECT_ROOT / config.folder
    if not folder.is_dir():
        raise UserError(f"data.folder: {folder} is not a folder; {LAYOUT}")
    if (folder / "train").is_dir() and (folder / "eval").is_dir():
        classes, train, evaluation = _two_halves(folder)
    else:
        images = _list_classes(folder)
        classes, (train, evaluation) = tuple(images), class_folders.split_by_position(folder, images)
    if len(classes) < 2:
        raise UserError(f"data.folder: {folder} has the class {classes[0]} only, training needs two; {LAYOUT}")
    listing = "\n".join([*train.ids, "", *evaluation.ids])
    digest = hashlib.sha256(listing.encode()).hexdigest()
    return PreparedData(folder.name, digest, False, classes, train, evaluation)


def _two_halves(folder: Path) -> tuple[tuple[str, ...], Split, Split]:
    halves = {half: _list_classes(folder / half) for half in ("train", "eval")}
    if halves["train"].keys() != halves["eval"].keys():
        differing = sorted(halves["train"].keys() ^ halves["eval"].keys())
        raise UserError(f"data.folder: {folder}: train/ and eval/ differ in the classes {', '.join(differing[:5])}")

    def split(half: str) -> Split:
        named = [
            (f"{half}/{name}/{file}", label) for label, name in enumerate(halves[half]) for file in halves[half][name]
        ]
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
