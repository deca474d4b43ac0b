"""Robustness as text and figures: a table for each arm, the arms' curves, and the corruptions to look at."""

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from simam_repro.data import prepare_data
from simam_repro.data.transforms import eval_image
from simam_repro.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corruption_rng
from simam_repro.evaluation.robustness import Scope
from simam_repro.evaluation.robustness_pairs import compare_robustness
from simam_repro.evaluation.wording import outward
from simam_repro.reporting.curves import DASHED, SOLID, curves_path
from simam_repro.reporting.style import STAND_IN_NOTE, arm_looks, new_figure, save_figure, set_title
from simam_repro.storage import write_json

COLUMNS = 4  # panels in a row
WIDTH = 100  # characters of a table
NO_PAIR = (
    "nothing to compare: runs that differ in their attention only, of one seed, would be compared with those of a "
    "baseline (none, or --baseline)"
)
NOTES = (
    "The difference, arm minus baseline, is in percentage points, with the t interval of its mean over the seeds (none "
    "for few seeds); a sentence claims an effect only where the interval over images and seeds excludes zero, too. "
    "CE is the arm's error relative to the baseline's, summed over the severities; mCE is its mean. The intervals of "
    "single corruptions and budgets are not corrected for how many there are: only a mean is a claim. Accuracy under "
    "an attack bounds that in its ball from above."
)


def write_robustness(measurements, scope: Scope, path=None, baseline: str | None = None) -> tuple[str, list[Path]]:
    """Compare runs that are measured; write the summary, its figure and corruptions.png, the corruptions to look at.

    Args:
        path: of the summary, the figures go beside it; None: in the runs' common folder.
        baseline: see `find_arms`.
    Returns:
        The table, and the paths written; without a pair a line that says so, and only the runs' own files.
    """
    summary = compare_robustness(measurements, scope, baseline)
    if not summary["comparisons"]:
        return NO_PAIR, [one.path for one in measurements]
    folder = curves_path([one.run.path for one in measurements]).parent
    path = Path(path or folder / scope.file_name)
    figure, sheet = path.with_suffix(".png"), path.with_name("corruptions.png")
    write_json(path, summary)
    plot_robustness(summary, figure)
    experiment = measurements[0].run.read_experiment()
    data = prepare_data(experiment.data)
    index = len(data.eval) // 2
    plot_corruptions(data.eval.images[index], experiment.data.image_size, data.eval.ids[index], sheet, data.stand_in)
    return robustness_table(summary), [path, figure, sheet]


def run_line(content: dict) -> str:
    """One run's file in one line."""
    values = [value for levels in content["corruptions"].values() for value in levels.values()]
    corrupted = f", mean {np.mean(values):.2%} under {len(content['corruptions'])} corruption(s)" if values else ""
    return (
        f"{content['name']} seed {content['seed']}: clean {content['clean']:.2%}{corrupted} ({content['images']} "
        f"images of {content['data']['name']}{', stand-in data' if content['data']['stand_in'] else ''})"
    )


def robustness_table(summary: dict) -> str:
    """A table of each comparison of `compare_robustness`, at most WIDTH columns wide."""
    stand_in = [STAND_IN_NOTE[0].upper() + STAND_IN_NOTE[1:] + "."] if summary["data"]["stand_in"] else []
    tables = ["\n".join([*_head(one, summary), "", *_rows(one), "", *_wrap(one["sentence"])])
              for one in summary["comparisons"]]  # fmt: skip
    left = (
        _wrap(f"Without a baseline or its seeds, so not compared: {', '.join(summary['left_out'])}.")
        if summary["left_out"]
        else []
    )
    return "\n\n".join([*tables, "\n".join([*_wrap(NOTES), *left, *stand_in])])


