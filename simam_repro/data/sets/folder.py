"""Anyone's own images: `folder/{train,eval}/<class>/*` or `folder/<class>/*` with the split rule of class_folders.

Start-up lists names and opens nothing, so that a tree of ImageNet's size is ready in seconds.
"""

import hashlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from simam_repro.config import PROJECT_ROOT
from simam_repro.data import class_folders
from simam_repro.data.listing import LeftOut, is_system, list_images, readable
from simam_repro.data.prepared import PreparedData, Split, new_set, prepare_once
from simam_repro.data.sets import DataSet
from simam_repro.errors import UserError
from simam_repro.storage import write_json

_CHECKED_AT_ONCE = 1000
HALVES = ("train", "eval")
# What the halves are called elsewhere, in small letters.
OTHER_NAMES = {"train": (), "eval": ("val", "valid", "validation", "test", "testing", "dev")}
LAYOUT = "it needs train/<class>/ and eval/<class>/ with images, or <class>/ with images"


def prepare(config, root: Path, archive_folders, warn, progress: bool) -> PreparedData:
    """The images below `config.folder`, in folders below a class's too. `sha256` is of the list of names, and
    `sizes_sha256` of the sizes of the files, not of what is in them."""
    folder = PROJECT_ROOT / config.folder
    if not folder.is_dir():
        raise UserError(f"data.folder: {folder} is not a folder; {LAYOUT}")
    listing = _Listing(folder, config.split)
    classes, train, evaluation = listing.splits()
    if len(classes) < 2:
        raise UserError(f"data.folder: {folder} has the class {classes[0]} only, training needs two; {LAYOUT}")
    damaged: list[str] = []
    if config.skip_damaged:
        damaged = _damaged_on_record(root, folder, (train, evaluation), progress)
        classes, train, evaluation = listing.splits(frozenset(damaged))
    digest = hashlib.sha256("\n".join([*train.ids, "", *evaluation.ids]).encode()).hexdigest()
    return PreparedData(
        readable(folder.name), digest, False, classes, train, evaluation, tuple(damaged), listing.left_out.describe(),
        _sizes_digest(folder, (train, evaluation)), config.split,
    )  # fmt: skip


def _sizes_digest(folder: Path, splits: tuple[Split, ...]) -> str:
    # Beside that of the names and not in it: a run that an older version began knows the names only.
    digest = hashlib.sha256()
    for name in (name for split in splits for name in split.images.names):
        try:
            digest.update(f"{(folder / name).stat().st_size}\n".encode())
        except OSError as error:
            raise UserError(f"{folder / name} cannot be read ({error.strerror}); put it back, or try again") from None
    return digest.hexdigest()


def check_images(data: PreparedData, progress: bool = True) -> None:
    """Open every image, which `prepare` does not. Raises UserError that names the first damaged one."""
    damaged = {**find_damaged(data.train, progress), **find_damaged(data.eval, progress)}
    if damaged:
        more = f" ({len(damaged) - 1} more: {', '.join(list(damaged)[1:6])})" if len(damaged) > 1 else ""
        raise UserError(next(iter(damaged.values())) + more)


def find_damaged(split: Split, progress: bool = True) -> dict[str, str]:
    """{id: what is wrong with it} of the images that do not open."""

    def problem(index: int) -> str | None:
        try:
            split.images[index]
        except UserError as error:
            return str(error)
        return None

    damaged = {}
    bar = tqdm(total=len(split), desc="check images", unit=" images", disable=None if progress else True)
    with bar, ThreadPoolExecutor() as pool:
        for start in range(0, len(split), _CHECKED_AT_ONCE):
            indices = range(start, min(start + _CHECKED_AT_ONCE, len(split)))
            problems = dict(zip(indices, pool.map(problem, indices)))
            damaged.update({split.ids[index]: text for index, text in problems.items() if text})
            bar.update(len(indices))
    return damaged


def _damaged_on_record(root: Path, folder: Path, splits: tuple[Split, ...], progress: bool) -> list[str]:
    """The ids of the damaged ones among `splits`; each state of a folder is checked once and kept in `root`."""
    state = hashlib.sha256(str(folder).encode())
    for name in sorted(name for split in splits for name in split.images.names):
        status = (folder / name).stat()
        state.update(os.fsencode(f"\n{name} {status.st_size} {status.st_mtime_ns}"))
    record = root / f"{readable(folder.name)}-checked-{state.hexdigest()[:12]}"

    def check() -> None:
        damaged = sorted(name for split in splits for name in find_damaged(split, progress))
        with new_set(record) as temporary:
            write_json(temporary / "manifest.json", {"folder": str(folder), "damaged": damaged})

    return prepare_once(record, check)["damaged"]


