"""What a prepared data set is: images that open by index, their labels and stable ids."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Protocol

import numpy as np
from filelock import FileLock
from PIL import Image

from simam_repro.data.images import OR_SKIP, open_image
from simam_repro.errors import UserError
from simam_repro.storage import lock_file, read_json, remove_leftovers


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
    """The manifest.json of a prepared folder; `make()` writes the folder first when it is not there.

    Processes that want the same folder at the same time wait for the one that makes it; what one that
    was killed left of it is removed.

    Args:
        fits: whether the folder with this manifest will do; otherwise it is made anew.
    """
    manifest = folder / "manifest.json"

    def is_ready() -> bool:
        return manifest.is_file() and fits(read_json(manifest))

    if not is_ready():
        with FileLock(lock_file(folder)):
            if not is_ready():
                remove_leftovers(folder)
                make()
    return read_json(manifest)


@dataclass(frozen=True)
class PreparedData:
    """A data set ready to load.

    Attributes:
        stand_in: the data is not what the name in a paper means.
        skipped: names of damaged images that were left out.
        left_out: what else the folder or the archive holds, see `LeftOut.describe`; empty where nobody has counted.
    """

    name: str
    sha256: str
    stand_in: bool
    classes: tuple[str, ...]
    train: Split
    eval: Split
    skipped: tuple[str, ...] = ()
    left_out: dict = field(default_factory=dict)

    def describe(self) -> dict:
        """The `data` entry of result.json."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "stand_in": self.stand_in,
            "classes": len(self.classes),
            "train_images": len(self.train),
            "eval_images": len(self.eval),
            "class_names": list(self.classes),
            "skipped": list(self.skipped),
            "left_out": self.left_out,
        }
