"""compare.py: which runs it pairs, what it computes, writes and says, and what it refuses."""

import json
import re

import made_runs
import numpy as np
import pytest
from made_runs import write_pair, write_sweep

from simam_repro.errors import UserError
from simam_repro.evaluation import wording
from simam_repro.evaluation.comparison import compare
from simam_repro.reporting import comparison_figure as reporting
from simam_repro.reporting import comparison_text, plot_comparison
from simam_repro.runs import find_runs

REAL = {"stand_in": False, "name": "cifar10"}


def only(runs) -> tuple[dict, dict]:
    """The only comparison and its only arm."""
    (comparison,) = compare(runs)["comparisons"]
    (arm,) = comparison["arms"]
    return comparison, arm


def test_numbers_by_hand(tmp_path):
    # 8 images: seed 0 wins image 2 and loses image 1, seed 1 wins two, the others are equal.
    off = [1, 1, 0, 0, 1, 1, 1, 0]
    runs = write_pair(tmp_path, 0, off, [1, 0, 1, 0, 1, 1, 1, 0])
    runs += write_pair(tmp_path, 1, off, [1, 1, 1, 1, 1, 1, 1, 0])
    runs += [run for seed in (2, 3, 4) for run in write_pair(tmp_path, seed, off, off)]
    comparison, arm = only(runs)
    block = arm["final"]
    assert (comparison["baseline"]["name"], arm["name"], arm["title"]) == ("made", "made_simam", "SimAM")
    assert arm["seeds"] == [0, 1, 2, 3, 4] and arm["n"] == 5 and comparison["missing"] == []
    assert block["baseline"]["values"] == [5 / 8] * 5 and block["baseline"]["sd"] == 0
    assert block["arm"]["values"] == [5 / 8, 7 / 8, 5 / 8, 5 / 8, 5 / 8]
    difference = block["difference"]
    assert difference["values"] == [0, 0.25, 0, 0, 0] and difference["mean"] == pytest.approx(0.05)
    # sd = 0.25 / sqrt(5), its standard error 0.25 / 5; t(0.975, 4) = 2.776445.
    assert difference["sd"] == pytest.approx(0.25 / np.sqrt(5))
    assert difference["t_interval"] == pytest.approx((0.05 - 2.776445 / 20, 0.05 + 2.776445 / 20))
    assert difference["effect_size"]["d"] == pytest.approx(1 / np.sqrt(5))  # 0.05 / (0.25 / sqrt(5))
    assert difference["effect_size"]["g"] == pytest.approx(1 / np.sqrt(5) * (1 - 3 / 15))
    counts = [
        (test["seed"], test["only_baseline_right"], test["only_arm_right"]) for test in block["mcnemar"]["per_seed"]
    ]
    assert counts == [(0, 1, 1), (1, 0, 2), (2, 0, 0), (3, 0, 0), (4, 0, 0)]
    pooled = block["mcnemar"]["pooled"]
    # 1 of 4, both tails: 2 (1 + 4) / 16.
    assert (pooled["only_baseline_right"], pooled["only_arm_right"], pooled["p"]) == (1, 3, pytest.approx(0.625))
    assert "share their images" in pooled["caveat"]
    assert block["seeds_needed_for_published"]["difference"] == pytest.approx(0.84355 - 0.84286)
    for side, runs_of in (("baseline", runs[0::2]), ("arm", runs[1::2])):
        assert block["loss"][side]["values"] == pytest.approx([r.read_result()["final"]["eval_loss"] for r in runs_of])
    ece = block["ece"]
    assert ece["difference"]["mean"] == pytest.approx(ece["arm"]["mean"] - ece["baseline"]["mean"])
    # The label is the image's number modulo 4: class 2 has images 2 and 6, of which 2 is won twice in five seeds.
    assert block["classes"][2] == {
        "class": "2", "images": 2, "baseline": 0.5, "arm": pytest.approx(0.7), "difference": pytest.approx(0.2),
    }  # fmt: skip
    assert sum(one["difference"] * one["images"] for one in block["classes"]) == pytest.approx(8 * 0.05)


