"""README's first screen, from the same files as the report: the answer so far, and the figure of all effects."""

import re

import matplotlib

from simam_repro.evaluation import statistics, wording
from simam_repro.reporting.report import holm_p, interval, points
from simam_repro.reporting.results import Sweep
from simam_repro.reporting.style import new_figure, save_figure

FIGURE = "effects.png"
# The verdict of a row, from its intervals and its adjusted p: colour, and what the legend says.
SHOWN, NOT_AFTER_HOLM, NOT_SHOWN = "shown", "not after Holm", "not shown"
LOOKS = {
    SHOWN: ("#1b7837", "shown: both intervals exclude zero, also adjusted for the number of rows"),
    NOT_AFTER_HOLM: ("#d08a00", "both intervals exclude zero, but not adjusted for the number of rows"),
    NOT_SHOWN: ("#5a5a5a", "not shown"),
}


def verdict(arm: dict, p: float | None) -> str:
    """What the text says of an arm with an interval over seeds. `p`: of its rule, adjusted for all rows."""
    if not wording.effect(arm["final"]["difference"]):
        return NOT_SHOWN
    return SHOWN if p is not None and p < statistics.LEVEL else NOT_AFTER_HOLM


def repeated_rows(sweeps: list[Sweep]) -> list[tuple[dict, dict, str]]:
    """(comparison, arm, verdict) of what was measured on real data with enough seeds for an interval over them."""
    rows = wording.rows_of([comparison for sweep in sweeps for comparison in sweep.comparisons])
    return [
        (comparison, arm, verdict(arm, p))
        for (comparison, arm), p in zip(rows, holm_p(rows))
        if not comparison["data"]["stand_in"] and arm["final"]["difference"]["t_interval"]
    ]


def plot_effects(sweeps: list[Sweep], path) -> None:
    """A forest of the final accuracies' differences: thick the interval over seeds, thin that over images and seeds."""
    rows = repeated_rows(sweeps)
    figure = new_figure(8.0, 1.4 + 0.75 * len(rows))
    axes = figure.subplots()
    axes.axvline(0, color="#999999", linewidth=1)
    for position, (comparison, arm, found) in enumerate(rows):
        difference, colour = arm["final"]["difference"], LOOKS[found][0]
        over_seeds = [100 * bound for bound in difference["t_interval"]]
        axes.plot(over_seeds, [position] * 2, color=colour, linewidth=5, solid_capstyle="butt")
        if over_both := difference["images_and_seeds_interval"]:
            axes.plot([100 * bound for bound in over_both], [position + 0.16] * 2, color=colour, linewidth=1.5)
        axes.plot(100 * difference["mean"], position, "o", color="white", markeredgecolor=colour, markersize=8)
        label = f"{wording.row_title(comparison, arm)}, n = {arm['n']}"
        axes.annotate(label, (0.01, position - 0.16), xycoords=("axes fraction", "data"), fontsize=9, va="bottom")
    axes.set_yticks([])
    axes.set_ylim(len(rows) - 0.5, -0.75)
    axes.set_xlabel(
        "final accuracy, arm minus baseline (points): thick over seeds, thin over images and seeds, both 95%"
    )
    present = [found for found in LOOKS if any(found == row[2] for row in rows)]
    handles = [matplotlib.lines.Line2D([], [], color=LOOKS[found][0], linewidth=4) for found in present]
    figure.legend(handles, [LOOKS[found][1] for found in present], loc="outside upper left", fontsize=8, frameon=False)
    save_figure(figure, path)


def answer_block(sweeps: list[Sweep], language: str, folder: str) -> str:
    """Markdown: the answer so far, a line for each comparison and one for attacks, with their intervals; the figure.

    Args:
        language: a key of TEXTS.
        folder: of the results, relative to the README.
    """
    text, rows = TEXTS[language], repeated_rows(sweeps)
    if not rows:
        return text["nothing"]
    lines = [f"**{text['head']}**", ""]
    for comparison, arm, found in rows:
        difference = arm["final"]["difference"]
        what = text["title"](wording.row_title(comparison, arm))
        numbers = (points(difference["mean"]), *(interval(difference[f"{over}_interval"]) for over in BOTH))
        lines.append("- " + text["effect"].format(what, *numbers, text[found]).replace(" to ", text["to"]))
    for title, attacks in _attacks(sweeps).items():
        told = text["and"].join(
            text["attack"].format(name, points(one["mean"]), interval(one["t_interval"])) for name, one in attacks
        )
        lines.append("- " + text["attacks"].format(title, told).replace(" to ", text["to"]))
    return "\n".join([*lines, text["open"], "", f"![{text['figure']}]({folder}/{FIGURE})"])


BOTH = ("t", "images_and_seeds")


def _attacks(sweeps: list[Sweep]) -> dict[str, list[tuple[str, dict]]]:
    """{arm's title: (attack, difference of the accuracy's mean over its budgets)} of what was measured on real data."""
    found: dict[str, list] = {}
    for sweep in sweeps:
        for one in sweep.robustness["comparisons"] if sweep.robustness else ():
            attacks = [(name.upper(), attack["mean"]["difference"]) for name, attack in one["attacks"].items()]
            found.setdefault(one["arm"]["title"], []).extend(attacks)
    return found


def chinese_title(title: str) -> str:
    for pattern, words in (
        (r" at (\d+) pixels", r"，\1 像素"),
        (r", ([\d,]+) training images", r"，\1 张训练图像"),
        (r", (\d+) epochs?", r"，\1 个 epoch"),
        (r", the original's recipe with its quirks", "，原代码实际执行的方案"),
        (r", (?=[A-Z])", "，"),
        (r": ", "："),
    ):
        title = re.sub(pattern, words, title)
    return title


TEXTS = {
    "en": {
        "nothing": "Nothing has been measured on real data with enough seeds yet.",
        "head": "The answer so far",
        "title": str,
        "effect": "{}: **{} points** of accuracy (95%: {} over seeds, {} over images and seeds): {}.",
        SHOWN: "shown, also after correction for the number of comparisons",
        NOT_AFTER_HOLM: "both intervals exclude zero, but not after correction for the number of comparisons",
        NOT_SHOWN: "no effect is shown",
        "attacks": "{} under adversarial attack: {}.",
        "attack": "{} {} points (95% over seeds: {})",
        "and": ", ",
        "to": " to ",
        "open": "- Whether a gain is the module's or that of its smaller gate is open: the controls are here "
        "([why they matter](docs/statistics.md#a-gain-is-no-cause)), their long runs are not.",
        "figure": "Each difference with both of its intervals, coloured by the verdict",
    },
    "zh": {
        "nothing": "目前还没有在真实数据上、种子数足够的测量结果。",
        "head": "目前的答案",
        "title": chinese_title,
        "effect": "{}：准确率 **{} 个百分点**（95% 置信区间：只考虑种子 {}，同时考虑图像和种子 {}）：{}。",
        SHOWN: "结论成立，按对比个数校正后仍成立",
        NOT_AFTER_HOLM: "两个置信区间都不含 0，但按对比个数校正后不成立",
        NOT_SHOWN: "未能证明有效果",
        "attacks": "{} 在对抗攻击下：{}。",
        "attack": "{} {} 个百分点（种子的 95% 置信区间：{}）",
        "and": "，",
        "to": " 至 ",
        "open": "- 提升究竟来自模块本身，还是只因为它的门控缩小了特征，目前还不知道：对照组已经备好"
        "（[为什么重要](docs/statistics.zh-CN.md#提升不等于原因)），但还没有跑完长训练。",
        "figure": "各项差值及其两个置信区间，颜色表示结论",
    },
}
