"""Whether a run of a recipe is in line with reference runs of it: other seeds, perhaps on another machine."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simam_repro.config import Experiment
from simam_repro.errors import UserError
from simam_repro.evaluation import statistics
from simam_repro.runs import RunFolder, find_runs, readable
from simam_repro.training.environment import hardware, versions

# Of an epoch's record: what is judged, with its name.
QUANTITIES = {"eval_acc": "accuracy", "eval_loss": "loss"}
# What may differ in a record between two runs that are the same to the last bit.
SPEEDS = ("seconds", "images_per_s", "wait_fraction")


@dataclass(frozen=True)
class Quantity:
    """One quantity of the run beside that of the references, epoch by epoch.

    Attributes:
        own: float [epochs].
        references: float [references, epochs].
        intervals: for each epoch where one more run is expected, or None. Those of all quantities hold together with
            95 % at any one epoch, on the assumption of normality.
    """

    own: np.ndarray
    references: np.ndarray
    intervals: list[tuple[float, float] | None]

    @property
    def outside(self) -> list[int]:
        """The epochs, from 1, whose value is outside of its interval."""
        pairs = enumerate(zip(self.own, self.intervals), start=1)
        return [epoch for epoch, (value, ends) in pairs if ends and not ends[0] <= value <= ends[1]]

    @property
    def in_line(self) -> bool | None:
        """Of the last epoch; None where there is no interval."""
        return None if self.intervals[-1] is None else len(self.own) not in self.outside


@dataclass(frozen=True)
class Verification:
    """Attributes:
    references: the runs that `run` is compared with, by seed.
    quantities: accuracy and loss, as QUANTITIES names them.
    differences: what the run has recorded that no reference has, as lines of text, data first.
    same_seed: what a reference of the same seed shows, as a sentence; None where there is none.
    """

    run: RunFolder
    references: list[RunFolder]
    quantities: dict[str, Quantity]
    differences: list[str]
    same_seed: str | None

    @property
    def in_line(self) -> bool | None:
        judged = [quantity.in_line for quantity in self.quantities.values()]
        return None if None in judged else all(judged)


def verify(run: RunFolder, folder: Path) -> Verification:
    """Compare `run`, finished or not, with the reference runs of its recipe that `folder` has somewhere below.

    Where several arms' folders have such runs, the one with most of them counts.

    Raises:
        UserError: the run has no epoch yet; there is no reference of its recipe.
    """
    records = run.read_metrics()
    if not records:
        raise UserError(f"{run.path} has no finished epoch yet")
    references = find_references(run, folder)
    epochs = len(records)
    theirs = [reference.read_metrics()[:epochs] for reference in references]
    level = statistics.simultaneous(len(QUANTITIES))
    quantities = {}
    for key, name in QUANTITIES.items():
        values = np.array([[record[key] for record in lines] for lines in theirs])
        intervals = [statistics.prediction_interval(values[:, epoch], level) for epoch in range(epochs)]
        quantities[name] = Quantity(np.array([record[key] for record in records]), values, intervals)
    seed = run.read_experiment().seed
    twins = [reference for reference in references if reference.read_experiment().seed == seed]
    same = _compare_bits(run, records, twins[0], seed) if twins else None
    return Verification(run, references, quantities, _differences(run, references), same)


def find_references(run: RunFolder, folder: Path) -> list[RunFolder]:
    """The complete runs below `folder` with the recipe of `run`, seed and name aside, from one arm's folder."""
    places = (folder, *sorted(path for path in folder.glob("*") if path.is_dir()))  # results/SWEEP/ARM/seedN
    found = {one.path.resolve(): one for place in places for one in find_runs(place) if one.complete}
    found.pop(run.path.resolve(), None)
    experiment, fitting = run.read_experiment(), defaultdict(list)
    others = {one: _recipe_changes(one, experiment) for one in readable(found.values())}
    for one, changes in others.items():
        if not changes:
            fitting[one.path.parent].append(one)
    best = max(fitting.values(), key=len, default=[])
    if not best:
        nearest = min(others, key=lambda one: len(others[one]), default=None)
        hint = f"; nearest is {nearest.path}: {', '.join(others[nearest])} differ" if nearest else ""
        raise UserError(f"{folder} has no complete run of this recipe (the seed may differ, nothing else){hint}")
    return sorted(best, key=lambda one: one.read_experiment().seed)


def _recipe_changes(reference: RunFolder, experiment: Experiment) -> list[str]:
    return [key for key in reference.read_experiment().differing_keys(experiment) if key != "seed"]


def _compare_bits(run: RunFolder, records: list[dict], twin: RunFolder, seed: int) -> str:
    differing = next((own["epoch"] for own, theirs in zip(records, twin.read_metrics()) if _numbers(own, theirs)), None)
    changes = environment_changes(run.read_environment(), twin.read_environment())
    where = "on another machine or with other versions" if changes else "same processor, threads and versions"
    if differing is None:
        return f"seed {seed}: equal to the reference to the last bit in all {len(records)} epochs ({where})"
    note = "rounding differs there, so no surprise" if changes else "so equal bits were to be expected"
    return f"seed {seed}: another number than the reference's from epoch {differing} on ({where}: {note})"


def _numbers(own: dict, theirs: dict) -> list[str]:
    """The keys that both records have, speeds aside, and whose numbers differ."""
    shared = [key for key in own if key in theirs and not key.endswith(SPEEDS)]
    return [key for key in shared if own[key] != theirs[key]]


def environment_changes(own: dict, theirs: dict) -> list[str]:
    """What of versions and machine shapes numbers and differs, as "paddle 3.3.1, reference 2.6.2"."""
    ours, reference = _shaping(own), _shaping(theirs)
    return [
        f"{key} {value}, reference {reference[key]}"
        for key, value in ours.items()
        if value is not None and reference.get(key) not in (None, value)
    ]


def _shaping(environment: dict) -> dict:
    settings = environment.get("settings") or {}
    return {
        **versions(environment),
        "machine": hardware(environment),
        "platform": environment.get("platform"),
        "MKL_DEBUG_CPU_TYPE": settings.get("MKL_DEBUG_CPU_TYPE"),
        "operators": environment.get("operators"),
    }


def _differences(run: RunFolder, references: list[RunFolder]) -> list[str]:
    """Compared with the first reference, for all of an arm ran alike; data first, the commit last."""
    told, first = [], references[0]
    own, theirs = run.read_data(), first.read_data()
    if own and theirs and own["sha256"] != theirs["sha256"]:
        told.append(f"data: other images ({own['sha256'][:12]}, reference {theirs['sha256'][:12]})")
    fused = [str(one.read_experiment().model.fused).lower() for one in (run, first)]
    if fused[0] != fused[1]:
        told.append(f"model.fused {fused[0]}, reference {fused[1]}")
    ours, environment = run.read_environment(), first.read_environment()
    told += environment_changes(ours, environment)
    commits = [one.get("git_commit") for one in (ours, environment)]
    if None not in commits and commits[0] != commits[1]:
        told.append(f"commit {commits[0][:9]}, reference {commits[1][:9]}")
    if ours.get("git_dirty"):
        told.append("the checkout had changes that were not committed")
    return told
