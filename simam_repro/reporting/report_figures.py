"""The figures of the report: narrow enough for a phone, as SVG in the page."""

import base64
import io
import textwrap

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from simam_repro.reporting.curves import COLOURS
from simam_repro.reporting.style import arm_looks, new_figure

WIDTH = 4.8  # inches
LABEL_WIDTH = 64  # letters
OFF, ON, MUTED = COLOURS[0], COLOURS[1], "#7f7f7f"


def as_svg(figure) -> str:
    """A figure as the source of an <img>. The same figure gives the same text."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "report"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def as_png(path) -> str:
    """A PNG file as the source of an <img>."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def forest(rows: list[dict]) -> str:
    """Differences, arm minus baseline, with their intervals, a row each, around zero.

    Args:
        rows: {"label", "difference", "interval" and "second" (low, high) or None, "filled"}, in points of accuracy.
    """
    figure = new_figure(WIDTH, 0.8 + 0.7 * len(rows))
    axes = figure.subplots()
    axes.axvline(0, color=MUTED, linewidth=1)
    for position, row in enumerate(rows):
        look = {"color": ON if row["filled"] else MUTED, "markerfacecolor": ON if row["filled"] else "white"}
        if row["interval"]:
            axes.plot(row["interval"], [position] * 2, "-", linewidth=2.5, color=look["color"])
        if row["second"]:
            axes.plot(row["second"], [position + 0.13] * 2, "-", linewidth=1, color=look["color"])
        axes.plot(row["difference"], position, "o", markersize=7, **look)
        # Above its line, not beside it: names are long and phones narrow.
        axes.annotate(
            textwrap.fill(row["label"], LABEL_WIDTH), (0.01, position - 0.14), xycoords=("axes fraction", "data"),
            fontsize=8, va="bottom", in_layout=False,
        )  # fmt: skip
    axes.set_yticks([])
    axes.set_ylim(len(rows) - 0.7, -0.8)
    axes.set_xlabel("final accuracy, arm minus baseline (points)")
    axes.grid(axis="x", alpha=0.3)
    return as_svg(figure)


def paired(comparison: dict, arm: dict) -> str:
    """Of the only arm: each seed a line from the baseline; beside it the differences with their mean and t interval."""
    block, titles = arm["final"], [comparison["baseline"]["title"], arm["title"]]
    colour = arm_looks(titles)[arm["title"]]["color"]
    figure = new_figure(WIDTH, 3.0)
    dots, differences = figure.subplots(1, 2, width_ratios=[3, 2])
    values = block["arm"]["values"]
    for baseline, value in zip(block["baseline"]["values"], values):
        dots.plot([0, 1], [baseline, value], "o-", color=MUTED, linewidth=1, markersize=5)
    for value in sorted(set(values)):
        here = [str(seed) for seed, other in zip(arm["seeds"], values) if other == value]
        label = f"seed {', '.join(here)}"
        dots.annotate(label, (1, value), (6, 0), textcoords="offset points", va="center", fontsize=7)
    dots.set_xticks([0, 1], [_plain(title) for title in titles])
    dots.set_xlim(-0.2, 1.45)
    dots.set_ylabel("accuracy")
    dots.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    points = 100 * np.array(block["difference"]["values"])
    differences.axhline(0, color=MUTED, linewidth=1)
    differences.plot(np.zeros(len(points)), points, "o", color=MUTED, markersize=5)
    interval = block["difference"]["t_interval"]
    if interval:
        differences.plot([0.4] * 2, 100 * np.array(interval), "-", color=colour, linewidth=2)
        differences.plot(0.4, points.mean(), "o", color=colour, markersize=7)
    differences.set_xticks([0, 0.4], ["seeds", "mean,\n95 %"])
    differences.set_xlim(-0.25, 0.65)
    differences.set_ylabel("difference (points)")
    for axes in (dots, differences):
        axes.grid(axis="y", alpha=0.3)
    return as_svg(figure)


def _plain(text: str) -> str:
    return text.replace("$", r"\$")


