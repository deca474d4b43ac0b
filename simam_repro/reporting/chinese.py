"""The report in Chinese: titles, sentences and phrases."""

import re
from pathlib import Path

import yaml

from simam_repro.evaluation import wording
from simam_repro.evaluation.statistics import FEWEST_SEEDS
from simam_repro.reporting.numbers import interval, percent, points

# {English: Chinese}
PHRASES = yaml.safe_load((Path(__file__).parent / "templates" / "chinese.yaml").read_text(encoding="utf-8"))


def title(text: str) -> str:
    """Of a comparison (`wording.title`, `wording.row_title`)."""
    for pattern, words in (
        (r" at (\d+) pixels", r"，\1 像素"),
        (r", ([\d,]+) training images", r"，\1 张训练图像"),
        (r", (\d+) epochs?", r"，\1 个 epoch"),
        (r", each seed on a split of its own", "，每个种子各用一种划分"),
        (r", split (\d)", r"，第 \1 种划分"),
        (r", the original's recipe with its quirks", "，原代码实际执行的方案"),
        (r", swings (\d+) steps, not (\d+)", r"，学习率摆动周期 \1 步（原为 \2 步）"),
        (r" on (?=[A-Z])", "，"),
        (r" \(stand-in data\)", "（替代数据）"),
        (r" against ", "，对照 "),
        (r", (?=[A-Z])", "，"),
        (r": ", "："),
    ):
        text = re.sub(pattern, words, text)
    return text


def number(text: str) -> str:
    """A printed number, interval or duration (`simam_repro.reporting.numbers`)."""
    if text == "none":
        return "无"
    text = text.replace(" to ", " 至 ")
    return re.sub(r" (s|min|h)$", lambda unit: {"s": " 秒", "min": " 分钟", "h": " 小时"}[unit[1]], text)


def outcome(comparison: dict, arm: dict) -> str:
    """What `wording.sentence` says of the final epoch."""
    said = _one_pair(comparison, arm) if arm["n"] == 1 else _pairs(comparison, arm)
    note = "替代数据，不能说明注意力是否有用。" if comparison["data"]["stand_in"] else ""
    runs = f"{arm['n']} 个种子" if arm["n"] > 1 else f"每组一次训练，种子 {arm['seeds'][0]}"
    return f"{note}{title(comparison['title'])}，{runs}：{said}。"


def _pairs(comparison: dict, arm: dict) -> str:
    difference, n = arm["final"]["difference"], arm["n"]
    over_seeds, both = (difference[f"{over}_interval"] for over in ("t", "images_and_seeds"))
    observed = f"{_observed(comparison, arm)}（{n} 个种子的平均）"
    if n < FEWEST_SEEDS:
        return f"{observed}；种子不到 {FEWEST_SEEDS} 个，没有置信区间，不能下结论"
    if over_seeds is None:
        return f"{observed}；各种子的差值完全相同，没有置信区间，不能下结论"
    several = "splits" in comparison["data"]
    alone, together = ("同时考虑种子和划分", "图像、种子和划分") if several else ("只考虑种子", "图像和种子")
    intervals = (
        f"{level(len(comparison['arms']))} 置信区间：{alone} {number(interval(over_seeds))}，"
        f"同时考虑{together} {number(interval(both))}"
    )
    return f"{observed}；{intervals}；{_found(arm['final'], difference)}"


def _observed(comparison: dict, arm: dict) -> str:
    baseline = "不加注意力" if wording.is_plain(comparison) else comparison["baseline"]["title"]
    mean = arm["final"]["difference"]["mean"]
    size = f"{100 * abs(mean):.2f}"
    if size == "0.00":
        return f"{arm['title']} 的最终准确率与{baseline}的相同"
    return f"{arm['title']} 的最终准确率比{baseline}的{'高' if mean > 0 else '低'} {size} 个百分点"


def level(arms: int) -> str:
    """Of several arms' intervals, see `wording.level_text`."""
    return "95 %" if arms == 1 else f"{arms} 组合计 95 %"


def _found(block: dict, difference: dict) -> str:
    if effect := wording.effect(difference):
        return f"在这个网络、数据和训练方案上，有可测的{'提升' if effect > 0 else '下降'}"
    if wording.side(difference["t_interval"]):
        return "两个置信区间没有都排除 0，不能说有效果"
    tested = difference["equivalence"]
    margin = f"{100 * tested['margin']:g} 个百分点"
    if tested["shown"]:
        return f"在 {margin}以内等效（两次单侧检验，各 5%）"
    said = f"既不能证明有效果，也不能证明在 {margin}以内等效"
    found = block.get("detectable_difference")
    return said if found is None else f"{said}；真实差值若小于 {100 * found:.2f} 个百分点，五次里会漏掉一次以上"


def _one_pair(comparison: dict, arm: dict) -> str:
    test = arm["final"]["mcnemar"]["per_seed"][0]
    chance = "超出" if test["p"] < 0.05 else "没有超出"
    return (
        f"{_observed(comparison, arm)}；在这 {comparison['data']['eval_images']} 张评估图像上，"
        f"两个网络的差别{chance}偶然的"
        f"范围（McNemar p = {test['p']:.2g}）；每组只训练了一次，对其他种子什么也说明不了"
    )


def robustness(comparison: dict) -> str:
    """What the sentence of a comparison in robustness.json says."""
    means = {}
    if kinds := len(comparison.get("corruptions", ())):
        means[f"{kinds} 种图像退化下的平均"] = comparison["mean_corruption"]
    for name, attack in comparison["attacks"].items():
        means[f"{name.upper()} 攻击下（{len(attack['eps'])} 种强度的平均）"] = attack["mean"]
    return "".join(_one_mean(comparison, *mean) for mean in (means or {"干净图像上的": comparison["clean"]}).items())


def _one_mean(comparison: dict, what: str, numbers: dict) -> str:
    n, difference = comparison["n"], numbers["difference"]
    baseline = "不加注意力" if wording.is_plain(comparison) else comparison["baseline"]["title"]
    sides = [percent(numbers[side]["mean"]) for side in ("baseline", "arm")]
    change = f"差值 {points(difference['mean'])} 个百分点"
    told = f"{what}准确率：{baseline} {sides[0]}，{comparison['arm']['title']} {sides[1]}，{change}"
    if difference["t_interval"] is None:
        runs = "每组只训练了一次" if n == 1 else f"只有 {n} 对，没有置信区间"
        return f"{told}；{runs}，对其他种子什么也说明不了。"
    both = difference["images_and_seeds_interval"]
    intervals = (
        f"{level(comparison['arms'])} 置信区间：{n} 对种子 {number(interval(difference['t_interval']))}，"
        f"同时考虑图像和种子 {number(interval(both)) if both else '未知'}"
    )
    found = {1: "加了之后更高", -1: "加了之后更低"}.get(wording.effect(difference))
    return f"{told}（{intervals}）：{found or _found({}, difference)}。"