def test_final_and_best_are_their_own_predictions(tmp_path):
    _, arm = only(write_sweep(tmp_path, seeds=2, images=50))
    for which in ("final", "best"):
        recorded = [run.read_result()[which]["eval_acc"] for run in find_runs(tmp_path)]
        assert arm[which]["baseline"]["values"] + arm[which]["arm"]["values"] == recorded
    assert arm["final"]["baseline"]["values"] != arm["best"]["baseline"]["values"]


def test_what_the_json_holds(tmp_path):
    comparison = compare(write_sweep(tmp_path, seeds=6, images=40))
    again = json.loads(json.dumps(comparison, allow_nan=False))
    assert again["schema"] == 2 and again["left_out"] == []
    assert again["method"]["bootstrap"] == {"kind": "percentile", "resamples": 5000, "random_seed": 0}
    assert again["method"]["margin"] == 0.005 and again["method"]["several_arms"] == "Bonferroni"
    (comparison_,) = again["comparisons"]
    assert set(comparison_) == {
        "title", "data", "backbone", "image_size", "epochs", "best_chosen_on", "missing", "hardware", "versions",
        "git_commits", "warnings", "confidence", "baseline", "arms",
    }  # fmt: skip
    assert set(comparison_["data"]) == {"name", "sha256", "stand_in", "train_images", "eval_images"}
    assert {"cpu", "threads", "device", "gpu"} <= set(comparison_["hardware"])
    assert comparison_["versions"] == {"paddle": "3.3.1", "python": "3.11.7", "numpy": "2.4.6"}
    assert comparison_["git_commits"] == ["1234567"] and comparison_["confidence"] == 0.95
    (arm,) = comparison_["arms"]
    assert set(arm) == {
        "title", "name", "attention", "seeds", "n", "wall_s", "cost", "cost_ratios", "final", "best",
    }  # fmt: skip
    assert arm["wall_s"] == {"baseline": [60.0] * 6, "arm": [60.0] * 6}
    of_seeds = {"values", "mean", "sd", "t_interval", "t_p", "bootstrap_interval"}
    of_images = {"images_and_seeds_interval", "images_interval", "images_and_seeds_p"}
    of_accuracy = {"p", "effect_size", "equivalence"}
    for which in ("final", "best"):
        block = arm[which]
        assert set(block) == {
            "baseline", "arm", "difference", "mcnemar", "ece", "loss", "classes", "detectable_difference",
            "seeds_needed_for_published", "sentence",
        }  # fmt: skip
        assert set(block["difference"]) == of_seeds | of_images | of_accuracy
        assert set(block["ece"]["difference"]) == set(block["loss"]["difference"]) == of_seeds
        for interval in ("t_interval", "bootstrap_interval", "images_and_seeds_interval", "images_interval"):
            low, high = block["difference"][interval]
            assert low < block["difference"]["mean"] < high
        assert block["difference"]["p"] == max(block["difference"]["t_p"], block["difference"]["images_and_seeds_p"])
        inner, outer = block["difference"]["equivalence"]["t_interval"], block["difference"]["t_interval"]
        assert outer[0] < inner[0] < inner[1] < outer[1]  # 90 % within 95 %
    assert compare(find_runs(tmp_path)) == comparison  # the random numbers are the same each time


def test_one_pair_says_nothing_about_seeds(tmp_path):
    _, arm = only(write_pair(tmp_path, 4, data=REAL))
    block = arm["final"]
    nothing = ("sd", "t_interval", "t_p", "bootstrap_interval", "images_and_seeds_interval", "p", "equivalence")
    assert [block["difference"][key] for key in nothing] == [None] * len(nothing)
    assert block["detectable_difference"] is block["seeds_needed_for_published"]["n"] is None
    assert block["mcnemar"]["pooled"]["caveat"] is None and block["difference"]["effect_size"]["d"] is None
    low, high = block["difference"]["images_interval"]
    assert low <= 0.25 <= high
    said = block["sentence"]
    assert "one run each, seed 4" in said and "25.00 points higher than without attention" in said and "p = 1)" in said
    assert "says nothing about other seeds" in said and "no more than chance" in said
    assert "measurable" not in said and "95 %" not in said


