"""How many processors this process may use: those that it is bound to, and what a container's limit leaves of them."""

import math
import os
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def processors() -> int:
    """At least one; a limit of 1.5 processors counts as 2, because 1 would leave a third of it unused."""
    bound_to = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cgroup_limit()
    return bound_to if limit is None else max(min(bound_to, math.ceil(limit)), 1)


def cgroup_limit(root: Path = ROOT) -> float | None:
    """Processors that this process's control groups grant it, the strictest of nested ones; None where none limits it.

    Version 2 of control groups has `cpu.max`, version 1 `cpu.cfs_quota_us` and `cpu.cfs_period_us`
    (kernel.org, admin-guide/cgroup-v2 and scheduler/sched-bwc).

    Args:
        root: where /proc and /sys are.
    """
    try:
        own = _own_groups((root / "proc/self/cgroup").read_text())
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:  # no Linux
        return None
    limits = []
    for line in mounts:
        mount, _, source = line.partition(" - ")
        kind, _, *options = source.split(" ")
        version2 = kind == "cgroup2"
        if not version2 and (kind != "cgroup" or "cpu" not in options[-1].split(",")):
            continue
        top, point = (PurePosixPath(_unescaped(field)) for field in mount.split(" ")[3:5])
        group = own.get("" if version2 else "cpu", top)
        # A container may see its own group as the top of the mount, whatever the host calls it.
        below = group.relative_to(top) if group.is_relative_to(top) else PurePosixPath()
        folder = root / point.relative_to("/")
        for nested in (below, *below.parents):
            limits.append(_quota(folder / nested, version2))
    return min((limit for limit in limits if limit is not None), default=None)


def _own_groups(text: str) -> dict[str, PurePosixPath]:
    """{controller: group} of /proc/self/cgroup; version 2 has "" for its controller."""
    lines = [line.split(":", 2) for line in text.splitlines()]
    return {name: PurePosixPath(group) for _, names, group in lines for name in names.split(",")}


def _unescaped(field: str) -> str:
    return field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")


def _quota(folder: Path, version2: bool) -> float | None:
    names = ["cpu.max"] if version2 else ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
    try:
        quota, period = map(float, " ".join((folder / name).read_text() for name in names).split())
    except (OSError, ValueError):  # no such file; "max"
        return None
    return quota / period if quota > 0 and period > 0 else None
