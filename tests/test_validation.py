"""data.validation_fraction: the best epoch chosen on a part of the training images."""

import numpy as np
import pytest

from simam_repro.config import Data, build_experiment
from simam_repro.data import build_loaders, prepare_data
from simam_repro.data.loaders import split_training
from simam_repro.errors import UserError
from simam_repro.evaluation import evaluate, load_trained
from simam_repro.reporting import write_figures
from simam_repro.runs import RunFolder
from simam_repro.training import fit

EPOCHS = 2


def experiment(root, **data):
    return build_experiment(
        {
            "name": "validated",
            "data": {
                "dataset": "shapes16", "root": str(root), "image_size": 32, "batch_size": 16, "train_limit": 80,
                "eval_limit": 48, "num_workers": 0, **data,
            },
            "model": {"backbone": "mobilenet_v2", "attention": "simam"},
            "optim": {"name": "adam", "learning_rate": 1e-3},
            "train": {"epochs": EPOCHS},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    prepare_data(Data(dataset="shapes16", root=str(root)), progress=False)
    return root


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    return RunFolder(run_dir), fit(experiment(root, validation_fraction=0.2), run_dir)


def test_the_training_images_are_parted(root):
    config = experiment(root, validation_fraction=0.2).data
    split = prepare_data(config).train
    train, validation = split_training(split, config)
    assert len(validation) == 16 and len(train) == 64
    assert sorted([*train, *validation]) == split.spread(80).tolist()
    # The split is in the order of its classes, five of each here: an even spread has one of each.
    assert np.bincount(split.labels[validation]).tolist() == [1] * 16


@pytest.mark.parametrize("fraction, count", [(0.0, 0), (1e-6, 1), (0.5, 40)])
def test_sizes_of_the_part(root, fraction, count):
    config = experiment(root, validation_fraction=fraction).data
    train, validation = split_training(prepare_data(config).train, config)
    assert (len(train), len(validation)) == (80 - count, count)


def test_validation_images_are_not_augmented(root):
    config = experiment(root, validation_fraction=0.2, augment={"flip": 1.0}).data
    loaders = build_loaders(prepare_data(config), config, seed=0)
    plain = build_loaders(prepare_data(config), config.model_copy(update={"augment": Data().augment}), seed=0)
    for ours, theirs in zip(loaders.validation, plain.validation):
        np.testing.assert_array_equal(ours[0].numpy(), theirs[0].numpy())


def test_epochs_are_judged_by_the_validation_images(trained):
    run, result = trained
    records = run.read_metrics()
    assert {record["evaluated_on"] for record in records} == {"validation"}
    # 16 images: their accuracies are multiples of 1/16.
    assert all((record["eval_acc"] * 16) % 1 == 0 for record in records)
    assert result["best"]["chosen_on"] == "validation"
    best = max(records, key=lambda record: record["eval_acc"])
    assert (result["best"]["epoch"], result["best"]["validation_acc"]) == (best["epoch"], best["eval_acc"])
    assert result["final"]["validation_acc"] == records[-1]["eval_acc"]
    assert (result["data"]["train_images"], result["data"]["validation_images"]) == (64, 16)


@pytest.mark.parametrize("which", ["final", "best"])
def test_the_result_is_that_of_the_eval_images(trained, which):
    run, result = trained
    predictions = run.read_predictions()
    assert len(predictions.labels) == result["data"]["eval_images"] == 48
    logits = getattr(predictions, f"logits_{which}").astype(np.float64)
    hits = logits.argmax(axis=1) == predictions.labels
    shifted = logits - logits.max(axis=1, keepdims=True)
    nll = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(48), predictions.labels]
    assert result[which]["eval_acc"] == pytest.approx(hits.mean())
    assert result[which]["eval_loss"] == pytest.approx(nll.mean(), rel=1e-5)


def test_without_it_the_best_is_chosen_on_the_eval_images(root, tmp_path):
    result = fit(experiment(root).model_copy(update={"name": "plain"}), tmp_path / "run")
    assert result["best"]["chosen_on"] == "eval" and "validation_images" not in result["data"]
    assert {record["evaluated_on"] for record in RunFolder(tmp_path / "run").read_metrics()} == {"eval"}


def test_evaluation_does_not_hold_the_validation_accuracy_against_it(trained):
    run, result = trained
    evaluation = evaluate(load_trained(run.last, device="cpu"), budget_s=0.1)
    assert evaluation["recorded_top1"] is None
    assert evaluation["top1"] == result["final"]["eval_acc"]


def test_figures_are_drawn(trained):
    run, _ = trained
    write_figures(run.path)
    assert (run.figures / "curves.png").stat().st_size > 10_000


def test_half_of_the_images_is_the_most(root):
    with pytest.raises(UserError, match=r"data\.validation_fraction"):
        experiment(root, validation_fraction=0.6)
