"""The arms of a comparison: which runs they are, several against one baseline, and the comparisons of before."""

import json

import numpy as np
import pytest
from made_runs import write_pair, write_run

from simam_repro.errors import UserError
from simam_repro.evaluation.arms import find_arms
from simam_repro.evaluation.comparison import compare
from simam_repro.evaluation.older import present_comparison
from simam_repro.evaluation.outcomes import read_outcomes
from simam_repro.models import build_model
from simam_repro.models.summary import summarise
from simam_repro.reporting import chinese, comparison_text, cost, plot_comparison
from simam_repro.reporting import comparison_figure as reporting
from simam_repro.reporting.cost import cost_table
from simam_repro.reporting.key_figure import numeric_key
from simam_repro.reporting.results import RESULTS
from simam_repro.reporting.style import arm_looks
from simam_repro.runs import find_runs
from simam_repro.storage import write_json


def test_arms_are_the_same_but_for_attention(tmp_path):
    runs = write_pair(tmp_path / "a") + write_pair(tmp_path / "b", config={"optim": {"learning_rate": 0.5}})
    lonely = write_run(tmp_path / "c/seed1", "simam", 1)
    found, left_out = find_arms([*runs, lonely])
    assert [[arms.seeds(arm) for arm in arms.others] for arms in found] == [[[0]]] * 2
    assert left_out == []  # seed 1 belongs to the first comparison, whose baseline lacks it
    assert found[0].missing() == ["made seed 1: not there"]
    other = write_run(tmp_path / "d/seed0", config={"model": {"backbone": "alexnet"}})
    assert find_arms([*runs, other])[1] == ["d/seed0"]
    with pytest.raises(UserError, match="same arm with seed 0"):
        find_arms([*runs, write_run(tmp_path / "again/seed0", "none")])


def test_each_lambda_is_an_arm(tmp_path):
    off = write_run(tmp_path / "off/seed0")
    small, large = (
        write_run(tmp_path / name / "seed0", "simam", config={"model": {"e_lambda": e_lambda}, "name": name})
        for name, e_lambda in (("small", 1e-5), ("large", 0.1))
    )
    # A sweep over lambda repeats the arm without attention, under another name: the same experiment.
    again = write_run(tmp_path / "own/seed0", config={"model": {"e_lambda": 0.1}, "name": "own"})
    (arms,), left_out = find_arms([off, small, large, again])
    assert arms.baseline.runs == {0: off} and [arm.runs for arm in arms.others] == [{0: small}, {0: large}]
    assert len({arm.title for arm in arms.others}) == 2
    assert left_out == ["own/seed0, the same as made"]
    # Where files lie and what computes makes no other experiment.
    moved = write_run(tmp_path / "moved/seed1", "simam", 1, config={
        "data": {"dataset": "shapes16", "image_size": 128, "root": "elsewhere", "num_workers": 0},
        "model": {"fused": False, "e_lambda": 0.1}, "train": {"epochs": 3, "device": "cpu"}, "name": "large",
    })  # fmt: skip
    (arms,), _ = find_arms([off, large, moved])
    assert list(arms.others[0].runs) == [0, 1]


ARMS = ("none", "simam", {"name": "se", "reduction": 8}, "gate", "simam_unit")


@pytest.fixture(scope="module")
def five_arms(tmp_path_factory):
    """Runs of five arms and five seeds; the last seed of one arm is not complete."""
    folder, rng = tmp_path_factory.mktemp("arms"), np.random.default_rng(3)
    difficulty = rng.random(90)
    for seed in range(5):
        for place, arm in enumerate(ARMS):
            right = difficulty + rng.normal(0, 0.1, 90) + rng.normal(0, 0.02) < 0.6 + 0.03 * place
            config = {"name": f"made-{place}", "model": {"attention": arm}}
            write_run(folder / f"made-{place}" / f"seed{seed}", "none", seed, right, right, config=config)
    find_runs(folder)[-1].result.unlink()
    return find_runs(folder)


