"""A comparison in words. A sentence claims what its intervals allow as they are printed, and nothing else."""

import math

from simam_repro.config import Experiment
from simam_repro.data import sets
from simam_repro.models import backbones
from simam_repro.runs import STAND_IN_NOTE

FAITHFUL = "faithful_"  # how the names in configs/faithful/ begin


def title(experiment: Experiment, data: dict) -> str:
    """ "TowerNet, Caltech101-16 at 128 pixels, 40 epochs", and what else sets it apart; `data` as in result.json."""
    epochs, backbone = experiment.train.epochs, experiment.model.backbone
    name = sets.title(data["name"]) + (" (stand-in data)" if data["stand_in"] else "")
    parts = [
        backbones.load(backbone).title,
        f"{name} at {experiment.data.image_size} pixels",
        f"{data['train_images']:,} training images" if experiment.data.train_limit else None,
        f"{epochs} epoch{'s' * (epochs != 1)}",
        "the original's recipe with its quirks" if experiment.name.startswith(FAITHFUL) else None,
    ]
    return ", ".join(filter(None, parts))


def points(fraction: float, decimals: int = 2) -> str:
    """A difference of fractions in percentage points, with its sign."""
    return f"{100 * fraction:+.{decimals}f}"


def outward(interval, scale: float = 100, decimals: int = 2) -> tuple[float, float]:
    """The interval times `scale`, its ends rounded away from its middle: what is printed never looks more certain."""
    unit = 10**decimals
    low, high = (round(end * scale * unit, 6) for end in interval)  # 0.035 is 350.00000000000006 of 0.0001
    return math.floor(low) / unit, math.ceil(high) / unit


def interval_text(interval, scale: float = 100, decimals: int = 2) -> str:
    """ "-0.90 to +1.50"; "none" where there is no interval."""
    if interval is None:
        return "none"
    low, high = (end + 0.0 for end in outward(interval, scale, decimals))  # no -0.00
    return f"{low:+.{decimals}f} to {high:+.{decimals}f}"


def effect(difference: dict) -> int:
    """1 or -1 when the intervals over seeds and over images and seeds both lie above or below 0, else 0."""
    seeds, both = (side(difference[f"{over}_interval"]) for over in ("t", "images_and_seeds"))
    return seeds if seeds == both else 0


def side(interval) -> int:
    """1 or -1 when the printed interval lies above or below 0, else 0."""
    low, high = outward(interval) if interval else (0, 0)
    return (low > 0) - (high < 0)


def chosen_note(chosen_on: str) -> str:
    """The footnote of "best"; `chosen_on` as in result.json."""
    if chosen_on == "eval":
        return "chosen on the eval images, so it flatters both"
    return "chosen on validation images, none of which are eval images"


def sentence(comparison: dict, which: str) -> str:
    """The result of the final or the best epoch in one sentence.

    Args:
        comparison: as `simam_repro.evaluation.comparison.compare` makes it.
        which: "final" or "best".
    """
    block, n = comparison[which], comparison["n"]
    metric = "final accuracy"
    if which == "best":
        on = {"eval": "the eval images, which flatters both"}.get(comparison["best_chosen_on"], "validation images")
        metric = f"best epoch's accuracy (chosen on {on})"
    runs = f"{n} seeds" if n > 1 else f"one run each, seed {comparison['seeds'][0]}"
    said = _one_pair(comparison, block, metric) if n == 1 else _pairs(block, metric, n)
    label = f"{STAND_IN_NOTE[0].upper()}{STAND_IN_NOTE[1:]}. " if comparison["data"]["stand_in"] else ""
    return f"{label}{comparison['title']}, {runs}: {said}."


def _pairs(block: dict, metric: str, n: int) -> str:
    difference = block["difference"]
    seeds, both = difference["t_interval"], difference["images_and_seeds_interval"]
    observed = f"with SimAM the {metric} is {_more_or_less(difference['mean'])}"
    if seeds is None:
        return f"{observed} in each of the {n} seeds; equal differences give no interval, so no effect can be claimed"
    observed += f" on average (95 % interval {interval_text(seeds)})"
    over_both = f"over images and seeds together the interval is {interval_text(both)}"
    if found := effect(difference):
        kind = "gain" if found > 0 else "loss"
        return f"{observed}; {over_both}: a measurable {kind} for this network, data and recipe"
    if side(seeds):
        return f"{observed}, but {over_both}: no effect can be claimed"
    said = f"{observed}: no measurable effect"
    if (found := block["detectable_difference"]) is None:
        return said
    missed = f"a true difference below {100 * found:.2f} points would be missed more than one time in five"
    return f"{said}; with {n} seeds, {missed}"


def _one_pair(comparison: dict, block: dict, metric: str) -> str:
    test = block["mcnemar"]["per_seed"][0]
    chance = "more than" if test["p"] < 0.05 else "no more than"
    return (
        f"with SimAM the {metric} was {_more_or_less(block['difference']['mean'])}; on the "
        f"{comparison['data']['eval_images']} images these two networks differ {chance} chance explains "
        f"(McNemar p = {test['p']:.2g}), and one run each says nothing about other seeds"
    )


def _more_or_less(mean: float) -> str:
    size = f"{100 * abs(mean):.2f}"
    return "the same" if size == "0.00" else f"{size} points {'higher' if mean > 0 else 'lower'}"
