"""A comparison (see `simam_repro.evaluation.comparison`) as text for the terminal and as a figure."""

from textwrap import wrap

import numpy as np

from simam_repro.evaluation.wording import chosen_note, interval_text, points
from simam_repro.reporting.curves import COLOURS
from simam_repro.reporting.style import new_figure, save_figure, set_title
from simam_repro.runs import STAND_IN_NOTE

WIDTH = 100
BLOCK_WIDTHS = (17, 17, 21, 22)
SEED_WIDTHS = (9, 9, 11, 17, 17, 13)
EPOCHS = ("final", "best")
# Row, key in a block, factor and decimals of the printed numbers.
QUANTITIES = (("accuracy, %", None, 100, 2), ("loss, nats", "loss", 1, 4), ("ECE, %", "ece", 100, 2))
OFF_COLOUR, ON_COLOUR = COLOURS[:2]


def comparison_text(comparison: dict) -> str:
    """One entry of `comparisons`: what was compared on what, the numbers, and what they say."""
    lines = _heading(comparison)
    for which in EPOCHS:
        lines += ["", *_block(comparison, which)]
    lines += ["", *_paragraph(f"* {chosen_note(comparison['best_chosen_on'])}.")]
    if comparison["n"] > 1:
        lines += _paragraph(f"Pooled McNemar: {comparison['final']['mcnemar']['pooled']['caveat']}.")
    for warning in comparison["warnings"]:
        lines += _paragraph(f"Warning: {warning}.")
    if comparison["data"]["stand_in"]:
        lines += _paragraph(f"{STAND_IN_NOTE[0].upper()}{STAND_IN_NOTE[1:]}.")
    for which in EPOCHS:
        lines += ["", *_paragraph(comparison[which]["sentence"])]
    return "\n".join(lines)


def unpaired_text(unpaired: list[str]) -> str:
    """What a comparison left out; `unpaired` of `compare`."""
    return "\n".join(_paragraph(f"Not compared, for want of their other half: {', '.join(unpaired)}."))


def _heading(comparison: dict) -> list[str]:
    data, hardware, versions = (comparison[key] for key in ("data", "hardware", "versions"))
    seeds = ", ".join(map(str, comparison["seeds"]))
    minutes = {half: np.mean(seconds) / 60 for half, seconds in comparison["wall_s"].items()}
    code = " / ".join(commit[:7] + "-dirty" * commit.endswith("-dirty") for commit in comparison["git_commits"])
    stand_in = ", stand-in data" if data["stand_in"] else ""
    facts = (
        ("off", comparison["off"]),
        ("on", f"{comparison['on']}{_lambda(comparison)}"),
        ("n", f"{comparison['n']} (seed{'s' * (comparison['n'] > 1)} {seeds})"),
        ("missing", "; ".join(comparison["missing"])),
        (
            "data",
            f"{data['name']}{stand_in}, {data['train_images']:,} train and {data['eval_images']:,} eval images, "
            f"sha256 {data['sha256'][:12]}",
        ),
        ("run on", f"{hardware['device']} ({hardware['gpu'] or hardware['cpu']}), {hardware['threads']} thread(s)"),
        ("with", ", ".join([*(f"{name} {version}" for name, version in versions.items()), f"code {code}"])),
        ("time", f"{minutes['off']:.1f} minutes a run off, {minutes['on']:.1f} on"),
    )
    lines = [comparison["title"], "=" * min(len(comparison["title"]), WIDTH)]
    for name, text in facts:
        lines += wrap(f"{name:8} {text}", WIDTH, subsequent_indent=" " * 9) if text else []
    return lines


def _block(comparison: dict, which: str) -> list[str]:
    block = comparison[which]
    header = f"{which} epoch{' *' * (which == 'best')}"
    columns = ("off: mean (sd)", "on: mean (sd)", "on - off: mean (sd)", "95 % interval (t)")
    lines = [_row(f"{header:15}", columns, BLOCK_WIDTHS)]
    for name, key, factor, decimals in QUANTITIES:
        row = block[key] if key else block
        off, on = (_mean_sd(row[half], factor, decimals) for half in ("off", "on"))
        difference = _mean_sd(row["difference"], factor, decimals, sign="+")
        interval = interval_text(row["difference"]["t_interval"], factor, decimals)
        lines.append(_row(f"  {name:13}", (off, on, difference, interval), BLOCK_WIDTHS))
    return [*lines, *_other_intervals(block, comparison["n"]), "", *_mcnemar(block)]


def _mean_sd(summary: dict, factor: float, decimals: int, sign: str = "") -> str:
    deviation = "" if summary["sd"] is None else f" ({summary['sd'] * factor:.{decimals}f})"
    return f"{summary['mean'] * factor:{sign}.{decimals}f}{deviation}"


def _other_intervals(block: dict, n: int) -> list[str]:
    difference, needed = block["difference"], block["seeds_needed_for_published"]
    rows = [("images resampled, for these networks only", interval_text(difference["images_interval"]))]
    if n > 1:
        p, found = difference["t_p"], block["detectable_difference"]
        published = f"seeds for {100 * needed['difference']:.3f} points (published for AlexNet), likewise"
        rows = [
            ("p of the paired t test", "none" if p is None else _p(p)),
            ("seeds resampled (bootstrap, too narrow for few seeds)", interval_text(difference["bootstrap_interval"])),
            ("images and seeds resampled", interval_text(difference["images_and_seeds_interval"])),
            *rows,
            (f"detectable with {n} seeds (t test on these images, 80 % power)", _or_unknown(found, 100, ".2f")),
            (published, _or_unknown(needed["n"], 1, ",")),
        ]
    return ["  on - off in accuracy, points:", *(f"    {name:66}{value:>22}" for name, value in rows)]


