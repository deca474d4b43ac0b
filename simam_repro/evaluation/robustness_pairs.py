"""What attention does to robustness: the arms of a comparison, each paired with the baseline by seed.

Corruption errors are those of Hendrycks and Dietterich (ICLR 2019), with the baseline's network as theirs: CE is the
arm's error, summed over the severities, over the same sum of the baseline; relative CE is the same of what each error
adds to that on clean images. mCE and relative mCE are their means over the corruptions; 1 is no change.
"""

from dataclasses import dataclass

import numpy as np

from simam_repro.errors import UserError
from simam_repro.evaluation import statistics, wording
from simam_repro.evaluation.arms import Arm, find_arms
from simam_repro.evaluation.corruptions import describe_parameters
from simam_repro.evaluation.outcomes import unpack
from simam_repro.evaluation.robustness import EPS, SCHEMA, Measurement, Scope, attack_settings

SIDES = ("baseline", "arm")


def compare_robustness(measurements: list[Measurement], scope: Scope, baseline: str | None = None) -> dict:
    """The content of the summary: a comparison for each arm with its baseline, over the seeds that both have.

    Args:
        baseline: see `find_arms`.
    Returns:
        schema, data, checkpoint, images, severities, attack_settings, comparisons; and left_out, the runs in none of
        them. Accuracies are fractions; a difference is arm minus baseline. With several arms the intervals have the
        level of `statistics.simultaneous`.
    Raises:
        UserError: two runs are the same arm and seed, or arms are of different data.
    """
    by_run = {measurement.run: measurement for measurement in measurements}
    found, left_out = find_arms(list(by_run), baseline)
    if len({run.read_experiment().data.split for run in by_run}) > 1:
        raise UserError("the runs are of several splits (data.split); compare those of one split at a time")
    _check_data(measurements)
    first = measurements[0].content
    pairs = [
        _Pairs(arms.baseline, arm, seeds, {
            "baseline": [by_run[arms.baseline.runs[seed]].content for seed in seeds],
            "arm": [by_run[arm.runs[seed]].content for seed in seeds],
        }, len(arms.others))
        for arms in found
        for arm in arms.others
        for seeds in [arms.seeds(arm)]
    ]  # fmt: skip
    return {
        "schema": SCHEMA,
        "data": first["data"],
        "checkpoint": scope.weights,
        **({"chosen_on": first["chosen_on"]} if scope.weights == "best" else {}),
        "images": first["images"],
        "severities": {name: describe_parameters()[name] for name in scope.corruptions},
        "levels": list(scope.severities),
        "attack_settings": attack_settings(),
        "comparisons": [_compare(one, scope) for one in pairs],
        "left_out": left_out,
    }


@dataclass(frozen=True)
class _Pairs:
    """One arm and its baseline: `contents` of the runs of `seeds`, by side; `arms` share the level of the intervals."""

    baseline: Arm
    arm: Arm
    seeds: list[int]
    contents: dict[str, list[dict]]
    arms: int


def _check_data(measurements) -> None:
    sets = {(content["data"]["sha256"], content["images"]) for content in (one.content for one in measurements)}
    if len(sets) > 1:
        names = sorted({f"{one.content['data']['name']} ({one.content['images']} images)" for one in measurements})
        raise UserError(f"the runs are of different data ({', '.join(names)}); compare those of one data set at a time")


def _compare(pairs: _Pairs, scope: Scope) -> dict:
    contents = pairs.contents
    first, everyone = contents["arm"][0], contents["baseline"] + contents["arm"]
    comparison = {
        "baseline": pairs.baseline.identity,
        "arm": pairs.arm.identity,
        "backbone": first["backbone"],
        "image_size": first["image_size"],
        "epochs": first["epochs"],
        "seeds": pairs.seeds,
        "n": len(pairs.seeds),
        "arms": pairs.arms,
        "confidence": statistics.simultaneous(pairs.arms),
        "hardware": _distinct(everyone, "hardware"),
        "versions": _distinct(everyone, "versions"),
        "clean": _both(pairs, [("clean",)]),
        **(_corruption_numbers(pairs, scope) if scope.corruptions else {}),
        "attacks": {name: _attack_numbers(pairs, name) for name in scope.attacks},
    }  # fmt: skip
    return {**comparison, "sentence": sentence(comparison, first["data"]["stand_in"])}


