"""Runs without and with SimAM, compared: from run folders to one dict, which is the content of comparison.json."""

from dataclasses import dataclass

import numpy as np

from simam_repro.config import Experiment
from simam_repro.errors import UserError
from simam_repro.evaluation import statistics, wording
from simam_repro.evaluation.metrics import cross_entropies
from simam_repro.evaluation.pairs import Pairs, find_pairs
from simam_repro.evaluation.published import ALEXNET_DIFFERENCE
from simam_repro.runs import Predictions, RunFolder

METHOD = {
    "confidence": statistics.CONFIDENCE,
    "bootstrap": {
        "kind": "percentile", "resamples": statistics.RESAMPLES, "random_seed": statistics.BOOTSTRAP_SEED,
    },
    "power": statistics.POWER,
    "ece_bins": statistics.ECE_BINS,
}  # fmt: skip
POOLED_CAVEAT = "the seeds share their images, so the pooled p is too small; the intervals take that into account"
HARDWARE = ("cpu", "threads", "device", "gpu", "nproc")
VERSIONS = ("paddle", "python", "numpy")


def compare(runs: list[RunFolder]) -> dict:
    """{"schema", "method", "comparisons": [...], "unpaired": [...]}; README.md and METHOD say how it is computed.

    A comparison has the numbers of its runs' eval images for the final and the best epoch. Accuracies and calibration
    errors are fractions, losses nats; null stands for what does not exist (an interval over seeds of one pair).

    Args:
        runs: complete or not; what is not complete is named in `missing` or `unpaired`.
    Raises:
        UserError: a pair of different data, a file that is missing or damaged, two runs of the same half and seed.
    """
    found, alone = find_pairs(runs)
    unpaired = [f"{run.path.parent.name}/{run.path.name}{'' if run.complete else ' (not complete)'}" for run in alone]
    return {"schema": 1, "method": METHOD, "comparisons": [_comparison(pairs) for pairs in found], "unpaired": unpaired}


@dataclass(frozen=True)
class _Run:
    folder: RunFolder
    experiment: Experiment
    result: dict
    environment: dict
    predictions: Predictions

    @property
    def label(self) -> str:
        return f"{self.experiment.name} seed {self.experiment.seed}"

    @property
    def conditions(self) -> list[dict]:
        """The environment of each of the run's sessions."""
        first = self.environment
        return [first, *({**first, **session} for session in first.get("sessions", ()))]


def _read(folder: RunFolder) -> _Run:
    return _Run(
        folder, folder.read_experiment(), folder.read_result(), folder.read_environment(), folder.read_predictions()
    )


def _comparison(pairs: Pairs) -> dict:
    off, on = ([_read(folder) for folder in half.values()] for half in (pairs.off, pairs.on))
    _check_same_data([*off, *on])
    experiment, result = on[0].experiment, on[0].result
    data = {key: result["data"][key] for key in ("name", "sha256", "stand_in", "train_images", "eval_images")}
    comparison = {
        "title": wording.title(experiment, data),
        "data": data,
        "backbone": experiment.model.backbone,
        "image_size": experiment.data.image_size,
        "epochs": result["epochs"],
        "off": off[0].experiment.name,
        "on": experiment.name,
        "e_lambda": getattr(experiment.model.attention, "e_lambda", None),
        "seeds": list(pairs.on),
        "n": len(on),
        "missing": list(pairs.missing),
        "hardware": {key: _joined(key, [*off, *on]) for key in HARDWARE},
        "versions": {key: _joined(key, [*off, *on]) for key in VERSIONS},
        "git_commits": sorted({_commit(session) for run in (*off, *on) for session in run.conditions}),
        "wall_s": {"off": [run.result["wall_s"] for run in off], "on": [run.result["wall_s"] for run in on]},
        "warnings": _warnings(off, on),
        "best_chosen_on": result["best"].get("chosen_on", "eval"),
    }
    for which in ("final", "best"):
        comparison[which] = _block(off, on, which)
        comparison[which]["sentence"] = wording.sentence(comparison, which)
    return {**comparison, "sentence": comparison["final"]["sentence"]}


def _check_same_data(runs: list[_Run]) -> None:
    """Raises UserError unless all were trained and evaluated on the same images, from the same weights."""
    first = runs[0]
    for run in runs[1:]:
        for key in ("sha256", "train_images", "eval_images"):
            if run.result["data"][key] != first.result["data"][key]:
                raise UserError(
                    f"{first.folder.path} and {run.folder.path} are of different data ({key}: "
                    f"{first.result['data'][key]} and {run.result['data'][key]}); train both on the same"
                )
        if run.result.get("weights") != first.result.get("weights"):
            raise UserError(f"{first.folder.path} and {run.folder.path} started from different weights")
        for what in ("sample_ids", "labels"):
            if not np.array_equal(getattr(run.predictions, what), getattr(first.predictions, what)):
                raise UserError(
                    f"{first.folder.path} and {run.folder.path}: their predictions.npz are of different eval images"
                )


