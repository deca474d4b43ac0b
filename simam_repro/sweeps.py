"""Sweeps: a file that names configs, arms, seeds and changes, the runs that it stands for, and the time they need."""

import heapq
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from simam_repro.config import (
    ARM_KEYS,
    NAME_PATTERN,
    Experiment,
    PathText,
    Section,
    load_config,
    smoke,
    validated,
)
from simam_repro.config_files import load_mapping
from simam_repro.errors import UserError
from simam_repro.places import find_file
from simam_repro.runs import RUNS_ROOT, RunFolder, default_run_dir
from simam_repro.storage import atomic_folder

KEYS = "configs, arms, seeds, splits, overrides, variants"
# What a sweep's folder holds besides its runs: by compare.py, robustness.py, attention_maps.py, signal_propagation.py.
SUMMARIES = (
    "comparison.json", "comparison.png", "comparison_cost.png", "robustness.json", "robustness.png",
    "attention_maps.png", "grad_cam.png", "propagation.json", "propagation.png",
)  # fmt: skip


def _plain(value):
    if isinstance(value, dict):
        raise ValueError("a section; write each of its keys flat, as in data.image_size: 128")
    try:
        _as_text(value).encode()
    except (TypeError, ValueError):  # a date, a set; a number of thousands of digits, half of a character
        raise ValueError("a value is a number, a text, true, false, null, or a list of those") from None
    return value


def _as_text(value) -> str:
    """JSON, which is YAML, which is what the value of an override is read as."""
    return json.dumps(value, ensure_ascii=False)


def _names_no_run(changes: dict) -> dict:
    for key in ("name", "seed"):
        if key in changes:
            raise ValueError(f"{key}: not changed here; `seeds` lists the seeds, a variant's name joins the config's")
    return changes


def arm_name(attention: str | dict) -> str:
    """What an arm adds to a config's name: "mine", "mine-width3"."""
    if isinstance(attention, str):
        return attention
    keys = [key for key in attention if key not in ("name", "file", "sha256")]
    parts = [str(attention.get("name", "")), *(f"{key}{_words(attention[key])}" for key in keys)]
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(parts))


def _words(value) -> str:
    return "_".join(map(_words, value)) if isinstance(value, list) else str(value)


def _has_a_name(attention):
    if not isinstance(attention, (str, dict)):
        raise ValueError("an arm is a module's name, or a mapping {name: NAME, KEY: VALUE}")
    try:
        _as_text(attention).encode()
    except (TypeError, ValueError):
        raise ValueError("a value is a number, a text, true, false, null, or a list of those") from None
    return attention


def _each_once(items: list) -> list:
    twice = [item for item in items if items.count(item) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is there twice; remove one")
    return items


Changes = Annotated[dict[str, Annotated[Any, AfterValidator(_plain)]], AfterValidator(_names_no_run)]


class SweepFile(Section):
    """What a file of `sweeps/` says."""

    configs: Annotated[list[PathText], AfterValidator(_each_once)] = Field(
        min_length=1, description="config files, relative to the project"
    )
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], AfterValidator(_each_once)] = Field(min_length=1)
    arms: Annotated[list[Annotated[Any, AfterValidator(_has_a_name)]], AfterValidator(_each_once)] = Field(
        [], description="every config with each of these as model.attention; its name is appended to the config's"
    )
    splits: list[int] = Field(
        [], description="one for each seed, in order, as its data.split: the intervals are then over seeds and splits"
    )
    overrides: Changes = Field({}, description="changes of every run: the keys and values of -o")
    variants: dict[Annotated[str, Field(pattern=NAME_PATTERN)], Changes] = Field(
        {}, description="every config and seed once with each of these changes; the name is appended to the config's"
    )

    @model_validator(mode="after")
    def _a_split_for_each_seed(self):
        if self.splits and len(self.splits) != len(self.seeds):
            raise ValueError(f"splits: {len(self.splits)} for {len(self.seeds)} seeds; give one for each seed, or none")
        return self

    def of_seed(self, index: int) -> list[str]:
        """Overrides of the seed at `index`."""
        return [f"seed={self.seeds[index]}", *([f"data.split={self.splits[index]}"] if self.splits else [])]


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep. `train.py -c config -o overrides[0] -o ...` trains `experiment`."""

    experiment: Experiment
    config: str
    overrides: tuple[str, ...]
    folder: RunFolder

    @property
    def name(self) -> str:
        """As in the table and the log's file name."""
        return f"{self.experiment.name}-seed{self.experiment.seed}"

    @property
    def finished(self) -> bool:
        """With all of its epochs, which may have become more since it began."""
        return self.folder.finished and not self.folder.is_longer(self.experiment)