def _distinct(contents, what: str) -> dict:
    """What the runs were trained and measured on: each hardware, or set of versions, once."""
    places = {
        "training": [content["trained_on"] for content in contents],
        "measurement": [place for content in contents for place in content["measured_on"]],
    }
    found = {key: [place[what] for place in value] for key, value in places.items()}
    return {key: [value for i, value in enumerate(values) if value not in values[:i]] for key, values in found.items()}


def _accuracy(content: dict, part: tuple) -> float:
    section, *keys = part
    return content[section] if not keys else content[section][keys[0]][str(keys[1])]


def _values(pairs: _Pairs, parts: list[tuple]) -> dict[str, np.ndarray]:
    """Accuracies float [seeds, parts] of each side."""
    return {
        side: np.array([[_accuracy(content, part) for part in parts] for content in contents])
        for side, contents in pairs.contents.items()
    }


def _corruption_numbers(pairs: _Pairs, scope: Scope) -> dict:
    """`corruptions`, `mean_corruption`, `mce` and `relative_mce` of a comparison."""
    parts = {name: [("corruptions", name, level) for level in scope.severities] for name in scope.corruptions}
    everything = [part for of_one in parts.values() for part in of_one]
    shape = (len(pairs.seeds), len(scope.corruptions), len(scope.severities))
    accuracy = {side: values.reshape(shape) for side, values in _values(pairs, everything).items()}
    clean = {side: values[:, :, None] for side, values in _values(pairs, [("clean",)]).items()}
    error = {side: (1 - values).sum(axis=2) for side, values in accuracy.items()}
    added = {side: (clean[side] - values).sum(axis=2) for side, values in accuracy.items()}
    ce, relative = (_ratio(values["arm"], values["baseline"]) for values in (error, added))
    return {
        "corruptions": {
            name: {
                "by_severity": {side: values[:, i].mean(axis=0).tolist() for side, values in accuracy.items()},
                "by_severity_and_seed": {side: values[:, i].tolist() for side, values in accuracy.items()},
                "accuracy": _both(pairs, parts[name]),
                "ce": _paired_t(ce[:, i], pairs.arms),
                "relative_ce": _paired_t(relative[:, i], pairs.arms),
            }
            for i, name in enumerate(scope.corruptions)
        },
        "mean_corruption": _both(pairs, everything),
        "mce": _paired_t(ce.mean(axis=1), pairs.arms),
        "relative_mce": _paired_t(relative.mean(axis=1), pairs.arms),
    }


