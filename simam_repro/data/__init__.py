"""Data sets: `prepare_data` finds, verifies and unpacks; `build_loaders` feeds a network."""

import sys
from pathlib import Path

from simam_repro.config import PROJECT_ROOT, Data
from simam_repro.data import caltech101, cifar10, folder, shapes16
from simam_repro.data.archives import archive_folders as default_archive_folders
from simam_repro.data.folder import check_images
from simam_repro.data.loaders import build_loaders
from simam_repro.data.prepared import PreparedData
from simam_repro.errors import UserError

PREPARE = {
    "caltech101_16": caltech101.prepare,
    "cifar10": cifar10.prepare,
    "shapes16": shapes16.prepare,
    "folder": folder.prepare,
}


def expected_classes(config: Data) -> int:
    """How many classes the data set of a config has, without looking at the data: 10 for CIFAR-10, else 16."""
    return 10 if config.dataset == "cifar10" else len(caltech101.CLASSES)


def _print_warning(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


def prepare_data(config: Data, archive_folders=None, warn=_print_warning, progress: bool = True) -> PreparedData:
    """The data set of a config, unpacked and checked on first use.

    An archive is looked for in `<root>/archives`, then in and below each of `archive_folders` (None: the
    project's data/archives and the folders of SIMAM_ARCHIVES), then downloaded. Warnings (an unofficial checksum)
    go to `warn`.

    Raises:
        UserError: no archive, or one whose contents do not pass.
    """
    root = PROJECT_ROOT / config.root
    more = default_archive_folders() if archive_folders is None else map(Path, archive_folders)
    folders = list(dict.fromkeys([root / "archives", *more]))
    try:
        return PREPARE[config.dataset](config, root, folders, warn, progress)
    except OSError as error:
        raise UserError(
            f"{config.dataset} cannot be prepared in data.root: {root} ({error}); name a folder that can be written"
        ) from None


__all__ = ["PREPARE", "PreparedData", "build_loaders", "check_images", "expected_classes", "prepare_data"]
