"""Grids of images and the confusion matrix; `write_figures` makes those of a run folder."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from simam_repro.config import Data, Experiment
from simam_repro.data import PreparedData, prepare_data
from simam_repro.data.loaders import ImageDataset
from simam_repro.data.transforms import eval_image
from simam_repro.errors import UserError
from simam_repro.evaluation import Trained, confusion_matrix, predict_images, softmax
from simam_repro.reporting.curves import plot_curves
from simam_repro.reporting.style import new_figure, save_figure, set_title
from simam_repro.reporting.visualdl import log_figure
from simam_repro.runs import RUN_FIGURES, RunFolder
from simam_repro.storage import remove_temporaries

RUN_GRID = 16
EVAL_GRID, EVAL_GRID_COLUMNS = 18, 6
AUGMENTED = 16
MOST_SAMPLES = 16
MOST_NAMED_CLASSES = 50  # above, a confusion matrix is shading only
LONGEST_NAME = 24
IMAGE_SIDE, IMAGE_GAP, HEADING = 1.85, 0.15, 0.5  # of a grid, inches


def write_figures(run_dir, data: PreparedData | None = None) -> None:
    """Write `RUN_FIGURES` into the run's `figures/`; `data` is the run's, prepared here where it is not given."""
    run = RunFolder(run_dir)
    remove_temporaries(run.path, {*run.trained, *RUN_FIGURES})  # of a call that was killed
    experiment, predictions = run.read_experiment(), run.read_predictions()
    data, size = data or prepare_data(experiment.data), experiment.data.image_size
    run.check_data(data.describe())
    curves, samples, grid, confusion = (run.figures / name for name in RUN_FIGURES)
    plot_curves([run.path], curves)
    plot_samples(data, size, experiment.seed, samples)

    count = len(predictions.labels)
    chosen = np.arange(min(RUN_GRID, count)) * count // min(RUN_GRID, count)
    positions = {sample: index for index, sample in enumerate(data.eval.ids)}
    strange = [str(sample) for sample in predictions.sample_ids if str(sample) not in positions]
    if strange:
        raise UserError(f"{run.predictions} is of other images than {data.name}: it has no image {strange[0]}")
    indices = [positions[str(sample)] for sample in predictions.sample_ids[chosen]]
    probabilities = softmax(predictions.logits_best[chosen])
    plot_predictions(data, indices, probabilities, size, grid)
    log_figure(run, "predictions", grid)

    matrix = confusion_matrix(predictions.labels, predictions.logits_best.argmax(axis=1), len(data.classes))
    plot_confusion(matrix, data.classes, confusion, stand_in=data.stand_in)


def write_eval_grid(trained: Trained, path) -> None:
    """18 eval images, evenly spread, with predicted and true class, as the original CIFAR-10 experiment ends."""
    data, indices = trained.data, trained.data.eval.spread(EVAL_GRID)
    probabilities = predict_images(trained, (data.eval.images[index] for index in indices))
    plot_predictions(data, indices, probabilities, trained.experiment.data.image_size, path, EVAL_GRID_COLUMNS)


def write_data_figures(data: PreparedData, experiment: Experiment, folder, index: int | None = None) -> list[Path]:
    """Write classes.png and augmentation.png into `folder`; returns their paths.

    Args:
        index: the training image to augment; None: drawn by the experiment's seed.
    Raises:
        UserError: no training image of that index.
    """
    if index is None:
        index = int(np.random.default_rng(experiment.seed).integers(len(data.train)))
    if not 0 <= index < len(data.train):
        raise UserError(f"index {index}: {data.name} has the training images 0 to {len(data.train) - 1}")
    paths = [Path(folder) / name for name in ("classes.png", "augmentation.png")]
    plot_samples(data, experiment.data.image_size, experiment.seed, paths[0])
    plot_augmentation(data, experiment.data, experiment.seed, index, paths[1])
    return paths


def plot_samples(data: PreparedData, image_size: int, seed: int, path) -> None:
    """A grid with one random training image of each class (the first 16 classes)."""
    rng = np.random.default_rng(seed)
    labels = np.unique(data.train.labels)[:MOST_SAMPLES]
    chosen = [rng.choice(np.flatnonzero(data.train.labels == label)) for label in labels]
    images = [eval_image(data.train.images[index], image_size) for index in chosen]
    figure = _grid(images, [_short(data.classes[label]) for label in labels])
    set_title(figure, f"{data.name}: one training image of each class", data.stand_in)
    save_figure(figure, path)


def plot_augmentation(data: PreparedData, config: Data, seed: int, index: int, path) -> None:
    """Training image `index` untouched, then as the epochs 1 to 16 of a run with this seed see it."""
    dataset = ImageDataset(data.train, config, seed)
    untouched = eval_image(data.train.images[index], config.image_size)
    epochs = range(1, AUGMENTED + 1)
    images = [untouched, *(dataset[epoch, index] for epoch in epochs)]
    figure = _grid(images, ["untouched", *(f"epoch {epoch}" for epoch in epochs)], columns=6)
    set_title(figure, f"{data.name}: training image {index}, {_short(data.train.ids[index])}", data.stand_in)
    save_figure(figure, path)


def plot_predictions(data: PreparedData, indices, probabilities, image_size: int, path, columns: int = 4) -> None:
    """Eval images with predicted class, its probability, and the true class; bold red where they differ.

    Args:
        indices: which images of `data.eval`.
        probabilities: float [N, C], a row for each of `indices`.
    """
    truths, guesses = data.eval.labels[indices], probabilities.argmax(axis=1)
    images = [eval_image(data.eval.images[index], image_size) for index in indices]
    titles = [
        f"{_short(data.classes[guess])} {row[guess]:.0%}\ntrue: {_short(data.classes[truth])}"
        for row, guess, truth in zip(probabilities, guesses, truths)
    ]
    figure = _grid(images, titles, columns, wrong=truths != guesses)
    set_title(figure, f"{data.name}: eval images with predicted and true class", data.stand_in)
    save_figure(figure, path)


def plot_confusion(matrix: np.ndarray, classes, path, weights: str = "best", stand_in: bool = False) -> None:
    """Counts, row true and column predicted; shading is the share of the row. `weights` names them in the title."""
    readable = len(classes) <= MOST_NAMED_CLASSES
    side = max(5.0, 2.5 + 0.42 * min(len(classes), MOST_NAMED_CLASSES))
    figure = new_figure(side, side)
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(matrix)) if readable else ():
        shade = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, matrix[row, column], ha="center", va="center", color=shade, fontsize=8)
    names = [_short(name) for name in classes] if readable else []
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    accuracy = np.trace(matrix) / max(matrix.sum(), 1)
    set_title(figure, f"accuracy {accuracy:.2%} of {matrix.sum()} eval images, {weights} weights", stand_in)
    save_figure(figure, path)


def _grid(images, titles, columns: int = 4, wrong=None):
    """A figure of images with titles; those in the mask `wrong` have theirs in bold red.

    All in one pair of axes, in inches: the layout of many takes longer than a short training.
    """
    rows = -(-len(images) // columns)
    title_height = 0.08 + 0.17 * max(title.count("\n") + 1 for title in titles)
    width, height = IMAGE_SIDE + IMAGE_GAP, IMAGE_SIDE + title_height
    size = width * columns + IMAGE_GAP, height * rows + IMAGE_GAP
    figure = Figure(figsize=(size[0], size[1] + HEADING))
    axes = figure.add_axes((0, 0, 1, size[1] / (size[1] + HEADING)))
    axes.axis("off")
    for position, (image, title) in enumerate(zip(images, titles)):
        left, top = IMAGE_GAP + position % columns * width, position // columns * height + title_height
        axes.imshow(image, extent=(left, left + IMAGE_SIDE, top + IMAGE_SIDE, top))
        look = {"color": "#b00020", "fontweight": "bold"} if wrong is not None and wrong[position] else {}
        axes.text(left + IMAGE_SIDE / 2, top - 0.04, title, ha="center", va="bottom", fontsize=9, **look)
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
    return figure


def _short(name: str) -> str:
    """A class or file name that fits over an image."""
    name = name.replace("$", r"\$")  # not the start of a formula
    return name if len(name) <= LONGEST_NAME else f"{name[:10]}…{name[-13:]}"
