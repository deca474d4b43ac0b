"""What of a folder or an archive is taken for an image, and what is left out and why."""

import os
import unicodedata
from collections import Counter
from pathlib import Path

from simam_repro.data.images import is_image

# What operating systems, file managers and notebooks leave in folders: no part of a data set, and not counted.
_SYSTEM = frozenset("__MACOSX .DS_Store Thumbs.db ehthumbs.db desktop.ini @eaDir .ipynb_checkpoints".split())
_NAMED = 5


class LeftOut:
    """Files that are left out: how many for each reason, and the first of them by name."""

    def __init__(self):
        self._reasons: Counter[str] = Counter()
        self._first: list[str] = []

    def add(self, reason: str, name: str) -> None:
        self._reasons[reason] += 1
        if len(self._first) < _NAMED:
            self._first.append(name)

    def describe(self) -> dict:
        """The `left_out` entry of result.json: count, reasons {reason: count}, first (names)."""
        return {"count": self._reasons.total(), "reasons": dict(self._reasons), "first": self._first}


def left_out_line(described: dict) -> str | None:
    """One line of what `LeftOut.describe` says; None where nothing is left out."""
    if not described.get("count"):
        return None
    reasons = ", ".join(f"{count} {reason}" for reason, count in described["reasons"].items())
    more = ", ..." if described["count"] > len(described["first"]) else ""
    files = "1 file" if described["count"] == 1 else f"{described['count']} files"
    return f"left out {files}: {reasons} ({', '.join(described['first'])}{more})"


def is_system(name: str) -> bool:
    return name in _SYSTEM or name.startswith(("._", ".nfs"))


def readable(name: str) -> str:
    """A file's name as text that can be written anywhere: composed (NFC, whatever system named it), and bytes that
    are no UTF-8 as \\xNN."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", text)


def list_images(folder: Path, left_out: LeftOut, shown: str = "") -> list[str]:
    """Names, relative to `folder`, of the images in and below it, in no order.

    Args:
        shown: put before the names that go to `left_out`.
    """
    found, pending = [], [""]
    while pending:
        prefix = pending.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                name = prefix + entry.name
                if is_system(entry.name):
                    continue
                if entry.name.startswith("."):
                    left_out.add("hidden", shown + readable(name))
                elif entry.is_dir(follow_symlinks=False):
                    pending.append(f"{name}/")
                elif not entry.is_file():
                    left_out.add("no regular file", shown + readable(name))
                elif is_image(entry.name, lambda path=entry.path: path):
                    found.append(name)
                else:
                    left_out.add("no image", shown + readable(name))
    return found
