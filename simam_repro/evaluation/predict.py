"""What a trained network says about image files."""

from pathlib import Path

import numpy as np
import paddle

from simam_repro.data import transforms
from simam_repro.data.class_folders import IMAGE_SUFFIXES
from simam_repro.errors import UserError
from simam_repro.evaluation.metrics import softmax
from simam_repro.evaluation.trained import Trained
from simam_repro.models import predict_logits


def find_images(paths) -> list[Path]:
    """The files among `paths` as they are, and for each folder the image files in and below it, sorted.

    Raises:
        UserError: a path that does not exist, or a folder without an image file.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if _is_image_file(file))
            if not inside:
                raise UserError(f"{path} holds no image file ({', '.join(sorted(IMAGE_SUFFIXES))})")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"{path} does not exist; give image files or folders of images")
    return found


def _is_image_file(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") and file.is_file()


def predict_images(trained: Trained, images, batch_size: int | None = None) -> np.ndarray:
    """Class probabilities float64 [N, C] of RGB images, seen as the run's eval images are.

    Args:
        images: an iterable of RGB images (a generator keeps few in memory), at least one.
        batch_size: None: that of the run's config.
    """
    config = trained.experiment.data
    batches = _batches(images, config, batch_size or config.batch_size)
    return softmax(predict_logits(trained.network, batches))


def _batches(images, config, batch_size: int):
    """Yield (float32 tensor [n, 3, S, S],) with n <= batch_size."""
    pending: list[np.ndarray] = []

    def batch():
        return (paddle.to_tensor(transforms.normalise(np.stack(pending), config.mean, config.std)),)

    for image in images:
        pending.append(transforms.eval_image(image, config.image_size))
        if len(pending) == batch_size:
            yield batch()
            pending.clear()
    if pending:
        yield batch()
