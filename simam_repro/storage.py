"""Writing files so that a reader sees the old content or the new, never a half, whenever the process dies."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

from simam_repro.errors import RunError, UserError

_CHUNK = 1 << 20
_ABANDONED_S = 3600
# The errors of a disk that fails, and those of a path that may not or cannot be used.
_FAILS = {
    errno.ENOSPC: "no space left", errno.EDQUOT: "quota exceeded", errno.EFBIG: "file size limit reached",
    errno.EIO: "the disk fails",
}  # fmt: skip
_REFUSES = {
    errno.EROFS: "the file system is read-only", errno.EACCES: "permission denied",
    errno.EPERM: "the operation is not permitted", errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "its links lead in a circle", errno.ENOTDIR: "a part of it is no folder",
    errno.EISDIR: "it is a folder", errno.ETXTBSY: "it is in use",
}  # fmt: skip


def _temporary_sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def is_temporary(path: Path) -> bool:
    """Whether `path` is what `atomic_path` or `atomic_folder` writes to before it has its name."""
    return path.name.startswith(".") and ".tmp" in path.name


def remove_temporaries(folder: Path, own: set[str]) -> None:
    """Remove what writers that were killed left in `folder` and the folders in it.

    Args:
        own: names that nobody but the caller writes. What is written for others may be alive, and goes when nobody
            has touched it for an hour.
    """
    for path in [*folder.glob(".*.tmp*"), *folder.glob("*/.*.tmp*")]:
        with suppress(FileNotFoundError):  # it has its name now
            written_for = path.name[1:].partition(".tmp")[0].rpartition(".")[0]
            if written_for in own or time.time() - path.lstat().st_mtime > _ABANDONED_S:
                _remove(path)


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of writing `path`. Only for who holds the lock on it (locks.py)."""
    for leftover in _temporaries(path):
        with contextlib.suppress(OSError):  # another user's, in a folder where only owners remove
            _remove(leftover)


def _temporaries(path: Path) -> list[Path]:
    """What `atomic_path` or `atomic_folder` works on beside `path`, or left when its process was killed."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.tmp({re.escape(path.suffix)})?")
    siblings = path.parent.iterdir() if path.parent.is_dir() else ()
    return [sibling for sibling in siblings if name.fullmatch(sibling.name)]


def _remove(path: Path) -> None:
    """Remove a file, a link (not what it points to) or a folder with all that is in it."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def sync(path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _errors_name(path: Path, temporary: Path):
    """Errors of the disk name `path`, also those that name nothing: nobody has seen its temporary name."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = str(path)
        for name in ("filename", "filename2"):
            if isinstance(getattr(error, name), str):
                setattr(error, name, getattr(error, name).replace(str(temporary), str(path)))
        raise


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
        with _errors_name(path, temporary):
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        with suppress(OSError):  # not there, or on a file system that has become read-only
            temporary.unlink()


@contextmanager
def new_folder(path):
    """Yield a new empty folder beside `path`, for the caller to rename; removed on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_sibling(path)
    try:
        with _errors_name(path, temporary):
            temporary.mkdir()
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
        replaced = _temporary_sibling(path) if os.path.lexists(path) else None
        if replaced:
            os.rename(path, replaced)
        try:
            os.rename(temporary, path)
        except OSError:
            if replaced:
                os.rename(replaced, path)
            raise
        sync(path.parent)
        if replaced:
            _remove(replaced)


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


def give_usual_mode(path: Path) -> None:
    """Let those read and write a file who may in its folder, for writers (safetensors) that let its owner only."""
    path.chmod(path.parent.stat().st_mode & 0o666)


def disk_error(error: Exception, place, advice: str) -> Exception | None:
    """What the disk refused, as an error for the user: UserError for a path that cannot be used, RunError otherwise.

    Args:
        place: the path to name where `error` names none; None: not known.
        advice: what to do when the disk fails, after the reason.
    Returns:
        None for an error of another kind.
    """
    if isinstance(error, (UserError, RunError)):
        return None
    number = error.errno if isinstance(error, OSError) else None
    if number is None:  # safetensors, errors that gather several (shutil.Error) and numpy have it in their text only
        told = re.search(r"(?:Errno|os error) (\d+)|requested and \d+ written", str(error))
        number = int(told[1] or errno.ENOSPC) if told else None
    names = [error.filename2, error.filename] if isinstance(error, OSError) else []  # a copy's target comes second
    path = _shown(next((name for name in (*names, place) if isinstance(name, (str, Path))), "a file or the output"))
    if number in _FAILS:
        return RunError(f"{path} cannot be written: {_FAILS[number]} ({error}). {advice}")
    if number in _REFUSES and isinstance(error, OSError):
        return UserError(f"{path} cannot be used: {_REFUSES[number]}; give another path, or the right to use this one")
    return None


def _shown(path) -> str:
    text = str(path)
    return text if len(text) <= 200 else f"{text[:80]}...{text[-80:]} ({len(text)} characters)"


def disk_fails(error: Exception) -> bool:
    """Whether the disk is full or fails, other than a path that cannot be used."""
    return isinstance(disk_error(error, None, ""), RunError)


@contextmanager
def disk_explained(place=None, advice: str = "Free some space (earlier runs, data/archives), then repeat the command"):
    """Turn what the disk refuses, wherever it comes from below, into an error for the user; see `disk_error`."""
    try:
        yield
    except Exception as error:
        explained = disk_error(error, place, advice)
        if explained is None:
            raise
        raise explained from None
