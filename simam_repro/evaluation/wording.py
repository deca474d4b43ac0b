"""A comparison in words. A sentence claims what its intervals allow as they are printed, and nothing else."""

import math

from simam_repro.config import Experiment
from simam_repro.data import sets
from simam_repro.evaluation.statistics import FEWEST_SEEDS
from simam_repro.models import backbones
from simam_repro.runs import STAND_IN_NOTE

RULE = (
    "An effect is claimed only where both intervals, over seeds and over images and seeds, exclude zero. Where there "
    "is none, simulated experiments of 5 seeds claim one by this rule in at most 6 of 100, by the interval over seeds "
    "alone, which takes the eval images as given, in up to 18 of 100."
)
FAITHFUL = "faithful_"  # how the names in configs/faithful/ begin
ORIGINAL_SWING = 200  # steps, the period of its learning rate


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
        _swing(experiment),
        _split_text(experiment, data),
    ]
    return ", ".join(filter(None, parts))


def _swing(experiment: Experiment) -> str | None:
    """How the faithful cosine of a shorter run differs from the original's, whose period was 200 steps."""
    steps = 2 * experiment.train.epochs
    if experiment.optim.schedule != "cosine_swinging" or steps == ORIGINAL_SWING:
        return None
    return f"swings {steps} steps, not {ORIGINAL_SWING}"


def _split_text(experiment: Experiment, data: dict) -> str | None:
    if "splits" in data:
        return "each seed on a split of its own"
    return f"split {experiment.data.split}" if experiment.data.split else None


def over_images_and(data: dict) -> str:
    """What the second interval is over; `data` as in a comparison."""
    return "images, seeds and splits" if "splits" in data else "images and seeds"


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


def level_text(arms: int) -> str:
    """ "95 %", and of several arms for what."""
    return "95 %" if arms == 1 else f"95 % for all {arms} arms together"


def rows_of(comparisons: list[dict]) -> list[tuple[dict, dict]]:
    """(comparison, arm) of each arm but the baselines."""
    return [(comparison, arm) for comparison in comparisons for arm in comparison["arms"]]


def row_title(comparison: dict, arm: dict) -> str:
    """What an arm is compared with on what; the baseline is named where it is not the plain network."""
    against = "" if is_plain(comparison) else f" against {comparison['baseline']['title']}"
    return f"{comparison['title']}: {arm['title']}{against}"


def is_plain(comparison: dict) -> bool:
    """Whether the baseline is the network without attention."""
    return comparison["baseline"]["attention"]["name"] == "none"


def baseline_text(comparison: dict) -> str:
    """The baseline behind a comparative: "than without attention"."""
    return "without attention" if is_plain(comparison) else f"with {comparison['baseline']['title']}"


def chosen_note(chosen_on: str) -> str:
    """The footnote of "best"; `chosen_on` as in result.json."""
    if chosen_on == "eval":
        return "chosen on the eval images, so it flatters all"
    return "chosen on validation images, none of which are eval images"


def sentence(comparison: dict, arm: dict, which: str) -> str:
    """The result of the final or the best epoch of one arm in one sentence.

    Args:
        comparison, arm: as `simam_repro.evaluation.comparison` makes them.
        which: "final" or "best".
    """
    block, n = arm[which], arm["n"]
    metric = "final accuracy"
    if which == "best":
        on = {"eval": "the eval images, which flatters all"}.get(comparison["best_chosen_on"], "validation images")
        metric = f"best epoch's accuracy (chosen on {on})"
    runs = f"{n} seeds" if n > 1 else f"one run each, seed {arm['seeds'][0]}"
    said = _one_pair(comparison, arm, block, metric) if n == 1 else _pairs(comparison, arm, block, metric)
    label = f"{STAND_IN_NOTE[0].upper()}{STAND_IN_NOTE[1:]}. " if comparison["data"]["stand_in"] else ""
    return f"{label}{comparison['title']}, {runs}: {said}."


def _pairs(comparison: dict, arm: dict, block: dict, metric: str) -> str:
    difference, n = block["difference"], arm["n"]
    seeds, both = difference["t_interval"], difference["images_and_seeds_interval"]
    observed = f"with {arm['title']} the {metric} is {_more_or_less(difference['mean'], baseline_text(comparison))}"
    if n < FEWEST_SEEDS:
        return f"{observed} on average; fewer than {FEWEST_SEEDS} seeds give no interval, so no effect can be claimed"
    if seeds is None:
        return f"{observed} in each of the {n} seeds; equal differences give no interval, so no effect can be claimed"
    level = level_text(len(comparison["arms"]))
    level = f"{level} interval" if level == "95 %" else f"interval of {level},"
    over = " over seeds and splits together" if "splits" in comparison["data"] else ""
    observed += f" on average ({level} {interval_text(seeds)}{over})"
    over_both = f"over {over_images_and(comparison['data'])} together the interval is {interval_text(both)}"
    if found := effect(difference):
        kind = "gain" if found > 0 else "loss"
        return f"{observed}; {over_both}: a measurable {kind} for this network, data and recipe"
    if side(seeds):
        return f"{observed}, but {over_both}: no effect can be claimed"
    return f"{observed}; {over_both}: {_no_difference(block, n)}"


def _no_difference(block: dict, n: int) -> str:
    """What may be said where the interval over seeds includes 0."""
    tested = block["difference"]["equivalence"]
    margin = f"{100 * tested['margin']:g} points"
    if tested["shown"]:
        return f"equivalent within {margin} (two one-sided tests at 5 %)"
    said = f"neither an effect nor equivalence within {margin} is shown"
    if (found := block["detectable_difference"]) is None:
        return said
    missed = f"a true difference below {100 * found:.2f} points would be missed more than one time in five"
    return f"{said}; with {n} seeds, {missed}"


def _one_pair(comparison: dict, arm: dict, block: dict, metric: str) -> str:
    test = block["mcnemar"]["per_seed"][0]
    chance = "more than" if test["p"] < 0.05 else "no more than"
    change = _more_or_less(block["difference"]["mean"], baseline_text(comparison))
    return (
        f"with {arm['title']} the {metric} was {change}; on the "
        f"{comparison['data']['eval_images']} images these two networks differ {chance} chance explains "
        f"(McNemar p = {test['p']:.2g}), and one run each says nothing about other seeds"
    )


def _more_or_less(mean: float, baseline: str) -> str:
    size = f"{100 * abs(mean):.2f}"
    if size == "0.00":
        return f"the same as {baseline}"
    return f"{size} points {'higher' if mean > 0 else 'lower'} than {baseline}"
