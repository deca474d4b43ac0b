"""Corruption errors by hand, and the command on a pair."""

import json
import shutil

import numpy as np
import paddle
import pytest
from commands import assert_refused, script
from PIL import Image
from scipy import stats as scipy_stats
from tiny_pair import train_tiny_pair

from simam_repro.errors import UserError
from simam_repro.evaluation import load_trained
from simam_repro.evaluation.outcomes import pack, unpack
from simam_repro.evaluation.robustness import EPS, Measurement, Scope, runs_to_measure
from simam_repro.evaluation.robustness_pairs import compare_robustness
from simam_repro.reporting import robustness as reporting
from simam_repro.runs import RunFolder


def stated(run: RunFolder, clean, corruptions, attacks=None, images=100):
    """A measurement whose file says these accuracies, {name: one for each severity}."""
    scope = Scope(corruptions=tuple(corruptions), severities=(1, 2), attacks=tuple(attacks or ()), images=images)
    measurement = Measurement(run, scope)
    measurement.content["clean"] = clean
    measurement.content["corruptions"] = {
        name: {str(level): value for level, value in zip((1, 2), values)} for name, values in corruptions.items()
    }
    measurement.content["attacks"] = {
        name: {str(eps): value for eps, value in zip(EPS, values)} for name, values in (attacks or {}).items()
    }
    return measurement


@pytest.fixture(scope="module")
def pair(tmp_path_factory, caltech_archive):
    """runs/ with `tiny` and `tiny_simam`, one seed, on a miniature of Caltech101-16."""
    return train_tiny_pair(tmp_path_factory.mktemp("robustness"), caltech_archive, eval_limit=9)


@pytest.fixture
def runs(pair, tmp_path):
    return shutil.copytree(pair, tmp_path / "runs")


def reseeded(run, seed: int) -> RunFolder:
    """A copy of a run that says it had another seed."""
    copy = RunFolder(shutil.copytree(run, run.with_name(f"seed{seed}")))
    copy.config.write_text(copy.config.read_text().replace("seed: 0", f"seed: {seed}"))
    copy.result.write_text(json.dumps({**copy.read_result(), "seed": seed}))
    return copy


@pytest.fixture
def two_seeds(runs):
    """(off 0, off 1), (on 0, on 1)."""
    return [(RunFolder(runs / name / "seed0"), reseeded(runs / name / "seed0", 1)) for name in ("tiny", "tiny_simam")]


@pytest.fixture
def by_hand(two_seeds, monkeypatch):
    """The summary of accuracies of round numbers, two seeds and two corruptions; with intervals, although so few."""
    monkeypatch.setattr("simam_repro.evaluation.statistics.FEWEST_SEEDS", 2)
    (off0, off1), (on0, on1) = two_seeds
    attack = {"fgsm": [0.5, 0.4, 0.3, 0.2, 0.1]}
    better = {"fgsm": [0.6, 0.4, 0.3, 0.2, 0.0]}
    measurements = [
        stated(on1, 1.0, {"fog": (0.8, 0.4), "jpeg": (0.7, 0.5)}, better),
        stated(off0, 0.8, {"fog": (0.7, 0.5), "jpeg": (0.6, 0.4)}, attack),
        stated(on0, 0.8, {"fog": (0.6, 0.6), "jpeg": (0.8, 0.6)}, attack),
        stated(off1, 0.9, {"fog": (0.6, 0.4), "jpeg": (0.8, 0.4)}, attack),
    ]
    return compare_robustness(measurements, measurements[0].scope)


