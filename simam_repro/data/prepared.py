"""What a prepared data set is: images that open by index, their labels and stable ids."""

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Protocol

import numpy as np
from PIL import Image

from simam_repro.data.images import OR_SKIP, open_image
from simam_repro.errors import UserError
from simam_repro.locks import sole_writer
from simam_repro.storage import atomic_folder, read_json, remove_leftovers, write_json

MANIFEST = "manifest.json"
# A folder is this project's when its manifest has the keys of one of these: of a data set, of a check of a folder.
_MARKS = ({"archive", "sha256"}, {"folder", "damaged"})


class Images(Protocol):
    """A sequence of RGB images."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Image.Image: ...


@dataclass(frozen=True)
class FileImages:
    """Image files `folder/name`, opened by `open_image`."""

    folder: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Image.Image:
        try:
            return open_image(self.folder / self.names[index])
        except UserError as error:
            raise UserError(f"{error}{OR_SKIP}") from None


@dataclass(frozen=True)
class ArrayImages:
    """Images in one array, uint8 [N, H, W, 3] (memory-mapped or not)."""

    array: np.ndarray

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(self.array[index])


@dataclass(frozen=True)
class Split:
    """One half of a data set: images, int64 labels [N], and a stable name for each image."""

    images: Images
    labels: np.ndarray
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def spread(self, limit: int | None) -> np.ndarray:
        """Indices of at most `limit` images, evenly spread over the split (all when None)."""
        if limit is None or limit >= len(self):
            return np.arange(len(self))
        return np.arange(limit) * len(self) // limit


def prepare_once(folder: Path, make: Callable[[], None], fits: Callable[[dict], bool] = lambda manifest: True) -> dict:
    """The manifest.json of a prepared folder; `make()` makes it first, by `new_set`, when files of it lack.

    Processes that want the same folder at the same time wait for the one that makes it; what one that
    was killed left of it is removed.

    Args:
        fits: whether the folder with this manifest will do; otherwise it is made anew.
    Raises:
        UserError: what lies at `folder` would have to go, and is not this project's.
    """
    folder = _real(folder)

    def ready() -> dict | None:
        manifest = _read_manifest(folder)
        return manifest if manifest and fits(manifest) and not _missing(folder, manifest) else None

    if manifest := ready():
        return manifest
    with sole_writer(folder) as held:
        if manifest := ready():
            return manifest
        _check_may_go(folder)
        if held:
            remove_leftovers(folder)
        make()
    return _read_manifest(folder)


@contextmanager
def new_set(folder: Path):
    """Yield a new empty folder for a set and its manifest.json; when it is whole it takes the place of `folder`.

    The manifest gets an entry for every file, so that a set that is not whole can be told later.

    Raises:
        OSError: files that the manifest names are gone, or have another size.
    """
    with atomic_folder(_real(folder)) as temporary:
        yield temporary
        manifest = read_json(temporary / MANIFEST)
        if missing := _missing(temporary, manifest):
            raise OSError(f"{len(missing)} files vanished while the set was written, {missing[0]} for one")
        manifest["files"] = {name: (temporary / name).stat().st_size for name in _files_below(temporary)}
        write_json(temporary / MANIFEST, manifest)


def _real(folder: Path) -> Path:
    """Where a link to another disk leads: all work is done there."""
    return Path(os.path.realpath(folder))


def _read_manifest(folder: Path) -> dict | None:
    """That of a folder of this project's; None where there is none."""
    try:
        manifest = read_json(folder / MANIFEST)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    ours = isinstance(manifest, dict) and any(mark <= manifest.keys() for mark in _MARKS)
    return manifest if ours else None


def _listed(manifest: dict) -> dict[str, int | None]:
    """{file: size} of a set. Of one that an older version prepared the names only."""
    if "files" in manifest:
        return manifest["files"]
    damaged = set(manifest.get("damaged", ()))
    images = (f"{name}/{file}" for name, files in manifest.get("images", {}).items() for file in files)
    arrays = (f"{half}_{what}.npy" for half in ("train", "eval") for what in ("images", "labels", "ids"))
    names = [f"Images/{image}" for image in images if image not in damaged]
    return dict.fromkeys(names or (arrays if "classes" in manifest else ()))


def _missing(folder: Path, manifest: dict) -> list[str]:
    """The files of the manifest that are not there in their size."""

    def is_there(name: str, size: int | None) -> bool:
        try:
            return size in (None, (folder / name).stat().st_size)
        except (FileNotFoundError, NotADirectoryError):
            return False

    return [name for name, size in _listed(manifest).items() if not is_there(name, size)]


def _files_below(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in files if path != folder / MANIFEST)


def _check_may_go(folder: Path) -> None:
    """Raises UserError when making the set `folder` would cost the user files; says so when it is to be made anew."""
    if not folder.exists() or folder.is_dir() and not any(folder.iterdir()):
        return
    advice = "it stays as it is; move it away, or name another data.root"
    if not (manifest := _read_manifest(folder)):
        raise UserError(f"{folder} is in the way of the data set of that name, and not made by this project: {advice}")
    if foreign := set(_files_below(folder)) - _listed(manifest).keys():
        raise UserError(f"{folder} has to be prepared again, but {min(foreign)} is not of the data set: {advice}")
    if missing := _missing(folder, manifest):
        told = f"warning: {folder} lacks {len(missing)} of its {len(_listed(manifest))} files: it is prepared again"
        print(told, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class PreparedData:
    """A data set ready to load.

    Attributes:
        stand_in: the data is not what the name in a paper means.
        skipped: names of damaged images that were left out.
        left_out: what else the folder or the archive holds, see `LeftOut.describe`; empty where nobody has counted.
        sizes_sha256: of the sizes of the image files, where `sha256` is of their names only.
        split: which of the splits of class folders it is (`data.split`).
    """

    name: str
    sha256: str
    stand_in: bool
    classes: tuple[str, ...]
    train: Split
    eval: Split
    skipped: tuple[str, ...] = ()
    left_out: dict = field(default_factory=dict)
    sizes_sha256: str | None = None
    split: int = 0

    def describe(self) -> dict:
        """The `data` entry of result.json."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            **({"sizes_sha256": self.sizes_sha256} if self.sizes_sha256 else {}),
            **({"split": self.split} if self.split else {}),
            "stand_in": self.stand_in,
            "classes": len(self.classes),
            "train_images": len(self.train),
            "eval_images": len(self.eval),
            "class_names": list(self.classes),
            "skipped": list(self.skipped),
            "left_out": self.left_out,
        }
