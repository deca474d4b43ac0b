"""One side of loaders.py in a process of its own, with one thread; see workers.py. STOCK=1: without this project's
settings of a process, as the originals ran.
"""

import functools
import os
import sys
import time
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from workers import serve  # noqa: E402

from simam_repro import cli  # noqa: E402

if "STOCK" not in os.environ:
    cli.prepare_process()

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import paddle  # noqa: E402
from paddle.vision import transforms as T  # noqa: E402
from PIL import Image  # noqa: E402

from simam_repro.config import load_config  # noqa: E402
from simam_repro.data import build_loaders, prepare_data  # noqa: E402


class CaltechOneByOne(paddle.io.Dataset):
    """What the original TowerNet experiment does for a training image."""

    def __init__(self, split, config):
        self.images, self.labels = split.images, split.labels
        self.mean, self.std = (np.array(value, np.float32).reshape(3, 1, 1) for value in (config.mean, config.std))
        self.change = T.Compose([T.Resize((256, 256)), T.RandomRotation(10)])

    def __getitem__(self, index):
        with Image.open(self.images.folder / self.images.names[index]) as image:
            pixels = np.asarray(image.convert("RGB")).astype(np.float32)
        planes = self.change(pixels).transpose(2, 0, 1) / np.float32(255)
        return (planes - self.mean) / self.std, self.labels[index]

    def __len__(self):
        return len(self.labels)


class CifarOneByOne(paddle.io.Dataset):
    """What the original AlexNet experiment does for a training image."""

    def __init__(self, split, config):
        self.array, self.labels = split.images.array, split.labels
        self.change = T.Compose(
            [
                T.Resize((130, 130)), T.ColorJitter(0.2, 0.2, 0.2), T.RandomResizedCrop(128, scale=(0.6, 1.0)),
                T.RandomHorizontalFlip(0.5), T.RandomRotation(20), T.ToTensor(), T.Normalize(config.mean, config.std),
            ]
        )  # fmt: skip

    def __getitem__(self, index):
        return self.change(np.asarray(self.array[index])), self.labels[index]

    def __len__(self):
        return len(self.labels)


ONE_BY_ONE = {"caltech101_16": CaltechOneByOne, "cifar10": CifarOneByOne}


@functools.cache
def loader_of(name: str, workers: int | None, few: int):
    """(loader, what to call with the turn before it): the original's where `workers` is None."""
    config = load_config(ROOT / "configs" / f"{name}.yaml").data
    data = prepare_data(config)
    if workers is not None:
        ours = build_loaders(data, config.model_copy(update={"num_workers": workers}), seed=0)
        return ours.train, ours.set_epoch
    one_by_one = ONE_BY_ONE[config.dataset](data.train, config)
    # Read to its end each turn: paddle's loader has a thread of its own that would work on during another's turn.
    some = paddle.io.Subset(one_by_one, data.train.spread(few * config.batch_size).tolist())
    return paddle.io.DataLoader(some, batch_size=config.batch_size, shuffle=True, num_workers=0), lambda turn: None


def run(name: str, workers: int | None, batches: int, turn: int) -> dict:
    loader, set_epoch = loader_of(name, workers, batches)
    set_epoch(turn)
    begin = time.perf_counter()
    images = sum(len(labels) for _, labels in islice(loader, batches))
    return {"seconds": time.perf_counter() - begin, "images": images}


if __name__ == "__main__":
    cv2.setNumThreads(0)
    serve(run)
