"""A run beside the reference runs of its recipe: what is expected of one more, bits, differences, exit codes."""

import json
import math
import shutil

import numpy as np
import pytest
from commands import script
from made_runs import write_run

from simam_repro.errors import UserError
from simam_repro.evaluation import statistics
from simam_repro.evaluation.verify import verify
from simam_repro.reporting.verify import plot_verification, verification_text
from simam_repro.storage import read_json, write_json

# t of 2 degrees of freedom at 0.9875: of two quantities that hold together with 95 %.
T = 6.205346816570705


def write_metrics(run, accuracies, **keys) -> None:
    lines = [
        {"epoch": epoch, "train_nll": 1.0, "train_acc": 0.5, "eval_loss": 2 - accuracy, "eval_acc": accuracy, **keys}
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def references(tmp_path):
    for seed, last in enumerate((0.5, 0.6, 0.7)):
        run = write_run(tmp_path / "results/sweep/made_simam" / f"seed{seed}", "simam", seed)
        write_metrics(run, (0.3 + seed / 100, 0.4, last), train_seconds=float(seed))
    # Another recipe, of more seeds.
    for seed in range(5):
        write_run(tmp_path / "results/other/made" / f"seed{seed}", "none", seed)
    return tmp_path / "results"


def own_run(tmp_path, accuracies, seed=7, **keys):
    run = write_run(tmp_path / "mine", "simam", seed, **keys)
    write_metrics(run, accuracies)
    return run


def test_where_one_more_run_is_expected(references, tmp_path):
    found = verify(own_run(tmp_path, (0.2, 0.4, 0.65)), references)
    assert [run.path.name for run in found.references] == ["seed0", "seed1", "seed2"]
    accuracy, loss = found.quantities["accuracy"], found.quantities["loss"]
    half = T * 0.1 * math.sqrt(1 + 1 / 3)
    np.testing.assert_allclose(accuracy.intervals[-1], (0.6 - half, 0.6 + half))
    np.testing.assert_allclose(loss.intervals[-1], (1.4 - half, 1.4 + half))
    # The first epoch's interval is narrow, the second's does not exist: the references are equal there.
    assert accuracy.outside == [1] and accuracy.intervals[1] is None and found.in_line
    told = verification_text(found)
    assert "accuracy  65.00%   references 60.00%" in told and "expected from -11.65% to 131.65%: in line" in told
    assert "1 of accuracy and 1 of loss (of 3; by chance 0.1 of each)" in told and found.same_seed is None


def test_one_reference_gives_a_difference_and_no_interval(references, tmp_path):
    for seed in (1, 2):
        shutil.rmtree(references / "sweep/made_simam" / f"seed{seed}")
    told = verification_text(verify(own_run(tmp_path, (0.2, 0.4, 0.65)), references))
    assert "65.00%   references 50.00% (difference +15.00 points; no interval)" in told
    assert "no verdict: an interval needs two references or more that differ, and has 1" in told


@pytest.mark.parametrize(("accuracies", "in_line"), [((0.2,), False), ((0.31,), True), ((0.31, 0.4), None)])
def test_the_last_epoch_decides(references, tmp_path, accuracies, in_line):
    """Of a run that is not finished, the last that it has."""
    run = own_run(tmp_path, accuracies)
    run.result.unlink()
    found = verify(run, references)
    assert found.in_line is in_line and f"epoch {len(accuracies)} of 3" in verification_text(found)


def test_a_prediction_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    drawn = rng.normal(3, 2, (4000, 4))
    ends = [statistics.prediction_interval(row[:3]) for row in drawn]
    covered = np.mean([low <= row[3] <= high for (low, high), row in zip(ends, drawn)])
    assert abs(covered - 0.95) < 0.01
    assert statistics.prediction_interval([1.0]) is None and statistics.prediction_interval([1.0, 1.0]) is None


def test_the_same_seed_is_compared_bit_by_bit(references, tmp_path):
    run = own_run(tmp_path, (0.31, 0.4, 0.6), seed=1)
    assert "seed 1: equal to the reference to the last bit in all 3 epochs" in verify(run, references).same_seed
    write_metrics(run, (0.31, 0.4, math.nextafter(0.6, 1)))
    told = verify(run, references).same_seed
    assert "from epoch 3 on" in told and "equal bits were to be expected" in told
    write_json(run.environment, {**read_json(run.environment), "paddle": "2.6.2"})
    assert "rounding differs there" in verify(run, references).same_seed


def test_what_differs_is_named_data_first(references, tmp_path):
    changed = {"paddle": "2.6.2", "threads": 2, "git_commit": "7654321", "git_dirty": True}
    plain = {"model": {"fused": False}}
    run = own_run(tmp_path, (0.31, 0.4, 0.6), environment=changed, data={"sha256": "cd" * 32}, config=plain)
    assert verify(run, references).differences == [
        "data: other images (cdcdcdcdcdcd, reference abababababab)",
        "model.fused false, reference true",
        "paddle 2.6.2, reference 3.3.1",
        "machine A processor, 2 thread(s), reference A processor, 1 thread(s)",
        "commit 7654321, reference 1234567",
        "the checkout had changes that were not committed",
    ]


def test_refused(references, tmp_path):
    other = own_run(tmp_path, (0.3,), config={"optim": {"learning_rate": 0.5}})
    with pytest.raises(
        UserError, match=r"no complete run of this recipe .*made_simam/seed0: optim.learning_rate differ"
    ):
        verify(other, references)
    other.metrics.write_text("")
    with pytest.raises(UserError, match="no finished epoch"):
        verify(other, references)
    # A run is no reference of itself.
    with pytest.raises(UserError, match="no complete run"):
        verify(write_run(tmp_path / "alone/sweep/made/seed0"), tmp_path / "alone")


def test_figure_and_command(references, tmp_path):
    run = own_run(tmp_path, (0.2, 0.4, 0.6))
    plot_verification(verify(run, references), tmp_path / "verify.png")
    assert (tmp_path / "verify.png").stat().st_size > 10_000
    write_metrics(run, (0.2,))
    done = script("verify", run.path, "--reference", references)
    assert done.returncode == 1 and "NOT in line with the reference runs: accuracy and loss" in done.stdout, done.stderr
    assert (run.figures / "verify.png").is_file()