def _head(comparison: dict, summary: dict) -> list[str]:
    data, count = summary["data"], comparison["n"]
    seeds = f"n = {count} {'pair' if count == 1 else 'pairs'} (seed {', '.join(map(str, comparison['seeds']))})"
    chosen = summary.get("chosen_on")
    checkpoint = f"best epoch, chosen on the {chosen} images" if chosen else "final epoch"
    arm, baseline = (f"{comparison[side]['title']} ({comparison[side]['name']})" for side in ("arm", "baseline"))
    lines = [
        f"{arm} and the baseline {baseline}: {comparison['backbone']}, "
        f"{comparison['image_size']} px, {comparison['epochs']} epochs, weights of the {checkpoint}",
        f"{summary['images']} of {data['eval_images']} eval images of {data['name']}"
        f"{' (stand-in data)' if data['stand_in'] else ''}, trained on {data['train_images']}; "
        f"{seeds}; severities {', '.join(map(str, summary['levels']))}",
    ]
    for what, places in comparison["hardware"].items():
        packages = [", ".join(f"{name} {value}" for name, value in one.items()) for one in comparison["versions"][what]]
        lines.append(f"{what}: {'; '.join(places)}; {'; '.join(packages)}")
    return [wrapped for line in lines for wrapped in _wrap(line)]


def _rows(comparison: dict) -> list[str]:
    header = f"{'':22s}{'baseline':>8s}{'arm':>9s}{'difference [interval]':>30s}{'CE':>9s}{'relative':>11s}"
    lines = [header, _row("clean", comparison["clean"])]
    for name, numbers in comparison.get("corruptions", {}).items():
        lines.append(_row(name, numbers["accuracy"], numbers["ce"], numbers["relative_ce"]))
    if "mce" in comparison:
        lines.append(_row("mean of corruptions", comparison["mean_corruption"]))
        for key, name in (("mce", "mCE"), ("relative_mce", "relative mCE")):
            numbers = comparison[key]
            lines.append(f"{name:22s}{_percent(numbers['mean']):>8s} of the baseline's{_interval(numbers)}")
    for name, numbers in comparison["attacks"].items():
        for i, eps in enumerate(numbers["eps"]):
            means = {side: {"mean": np.mean([values[i] for values in numbers[side]])} for side in ("baseline", "arm")}
            lines.append(_row(f"{name.upper()} {255 * eps:g}/255", {**means, "difference": numbers["difference"][i]}))
        lines.append(_row(f"{name.upper()}, mean", numbers["mean"]))
    return lines


def _row(name: str, numbers: dict, *ratios: dict) -> str:
    difference = numbers["difference"]
    change = f"{100 * difference['mean']:+.2f}{_interval(difference, '+.2f')}"
    cells = f"{numbers['baseline']['mean']:8.2%} {numbers['arm']['mean']:8.2%}{change:>30s}"
    return f"{name:22s}{cells}" + "".join(
        f"{_percent(ratio['mean']):>{width}s}" for ratio, width in zip(ratios, (9, 11))
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _interval(numbers: dict, form: str = ".1f") -> str:
    if numbers["t_interval"] is None:
        return ""
    low, high = outward(numbers["t_interval"], decimals=int(form[-2]))
    return f" [{low:{form}}, {high:{form}}]"


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_on_hyphens=False, subsequent_indent="  ")


