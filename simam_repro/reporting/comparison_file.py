"""A sweep's comparison.json and robustness.json, read for the report: what it needs is there, or they are refused."""

from pathlib import Path
from typing import Annotated, Optional

from pydantic import Field

from simam_repro.config import Experiment
from simam_repro.errors import UserError
from simam_repro.evaluation.older import present_comparison, present_robustness
from simam_repro.run_files import FilePart, check, read_checked

REMEDY = "restore it, or make it again with compare.py or robustness.py"
Interval = Optional[Annotated[list[float], Field(min_length=2, max_length=2)]]


class _Values(FilePart):
    values: list[float]
    mean: float
    sd: Optional[float]


class _Difference(_Values):
    t_interval: Interval
    images_interval: Interval
    images_and_seeds_interval: Interval


class _Block(FilePart):
    baseline: _Values
    arm: _Values
    difference: _Difference
    sentence: str


class _Identity(FilePart):
    title: str
    name: str


class _Arm(_Identity):
    seeds: Annotated[list[int], Field(min_length=1)]
    n: int
    wall_s: dict[str, list[float]]
    final: _Block
    best: _Block


class _Data(FilePart):
    name: str
    stand_in: bool
    train_images: int
    eval_images: int


class _Entry(FilePart):
    title: str
    data: _Data
    image_size: int
    epochs: int
    best_chosen_on: str
    missing: list[str]
    warnings: list[str]
    baseline: _Identity
    arms: Annotated[list[_Arm], Field(min_length=1)]


class _Comparison(FilePart):
    comparisons: list[_Entry]


def read_comparison(path: Path, experiments: dict[str, Experiment]) -> dict:
    """The content of a comparison.json in the present form. Raises UserError that names file and key.

    Args:
        experiments: of the runs beside it, by name.
    """
    content = _present(path, present_comparison, experiments)
    check(content, _Comparison, path, REMEDY)
    return content


def read_robustness(path: Path, experiments: dict[str, Experiment]) -> dict | None:
    """The same of a robustness.json; None where there is none."""
    return _present(path, present_robustness, experiments) if path.is_file() else None


def _present(path: Path, present, experiments: dict[str, Experiment]) -> dict:
    content = read_checked(path, dict, REMEDY)
    try:
        return present(content, experiments)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(f"{path}: {type(error).__name__} {error} in an older form of it; {REMEDY}") from None
