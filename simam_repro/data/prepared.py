"""What a prepared data set is: images that open by index, their labels and stable ids."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Protocol

import numpy as np
from filelock import FileLock
from PIL import Image, ImageOps

from simam_repro.errors import UserError
from simam_repro.storage import read_json


class Images(Protocol):
    """A sequence of RGB images."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Image.Image: ...


@dataclass(frozen=True)
class FileImages:
    """Image files `folder/name`, opened as `upright_rgb`."""

    folder: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Image.Image:
        path = self.folder / self.names[index]
        try:
            with Image.open(path) as image:
                return upright_rgb(image)
        except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for damaged files
            raise UserError(f"{path} is damaged and does not decode ({error}); replace or remove it") from None


def upright_rgb(image: Image.Image) -> Image.Image:
    """Any image as RGB: EXIF orientation applied, 16 bits cut to 8, transparency over white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


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


def prepare_once(folder: Path, make: Callable[[], None]) -> dict:
    """The manifest.json of a prepared folder; `make()` writes the folder first when it is not there.

    Processes that want the same folder at the same time wait for the one that makes it.
    """
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        with FileLock(lock_file(folder)):
            if not manifest.is_file():
                make()
    return read_json(manifest)


def lock_file(folder: Path) -> Path:
    """The lock of who makes `folder` (or a file); in the system's temporary folder: nothing is left beside the data."""
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()
    return Path(tempfile.gettempdir()) / f"simam_repro-{os.getuid()}-{digest[:16]}.lock"


@dataclass(frozen=True)
class PreparedData:
    """A data set ready to load. `stand_in` marks data that is not what the name in a paper means."""

    name: str
    sha256: str
    stand_in: bool
    classes: tuple[str, ...]
    train: Split
    eval: Split

    def describe(self) -> dict:
        """The `data` entry of result.json."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "stand_in": self.stand_in,
            "classes": len(self.classes),
            "train_images": len(self.train),
            "eval_images": len(self.eval),
        }
