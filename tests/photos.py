"""Runs on a folder of a few generated images, the smallest there are."""

import numpy as np
from PIL import Image

from simam_repro.config import build_experiment

COLOURS = {"cat": (200, 30, 30), "dog": (30, 200, 30), "owl": (30, 30, 200)}


def write_image(path, colour, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 40, (32, 32, 3))
    Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(path)


def write_classes(folder, classes=tuple(COLOURS), images=6) -> None:
    for name in classes:
        for number in range(images):
            write_image(folder / name / f"{number}.png", COLOURS.get(name.lower(), (90, 90, 90)), number)


def experiment(root, optim=None, **train):
    """The smallest run: MobileNetV2 on the images in root/photos, in batches of 4."""
    return build_experiment(
        {
            "name": "photos",
            "data": {
                "dataset": "folder", "folder": str(root / "photos"), "root": str(root / "data"), "image_size": 32,
                "batch_size": 8, "num_workers": 0,
            },
            "model": {"backbone": "mobilenet_v2"},
            "optim": optim or {},
            "train": {"epochs": 1, "device": "cpu", **train},
            "logging": {"visualdl": False},
        }
    )  # fmt: skip
