"""README's rows of robustness: an arm under corruptions and attacks, held to the rule of the accuracies."""

from simam_repro.evaluation import statistics
from simam_repro.evaluation.wording import side
from simam_repro.reporting import chinese
from simam_repro.reporting.numbers import interval, percent, percent_interval, points
from simam_repro.reporting.results import Sweep
from simam_repro.reporting.verdicts import EQUIVALENT, NO_INTERVAL, NOT_AFTER_HOLM, NOT_SHOWN, SHOWN, verdict


def robustness_rows(sweeps: list[Sweep]) -> list[tuple[Sweep, dict, str, dict, float | None]]:
    """(sweep, comparison of its robustness.json, under what, numbers, p adjusted for all rows) on real data."""
    rows = [
        (sweep, one, under, numbers)
        for sweep in sweeps
        if sweep.robustness and not sweep.robustness["data"]["stand_in"]
        for one in sweep.robustness["comparisons"]
        for under, numbers in _means(one)
    ]
    p_values = statistics.holm_of_known([numbers["difference"].get("p") for *_, numbers in rows])
    return [(*row, p) for row, p in zip(rows, p_values)]


def _means(comparison: dict):
    if "mean_corruption" in comparison:
        yield "corruptions", comparison["mean_corruption"]
    for name, attack in comparison["attacks"].items():
        yield name.upper(), attack["mean"]


def robustness_block(sweeps: list[Sweep], language: str) -> str:
    """Markdown: a table of the rows, and the corruption errors relative to the baseline's; empty without rows."""
    text, rows = TEXTS[language], robustness_rows(sweeps)
    if not rows:
        return ""
    cells = [text["head"], ("---",) * len(text["head"]), *(_cells(*row, text) for row in rows)]
    errors = [_errors(one, text) for one in {id(row[1]): row[1] for row in rows}.values() if "mce" in one]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([text["title"], "", *lines, "", *errors, text["note"]])


def _cells(sweep: Sweep, one: dict, under: str, numbers: dict, p: float | None, text: dict) -> tuple[str, ...]:
    difference, entry = numbers["difference"], sweep.comparisons[0]
    over_seeds, both = (difference[f"{over}_interval"] for over in ("t", "images_and_seeds"))
    known = over_seeds is None or both is not None  # the images' outcomes of older measurements were not kept
    return (
        text["what"](entry["title"]) + (text["exploratory"] if one.get("exploratory") else ""),
        one["arm"]["title"],
        str(one["n"]),
        text.get(under, under),
        *(percent(numbers[which]["mean"]) for which in ("baseline", "arm")),
        points(difference["mean"]),
        text["none"] if over_seeds is None else interval(over_seeds),
        text["none"] if over_seeds is None else interval(both) if known else text["not known"],
        text["none"] if p is None else f"{p:.3f}",
        text["no claim"] if side(over_seeds) and not known else text[verdict(difference, p)],
    )


def _errors(one: dict, text: dict) -> str:
    told = [
        text["error"].format(name, percent(one[key]["mean"], 1), percent_interval(one[key]["t_interval"]))
        for key, name in (("mce", "mCE"), ("relative_mce", text["relative"]))
        if one[key]["mean"] is not None
    ]
    return text["errors"].format(one["arm"]["title"], text["and"].join(told)).replace(" to ", text["to"])


TEXTS = {
    "en": {
        "title": "Robustness, final epoch; each row is a mean over all severities or budgets:",
        "head": (
            "what", "arm", "n", "under", "baseline", "arm", "difference (points)", "95% over seeds (t)",
            "95% over images and seeds", "p (Holm)", "verdict",
        ),
        "what": str,
        "exploratory": " (exploratory)",
        "none": "none",
        "not known": "not known",
        "no claim": "no claim: one interval is not known",
        SHOWN: "effect shown",
        NOT_AFTER_HOLM: "not after Holm",
        EQUIVALENT: f"equivalent within {100 * statistics.MARGIN:g} points",
        NOT_SHOWN: "not shown",
        NO_INTERVAL: "too few seeds",
        "errors": "{}, the baseline's error as 100 %: {}.",
        "error": "{} {} (95% over seeds: {})",
        "relative": "relative mCE, what errors add to those on clean images,",
        "and": ", ",
        "to": " to ",
        "note": "The same rule: an effect is claimed only where both intervals exclude zero; p is adjusted for the "
        "rows of this table (Holm). An mCE above 100 % is worse than the baseline; its interval is over seeds alone, "
        "so nothing is claimed of it.",
    },
    "zh": {
        "title": "鲁棒性，最后一个 epoch；每行是各种强度的平均：",
        "head": (
            "实验", "组", "n", "条件", "基线", "该组", "差值（百分点）", "95% 置信区间：种子（t）",
            "95% 置信区间：图像和种子", "p（Holm）", "结论",
        ),
        "what": chinese.title,
        "exploratory": "（探索性）",
        "corruptions": "图像退化",
        "none": "无",
        "not known": "未知",
        "no claim": "不下结论：有一个区间未知",
        SHOWN: "有效果",
        NOT_AFTER_HOLM: "Holm 校正后不成立",
        EQUIVALENT: f"在 {100 * statistics.MARGIN:g} 个百分点内等效",
        NOT_SHOWN: "未能证明有效果",
        NO_INTERVAL: "种子太少",
        "errors": "{}，以基线的错误为 100 %：{}。",
        "error": "{} {}（种子的 95% 置信区间：{}）",
        "relative": "relative mCE（只计相对干净图像增加的错误）",
        "and": "，",
        "to": " 至 ",
        "note": "规则相同：两个置信区间都不含 0 才说有效果；p 值按本表的行数做了 Holm 校正。"
        "mCE 高于 100 % 表示不如基线；它只有种子的置信区间，因此不据此下结论。",
    },
}  # fmt: skip
