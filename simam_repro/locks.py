"""One process at a time: in a run's folder, and at what several jobs want to make (a data set, a cache, a download).

A lock is filelock's native one (flock). The system frees it when its process dies, however that happens, and it holds
between users, containers and, where the file system knows locks, machines. Its file lies in the run's folder, or
beside what is made; it names the holder, and goes with the lock.
"""

import errno
import fcntl
import os
import platform
import re
import stat
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from simam_repro.errors import UserError

LOCK = ".lock"
PATIENCE_S = 0.5  # before a refusal: who asks for the holder has the lock for a moment
WORD_AFTER_S, WORD_EVERY_S = 2, 60
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_HOLDER = re.compile(r"\d{1,10}( on [\w.-]*)?")  # what a lock file holds; the number alone: of older versions


@contextmanager
def locked(folder):
    """Hold `folder` for this process. It is made when it is not there, and removed again when nothing was put into it.

    Raises:
        UserError: another process holds it, or it cannot be written.
    """
    folder = Path(folder)

    def refuse(holder: str, waited: float) -> None:
        raise UserError(f"{folder} is in use by process {holder}; wait for it, or choose another folder")

    with ExitStack() as stack:
        try:
            stack.enter_context(_held(folder / LOCK, refuse))
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}); choose another folder") from None
        yield


@contextmanager
def sole_writer(path):
    """Hold the right to make `path`: wait for who has it, and say so once a minute.

    Yields:
        Whether it is held; where the file system has no locks it is not, and a warning says so.
    """
    path, next_word = Path(path), WORD_AFTER_S

    def wait(holder: str, waited: float) -> None:
        nonlocal next_word
        if waited >= next_word:
            next_word = waited + WORD_EVERY_S
            told = f"waiting for process {holder} to finish {path}, {waited:.0f} s so far; if it is stuck, end it"
            print(told, file=sys.stderr, flush=True)

    with _held(path.with_name(f".{path.name}{LOCK}"), wait) as held:
        yield held


def holder(folder) -> str | None:
    """The process that holds `folder`, as "4711 on node3"; None when it is free."""
    path = Path(folder) / LOCK
    try:
        descriptor = _open(path)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _named(path)
    except OSError:  # no locks on this file system
        pass
    finally:
        os.close(descriptor)
    return None


@contextmanager
def _held(path: Path, busy):
    """Hold the lock file `path`; yields False where the file system has no locks.

    Args:
        busy: called with the holder and the seconds so far, again and again while another process has it; may raise.
    """
    made: list[Path] = []  # folders, the deepest first
    try:
        lock = _acquire(path, busy, made)
        try:
            yield lock is not None
        finally:
            if lock:
                with suppress(OSError):
                    path.unlink()  # before it is free: afterwards it may be another's
                lock.release()
    finally:
        for folder in made:
            with suppress(OSError):  # something was put into it
                folder.rmdir()


class _Moved(Exception):
    """The file that was locked has lost its name: its last holder removed it meanwhile."""


def _acquire(path: Path, busy, made: list[Path]) -> FileLock | None:
    began = time.monotonic()
    while True:
        made += [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _refuse_foreign(path)
            # Who may write in a folder may use its locks.
            mode = 0o600 | path.parent.stat().st_mode & 0o066
            lock = FileLock(path, mode=mode, on_acquired=lambda descriptor: _sign(descriptor, path))
            lock.acquire(timeout=PATIENCE_S)
            return lock
        except Timeout:
            busy(_named(path), time.monotonic() - began)
        except (_Moved, FileNotFoundError):  # FileNotFoundError: the folder went too, as nothing else was in it
            continue
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            print(f"warning: no locks in {path.parent} ({error.strerror}): use it from one process", file=sys.stderr)
            return None


def _sign(descriptor: int, path: Path) -> None:
    """Write the holder into the lock file that is open and locked as `descriptor`."""
    try:
        if not os.path.samestat(os.fstat(descriptor), os.lstat(path)):
            raise _Moved
    except FileNotFoundError:
        raise _Moved from None
    with suppress(OSError):  # a full disk: it is held all the same
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} on {platform.node()}".encode(), 0)


def _refuse_foreign(path: Path) -> None:
    """Raises UserError for what is no lock file: it may stand for a file of the user's, whose content would go."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    alone = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
    if not alone or status.st_size and not _HOLDER.fullmatch(_content(path)):
        raise UserError(f"{path} is no lock file of this project; remove it, or choose another folder")


def _named(path: Path) -> str:
    """The holder that a lock file names."""
    try:
        content = _content(path)
    except OSError:
        content = ""
    return content if _HOLDER.fullmatch(content) else "(unknown)"


def _content(path: Path) -> str:
    with open(_open(path), errors="replace") as file:
        return file.read(1000).strip()


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
