"""A comparison (see `simam_repro.evaluation.comparison`) as a figure."""

import numpy as np

from simam_repro.evaluation.wording import level_text
from simam_repro.reporting.forest import Row, draw_forest, forest_height, legend_of
from simam_repro.reporting.key_figure import numeric_key, plot_key
from simam_repro.reporting.style import arm_looks, new_figure, save_figure, set_title
from simam_repro.reporting.verdicts import judged

EPOCHS = ("final", "best")
LETTERS = 45  # of a label of the forests


def plot_comparison(comparisons: list[dict], path) -> None:
    """Write a PNG: a row a comparison. One arm: its pairs and differences; several: a line each, against the baseline,
    or, where they are one module with another number each, the differences over that number.

    The final and the best epoch stand beside each other.
    """
    verdicts = {which: judged(comparisons, which) for which in EPOCHS}
    forests = [
        {which: _forest_rows(comparison, rows, which) for which, rows in verdicts.items()} for comparison in comparisons
    ]
    keys = [numeric_key(comparison) for comparison in comparisons]
    heights = [
        3.9 if key else max(3.9, 1.6 + forest_height(forest["final"], LETTERS)) for key, forest in zip(keys, forests)
    ]
    figure = new_figure(11, sum(heights) + 0.4)
    rows = figure.subfigures(len(comparisons), 1, squeeze=False, height_ratios=heights)[:, 0]
    for row, comparison, forest, key in zip(rows, comparisons, forests, keys):
        if key:
            plot_key(row, comparison, key)
            continue
        (_plot_pair if len(comparison["arms"]) == 1 else _plot_arms)(row, comparison, forest)
        legend = legend_of([one for which in EPOCHS for one in forest[which]], str, 2 * LETTERS)
        level = level_text(len(comparison["arms"]))
        row.legend(**legend, loc="outside lower right", ncols=2, fontsize="small", frameon=False,
                   title=f"{level}: thick over seeds, thin over images and seeds", title_fontsize="small")  # fmt: skip
    set_title(figure, "", any(comparison["data"]["stand_in"] for comparison in comparisons))
    save_figure(figure, path)


def _forest_rows(comparison: dict, rows, which: str) -> list[Row]:
    """A row for each arm; of a single one, named after the epoch."""
    single = len(comparison["arms"]) == 1
    return [
        Row(f"{which} epoch" if single else arm["title"], arm[which]["difference"], found)
        for one, arm, _, found in rows
        if one is comparison
    ]


def _plot_pair(row, comparison: dict, forest: dict[str, list[Row]]) -> None:
    (arm,) = comparison["arms"]
    left, middle, right = row.subplots(1, 3, width_ratios=(1, 1, 1.5))
    middle.sharey(left)
    for panel, which in zip((left, middle), EPOCHS):
        _plot_seeds(panel, comparison, arm, which)
    _plot_forest(right, comparison, [*forest["final"], *forest["best"]], "difference\n")
    row.suptitle(f"{comparison['title']}, {_count(arm['n'])}", fontsize="medium")


def _count(n: int) -> str:
    return f"{n} seed{'s' * (n > 1)}"


def _plot_seeds(panel, comparison: dict, arm: dict, which: str) -> None:
    block, titles = arm[which], [comparison["baseline"]["title"], arm["title"]]
    baseline, values = (100 * np.array(block[side]["values"]) for side in ("baseline", "arm"))
    panel.plot([0, 1], [baseline, values], color="0.6", linewidth=1, zorder=1)
    first, second = (look["color"] for look in arm_looks(titles).values())
    panel.scatter(np.zeros_like(baseline), baseline, color="white", edgecolor=first, linewidth=1.5, zorder=2)
    panel.scatter(np.ones_like(values), values, color=second, edgecolor=second, linewidth=1.5, zorder=2)
    for place, numbers in ((-0.12, baseline), (1.12, values)):
        panel.plot([place - 0.06, place + 0.06], [numbers.mean()] * 2, color="black", linewidth=2)
    panel.set_xticks([0, 1], [_broken(title) for title in titles])
    panel.set_xlim(-0.45, 1.45)
    panel.set_ylabel("eval accuracy, %")
    panel.set_title(f"{which} epoch{_chosen(comparison, which)}", fontsize="small")
    panel.grid(axis="y", alpha=0.3)


def _broken(title: str) -> str:
    return title.replace(" (", "\n(").replace("$", r"\$")


def _chosen(comparison: dict, which: str) -> str:
    return f"\n(chosen on {comparison['best_chosen_on']} images)" if which == "best" else "\n(bars: means)"


def _plot_forest(panel, comparison: dict, rows: list[Row], title: str) -> None:
    draw_forest(panel, rows, LETTERS)
    panel.set_xlabel(f"minus {comparison['baseline']['title']}, points".replace("$", r"\$"))
    panel.set_title(title, fontsize="small")


def _plot_arms(row, comparison: dict, forest: dict[str, list[Row]]) -> None:
    """Accuracy of each seed, a line an arm, the baseline first; then the differences of both epochs."""
    arms, baseline = comparison["arms"], comparison["baseline"]
    titles = [baseline["title"], *(arm["title"] for arm in arms)]
    looks = arm_looks(titles)
    seeds, *panels = row.subplots(1, 3, width_ratios=(1, 1.2, 1.2))
    most = max(arms, key=lambda arm: arm["n"])
    for place, (title, block) in enumerate(
        [(titles[0], most["final"]["baseline"]), *((arm["title"], arm["final"]["arm"]) for arm in arms)]
    ):
        values = 100 * np.array(block["values"])
        fill = {"facecolor": "white"} if not place else {}
        seeds.scatter(values, np.full(len(values), place), edgecolor=looks[title]["color"], linewidth=1.5,
                      marker=looks[title]["marker"], **({"color": looks[title]["color"]} | fill), zorder=2)  # fmt: skip
        seeds.plot([values.mean()] * 2, [place - 0.3, place + 0.3], color="black", linewidth=2)
    seeds.axvline(100 * most["final"]["baseline"]["mean"], color="0.4", linewidth=1, linestyle="--", zorder=0)
    seeds.set_yticks(range(len(titles)), [title.replace("$", r"\$") for title in titles])
    seeds.set_ylim(len(titles) - 0.4, -0.6)
    seeds.set_xlabel("eval accuracy, % (bars: means)")
    seeds.set_title("final epoch", fontsize="small")
    seeds.grid(axis="x", alpha=0.3)
    for panel, which in zip(panels, EPOCHS):
        title = f"{which} epoch" + (_chosen(comparison, which).replace("\n", " ") if which == "best" else "")
        _plot_forest(panel, comparison, forest[which], title)
    counts = sorted({arm["n"] for arm in arms})
    row.suptitle(f"{comparison['title']}, {_count(counts[0])}{f' to {counts[-1]}' if counts[1:] else ''}",
                 fontsize="medium")  # fmt: skip
