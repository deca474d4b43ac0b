"""Data sets: `prepare_data` finds, verifies and unpacks; `build_loaders` feeds a network."""

import sys
from pathlib import Path

from simam_repro.config import PROJECT_ROOT, Data
from simam_repro.data import sets
from simam_repro.data.archives import archive_folders as default_archive_folders
from simam_repro.data.prepared import PreparedData
from simam_repro.errors import UserError, printable
from simam_repro.storage import disk_fails


def __getattr__(name: str):
    # The loaders need paddle, which a config's data set is named without.
    if name == "build_loaders":
        from simam_repro.data.loaders import build_loaders

        return build_loaders
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def expected_classes(config: Data) -> int:
    """How many classes the data set of a config has, without looking at the data where it declares them."""
    return sets.load(config.dataset).classes or len(prepare_data(config).classes)


def _print_warning(message: str) -> None:
    print(printable(f"warning: {message}"), file=sys.stderr)


def prepare_data(config: Data, archive_folders=None, warn=_print_warning, progress: bool = True) -> PreparedData:
    """The data set of a config, unpacked and checked on first use.

    An archive is looked for in `<root>/archives`, then in and below each of `archive_folders` (None: the
    project's data/archives and the folders of SIMAM_ARCHIVES), then downloaded. Warnings (an unofficial checksum)
    go to `warn`.

    Raises:
        UserError: no archive, one whose contents do not pass, or a folder that cannot be written.
        OSError: the disk is full, or fails.
    """
    root = PROJECT_ROOT / config.root
    more = default_archive_folders() if archive_folders is None else map(Path, archive_folders)
    folders = list(dict.fromkeys([root / "archives", *more]))
    try:
        return sets.load(config.dataset).prepare(config, root, folders, warn, progress)
    except OSError as error:
        if disk_fails(error):
            raise
        raise UserError(
            f"{config.dataset} cannot be prepared in data.root: {root} ({error}); name a folder that can be written"
        ) from None


__all__ = ["PreparedData", "build_loaders", "expected_classes", "prepare_data"]
