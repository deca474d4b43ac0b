"""Training: what ends up in the run folder, and that it is right."""

import json
import shutil

import numpy as np
import paddle
import pytest
import yaml
from safetensors.numpy import load_file
from visualdl import LogReader

from simam_repro.config import build_experiment
from simam_repro.errors import RunError, UserError
from simam_repro.runs import RunFolder
from simam_repro.storage import read_json
from simam_repro.training import callbacks, fit
from simam_repro.training.checkpoints import STATE
from simam_repro.training.metrics import EpochMeans
from simam_repro.training.objective import Objective
from simam_repro.training.recorder import Recorder

TIMES = {"train_seconds", "train_wait_seconds", "eval_seconds", "train_images_per_s", "eval_images_per_s"}
EPOCHS, BATCH, TRAIN, EVAL = 2, 8, 20, 13
STEPS = -(-TRAIN // BATCH)


@pytest.fixture(scope="module")
def root(tmp_path_factory, caltech_archive_wide):
    root = tmp_path_factory.mktemp("data")
    (root / "archives").mkdir()
    shutil.copy(caltech_archive_wide, root / "archives")
    return root


@pytest.fixture(scope="session")
def caltech_archive_wide(tmp_path_factory):
    import miniatures

    return miniatures.write_caltech(tmp_path_factory.mktemp("wide") / "101_ObjectCategories.tar.gz", 7)


def experiment(root, seed=3, **changes):
    """TowerNet with SimAM on a miniature of Caltech101-16: 3 uneven train batches, 2 eval batches, 2 epochs."""
    values = {
        "name": "tiny",
        "seed": seed,
        "data": {
            "dataset": "caltech101_16", "root": str(root), "allow_miniature": True, "image_size": 128,
            "batch_size": BATCH, "train_limit": TRAIN, "eval_limit": EVAL, "augment": {"rotation": 10},
        },
        "model": {"backbone": "towernet", "attention": "simam"},
        "optim": {"learning_rate": 0.01, "weight_decay": 2e-4},
        "train": {"epochs": EPOCHS, "device": "cpu"},
        "logging": {"step_interval": 1},
    }  # fmt: skip
    for key, value in changes.items():
        section, _, name = key.partition("__")
        values[section] = {**values[section], name: value}
    return build_experiment(values)


TOLD = []  # of each epoch's line: how many epochs the checkpoint had when it was printed


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    run = RunFolder(tmp_path_factory.mktemp("runs") / "a")

    def tell(*lines, **options):
        TOLD.append(len(read_json(run.last / STATE)["records"]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks, "print", tell, raising=False)
        result = fit(experiment(root), run.path)
    return run, result


def test_an_epoch_is_saved_before_it_is_told(trained):
    assert TOLD == list(range(1, EPOCHS + 1))


def numbers(run: RunFolder) -> list[dict]:
    return [{key: value for key, value in record.items() if key not in TIMES} for record in run.read_metrics()]


def scalars(run: RunFolder, tag: str) -> list[tuple[int, float]]:
    (log,) = run.visualdl.glob("*.log")
    return [(point.id, point.value) for point in LogReader(file_path=str(log)).get_data("scalar", tag)]


def test_run_folder_is_whole(trained):
    run, result = trained
    assert yaml.safe_load(run.config.read_text())["data"]["train_limit"] == TRAIN
    assert json.loads(run.environment.read_text())["paddle"] == paddle.__version__
    assert json.loads(run.result.read_text()) == result
    for folder in (run.last, run.best):
        assert sorted(path.name for path in folder.iterdir()) == [
            "checksums.json", "optimizer.safetensors", "state.json", "weights.safetensors",
        ]  # fmt: skip
    assert not list(run.path.rglob("*.tmp*"))
    # Whoever may read one file of it may read all.
    modes = {path.stat().st_mode & 0o777 for path in run.path.rglob("*") if path.is_file()}
    assert modes == {run.path.stat().st_mode & 0o666}


def test_result_says_what_it_is_a_result_of(trained):
    run, result = trained
    assert (result["name"], result["seed"], result["epochs"], result["attention"]) == ("tiny", 3, EPOCHS, "simam")
    assert result["parameters"] == 1_362_176
    assert result["data"]["stand_in"] is True
    assert (result["data"]["classes"], result["data"]["train_images"], result["data"]["eval_images"]) == (
        16,
        TRAIN,
        EVAL,
    )
    assert len(result["data"]["sha256"]) == 64
    records = run.read_metrics()
    assert result["final"] == {key: records[-1][key] for key in ("epoch", "train_acc", "eval_acc", "eval_loss")}
    assert result["best"]["eval_acc"] == max(record["eval_acc"] for record in records)


def test_waiting_for_data_is_part_of_the_training_time(trained):
    run, result = trained
    records = run.read_metrics()
    assert all(0 < record["train_wait_seconds"] < record["train_seconds"] for record in records)
    waited, seconds = (sum(record[key] for record in records) for key in ("train_wait_seconds", "train_seconds"))
    assert result["train_wait_fraction"] == pytest.approx(waited / seconds)


def cross_entropy(logits, labels):
    logits = logits.astype(np.float64)
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]


@pytest.mark.parametrize("which", ["final", "best"])
def test_recorded_eval_is_the_mean_over_all_predictions(trained, which):
    run, result = trained
    predictions = run.read_predictions()
    logits = getattr(predictions, f"logits_{which}")
    assert logits.shape == (EVAL, 16) and len(set(predictions.sample_ids.tolist())) == EVAL
    assert np.isclose(result[which]["eval_loss"], cross_entropy(logits, predictions.labels).mean(), rtol=1e-5)
    assert result[which]["eval_acc"] == pytest.approx((logits.argmax(1) == predictions.labels).mean(), abs=1e-12)


def test_the_originals_metric_weighs_batches_alike(trained):
    run, _ = trained
    predictions, record = run.read_predictions(), run.read_metrics()[-1]
    hits = predictions.logits_final.argmax(1) == predictions.labels
    losses = cross_entropy(predictions.logits_final, predictions.labels)
    size = run.read_experiment().data.batch_size
    assert EVAL % size, "the last batch is a smaller one"
    batches = [slice(start, start + size) for start in range(0, EVAL, size)]
    assert record["eval_batch_mean_acc"] == pytest.approx(np.mean([hits[batch].mean() for batch in batches]))
    scaled = sum(losses[batch].mean() for batch in batches) * size / EVAL
    assert record["eval_scaled_loss"] == pytest.approx(scaled, rel=1e-5)


def test_train_loss_is_the_mean_over_all_samples_not_batches(trained):
    # Without label smoothing the objective is the plain cross-entropy, which is summed sample by sample.
    for record in trained[0].read_metrics():
        assert record["train_loss"] == pytest.approx(record["train_nll"], rel=1e-5)


def test_epoch_means_over_uneven_batches():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(20, 5)).astype(np.float32), rng.integers(0, 5, 20)
    metric = EpochMeans()
    for batch in (slice(0, 8), slice(8, 16), slice(16, 20)):
        outputs = metric.compute(paddle.to_tensor(logits[batch]), paddle.to_tensor(labels[batch]))
        metric.update(*(output.numpy() for output in outputs))
    expected = cross_entropy(logits, labels).mean(), (logits.argmax(1) == labels).mean()
    assert np.allclose(metric.accumulate(), expected, rtol=1e-6)
    metric.reset()
    assert metric.accumulate() == [0.0, 0.0]