def _or_unknown(number, factor: int, how: str) -> str:
    return "unknown" if number is None else f"{factor * number:{how}}"


def _mcnemar(block: dict) -> list[str]:
    columns = ("off, %", "on, %", "on - off", "only off right", "only on right", "McNemar p")
    lines = [_row("  seed    ", columns, SEED_WIDTHS)]
    values = zip(*(block[half]["values"] for half in ("off", "on")), block["difference"]["values"])
    for scores, test in zip(values, block["mcnemar"]["per_seed"]):
        off, on, difference = scores
        cells = (f"{100 * off:.2f}", f"{100 * on:.2f}", points(difference), *_counts(test))
        lines.append(_row(f"  {test['seed']:<8}", cells, SEED_WIDTHS))
    if len(lines) > 2:
        lines.append(_row("  pooled  ", ("", "", "", *_counts(block["mcnemar"]["pooled"])), SEED_WIDTHS))
    return lines


def _counts(test: dict) -> tuple[str, str, str]:
    return str(test["only_off_right"]), str(test["only_on_right"]), _p(test["p"])


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _row(first: str, cells, widths) -> str:
    return first + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths))


def _paragraph(text: str) -> list[str]:
    return wrap(text, WIDTH, break_long_words=False)


def plot_comparison(comparisons: list[dict], path) -> None:
    """Write a PNG: a row a comparison; the pairs of the final and of the best epoch, and their differences."""
    figure = new_figure(11, 3.9 * len(comparisons) + 0.4)
    rows = figure.subfigures(len(comparisons), 1, squeeze=False)[:, 0]
    for row, comparison in zip(rows, comparisons):
        left, middle, right = row.subplots(1, 3, width_ratios=(1, 1, 1.5))
        middle.sharey(left)
        for panel, which in zip((left, middle), EPOCHS):
            _plot_pairs(panel, comparison, which)
        _plot_differences(right, comparison)
        count = f"{comparison['n']} seed{'s' * (comparison['n'] > 1)}"
        row.suptitle(f"{comparison['title']}, {count}; on{_lambda(comparison).replace(',', ':', 1)}", fontsize="medium")
    set_title(figure, "", any(comparison["data"]["stand_in"] for comparison in comparisons))
    save_figure(figure, path)


def _plot_pairs(panel, comparison: dict, which: str) -> None:
    block = comparison[which]
    off, on = (100 * np.array(block[half]["values"]) for half in ("off", "on"))
    panel.plot([0, 1], [off, on], color="0.6", linewidth=1, zorder=1)
    panel.scatter(np.zeros_like(off), off, color="white", edgecolor=OFF_COLOUR, linewidth=1.5, zorder=2)
    panel.scatter(np.ones_like(on), on, color=ON_COLOUR, edgecolor=ON_COLOUR, linewidth=1.5, zorder=2)
    for place, values, side in ((-0.12, off, "right"), (1.12, on, "left")):
        panel.plot([place - 0.06, place + 0.06], [values.mean()] * 2, color="black", linewidth=2)
    panel.set_xticks([0, 1], ["without\nSimAM", "with\nSimAM"])
    panel.set_xlim(-0.45, 1.45)
    panel.set_ylabel("eval accuracy, %")
    panel.set_title(f"{which} epoch{_chosen(comparison, which)}", fontsize="small")
    panel.grid(axis="y", alpha=0.3)


def _chosen(comparison: dict, which: str) -> str:
    return f"\n(chosen on {comparison['best_chosen_on']} images)" if which == "best" else "\n(bars: means)"


# Interval in a block, legend, distance from the dots and look.
INTERVALS = (
    ("t_interval", "mean, 95 % interval over seeds (t)", 0.14, {"color": "black", "marker": "D"}),
    ("images_and_seeds_interval", "mean, 95 % over images and seeds", 0.28, {"color": COLOURS[3], "marker": "s"}),
)


def _plot_differences(panel, comparison: dict) -> None:
    panel.axhline(0, color="0.4", linewidth=1, linestyle="--")
    for place, which in enumerate(EPOCHS):
        difference = comparison[which]["difference"]
        values, mean = 100 * np.array(difference["values"]), 100 * difference["mean"]
        panel.scatter(np.full(len(values), place), values, color="0.5", s=22, label="one seed" if not place else None)
        for key, label, shift, look in INTERVALS:
            if difference[key]:
                low, high = 100 * np.array(difference[key])
                panel.errorbar(
                    place + shift, mean, [[mean - low], [high - mean]], capsize=4, markersize=5, linestyle="none",
                    label=label if not place else None, **look,
                )  # fmt: skip
    panel.set_xticks([0.14, 1.14], ["final epoch", "best epoch"])
    panel.set_xlim(-0.3, 1.6)
    panel.set_ylabel("with minus without, points")
    panel.set_title("difference\n", fontsize="small")
    panel.grid(axis="y", alpha=0.3)
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), fontsize="small", frameon=False)


def _lambda(comparison: dict) -> str:
    return "" if comparison["e_lambda"] is None else f", lambda {comparison['e_lambda']:g}"
