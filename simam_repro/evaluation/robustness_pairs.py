"""What SimAM does to robustness: runs without and with it, paired by seed.

Corruption errors are those of Hendrycks and Dietterich (ICLR 2019), with the network without SimAM as the baseline:
CE is the error with SimAM, summed over the severities, over the same sum without; relative CE is the same of what
each error adds to that on clean images. mCE and relative mCE are their means over the corruptions; 1 is no change.
"""

import numpy as np

from simam_repro.errors import UserError
from simam_repro.evaluation import statistics, wording
from simam_repro.evaluation.corruptions import describe_parameters
from simam_repro.evaluation.pairs import find_pairs
from simam_repro.evaluation.robustness import EPS, SCHEMA, Measurement, Scope, attack_settings

HALVES = ("off", "on")


def compare_robustness(measurements: list[Measurement], scope: Scope) -> dict:
    """The content of the summary: a comparison for each pair of networks, over the seeds that both have.

    Returns:
        schema, data, checkpoint, images, severities, attack_settings, comparisons; and unpaired, the name and seed of
        each run without another half. Accuracies are fractions; a difference is on minus off.
    Raises:
        UserError: two runs are the same half of a pair, or pairs are of different data.
    """
    comparisons, unpaired = _pair(measurements)
    _check_data(measurements)
    first = measurements[0].content
    return {
        "schema": SCHEMA,
        "data": first["data"],
        "checkpoint": scope.weights,
        **({"chosen_on": first["chosen_on"]} if scope.weights == "best" else {}),
        "images": first["images"],
        "severities": {name: describe_parameters()[name] for name in scope.corruptions},
        "levels": list(scope.severities),
        "attack_settings": attack_settings(),
        "comparisons": [_compare(pairs, scope) for pairs in comparisons],
        "unpaired": unpaired,
    }


def _pair(measurements: list[Measurement]) -> tuple[list[list[tuple]], list[str]]:
    """Lists of (off, on) that differ in the seed only; and the name and seed of each run that is left."""
    by_run = {measurement.run: measurement for measurement in measurements}
    found, _ = find_pairs(list(by_run))
    paired = [[(by_run[off], by_run[on]) for off, on in zip(one.off.values(), one.on.values())] for one in found]
    used = {id(measurement) for pairs in paired for pair in pairs for measurement in pair}
    left = [measurement.content for measurement in measurements if id(measurement) not in used]
    return paired, [f"{content['name']} seed {content['seed']}" for content in left]


def _check_data(measurements) -> None:
    sets = {(content["data"]["sha256"], content["images"]) for content in (one.content for one in measurements)}
    if len(sets) > 1:
        names = sorted({f"{one.content['data']['name']} ({one.content['images']} images)" for one in measurements})
        raise UserError(f"the runs are of different data ({', '.join(names)}); compare those of one data set at a time")


def _compare(pairs, scope: Scope) -> dict:
    contents = {half: [pair[side].content for pair in pairs] for side, half in enumerate(HALVES)}
    first, experiment = contents["on"][0], pairs[0][1].run.read_experiment()
    everyone = contents["off"] + contents["on"]
    clean = {half: np.array([content["clean"] for content in contents[half]]) for half in HALVES}
    comparison = {
        "off": contents["off"][0]["name"],
        "on": first["name"],
        "backbone": first["backbone"],
        "e_lambda": getattr(experiment.model.attention, "e_lambda", None),
        "image_size": first["image_size"],
        "epochs": first["epochs"],
        "seeds": [content["seed"] for content in contents["on"]],
        "n": len(pairs),
        "hardware": _distinct(everyone, "hardware"),
        "versions": _distinct(everyone, "versions"),
        "clean": _both(clean),
        **(_corruption_numbers(contents, clean, scope) if scope.corruptions else {}),
        "attacks": {name: _attack_numbers(contents, name) for name in scope.attacks},
    }
    return {**comparison, "sentence": _sentence(comparison, first["data"], scope)}


def _distinct(contents, what: str) -> dict:
    """What the runs were trained and measured on: each hardware, or set of versions, once."""
    places = {
        "training": [content["trained_on"] for content in contents],
        "measurement": [place for content in contents for place in content["measured_on"]],
    }
    found = {key: [place[what] for place in value] for key, value in places.items()}
    return {key: [value for i, value in enumerate(values) if value not in values[:i]] for key, values in found.items()}


