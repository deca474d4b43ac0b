"""The run folder: names of its files, and reading them. Training writes it; everything else reads it."""

import fnmatch
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simam_repro.attention.trust import reading_a_run
from simam_repro.config import PROJECT_ROOT, Experiment, load_config
from simam_repro.errors import UserError
from simam_repro.locks import LOCK
from simam_repro.optimizers import is_endless
from simam_repro.run_files import (
    RESTORE,
    DataEntry,
    Environment,
    InitialWeights,
    Record,
    Result,
    or_warn,
    read_checked,
    read_lines_checked,
)
from simam_repro.storage import is_temporary

RUNS_ROOT = PROJECT_ROOT / "runs"
# Goes with every number of a run whose result says `stand_in`.
STAND_IN_NOTE = "stand-in data: generated images, no evidence about any module"
SMOKE_ROOT = PROJECT_ROOT / ".smoke"  # not below runs/, whose curves VisualDL shows
RUN_FIGURES = ("curves.png", "samples.png", "predictions.png", "confusion.png")

# What evaluation leaves in a run's folder, and the result of a run that has gone on since.
MEASURED = ("evaluation.json", "evaluation_*.json", "robustness.json", "robustness_best.json", "after_epoch*_*")
# What systems and editors put into any folder.
JUNK = (".DS_Store", "._*", ".ipynb_checkpoints", ".nfs*", ".directory", "Thumbs.db", "desktop.ini")


def default_run_dir(experiment: Experiment, root: Path = RUNS_ROOT) -> Path:
    return root / experiment.name / f"seed{experiment.seed}"


@dataclass(frozen=True)
class Predictions:
    """The eval set as two sets of weights saw it: ids [N], labels int64 [N], logits float32 [N, classes]."""

    sample_ids: np.ndarray
    labels: np.ndarray
    logits_final: np.ndarray
    logits_best: np.ndarray


