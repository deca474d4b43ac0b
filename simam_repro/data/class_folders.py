"""Data sets of one folder a class: unpack an archive once, check every image, split by position.

An unpacked set is a folder `Images/<class>/<file>` with a `manifest.json`; it appears whole or not at all.
"""

import io
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from tqdm import tqdm

from simam_repro.data.archives import read_archive
from simam_repro.data.prepared import FileImages, PreparedData, Split
from simam_repro.errors import UserError
from simam_repro.storage import atomic_folder, checksum, write_json

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
EVAL_EVERY = 5


def unpack(
    archive: Path, folder: Path, *, parent: str, check, entries: dict, classes=None, inner=None, progress=True
) -> None:
    """Unpack `<anything>/<parent>/<class>/<image>` of `archive` into `folder`, with its manifest.json.

    Spaces in class and file names become underscores (as both original experiments do); files that
    are not images by their name, hidden files and other folders are left out and listed.

    Args:
        parent: name of the folder that holds the class folders.
        classes: keep these classes only; None keeps all.
        inner: see `read_archive`.
        check: called with {class: [file names]} before the set appears; raises UserError to refuse it.
        entries: more entries for the manifest.
    Raises:
        UserError: bad archive, an image that does not decode, two files of one name, no image at all.
    """
    images: dict[str, list[str]] = {}
    skipped: list[str] = []
    with atomic_folder(folder) as temporary:
        for member in tqdm(
            read_archive(archive, inner),
            desc=f"unpack {archive.name}",
            unit=" files",
            disable=None if progress else True,
        ):
            place = _place(member.path, parent, classes)
            if place is None:
                continue
            class_name, file_name = place
            if not is_image_name(file_name):
                skipped.append(f"{class_name}/{file_name}")
                continue
            target = temporary / "Images" / class_name / file_name
            if target.exists():
                raise UserError(f"{archive}: two files become {class_name}/{file_name} when spaces turn to underscores")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_checked_image(member.read(), f"{archive}: {member.path}"))
            images.setdefault(class_name, []).append(file_name)
        if not images:
            raise UserError(f"{archive} holds no image in {parent}/<class>/; is it the right archive?")
        check(images)
        manifest = {
            "archive": archive.name,
            "sha256": checksum(archive),
            **entries,
            "skipped": skipped,
            "images": {name: sorted(files) for name, files in sorted(images.items())},
        }
        write_json(temporary / "manifest.json", manifest)


def open_unpacked(folder: Path, manifest: dict, name: str) -> PreparedData:
    """The data set that `unpack` left in `folder`."""
    train, evaluation = split_by_position(folder / "Images", manifest["images"])
    classes = tuple(sorted(manifest["images"]))
    return PreparedData(name, manifest["sha256"], manifest["stand_in"], classes, train, evaluation)


def split_by_position(folder: Path, images: dict[str, list[str]]) -> tuple[Split, Split]:
    """(train, eval) of {class: sorted names}: within a class, every EVAL_EVERY-th from the first goes to eval.

    This is the original Caltech experiment's rule (`i % 5 == 0` in listing order), on sorted names.
    """
    chosen: dict[bool, list[tuple[str, int]]] = {False: [], True: []}
    for label, class_name in enumerate(sorted(images)):
        for position, file_name in enumerate(images[class_name]):
            chosen[position % EVAL_EVERY == 0].append((f"{class_name}/{file_name}", label))
    return file_split(folder, chosen[False]), file_split(folder, chosen[True])


def file_split(folder: Path, images: list[tuple[str, int]]) -> Split:
    """A split of the files `folder/name` from [(name, label)]; the names are the ids."""
    names = tuple(name for name, _ in images)
    return Split(FileImages(folder, names), np.array([label for _, label in images], dtype=np.int64), names)


def _place(path: PurePosixPath, parent: str, classes) -> tuple[str, str] | None:
    """(class, file) of a member, underscores for spaces; None when it belongs to no class."""
    parts = path.parts
    if len(parts) < 3 or parts[-3] != parent or "__MACOSX" in parts or parts[-1].startswith("."):
        return None
    class_name, file_name = (part.replace(" ", "_") for part in parts[-2:])
    if class_name.startswith(".") or (classes is not None and class_name not in classes):
        return None
    return class_name, file_name


def is_image_name(file_name: str) -> bool:
    return PurePosixPath(file_name).suffix.lower() in IMAGE_SUFFIXES


def _checked_image(content: bytes, where: str) -> bytes:
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.convert("RGB")
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise UserError(f"{where} is damaged and does not decode ({error}); replace the archive") from None
    return content
