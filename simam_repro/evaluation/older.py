"""comparison.json and robustness.json as they were before there were several arms (schema 1), in the present form.

Their runs' predictions are gone, so what is new and needs them stays null: p over images, per-class differences. What
follows from the kept numbers (equivalence over seeds, effect sizes, the sentences) is computed from them.
"""

import numpy as np
import scipy

from simam_repro.config import Experiment
from simam_repro.errors import UserError
from simam_repro.evaluation import robustness_pairs, statistics, wording
from simam_repro.evaluation.arms import Arm

SIDES = {"off": "baseline", "on": "arm"}


def present_comparison(content: dict, experiments: dict[str, Experiment]) -> dict:
    """The content of a comparison.json of schema 1 or 2 as schema 2.

    Args:
        experiments: of the runs beside it, by name.
    Raises:
        UserError: another schema, or a content that is neither.
    """
    if content.get("schema") == 2:
        return content
    if content.get("schema") != 1:
        raise UserError(f"a comparison of schema {content.get('schema')}: this code reads 1 and 2; compare again")
    old = content["comparisons"]
    return {
        "schema": 2,
        "method": {**content["method"], "margin": statistics.MARGIN},
        "comparisons": [_comparison(one, experiments) for one in old],
        "left_out": content["unpaired"],
        "recomputable": False,
    }


def _comparison(old: dict, experiments: dict[str, Experiment]) -> dict:
    shared = (
        "data", "backbone", "image_size", "epochs", "best_chosen_on", "missing", "hardware", "versions",
        "git_commits", "warnings",
    )  # fmt: skip
    comparison = {
        **{key: old[key] for key in shared},
        "title": wording.title(experiments[old["off"]], old["data"]),
        "exploratory": True,  # it is older than the protocols, the heads of sweeps/*.yaml
        "confidence": statistics.CONFIDENCE,
        "baseline": _identity(experiments[old["off"]]),
    }
    arm = {
        **_identity(experiments[old["on"]]),
        "seeds": old["seeds"],
        "n": old["n"],
        "wall_s": _renamed(old["wall_s"]),
        **{which: _block(old[which], old["n"]) for which in ("final", "best")},
    }
    comparison["arms"] = [arm]
    for which in ("final", "best"):
        arm[which]["sentence"] = wording.sentence(comparison, arm, which)
    return comparison


def _identity(experiment: Experiment) -> dict:
    return Arm(experiment, {}).identity


def _renamed(old: dict) -> dict:
    """off and on become baseline and arm."""
    return {SIDES.get(key, key): value for key, value in old.items()}


def _block(old: dict, n: int) -> dict:
    block = {key: value for key, value in _renamed(old).items() if key != "sentence"}
    block |= {"mcnemar": _mcnemar(old["mcnemar"]), "classes": []}
    for key in ("loss", "ece"):
        block[key] = _renamed(old[key]) | {"difference": _of_enough_seeds(old[key]["difference"], n)}
    block["difference"] = _of_enough_seeds(old["difference"], n)
    differences = np.array(old["difference"]["values"])
    both_p = _approximate_p(block["difference"])
    p_values = block["difference"]["t_p"], both_p
    block["difference"] |= {
        "images_and_seeds_p": both_p,
        "p": None if None in p_values else max(p_values),
        "effect_size": statistics.effect_size(differences),
        "equivalence": statistics.equivalence(differences, None),
    }
    return block


def _of_enough_seeds(difference: dict, n: int) -> dict:
    """Without the intervals over seeds where there are too few."""
    over_seeds = ("t_interval", "t_p", "bootstrap_interval", "images_and_seeds_interval")
    return {key: None if key in over_seeds and n < statistics.FEWEST_SEEDS else value
            for key, value in difference.items()}  # fmt: skip


def _approximate_p(difference: dict) -> float | None:
    """Of the interval over images and seeds, whose resamples were not kept: as if it were a normal one."""
    if difference["images_and_seeds_interval"] is None:
        return None
    low, high = difference["images_and_seeds_interval"]
    error = (high - low) / (2 * scipy.stats.norm.ppf((1 + statistics.CONFIDENCE) / 2))
    return float(2 * scipy.stats.norm.sf(abs(difference["mean"]) / error)) if error else None


def _mcnemar(old: dict) -> dict:
    def renamed(test: dict) -> dict:
        names = {"only_off_right": "only_baseline_right", "only_on_right": "only_arm_right"}
        return {names.get(key, key): value for key, value in test.items()}

    return {"per_seed": list(map(renamed, old["per_seed"])), "pooled": renamed(old["pooled"])}


def present_robustness(content: dict, experiments: dict[str, Experiment]) -> dict:
    """The content of a robustness.json of several runs of schema 1 or 2 as schema 2; as `present_comparison`."""
    if content.get("schema") == 2:
        return content
    if content.get("schema") != 1:
        raise UserError(f"robustness of schema {content.get('schema')}: this code reads 1 and 2; measure again")
    stand_in = content["data"]["stand_in"]
    return {
        **{key: value for key, value in content.items() if key != "unpaired"},
        "schema": 2,
        "comparisons": [_robustness(one, experiments, stand_in) for one in content["comparisons"]],
        "left_out": content["unpaired"],
    }


def _robustness(old: dict, experiments: dict[str, Experiment], stand_in: bool) -> dict:
    names = {SIDES[half]: _identity(experiments[old[half]]) for half in SIDES}
    rest = {key: value for key, value in old.items() if key not in (*SIDES, "e_lambda", "sentence")}
    comparison = {**names, **_deep(rest), "arms": 1, "confidence": statistics.CONFIDENCE, "exploratory": True}
    return {**comparison, "sentence": robustness_pairs.sentence(comparison, stand_in)}


def _deep(old):
    """The same with present names, and with what its statistics of differences have had since."""
    if isinstance(old, list):
        return [_deep(value) for value in old]
    if not isinstance(old, dict):
        return old
    new = {SIDES.get(key, key): _deep(value) for key, value in old.items()}
    if "t_interval" in new:
        known = None not in new["values"]
        enough = len(new["values"]) >= statistics.FEWEST_SEEDS
        new |= {
            "t_interval": new["t_interval"] if enough else None,
            "images_and_seeds_interval": None,
            "equivalence": statistics.equivalence(np.array(new["values"]), None) if known else None,
        }
    return new
