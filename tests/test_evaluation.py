"""Evaluating a trained network, and predicting images."""

import io
import json
import shutil
import time

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F
from PIL import Image
from visualdl import LogReader

from simam_repro.config import build_experiment
from simam_repro.errors import RunError, UserError
from simam_repro.evaluation import evaluate, find_images, load_trained, network_throughput, open_image, predict_images
from simam_repro.evaluation.metrics import cross_entropy, per_class_accuracy, softmax, top_k_accuracy
from simam_repro.reporting import evaluation_table, write_evaluation
from simam_repro.reporting.style import new_figure
from simam_repro.reporting.visualdl import log_figure, log_image
from simam_repro.runs import RunFolder
from simam_repro.training import fit

TRAIN, EVAL = 8, 13
LOGITS = np.array([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0], [5.0, 5.0, 5.0, 5.0]], np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory, caltech_archive):
    """TowerNet with SimAM after two epochs on a miniature of Caltech101-16."""
    root = tmp_path_factory.mktemp("evaluation")
    (root / "archives").mkdir()
    shutil.copy(caltech_archive, root / "archives")
    experiment = build_experiment(
        {
            "name": "tiny",
            "seed": 1,
            "data": {
                "dataset": "caltech101_16", "root": str(root), "allow_miniature": True, "image_size": 128,
                "batch_size": 8, "train_limit": TRAIN, "eval_limit": EVAL,
            },
            "model": {"attention": "simam"},
            "train": {"epochs": 2, "device": "cpu", "label_smoothing": 0.1},
        }
    )  # fmt: skip
    fit(experiment, root / "run")
    return RunFolder(root / "run")


@pytest.fixture
def trained(run):
    return load_trained(run.path, device="cpu")


@pytest.fixture
def evaluation(trained):
    return evaluate(trained, budget_s=0)


def test_top_k_by_hand():
    labels = np.array([1, 0, 2])
    # Ranks of the labels: 2nd, 4th; and 3rd among four equals, the first of equals counting as larger.
    assert [top_k_accuracy(LOGITS, labels, k) for k in (1, 2, 3, 4, 5)] == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])


def test_top_k_counts_ranks():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(200, 10)).astype(np.float32), rng.integers(0, 10, 200)
    larger = (logits > logits[np.arange(200), labels][:, None]).sum(axis=1)
    for k in (1, 5, 9):
        assert top_k_accuracy(logits, labels, k) == np.mean(larger < k)
    assert top_k_accuracy(logits, labels) == np.mean(logits.argmax(axis=1) == labels)


def test_cross_entropy_by_hand_and_by_paddle():
    assert cross_entropy(LOGITS[2:], np.array([1])) == pytest.approx(np.log(4), abs=1e-15)
    # exp would overflow float64 without the shift.
    assert cross_entropy(np.array([[2000.0, 0.0]], np.float32), np.array([1])) == 2000
    logits = np.random.default_rng(1).normal(0, 5, (50, 7))
    labels = np.arange(50) % 7
    expected = F.cross_entropy(paddle.to_tensor(logits), paddle.to_tensor(labels)).item()
    assert cross_entropy(logits, labels) == pytest.approx(expected, rel=1e-12)


def test_per_class_accuracy_by_hand():
    matrix = np.array([[3, 1, 0], [0, 0, 0], [2, 2, 0]])
    np.testing.assert_array_equal(per_class_accuracy(matrix), [0.75, np.nan, 0.0])


def test_throughput_times_each_pass():
    class Slow(nn.Layer):
        calls = 0

        def forward(self, images):
            self.calls += 1
            time.sleep(0.01)
            return images

    network = Slow()
    result = network_throughput(network, paddle.zeros([4, 3, 2, 2]), budget_s=0.1)
    assert result["batch_size"] == 4 and 5 <= result["repeats"] <= 10
    assert network.calls == result["repeats"] + 2
    low, high = result["quartiles"]
    assert 4 / 0.1 < low <= result["images_per_s"] <= high <= 4 / 0.01


def test_evaluation_agrees_with_the_run(evaluation, run):
    predictions, best = run.read_predictions(), run.read_result()["best"]
    assert evaluation["checkpoint"] == "best" and evaluation["epoch"] == best["epoch"]
    assert evaluation["images"] == EVAL
    assert evaluation["top1"] == evaluation["recorded_top1"] == pytest.approx(best["eval_acc"])
    assert evaluation["loss"] == pytest.approx(best["eval_loss"], rel=1e-5)
    matrix = np.array(evaluation["confusion_matrix"])
    predicted = predictions.logits_best.argmax(axis=1)
    for truth in range(16):
        for guess in range(16):
            assert matrix[truth, guess] == np.sum((predictions.labels == truth) & (predicted == guess))
    shares = evaluation["per_class_accuracy"]
    assert [share is None for share in shares] == [label not in predictions.labels for label in range(16)]
    assert evaluation["data"]["stand_in"] and evaluation["parameters"] == run.read_result()["parameters"]
    assert evaluation["throughput"]["with_loading"]["images_per_s"] > 0
    json.dumps(evaluation, allow_nan=False)


def test_batch_size_changes_speed_only(trained):
    one, all_at_once = (evaluate(trained, batch_size, budget_s=0) for batch_size in (1, 64))
    assert one["throughput"]["network"]["batch_size"] == 1
    assert all_at_once["throughput"]["network"]["batch_size"] == EVAL
    assert one["confusion_matrix"] == all_at_once["confusion_matrix"]
    assert one["loss"] == pytest.approx(all_at_once["loss"], rel=1e-5)


