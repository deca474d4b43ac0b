"""The forest plot of README, report and compare: differences with both of their intervals, coloured by the verdict."""

import textwrap
from dataclasses import dataclass

from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from simam_repro.reporting.style import new_figure
from simam_repro.reporting.verdicts import LOOKS, NO_INTERVAL

LETTER = 0.088  # inches that a letter of a label takes at the most
THICK, THIN = 4.5, 1.3
# Of a row's height, from its middle: each seed, its label's foot.
SEEDS, LABEL = 0.2, -0.17


@dataclass(frozen=True)
class Row:
    """A difference of accuracies, arm minus baseline, as fractions.

    Attributes:
        label: above it, as many lines as it takes.
        difference: as in comparison.json.
        verdict: a key of `LOOKS`.
        group: a heading above the first of several rows.
    """

    label: str
    difference: dict
    verdict: str
    group: str = ""


def forest_figure(rows: list[Row], width: float, say=str):
    """A figure, `width` inches wide; `say` translates what is written on it, labels aside."""
    letters = int(width / LETTER)
    heights = [_height(row, above, letters) for above, row in zip([None, *rows], rows)]
    figure = new_figure(width, 0.44 * sum(heights) + 1.0)
    axes = figure.subplots()
    draw_forest(axes, rows, letters, heights)
    what = say("arm minus baseline, points: thick over seeds, thin over images and seeds")
    axes.set_xlabel(textwrap.fill(what, letters))
    figure.legend(**legend_of(rows, say, letters), loc="outside upper left", frameon=False, fontsize=9)
    return figure


def draw_forest(axes, rows: list[Row], letters: int, heights=None) -> None:
    """The rows from above, with their labels in the axes; `letters` fit into a line."""
    heights = heights or [_height(row, above, letters) for above, row in zip([None, *rows], rows)]
    axes.axvline(0, color="#7f7f7f", linewidth=1, zorder=0)
    foot = 0.0
    for row, height, above in zip(rows, heights, [None, *rows]):
        foot += height
        middle = foot - 0.4
        label = textwrap.fill(row.label, letters)
        axes.annotate(label, (0, middle + LABEL), va="bottom", **_at_left(axes))
        if _begins_group(row, above):
            lines = label.count("\n") + 1
            heading = textwrap.fill(row.group, letters)
            place = (0, middle + LABEL - 0.4 * lines)
            axes.annotate(heading, place, va="bottom", fontweight="bold", **_at_left(axes))
        _draw(axes, row, middle)
    axes.set_yticks([])
    axes.set_ylim(foot + 0.1, 0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
    axes.grid(axis="x", alpha=0.3)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def legend_of(rows: list[Row], say, letters: int) -> dict:
    """Handles and labels of a legend: the verdicts that are there."""
    present = [found for found in LOOKS if any(found == row.verdict for row in rows)]
    handles = [
        Line2D([], [], color=LOOKS[found][0], linewidth=0 if found == NO_INTERVAL else THICK, marker="o",
               markerfacecolor="#ffffff", markeredgecolor=LOOKS[found][0], markersize=6)
        for found in present
    ]  # fmt: skip
    return {"handles": handles, "labels": [textwrap.fill(say(LOOKS[found][1]), letters - 8) for found in present]}


def _at_left(axes) -> dict:
    # Out of the layout: a long label must not squeeze the axes.
    # On the page's colour: grid lines pass behind it.
    box = {"facecolor": "#ffffff", "edgecolor": "none", "pad": 0.5}
    return {"xycoords": axes.get_yaxis_transform(), "fontsize": 9, "in_layout": False, "bbox": box}


def _begins_group(row: Row, above: Row | None) -> bool:
    return bool(row.group) and (above is None or above.group != row.group)


def _height(row: Row, above: Row | None, letters: int) -> float:
    """In units of the y axis: 1 with a label of one line."""
    lines = len(textwrap.wrap(row.label, letters))
    heading = len(textwrap.wrap(row.group, letters)) + 0.35 if _begins_group(row, above) else 0
    return 0.62 + 0.4 * (lines + heading)


def _draw(axes, row: Row, middle: float) -> None:
    difference, colour = row.difference, LOOKS[row.verdict][0]
    values, mean = ([100 * value for value in difference["values"]], 100 * difference["mean"])
    hollow = {"color": colour, "markerfacecolor": "#ffffff", "linestyle": "none"}
    if row.verdict == NO_INTERVAL:
        axes.plot(values, [middle] * len(values), "o", markersize=6, **hollow)
        return
    for key, thickness, shift in (("t_interval", THICK, 0.0), ("images_and_seeds_interval", THIN, 0.13)):
        if difference[key]:
            ends = [100 * end for end in difference[key]]
            axes.plot(ends, [middle + shift] * 2, color=colour, linewidth=thickness, solid_capstyle="butt")
    axes.plot(mean, middle, "o", markersize=7, **hollow)
    axes.plot(values, [middle + SEEDS + 0.08] * len(values), "|", color="#7f7f7f", markersize=5, linestyle="none")