def test_same_seed_same_numbers(trained, root, tmp_path):
    fit(experiment(root), tmp_path / "again")
    again = RunFolder(tmp_path / "again")
    assert numbers(again) == numbers(trained[0])
    assert again.predictions.exists() and np.array_equal(
        again.read_predictions().logits_final, trained[0].read_predictions().logits_final
    )


def test_other_seed_other_numbers(trained, root, tmp_path):
    fit(experiment(root, seed=4), tmp_path / "other")
    assert numbers(RunFolder(tmp_path / "other")) != numbers(trained[0])


def test_learning_rate_follows_the_cosine_of_every_step(trained):
    run, _ = trained
    total = EPOCHS * STEPS
    expected = [0.005 * (1 + np.cos(np.pi * step / total)) for step in range(total)]
    logged = scalars(run, "step/learning_rate")
    assert [step for step, _ in logged] == list(range(1, total + 1))
    assert np.allclose([value for _, value in logged], expected, rtol=1e-5)
    assert [record["lr"] for record in run.read_metrics()] == pytest.approx(expected[STEPS - 1 :: STEPS])


def test_visualdl_holds_the_numbers_of_the_metrics(trained):
    run, _ = trained
    records = run.read_metrics()
    for tag, key in {
        "train/loss": "train_loss", "train/accuracy": "train_acc", "eval/loss": "eval_loss",
        "eval/accuracy": "eval_acc", "speed/train_images_per_s": "train_images_per_s",
    }.items():  # fmt: skip
        points = scalars(run, tag)
        assert [step for step, _ in points] == [1, 2]
        assert np.allclose([value for _, value in points], [record[key] for record in records], rtol=1e-6)
    (log,) = run.visualdl.glob("*.log")
    reader = LogReader(file_path=str(log))
    (data,) = reader.get_data("text", "config/data")
    assert yaml.safe_load(data.text.encoded_text_string) == run.read_experiment().data.model_dump(mode="json")
    ((named,),) = [reader.get_data("hyper_parameters", tag) for tag in reader.get_tags()["hyper_parameters"]]
    keys = {item.name for item in named.hparam.hparamInfos}
    assert {"seed", "data/batch_size", "optim/learning_rate", "train/epochs"} <= keys and not any(
        "." in key for key in keys
    )


