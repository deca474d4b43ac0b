"""What the arms of a comparison cost beside what they bring: a table for the terminal, and a figure."""

from textwrap import fill

import numpy as np
from matplotlib.ticker import MaxNLocator

from simam_repro.evaluation.wording import level_text
from simam_repro.reporting.style import arm_looks, new_figure, save_figure, set_title

LONGEST_TITLE, LETTERS = 24, 26
TIMES = {"train_ms": "training", "eval_ms": "inference"}
# Of a robustness.json: column, and where in one of its comparisons.
ROBUSTNESS = {
    "corrupted": lambda one: one.get("mean_corruption"),
    "FGSM": lambda one: one["attacks"].get("fgsm", {}).get("mean"),
    "PGD": lambda one: one["attacks"].get("pgd", {}).get("mean"),
}
NOTE = (
    "FLOPs and milliseconds are of one image; the times include loading and whatever else the machine did while the "
    "runs trained; x1.05 is 5 % more than the baseline's, mean over the seeds. Accuracy, ECE and robustness in %: "
    "final epoch."
)


def cost_table(comparison: dict, robustness: dict | None = None) -> str:
    """A line for each arm, the baseline first, at most 100 columns wide; empty for a comparison without costs.

    Args:
        comparison: an entry of `comparisons` in comparison.json.
        robustness: the content of a robustness.json, of which the arms' means are taken where it has them.
    """
    if "cost" not in comparison["baseline"]:
        return ""
    measured = {name: _robustness(comparison, robustness, part) for name, part in ROBUSTNESS.items()}
    measured = {name: values for name, values in measured.items() if values}
    header = ["accuracy", "parameters", "MFLOPs", "train, ms", "infer, ms", "ECE", *measured]
    lines = [_line("cost, final epoch", header)]
    for side, title, arm in _sides(comparison):
        one = arm["cost"] if side == "arm" else comparison["baseline"]["cost"]
        ratios = arm["cost_ratios"] if side == "arm" else None
        times = [f"{one[key]['mean']:.2f}" + (f" x{ratios[key]['mean']:.2f}" if ratios else "      ") for key in TIMES]
        final = arm["final"]
        robust = [values.get(title, {}).get("mean") for values in measured.values()]
        cells = [
            f"{100 * final[side]['mean']:.2f}", f"{one['parameters']:,}", f"{one['flops'] / 1e6:.1f}", *times,
            f"{100 * final['ece'][side]['mean']:.2f}",
            *(f"{100 * value:.1f}" if value is not None else "-" for value in robust),
        ]  # fmt: skip
        lines.append(_line(title, cells))
    return "\n".join([*lines, "", fill(NOTE, 100)])


