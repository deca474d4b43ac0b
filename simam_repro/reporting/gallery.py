"""A small picture of what the arms of a sweep predict for the same images, errors first."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from simam_repro.data import PreparedData, prepare_data
from simam_repro.data.transforms import eval_image
from simam_repro.errors import UserError
from simam_repro.evaluation import softmax
from simam_repro.evaluation.arms import find_arms
from simam_repro.runs import Predictions, RunFolder
from simam_repro.storage import atomic_path

NAME = "predictions.jpg"
IMAGES, COLUMNS, MOST_ARMS = 12, 4, 5
MOST_DISPUTED = 8  # of the images: those that the arms disagree on
SIDE, GAP, LINE, LETTERS = 1.5, 0.25, 0.155, 26  # inches of an image, between images, of a line of text; letters of one
RIGHT, WRONG = "#1c1f23", "#b00020"


def write_gallery(runs: list[RunFolder], path: Path) -> bool:
    """Write a JPEG of some 50 kB; False where there are no two arms with a seed in common that have their predictions.

    Raises:
        UserError: the data is not there, or not what the runs were trained on.
    """
    comparisons, _ = find_arms([run for run in runs if run.predictions.is_file()])
    if not comparisons:
        return False
    arms = comparisons[0]
    seed = arms.seeds(arms.others[0])[0]
    shown = [arm for arm in (arms.baseline, *arms.others) if arm.complete(seed)][:MOST_ARMS]
    data = prepare_data(arms.baseline.experiment.data)
    predictions = {}
    for arm in shown:
        arm.runs[seed].check_data(data.describe())
        predictions[arm.title] = arm.runs[seed].read_predictions()
    figure = _figure(data, predictions, arms.baseline.experiment.data.image_size)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="jpg", dpi=100, pil_kwargs={"quality": 75, "optimize": True})
    return True


def _figure(data: PreparedData, predictions: dict[str, Predictions], image_size: int) -> Figure:
    """`predictions` of each arm by its title, all of the same images."""
    ids, labels = (getattr(next(iter(predictions.values())), name) for name in ("sample_ids", "labels"))
    if not all(np.array_equal(one.sample_ids, ids) for one in predictions.values()):
        raise UserError("the arms were evaluated on different images")
    probabilities = {title: softmax(one.logits_final) for title, one in predictions.items()}
    chosen = errors_first(np.stack([rows.argmax(axis=1) == labels for rows in probabilities.values()]))
    positions = {sample: index for index, sample in enumerate(data.eval.ids)}
    pictures = [eval_image(data.eval.images[positions[str(ids[i])]], image_size) for i in chosen]
    texts = []
    for i in chosen:
        arms = [_told(title, rows[i], labels[i], data) for title, rows in probabilities.items()]
        texts.append([(data.classes[labels[i]], RIGHT), *arms])
    return _draw(pictures, texts)


def _told(title: str, row: np.ndarray, label: int, data: PreparedData) -> tuple[str, str]:
    """What an arm says of an image, and its colour."""
    guess = int(row.argmax())
    return f"{data.classes[guess]} {row[guess]:.0%}, {title}", RIGHT if guess == label else WRONG


def errors_first(right: np.ndarray) -> list[int]:
    """Which images to show: some that the arms disagree on, some that all get wrong, then others, each evenly spread.

    Args:
        right: bool [arms, images].
    """
    disputed, lost = right.any(axis=0) & ~right.all(axis=0), ~right.any(axis=0)
    chosen: list[int] = []
    for kind, most in ((disputed, MOST_DISPUTED), (lost, IMAGES), (right.all(axis=0), IMAGES)):
        candidates = np.flatnonzero(kind)
        count = min(most, len(candidates), IMAGES - len(chosen))
        chosen += [int(candidates[i * len(candidates) // count]) for i in range(count)]
    return chosen


def _draw(pictures, texts) -> Figure:
    """A grid, all in one pair of axes, in inches. Below each image its class in bold, then a line for each arm."""
    rows, lines = -(-len(pictures) // COLUMNS), len(texts[0])
    width, height = SIDE + GAP, SIDE + LINE * lines + GAP
    size = width * COLUMNS + GAP, height * rows + GAP
    figure = Figure(figsize=size, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    for position, (picture, told) in enumerate(zip(pictures, texts)):
        left, top = GAP + position % COLUMNS * width, GAP + position // COLUMNS * height
        axes.imshow(picture, extent=(left, left + SIDE, top + SIDE, top))
        for line, (text, colour) in enumerate(told):
            short = text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"
            axes.text(left, top + SIDE + 0.04 + LINE * line, short, va="top", fontsize=8, color=colour,
                      fontweight="normal" if line else "bold", parse_math=False)  # fmt: skip
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
    return figure