def test_corruption_errors_by_hand(by_hand):
    (comparison,) = by_hand["comparisons"]
    assert [comparison[side]["name"] for side in ("baseline", "arm")] == ["tiny", "tiny_simam"]
    assert comparison["seeds"] == [0, 1]
    fog, jpeg = comparison["corruptions"]["fog"], comparison["corruptions"]["jpeg"]
    # Errors of fog: seed 0 0.3 + 0.5 off, 0.4 + 0.4 on; seed 1 0.4 + 0.6 off, 0.2 + 0.6 on.
    assert fog["ce"]["values"] == pytest.approx([0.8 / 0.8, 0.8 / 1.0])
    assert jpeg["ce"]["values"] == pytest.approx([0.6 / 1.0, 0.8 / 0.8])
    assert comparison["mce"]["values"] == pytest.approx([0.8, 0.9])
    # Beyond the clean error: fog, seed 0 0.1 + 0.3 off, 0.2 + 0.2 on; seed 1 0.3 + 0.5 off, 0.2 + 0.6 on.
    assert fog["relative_ce"]["values"] == pytest.approx([1.0, 0.8 / 0.8])
    assert jpeg["relative_ce"]["values"] == pytest.approx([0.2 / 0.6, 0.8 / 0.6])
    assert comparison["relative_mce"]["values"] == pytest.approx([(1 + 1 / 3) / 2, (1 + 4 / 3) / 2])
    np.testing.assert_allclose(fog["by_severity"]["baseline"], [0.65, 0.45])
    np.testing.assert_allclose(fog["by_severity_and_seed"]["arm"], [[0.6, 0.6], [0.8, 0.4]])


def test_differences_are_paired_by_seed(by_hand):
    (comparison,) = by_hand["comparisons"]
    difference = comparison["mean_corruption"]["difference"]
    assert difference["values"] == pytest.approx([0.65 - 0.55, 0.6 - 0.55])
    interval = scipy_stats.ttest_1samp(difference["values"], 0).confidence_interval(0.95)
    assert difference["t_interval"] == pytest.approx(list(interval))
    assert difference["sd"] == pytest.approx(np.std([0.1, 0.05], ddof=1))
    assert comparison["clean"]["difference"]["values"] == pytest.approx([0, 0.1])
    fgsm_numbers = comparison["attacks"]["fgsm"]
    assert [one["mean"] for one in fgsm_numbers["difference"]] == pytest.approx([0.05, 0, 0, 0, -0.05])
    assert fgsm_numbers["eps"] == pytest.approx([0.5 / 255, 1 / 255, 2 / 255, 4 / 255, 8 / 255])
    assert fgsm_numbers["baseline"] == [[0.5, 0.4, 0.3, 0.2, 0.1]] * 2
    assert fgsm_numbers["mean"]["difference"]["values"] == pytest.approx([0, 0])
    # 7.5 points with an interval of -24 to +39.
    assert "neither an effect nor equivalence" in comparison["sentence"] and "stand-in" in comparison["sentence"]
    json.dumps(by_hand, allow_nan=False)


@pytest.fixture
def five_seeds(runs):
    """Five runs of each arm: [none, SimAM]."""
    return [
        [RunFolder(runs / name / "seed0"), *(reseeded(runs / name / "seed0", seed) for seed in range(1, 5))]
        for name in ("tiny", "tiny_simam")
    ]


IMAGES = 9  # of the miniature


def foggy(run: RunFolder, right: int, kept: bool = True) -> Measurement:
    """A measurement under fog: the first `right` of nine images are recognised at both severities."""
    outcomes = np.arange(IMAGES) < right
    measurement = stated(run, 0.9, {"fog": (outcomes.mean(),) * 2})
    if kept:
        measurement.content["right"]["corruptions"] = {"fog": {level: pack(outcomes) for level in ("1", "2")}}
    return measurement


def test_a_sentence_claims_what_both_intervals_allow(five_seeds):
    off, on = five_seeds

    def compared(gains, count=5, kept=True, base=3):
        baseline = [foggy(run, base, kept) for run in off[:count]]
        arm = [foggy(run, base + gain, kept) for run, gain in zip(on, gains)]
        (comparison,) = compare_robustness([*baseline, *arm], arm[0].scope)["comparisons"]
        return comparison["mean_corruption"]["difference"], comparison["sentence"]

    difference, sentence = compared((5, 5, 5, 6, 5))
    assert difference["t_interval"][0] > 0 and difference["images_and_seeds_interval"][0] > 0
    assert ": higher with SimAM." in sentence
    assert ": lower with SimAM." in compared((-6, -6, -5, -6, -6), base=8)[1]
    difference, sentence = compared((1, 1, 1, 2, 1))  # one image: by chance the images are not these
    assert difference["t_interval"][0] > 0 >= difference["images_and_seeds_interval"][0]
    assert "both intervals would have to exclude zero, so no effect can be claimed" in sentence
    difference, sentence = compared((5, 5, 5, 6, 5), kept=False)  # measured before outcomes were kept
    assert difference["images_and_seeds_interval"] is None and "not known" in sentence and "higher" not in sentence
    assert "neither an effect nor equivalence within 0.5 points" in compared((2, -3, 0, 1, 0))[1]
    difference, sentence = compared((5,), count=1)
    assert difference["t_interval"] is None and "nothing follows for other seeds" in sentence


