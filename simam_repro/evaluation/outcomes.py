"""What a comparison needs of a run's predictions, small enough to commit: right or wrong for each eval image.

A run's folder has its predictions; what is kept of it (`results/`) has outcomes.json instead: under 1 kB for 365
images. Every interval that a comparison gives is computed from outcomes, so both give the same numbers.
"""

import base64
import hashlib
import json
from dataclasses import dataclass

import numpy as np

from simam_repro.errors import UserError
from simam_repro.evaluation.metrics import cross_entropy
from simam_repro.evaluation.statistics import expected_calibration_error
from simam_repro.runs import Predictions, RunFolder
from simam_repro.storage import read_json, write_text

SCHEMA = 1
EPOCHS = ("final", "best")


@dataclass(frozen=True)
class EpochOutcomes:
    """Of the final or the best epoch: `right` bool [images], cross-entropy in nats, ECE, right images of each class."""

    right: np.ndarray
    loss: float
    ece: float
    class_right: tuple[int, ...]


@dataclass(frozen=True)
class Outcomes:
    """Attributes:
    images_sha256: of the ids and labels of the eval images, in order: equal for runs that were evaluated on the same.
    class_images: how many images each class has.
    """

    images_sha256: str
    class_images: tuple[int, ...]
    final: EpochOutcomes
    best: EpochOutcomes


def outcomes_of(predictions: Predictions) -> Outcomes:
    labels, classes = predictions.labels, predictions.logits_final.shape[1]
    digest = hashlib.sha256("\n".join(map(str, predictions.sample_ids)).encode())
    digest.update(np.ascontiguousarray(labels, "<i8").tobytes())
    epochs = {which: _epoch(getattr(predictions, f"logits_{which}"), labels, classes) for which in EPOCHS}
    return Outcomes(digest.hexdigest(), _counts(labels, classes), **epochs)


def _epoch(logits: np.ndarray, labels: np.ndarray, classes: int) -> EpochOutcomes:
    right = logits.argmax(axis=1) == labels
    error = expected_calibration_error(logits, labels)
    return EpochOutcomes(right, cross_entropy(logits, labels), error, _counts(labels[right], classes))


def _counts(labels: np.ndarray, classes: int) -> tuple[int, ...]:
    return tuple(np.bincount(labels, minlength=classes).tolist())


def read_outcomes(run: RunFolder) -> Outcomes:
    """From the run's predictions, or, of a run that was kept without them, from its outcomes.json.

    Raises:
        UserError: neither is there, or the file is damaged.
    """
    if run.predictions.is_file() or not run.outcomes.is_file():
        return outcomes_of(run.read_predictions())
    try:
        return _unpacked(read_json(run.outcomes))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{run.outcomes} cannot be read ({error}): restore it, or keep the run again") from None


def write_outcomes(outcomes: Outcomes, path) -> None:
    """Write outcomes.json."""
    packed = {
        "schema": SCHEMA,
        "images": len(outcomes.final.right),
        "images_sha256": outcomes.images_sha256,
        "class_images": outcomes.class_images,
        **{which: _packed(getattr(outcomes, which)) for which in EPOCHS},
    }
    write_text(path, json.dumps(packed, separators=(",", ":")) + "\n")


def _packed(epoch: EpochOutcomes) -> dict:
    return {"right": pack(epoch.right), "loss": epoch.loss, "ece": epoch.ece, "class_right": epoch.class_right}


def _unpacked(content: dict) -> Outcomes:
    epochs = {
        which: EpochOutcomes(
            unpack(part["right"], content["images"]), part["loss"], part["ece"], tuple(part["class_right"])
        )
        for which, part in ((which, content[which]) for which in EPOCHS)
    }
    return Outcomes(content["images_sha256"], tuple(content["class_images"]), **epochs)


def pack(right: np.ndarray) -> str:
    """bool [images] as text: one bit an image, the first the highest of its byte, in base 64."""
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def unpack(text: str, images: int) -> np.ndarray:
    """What `pack` packed. Raises ValueError for another number of images."""
    bits = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if len(bits) != -(-images // 8):
        raise ValueError(f"{8 * len(bits)} outcomes for {images} images")
    return np.unpackbits(bits)[:images].astype(bool)
