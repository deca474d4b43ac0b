"""Writing files so that a reader sees the old content or the new, never a half."""

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path


def _temporary_sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


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
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path):
    """Yield a new empty folder beside `path`; on success it takes the place of `path`.

    An existing `path` is moved aside first and removed last, so one of the two is always whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_sibling(path)
    temporary.mkdir()
    try:
        yield temporary
        replaced = _temporary_sibling(path) if path.exists() else None
        if replaced:
            os.rename(path, replaced)
        os.rename(temporary, path)
        if replaced:
            shutil.rmtree(replaced)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
