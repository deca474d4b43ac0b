"""The arms of a comparison: from run folders to one dict, which is the content of comparison.json.

    schema, method, left_out
    comparisons: one for each recipe, with its arms: [
        title, data, backbone, image_size, epochs, best_chosen_on, missing, hardware, versions, git_commits, warnings,
        confidence (of each interval, so that those of all arms hold together with 95 %),
        baseline {title, name, attention, cost (see `cost.cost`)}
        arms: one for each other arm: [
            title, name, attention, seeds, n (pairs of runs), wall_s {baseline, arm},
            cost, cost_ratios to the baseline (see `cost`),
            final, best: {
                baseline, arm {values, mean, sd} and difference, of accuracy; the same in loss and ece;
                difference adds intervals, p, effect_size and equivalence (see `statistics`);
                mcnemar, classes, detectable_difference, seeds_needed_for_published, sentence }]]

`data` has `splits`, with the images of each, where each seed was trained on a split of its own (data.split): the
intervals are over seeds and splits together then. A difference is arm minus baseline. Accuracies and calibration errors
are fractions, losses nats; null stands for what does not exist (an interval over seeds of one pair).
"""

from dataclasses import dataclass

import numpy as np

from simam_repro.config import Experiment
from simam_repro.errors import UserError
from simam_repro.evaluation import statistics, wording
from simam_repro.evaluation.arms import Arm, Arms, find_arms
from simam_repro.evaluation.cost import cost, cost_ratios
from simam_repro.evaluation.outcomes import EpochOutcomes, Outcomes, read_outcomes
from simam_repro.evaluation.published import ALEXNET_DIFFERENCE
from simam_repro.runs import RunFolder, data_differences

SCHEMA = 2
POOLED_CAVEAT = "the seeds share their images, so the pooled p is too small; the intervals take that into account"
HARDWARE = ("cpu", "threads", "device", "gpu", "nproc")
VERSIONS = ("paddle", "python", "numpy")
IMAGES = ("train_images", "eval_images")


def compare(runs: list[RunFolder], baseline: str | None = None, margin: float = statistics.MARGIN) -> dict:
    """The content of comparison.json, see above.

    Args:
        runs: complete or not; what is not complete is named in `missing` or `left_out`.
        baseline: title, attention or experiment's name of the baseline arm; None: the arm without attention.
        margin: accuracies that differ by less are equivalent.
    Raises:
        UserError: arms of different data, a file that is missing or damaged, two runs of the same arm and seed.
    """
    found, left_out = find_arms(runs, baseline)
    return {
        "schema": SCHEMA,
        "method": {**METHOD, "margin": margin},
        "comparisons": [_comparison(arms, margin) for arms in found],
        "left_out": left_out,
    }


METHOD = {
    "confidence": statistics.CONFIDENCE,
    "several_arms": "Bonferroni",
    "fewest_seeds": statistics.FEWEST_SEEDS,
    "bootstrap": {
        "kind": "percentile", "resamples": statistics.RESAMPLES, "random_seed": statistics.BOOTSTRAP_SEED,
    },
    "power": statistics.POWER,
    "ece_bins": statistics.ECE_BINS,
}  # fmt: skip


@dataclass(frozen=True)
class _Run:
    folder: RunFolder
    experiment: Experiment
    result: dict
    environment: dict
    outcomes: Outcomes

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
        folder, folder.read_experiment(), folder.read_result(), folder.read_environment(), read_outcomes(folder)
    )


@dataclass(frozen=True)
class _Pairs:
    """The runs of the baseline and of one arm, seed by seed; `arms`: how many arms share the level."""

    arm: Arm
    seeds: list[int]
    baseline_runs: list[_Run]
    arm_runs: list[_Run]
    arms: int
    margin: float

    @property
    def runs(self) -> list[_Run]:
        return [*self.baseline_runs, *self.arm_runs]

    @property
    def share_images(self) -> bool:
        """Whether all seeds are evaluated on the same images, and not each on a split of its own."""
        return len({run.experiment.data.split for run in self.runs}) == 1

    @property
    def sides(self) -> tuple[list[_Run], list[_Run]]:
        return self.baseline_runs, self.arm_runs