def _ratio(arm: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """arm / baseline; NaN where the baseline is no positive number, to which nothing is relative."""
    return np.divide(arm, baseline, out=np.full_like(arm, np.nan), where=baseline > 0)


def _attack_numbers(pairs: _Pairs, name: str) -> dict:
    """Accuracy at each eps (of images in [0, 1]), [seeds][eps]; a statistic of each difference, and the mean."""
    parts = [("attacks", name, eps) for eps in EPS]
    values = _values(pairs, parts)
    return {
        "eps": [eps / 255 for eps in EPS],
        **{side: accuracies.tolist() for side, accuracies in values.items()},
        "difference": [_both(pairs, [part])["difference"] for part in parts],
        "mean": _both(pairs, parts),
    }


def _both(pairs: _Pairs, parts: list[tuple]) -> dict:
    """Statistics of the mean accuracy over `parts`, of each side and of their difference."""
    values = {side: accuracies.mean(axis=1) for side, accuracies in _values(pairs, parts).items()}
    spreads = {side: {key: _paired_t(value)[key] for key in ("values", "mean", "sd")} for side, value in values.items()}
    differences = values["arm"] - values["baseline"]
    right = {side: _right(contents, parts) for side, contents in pairs.contents.items()}
    over_both = None
    if statistics.tell_about_seeds(differences) and all(outcomes is not None for outcomes in right.values()):
        _, over_both = statistics.resampled_means(right["arm"] - right["baseline"])
    p_values = statistics.t_p(differences), statistics.percentile_p(over_both)
    difference = {
        **_paired_t(differences, pairs.arms),
        "p": None if None in p_values else max(p_values),  # of the rule that asks for both intervals
        "images_and_seeds_interval": statistics.percentile_interval(over_both, statistics.simultaneous(pairs.arms)),
        "equivalence": statistics.equivalence(differences, over_both, arms=pairs.arms),
    }
    return {**spreads, "difference": difference}


def _right(contents: list[dict], parts: list[tuple]) -> np.ndarray | None:
    """float [seeds, images]: the share of `parts` under which each image is recognised."""
    try:
        kept = [[_accuracy(content["right"], part) for part in parts] for content in contents]
    except KeyError:
        return None
    images = contents[0]["images"]
    return np.mean([[unpack(text, images) for text in texts] for texts in kept], axis=1)


def _paired_t(values: np.ndarray, arms: int = 1) -> dict:
    """values, mean, sd (n - 1) and the t interval of the mean; None where there are too few, or one is not defined."""
    whole = bool(np.isfinite(values).all())
    listed = [float(value) if np.isfinite(value) else None for value in values]
    return {
        "values": listed,
        "mean": float(values.mean()) if whole else None,
        "sd": statistics.sd(values) if whole else None,
        "t_interval": statistics.t_interval(values, statistics.simultaneous(arms)) if whole else None,
    }


def sentence(comparison: dict, stand_in: bool) -> str:
    """What the means over the corruptions and over an attack's budgets (without any: the clean images) say."""
    kinds, budgets = len(comparison.get("corruptions", ())), len(EPS)
    means = {}
    if kinds:
        means[f"under {kinds} corruption{'s' * (kinds > 1)}, the mean"] = comparison["mean_corruption"]
    for name, attack in comparison["attacks"].items():
        means[f"under {name.upper()}, the mean over {budgets} budgets"] = attack["mean"]
    said = [_one_mean(comparison, *mean) for mean in (means or {"on clean images": comparison["clean"]}).items()]
    note = ["The data is a stand-in, so this is no evidence about attention."] if stand_in else []
    return " ".join(said + note)


def _one_mean(comparison: dict, what: str, numbers: dict) -> str:
    n, difference = comparison["n"], numbers["difference"]
    baseline, arm, mean = (numbers[key]["mean"] for key in (*SIDES, "difference"))
    against, title = wording.baseline_text(comparison), comparison["arm"]["title"]
    told = f"Accuracy {what}: {baseline:.2%} {against}, {arm:.2%} with {title}"
    if difference["t_interval"] is None:
        runs = "one run each" if n == 1 else f"{n} pairs, which give no interval"
        return f"{told}, {runs} ({wording.points(mean)} points): nothing follows for other seeds."
    over_seeds, both = (difference[key] for key in ("t_interval", "images_and_seeds_interval"))
    intervals = (
        f"intervals of {wording.level_text(comparison['arms'])}: over {n} pairs of seeds "
        f"{wording.interval_text(over_seeds)}, "
        f"over images and seeds {wording.interval_text(both) if both else 'not known'}"
    )
    found = {1: f"higher with {title}", -1: f"lower with {title}"}.get(wording.effect(difference))
    return f"{told}; the difference is {wording.points(mean)} points ({intervals}): {found or _no_effect(difference)}."


def _no_effect(difference: dict) -> str:
    tested = difference["equivalence"]
    margin = f"{100 * tested['margin']:g} points"
    if tested["shown"]:
        return f"equivalent within {margin}"
    if wording.side(difference["t_interval"]):
        return "both intervals would have to exclude zero, so no effect can be claimed"
    return f"neither an effect nor equivalence within {margin} is shown"