def test_several_arms_have_one_baseline_and_intervals_that_hold_together(five_arms):
    (comparison,) = compare(five_arms)["comparisons"]
    assert comparison["baseline"]["title"] == "none" and comparison["confidence"] == pytest.approx(1 - 0.05 / 4)
    assert [arm["title"] for arm in comparison["arms"]] == [
        "SimAM", "SE (reduction 8)", "constant gate", "SimAM with unit mean",
    ]  # fmt: skip
    assert [arm["n"] for arm in comparison["arms"]] == [5, 5, 5, 4] and comparison["missing"] == [
        "made-4 seed 4: not complete"
    ]
    se = comparison["arms"][1]
    assert se["attention"] == {"name": "se", "reduction": 8}
    difference = se["final"]["difference"]
    half = (difference["t_interval"][1] - difference["t_interval"][0]) / 2
    # t(1 - 0.05 / 8, 4) = 4.3147 from a table of t.
    assert half == pytest.approx(4.3147 * difference["sd"] / np.sqrt(5), rel=1e-4)
    alone = compare([run for run in five_arms if run.path.parent.name in ("made-0", "made-2")])["comparisons"][0]
    assert alone["arms"][0]["final"]["difference"]["values"] == difference["values"]
    both = [one["images_and_seeds_interval"] for one in (difference, alone["arms"][0]["final"]["difference"])]
    assert both[0][0] < both[1][0] and both[1][1] < both[0][1]


def test_text_and_figure_of_several_arms(five_arms, monkeypatch):
    (comparison,) = compare(five_arms)["comparisons"]
    text = comparison_text(comparison)
    assert max(map(len, text.splitlines())) <= 100
    said = " ".join(text.split())
    for arm in comparison["arms"]:
        assert arm["final"]["sentence"] in said and f"{arm['title']}: {arm['name']}, n = {arm['n']}" in said
    assert "intervals of 95 % for all 4 arms together" in said
    drawn = []
    monkeypatch.setattr(reporting, "save_figure", lambda figure, path: drawn.append(figure))
    plot_comparison([comparison], "unused.png")
    seeds, final, best = drawn[0].subfigs[0].axes
    assert [label.get_text() for label in seeds.get_yticklabels()] == [
        "none",
        *(a["title"] for a in comparison["arms"]),
    ]
    for panel, which in ((final, "final"), (best, "best")):
        bars = [
            line.get_xdata() for line in panel.get_lines() if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"
        ]
        low, high = bars[1]  # after the line at zero
        interval = comparison["arms"][0][which]["difference"]["t_interval"]
        assert (low, high) == pytest.approx(tuple(100 * np.array(interval)))
        assert len(bars) == 1 + 2 * 3  # four seeds have no interval


def test_looks_belong_to_titles():
    titles = ["none", "SimAM", "SE", "ECA", "CBAM", "GCT", "SRM", "GC", "LCT", "SGE", "Triplet", "constant gate"]
    looks = arm_looks(titles)
    assert len({look["color"] for look in looks.values()}) == len({look["marker"] for look in looks.values()}) == 12
    assert list(looks) == titles and arm_looks(titles[::-1]) == looks
    pair = arm_looks(["none", "SimAM"])
    assert pair["none"] == looks["none"] == arm_looks(["none", "SE"])["none"]