def _corruption_numbers(contents, clean, scope: Scope) -> dict:
    """`corruptions`, `mean_corruption`, `mce` and `relative_mce` of a comparison."""
    # float [seeds, corruptions, severities]
    accuracy = {
        half: np.array(
            [
                [[content["corruptions"][name][str(level)] for level in scope.severities] for name in scope.corruptions]
                for content in contents[half]
            ]
        )
        for half in HALVES
    }
    error = {half: (1 - values).sum(axis=2) for half, values in accuracy.items()}
    added = {half: (clean[half][:, None, None] - values).sum(axis=2) for half, values in accuracy.items()}
    ce, relative = _ratio(error["on"], error["off"]), _ratio(added["on"], added["off"])
    return {
        "corruptions": {
            name: {
                "by_severity": {half: values[:, i].mean(axis=0).tolist() for half, values in accuracy.items()},
                "by_severity_and_seed": {half: values[:, i].tolist() for half, values in accuracy.items()},
                "accuracy": _both({half: values[:, i].mean(axis=1) for half, values in accuracy.items()}),
                "ce": _paired_t(ce[:, i]),
                "relative_ce": _paired_t(relative[:, i]),
            }
            for i, name in enumerate(scope.corruptions)
        },
        "mean_corruption": _both({half: values.mean(axis=(1, 2)) for half, values in accuracy.items()}),
        "mce": _paired_t(ce.mean(axis=1)),
        "relative_mce": _paired_t(relative.mean(axis=1)),
    }


def _ratio(on: np.ndarray, off: np.ndarray) -> np.ndarray:
    """on / off; NaN where the baseline is no positive number, to which nothing is relative."""
    return np.divide(on, off, out=np.full_like(on, np.nan), where=off > 0)


def _attack_numbers(contents, name: str) -> dict:
    """Accuracy at each eps (of images in [0, 1]), [seeds][eps]; a statistic of each difference, and the mean."""
    values = {
        half: np.array([[content["attacks"][name][str(eps)] for eps in EPS] for content in contents[half]])
        for half in HALVES
    }
    differences = [_paired_t(column) for column in (values["on"] - values["off"]).T]
    halves = {half: value.tolist() for half, value in values.items()}
    mean = _both({half: value.mean(axis=1) for half, value in values.items()})
    return {"eps": [eps / 255 for eps in EPS], **halves, "difference": differences, "mean": mean}


def _both(values: dict[str, np.ndarray]) -> dict:
    """Statistics of a number of each half and of their difference; each value is float [seeds]."""
    spreads = {half: {key: _paired_t(value)[key] for key in ("values", "mean", "sd")} for half, value in values.items()}
    return {**spreads, "difference": _paired_t(values["on"] - values["off"])}


def _paired_t(values: np.ndarray) -> dict:
    """values, mean, sd (n - 1) and the t interval of the mean; None where there are too few, or one is not defined."""
    whole = bool(np.isfinite(values).all())
    listed = [float(value) if np.isfinite(value) else None for value in values]
    return {
        "values": listed,
        "mean": float(values.mean()) if whole else None,
        "sd": statistics.sd(values) if whole else None,
        "t_interval": statistics.t_interval(values) if whole else None,
    }


def _sentence(comparison: dict, data: dict, scope: Scope) -> str:
    """What the means over the corruptions and over an attack's budgets (without any: the clean images) say."""
    kinds, budgets = len(scope.corruptions), len(EPS)
    means = {}
    if kinds:
        means[f"under {kinds} corruption{'s' * (kinds > 1)}, the mean"] = comparison["mean_corruption"]
    for name in scope.attacks:
        means[f"under {name.upper()}, the mean over {budgets} budgets"] = comparison["attacks"][name]["mean"]
    said = [_one_mean(*mean, comparison["n"]) for mean in (means or {"on clean images": comparison["clean"]}).items()]
    note = ["The data is a stand-in, so this is no evidence about SimAM."] if data["stand_in"] else []
    return " ".join(said + note)


def _one_mean(what: str, numbers: dict, n: int) -> str:
    off, on, difference = (numbers[half]["mean"] for half in (*HALVES, "difference"))
    told = f"Accuracy {what}: {off:.2%} without SimAM, {on:.2%} with it"
    over_seeds = numbers["difference"]["t_interval"]
    if over_seeds is None:
        runs = "one run each" if n == 1 else f"{n} pairs that all differ alike"
        return f"{told}, {runs} ({wording.points(difference)} points): nothing follows for other seeds."
    found = {
        0: "no difference was measured",
        1: "higher with SimAM, for other seeds too",
        -1: "lower with SimAM, for other seeds too",
    }
    interval = f"95 % interval {wording.interval_text(over_seeds)} over {n} pairs of seeds, on these images"
    result = f"the difference is {wording.points(difference)} points ({interval}): {found[wording.side(over_seeds)]}"
    return f"{told}; {result}."