def test_nothing_is_relative_to_no_error(two_seeds):
    (off, _), (on, _) = two_seeds
    measurements = [stated(off, 1.0, {"fog": (1.0, 1.0)}), stated(on, 1.0, {"fog": (0.5, 1.0)})]
    (comparison,) = compare_robustness(measurements, measurements[0].scope)["comparisons"]
    assert comparison["mce"]["mean"] is None and comparison["relative_mce"]["values"] == [None]
    json.dumps(comparison, allow_nan=False)


def test_what_is_no_pair(two_seeds):
    (off0, off1), (on0, on1) = two_seeds
    numbers = {"fog": (0.5, 0.5)}
    left = compare_robustness([stated(off0, 0.5, numbers), stated(on1, 0.5, numbers)], Scope())
    assert left["comparisons"] == [] and left["left_out"] == ["tiny/seed0", "tiny_simam/seed1"]
    with pytest.raises(UserError, match="the same arm"):
        twin = RunFolder(shutil.copytree(off0.path, off0.path.with_name("again")))
        compare_robustness([stated(run, 0.5, numbers) for run in (off0, twin, on0)], Scope())
    with pytest.raises(UserError, match=r"different data.*\(3 images\).*\(9 images\)"):
        compare_robustness([stated(off0, 0.5, numbers), stated(on0, 0.5, numbers, images=3)], Scope())


def test_table_and_figure(by_hand, tmp_path, monkeypatch):
    table = reporting.robustness_table(by_hand)
    assert max(map(len, table.splitlines())) <= 100
    for words in ("n = 2 pairs (seed 0, 1)", "9 of 9 eval images of caltech101_16", "1 epochs", "final epoch",
                  "paddle", "FGSM 0.5/255", "thread", "Stand-in data", "not corrected", "mCE"):  # fmt: skip
        assert words in " ".join(table.split())
    assert "not compared: odd seed 3." in reporting.robustness_table({**by_hand, "left_out": ["odd seed 3"]})
    drawn = []
    monkeypatch.setattr(reporting, "save_figure", lambda figure, path: drawn.append(figure))
    reporting.plot_robustness(by_hand, tmp_path / "unused.png")
    (figure,) = drawn
    assert "stand-in" in figure.get_suptitle()
    titles = [panel.get_title() for panel in figure.axes]
    assert titles[:4] == ["fog", "jpeg", "mean of corruptions", "FGSM"]
    lines = [line for line in figure.axes[0].get_lines() if line.get_linewidth() > 1]
    assert [line.get_linestyle() for line in lines] == ["--", "-"]
    np.testing.assert_allclose(lines[1].get_xydata(), [[0, 0.9], [1, 0.7], [2, 0.5]])


SMALL = ("--corruptions", "fog,occlusion", "--severities", "1,5", "--attacks", "fgsm", "--images", "3")


def test_command_on_a_pair_and_again(runs):
    done = script("robustness", runs, *SMALL)
    assert done.returncode == 0, done.stderr
    summary = json.loads((runs / "robustness.json").read_text())
    (comparison,) = summary["comparisons"]
    assert summary["images"] == 3 and summary["data"]["stand_in"] and summary["checkpoint"] == "last"
    assert set(comparison["corruptions"]) == {"fog", "occlusion"} and list(comparison["attacks"]) == ["fgsm"]
    assert comparison["sentence"] in " ".join(done.stdout.split()) and "stand-in" in done.stdout
    for name in ("robustness.png", "corruptions.png"):
        with Image.open(runs / name) as figure:
            assert min(figure.size) > 300
    files = [runs / name / "seed0" / "robustness.json" for name in ("tiny", "tiny_simam")]
    # Nothing is missing, so nothing is measured.
    files[0].write_text(json.dumps({**json.loads(files[0].read_text()), "clean": 0.125}))
    before = [file.stat().st_mtime_ns for file in files]
    again = script("robustness", runs, *SMALL)
    assert again.returncode == 0 and "clean 12.50%" in again.stdout
    assert [file.stat().st_mtime_ns for file in files] == before


