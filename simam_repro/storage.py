"""Writing files so that a reader sees the old content or the new, never a half, whenever the process dies."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path

from simam_repro.errors import RunError

_CHUNK = 1 << 20
_FULL = {errno.ENOSPC: "no space left", errno.EDQUOT: "quota exceeded", errno.EFBIG: "file size limit reached"}


def _temporary_sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def is_temporary(path: Path) -> bool:
    """Whether `path` is what `atomic_path` or `atomic_folder` writes to before it has its name."""
    return path.name.startswith(".") and ".tmp" in path.name


def remove_temporaries(folder: Path) -> None:
    """Remove what writers that were killed left in `folder` and the folders in it."""
    for path in [*folder.glob(".*.tmp*"), *folder.glob("*/.*.tmp*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def sync(path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporaries(path) -> list[Path]:
    """What `atomic_path` or `atomic_folder` works on beside `path`, or left when its process was killed."""
    return list(Path(path).parent.glob(f".{path.name}.*.tmp*"))


@contextmanager
def atomic_path(path):
    """Yield a temporary path beside `path`; on success it replaces `path`, on failure it is removed.

    The temporary name keeps the suffix, for writers that look at it (numpy, matplotlib).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_sibling(path)
    temporary = temporary.with_name(temporary.name + path.suffix)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path):
    """Yield a new empty folder beside `path`, for the caller to rename; removed on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_sibling(path)
    temporary.mkdir()
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def atomic_folder(path):
    """Yield a new empty folder beside `path`; on success it takes the place of `path`.

    An existing `path` is moved aside first and removed last, so one of the two is always whole. A process
    that is killed between the two moves leaves no `path`: who needs it then makes it again.
    """
    path = Path(path)
    with new_folder(path) as temporary:
        yield temporary
        replaced = _temporary_sibling(path) if path.exists() else None
        if replaced:
            os.rename(path, replaced)
        os.rename(temporary, path)
        sync(path.parent)
        if replaced:
            shutil.rmtree(replaced)


def lock_file(path: Path) -> Path:
    """The lock of who writes `path`; in the system's temporary folder, so that nothing is left beside it."""
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()
    return Path(tempfile.gettempdir()) / f"simam_repro-{os.getuid()}-{digest[:16]}.lock"


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of writing `path`. Only while none writes it (see `lock_file`)."""
    for leftover in temporaries(path):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def write_text(path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def checksum(path, algorithm: str = "sha256") -> str:
    """Hexadecimal digest of a file."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def full_disk_explained(folder):
    """Turn the errors of a full disk, wherever they come from below, into a RunError that names `folder`."""
    try:
        yield
    except Exception as error:
        reason = _full_disk(error)
        if reason is None:
            raise
        raise RunError(
            f"{folder} cannot be written: {reason} ({error}). The last checkpoint and all results so far are intact; "
            f"free some space (earlier runs, data/archives), then continue with --resume"
        ) from None


def _full_disk(error: Exception) -> str | None:
    if isinstance(error, OSError):
        return _FULL.get(error.errno)
    # safetensors' own exception has the number in its text only.
    return next((reason for number, reason in _FULL.items() if f"(os error {number})" in str(error)), None)
