"""The figures of the report: narrow enough for a phone, as SVG in the page."""

import base64
import io
import textwrap

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from simam_repro.reporting.curves import COLOURS
from simam_repro.reporting.style import new_figure

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
    """Differences on - off with their intervals, a row each, around zero.

    Args:
        rows: {"label", "difference", "interval" (low, high) or None, "filled"}, in points of accuracy.
    """
    figure = new_figure(WIDTH, 0.8 + 0.7 * len(rows))
    axes = figure.subplots()
    axes.axvline(0, color=MUTED, linewidth=1)
    for position, row in enumerate(rows):
        look = {"color": ON if row["filled"] else MUTED, "markerfacecolor": ON if row["filled"] else "white"}
        if row["interval"]:
            axes.plot(row["interval"], [position] * 2, "-", linewidth=2, color=look["color"])
        axes.plot(row["difference"], position, "o", markersize=7, **look)
        # Above its line, not beside it: names are long and phones narrow.
        axes.annotate(
            textwrap.fill(row["label"], LABEL_WIDTH), (0.01, position - 0.14), xycoords=("axes fraction", "data"),
            fontsize=8, va="bottom", in_layout=False,
        )  # fmt: skip
    axes.set_yticks([])
    axes.set_ylim(len(rows) - 0.7, -0.8)
    axes.set_xlabel("final accuracy, SimAM on minus off (points)")
    axes.grid(axis="x", alpha=0.3)
    return as_svg(figure)


def paired(seeds: list[int], block: dict) -> str:
    """Each seed a line from off to on; beside it the differences with their mean and t interval."""
    figure = new_figure(WIDTH, 3.0)
    dots, differences = figure.subplots(1, 2, width_ratios=[3, 2])
    for off, on in zip(block["off"]["values"], block["on"]["values"]):
        dots.plot([0, 1], [off, on], "o-", color=MUTED, linewidth=1, markersize=5)
    for on in sorted(set(block["on"]["values"])):
        here = [str(seed) for seed, value in zip(seeds, block["on"]["values"]) if value == on]
        label = f"seed {', '.join(here)}"
        dots.annotate(label, (1, on), (6, 0), textcoords="offset points", va="center", fontsize=7)
    dots.set_xticks([0, 1], ["off", "on"])
    dots.set_xlim(-0.2, 1.45)
    dots.set_ylabel("accuracy")
    dots.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    points = 100 * np.array(block["difference"]["values"])
    differences.axhline(0, color=MUTED, linewidth=1)
    differences.plot(np.zeros(len(points)), points, "o", color=MUTED, markersize=5)
    interval = block["difference"]["t_interval"]
    if interval:
        differences.plot([0.4] * 2, 100 * np.array(interval), "-", color=ON, linewidth=2)
        differences.plot(0.4, points.mean(), "o", color=ON, markersize=7)
    differences.set_xticks([0, 0.4], ["seeds", "mean,\n95 %"])
    differences.set_xlim(-0.25, 0.65)
    differences.set_ylabel("on minus off (points)")
    for axes in (dots, differences):
        axes.grid(axis="y", alpha=0.3)
    return as_svg(figure)


def mean_curves(halves: dict[str, list[list[dict]]]) -> str:
    """Accuracy over epochs: the mean over the runs of each half, and the range of them.

    Args:
        halves: {"off": [records of a run, ...], "on": ...}.
    """
    figure = new_figure(WIDTH, 3.0)
    axes = figure.subplots()
    for half, colour, line in (("off", OFF, "--"), ("on", ON, "-")):
        epochs = [record["epoch"] for record in halves[half][0]]
        for key, width, label in (("eval_acc", 2, f"{half}, eval"), ("train_acc", 0.8, f"{half}, train")):
            values = np.array([[record[key] for record in records] for records in halves[half]])
            axes.plot(epochs, values.mean(axis=0), line, color=colour, linewidth=width, label=label)
            if key == "eval_acc" and len(values) > 1:
                axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize="small")
    return as_svg(figure)


def robustness(comparison: dict, levels: list[int]) -> str:
    """Mean accuracy over the corruptions by severity (`levels`), and accuracy under the attacks by budget."""
    figure = new_figure(WIDTH, 3.0)
    corrupted, attacked = figure.subplots(1, 2, sharey=True)
    corruptions = comparison.get("corruptions", {}).values()
    for half, colour, line in (("off", OFF, "--"), ("on", ON, "-")):
        clean = comparison["clean"][half]["mean"]
        if corruptions:
            accuracy = [clean, *np.mean([entry["by_severity"][half] for entry in corruptions], axis=0)]
            corrupted.plot([0, *levels], accuracy, line, marker="o", color=colour, label=half)
        for name, marker in (("fgsm", "s"), ("pgd", "^")):
            attack = comparison["attacks"].get(name)
            if attack:
                accuracy = [clean, *np.mean(attack[half], axis=0)]
                budgets = [0, *(255 * eps for eps in attack["eps"])]
                label = f"{half}, {name.upper()}"
                attacked.plot(budgets, accuracy, line, marker=marker, color=colour, label=label)
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
