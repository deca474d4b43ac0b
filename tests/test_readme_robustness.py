"""README's rows of robustness, and what stands beside the published accuracies."""

import json
from pathlib import Path

import pytest
from made_runs import write_sweep

from simam_repro.config import load_config
from simam_repro.evaluation.comparison import compare
from simam_repro.evaluation.wording import title
from simam_repro.reporting import chinese
from simam_repro.reporting.like_published import like_published
from simam_repro.reporting.readme_robustness import robustness_block, robustness_rows
from simam_repro.reporting.results import Sweep, read_sweeps
from simam_repro.storage import write_json

TITLE = "TowerNet, Caltech101-16 at 128 pixels, 40 epochs"


def numbers(mean, over_seeds, both, p) -> dict:
    tested = {"margin": 0.005, "shown": False}
    difference = {
        "mean": mean, "t_interval": over_seeds, "images_and_seeds_interval": both, "p": p, "equivalence": tested,
    }  # fmt: skip
    return {"baseline": {"mean": 0.5}, "arm": {"mean": 0.5 + mean}, "difference": difference}


def measured(**more) -> Sweep:
    comparison = {
        "arm": {"title": "SimAM"}, "n": 5,
        "mean_corruption": numbers(0.02, (0.01, 0.03), (0.005, 0.035), 0.01),
        "attacks": {
            "fgsm": {"mean": numbers(-0.06, (-0.08, -0.04), (-0.09, -0.03), 0.03)},
            "pgd": {"mean": numbers(-0.05, (-0.07, -0.03), None, None)},
        },
        "mce": {"mean": 0.961, "t_interval": (0.9167, 1.0054)},
        "relative_mce": {"mean": 1.0711, "t_interval": (1.0274, 1.1147)},
    }  # fmt: skip
    robustness = {"data": {"stand_in": False}, "comparisons": [{**comparison, **more}]}
    return Sweep(Path("results/x"), [{"title": TITLE}], True, robustness, {})


def rows(block: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines() if line.startswith("| Tower")
    ]


def test_rows_follow_the_rule_of_both_intervals():
    corruptions, fgsm, pgd = rows(robustness_block([measured()], "en"))
    assert corruptions[3:] == [
        "corruptions", "50.00 %", "52.00 %", "+2.00", "+1.00 to +3.00", "+0.50 to +3.50", "0.020", "effect shown",
    ]  # fmt: skip
    assert fgsm[3] == "FGSM" and fgsm[-2:] == ["0.030", "effect shown"]
    assert pgd[-3:] == ["not known", "none", "no claim: one interval is not known"]
    # A third row with a p: of 0.03, 0.03 and 0.04 the smallest counts three times, and none is below 0.05 any more.
    more = measured(attacks={name: {"mean": numbers(-0.06, (-0.08, -0.04), (-0.09, -0.03), 0.03)} for name in "ab"})
    more.robustness["comparisons"][0]["mean_corruption"]["difference"]["p"] = 0.04
    assert [row[-1] for row in rows(robustness_block([more], "en"))] == ["not after Holm"] * 3


def test_what_no_interval_excludes_is_not_shown_even_where_the_other_is_not_known():
    sweep = measured(mean_corruption=numbers(0.02, (-0.01, 0.05), None, None))
    assert rows(robustness_block([sweep], "en"))[0][-1] == "not shown"


def test_corruption_errors_are_relative_to_the_baseline_in_both_languages():
    told = robustness_block([measured()], "en")
    assert "mCE 96.1 % (95% over seeds: 91.6 % to 100.6 %)" in told
    assert "107.1 % (95% over seeds: 102.7 % to 111.5 %)" in told
    chinese_told = robustness_block([measured()], "zh")
    assert "107.1 %（种子的 95% 置信区间：102.7 % 至 111.5 %）" in chinese_told and "图像退化" in chinese_told


def test_stand_in_data_and_no_measurements_give_no_rows():
    sweep = measured()
    sweep.robustness["data"]["stand_in"] = True
    assert robustness_rows([sweep]) == [] and robustness_block([sweep], "en") == ""


def test_like_is_compared_with_the_published_numbers(tmp_path):
    config = {"data": {"dataset": "cifar10", "image_size": 128}, "model": {"backbone": "alexnet"}}
    runs = write_sweep(tmp_path / "x", seeds=2, config=config, data={"name": "cifar10", "stand_in": False})
    write_json(tmp_path / "x" / "comparison.json", compare(runs))
    assert like_published(read_sweeps(tmp_path)) == []  # their runs have not recorded the metric
    for run in runs:
        best = 0.8 + 0.02 * run.read_result()["seed"] + 0.01 * (run.path.parent.name == "made_simam")
        values = (0.5, best, 0.6)
        lines = [{**one, "eval_batch_mean_acc": value} for one, value in zip(run.read_metrics(), values)]
        run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ((_, arm, sides),) = like_published(read_sweeps(tmp_path))
    assert arm["name"] == "made_simam" and sides == pytest.approx([0.81, 0.82])


def test_a_shorter_faithful_recipe_says_how_it_swings():
    config, data = "configs/faithful/caltech_towernet.yaml", {"name": "caltech101_16", "stand_in": False}
    assert "swings" not in title(load_config(config), data)
    told = title(load_config(config, ["train.epochs=40"]), data)
    assert told.endswith("the original's recipe with its quirks, swings 80 steps, not 200")
    assert chinese.title(told).endswith("学习率摆动周期 80 步（原为 200 步）")
