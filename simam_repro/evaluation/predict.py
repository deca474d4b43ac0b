"""What a trained network says about image files."""

import sys
from pathlib import Path

import numpy as np
import paddle

from simam_repro.data import transforms
from simam_repro.data.images import FORMATS
from simam_repro.data.listing import LeftOut, left_out_line, list_images
from simam_repro.errors import UserError, printable
from simam_repro.evaluation.metrics import softmax
from simam_repro.evaluation.trained import Trained
from simam_repro.models import predict_logits


def find_images(paths) -> list[Path]:
    """The files among `paths` as they are, and for each folder the image files in and below it, sorted; what else is
    there is counted on stderr.

    Raises:
        UserError: a path that is no file or folder, or a folder without an image file.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            left_out = LeftOut()
            inside = sorted(path / name for name in list_images(path, left_out))
            if not inside:
                raise UserError(f"{path} holds no image file ({', '.join(FORMATS)})")
            if line := left_out_line(left_out.describe()):
                print(printable(f"{path}: {line}"), file=sys.stderr)
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            state = "is no regular file" if path.exists() else "does not exist"
            raise UserError(f"{path} {state}; give image files or folders of images")
    return found


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