def test_more_is_added_and_other_settings_begin_anew(runs):
    run = RunFolder(runs / "tiny_simam" / "seed0")

    def measured(anew=False, **scope):
        measurement = Measurement(
            run, Scope(**{"corruptions": ("fog",), "severities": (1,), "attacks": (), **scope}), anew
        )
        passes = []
        todo = measurement.missing
        measurement.measure("cpu", passes.append)
        assert sum(passes) == len(todo) * measurement.content["images"]
        return todo, json.loads(measurement.path.read_text())

    todo, first = measured()
    assert todo == [("clean",), ("corruptions", "fog", 1)]
    assert first["clean"] == pytest.approx(run.read_result()["final"]["eval_acc"])
    assert unpack(first["right"]["clean"], 9).mean() == first["clean"]
    assert unpack(first["right"]["corruptions"]["fog"]["1"], 9).mean() == first["corruptions"]["fog"]["1"]
    result = run.read_result()
    assert result["versions"]["paddle"] == paddle.__version__ and "thread" in result["hardware"]
    assert first["trained_on"] == {key: result[key] for key in ("hardware", "versions")}
    assert first["images"] == 9 and first["checkpoint"] == "last" and first["measured_on"][0]["versions"]["paddle"]
    todo, second = measured(severities=(1, 4))
    assert todo == [("corruptions", "fog", 4)] and second["corruptions"]["fog"]["1"] == first["corruptions"]["fog"]["1"]
    assert measured(severities=(1, 4))[0] == []
    assert len(measured(images=5)[0]) == 2
    assert measured(images=5, anew=True)[0] == [("clean",), ("corruptions", "fog", 1)]
    run.path.joinpath("robustness.json").write_text("{damaged")
    todo, best = measured(weights="best")
    assert len(todo) == 2 and best["chosen_on"] == "eval" and (run.path / "robustness_best.json").is_file()
    assert len(measured()[0]) == 2
    # Training anew in the folder would not be stopped by them.
    assert run.foreign_files() == []


def test_batches_do_not_matter(runs, monkeypatch):
    monkeypatch.setattr("simam_repro.evaluation.robustness.EPS", (2,))

    def content(batch_size):
        run = RunFolder(runs / "tiny_simam" / "seed0")
        run.config.write_text(run.config.read_text().replace("batch_size: 4", f"batch_size: {batch_size}"))
        measurement = Measurement(run, Scope(("shot_noise",), (2,), ("pgd",), images=4), anew=True)
        measurement.measure("cpu")
        return {key: measurement.content[key] for key in ("clean", "corruptions", "attacks")}

    assert content(4) == content(3)


def test_runs_to_measure(runs):
    both = [runs / "tiny" / "seed0", runs / "tiny_simam" / "seed0"]
    found, incomplete = runs_to_measure([runs, both[0]])
    assert [run.path for run in found] == both and incomplete == []
    (both[0] / "result.json").unlink()
    found, incomplete = runs_to_measure([runs])
    assert [run.path for run in found] == both[1:] and incomplete == both[:1]
    with pytest.raises(UserError, match="no result.json"):
        runs_to_measure([both[0]])


def test_command_refuses(runs, tmp_path):
    run = RunFolder(runs / "tiny" / "seed0")
    assert_refused(script("robustness", tmp_path / "nothing"), "nothing is neither a run folder nor")
    assert_refused(script("robustness", run.path, "--corruptions", "fog,sleet"), "no corruption 'sleet'", "occlusion")
    weights = run.last / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\0")
    assert_refused(script("robustness", run.path, *SMALL), "last is damaged", "weights.safetensors")
    weights.unlink()
    with pytest.raises(UserError, match="no whole checkpoint.*weights.safetensors"):
        Measurement(run, Scope())


def test_a_run_without_its_half_says_so(runs):
    run = runs / "tiny" / "seed0"
    done = script("robustness", run, "--corruptions", "none", "--attacks", "none", "--images", "2")
    assert done.returncode == 0, done.stderr
    assert "nothing to compare" in done.stdout and not (run / "robustness.png").exists()
    assert load_trained(run).run.complete
