"""A comparison (see `simam_repro.evaluation.comparison`) as a figure."""

import numpy as np

from simam_repro.evaluation.wording import level_text
from simam_repro.reporting.style import arm_looks, new_figure, save_figure, set_title

EPOCHS = ("final", "best")
# Interval in a difference, legend, distance from the dots and look.
INTERVALS = (
    ("t_interval", "mean, {level} over seeds (t)", 0.14, {"color": "black", "marker": "D"}),
    ("images_and_seeds_interval", "mean, {level} over images and seeds", 0.28, {"color": "#b0307a", "marker": "s"}),
)


def plot_comparison(comparisons: list[dict], path) -> None:
    """Write a PNG: a row a comparison. One arm: its pairs and differences; several: a line each, against the baseline.

    The final and the best epoch stand beside each other.
    """
    heights = [3.9 if len(one["arms"]) == 1 else 1.9 + 0.42 * len(one["arms"]) for one in comparisons]
    figure = new_figure(11, sum(heights) + 0.4)
    rows = figure.subfigures(len(comparisons), 1, squeeze=False, height_ratios=heights)[:, 0]
    for row, comparison in zip(rows, comparisons):
        (_plot_pair if len(comparison["arms"]) == 1 else _plot_arms)(row, comparison)
    set_title(figure, "", any(comparison["data"]["stand_in"] for comparison in comparisons))
    save_figure(figure, path)


def _plot_pair(row, comparison: dict) -> None:
    (arm,) = comparison["arms"]
    left, middle, right = row.subplots(1, 3, width_ratios=(1, 1, 1.5))
    middle.sharey(left)
    for panel, which in zip((left, middle), EPOCHS):
        _plot_seeds(panel, comparison, arm, which)
    _plot_differences(right, arm)
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


def _plot_differences(panel, arm: dict) -> None:
    panel.axhline(0, color="0.4", linewidth=1, linestyle="--")
    for place, which in enumerate(EPOCHS):
        difference = arm[which]["difference"]
        values, mean = 100 * np.array(difference["values"]), 100 * difference["mean"]
        panel.scatter(np.full(len(values), place), values, color="0.5", s=22, label="one seed" if not place else None)
        for key, label, shift, look in INTERVALS:
            if difference[key]:
                low, high = 100 * np.array(difference[key])
                panel.errorbar(
                    place + shift, mean, [[mean - low], [high - mean]], capsize=4, markersize=5, linestyle="none",
                    label=label.format(level=level_text(1)) if not place else None, **look,
                )  # fmt: skip
    panel.set_xticks([0.14, 1.14], ["final epoch", "best epoch"])
    panel.set_xlim(-0.3, 1.6)
    panel.set_ylabel("arm minus baseline, points")
    panel.set_title("difference\n", fontsize="small")
    panel.grid(axis="y", alpha=0.3)
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), fontsize="small", frameon=False)


def _plot_arms(row, comparison: dict) -> None:
    """A line an arm, the baseline first: accuracy of each seed, then the differences of both epochs."""
    arms, baseline = comparison["arms"], comparison["baseline"]
    titles = [baseline["title"], *(arm["title"] for arm in arms)]
    looks = arm_looks(titles)
    seeds, *panels = row.subplots(1, 3, sharey=True, width_ratios=(1, 1.2, 1.2))
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
    for panel, which in zip(panels, EPOCHS):
        _plot_arm_differences(panel, comparison, which, looks)
    for panel in (seeds, *panels):
        panel.grid(axis="x", alpha=0.3)
    counts = sorted({arm["n"] for arm in arms})
    row.suptitle(f"{comparison['title']}, {_count(counts[0])}{f' to {counts[-1]}' if counts[1:] else ''}",
                 fontsize="medium")  # fmt: skip
    handles, labels = panels[0].get_legend_handles_labels()
    row.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small", frameon=False)


def _plot_arm_differences(panel, comparison: dict, which: str, looks: dict) -> None:
    panel.axvline(0, color="0.4", linewidth=1, linestyle="--")
    labelled = set()

    def once(label: str) -> str | None:
        return None if label in labelled else labelled.add(label) or label

    for place, arm in enumerate(comparison["arms"], start=1):
        difference, colour = arm[which]["difference"], looks[arm["title"]]["color"]
        values, mean = 100 * np.array(difference["values"]), 100 * difference["mean"]
        panel.scatter(values, np.full(len(values), place - 0.25), color="0.6", s=14, label=once("one seed"))
        if difference["t_interval"] is None:
            panel.plot(mean, place, "o", markersize=6, color=colour, label=once("mean"))
        for (key, label, *_), (shift, width, marker, size) in zip(INTERVALS, ((0, 3, "o", 6), (0.25, 1.2, "s", 4))):
            if difference[key]:
                low, high = 100 * np.array(difference[key])
                panel.errorbar(
                    mean, place + shift, xerr=[[mean - low], [high - mean]], color=colour, marker=marker,
                    markersize=size, elinewidth=width, capsize=3, linestyle="none",
                    label=once(label.format(level=level_text(len(comparison["arms"])))),
                )  # fmt: skip
    panel.set_xlabel(f"minus {comparison['baseline']['title']}, points".replace("$", r"\$"))
    panel.set_title(f"{which} epoch" + (_chosen(comparison, which).replace("\n", " ") if which == "best" else ""),
                    fontsize="small")  # fmt: skip
