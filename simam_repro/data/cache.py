"""Images decoded and resized once, kept as one memory-mapped array that runs and processes share.

A cache file is a plain .npy, uint8 [N, side, side, 3], followed by 32 bytes: the SHA-256 of its key and
its pixels. The key, of which the file name has a part, is everything that shapes the pixels: names,
sizes and times of the image files, the side, and the versions of this code and of Pillow. What is
changed, damaged or cut short is therefore noticed, and made again.
"""

import hashlib
import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
from tqdm import tqdm

from simam_repro.data.prepared import ArrayImages, FileImages, Images
from simam_repro.data.transforms import eval_image, resize
from simam_repro.errors import UserError
from simam_repro.locks import sole_writer
from simam_repro.processors import processors
from simam_repro.storage import atomic_path, remove_leftovers

VERSION = 2  # of what makes the pixels: open_image, eval_image
LARGEST_BYTES = 16 * 2**30
SPARE_BYTES = 2**30  # left free on the disk


class ResizedImages:
    """`images` as uint8 arrays [side, side, 3] by index, as quickly as there is a way to.

    Files are decoded and resized once, those of `indices`, into a cache in `folder`. When that cannot be
    (too large, no space, not writable) a line on stderr says so, and files are decoded at each access;
    so are those outside `indices`, always. Images that are an array already are resized at each access.
    """

    def __init__(self, images: Images, side: int, folder: Path | None = None, indices=()):
        self.images, self.side, self.folder = images, side, folder
        self.indices = np.asarray(indices, dtype=np.int64)
        self._array = np.asarray(images.array) if isinstance(images, ArrayImages) else None
        self._rows: np.ndarray | None = None

    def open(self) -> None:
        """Open the cache, made first where there is none. A second call does nothing.

        Raises:
            UserError: an image file does not decode.
        """
        if self._array is not None or self._rows is not None:
            return
        # Index -> row of the cache, -1 for none.
        self._rows = np.full(len(self.images), -1)
        cached = open_cache(self.images, self.indices, self.side, self.folder) if self.folder else None
        if cached is not None:
            self._cached, self._rows[self.indices] = cached, np.arange(len(self.indices))

    def __getitem__(self, index: int) -> np.ndarray:
        if self._array is not None:
            return resize(self._array[index], self.side)
        if self._rows is not None and self._rows[index] >= 0:
            # A copy, read in order: what turns an image reads it crosswise, slow from memory that is not at hand.
            return self._cached[self._rows[index]].copy()
        return eval_image(self.images[index], self.side)


def open_cache(images: FileImages, indices: np.ndarray, side: int, folder: Path) -> np.ndarray | None:
    """uint8 [len(indices), side, side, 3], memory-mapped; None, and a line on stderr, when it cannot be kept."""
    shape = (len(indices), side, side, 3)
    size = int(np.prod(shape))
    if size > LARGEST_BYTES:
        return _decline(f"{size / 2**30:.1f} GB are more than the {LARGEST_BYTES / 2**30:.0f} GB that a cache may take")
    key = _key(images, indices, side)
    path = folder / f"{side}px-{len(indices)}-{key[:16]}.npy"
    cached = _read(path, shape, key)
    if cached is not None:
        return cached
    try:
        with sole_writer(path) as held:
            cached = _read(path, shape, key)  # another process may have made it meanwhile
            if cached is not None:
                return cached
            if held:
                remove_leftovers(path)
            _check_room(path, size)
            _write(path, shape, key, images, indices)
    except OSError as error:
        return _decline(f"{folder}: {error.strerror or error}")
    return _read(path, shape, key)


def _decline(reason: str) -> None:
    print(f"warning: no cache of decoded images ({reason}): they are decoded anew in every epoch", file=sys.stderr)


def _key(images: FileImages, indices: np.ndarray, side: int) -> str:
    try:
        stats = ((images.names[index], os.stat(images.folder / images.names[index])) for index in indices)
        files = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read ({error.strerror}); put it back, or prepare the data anew"
        ) from None
    return hashlib.sha256(json.dumps([VERSION, PIL.__version__, side, files]).encode()).hexdigest()


def _read(path: Path, shape: tuple, key: str) -> np.ndarray | None:
    """The cache at `path`; None when it is not there or not what it should be."""
    try:
        # np.asarray: indexing a plain array is quicker than indexing a memmap.
        images = np.asarray(np.lib.format.open_memmap(path, mode="r"))
        with open(path, "rb") as file:
            file.seek(-hashlib.sha256().digest_size, os.SEEK_END)
            seal = file.read()
    except Exception:  # numpy raises many kinds for a file that is damaged
        return None
    if images.dtype != np.uint8 or images.shape != shape or not images.flags.c_contiguous:
        return None
    digest = hashlib.sha256(key.encode())
    digest.update(images)
    return images if digest.digest() == seal else None


def _check_room(path: Path, size: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < size + SPARE_BYTES:
        raise OSError(f"{size / 2**30:.1f} GB do not fit on a disk with {free / 2**30:.1f} GB free")


def _write(path: Path, shape: tuple, key: str, images: FileImages, indices: np.ndarray) -> None:
    # Written, not mapped: a disk that is full is then an error, not the end of the process.
    digest = hashlib.sha256(key.encode())
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    bar = tqdm(total=len(indices), desc=f"decode to {shape[1]} px", unit=" images", disable=None)
    with bar, atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for pixels in _in_threads(lambda index: eval_image(images[index], shape[1]), indices):
            pixels = np.ascontiguousarray(pixels)
            file.write(pixels)
            digest.update(pixels)
            bar.update()
        file.write(digest.digest())


def _in_threads(function, items, block: int = 64):
    """map() on all processors, no more than a block ahead."""
    with ThreadPoolExecutor(processors()) as pool:
        for start in range(0, len(items), block):
            yield from pool.map(function, items[start : start + block])
