"""Whether others than this user and root may write a file: what is loaded into the process must be safe from them."""

import os
import stat
from pathlib import Path


def why_not_private(path: Path) -> str | None:
    """What makes `path` open to others, in some words; None where it is not.

    Owner and mode of it and of all folders above it count, since who may write a folder may replace what is in it, but
    in one with the sticky bit, such as /tmp.

    Args:
        path: absolute, without symbolic links.
    Raises:
        OSError: it is not there.
    """
    owners = _trusted_owners()
    for place in (path, *path.parents):
        status = place.lstat()
        if status.st_uid not in owners:
            return f"{place} belongs to user {status.st_uid}"
        if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
            continue
        group = status.st_mode & stat.S_IWGRP and not _is_own_group(status.st_gid)
        if group or status.st_mode & stat.S_IWOTH:
            return f"others may write {place}"
    return None


def _trusted_owners() -> set[int]:
    owners = {0, os.geteuid()}
    try:
        whole = Path("/proc/self/uid_map").read_text().split() == ["0", "0", str(2**32 - 1)]
        if not whole:  # a container without root's rights, which sees root outside as nobody
            owners.add(int(Path("/proc/sys/kernel/overflowuid").read_text()))
    except OSError:
        pass
    return owners


def _is_own_group(number: int) -> bool:
    """Whether only this user is in the group: many systems give each user one, and files are open to it."""
    import grp
    import pwd

    own = os.geteuid()
    try:
        members = {pwd.getpwnam(name).pw_uid for name in grp.getgrgid(number).gr_mem}
    except KeyError:
        return False
    return members | {user.pw_uid for user in pwd.getpwall() if user.pw_gid == number} <= {0, own}
