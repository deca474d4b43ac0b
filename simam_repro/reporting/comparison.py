"""A comparison (see `simam_repro.evaluation.comparison`) as text for the terminal."""

from textwrap import wrap

import numpy as np

from simam_repro.evaluation.statistics import MARGIN
from simam_repro.evaluation.wording import RULE, chosen_note, interval_text, level_text, points
from simam_repro.runs import STAND_IN_NOTE

WIDTH = 100
BLOCK_WIDTHS = (17, 17, 21, 22)
SEED_WIDTHS = (9, 9, 11, 21, 16, 12)
ARM_WIDTHS = (3, 16, 9, 19, 19, 8)
LONGEST_TITLE = 24
EPOCHS = ("final", "best")
# Row, key in a block, factor and decimals of the printed numbers.
QUANTITIES = (("accuracy, %", None, 100, 2), ("loss, nats", "loss", 1, 4), ("ECE, %", "ece", 100, 2))


def comparison_text(comparison: dict) -> str:
    """One entry of `comparisons`: what was compared on what, the numbers, and what they say."""
    lines, arms = _heading(comparison), comparison["arms"]
    for which in EPOCHS:
        lines += ["", *(_block(arms[0], which) if len(arms) == 1 else _overview(comparison, which))]
    lines += ["", *_paragraph(f"* {chosen_note(comparison['best_chosen_on'])}.")]
    if len(arms) == 1 and arms[0]["final"]["mcnemar"]["pooled"]["caveat"]:
        lines += _paragraph(f"Pooled McNemar: {arms[0]['final']['mcnemar']['pooled']['caveat']}.")
    if any(arm["final"]["difference"]["t_interval"] for arm in arms):
        lines += _paragraph(RULE)
    for warning in comparison["warnings"]:
        lines += _paragraph(f"Warning: {warning}.")
    if comparison["data"]["stand_in"]:
        lines += _paragraph(f"{STAND_IN_NOTE[0].upper()}{STAND_IN_NOTE[1:]}.")
    for arm in arms:
        for which in EPOCHS:
            lines += ["", *_paragraph(arm[which]["sentence"])]
    return "\n".join(lines)


def left_out_text(left_out: list[str]) -> str:
    """What a comparison left out; `left_out` of `compare`."""
    why = "for want of a baseline (--baseline names one) or of its seeds"
    return "\n".join(_paragraph(f"Not compared, {why}: {', '.join(left_out)}."))


def _heading(comparison: dict) -> list[str]:
    data, hardware, versions = (comparison[key] for key in ("data", "hardware", "versions"))
    arms, baseline = comparison["arms"], comparison["baseline"]
    code = " / ".join(commit[:7] + "-dirty" * commit.endswith("-dirty") for commit in comparison["git_commits"])
    stand_in = ", stand-in data" if data["stand_in"] else ""
    facts = [
        ("baseline", f"{baseline['title']}: {baseline['name']}"),
        *(("arm", f"{arm['title']}: {arm['name']}, n = {arm['n']} ({_seeds(arm)})") for arm in arms),
        ("missing", "; ".join(comparison["missing"])),
        (
            "data",
            f"{data['name']}{stand_in}, {_images(data)}, sha256 {data['sha256'][:12]}",
        ),
        ("run on", f"{hardware['device']} ({hardware['gpu'] or hardware['cpu']}), {hardware['threads']} thread(s)"),
        ("with", ", ".join([*(f"{name} {version}" for name, version in versions.items()), f"code {code}"])),
        ("time", f"minutes a run: {_minutes(comparison)}"),
    ]
    lines = [comparison["title"], "=" * min(len(comparison["title"]), WIDTH)]
    for name, text in facts:
        lines += wrap(f"{name:9} {text}", WIDTH, subsequent_indent=" " * 10) if text else []
    return lines


def _images(data: dict) -> str:
    splits = data.get("splits", [data])
    train, evaluation = (
        f"{min(counts):,}" + (f" to {max(counts):,}" if len(set(counts)) > 1 else "")
        for counts in ([split[key] for split in splits] for key in ("train_images", "eval_images"))
    )
    several = f"{len(splits)} splits, each with " if len(splits) > 1 else ""
    return f"{several}{train} train and {evaluation} eval images"


def _seeds(arm: dict) -> str:
    return f"seed{'s' * (arm['n'] > 1)} {', '.join(map(str, arm['seeds']))}"


def _minutes(comparison: dict) -> str:
    baseline = max(comparison["arms"], key=lambda arm: arm["n"])["wall_s"]["baseline"]
    each = [
        (comparison["baseline"], baseline),
        *((arm, arm["wall_s"]["arm"]) for arm in comparison["arms"]),
    ]
    return ", ".join(f"{arm['title']} {np.mean(seconds) / 60:.1f}" for arm, seconds in each)


