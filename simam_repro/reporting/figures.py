"""The figures of one run folder: curves, sample grid, prediction grid, confusion matrix."""

import numpy as np

from simam_repro.data import prepare_data
from simam_repro.data.transforms import eval_image
from simam_repro.evaluation import confusion_matrix, softmax
from simam_repro.reporting.curves import plot_curves
from simam_repro.reporting.style import new_figure, save_figure
from simam_repro.runs import RunFolder

GRID_ROWS, GRID_COLUMNS = 4, 4


def write_figures(run_dir) -> None:
    """Write curves.png, samples.png, predictions.png and confusion.png into the run's `figures/`."""
    run = RunFolder(run_dir)
    experiment, predictions = run.read_experiment(), run.read_predictions()
    data = prepare_data(experiment.data)
    plot_curves([run.path], run.figures / "curves.png")
    plot_samples(data, experiment.data.image_size, experiment.seed, run.figures / "samples.png")
    plot_predictions(data, predictions, experiment.data.image_size, run.figures / "predictions.png")
    predicted = predictions.logits_best.argmax(axis=1)
    matrix = confusion_matrix(predictions.labels, predicted, len(data.classes))
    plot_confusion(matrix, data.classes, run.figures / "confusion.png")


def plot_samples(data, image_size: int, seed: int, path) -> None:
    """A grid with one random training image of each class (the first 16 classes)."""
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(np.flatnonzero(data.train.labels == label)) for label in range(min(16, len(data.classes)))]
    images = [eval_image(data.train.images[index], image_size) for index in chosen]
    _plot_grid(images, [data.classes[data.train.labels[index]] for index in chosen], None, path)


def plot_predictions(data, predictions, image_size: int, path) -> None:
    """Eval images, evenly spread, with predicted class and probability; a wrong one also names the truth."""
    count = min(GRID_ROWS * GRID_COLUMNS, len(predictions.labels))
    chosen = np.arange(count) * len(predictions.labels) // count
    positions = {sample: index for index, sample in enumerate(data.eval.ids)}
    probabilities = softmax(predictions.logits_best[chosen])
    images, titles, right = [], [], []
    for row, index in enumerate(chosen):
        images.append(eval_image(data.eval.images[positions[str(predictions.sample_ids[index])]], image_size))
        truth, guess = int(predictions.labels[index]), int(probabilities[row].argmax())
        right.append(truth == guess)
        title = f"{data.classes[guess]} {probabilities[row, guess]:.0%}"
        titles.append(title if truth == guess else f"{title}\n(is {data.classes[truth]})")
    _plot_grid(images, titles, right, path)


def plot_confusion(matrix: np.ndarray, classes, path) -> None:
    """Counts, row true and column predicted; shading is the share of the row."""
    side = 2.5 + 0.42 * len(classes)
    figure = new_figure(side, side)
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(matrix)):
        shade = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, matrix[row, column], ha="center", va="center", color=shade, fontsize=8)
    axes.set_xticks(range(len(classes)), classes, rotation=60, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"accuracy {np.trace(matrix) / max(matrix.sum(), 1):.2%} of {matrix.sum()} eval images, best weights")
    save_figure(figure, path)


def _plot_grid(images, titles, right, path) -> None:
    """`right`: None, or for each image whether its title is in the colour of right or wrong."""
    rows = -(-len(images) // GRID_COLUMNS)
    figure = new_figure(2.2 * GRID_COLUMNS, 2.5 * rows)
    panels = figure.subplots(rows, GRID_COLUMNS, squeeze=False).ravel()
    for position, panel in enumerate(panels):
        panel.axis("off")
        if position < len(images):
            panel.imshow(images[position])
            wrong = right is not None and not right[position]
            panel.set_title(titles[position], fontsize=9, color="#b00020" if wrong else "black")
    save_figure(figure, path)