def _values(key: str, run: _Run) -> str:
    return ", then ".join(dict.fromkeys(str(session.get(key)) for session in run.conditions))


def _joined(key: str, runs: list[_Run]):
    """The value that all runs have, or all values in one text."""
    values = list(dict.fromkeys(_values(key, run) for run in runs))
    return runs[0].environment.get(key) if len(values) == 1 else " / ".join(values)


def _commit(environment: dict) -> str:
    return f"{environment.get('git_commit')}{'-dirty' if environment.get('git_dirty') else ''}"


def _warnings(off: list[_Run], on: list[_Run]) -> list[str]:
    """What differs between the runs and may make a difference of its own."""
    warnings = []
    for key in (*HARDWARE, *VERSIONS, "git_commit"):
        halves = list(zip((_values(key, run) for run in off), (_values(key, run) for run in on)))
        inside = [run.experiment.seed for run, (one, other) in zip(off, halves) if one != other]
        if inside:
            where = f"inside the pairs of seed {', '.join(map(str, inside))}, so it may be the cause of a difference"
        elif len(set(halves)) > 1:
            where = "between seeds"
        else:
            continue
        warnings.append(f"{key} differs {where}: {_joined(key, [*off, *on])}")
    for run in (*off, *on):
        recorded, predicted = run.result["final"]["eval_acc"], _right(run, "final").mean()
        if abs(recorded - predicted) > 1e-6:
            warnings.append(f"{run.label}: accuracy {recorded:.4f} in result.json, {predicted:.4f} in predictions.npz")
    return warnings


def _logits(run: _Run, which: str) -> np.ndarray:
    return getattr(run.predictions, f"logits_{which}")


def _right(run: _Run, which: str) -> np.ndarray:
    """bool [images]"""
    return _logits(run, which).argmax(axis=1) == run.predictions.labels


def _block(off: list[_Run], on: list[_Run], which: str) -> dict:
    """All numbers of one epoch, "final" or "best"."""
    right = [np.stack([_right(run, which) for run in half]) for half in (off, on)]
    losses = [
        np.stack([cross_entropies(_logits(run, which), run.predictions.labels) for run in half]) for half in (off, on)
    ]
    errors = [
        [statistics.expected_calibration_error(_logits(run, which), run.predictions.labels) for run in half]
        for half in (off, on)
    ]
    accuracy = _of_images(*right)
    deviation = accuracy["difference"]["sd"] if len(on) >= statistics.FEWEST_FOR_POWER else None
    return {
        **accuracy,
        "mcnemar": _mcnemar(*right, [run.experiment.seed for run in on]),
        "ece": _of_seeds(*map(np.asarray, errors)),
        "loss": _of_images(*losses),
        "detectable_difference": statistics.detectable_difference(deviation, len(on)),
        "seeds_needed_for_published": {
            "difference": ALEXNET_DIFFERENCE, "n": statistics.seeds_needed(ALEXNET_DIFFERENCE, deviation),
        },
    }  # fmt: skip


def _of_images(off: np.ndarray, on: np.ndarray) -> dict:
    """Statistics of a mean over images; off, on: [seeds, images]."""
    outcomes = on.astype(float) - off
    over_images, over_both = statistics.image_intervals(outcomes)
    block = _of_seeds(off.mean(axis=1), on.mean(axis=1), outcomes.mean(axis=1))
    block["difference"] |= {"images_and_seeds_interval": over_both, "images_interval": over_images}
    return block


def _of_seeds(off: np.ndarray, on: np.ndarray, differences=None) -> dict:
    """Statistics of one number a seed; off, on: [seeds]."""
    differences = on - off if differences is None else differences
    return {
        "off": _summary(off),
        "on": _summary(on),
        "difference": {
            **_summary(differences),
            "t_interval": statistics.t_interval(differences),
            "t_p": statistics.t_p(differences),
            "bootstrap_interval": statistics.bootstrap_interval(differences),
        },
    }


def _summary(values: np.ndarray) -> dict:
    return {"values": values.tolist(), "mean": float(values.mean()), "sd": statistics.sd(values)}


def _mcnemar(off: np.ndarray, on: np.ndarray, seeds: list[int]) -> dict:
    each = [{"seed": seed, **statistics.mcnemar(*halves)} for seed, *halves in zip(seeds, off, on)]
    pooled = statistics.mcnemar(off.ravel(), on.ravel())
    return {"per_seed": each, "pooled": {**pooled, "caveat": POOLED_CAVEAT if len(seeds) > 1 else None}}
