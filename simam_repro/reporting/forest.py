"""The forest plot of README, report and compare: differences with both of their intervals, coloured by the verdict."""

import re
import unicodedata
from dataclasses import dataclass

from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from simam_repro.reporting.style import new_figure
from simam_repro.reporting.verdicts import LOOKS, NO_INTERVAL

LETTER = 0.08  # inches that a letter of a label takes
THICK, THIN = 4.5, 1.3
SMALLEST_SPAN = 2.0  # points: nothing looks like much that is not
# Of a row's height, from its middle: each seed, its label's foot.
SEEDS, LABEL = 0.2, -0.17


@dataclass(frozen=True)
class Row:
    """A difference of accuracies, arm minus baseline, as fractions.

    Attributes:
        label: above it, as many lines as it takes.
        difference: as in comparison.json.
        verdict: a key of `LOOKS`.
    """

    label: str
    difference: dict
    verdict: str


def forest_figure(rows: list[Row], width: float, say=str):
    """A figure, `width` inches wide, with its legend; `say` translates what is written on it, labels aside."""
    letters = int(width / LETTER)
    figure = new_figure(width, forest_height(rows, letters) + 1.0)
    axes = figure.subplots()
    draw_forest(axes, rows, letters)
    axes.set_xlim(*limits_of(rows))
    intervals = any(row.verdict != NO_INTERVAL for row in rows)
    what = say("arm minus baseline, points" + ": thick over seeds, thin over images and seeds" * intervals)
    axes.set_xlabel(fill(what, int(0.9 * letters)))
    figure.legend(**legend_of(rows, say, letters), loc="outside upper left", frameon=False, fontsize=9)
    return figure


def forest_strip(rows: list[Row], width: float, limits: tuple[float, float]):
    """The same without a legend, on an axis from the lower to the upper limit, in points: one of several to compare."""
    letters = int(width / LETTER)
    figure = new_figure(width, forest_height(rows, letters) + 0.42)
    axes = figure.subplots()
    draw_forest(axes, rows, letters)
    axes.set_xlim(*limits)
    return figure


def limits_of(rows: list[Row]) -> tuple[float, float]:
    """Of an axis that has room for all of the rows, and for zero, in points."""
    ends = [0.0]
    for row in rows:
        intervals = [row.difference[f"{over}_interval"] or () for over in ("t", "images_and_seeds")]
        ends += [100 * end for end in (*row.difference["values"], *intervals[0], *intervals[1])]
    span = max(ends) - min(ends)
    margin = max(0.04 * span, (SMALLEST_SPAN - span) / 2)
    return min(ends) - margin, max(ends) + margin


def forest_height(rows: list[Row], letters: int) -> float:
    """In inches, of the axes of `draw_forest`."""
    return 0.44 * (sum(_heights(rows, letters)) + 0.1)


def draw_forest(axes, rows: list[Row], letters: int) -> None:
    """The rows from above, with their labels in the axes; `letters` fit into a line."""
    axes.axvline(0, color="#7f7f7f", linewidth=1, zorder=0)
    foot = 0.0
    # On the page's colour: grid lines pass behind it. Not in the layout: a long label must not squeeze the axes.
    look = {"fontsize": 9, "in_layout": False, "bbox": {"facecolor": "#ffffff", "edgecolor": "none", "pad": 0.5}}
    for row, height in zip(rows, _heights(rows, letters)):
        foot += height
        middle = foot - 0.4
        place = (0, middle + LABEL)
        axes.annotate(fill(row.label, letters), place, va="bottom", xycoords=axes.get_yaxis_transform(), **look)
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
    return {"handles": handles, "labels": [fill(say(LOOKS[found][1]), int(0.9 * letters) - 8) for found in present]}


def _heights(rows: list[Row], letters: int) -> list[float]:
    """Of each row, in units of the y axis."""
    return [0.62 + 0.4 * (fill(row.label, letters).count("\n") + 1) for row in rows]


def fill(text: str, letters: int) -> str:
    """The text in lines of so many letters at the most; a Chinese letter is as wide as two, and may end a line."""
    lines, width = [""], 0
    for word in re.findall(r"[\u2e80-\uffef]|[^ \u2e80-\uffef]+| ", text):
        size = sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in word)
        if width + size > letters and lines[-1]:
            lines, width = [*lines, ""], 0
        if width or not word.isspace():
            lines[-1], width = lines[-1] + word, width + size
    return "\n".join(line.rstrip() for line in lines)


def _draw(axes, row: Row, middle: float) -> None:
    difference, colour = row.difference, LOOKS[row.verdict][0]
    values, mean = [100 * value for value in difference["values"]], 100 * difference["mean"]
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