def test_comparisons_of_before_there_were_arms_are_read():
    """Every number that the committed comparisons of schema 1 have is the same in the present form."""
    for path in sorted(RESULTS.glob("*/comparison.json")):
        old = json.loads(path.read_text())
        if old["schema"] != 1:
            continue
        experiments = {run.read_experiment().name: run.read_experiment() for run in find_runs(path.parent)}
        new = present_comparison(old, experiments)
        assert new["schema"] == 2 and not new["recomputable"]
        for before, now in zip(old["comparisons"], new["comparisons"], strict=True):
            (arm,) = now["arms"]
            assert (now["baseline"]["name"], arm["name"]) == (before["off"], before["on"])
            assert (arm["seeds"], arm["n"]) == (before["seeds"], before["n"])
            assert now["title"].startswith(before["title"])  # how a shorter faithful recipe swings joined it later
            for which in ("final", "best"):
                assert arm[which]["baseline"] == before[which]["off"] and arm[which]["arm"] == before[which]["on"]
                for key in ("values", "mean", "sd", "images_interval"):
                    assert arm[which]["difference"][key] == before[which]["difference"][key]
                for key in ("t_interval", "t_p", "images_and_seeds_interval"):
                    kept = before[which]["difference"][key] if before["n"] >= 5 else None
                    assert arm[which]["difference"][key] == kept
    with pytest.raises(UserError, match="schema 3: this code reads 1 and 2"):
        present_comparison({"schema": 3}, {})


def test_any_arm_can_be_the_baseline(tmp_path):
    runs = write_pair(tmp_path)
    for name in ("SimAM", "simam", "made_simam"):
        (comparison,) = compare(runs, name)["comparisons"]
        (arm,) = comparison["arms"]
        assert (comparison["baseline"]["title"], arm["name"]) == ("SimAM", "made")
        assert arm["final"]["difference"]["mean"] == -0.25
    assert "with SimAM on" not in arm["final"]["sentence"] and "than with SimAM" in arm["final"]["sentence"]
    with pytest.raises(UserError, match="no arm is called 'se'; there are made, made_simam"):
        compare(runs, "se")
    assert compare(runs[1:])["comparisons"] == []  # no plain network


def test_cost_beside_accuracy(five_arms, monkeypatch):
    """Parameters and times from result.json, FLOPs of the network; the table and the figure have every arm."""
    for run in five_arms[5:10]:  # of one arm: a fifth slower
        if run.complete:
            write_json(run.result, run.read_result() | {"train_images_per_s": 10 / 1.2})
    (comparison,) = compare(five_arms)["comparisons"]
    base, slow, se, *_ = comparison["baseline"]["cost"], *(arm["cost"] for arm in comparison["arms"])
    assert base["train_ms"]["values"] == [100.0] * 5 and base["eval_ms"]["mean"] == pytest.approx(1000 / 30)
    assert slow["train_ms"]["mean"] == pytest.approx(120) and base["parameters"] == 100
    ratios = comparison["arms"][0]["cost_ratios"]["train_ms"]
    assert ratios["values"] == pytest.approx([1.2] * 5) and ratios["t_interval"] is None  # equal: no interval
    plain, with_se = (
        summarise(build_model(run.read_experiment().model, 4, 128), 128).flops for run in (five_arms[0], five_arms[10])
    )
    assert (base["flops"], se["flops"]) == (plain, with_se) and plain < with_se
    measured = {"mean": 0.25, "values": [0.25] * 5}
    difference = {**measured, "t_interval": [0.1, 0.4], "images_and_seeds_interval": None}
    robustness = {"comparisons": [{
        "baseline": comparison["baseline"], "arm": comparison["arms"][1], "attacks": {},
        "mean_corruption": {"baseline": measured, "arm": measured, "difference": difference},
    }]}  # fmt: skip
    header, plain, slow, se, *_ = cost_table(comparison, robustness).splitlines()
    assert header.split()[-1] == "corrupted" and [row.split()[-1] for row in (plain, slow, se)] == ["25.0", "-", "25.0"]
    assert "120.00 x1.20" in slow and max(map(len, cost_table(comparison, robustness).splitlines())) <= 100
    drawn = []
    monkeypatch.setattr(cost, "save_figure", lambda figure, path: drawn.append(figure))
    cost.plot_cost([comparison], "unused.png", robustness)
    lines, scatter = drawn[0].subfigs[0].subfigs
    assert [panel.get_title().split(",")[0] for panel in lines.axes] == [
        "accuracy", "ECE", "corrupted", "parameters", "FLOPs", "training time", "inference time",
    ]  # fmt: skip
    assert [label.get_text() for label in lines.axes[0].get_yticklabels()] == [
        "SimAM", "SE (reduction 8)", "constant gate", "SimAM with unit mean",
    ]  # fmt: skip
    assert len(scatter.axes) == 2


