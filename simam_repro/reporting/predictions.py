"""Predictions for image files as text and as CSV."""

import csv
import io

import numpy as np

from simam_repro.errors import printable
from simam_repro.storage import write_text


def top_classes(probabilities: np.ndarray, classes, top: int) -> list[list[tuple[str, float]]]:
    """For each row of probabilities [N, C] its `top` most probable (class, probability), the largest first."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return [[(classes[label], float(row[label])) for label in labels] for row, labels in zip(probabilities, order)]


def prediction_line(path, probabilities: np.ndarray, classes, top: int, width: int) -> str:
    """An image's path in `width` columns, then class and probability of the `top` most probable of [C]."""
    classes = [*map(printable, classes)]
    (best,), name_width = top_classes(probabilities[None], classes, top), max(map(len, classes))
    return f"{printable(path):{width}s}  " + "  ".join(f"{name:{name_width}s} {share:6.1%}" for name, share in best)


def write_predictions(file, paths, probabilities: np.ndarray, classes, top: int) -> None:
    """Write a CSV: image, class_1, probability_1, ..., class_K, probability_K."""
    ranks = range(1, min(top, len(classes)) + 1)
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(["image", *(f"{what}_{rank}" for rank in ranks for what in ("class", "probability"))])
    for path, best in zip(paths, top_classes(probabilities, classes, top)):
        table.writerow([printable(path), *(value for name, share in best for value in (name, f"{share:.6f}"))])
    write_text(file, buffer.getvalue())
