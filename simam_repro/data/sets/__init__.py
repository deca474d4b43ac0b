"""The data sets: each is one file of this folder, found by its name, and nothing else names it.

A file `NAME.py` holds `DATASET = DataSet(...)`. Which names there are is known without importing any of them.
"""

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Callable

from simam_repro.data.archives import Source


@dataclass(frozen=True)
class DataSet:
    """What a data set says of itself.

    Attributes:
        title: its name in tables and sentences.
        prepare: (the `data` section of a config, its data.root, the folders to look for archives in, a function that
            takes warnings, whether to show progress) -> PreparedData; unpacks and checks on first use.
        classes: how many it has; None where its images say so.
        sources: its official archives.
        takes: which of the keys `archive`, `folder` and `split` of the `data` section it uses; a folder it needs.
        check: what `prepare` leaves to the command that prepares data: (PreparedData) -> None, raises UserError.
        stand_in: whether it stands in for a real data set; its results say so.
    """

    title: str
    prepare: Callable
    classes: int | None
    sources: tuple[Source, ...] = ()
    takes: tuple[str, ...] = ()
    check: Callable | None = None
    stand_in: bool = False


def names() -> tuple[str, ...]:
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> DataSet:
    """The data set of that name, one of `names()`."""
    return importlib.import_module(f"{__name__}.{name}").DATASET


def title(name: str) -> str:
    """What a data set is called: as it declares, or its name where none here has it (an archive's, a folder's)."""
    return load(name).title if name in names() else name