def _line(title: str, cells: list[str]) -> str:
    widths = (9, 12, 9, 13, 13, 7, 10, 6, 6)
    short = title if len(title) < LONGEST_TITLE else f"{title[: LONGEST_TITLE - 2]}…"
    return (f"{short:{LONGEST_TITLE}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths))).rstrip()


def _sides(comparison: dict) -> list[tuple[str, str, dict]]:
    """(side, title, arm that has the side's numbers) of the baseline, then of each arm."""
    most = max(comparison["arms"], key=lambda arm: arm["n"])
    return [
        ("baseline", comparison["baseline"]["title"], most),
        *(("arm", arm["title"], arm) for arm in comparison["arms"]),
    ]


def _robustness(comparison: dict, robustness: dict | None, part) -> dict[str, dict]:
    """{title: values and mean of what `part` takes}, of the runs that the comparison has."""
    names = {comparison["baseline"]["name"]} | {arm["name"] for arm in comparison["arms"]}
    found = {}
    for one in (robustness or {}).get("comparisons", ()):
        if {one["baseline"]["name"], one["arm"]["name"]} <= names and (numbers := part(one)):
            found.setdefault(one["baseline"]["title"], numbers["baseline"])
            found[one["arm"]["title"]] = {**numbers["arm"], "difference": numbers["difference"]}
    return found


def plot_cost(comparisons: list[dict], path, robustness: dict | None = None) -> None:
    """Write a PNG, for each comparison: above a line for each arm, what it brings and what it costs against the
    baseline; below, the difference in accuracy over the times. Bars are intervals that hold for all arms together,
    thick over seeds, thin over images and seeds.
    """
    heights = [6.0 + 0.42 * len(one["arms"]) for one in comparisons]
    figure = new_figure(12, sum(heights) + 0.4)
    parts = figure.subfigures(len(comparisons), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, comparison in zip(parts, comparisons):
        looks = arm_looks([title for _, title, _ in _sides(comparison)])
        lines, scatter = part.subfigures(2, 1, height_ratios=(1.9 + 0.42 * len(comparison["arms"]), 4.1))
        _plot_lines(lines, comparison, robustness, looks)
        _plot_scatter(scatter, comparison, looks)
        level = level_text(len(comparison["arms"]))
        lines.suptitle(f"{comparison['title']}: minus or over {comparison['baseline']['title']}; intervals of {level}\n"
                       f"(thick over seeds, thin over images and seeds)", fontsize="medium")  # fmt: skip
    set_title(figure, "", any(comparison["data"]["stand_in"] for comparison in comparisons))
    save_figure(figure, path)


def _plot_lines(part, comparison: dict, robustness: dict | None, looks: dict) -> None:
    arms, base = comparison["arms"], comparison["baseline"]["cost"]
    panels = {
        "accuracy,\npoints": [_points(arm["final"]["difference"]) for arm in arms],
        "ECE,\npoints": [_points(arm["final"]["ece"]["difference"]) for arm in arms],
        **{
            f"{name},\npoints": [_points(values.get(arm["title"], {}).get("difference")) for arm in arms]
            for name, part_of in ROBUSTNESS.items()
            if (values := _robustness(comparison, robustness, part_of))
        },
        **{
            f"{name},\n% more": [_percent({"mean": arm["cost"][key] / base[key]}) for arm in arms]
            for key, name in {"parameters": "parameters", "flops": "FLOPs"}.items()
        },
        **{
            f"{name} time,\n% more": [_percent(arm["cost_ratios"][key]) for arm in arms]
            for key, name in TIMES.items()
        },
    }  # fmt: skip
    axes = part.subplots(1, len(panels), sharey=True, width_ratios=[1.8] + [1] * (len(panels) - 1))
    for panel, (name, values) in zip(axes, panels.items()):
        panel.axvline(0, color="0.4", linewidth=1, linestyle="--")
        for place, (arm, value) in enumerate(zip(arms, values)):
            _plot_value(panel, place, value, looks[arm["title"]])
        panel.set_title(name, fontsize="small")
        panel.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
        panel.tick_params(labelsize="small")
        panel.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(arms)), [fill(arm["title"], LETTERS) for arm in arms])
    axes[0].set_ylim(len(arms) - 0.5, -0.5)


def _points(difference: dict | None) -> tuple | None:
    """(mean, interval over seeds, interval over images and seeds) in points."""
    return difference and _scaled(difference, 0)


def _percent(ratio: dict) -> tuple:
    return _scaled(ratio, 1)


def _scaled(numbers: dict, minus: float) -> tuple:
    ends = (numbers.get("t_interval"), numbers.get("images_and_seeds_interval"))
    return 100 * (numbers["mean"] - minus), *(end and 100 * (np.array(end) - minus) for end in ends)


def _plot_value(panel, place: float, value: tuple | None, look: dict) -> None:
    if value is None:
        return
    mean, seeds, both = value
    for interval, shift, width in ((seeds, 0, 3.5), (both, 0.22, 1.2)):
        if interval is not None:
            panel.plot(interval, [place + shift] * 2, color=look["color"], linewidth=width, solid_capstyle="butt")
    panel.plot(mean, place, markersize=7, markeredgecolor="white", markeredgewidth=0.6, **look)


def _plot_scatter(part, comparison: dict, looks: dict) -> None:
    panels = part.subplots(1, len(TIMES), sharey=True)
    for panel, (key, name) in zip(panels, TIMES.items()):
        panel.axhline(0, color="0.4", linewidth=1, linestyle="--")
        panel.plot(0, 0, markersize=8, linestyle="none", label=comparison["baseline"]["title"],
                   **looks[comparison["baseline"]["title"]])  # fmt: skip
        for arm in comparison["arms"]:
            (x, x_seeds, _), (y, y_seeds, y_both) = (
                _percent(arm["cost_ratios"][key]),
                _points(arm["final"]["difference"]),
            )
            look, colour = looks[arm["title"]], looks[arm["title"]]["color"]
            for interval, width in ((y_seeds, 2.5), (y_both, 1)):
                if interval is not None:
                    panel.plot([x, x], interval, color=colour, linewidth=width, alpha=0.7)
            if x_seeds is not None:
                panel.plot(x_seeds, [y, y], color=colour, linewidth=1, alpha=0.7)
            panel.plot(x, y, markersize=8, linestyle="none", markeredgecolor="white",
                       label=fill(arm["title"], LETTERS), **look)  # fmt: skip
        panel.set_xlabel(f"{name} time an image, % more than {comparison['baseline']['title']}")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy minus the\nbaseline's, points")
    handles, labels = panels[0].get_legend_handles_labels()
    part.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small", frameon=False)