def test_label_smoothing_is_the_originals_loss(root, tmp_path, monkeypatch):
    """0.9 * nll + 0.1 * mean(-log p), averaged over the samples."""
    losses = []

    def note_and_stop(self, logs=None):
        losses.append(self.so_far.loss_sum / self.so_far.images)
        raise _Stop

    monkeypatch.setattr(Recorder, "on_eval_begin", note_and_stop)
    seen = []
    forward = Objective.forward
    monkeypatch.setattr(
        Objective, "forward",
        lambda self, logits, labels: seen.append((logits.numpy(), labels.numpy())) or forward(self, logits, labels),
    )  # fmt: skip
    with pytest.raises(_Stop):
        fit(experiment(root, train__label_smoothing=0.1), tmp_path / "smooth")
    logits, labels = (np.concatenate(parts) for parts in zip(*seen))
    log_p = logits - np.log(np.exp(logits.astype(np.float64)).sum(1, keepdims=True))
    expected = np.mean(0.9 * cross_entropy(logits, labels) + 0.1 * (-log_p).mean(1))
    assert len(labels) == TRAIN and losses == [pytest.approx(expected, rel=1e-5)]


class _Stop(Exception):
    pass


def test_resume_refuses_another_config(root, tmp_path, trained):
    run = RunFolder(shutil.copytree(trained[0].path, tmp_path / "copy"))
    run.result.unlink()
    with pytest.raises(UserError, match="optim.momentum"):
        fit(experiment(root, optim__momentum=0.5), run.path, resume=True)


def test_existing_run_is_kept_unless_asked(trained, root):
    run, _ = trained
    before = run.metrics.read_bytes()
    with pytest.raises(UserError, match="finished run.*--overwrite"):
        fit(experiment(root), run.path)
    assert run.metrics.read_bytes() == before


