"""The figure of signal propagation: activations and gradients along the stages, a column for each way to begin."""

import textwrap

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from simam_repro.reporting.style import arm_looks, new_figure, save_figure, set_title

ROWS = {"rms": "RMS of the activations", "gradient_rms": "RMS of the loss's gradient\nwith respect to them"}
LINE = 44  # characters of the legend


def plot_propagation(content: dict, path) -> None:
    """Write a PNG of what `measure_propagation` found: the mean over the seeds, bars from the lowest to the highest.

    The legend has each arm's loss before the first step.
    """
    groups = content["groups"]
    looks = arm_looks([arm["title"] for arm in groups[0]["arms"]])
    figure = new_figure(max(3.8 * len(groups) + 1, 6.5), 7.2 + 0.3 * len(groups[0]["arms"]))
    panels = figure.subplots(len(ROWS), len(groups), squeeze=False, sharex="col", sharey="row")
    for column, group in zip(panels.T, groups):
        for panel, key in zip(column, ROWS):
            for arm in group["arms"]:
                _draw(panel, arm, key, looks[arm["title"]])
            panel.set_yscale("log")
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.yaxis.set_minor_formatter(NullFormatter())
            panel.grid(True, color="#dddddd", linewidth=0.6)
        column[0].set_title(", ".join(f"{key}: {value}" for key, value in group["varied"].items()), fontsize="medium")
        column[-1].tick_params("x", labelrotation=45)
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "frameon": False}
        column[-1].legend(title="loss before the first step", fontsize=8, title_fontsize=8, **below)
    for panel, label in zip(panels[:, 0], ROWS.values()):
        panel.set_ylabel(label)
    seeds = len(groups[0]["arms"][0]["runs"])
    title = (
        f"{content['backbone']} before the first step, {content['images']} eval images of {content['data']['name']} "
        f"at {content['image_size']} pixels, {seeds} seeds;\nthe loss of guessing is {content['chance_loss']:.2f}"
    )
    set_title(figure, title, content["data"]["stand_in"])
    save_figure(figure, path)


def _draw(panel, arm: dict, key: str, look: dict) -> None:
    runs = arm["runs"]
    stages = list(runs[0]["stages"])
    values = np.array([[run["stages"][stage][key] for stage in stages] for run in runs])
    mean, spread = values.mean(axis=0), (values.min(axis=0), values.max(axis=0))
    losses = [run["loss"] for run in runs]
    label = textwrap.fill(f"{arm['title']}: {np.mean(losses):.2f} ({min(losses):.2f} to {max(losses):.2f})", LINE)
    bars = np.abs(np.array(spread) - mean)
    panel.errorbar(stages, mean, bars, label=label, markersize=4, linewidth=1.3, elinewidth=0.8, **look)


def propagation_table(content: dict) -> str:
    """A line for each arm, as text: loss, size of the gradient, last map and logits, mean over the seeds."""
    rows = [("", "arm", "loss", "gradient norm", "RMS of the last map", "of the logits", "gain at each site")]
    for group in content["groups"]:
        varied = ", ".join(f"{key}: {value}" for key, value in group["varied"].items())
        for arm in group["arms"]:
            rows.append((varied, arm["title"], *_cells(arm["runs"])))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def _cells(runs: list[dict]) -> list[str]:
    def mean(value) -> float:
        return float(np.mean([value(run) for run in runs]))

    *_, last, logits = runs[0]["stages"]
    gains = [mean(lambda run: run["attention"][site]["gain"]) for site in runs[0]["attention"]]
    return [
        f"{mean(lambda run: run['loss']):.2f}",
        f"{mean(lambda run: run['gradient_norm']):.3g}",
        f"{mean(lambda run: run['stages'][last]['rms']):.3g}",
        f"{mean(lambda run: run['stages'][logits]['rms']):.3g}",
        " ".join(f"{gain:.3f}" for gain in gains) or "-",
    ]