def test_weights_that_are_not_finite_are_told(trained):
    trained.network.classifier.bias.set_value(paddle.full([16], float("nan")))
    with pytest.raises(RunError, match="not finite"):
        evaluate(trained, budget_s=0)


def test_write_evaluation_names_the_checkpoint(run):
    for folder, names in (
        (run.path, ["evaluation.json", "figures/confusion.png"]),
        (run.last, ["evaluation_last.json", "figures/confusion_last.png"]),
    ):
        trained = load_trained(folder, device="cpu")
        evaluation = evaluate(trained, budget_s=0)
        assert write_evaluation(trained, evaluation) == [run.path / name for name in names]
        assert json.loads((run.path / names[0]).read_text()) == evaluation
        with Image.open(run.path / names[1]) as figure:
            assert min(figure.size) > 500
    assert evaluation["checkpoint"] == "last" and evaluation["epoch"] == 2


def test_figure_joins_the_one_log_of_the_run(run, trained, evaluation):
    write_evaluation(trained, evaluation)
    (log,) = run.visualdl.iterdir()
    reader = LogReader(file_path=str(log))
    images = reader.get_data("image", "evaluation/confusion")
    assert images[-1].id == run.read_result()["best"]["epoch"]
    # What training wrote is still there.
    assert [point.id for point in reader.get_data("scalar", "eval/accuracy")] == [1, 2]


def test_a_matplotlib_figure_can_be_logged(run):
    figure = new_figure(2, 1)
    log_figure(run, "drawn", figure, step=3)
    (log,) = run.visualdl.iterdir()
    (image,) = LogReader(file_path=str(log)).get_data("image", "drawn")
    assert image.id == 3
    with Image.open(io.BytesIO(image.image.encoded_image_string)) as decoded:
        assert decoded.size == (200, 100)


def test_no_log_is_started_for_a_run_without_one(tmp_path):
    log_image(RunFolder(tmp_path), "a%b", np.zeros((4, 4, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_table_tells_the_numbers(trained, evaluation):
    text = evaluation_table(evaluation)
    assert f"{evaluation['loss']:.4f} nats" in text and "stand-in" in text.lower()
    assert all(f"  {name} " in text for name in trained.data.classes)


def test_predictions_are_those_of_the_run(run, trained):
    predictions = run.read_predictions()
    positions = [trained.data.eval.ids.index(str(sample)) for sample in predictions.sample_ids]
    images = [trained.data.eval.images[position] for position in positions]
    expected = softmax(predictions.logits_best)
    for batch_size in (None, 5):
        np.testing.assert_allclose(predict_images(trained, iter(images), batch_size), expected, atol=1e-6)


def test_loading_refuses_what_is_no_run(tmp_path, run):
    with pytest.raises(UserError, match="neither a run folder"):
        load_trained(tmp_path)
    with pytest.raises(UserError, match="nowhere is no whole checkpoint"):
        load_trained(run.checkpoints / "nowhere")
    assert load_trained(run.last).checkpoint == run.last


def test_naming_images_needs_no_data(run, monkeypatch, trained):
    expected, classes = predict_images(trained, [Image.new("RGB", (30, 20), "red")]), trained.data.classes
    with monkeypatch.context() as patch:
        patch.setattr("simam_repro.evaluation.trained.prepare_data", lambda *_: pytest.fail("prepared data"))
        alone = load_trained(run.path, device="cpu")
        assert (alone.classes, alone.stand_in) == (classes, True)
        np.testing.assert_array_equal(predict_images(alone, [Image.new("RGB", (30, 20), "red")]), expected)


def test_an_older_run_has_its_class_names_from_the_data(run, tmp_path, trained):
    shutil.copytree(run.path, tmp_path / "older")
    result = run.read_result()
    del result["data"]["class_names"]
    (tmp_path / "older" / "result.json").write_text(json.dumps(result))
    assert load_trained(tmp_path / "older", device="cpu").classes == trained.data.classes


def test_open_image_applies_exif_orientation(tmp_path):
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:, :2] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.png")), np.rot90(pixels, -1))


def test_open_image_puts_transparency_over_white(tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    pixels[0, 1] = (0, 0, 0, 51)  # a fifth of black
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = [[[10, 20, 30], [204] * 3], [[255] * 3, [255] * 3]]
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.png")), expected)


def test_open_image_reads_grey_and_palette(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "grey16.png")
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    for name in ("grey", "grey16", "palette"):
        image = np.asarray(open_image(tmp_path / f"{name}.png"))
        np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, axis=2), err_msg=name)


def test_open_image_refuses_what_is_no_image(tmp_path):
    (tmp_path / "text.jpg").write_text("hello")
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:700])
    for name, problem in (("text.jpg", "is no image of the kinds JPEG, PNG"), ("half.jpg", "is damaged")):
        with pytest.raises(UserError, match=f"{name} {problem}"):
            open_image(tmp_path / name)


def test_find_images(tmp_path):
    for name in ("b.PNG", "a.jpg", "sub/c.webp", ".hidden.jpg", "notes.txt", "empty/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    # A file is taken as it is named; a folder gives its images in order.
    found = find_images([tmp_path / "notes.txt", tmp_path])
    assert found == [tmp_path / name for name in ("notes.txt", "a.jpg", "b.PNG", "sub/c.webp")]
    with pytest.raises(UserError, match="empty holds no image file"):
        find_images([tmp_path / "empty"])
    with pytest.raises(UserError, match="nothing.jpg does not exist"):
        find_images([tmp_path / "nothing.jpg"])
