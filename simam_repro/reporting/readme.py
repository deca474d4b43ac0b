"""The table of results and the answer in the READMEs, from the same files as the report."""

import html
import re
from pathlib import Path
from urllib.parse import quote

from simam_repro.errors import UserError
from simam_repro.evaluation.statistics import FEWEST_SEEDS
from simam_repro.evaluation.wording import RULE, baseline_text, rows_of
from simam_repro.reporting import chinese
from simam_repro.reporting.first_screen import answer_block
from simam_repro.reporting.like_published import like_published
from simam_repro.reporting.numbers import holm_p, interval, percent, points
from simam_repro.reporting.readme_robustness import robustness_block
from simam_repro.reporting.results import RESULTS, Sweep, read_sweeps
from simam_repro.storage import write_text

BEGIN, END = "<!-- results: written by `make report` -->", "<!-- end of results -->"
ANSWER = "<!-- answer: written by `make report` -->", "<!-- end of answer -->"


def language_of(readme: Path) -> str:
    """ "zh" of README.zh-CN.md, else "en"."""
    return "zh" if ".zh" in readme.name else "en"


def results_table(results: Path = RESULTS, language: str = "en") -> str:
    """A line for each arm (final epoch, accuracy on the eval images), and what they were measured on.

    Arms with enough seeds for an interval come first; the others are folded away, for nothing follows from them.
    """
    text, sweeps = TABLE_TEXTS[language], read_sweeps(results)
    rows = [(sweep, *row) for sweep in sweeps for row in rows_of(sweep.comparisons)]
    p_values = holm_p([row[1:] for row in rows])
    cells = [(_row(*row, p, text), row[2]["n"] >= FEWEST_SEEDS) for row, p in zip(rows, p_values)]
    shown, folded = ([row for row, enough in cells if enough == which] for which in (True, False))
    notes = [*dict.fromkeys(_measured_on(comparison) for _, comparison, _ in rows), *_notes(rows, p_values, text)]
    notes += _like_published(sweeps, text)
    parts = [_table(shown, text), "\n".join(notes)]
    if folded:
        count = text["folded"].format(len(folded), FEWEST_SEEDS)
        parts.append(f"<details><summary>{count}</summary>\n\n{_table(folded, text)}\n\n</details>")
    return "\n\n".join(filter(None, [*parts, robustness_block(sweeps, language)]))


def _table(rows, text: dict) -> str:
    lines = [text["head"], ("---",) * len(text["head"]), *rows] if rows else []
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def _measured_on(comparison: dict) -> str:
    hardware, versions = comparison["hardware"], comparison["versions"]
    return (
        f"{hardware['gpu'] or hardware['cpu']}, {hardware['threads']} thread(s) a run; Paddle {versions['paddle']}, "
        f"numpy {versions['numpy']}, Python {versions['python']}."
    )


def _notes(rows, p_values, text: dict) -> list[str]:
    """What the columns mean, as far as there is something in them."""
    tested = sum(p is not None for p in p_values)
    kept = [sweep.name for sweep, *_ in rows if not sweep.recomputable]
    notes = [text["rule"], text["holm"].format(tested)] if tested else []
    if any(comparison.get("exploratory") for _, comparison, _ in rows):
        notes.append(text["older"])
    return notes + [text["kept"].format(", ".join(dict.fromkeys(kept)))] * bool(kept)


def _like_published(sweeps: list[Sweep], text: dict) -> list[str]:
    """What is comparable with the published accuracies."""
    return [
        text["published"].format(
            text["title"](comparison["title"]), arm["n"], *map(percent, sides), as_text(arm["title"])
        )
        for comparison, arm, sides in like_published(sweeps)
    ]