def read_sweep(path, folder, overrides=(), smoke_test: bool = False) -> list[SweepRun]:
    """The runs that a sweep file stands for: seeds outermost, the arms of a comparison side by side.

    Args:
        folder: of the sweep; a run's own is `<folder>/<name>/seed<seed>`.
        overrides: more changes of every run, "key.sub=value"; they count before all others.
        smoke_test: cut each run short (see `smoke`).
    Raises:
        UserError: an unreadable or wrong file, an experiment that is not valid, two of the same name.
    """
    path = find_file(path)
    if not re.match(NAME_PATTERN, path.stem):
        raise UserError(f"{path}: a sweep is named like its file: letters, digits, _ . and -")
    values = load_mapping(path, "a sweep", KEYS)
    sweep = validated(SweepFile, values, f"{path} is not a valid sweep", f"the keys are {KEYS}")
    runs = [
        _run(_Cell(path, config, arm, variant), folder,
             [*_options(sweep, variant), *sweep.of_seed(index), *overrides], smoke_test)
        for index in range(len(sweep.seeds))
        for variant in sweep.variants or [None]
        for config in sweep.configs
        for arm in sweep.arms or [None]
    ]  # fmt: skip
    _check_names(path, runs)
    if sweep.arms:
        _check_arms(path, runs)
    return _arms_together(runs)


def check_started(runs: list[SweepRun]) -> None:
    """Raises UserError when a run that has begun already was another experiment than the sweep's."""
    for run in runs:
        differing = run.folder.blocking_keys(run.experiment) if run.folder.started else []
        if differing:
            raise UserError(
                f"{run.folder.path} was started with another config: {', '.join(differing)} differ; "
                f"undo the change, remove that folder, or give the sweep's file another name"
            )


def take_kept(runs: list[SweepRun], kept: Path) -> list[SweepRun]:
    """Copy into the sweep's folder each run that is complete in `kept` and has not begun here; returns those.

    Args:
        kept: what keep_results.py has left of such a sweep, perhaps on another machine: `<kept>/<name>/seed<seed>`.
    Raises:
        UserError: there is none; one was trained as another experiment, or has no outcomes to compare.
    """
    found = [(run, RunFolder(default_run_dir(run.experiment, kept))) for run in runs]
    found = [(run, folder) for run, folder in found if folder.complete]
    if not found:
        raise UserError(
            f"{kept} has no complete run of this sweep: its runs are {kept}/NAME/seedN, as in {runs[0].name}"
        )
    for run, folder in found:
        if differing := folder.read_experiment().differing_keys(run.experiment):
            raise UserError(f"{folder.path} is of another experiment: {', '.join(differing)} differ")
        if not folder.kept:
            raise UserError(f"{folder.path} has no {folder.outcomes.name}: keep the run with keep_results.py")
    new = [(run, folder) for run, folder in found if not run.folder.started]
    for run, folder in new:
        with atomic_folder(run.folder.path) as temporary:
            shutil.copytree(folder.path, temporary, dirs_exist_ok=True)
    return [run for run, _ in new]


def sweep_of(path) -> Path:
    """The name of the sweep that the run folder `path` belongs to, by its place below runs/; for any other, "."."""
    sweep = Path(path).resolve().parent.parent
    return sweep.relative_to(RUNS_ROOT) if sweep.parent == RUNS_ROOT else Path()