def _comparison(arms: Arms, margin: float) -> dict:
    read: dict[RunFolder, _Run] = {}

    def runs_of(arm: Arm, seeds: list[int]) -> list[_Run]:
        folders = [arm.runs[seed] for seed in seeds]
        read.update({folder: _read(folder) for folder in folders if folder not in read})
        return [read[folder] for folder in folders]

    pairs = [
        _Pairs(arm, seeds, runs_of(arms.baseline, seeds), runs_of(arm, seeds), len(arms.others), margin)
        for arm in arms.others
        for seeds in [arms.seeds(arm)]
    ]
    runs = list(read.values())
    _check_same_data(runs)
    experiment, result = arms.baseline.experiment, runs[0].result
    data = {key: result["data"][key] for key in ("name", "sha256", "stand_in", *IMAGES)}
    data |= _splits(runs)
    comparison = {
        "title": wording.title(experiment, data),
        "data": data,
        "backbone": experiment.model.backbone,
        "image_size": experiment.data.image_size,
        "epochs": result["epochs"],
        "best_chosen_on": result["best"].get("chosen_on", "eval"),
        "missing": arms.missing(),
        "hardware": {key: _joined(key, runs) for key in HARDWARE},
        "versions": {key: _joined(key, runs) for key in VERSIONS},
        "git_commits": sorted({_commit(session) for run in runs for session in run.conditions}),
        "warnings": _warnings(pairs, runs),
        "confidence": statistics.simultaneous(len(pairs)),
        "baseline": {**arms.baseline.identity, "cost": _cost(max((pair.baseline_runs for pair in pairs), key=len))},
    }
    comparison["arms"] = [_arm(one) for one in pairs]
    for arm in comparison["arms"]:
        for which in ("final", "best"):
            arm[which]["sentence"] = wording.sentence(comparison, arm, which)
    return comparison


def _arm(pairs: _Pairs) -> dict:
    sides = zip(("baseline", "arm"), pairs.sides)
    return {
        **pairs.arm.identity,
        "seeds": pairs.seeds,
        "n": len(pairs.seeds),
        "wall_s": {side: [run.result["wall_s"] for run in runs] for side, runs in sides},
        "cost": _cost(pairs.arm_runs),
        "cost_ratios": cost_ratios(*([run.result for run in runs] for runs in pairs.sides), pairs.arms),
        **{which: _block(pairs, which) for which in ("final", "best")},
    }


def _splits(runs: list[_Run]) -> dict:
    """Of runs of several splits {"splits": [{split, train_images, eval_images}]}."""
    by_split = {run.experiment.data.split: run.result["data"] for run in runs}
    splits = [{"split": split, **{key: by_split[split][key] for key in IMAGES}} for split in sorted(by_split)]
    return {"splits": splits} if len(splits) > 1 else {}


def _cost(runs: list[_Run]) -> dict:
    return cost(runs[0].experiment, [run.result for run in runs])


def _check_same_data(runs: list[_Run]) -> None:
    """Raises UserError unless all of a split were trained and evaluated on the same images, from the same weights."""
    firsts: dict[int, _Run] = {}
    for run in runs:
        first = firsts.setdefault(run.experiment.data.split, run)
        for key in ("sha256", *IMAGES):
            if run.result["data"][key] != first.result["data"][key]:
                raise UserError(
                    f"{first.folder.path} and {run.folder.path} are of different data ({key}: "
                    f"{first.result['data'][key]} and {run.result['data'][key]}); train both on the same"
                )
        if differing := data_differences(first.result["data"], run.result["data"]):
            raise UserError(
                f"{first.folder.path} and {run.folder.path} are of different data ({'; '.join(differing)}); train both "
                f"on the same"
            )
        if _checksum(run) != _checksum(first):
            raise UserError(f"{first.folder.path} and {run.folder.path} started from different weights")
        if run.outcomes.images_sha256 != first.outcomes.images_sha256:
            raise UserError(
                f"{first.folder.path} and {run.folder.path}: their predictions.npz are of different eval images"
            )


def _checksum(run: _Run) -> str | None:
    # Not the whole entry: it also lists what the weights do not have, an arm's own parameters among it.
    return (run.result.get("weights") or {}).get("sha256")


def _values(key: str, run: _Run) -> str:
    return ", then ".join(dict.fromkeys(str(session.get(key)) for session in run.conditions))


def _joined(key: str, runs: list[_Run]):
    """The value that all runs have, or all values in one text."""
    values = list(dict.fromkeys(_values(key, run) for run in runs))
    return runs[0].environment.get(key) if len(values) == 1 else " / ".join(values)


def _commit(environment: dict) -> str:
    return f"{environment.get('git_commit')}{'-dirty' if environment.get('git_dirty') else ''}"


def _warnings(pairs: list[_Pairs], runs: list[_Run]) -> list[str]:
    """What differs between the runs and may make a difference of its own."""
    warnings = []
    for key in (*HARDWARE, *VERSIONS, "git_commit"):
        inside = {
            one.experiment.seed
            for arm in pairs
            for one, other in zip(*arm.sides)
            if _values(key, one) != _values(key, other)
        }
        if inside:
            seeds = ", ".join(map(str, sorted(inside)))
            where = f"inside the pairs of seed {seeds}, so it may be the cause of a difference"
        elif len({_values(key, run) for run in runs}) > 1:
            where = "between seeds"
        else:
            continue
        warnings.append(f"{key} differs {where}: {_joined(key, runs)}")
    for run in runs:
        recorded, predicted = run.result["final"]["eval_acc"], run.outcomes.final.right.mean()
        if abs(recorded - predicted) > 1e-6:
            warnings.append(f"{run.label}: accuracy {recorded:.4f} in result.json, {predicted:.4f} in its predictions")
        if lost := run.result["best"].get("chosen_after_epoch"):
            warnings.append(f"{run.label}: the weights up to epoch {lost} were lost, its best epoch is of the later")
    return warnings