TABLE_TEXTS = {
    "en": {
        "head": (
            "what", "arm", "n", "baseline", "arm", "difference (points)", "95% over seeds (t)",
            "95% over images and seeds", "p (Holm)",
        ),
        "title": str,
        "none": "none",
        "rule": RULE,
        "holm": "p is of that rule, adjusted for the table's {} rows that have one (Holm).",
        "kept": "Not recomputable, for their runs' predictions were not kept: {}; their p is approximate, from the "
        "intervals.",
        "exploratory": " (exploratory)",
        "older": "Exploratory rows are older than the protocols (the heads of `sweeps/*.yaml`), so nothing about them "
        "was fixed before looking.",
        "published": "By the metric of the published numbers (the mean over batches, best epoch by it), {}, n = {}: {} "
        "without attention, {} with {}.",
        "folded": "{} more, smoke-scale: fewer than {} seeds, so no interval and no conclusion",
    },
    "zh": {
        "head": (
            "实验", "组", "n", "基线", "该组", "差值（百分点）", "95% 置信区间：种子（t）", "95% 置信区间：图像和种子",
            "p（Holm）",
        ),
        "title": chinese.title,
        "none": "无",
        "rule": chinese.PHRASES[RULE],
        "holm": "p 值对应上述规则，并按表中有 p 值的 {} 行做了 Holm 校正。",
        "kept": "以下结果没有保留逐张预测，无法重新计算，p 值由置信区间近似得出：{}。",
        "exploratory": "（探索性）",
        "older": "标为探索性的行早于事先写定的方案（`sweeps/*.yaml` 的开头），看结果之前没有定下任何内容。",
        "published": "按已发表数字的算法（各 batch 的平均，并按它选最佳 epoch），{}，n = {}："
        "不加注意力 {}，加注意力 {}（{}）。",
        "folded": "另有 {} 项，规模很小：种子不到 {} 个，没有置信区间，也不下结论",
    },
}  # fmt: skip


def _row(sweep, comparison: dict, arm: dict, p: float | None, text: dict) -> tuple[str, ...]:
    final = arm["final"]
    against = baseline_text(comparison)
    sides = [
        percent(final[side]["mean"]) + (f" ± {100 * final[side]['sd']:.2f}" if arm["n"] > 1 else "")
        for side in ("baseline", "arm")
    ]
    difference = final["difference"]
    bounds = [difference[name] for name in ("t_interval", "images_and_seeds_interval")]
    return (
        f"[{as_text(text['title'](comparison['title']))}]({quote(f'results/{sweep.name}')})"
        + (text["exploratory"] if comparison.get("exploratory") else ""),
        as_text(arm["title"]) + ("" if against == "without attention" else f", against that {against}"),
        str(arm["n"]),
        *sides,
        points(difference["mean"]),
        *(text["none"] if one is None else interval(one) for one in bounds),
        text["none"] if p is None else f"{p:.3f}",
    )


def as_text(name: str) -> str:
    """A name for a cell of a table: nothing in it is HTML, ends a link or the cell, or reads as a marker."""
    text = html.escape(" ".join(name.split()), quote=False)
    return re.sub(r"[|\[\]]", lambda sign: f"&#{ord(sign[0])};", text)


def with_block(text: str, block: str, markers: tuple[str, str]) -> str:
    """The README's text with what is between the two markers replaced. Raises UserError without them."""
    before, begin, rest = text.partition(markers[0])
    _, end, after = rest.partition(markers[1])
    if not (begin and end):
        raise UserError(f"a README has lost the lines {' and '.join(markers)}; put them back where they belong")
    return f"{before}{begin}\n{block}\n{end}{after}"


def renewed(text: str, results: Path, language: str) -> str:
    """The README's text with its table and its answer from `results`."""
    text = with_block(text, results_table(results, language), (BEGIN, END))
    return with_block(text, answer_block(read_sweeps(results), language, results.name), ANSWER)


def update_readme(readme: Path, results: Path = RESULTS) -> None:
    write_text(readme, renewed(readme.read_text(encoding="utf-8"), results, language_of(readme)))
