"""One process at a time in a folder."""

import fcntl
import os
import sys
from contextlib import contextmanager
from pathlib import Path

from simam_repro.errors import UserError

LOCK = ".lock"


@contextmanager
def locked(folder):
    """Hold `folder` for this process; the system frees it when the process dies, however that happens.

    The folder is made when it is not there, and removed again when nothing was put into it.

    Raises:
        UserError: another process holds it, or it cannot be written.
    """
    folder = Path(folder)
    new = not folder.exists()
    with _take(folder) as file:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            (folder / LOCK).unlink(missing_ok=True)
            if new and not any(folder.iterdir()):
                folder.rmdir()


def holder(folder) -> str | None:
    """The number of the process that holds `folder`; None when it is free."""
    try:
        with open(Path(folder) / LOCK) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return (Path(folder) / LOCK).read_text() or "(unknown)"
    except OSError:  # no such file, or no locks on this file system
        pass
    return None


def _take(folder: Path):
    """The lock file of `folder`, open and locked. (Not filelock's: that empties the file, which names the holder.)"""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = open(folder / LOCK, "a+")
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}); choose another folder") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read() or "(unknown)"
            file.close()
            raise UserError(f"{folder} is in use by process {holder}; wait for it, or choose another folder") from None
        except OSError as error:  # some network file systems have no locks
            print(f"warning: {folder} cannot be locked ({error.strerror}): let one run use it only", file=sys.stderr)
        if _is(file, folder / LOCK):
            return file
        file.close()  # its last holder removed it while this process opened it


def _is(file, path: Path) -> bool:
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