def arms(comparison: dict) -> str:
    """Of several arms: a line each, the difference of the final accuracy with both intervals."""
    arms = comparison["arms"]
    looks = arm_looks([comparison["baseline"]["title"], *(arm["title"] for arm in arms)])
    figure = new_figure(WIDTH, 1.0 + 0.38 * len(arms))
    axes = figure.subplots()
    axes.axvline(0, color=MUTED, linewidth=1)
    for place, arm in enumerate(arms):
        difference, colour = arm["final"]["difference"], looks[arm["title"]]["color"]
        for key, width, shift in (("t_interval", 2.5, 0), ("images_and_seeds_interval", 1, 0.25)):
            if difference[key]:
                axes.plot(100 * np.array(difference[key]), [place + shift] * 2, "-", linewidth=width, color=colour)
        axes.plot(100 * np.array(difference["values"]), [place - 0.25] * arm["n"], ".", color=MUTED, markersize=4)
        axes.plot(100 * difference["mean"], place, "o", color=colour, markersize=6)
    axes.set_yticks(range(len(arms)), [_plain(textwrap.fill(arm["title"], 22)) for arm in arms], fontsize=8)
    axes.set_ylim(len(arms) - 0.5, -0.6)
    axes.set_xlabel(_plain(f"final accuracy minus {comparison['baseline']['title']}'s (points)"))
    axes.grid(axis="x", alpha=0.3)
    return as_svg(figure)


def mean_curves(records: dict[str, list[list[dict]]]) -> str:
    """Accuracy over epochs: the mean over the runs of each arm, and the range of the eval accuracy.

    Args:
        records: {title of an arm: [records of a run, ...]}, the baseline first.
    """
    figure = new_figure(WIDTH, 3.0 + 0.1 * len(records))
    axes = figure.subplots()
    looks, crowded = arm_looks(records), len(records) > 2
    for position, (title, runs) in enumerate(records.items()):
        colour, line = looks[title]["color"], "-" if position else "--"
        epochs = [record["epoch"] for record in runs[0]]
        for key, width, what in (("eval_acc", 2, "eval"), ("train_acc", 0.8, "train")):
            if crowded and what == "train":
                continue
            values = np.array([[record[key] for record in run] for run in runs])
            label = _plain(title if crowded else f"{title}, {what}")
            axes.plot(epochs, values.mean(axis=0), line, color=colour, linewidth=width, label=label)
            if what == "eval" and len(values) > 1 and not crowded:
                axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel("eval accuracy" if crowded else "accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    return as_svg(figure)


def robustness(comparison: dict, levels: list[int]) -> str:
    """Mean accuracy over the corruptions by severity (`levels`), and accuracy under the attacks by budget."""
    figure = new_figure(WIDTH, 3.0)
    corrupted, attacked = figure.subplots(1, 2, sharey=True)
    corruptions = comparison.get("corruptions", {}).values()
    titles = [comparison[side]["title"] for side in ("baseline", "arm")]
    for side, title, line in zip(("baseline", "arm"), titles, ("--", "-")):
        colour, title = arm_looks(titles)[title]["color"], _plain(title)
        clean = comparison["clean"][side]["mean"]
        if corruptions:
            accuracy = [clean, *np.mean([entry["by_severity"][side] for entry in corruptions], axis=0)]
            corrupted.plot([0, *levels], accuracy, line, marker="o", color=colour, label=title)
        for name, marker in (("fgsm", "s"), ("pgd", "^")):
            attack = comparison["attacks"].get(name)
            if attack:
                accuracy = [clean, *np.mean(attack[side], axis=0)]
                budgets = [0, *(255 * eps for eps in attack["eps"])]
                attacked.plot(
                    budgets, accuracy, line, marker=marker, color=colour, label=f"{title}, {name.upper()}"
                )  # fmt: skip
    corrupted.set_xlabel("severity of corruptions")
    corrupted.set_ylabel("accuracy")
    attacked.set_xlabel("budget of attacks (1/255)")
    corrupted.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (corrupted, attacked):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="x-small")
    return as_svg(figure)


def speed_bars(rows: list[tuple[str, float, str]], unit: str) -> str:
    """Horizontal bars: (label, value, colour) each."""
    figure = new_figure(WIDTH, 0.6 + 0.3 * len(rows))
    axes = figure.subplots()
    values = [value for _, value, _ in rows]
    axes.barh(range(len(rows)), values, color=[colour for _, _, colour in rows])
    for position, value in enumerate(values):
        text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        axes.annotate(text, (value, position), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * max(values))
    axes.set_xlabel(unit)
    return as_svg(figure)