def test_few_seeds_give_no_interval_and_no_claim(tmp_path):
    _, arm = only(write_sweep(tmp_path, seeds=4, images=60, gain=0.3, spread=0.001))
    over_seeds = ("t_interval", "t_p", "bootstrap_interval", "images_and_seeds_interval", "p", "equivalence")
    for which in ("final", "best"):
        assert [arm[which]["difference"][key] for key in over_seeds] == [None] * len(over_seeds)
        assert "fewer than 5 seeds give no interval, so no effect can be claimed" in arm[which]["sentence"]
    assert arm["final"]["loss"]["difference"]["t_interval"] is arm["final"]["ece"]["difference"]["t_interval"] is None
    (_, enough) = only(write_sweep(tmp_path / "more", seeds=5, images=60, gain=0.3, spread=0.001))
    assert "a measurable gain" in enough["final"]["sentence"]


def test_equal_differences_give_no_interval_and_no_claim(tmp_path):
    comparison, arm = only([run for seed in range(5) for run in write_pair(tmp_path, seed)])
    assert arm["final"]["difference"]["sd"] == 0 and arm["final"]["difference"]["t_interval"] is None
    assert arm["final"]["detectable_difference"] is None
    assert "25.00 points higher than without attention in each of the 5 seeds" in arm["final"]["sentence"]
    assert "no effect can be claimed" in arm["final"]["sentence"]
    assert "unknown" in comparison_text(comparison)


def block_of(mean, seeds, both, equivalent=False) -> dict:
    tested = {"margin": 0.005, "shown": equivalent}
    difference = {"mean": mean, "t_interval": seeds, "images_and_seeds_interval": both, "equivalence": tested}
    return {"difference": difference, "detectable_difference": 0.021}


def said(mean, seeds, both, stand_in=False, which="final", chosen_on="eval", arms=1, **keys) -> str:
    arm = {"title": "SimAM", "n": 5, "seeds": [0, 1, 2, 3, 4], which: block_of(mean, seeds, both, **keys)}
    comparison = {
        "title": "TowerNet", "best_chosen_on": chosen_on, "data": {"stand_in": stand_in, "eval_images": 365},
        "baseline": {"title": "none", "attention": {"name": "none"}}, "arms": [arm] * arms,
    }  # fmt: skip
    return wording.sentence(comparison, arm, which)


def test_sentences():
    assert said(0.003, (-0.009, 0.015), (-0.01, 0.02)) == (
        "TowerNet, 5 seeds: with SimAM the final accuracy is 0.30 points higher than without attention on average "
        "(95 % interval -0.90 to +1.50); over images and seeds together the interval is -1.00 to +2.00: neither an "
        "effect nor equivalence within 0.5 points is shown; with 5 seeds, a true difference below 2.10 points would be "
        "missed more than one time in five."
    )
    assert said(0.001, (-0.003, 0.004), (-0.003, 0.004), equivalent=True).endswith(
        "the interval is -0.30 to +0.40: equivalent within 0.5 points (two one-sided tests at 5 %)."
    )
    assert said(-0.02, (-0.03, -0.01), (-0.035, -0.005)) == (
        "TowerNet, 5 seeds: with SimAM the final accuracy is 2.00 points lower than without attention on average "
        "(95 % interval -3.00 to -1.00); over images and seeds together the interval is -3.50 to -0.50: a measurable "
        "loss for this network, data and recipe."
    )
    # The interval over seeds alone excludes 0; then the other one alone.
    assert "+0.50 to +3.50), but over images and seeds together the interval is -0.10 to +4.10: no effect can be" in (
        said(0.02, (0.005, 0.035), (-0.001, 0.041))
    )
    assert "neither an effect nor" in said(0.02, (-0.005, 0.045), (0.001, 0.041))
    assert "(interval of 95 % for all 4 arms together, -0.50 to" in said(0.02, (-0.005, 0.045), (0.0, 0.041), arms=4)
    assert said(0.02, (0.01, 0.03), (0.01, 0.03), stand_in=True).startswith("Stand-in data: generated images, no evid")
    assert "the best epoch's accuracy (chosen on the eval images, which flatters all) is the same as without att" in (
        said(0.0, (-0.01, 0.01), (-0.01, 0.01), which="best")
    )
    assert "(chosen on validation images)" in (
        said(0.0, (-0.01, 0.01), (-0.01, 0.01), which="best", chosen_on="validation")
    )


