"""The run folder: names of its files, and reading them. Training writes it; everything else reads it."""

import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simam_repro.config import PROJECT_ROOT, Experiment, load_config
from simam_repro.errors import UserError
from simam_repro.locks import LOCK
from simam_repro.storage import is_temporary, read_json

RUNS_ROOT = PROJECT_ROOT / "runs"
# Goes with every number of a run whose result says `stand_in`.
STAND_IN_NOTE = "stand-in data: generated images, no evidence about SimAM"
SMOKE_ROOT = PROJECT_ROOT / ".smoke"  # not below runs/, whose curves VisualDL shows
RUN_FIGURES = ("curves.png", "samples.png", "predictions.png", "confusion.png")

# What evaluation leaves in a run's folder.
MEASURED = {"evaluation.json", "evaluation_last.json", "robustness.json", "robustness_best.json"}


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
    for logits in (predictions.logits_final, predictions.logits_best):
        if labels.ndim != 1 or not labels.size or ids.shape != labels.shape or logits.shape[:-1] != labels.shape:
            raise ValueError("its arrays do not fit together")
        if not np.isfinite(logits).all() or labels.min() < 0 or labels.max() >= logits.shape[-1]:
            raise ValueError("its values are no logits and labels")
    return predictions


class RunFolder:
    """A run's folder. Readers raise UserError when the file they need is not there or damaged."""

    def __init__(self, path):
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.initial_weights = self.path / "initial_weights.json"
        self.metrics = self.path / "metrics.jsonl"
        self.result = self.path / "result.json"
        self.predictions = self.path / "predictions.npz"
        self.checkpoints = self.path / "checkpoints"
        self.last = self.checkpoints / "last"
        self.previous = self.checkpoints / "previous"
        self.best = self.checkpoints / "best"
        self.visualdl = self.path / "visualdl"
        self.figures = self.path / "figures"
        self.exported = self.path / "exported"
        self.names = {path.name for path in vars(self).values()} | MEASURED

    def foreign_files(self) -> list[Path]:
        """What lies in the folder and no run put there. A run's first file is its config."""
        inside = self.path.iterdir() if self.path.is_dir() else ()
        ours = {LOCK, *(self.names if self.started else ())}
        return sorted(path for path in inside if path.name not in ours and not is_temporary(path))

    @property
    def started(self) -> bool:
        return self.config.exists()

    @property
    def complete(self) -> bool:
        return self.result.is_file()

    @property
    def finished(self) -> bool:
        """Complete, with all of its figures: nothing is left to do."""
        return self.complete and all((self.figures / name).is_file() for name in RUN_FIGURES)

    def read_experiment(self) -> Experiment:
        return load_config(self._need(self.config))

    def check_experiment(self, experiment: Experiment) -> None:
        """Raises UserError, naming the keys, when the run was started from another experiment."""
        if differing := self.differing_keys(experiment):
            raise UserError(
                f"{self.path} was started with another config: {', '.join(differing)} differ; "
                f"repeat its overrides, or use another --run-dir"
            )

    def differing_keys(self, experiment: Experiment) -> list[str]:
        """The keys in which the experiment that the run was started from is another."""
        ours, theirs = experiment.to_flat(), self.read_experiment().to_flat()
        return [key for key in ours if ours[key] != theirs.get(key)]

    def read_result(self) -> dict:
        return self._read(self.result, read_json)

    def read_environment(self) -> dict:
        return self._read(self.environment, read_json)

    def read_metrics(self) -> list[dict]:
        """One dict an epoch, in order."""
        return [json.loads(line) for line in self._need(self.metrics).read_text(encoding="utf-8").splitlines()]

    def read_predictions(self) -> Predictions:
        return self._read(self.predictions, _load_predictions)

    def _read(self, path: Path, read):
        try:
            return read(self._need(path))
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{path} cannot be read ({error}): restore it, or train the run again") from None

    def _need(self, path: Path) -> Path:
        if not path.is_file():
            raise UserError(f"{self.path} has no {path.name}: is it the folder of a run that has got so far?")
        return path