def time_left(runs: list[SweepRun], records: list[list[dict]]) -> list[float | None]:
    """Seconds of training that each run still needs, from the epochs measured so far.

    The mean over the epochs of the same experiment, with whichever seed, or else over all; None while there are none.

    Args:
        records: of each run, what its metrics.jsonl holds.
    """
    measured: dict[str, list[float]] = {}
    for run, lines in zip(runs, records):
        own = measured.setdefault(run.experiment.name, [])
        own += [line["train_seconds"] + line["eval_seconds"] for line in lines]
    every = sum(measured.values(), [])
    if not every:
        return [None] * len(runs)
    return [
        (run.experiment.train.epochs - len(lines)) * fmean(measured[run.experiment.name] or every)
        for run, lines in zip(runs, records)
    ]


def total_time_left(running: list[float], waiting: list[float], jobs: int) -> float:
    """Seconds until all runs are done, when each of `jobs` takes the next waiting one as soon as it is free.

    Args:
        running, waiting: seconds that each still needs, the waiting in order.
    """
    free_in = [*running, *[0.0] * (jobs - len(running))]
    heapq.heapify(free_in)
    for seconds in waiting:
        heapq.heapreplace(free_in, free_in[0] + seconds)
    return max(free_in)


def _options(sweep: SweepFile, variant: str | None) -> list[str]:
    changes = {**sweep.overrides, **(sweep.variants[variant] if variant else {})}
    return [f"{key}={_as_text(value)}" for key, value in changes.items()]


@dataclass(frozen=True)
class _Cell:
    """Of the grid, without the seed."""

    path: Path
    config: str
    arm: str | dict | None
    variant: str | None

    def __str__(self) -> str:
        parts = (self.config, self.arm and f"arm {arm_name(self.arm)}", self.variant and f"variant {self.variant}")
        return ", ".join(filter(None, parts))

    def options(self) -> list[str]:
        """The arm, and the name where the cell is more than its config."""
        added = [part for part in (self.arm and arm_name(self.arm), self.variant) if part]
        if not added:
            return []
        name = "-".join([load_config(self.config).name, *added])
        return [f"name={name}", *([f"model.attention={_as_text(self.arm)}"] if self.arm else [])]


def _run(cell: _Cell, folder, options: list[str], smoke_test: bool) -> SweepRun:
    try:
        options = [*cell.options(), *options]
        experiment = load_config(cell.config, options)
        from simam_repro.models import backbones  # it takes paddle; what is wrong above is told without

        backbones.check_image_size(experiment.model.backbone, experiment.data.image_size)
    except UserError as error:
        raise UserError(f"{cell.path}: {cell}: {error}") from None
    experiment = smoke(experiment) if smoke_test else experiment
    return SweepRun(experiment, cell.config, tuple(options), RunFolder(default_run_dir(experiment, Path(folder))))


def _check_names(path: Path, runs: list[SweepRun]) -> None:
    known: dict[str, SweepRun] = {}
    for run in runs:
        other = known.setdefault(run.name, run)
        if other is not run:
            raise UserError(
                f"{path}: {other.config} and {run.config} are both named {run.experiment.name} and would share a "
                f"folder; give one of them another `name`, or a variant"
            )


def _check_arms(path: Path, runs: list[SweepRun]) -> None:
    """Two configs that differ in their attention only are one recipe, which `arms` would train twice."""
    known: dict[str, SweepRun] = {}
    for run in runs:
        other = known.setdefault(json.dumps(run.experiment.recipe(), sort_keys=True), run)
        if other is not run:
            raise UserError(
                f"{path}: {other.experiment.name} and {run.experiment.name} are the same experiment, for arms set "
                f"model.attention; name one config of a recipe, and each arm once"
            )


def _arms_together(runs: list[SweepRun]) -> list[SweepRun]:
    """Each run right behind the first that differs from it in attention only; else the order stays."""
    groups: dict[str, list[SweepRun]] = {}
    for run in runs:
        groups.setdefault(json.dumps(run.experiment.recipe(without=ARM_KEYS)), []).append(run)
    return sum(groups.values(), [])