def test_no_sentence_claims_more_than_both_printed_intervals_allow():
    rng = np.random.default_rng(0)
    claims = 0
    for _ in range(3000):
        mean = rng.normal(0, 0.01)
        seeds, both = ((mean - width, mean + width) for width in rng.exponential(0.01, 2))
        text = said(mean, seeds, both)
        above = min(seeds[0], both[0]) > 0
        below = max(seeds[1], both[1]) < 0
        claim = re.search(r"a measurable (gain|loss)", text)
        if claim:
            claims += 1
            assert above if claim.group(1) == "gain" else below
            low, high = map(float, re.search(r"interval (\S+) to ([^)]+)\)", text).groups())
            assert low > 0 or high < 0
        else:
            assert "neither an effect nor equivalence" in text or "no effect can be claimed" in text
    assert 300 < claims < 2700


def test_printed_intervals_are_never_narrower():
    assert wording.interval_text((-0.00901, 0.01501)) == "-0.91 to +1.51"
    # Excludes 0 by less than is printed: no claim.
    assert wording.interval_text((0.00001, 0.02)) == "+0.00 to +2.00"
    barely, clearly = (0.00001, 0.02), (0.001, 0.02)
    for seeds, both, found in ((barely, clearly, 0), (clearly, barely, 0), (clearly, clearly, 1), (None, clearly, 0)):
        assert wording.effect({"t_interval": seeds, "images_and_seeds_interval": both}) == found
    assert wording.interval_text((-0.02, -0.00001)) == "-2.00 to +0.00"
    assert wording.interval_text((0.0123, 0.05), scale=1, decimals=4) == "+0.0123 to +0.0500"


def test_text(tmp_path):
    runs = write_sweep(tmp_path, seeds=5, images=365, chosen_on="validation")
    text = comparison_text(only(runs)[0])
    assert max(map(len, text.splitlines())) <= 100
    for words in (
        "TowerNet, shapes16 (stand-in data) at 128 pixels, 3 epochs", "SimAM: made_simam", ": made\n",
        "n = 5 (seeds 0, 1, 2, 3, 4)", "32 train and 365 eval images", "A processor", "1 thread(s)", "paddle 3.3.1",
        "best epoch *", "* chosen on validation images",
        "Stand-in data: generated images, no evidence about any module.",
        "McNemar p", "detectable with 5 seeds", "0.069 points", "Hedges", "equivalence within 0.5 points",
        "claimed only where both",
    ):  # fmt: skip
        assert words in text, words
    real = comparison_text(only(write_pair(tmp_path / "real", data=REAL))[0])
    assert "tand-in" not in real and "CIFAR-10 at 128 pixels" in real and "* chosen on the eval images" in real