def _block(pairs: _Pairs, which: str) -> dict:
    """All numbers of one epoch, "final" or "best"."""
    sides = [[getattr(run.outcomes, which) for run in runs] for runs in pairs.sides]
    accuracy = _accuracy(*sides, pairs)
    n, deviation = len(pairs.seeds), accuracy["difference"]["sd"]
    deviation = deviation if n >= statistics.FEWEST_SEEDS else None
    return {
        **accuracy,
        "mcnemar": _mcnemar(*sides, pairs),
        **{key: _of_seeds(*_each(sides, key), pairs.arms) for key in ("loss", "ece")},
        "classes": _classes(pairs, sides),
        "detectable_difference": statistics.detectable_difference(deviation, n, statistics.simultaneous(pairs.arms)),
        "seeds_needed_for_published": {
            "difference": ALEXNET_DIFFERENCE, "n": statistics.seeds_needed(ALEXNET_DIFFERENCE, deviation),
        },
    }  # fmt: skip


def _each(sides: list[list[EpochOutcomes]], key: str) -> list[np.ndarray]:
    return [np.array([getattr(outcomes, key) for outcomes in side]) for side in sides]


def _accuracy(baseline: list[EpochOutcomes], arm: list[EpochOutcomes], pairs: _Pairs) -> dict:
    """Statistics of the accuracy, over seeds and over images."""
    right = [[outcomes.right for outcomes in side] for side in (baseline, arm)]
    outcomes = [now.astype(float) - before for before, now in zip(*right)]
    confidence = statistics.simultaneous(pairs.arms)
    resample = statistics.resampled_means if pairs.share_images else statistics.resampled_splits
    over_images, over_both = resample(outcomes)
    differences, *means = (np.array([one.mean() for one in each]) for each in (outcomes, *right))
    block = _of_seeds(*means, pairs.arms, differences)
    over_both = over_both if statistics.tell_about_seeds(differences) else None
    p_values = block["difference"]["t_p"], statistics.percentile_p(over_both)
    block["difference"] |= {
        "images_and_seeds_interval": statistics.percentile_interval(over_both, confidence),
        "images_interval": statistics.percentile_interval(over_images, confidence),
        "images_and_seeds_p": p_values[1],
        "p": None if None in p_values else max(p_values),  # of the rule that asks for both intervals
        "effect_size": statistics.effect_size(differences),
        "equivalence": statistics.equivalence(differences, over_both, pairs.margin, pairs.arms),
    }
    return block


def _of_seeds(baseline: np.ndarray, arm: np.ndarray, arms: int, differences=None) -> dict:
    """Statistics of one number a seed; baseline, arm: [seeds]."""
    differences = arm - baseline if differences is None else differences
    confidence = statistics.simultaneous(arms)
    return {
        "baseline": _summary(baseline),
        "arm": _summary(arm),
        "difference": {
            **_summary(differences),
            "t_interval": statistics.t_interval(differences, confidence),
            "t_p": statistics.t_p(differences),
            "bootstrap_interval": statistics.bootstrap_interval(differences, confidence),
        },
    }


def _summary(values: np.ndarray) -> dict:
    return {"values": values.tolist(), "mean": float(values.mean()), "sd": statistics.sd(values)}


def _mcnemar(baseline: list[EpochOutcomes], arm: list[EpochOutcomes], pairs: _Pairs) -> dict:
    right = [[outcomes.right for outcomes in side] for side in (baseline, arm)]
    each = [{"seed": seed, **statistics.mcnemar(*both)} for seed, *both in zip(pairs.seeds, *right)]
    pooled = statistics.mcnemar(*map(np.concatenate, right))
    caveat = POOLED_CAVEAT if pairs.share_images and len(pairs.seeds) > 1 else None
    return {"per_seed": each, "pooled": {**pooled, "caveat": caveat}}


def _classes(pairs: _Pairs, sides: list[list[EpochOutcomes]]) -> list[dict]:
    """Of each class that has eval images: its accuracy, mean over the seeds. To look at, without intervals."""
    of_runs = np.array([run.outcomes.class_images for run in pairs.baseline_runs])
    images = of_runs[0] if pairs.share_images else of_runs.sum(axis=0)
    names = pairs.baseline_runs[0].result["data"].get("class_names") or [str(label) for label in range(len(images))]
    # A class may have no eval image in one of the splits.
    in_a_run = np.where(images, of_runs.mean(axis=0), 1)
    means = [counts.mean(axis=0) / in_a_run for counts in _each(sides, "class_right")]
    return [
        {"class": names[label], "images": int(images[label]), "baseline": float(baseline), "arm": float(arm),
         "difference": float(arm - baseline)}
        for label, (baseline, arm) in enumerate(zip(*means))
        if images[label]
    ]  # fmt: skip
