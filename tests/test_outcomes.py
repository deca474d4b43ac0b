"""Outcomes: small, and enough for every number of a comparison."""

import json

import numpy as np
import pytest
from made_runs import write_run, write_sweep

from simam_repro.errors import UserError
from simam_repro.evaluation.comparison import compare
from simam_repro.evaluation.outcomes import outcomes_of, pack, read_outcomes, unpack, write_outcomes
from simam_repro.reporting.results import RESULTS, recompute
from simam_repro.runs import Predictions, complete_runs, find_runs
from simam_repro.storage import read_json, write_json


def keep_outcomes(folder) -> None:
    """Of each run the outcomes instead of the predictions."""
    for run in find_runs(folder):
        write_outcomes(read_outcomes(run), run.outcomes)
        run.predictions.unlink()


def test_every_number_follows_from_the_outcomes(tmp_path):
    before = compare(write_sweep(tmp_path / "results" / "sweep", seeds=5, images=90))
    write_json(tmp_path / "results" / "sweep" / "comparison.json", {"schema": 1, "method": {}})
    assert recompute(tmp_path / "results") == [(tmp_path / "results" / "sweep", False)]
    keep_outcomes(tmp_path / "results" / "sweep")
    assert recompute(tmp_path / "results") == [(tmp_path / "results" / "sweep", True)]
    # JSON has lists for tuples; every digit is the same.
    assert read_json(tmp_path / "results" / "sweep" / "comparison.json") == json.loads(json.dumps(before))


@pytest.mark.parametrize("folder", sorted(path.parent for path in RESULTS.glob("*/comparison.json")), ids=str)
def test_the_committed_comparisons_follow_from_the_committed_outcomes(folder):
    runs = complete_runs(folder)
    if not all(run.outcomes.is_file() for run in runs):
        assert read_json(folder / "comparison.json")["schema"] == 1  # of before outcomes were kept
        return
    committed = read_json(folder / "comparison.json")
    assert json.loads(json.dumps(compare(runs, margin=committed["method"]["margin"]))) == committed


def test_a_run_takes_less_than_a_kilobyte(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, 16, 365))
    logits = rng.normal(size=(365, 16)).astype(np.float32)
    write_outcomes(outcomes_of(Predictions(np.arange(365), labels, logits, logits)), tmp_path / "outcomes.json")
    assert (tmp_path / "outcomes.json").stat().st_size < 1000


def test_packing():
    right = np.random.default_rng(1).random(37) < 0.5
    np.testing.assert_array_equal(unpack(pack(right), 37), right)
    assert pack(np.array([1, 0, 0, 0, 0, 0, 0, 1], bool)) == "gQ=="  # 0x81
    with pytest.raises(ValueError, match="40 outcomes for 41 images"):
        unpack(pack(right), 41)


@pytest.mark.parametrize(
    "text", ["{}", "no JSON", '{"images": 9, "images_sha256": "", "class_images": [], "final": 3}']
)
def test_damaged_outcomes_are_named(text, tmp_path):
    run = write_run(tmp_path / "run")
    run.predictions.unlink()
    run.outcomes.write_text(text)
    with pytest.raises(UserError, match="outcomes.json cannot be read"):
        read_outcomes(run)
    run.outcomes.unlink()
    with pytest.raises(UserError, match="no predictions.npz"):
        read_outcomes(run)