def test_a_folder_that_is_no_run_is_never_replaced(root, tmp_path):
    (tmp_path / ".DS_Store").touch()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    assert RunFolder(tmp_path).foreign_files() == []
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not a run's"):
        fit(experiment(root), tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_divergence_stops_and_says_where(root, tmp_path, monkeypatch):
    forward, steps = Objective.forward, []

    def fails_in_epoch_2(self, logits, labels):
        steps.append(1)
        return forward(self, logits, labels) * (float("nan") if len(steps) > STEPS + 2 + 1 else 1.0)

    monkeypatch.setattr(Objective, "forward", fails_in_epoch_2)
    with pytest.raises(RunError, match=r"nan at epoch 2, step 2 .*optim.learning_rate"):
        fit(experiment(root), tmp_path / "nan")
    run = RunFolder(tmp_path / "nan")
    assert not run.complete and len(run.read_metrics()) == 1
    assert all(np.isfinite(value).all() for value in load_file(run.last / "weights.safetensors").values())


def test_refused_before_the_run_folder_appears(root, tmp_path):
    for changes, words in (
        ({"data__image_size": 64}, "image_size.*64.*towernet.*128"),
        ({"train__device": "gpu"}, "train.device: gpu"),
        ({"data__batch_size": 64, "data__drop_last": True}, "batch_size"),
    ):
        with pytest.raises(UserError, match=words):
            fit(experiment(root, **changes), tmp_path / "never")
        assert not (tmp_path / "never").exists()


def test_workers_change_nothing(trained, root, tmp_path):
    fit(experiment(root, data__num_workers=2), tmp_path / "workers")
    assert numbers(RunFolder(tmp_path / "workers")) == numbers(trained[0])


@pytest.mark.parametrize("name", ["momentum", "sgd", "adam"])
def test_weight_decay_is_an_l2_gradient(name):
    """After one step from w with zero gradient: momentum and SGD move by lr * decay * w, Adam by about lr."""
    from simam_repro.config import Optim
    from simam_repro.training.optim import build_optimizer

    weight = paddle.create_parameter([3], "float32", default_initializer=paddle.nn.initializer.Constant(2.0))
    optimizer = build_optimizer(
        Optim(name=name, learning_rate=0.1, weight_decay=0.01), [weight], epochs=1, steps_per_epoch=10
    )
    (weight * 0.0).sum().backward()
    optimizer.step()
    moved = 2.0 - weight.numpy()
    assert np.allclose(moved, 0.1 if name == "adam" else 0.1 * 0.01 * 2.0, rtol=1e-3)


@pytest.mark.parametrize("workers", [0, 1])
def test_mixup_trains_every_step(root, tmp_path, workers):
    result = fit(experiment(root, train__mixup_alpha=0.4, data__num_workers=workers), tmp_path / "mixed")
    run = RunFolder(tmp_path / "mixed")
    assert len(scalars(run, "step/train_loss")) == EPOCHS * STEPS
    assert all(np.isfinite(record["train_loss"]) for record in run.read_metrics()) and result["epochs"] == EPOCHS


def test_overwriting_removes_the_earlier_run_only(trained, root, tmp_path):
    run = RunFolder(shutil.copytree(trained[0].path, tmp_path / "copy"))
    for name in ("notes.txt", ".ipynb_checkpoints/last", "evaluation_last.json", "after_epoch1_result.json"):
        (run.path / name).parent.mkdir(exist_ok=True)
        (run.path / name).write_text("mine")
    fit(experiment(root, train__epochs=1), run.path, overwrite=True)
    assert len(run.read_metrics()) == 1 and run.read_experiment().train.epochs == 1
    others = {path.name for path in run.path.iterdir()} - run.names
    assert others == {"notes.txt", ".ipynb_checkpoints"}
    assert (run.path / ".ipynb_checkpoints" / "last").read_text() == "mine"


def test_a_file_is_no_run_folder(root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        fit(experiment(root), tmp_path / "file")


def test_a_broken_network_is_neither_recorded_nor_saved(root, tmp_path, monkeypatch):
    update = EpochMeans.update
    monkeypatch.setattr(EpochMeans, "update", lambda self, nll, hit: update(self, nll * float("nan"), hit))
    with pytest.raises(RunError, match="eval loss is nan after epoch 1, step 3"):
        fit(experiment(root), tmp_path / "nan")
    assert not RunFolder(tmp_path / "nan").metrics.exists() and not RunFolder(tmp_path / "nan").last.exists()