def test_one_module_with_several_numbers_is_drawn_over_them(tmp_path, monkeypatch):
    for e_lambda in (1e-6, 1e-3, 1):
        config = {"name": f"made-{e_lambda}", "model": {"attention": {"name": "simam", "e_lambda": e_lambda}}}
        write_run(tmp_path / f"{e_lambda}/seed0", "none", config=config)
    write_run(tmp_path / "off/seed0")
    (comparison,) = compare(find_runs(tmp_path))["comparisons"]
    assert numeric_key(comparison) == "e_lambda"
    drawn = []
    monkeypatch.setattr(reporting, "save_figure", lambda figure, path: drawn.append(figure))
    plot_comparison([comparison], "unused.png")
    final, _ = drawn[0].subfigs[0].axes
    assert final.get_xscale() == "log" and final.get_xlabel() == "simam: e_lambda"
    assert [label.get_text() for label in final.get_xticklabels()] == ["1e-06", "0.001", "1"]
    comparison["arms"][0]["attention"]["position"] = "act"  # two keys differ: a line an arm
    assert numeric_key(comparison) is None


def write_split_runs(folder, pairs) -> None:
    """A pair of runs for each (seed, split), the eval images of a split being its own and not as many."""
    rng = np.random.default_rng(11)
    for seed, split in pairs:
        off, on = (rng.random(40 - split) < share for share in (0.5, 0.7))
        config = {"data": {"dataset": "shapes16", "image_size": 128, "split": split}}
        for attention, right in (("none", off), ("simam", on)):
            write_run(folder / f"{attention}{split}" / f"seed{seed}", attention, seed, right, right, config=config)


def test_a_split_for_each_seed_is_one_comparison_over_both(tmp_path):
    write_split_runs(tmp_path, zip(range(5), range(5)))
    (comparison,) = compare(find_runs(tmp_path))["comparisons"]
    assert [split["eval_images"] for split in comparison["data"]["splits"]] == [40, 39, 38, 37, 36]
    assert comparison["title"].endswith("each seed on a split of its own")
    (arm,) = comparison["arms"]
    sides = [[read_outcomes(run).final.right for run in find_runs(tmp_path) if name in run.path.parent.name]
             for name in ("none", "simam")]  # fmt: skip
    differences = [on.mean() - off.mean() for off, on in zip(*sides)]
    final = arm["final"]
    np.testing.assert_allclose(final["difference"]["values"], differences)
    half = 2.7764 * np.std(differences, ddof=1) / np.sqrt(5)  # t(0.975, 4) from a table
    np.testing.assert_allclose(final["difference"]["t_interval"], np.mean(differences) + np.array([-half, half]), 1e-3)
    assert final["mcnemar"]["pooled"]["only_arm_right"] == sum((on & ~off).sum() for off, on in zip(*sides))
    assert final["mcnemar"]["pooled"]["caveat"] is None
    assert sum(one["images"] for one in final["classes"]) == 40 + 39 + 38 + 37 + 36
    said = final["sentence"]
    assert "over seeds and splits together" in said and "over images, seeds and splits together" in said
    assert "5 splits, each with 32 train and 36 to 40 eval images" in " ".join(comparison_text(comparison).split())
    assert "同时考虑种子和划分" in chinese.outcome(comparison, arm)


def test_a_grid_of_seeds_and_splits_is_a_comparison_for_each_split(tmp_path):
    write_split_runs(tmp_path, [(seed, split) for seed in (0, 1) for split in (0, 2)])
    comparisons = compare(find_runs(tmp_path))["comparisons"]
    assert [one["data"]["eval_images"] for one in comparisons] == [40, 38]
    assert [one["arms"][0]["seeds"] for one in comparisons] == [[0, 1], [0, 1]]
    assert comparisons[1]["title"].endswith("split 2") and "splits" not in comparisons[1]["data"]
