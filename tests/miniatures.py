"""Miniature archives in the official layouts, small enough to write in a test.

Every `write_...` takes the path of the archive file and returns it.
"""

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

CALTECH_CLASSES = (
    "Leopards", "bonsai", "brain", "buddha", "butterfly", "car_side", "chandelier", "ewer",
    "grand_piano", "hawksbill", "ibis", "ketch", "laptop", "starfish", "sunflower", "watch",
)  # fmt: skip
CALTECH_SPACED = "101_ObjectCategories/bonsai/image 0003.jpg"
CALTECH_STRAY = "101_ObjectCategories/butterfly/notes.txt"
GREY_EVERY = 3  # in a class, images 0, 3, 6, ... are greyscale
CIFAR_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def jpeg(seed: int, grey: bool = False) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24) if grey else (20, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def write_tar(path, files: dict[str, bytes], more=()) -> Path:
    """A tar.gz of `files`, in order, then of `more` TarInfos (links, devices, ...)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in more:
            tar.addfile(info)
    return path


def write_zip(path, files: dict) -> Path:
    """A zip of {name or ZipInfo: content}."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def caltech_files(images_per_class: int = 6) -> dict[str, bytes]:
    """The members of a miniature 101_ObjectCategories.tar.gz, not sorted (as in the official one)."""
    files = {
        "101_ObjectCategories/BACKGROUND_Google/tmp": b"",
        "101_ObjectCategories/BACKGROUND_Google/image_0001.jpg": jpeg(1),
        "101_ObjectCategories/accordion/image_0001.jpg": jpeg(2),
    }
    for label, name in enumerate(CALTECH_CLASSES):
        for index in reversed(range(images_per_class)):
            image = jpeg(100 * label + index, grey=index % GREY_EVERY == 0)
            files[f"101_ObjectCategories/{name}/image_{index + 1:04d}.jpg"] = image
    if images_per_class >= 3:
        files[CALTECH_SPACED] = files.pop(CALTECH_SPACED.replace(" ", "_"))
    files[CALTECH_STRAY] = b"not an image"
    return files


def write_caltech(path, images_per_class: int = 6, wrapped: bool = False) -> Path:
    """101_ObjectCategories.tar.gz; with `wrapped`, the caltech-101.zip that holds it."""
    path = Path(path)
    if not wrapped:
        return write_tar(path, caltech_files(images_per_class))
    inner = write_tar(path.with_name("101_ObjectCategories.tar.gz"), caltech_files(images_per_class))
    content = inner.read_bytes()
    inner.unlink()
    return write_zip(path, {"caltech-101/101_ObjectCategories.tar.gz": content, "caltech-101/show_annotation.m": b"%"})


def write_images_zip(path, classes: int = 16, images_per_class: int = 6) -> Path:
    """The layout of the original TowerNet experiment: Images/<class name with spaces>/<file>.jpg."""
    files = {
        f"Images/class number {label:02d}/photo {index}.jpg": jpeg(100 * label + index)
        for label in range(classes)
        for index in range(images_per_class)
    }
    return write_zip(path, files)


def cifar_batches(per_batch: int = 40, eval_images: int = 40) -> dict[str, dict]:
    """{file name: what it pickles}, with keys and texts as bytes, as Python 3 reads the official files."""
    halves = [(f"data_batch_{number}", f"training batch {number} of 5", per_batch) for number in range(1, 6)]
    halves.append(("test_batch", "testing batch 1 of 1", eval_images))
    meta = {b"num_cases_per_batch": per_batch, b"num_vis": 3072, b"label_names": _bytes(CIFAR_LABELS)}
    batches = {"batches.meta": meta}
    for seed, (name, title, count) in enumerate(halves):
        rng = np.random.default_rng(seed)
        batches[name] = {
            b"batch_label": title.encode(),
            b"labels": rng.permutation(np.arange(count) % 10).tolist(),
            b"data": rng.integers(0, 256, (count, 3072), dtype=np.uint8),
            b"filenames": _bytes(f"{name}_s_{index:06d}.png" for index in range(count)),
        }
    return batches


def write_cifar(path, per_batch: int = 40, eval_images: int = 40, replace=None) -> Path:
    """cifar-10-python.tar.gz; `replace` gives other contents for some files: {file name: bytes, or None for none}."""
    contents = {name: python2_pickle(batch) for name, batch in cifar_batches(per_batch, eval_images).items()}
    contents = {"readme.html": b"<html>", **contents, **(replace or {})}
    members = {f"cifar-10-batches-py/{name}": content for name, content in contents.items() if content is not None}
    return write_tar(path, members)


def cifar100_batches(train_images: int = 200, eval_images: int = 100) -> dict[str, dict]:
    """As `cifar_batches`, for CIFAR-100: class c belongs to superclass c // 5."""
    names = {b"fine_label_names": _bytes(f"fine_{c:02d}" for c in range(100))}
    batches = {"meta": {**names, b"coarse_label_names": _bytes(f"coarse_{c:02d}" for c in range(20))}}
    for seed, (name, count) in enumerate((("train", train_images), ("test", eval_images))):
        rng = np.random.default_rng(100 + seed)
        fine = rng.permutation(np.arange(count) % 100)
        batches[name] = {
            b"filenames": _bytes(f"{name}_s_{index:06d}.png" for index in range(count)),
            b"batch_label": b"training batch 1 of 1" if name == "train" else b"testing batch 1 of 1",
            b"fine_labels": fine.tolist(),
            b"coarse_labels": (fine // 5).tolist(),
            b"data": rng.integers(0, 256, (count, 3072), dtype=np.uint8),
        }
    return batches


def write_cifar100(path, batches=None) -> Path:
    """cifar-100-python.tar.gz"""
    contents = {name: python2_pickle(batch) for name, batch in (batches or cifar100_batches()).items()}
    return write_tar(path, {f"cifar-100-python/{name}": content for name, content in contents.items()})


def python2_pickle(value) -> bytes:
    """Protocol 2 as Python 2 and its numpy wrote it: byte strings as STRING opcodes, numpy's old module name."""
    buffer = io.BytesIO()
    _Python2Pickler(buffer, protocol=2).dump(value)
    return buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


class Payload:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


class _Python2Pickler(pickle._Pickler):
    def save_bytes(self, value):
        size = len(value)
        short = size < 256
        opcode = pickle.SHORT_BINSTRING if short else pickle.BINSTRING
        self.write(opcode + size.to_bytes(1 if short else 4, "little") + value)
        self.memoize(value)

    dispatch = {**pickle._Pickler.dispatch, bytes: save_bytes}


def _bytes(texts) -> list[bytes]:
    return [text.encode() for text in texts]


# What may become of an archive on its way: whole content -> what arrived.
DAMAGE = {
    "truncated": lambda good: good[: len(good) // 2],
    "cut behind the header": lambda good: good[:30],
    "bytes changed": lambda good: good[:2000] + bytes(1000) + good[3000:],
    "text": lambda good: b"<html>please log in</html>" * 100,
    "empty": lambda good: b"",
    "zip signature": lambda good: b"PK\x03\x04" + good,
}
