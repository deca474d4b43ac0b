"""Data sets of one folder a class: unpack an archive once, check every image, split by position.

An unpacked set is a folder `Images/<class>/<file>` with a `manifest.json`; it appears whole or not at all.
"""

import io
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from simam_repro.data.archives import read_archive
from simam_repro.data.images import OR_SKIP, is_image, open_image
from simam_repro.data.listing import LeftOut, is_system, readable
from simam_repro.data.prepared import FileImages, PreparedData, Split, new_set, prepare_once
from simam_repro.errors import UserError
from simam_repro.storage import checksum, write_json

EVAL_EVERY = 5


def unpack(
    archive: Path, folder: Path, *, parent: str, check, entries: dict, classes=None, inner=None,
    skip_damaged: bool = False, progress: bool = True,
) -> None:  # fmt: skip
    """Unpack `<anything>/<parent>/<class>/<image>` of `archive` into `folder`, with its manifest.json.

    Images in folders below a class's are taken too. Spaces in class and file names become underscores (as both
    original experiments do). What is no image, hidden or elsewhere is left out and counted.

    Args:
        parent: name of the folder that holds the class folders.
        classes: keep these classes only; None keeps all.
        inner: see `read_archive`.
        skip_damaged: leave out images that do not decode, and list them as `damaged`.
        check: called with {class: file names, damaged ones too} before the set appears; raises UserError
            to refuse it.
        entries: more entries for the manifest.
    Raises:
        UserError: bad archive, an image that does not decode, two files of one name, no image at all, a class
            with nothing to train on.
    """
    with new_set(folder) as temporary:
        members = tqdm(
            read_archive(archive, inner), desc=f"unpack {archive.name}", unit=" files",
            disable=None if progress else True,
        )  # fmt: skip
        left_out = LeftOut()
        images, damaged = _write_images(
            members, archive, temporary / "Images", parent, classes, skip_damaged, left_out
        )  # fmt: skip
        if not images:
            raise UserError(f"{archive} holds no image in {parent}/<class>/; is it the right archive?")
        check(images)
        listing = {name: sorted(files) for name, files in sorted(images.items())}
        split_by_position(folder / "Images", listing, damaged)
        manifest = {
            "archive": archive.name,
            "sha256": checksum(archive),
            **entries,
            "left_out": left_out.describe(),
            "damaged": damaged,
            "images": listing,
        }
        write_json(temporary / "manifest.json", manifest)


def _write_images(members, archive: Path, folder: Path, parent: str, classes, skip_damaged: bool, left_out: LeftOut):
    """Write the images of `members` as folder/class/file; ({class: [files]}, damaged)."""
    images: dict[str, set[str]] = {}
    damaged = []
    for member in members:
        place = _place(member.path, parent, classes, left_out)
        if place is None:
            continue
        class_name, file_name = place
        content = member.read()
        if not is_image(file_name, lambda content=content: io.BytesIO(content)):
            left_out.add("no image", f"{class_name}/{file_name}")
            continue
        files = images.setdefault(class_name, set())
        if file_name in files:
            raise UserError(f"{archive}: two files become {class_name}/{file_name} when spaces turn to underscores")
        files.add(file_name)
        try:
            open_image(io.BytesIO(content), f"{archive}: {member.path}")
        except UserError as error:
            if not skip_damaged:
                raise UserError(f"{error}{OR_SKIP}") from None
            damaged.append(f"{class_name}/{file_name}")
            continue
        path = folder / class_name / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return images, damaged


def prepare(folder: Path, make, name: str, skip_damaged: bool, split: int = 0) -> PreparedData:
    """The data set that `unpack`, called by `make()` unless it was before, left in `folder`; all splits share it.

    A set that lacks damaged images will not do where they are not to be skipped.
    """
    manifest = prepare_once(folder, make, lambda manifest: skip_damaged or not manifest.get("damaged"))
    train, evaluation = split_by_position(
        folder / "Images", manifest["images"], manifest.get("damaged", ()), split=split
    )
    classes = tuple(sorted(manifest["images"]))
    return PreparedData(
        name, manifest["sha256"], manifest["stand_in"], classes, train, evaluation,
        tuple(manifest.get("damaged", ())), manifest.get("left_out", {}), split=split,
    )  # fmt: skip


def split_by_position(
    folder: Path, images: dict[str, list[str]], damaged=(), named: dict[str, str] | None = None, split: int = 0
) -> tuple[Split, Split]:
    """(train, eval) of {class: sorted names}: within a class, every EVAL_EVERY-th goes to eval, from number `split` on.

    With 0 this is the original Caltech experiment's rule (`i % 5 == 0` in listing order), on sorted names; the
    EVAL_EVERY splits evaluate each image once.
    Positions count the damaged images, which are then left out: skipping one moves no other.

    Args:
        named: see `file_split`.
    Raises:
        UserError: a class with nothing to train on; nothing at all to evaluate on.
    """
    chosen: dict[bool, list[tuple[str, int]]] = {False: [], True: []}
    left_out = set(damaged)
    for label, class_name in enumerate(sorted(images)):
        names = [f"{class_name}/{file_name}" for file_name in images[class_name]]
        halves = {half: [name for i, name in enumerate(names) if (i % EVAL_EVERY == split) == half] for half in chosen}
        for half, members in halves.items():
            chosen[half] += [(name, label) for name in members if name not in left_out]
        if not set(halves[False]) - left_out:
            raise UserError(
                f"{folder}: of the {len(names)} images of class {class_name} none is left to train on (each "
                f"{EVAL_EVERY}th from number {split} on is for evaluation, damaged ones are left out); add images"
            )
    if not chosen[True]:
        raise UserError(f"data.split: {folder}: no class has more than {split} images; make it smaller")
    return file_split(folder, chosen[False], named), file_split(folder, chosen[True], named)


def file_split(folder: Path, images: list[tuple[str, int]], named: dict[str, str] | None = None) -> Split:
    """A split of the files `folder/name` from [(name, label)]; the names are the ids.

    Args:
        named: {id: name} of the files whose names are others than their ids.
    """
    ids = tuple(name for name, _ in images)
    names = tuple(named.get(name, name) for name in ids) if named else ids
    return Split(FileImages(folder, names), np.array([label for _, label in images], dtype=np.int64), ids)


def _place(path: PurePosixPath, parent: str, classes, left_out: LeftOut) -> tuple[str, str] | None:
    """(class, file) of a member, underscores for spaces; None when it belongs to no class."""
    parts = [readable(part) for part in path.parts]
    if any(map(is_system, parts)):
        return None
    above = [index for index, part in enumerate(parts[:-2]) if part == parent]
    if not above:
        if classes is None:  # else most of the archive is for others
            left_out.add(f"not in {parent}/<class>/", str(path))
        return None
    class_name, *inside = (part.replace(" ", "_") for part in parts[above[-1] + 1 :])
    if classes is not None and class_name not in classes:
        return None
    if any(part.startswith(".") for part in (class_name, *inside)):
        left_out.add("hidden", "/".join([class_name, *inside]))
        return None
    return class_name, "/".join(inside)
