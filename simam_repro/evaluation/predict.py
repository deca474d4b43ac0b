"""What a trained network says about image files."""

import itertools
import sys
from pathlib import Path

import numpy as np
import paddle

from simam_repro.data import transforms
from simam_repro.data.images import FORMATS, open_image
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
    named = ((None, image) for image in images)
    return np.stack([row for _, row in _predict(trained, named, batch_size or trained.experiment.data.batch_size)])


def predict_files(trained: Trained, paths, damaged: list[UserError]):
    """Yield (path, class probabilities float64 [C]) for image files in order, a batch at a time.

    Args:
        damaged: receives what is wrong with each file that cannot be read; such a file is left out.
    """

    def opened():
        for path in paths:
            try:
                yield path, open_image(path)
            except UserError as error:
                damaged.append(error)

    yield from _predict(trained, opened(), trained.experiment.data.batch_size)


def _predict(trained: Trained, named_images, batch_size: int):
    """Yield (name, probabilities) for (name, RGB image)."""
    config = trained.experiment.data
    seen = ((name, transforms.eval_image(image, config.image_size)) for name, image in named_images)
    while batch := list(itertools.islice(seen, batch_size)):
        names, images = zip(*batch)
        pixels = paddle.to_tensor(transforms.normalise(np.stack(images), config.mean, config.std))
        yield from zip(names, softmax(predict_logits(trained.network, [(pixels,)])))