def _load_predictions(path: Path) -> Predictions:
    """Raises what numpy raises, or ValueError, for a file that is not what training wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        predictions = Predictions(**{name: arrays[name] for name in Predictions.__dataclass_fields__})
    ids, labels = predictions.sample_ids, predictions.labels
    if ids.dtype.kind != "U" or labels.dtype.kind not in "iu" or len(np.unique(ids)) != ids.size:
        raise ValueError("its ids are no texts, each of which is there once, or its labels no whole numbers")
    for logits in (predictions.logits_final, predictions.logits_best):
        if labels.ndim != 1 or not labels.size or ids.shape != labels.shape or logits.shape[:-1] != labels.shape:
            raise ValueError("its arrays do not fit together")
        if logits.dtype.kind != "f":
            raise ValueError("its logits are no floats")
        if not np.isfinite(logits).all() or labels.min() < 0 or labels.max() >= logits.shape[-1]:
            raise ValueError("its values are no logits and labels")
    return predictions


class RunFolder:
    """A run's folder. Readers raise UserError when the file they need is not there or damaged."""

    def __init__(self, path):
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.data = self.path / "data.json"
        self.environment = self.path / "environment.json"
        self.initial_weights = self.path / "initial_weights.json"
        self.metrics = self.path / "metrics.jsonl"
        self.result = self.path / "result.json"
        self.predictions = self.path / "predictions.npz"
        self.outcomes = self.path / "outcomes.json"  # of a run that was kept, instead of its predictions
        self.checkpoints = self.path / "checkpoints"
        self.last = self.checkpoints / "last"
        self.previous = self.checkpoints / "previous"
        self.best = self.checkpoints / "best"
        self.visualdl = self.path / "visualdl"
        self.figures = self.path / "figures"
        self.exported = self.path / "exported"
        self.names = {path.name for path in vars(self).values() if path.parent == self.path}

    @property
    def trained(self) -> set[str]:
        """Names that training alone writes, in the folder and in its checkpoints/."""
        checkpoints = {path.name for path in (self.last, self.previous, self.best)}
        return checkpoints | self.names - {self.exported.name, self.outcomes.name, self.figures.name}

    def owns(self, path: Path) -> bool:
        """Whether a path in the folder is of the run: what --overwrite may remove."""
        measured = any(fnmatch.fnmatchcase(path.name, pattern) for pattern in MEASURED)
        return path.name in self.names or measured or is_temporary(path)

    def foreign_files(self) -> list[Path]:
        """What lies in the folder of no run and may be somebody's; a run's own folder may hold anything beside it."""
        inside = self.path.iterdir() if self.path.is_dir() and not self.started else ()
        return sorted(
            path
            for path in inside
            if path.name != LOCK
            and not is_temporary(path)
            and not any(fnmatch.fnmatchcase(path.name, pattern) for pattern in JUNK)
        )

    @property
    def started(self) -> bool:
        return self.config.exists()

    @property
    def complete(self) -> bool:
        return self.result.is_file()

    @property
    def kept(self) -> bool:
        """Whether it has been reduced to its small files, by keep_results.py."""
        return self.complete and self.outcomes.is_file()

    @property
    def finished(self) -> bool:
        """Complete, with all of its figures: nothing is left to do. Of a kept run there is nothing to draw."""
        return self.kept or self.complete and all((self.figures / name).is_file() for name in RUN_FIGURES)

    def read_experiment(self) -> Experiment:
        with reading_a_run():
            return load_config(self._need(self.config), of_a_run=True)

    def check_experiment(self, experiment: Experiment) -> None:
        """Raises UserError, naming the keys, unless the run may go on as `experiment`.

        What shapes no number may differ, and `train.epochs` may be more where the schedule does not depend on it.
        """
        began, differing = self.read_experiment(), self.blocking_keys(experiment)
        if differing == ["train.epochs"] and experiment.train.epochs > began.train.epochs:
            raise UserError(self._on_longer_training(began, experiment))
        if differing:
            raise UserError(
                f"{self.path} was started with another config: {', '.join(differing)} differ; "
                f"repeat its overrides, or use another --run-dir"
            )

    def blocking_keys(self, experiment: Experiment) -> list[str]:
        """The keys for which the run may not go on as `experiment`, see `check_experiment`."""
        differing = self.read_experiment().differing_keys(experiment)
        endless = is_endless(experiment.optim.schedule) and self.is_longer(experiment)
        return [key for key in differing if not (endless and key == "train.epochs")]

    def _on_longer_training(self, began: Experiment, wanted: Experiment) -> str:
        weights = os.path.relpath(self.last / "weights.safetensors", PROJECT_ROOT)
        options = [
            f"train.epochs={wanted.train.epochs}", f"model.weights={weights}", f"name={began.name}_longer",
        ]  # fmt: skip
        return (
            f"{self.path} was started with train.epochs: {began.train.epochs}. With optim.schedule: "
            f"{began.optim.schedule} the learning rate of every step follows from that number, so "
            f"{wanted.train.epochs} epochs are another experiment, not a longer one. To begin one from the weights "
            f"of this run: python scripts/train.py -c {self.config} {' '.join(f'-o {option}' for option in options)}"
        )

    def is_longer(self, experiment: Experiment) -> bool:
        """Whether `experiment`, which may go on in this folder, has more epochs than the run began with."""
        return experiment.train.epochs > self.read_experiment().train.epochs

    def check_data(self, now: dict) -> None:
        """Raises UserError that names what differs unless the data `now` is what the run was trained on.

        Args:
            now: the prepared data, as its `describe()` says.
        """
        recorded = self.read_data()
        differing = data_differences(recorded, now) if recorded else []
        if differing:
            raise UserError(
                f"{self.path} was trained on other data than there is now: {'; '.join(differing)}. Put the data back "
                f"as it was; `evaluate.py RUN --data CONFIG` measures the run on other data"
            )

    def read_data(self) -> dict | None:
        """What the run was trained on; None where that is not known (an older run that is not complete)."""
        if self.data.is_file():
            return or_warn(lambda: read_checked(self.data, DataEntry), None)
        if not self.complete:
            return None
        keys = ("name", "sha256", "sizes_sha256", "split", "stand_in", "class_names")
        return {key: self.read_result()["data"].get(key) for key in keys}

    def read_result(self) -> dict:
        return read_checked(self._need(self.result), Result)

    def read_initial_weights(self) -> dict:
        return read_checked(self._need(self.initial_weights), InitialWeights)

    def read_environment(self) -> dict:
        return read_checked(self._need(self.environment), Environment)

    def check_readable(self) -> bool:
        """True; raises UserError that names the file when one of a complete run is damaged, its metrics aside."""
        self.read_experiment()
        if self.complete:
            self.read_result()
            self.read_environment()
            if self.predictions.is_file():  # not of a run that was kept
                self.read_predictions()
        return True

    def read_metrics(self) -> list[dict]:
        """One dict an epoch, in order."""
        return read_lines_checked(self._need(self.metrics), Record)

    def read_predictions(self) -> Predictions:
        path = self._need(self.predictions)
        try:
            return _load_predictions(path)
        except (ValueError, KeyError, OSError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{path} cannot be read ({error}): {RESTORE}") from None

    def _need(self, path: Path) -> Path:
        if not path.is_file():
            raise UserError(f"{self.path} has no {path.name}: is it the folder of a run that has got so far?")
        return path


def readable(runs) -> list[RunFolder]:
    """The runs of a folder without those that are damaged, each of which a warning names with its file."""
    return [run for run in runs if or_warn(run.check_readable, False)]


def data_differences(before: dict, now: dict) -> list[str]:
    """What of the data `before` (of a run) and `now` is not the same; both as `PreparedData.describe` says."""
    told, (old, new) = [], (data.get("class_names") or () for data in (before, now))
    if old and new and list(old) != list(new):
        for which, names in (("gone", set(old) - set(new)), ("new", set(new) - set(old))):
            if names:
                shown = ", ".join(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
                told.append(f"class {shown} is {which}" if len(names) == 1 else f"the classes {shown} are {which}")
        told = told or ["the classes are in another order"]
    splits = [data.get("split") or 0 for data in (before, now)]
    if splits[0] != splits[1]:
        told.append(f"data.split was {splits[0]} and is {splits[1]}")
    elif before["sha256"] != now["sha256"]:
        counts = [f"{data['train_images']} + {data['eval_images']}" for data in (before, now) if "train_images" in data]
        images = f", {counts[0]} images, now {counts[1]}" if len(set(counts)) == 2 else ""
        told.append(
            f"the images of {now['name']} are others (sha256 {before['sha256'][:12]}, now {now['sha256'][:12]}{images})"
        )
    elif len({data.get("sizes_sha256") for data in (before, now)} - {None}) == 2:
        told.append(f"image files of {now['name']} have the same names and other sizes")
    return told


def find_runs(folder) -> list[RunFolder]:
    """The runs in a sweep's folder, <folder>/<name>/seed<N>, or any one or two levels below a folder, by name and seed.

    Complete or not: a run has begun with its config.
    """
    found = [path.parent for levels in ("*", "*/*") for path in Path(folder).glob(f"{levels}/config.yaml")]
    shown = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    # seed2 before seed10
    return [RunFolder(path) for path in sorted(shown, key=lambda path: (path.parent, len(path.name), path.name))]


def complete_runs(folder) -> list[RunFolder]:
    """Of `find_runs` those that are complete and whole; empty where none is."""
    return readable(run for run in find_runs(folder) if run.complete)
