"""README's first screen, from the same files as the report: the answer so far, and the figure of all effects."""

from simam_repro.evaluation import wording
from simam_repro.reporting import chinese
from simam_repro.reporting.forest import Row, forest_figure
from simam_repro.reporting.numbers import interval, points
from simam_repro.reporting.results import Sweep
from simam_repro.reporting.style import save_figure
from simam_repro.reporting.verdicts import EQUIVALENT, LOOKS, NO_INTERVAL, NOT_AFTER_HOLM, NOT_SHOWN, SHOWN, judged

FIGURE, WIDTH = "effects.png", 7.5
MOST_ARMS = 3  # of a comparison, with a line each


def repeated_rows(sweeps: list[Sweep]) -> list[tuple[dict, dict, str]]:
    """(comparison, arm, verdict) of what was measured on real data with enough seeds for an interval over them."""
    rows = judged([comparison for sweep in sweeps for comparison in sweep.comparisons])
    return [
        (comparison, arm, found)
        for comparison, arm, _, found in rows
        if not comparison["data"]["stand_in"] and found != NO_INTERVAL
    ]


def plot_effects(sweeps: list[Sweep], path) -> None:
    """A forest of the final accuracies' differences."""
    rows = [
        Row(f"{wording.row_title(comparison, arm)}, n\u00a0=\u00a0{arm['n']}", arm["final"]["difference"], found)
        for comparison, arm, found in repeated_rows(sweeps)
    ]
    save_figure(forest_figure(rows, WIDTH), path)


def answer_block(sweeps: list[Sweep], language: str, folder: str) -> str:
    """Markdown: the answer so far, and the figure of its differences.

    Args:
        language: a key of TEXTS.
        folder: of the results, relative to the README.
    """
    text, lines = TEXTS[language], answer_lines(sweeps, language)
    if not repeated_rows(sweeps):
        return text["nothing"]
    return "\n".join([f"**{text['head']}**", "", *lines, "", f"![{text['figure']}]({folder}/{FIGURE})"])


def answer_lines(sweeps: list[Sweep], language: str) -> list[str]:
    """A list in Markdown: a line for each comparison and one for attacks, with their intervals, and what is open."""
    text, rows = TEXTS[language], repeated_rows(sweeps)
    if not rows:
        return [text["nothing"]]
    lines = []
    for comparison in {id(row[0]): row[0] for row in rows}.values():
        own = [(arm, found) for one, arm, found in rows if one is comparison]
        few = len(own) <= MOST_ARMS
        lines += [_arm_line(comparison, *row, text) for row in own] if few else [_arms_line(comparison, own, text)]
    for title, attacks in _attacks(sweeps).items():
        told = text["and"].join(
            text["attack"].format(name, points(one["mean"]), interval(one["t_interval"])) for name, one in attacks
        )
        unknown = any(one["t_interval"] and not one["images_and_seeds_interval"] for _, one in attacks)
        told += text["unknown"] if unknown else ""
        lines.append("- " + text["attacks"].format(title, told).replace(" to ", text["to"]))
    return [*lines, text["open"]]


def _arm_line(comparison: dict, arm: dict, found: str, text: dict) -> str:
    difference = arm["final"]["difference"]
    what = text["title"](wording.row_title(comparison, arm))
    numbers = (points(difference["mean"]), *(interval(difference[f"{over}_interval"]) for over in BOTH))
    said = text[found] + (text["exploratory"] if comparison.get("exploratory") else "")
    return "- " + text["effect"].format(what, *numbers, said).replace(" to ", text["to"])


def _arms_line(comparison: dict, rows, text: dict) -> str:
    """Of many arms, what is said of which; their intervals are in the figure and the table."""
    said = []
    for verdict in LOOKS:
        arms = [f"{a['title']} {points(a['final']['difference']['mean'])}" for a, found in rows if found == verdict]
        said += [text["each"].format(text[verdict], text["and"].join(arms))] if arms else []
    title, baseline = text["title"](comparison["title"]), comparison["baseline"]["title"]
    return "- " + text["several"].format(title, len(rows), baseline, text["then"].join(said))


BOTH = ("t", "images_and_seeds")


def _attacks(sweeps: list[Sweep]) -> dict[str, list[tuple[str, dict]]]:
    """{arm's title: (attack, difference of the accuracy's mean over its budgets)} of what was measured on real data."""
    found: dict[str, list] = {}
    for sweep in sweeps:
        for one in sweep.robustness["comparisons"] if sweep.robustness else ():
            attacks = [(name.upper(), attack["mean"]["difference"]) for name, attack in one["attacks"].items()]
            found.setdefault(one["arm"]["title"], []).extend(attacks)
    return found


TEXTS = {
    "en": {
        "nothing": "Nothing has been measured on real data with enough seeds yet.",
        "head": "The answer so far",
        "title": str,
        "effect": "{}: **{} points** of accuracy (95%: {} over seeds, {} over images and seeds): {}.",
        "several": "{}, {} arms against {}, points of accuracy: {}.",
        "each": "{}: {}",
        "then": "; ",
        SHOWN: "shown, also after correction for the number of comparisons",
        NOT_AFTER_HOLM: "both intervals exclude zero, but not after correction for the number of comparisons",
        EQUIVALENT: "equivalent to the baseline within the margin",
        NOT_SHOWN: "no effect is shown",
        "exploratory": " (exploratory: older than the protocols)",
        "unknown": "; over images and seeds not known, so by the rule nothing is claimed",
        "attacks": "{} under adversarial attack: {}.",
        "attack": "{} {} points (95% over seeds: {})",
        "and": ", ",
        "to": " to ",
        "open": "- Whether a difference is the module's or that of its smaller gate: "
        "[what the controls say](docs/statistics.md#a-gain-is-no-cause) so far; TowerNet's are still to run.",
        "figure": "Each difference with both of its intervals, coloured by the verdict",
    },
    "zh": {
        "nothing": "目前还没有在真实数据上、种子数足够的测量结果。",
        "head": "目前的答案",
        "title": chinese.title,
        "effect": "{}：准确率 **{} 个百分点**（95% 置信区间：只考虑种子 {}，同时考虑图像和种子 {}）：{}。",
        "several": "{}，{} 组与 {} 对比，准确率之差（百分点）：{}。",
        "each": "{}：{}",
        "then": "；",
        SHOWN: "结论成立，按对比个数校正后仍成立",
        NOT_AFTER_HOLM: "两个置信区间都不含 0，但按对比个数校正后不成立",
        EQUIVALENT: "在预先写明的界限内与基线等效",
        NOT_SHOWN: "未能证明有效果",
        "exploratory": "（探索性：早于事先写定的方案）",
        "unknown": "；同时考虑图像和种子的区间未知，按规则不下结论",
        "attacks": "{} 在对抗攻击下：{}。",
        "attack": "{} {} 个百分点（种子的 95% 置信区间：{}）",
        "and": "，",
        "to": " 至 ",
        "open": "- 差别究竟来自模块本身，还是只因为它的门控缩小了特征："
        "[对照组目前的结果](docs/statistics.zh-CN.md#提升不等于原因)；TowerNet 的对照组还没有跑。",
        "figure": "各项差值及其两个置信区间，颜色表示结论",
    },
}