def test_figure(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(reporting, "save_figure", lambda figure, path: drawn.append(figure))
    comparisons = [only(write_sweep(tmp_path / "a", seeds=5))[0], only(write_pair(tmp_path / "b", data=REAL))[0]]
    (arm,) = comparisons[0]["arms"]
    plot_comparison(comparisons, "unused.png")
    plot_comparison(comparisons[1:], "unused.png")
    assert "stand-in data" in drawn[0].get_suptitle() and "stand-in" not in drawn[1].get_suptitle()
    final, best, differences = drawn[0].subfigs[0].axes
    for panel, which in ((final, "final"), (best, "best")):
        lines = [line.get_ydata() for line in panel.get_lines()[:5]]
        sides = [arm[which][side]["values"] for side in ("baseline", "arm")]
        np.testing.assert_allclose(lines, 100 * np.transpose(sides))
    zero, over_seeds, over_both, *_ = differences.get_lines()
    low, high = over_seeds.get_xdata()
    assert (low, high) == pytest.approx(tuple(100 * np.array(arm["final"]["difference"]["t_interval"])))
    assert tuple(over_both.get_xdata()) == pytest.approx(
        tuple(100 * np.array(arm["final"]["difference"]["images_and_seeds_interval"]))
    )
    one_pair = drawn[1].subfigs[0].axes[2].get_lines()
    assert len(one_pair) == 3 and all(line.get_linestyle() == "None" for line in one_pair[1:])  # no interval


def test_other_data_weights_or_images_are_refused(tmp_path):
    for number, (keys, words) in enumerate(
        [({"data": {"sha256": "cd" * 32}}, "different data .sha256"), ({"data": {"train_images": 31}}, "train_images")]
    ):
        with pytest.raises(UserError, match=words):
            compare(write_pair(tmp_path / str(number), on_keys=keys))
    off, on = write_pair(tmp_path / "weights")
    on.result.write_text(json.dumps({**on.read_result(), "weights": {"sha256": "12"}}))
    with pytest.raises(UserError, match="different weights"):
        compare([off, on])
    off, on = write_pair(tmp_path / "images")
    arrays = dict(np.load(on.predictions))
    np.savez(on.predictions, **{**arrays, "sample_ids": arrays["sample_ids"][::-1]})
    with pytest.raises(UserError, match="different eval images"):
        compare([off, on])


def test_other_hardware_and_versions_are_warned_of(tmp_path):
    resumed = {"sessions": [{"after_step": 3, "cpu": "Another"}]}
    runs = write_pair(tmp_path, 0, on_keys={"environment": {"threads": 2}}) + write_pair(tmp_path, 1)
    runs += write_pair(tmp_path, 2, environment={"paddle": "2.6.2"}) + write_pair(
        tmp_path, 3, off_keys={"environment": resumed}
    )
    comparison, _ = only(runs)
    warnings = dict(warning.split(" differs ") for warning in comparison["warnings"])
    assert set(warnings) == {"threads", "paddle", "cpu"}
    assert warnings["threads"].startswith("inside the pairs of seed 0, so it may be the cause")
    assert warnings["paddle"] == "between seeds: 3.3.1 / 2.6.2"
    assert "inside the pairs of seed 3" in warnings["cpu"] and "A processor, then Another" in warnings["cpu"]
    assert comparison["hardware"]["threads"] == "1 / 2" and comparison["hardware"]["device"] == "cpu"
    assert "Warning: threads differs inside" in comparison_text(comparison)


def test_predictions_that_do_not_agree_with_the_result_are_warned_of(tmp_path):
    off, on = write_pair(tmp_path)
    result = on.read_result()
    on.result.write_text(json.dumps({**result, "final": {**result["final"], "eval_acc": 0.9}}))
    assert only([off, on])[0]["warnings"] == [
        "made_simam seed 0: accuracy 0.9000 in result.json, 0.7500 in its predictions"
    ]


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:200]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_text("no archive"),
        lambda file: np.savez(file, labels=np.arange(3)),
        lambda file: np.savez(file, **{**dict(np.load(file)), "labels": np.arange(3)}),
        lambda file: np.savez(file, **{**dict(np.load(file)), "labels": np.full(4, 99)}),
        lambda file: np.savez(file, **{**dict(np.load(file)), "logits_best": np.full((4, 4), np.nan)}),
    ],
)
def test_damaged_predictions_are_refused(damage, tmp_path):
    off, on = write_pair(tmp_path)
    damage(on.predictions)
    with pytest.raises(UserError, match="on/seed0/predictions.npz cannot be read"):
        compare([off, on])


def test_made_runs_are_as_made():
    logits = made_runs.logits_of([1, 0, 1, 0])
    assert (logits.argmax(axis=1) == [0, 2, 2, 0]).all()