def _overview(comparison: dict, which: str) -> list[str]:
    """A line for each of several arms."""
    arms = comparison["arms"]
    what = f"{which} epoch{' *' * (which == 'best')}, accuracy in %, differences from the baseline in points"
    lines = wrap(f"{what}, intervals of {level_text(len(arms))}", WIDTH)
    columns = ("n", "mean (sd)", "diff.", "over seeds (t)", "images and seeds", "p")
    lines.append(_row(" " * LONGEST_TITLE, columns, ARM_WIDTHS))
    most = max(arms, key=lambda arm: arm["n"])
    of_baseline = (str(most["n"]), _mean_sd(most[which]["baseline"], 100, 2))
    lines.append(_row(_short(comparison["baseline"]["title"]), of_baseline, ARM_WIDTHS))
    for arm in arms:
        difference = arm[which]["difference"]
        cells = (
            str(arm["n"]), _mean_sd(arm[which]["arm"], 100, 2), points(difference["mean"]),
            interval_text(difference["t_interval"]), interval_text(difference["images_and_seeds_interval"]),
            "none" if difference["p"] is None else _p(difference["p"]),
        )  # fmt: skip
        lines.append(_row(_short(arm["title"]), cells, ARM_WIDTHS))
    return lines


def _short(title: str) -> str:
    return f"{title if len(title) < LONGEST_TITLE else f'{title[: LONGEST_TITLE - 2]}…':{LONGEST_TITLE}}"


def _block(arm: dict, which: str) -> list[str]:
    """All numbers of the only arm."""
    block = arm[which]
    header = f"{which} epoch{' *' * (which == 'best')}"
    columns = ("baseline (sd)", "arm (sd)", "difference (sd)", "95 % interval (t)")
    lines = [_row(f"{header:15}", columns, BLOCK_WIDTHS)]
    for name, key, factor, decimals in QUANTITIES:
        row = block[key] if key else block
        sides = (_mean_sd(row[side], factor, decimals) for side in ("baseline", "arm"))
        difference = _mean_sd(row["difference"], factor, decimals, sign="+")
        interval = interval_text(row["difference"]["t_interval"], factor, decimals)
        lines.append(_row(f"  {name:13}", (*sides, difference, interval), BLOCK_WIDTHS))
    return [*lines, *_other_intervals(block, arm["n"]), "", *_mcnemar(block)]


def _mean_sd(summary: dict, factor: float, decimals: int, sign: str = "") -> str:
    deviation = "" if summary["sd"] is None else f" ({summary['sd'] * factor:.{decimals}f})"
    return f"{summary['mean'] * factor:{sign}.{decimals}f}{deviation}"


def _other_intervals(block: dict, n: int) -> list[str]:
    difference, needed = block["difference"], block["seeds_needed_for_published"]
    rows = [("images resampled, for these networks only", interval_text(difference["images_interval"]))]
    if n > 1:
        p, found, effect = difference["t_p"], block["detectable_difference"], difference["effect_size"]["g"]
        published = f"seeds for {100 * needed['difference']:.3f} points (published for AlexNet), likewise"
        tested = difference["equivalence"] or {"margin": MARGIN, "t_interval": None}
        rows = [
            ("p of the paired t test", "none" if p is None else _p(p)),
            ("seeds resampled (bootstrap, too narrow for few seeds)", interval_text(difference["bootstrap_interval"])),
            ("images and seeds resampled", interval_text(difference["images_and_seeds_interval"])),
            *rows,
            (f"equivalence within {100 * tested['margin']:g} points: 90 % interval (t)",
             interval_text(tested["t_interval"])),
            ("effect size (Hedges' g of pairs)", _or_unknown(effect, 1, "+.2f")),
            (f"detectable with {n} seeds (t test on these images, 80 % power)", _or_unknown(found, 100, ".2f")),
            (published, _or_unknown(needed["n"], 1, ",")),
        ]  # fmt: skip
    return ["  arm - baseline in accuracy, points:", *(f"    {name:66}{value:>22}" for name, value in rows)]


def _or_unknown(number, factor: int, how: str) -> str:
    return "unknown" if number is None else f"{factor * number:{how}}"


def _mcnemar(block: dict) -> list[str]:
    columns = ("baseline", "arm, %", "difference", "only baseline right", "only arm right", "McNemar p")
    lines = [_row("  seed    ", columns, SEED_WIDTHS)]
    values = zip(*(block[side]["values"] for side in ("baseline", "arm")), block["difference"]["values"])
    for scores, test in zip(values, block["mcnemar"]["per_seed"]):
        baseline, arm, difference = scores
        cells = (f"{100 * baseline:.2f}", f"{100 * arm:.2f}", points(difference), *_counts(test))
        lines.append(_row(f"  {test['seed']:<8}", cells, SEED_WIDTHS))
    if len(lines) > 2:
        lines.append(_row("  pooled  ", ("", "", "", *_counts(block["mcnemar"]["pooled"])), SEED_WIDTHS))
    return lines


def _counts(test: dict) -> tuple[str, str, str]:
    return str(test["only_baseline_right"]), str(test["only_arm_right"]), _p(test["p"])


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _row(first: str, cells, widths) -> str:
    return (first + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths))).rstrip()


def _paragraph(text: str) -> list[str]:
    return wrap(text, WIDTH, break_long_words=False)