class _Listing:
    """The images of a folder by class. Classes and ids are readable names, which may be others than on the disk."""

    def __init__(self, folder: Path, split: int):
        self.folder, self.split = folder, split
        self.left_out = LeftOut()
        self.named: dict[str, str] = {}  # {id: name on the disk} where they differ
        _check_halves(folder)
        self.in_halves = all((folder / half).is_dir() for half in HALVES)
        self.halves = {half: self._classes(f"{half}/") for half in HALVES} if self.in_halves else {}
        self.images = {} if self.in_halves else self._classes("")
        if self.in_halves:
            if split:
                raise UserError(f"data.split: {folder} has train/ and eval/, which are its split; make it 0")
            for path in sorted(folder.iterdir()):
                if path.name not in HALVES and not is_system(path.name):
                    name = readable(path.name) + ("/" if path.is_dir() else "")
                    self.left_out.add("beside train/ and eval/", name)

    def splits(self, damaged: frozenset[str] = frozenset()) -> tuple[tuple[str, ...], Split, Split]:
        if not self.in_halves:
            parts = class_folders.split_by_position(self.folder, self.images, damaged, self.named, self.split)
            return tuple(self.images), *parts
        first, second = (set(self.halves[half]) for half in HALVES)
        if first != second:
            differing = ", ".join(sorted(first ^ second)[:5])
            raise UserError(f"data.folder: {self.folder}: train/ and eval/ differ in the classes {differing}")
        return tuple(self.halves["train"]), *(self._half(half, damaged) for half in HALVES)

    def _half(self, half: str, damaged: frozenset[str]) -> Split:
        ids = [
            (f"{half}/{name}/{file}", label)
            for label, (name, files) in enumerate(self.halves[half].items())
            for file in files
            if f"{half}/{name}/{file}" not in damaged
        ]
        empty = self.halves[half].keys() - {name.split("/")[1] for name, _ in ids}
        if empty:
            raise UserError(f"data.folder: {self.folder / half}: every image of {', '.join(sorted(empty))} is damaged")
        return class_folders.file_split(self.folder, ids, self.named)

    def _classes(self, half: str) -> dict[str, list[str]]:
        """{class: sorted image names}, classes sorted; what is hidden or no folder is left out."""
        folders: list[tuple[str, str]] = []
        with os.scandir(self.folder / half) as entries:
            for entry in entries:
                name = readable(entry.name)
                if is_system(entry.name):
                    continue
                if entry.name.startswith("."):
                    self.left_out.add("hidden", half + name)
                elif not entry.is_dir():
                    self.left_out.add("in no class's folder", half + name)
                else:
                    folders.append((name, entry.name))
        twice = [name for name, count in Counter(name for name, _ in folders).items() if count > 1]
        if twice:
            raise UserError(f"data.folder: {self.folder / half}: two folders are called {twice[0]}; rename one")
        classes = {name: self._images(half, name, on_disk) for name, on_disk in sorted(folders)}
        empty = [str(self.folder / half / name) for name, files in classes.items() if not files]
        if empty or not classes:
            raise UserError(f"data.folder: no images in {', '.join(empty) or self.folder / half}; {LAYOUT}")
        return classes

    def _images(self, half: str, class_name: str, on_disk: str) -> list[str]:
        found = {}
        for name in list_images(self.folder / half / on_disk, self.left_out, f"{half}{class_name}/"):
            shown = readable(name)
            if shown in found:
                raise UserError(
                    f"data.folder: {self.folder / half / class_name}: two files are called {shown}; rename one"
                )
            found[shown] = name
            if (shown, class_name) != (name, on_disk):
                self.named[f"{half}{class_name}/{shown}"] = f"{half}{on_disk}/{name}"
        return sorted(found)


def _check_halves(folder: Path) -> None:
    """Raises UserError for halves under the names that other suites give them."""
    names = {path.name.lower(): path.name for path in folder.iterdir() if path.is_dir()}
    found = {half: next((names[name] for name in (half, *others) if name in names), half)
             for half, others in OTHER_NAMES.items()}  # fmt: skip
    renames = [f"{name}/ to {half}/" for half, name in found.items() if not (folder / half).is_dir() and name != half]
    if renames and "train" in names:
        raise UserError(f"data.folder: {folder}: rename {' and '.join(renames)}; {LAYOUT}")


DATASET = DataSet("folder", prepare, classes=None, takes=("folder", "split"), check=check_images)