def plot_robustness(summary: dict, path) -> None:
    """Write a PNG: accuracy over severity for each corruption and their mean, and over eps for each attack.

    A colour for each arm, the baseline dashed; bold the mean over the seeds, thin each seed. Severity 0 and eps 0 are
    the clean images.
    """
    comparisons = summary["comparisons"]
    panels = [*summary["severities"], *(["mean of corruptions"] if summary["severities"] else [])]
    attacks = list(comparisons[0]["attacks"])
    count = len(panels) + len(attacks)
    rows = max(1, -(-count // COLUMNS))
    networks = _networks(comparisons)
    figure = new_figure(11, 2.4 * rows + 0.8 + 0.12 * len(networks))
    axes = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False).ravel()
    for panel, name in zip(axes, [*panels, *attacks]):
        for comparison, side, look in networks.values():
            levels, values = _curve(comparison, summary["levels"], name, side)
            _draw(panel, levels, values, look, bold_only=len(networks) > 4)
        _dress(panel, name.upper() if name in attacks else name.replace("_", " "))
        panel.set_xlabel("eps / (1/255)" if name in attacks else "severity", fontsize="small")
    for panel in axes[count:]:
        panel.axis("off")
    _add_legend(figure, networks)
    checkpoint = {"last": "final epoch", "best": "best epoch"}[summary["checkpoint"]]
    title = f"{summary['data']['name']}: {summary['images']} eval images, weights of the {checkpoint}"
    set_title(figure, title, summary["data"]["stand_in"])
    save_figure(figure, path)


def _networks(comparisons: list[dict]) -> dict[str, tuple[dict, str, dict]]:
    """{label: (comparison, side, look)} of each baseline once and of each arm; labelled by title, or title and name."""
    sides = [(one, side) for side in ("baseline", "arm") for one in comparisons]
    several = len({one["baseline"]["name"] for one in comparisons}) > 1
    networks = {}
    for one, side in sides:
        label = one[side]["title"] + (f", {one[side]['name']}" if several else "")
        networks.setdefault(label, (one, side, DASHED if side == "baseline" else SOLID))
    looks = arm_looks(networks)
    return {label: (one, side, {**looks[label], **line}) for label, (one, side, line) in networks.items()}


def _curve(comparison: dict, levels, name: str, side: str) -> tuple[list, np.ndarray]:
    """Levels from the clean 0 on, and accuracies float [seeds, levels]."""
    clean = np.array(comparison["clean"][side]["values"])[:, None]
    if name in comparison["attacks"]:
        numbers = comparison["attacks"][name]
        levels, values = [255 * eps for eps in numbers["eps"]], np.array(numbers[side])
    else:
        every = comparison["corruptions"]
        chosen = [every[name]] if name in every else every.values()
        values = np.mean([numbers["by_severity_and_seed"][side] for numbers in chosen], axis=0)
    return [0, *levels], np.hstack([clean, values])


def _draw(panel, levels, values: np.ndarray, look: dict, bold_only: bool) -> None:
    if len(values) > 1 and not bold_only:
        panel.plot(levels, values.T, color=look["color"], linewidth=0.5, alpha=0.5, linestyle=look["linestyle"])
    panel.plot(levels, values.mean(axis=0), linewidth=1.5, markersize=4, **look)


def _dress(panel, title: str) -> None:
    panel.set_title(title, fontsize="medium")
    panel.set_ylim(bottom=0)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    panel.tick_params(labelsize="small")
    panel.grid(alpha=0.3)


def _add_legend(figure, networks: dict) -> None:
    lines = [Line2D([], [], label=label.replace("$", r"\$"), **look) for label, (_, _, look) in networks.items()]
    columns = 2 if len(lines) < 5 else 4
    figure.legend(handles=lines, loc="outside lower center", ncols=columns, frameon=False, handlelength=3.5)


def plot_corruptions(image, image_size: int, sample_id: str, path, stand_in: bool = False) -> None:
    """Write a PNG of one image under all corruptions: a row each, clean and the severities 1 to 5.

    Args:
        image: RGB, of Pillow or an array; shown at the size that the network sees.
    """
    clean = eval_image(image, image_size)
    figure = new_figure(1.35 * (len(SEVERITIES) + 1), 1.32 * len(CORRUPTIONS) + 0.6)
    panels = figure.subplots(len(CORRUPTIONS), len(SEVERITIES) + 1)
    for row, (name, corruption) in zip(panels, CORRUPTIONS.items()):
        shown = [corruption(clean, level, corruption_rng(name, level, sample_id)) for level in SEVERITIES]
        for panel, pixels in zip(row, [clean, *shown]):
            panel.imshow(pixels)
            panel.set_xticks([])
            panel.set_yticks([])
        row[0].set_ylabel(name.replace("_", " "), fontsize=9)
    for panel, title in zip(panels[0], ("clean", *(f"severity {level}" for level in SEVERITIES))):
        panel.set_title(title, fontsize=9)
    set_title(figure, f"{sample_id}, {image_size} pixels".replace("$", r"\$"), stand_in)
    save_figure(figure, path)
