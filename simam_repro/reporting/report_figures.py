"""The figures of the report: narrow enough for a phone."""

import base64
import io

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

from simam_repro.reporting.curves import COLOURS
from simam_repro.reporting.style import arm_looks, new_figure

WIDTH = 4.3  # inches
SMALL = 9  # points; a phone shows the figure at about its size
OFF, ON, MUTED = COLOURS[0], COLOURS[1], "#7f7f7f"
MOST_BANDS = 4
PICTURE_WIDTH, PICTURE_QUALITY = 1000, 78


def picture(path) -> str:
    """A picture file as the source of an <img>, no larger than a page needs it."""
    if path.suffix == ".jpg":  # small already
        return _source(path.read_bytes())
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((PICTURE_WIDTH, 4 * PICTURE_WIDTH))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=PICTURE_QUALITY, optimize=True)
    return _source(buffer.getvalue())


def _source(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def curves(records: dict[str, list[list[dict]]], say=str) -> Figure:
    """Eval accuracy over epochs: the mean over the runs of each arm in a band from the lowest to the highest.

    Of one run its own line, without a band. With two arms the accuracy on training images, thin.

    Args:
        records: {title of an arm: [records of a run, ...]}, the baseline first.
    """
    figure = new_figure(WIDTH, 2.9 + 0.2 * -(-len(records) // 2))
    axes = figure.subplots()
    looks = arm_looks(records)
    for position, (title, runs) in enumerate(records.items()):
        colour, line = looks[title]["color"], "-" if position else "--"
        epochs = [record["epoch"] for record in runs[0]]
        values = np.array([[record["eval_acc"] for record in run] for run in runs])
        count = say("one run") if len(runs) == 1 else f"n = {len(runs)}"
        axes.plot(epochs, values.mean(axis=0), line, color=colour, linewidth=1.8, label=f"{title}, {count}")
        if len(runs) > 1 and len(records) <= MOST_BANDS:
            axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.18, linewidth=0)
        if len(records) <= 2:
            trained = np.mean([[record["train_acc"] for record in run] for run in runs], axis=0)
            axes.plot(epochs, trained, line, color=colour, linewidth=0.7)
    axes.set_xlabel(say("epoch"))
    axes.set_ylabel(say("accuracy"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    _calm(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL)
    return figure


def robustness(comparison: dict, levels: list[int], say=str) -> Figure:
    """Mean accuracy over the corruptions by severity (`levels`), and accuracy under the attacks by budget."""
    panels = [*(["corruptions"] if comparison.get("corruptions") else []), *comparison["attacks"]]
    titles = {side: comparison[side]["title"] for side in ("baseline", "arm")}
    looks = arm_looks(titles.values())
    figure = new_figure(WIDTH, 2.7)
    row = figure.subplots(1, max(1, len(panels)), sharey=True, squeeze=False)[0]
    for axes, name in zip(row, panels):
        for side, line in (("baseline", "--"), ("arm", "-")):
            places, accuracy = _robustness_curve(comparison, levels, name, side)
            axes.plot(places, accuracy, line, marker="o", markersize=4, color=looks[titles[side]]["color"],
                      label=titles[side])  # fmt: skip
        axes.set_title(say("image corruptions") if name == "corruptions" else name.upper(), fontsize=SMALL + 1)
        axes.set_xlabel(say("severity") if name == "corruptions" else say("budget × 255"), fontsize=SMALL)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        axes.tick_params(labelsize=SMALL)
        _calm(axes)
    row[0].set_ylabel(say("accuracy"))
    row[0].set_ylim(bottom=0)
    row[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    handles, labels = row[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL)
    return figure


def _robustness_curve(comparison: dict, levels: list[int], name: str, side: str) -> tuple[list, list]:
    """Levels from the clean 0 on, and the mean accuracy at each."""
    clean = comparison["clean"][side]["mean"]
    if name == "corruptions":
        every = [entry["by_severity"][side] for entry in comparison["corruptions"].values()]
        return [0, *levels], [clean, *np.mean(every, axis=0)]
    attack = comparison["attacks"][name]
    return [0, *(255 * eps for eps in attack["eps"])], [clean, *np.mean(attack[side], axis=0)]


def speed_bars(rows: list[tuple[str, float, str]], unit: str) -> Figure:
    """Horizontal bars: (label, value, colour) each."""
    figure = new_figure(WIDTH, 0.6 + 0.3 * len(rows))
    axes = figure.subplots()
    values = [value for _, value, _ in rows]
    axes.barh(range(len(rows)), values, color=[colour for _, _, colour in rows])
    for position, value in enumerate(values):
        text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        axes.annotate(text, (value, position), (4, 0), textcoords="offset points", va="center", fontsize=SMALL)
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows], fontsize=SMALL)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * max(values))
    figure.supxlabel(unit, fontsize=SMALL + 1)  # the names leave little room below the axes
    axes.spines[["right", "top"]].set_visible(False)
    return figure


def _calm(axes) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["right", "top"]].set_visible(False)
