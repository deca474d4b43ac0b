"""Training images a second: the originals' per-image loaders against this project's, and how long a network waits.

The originals' are written from the facts with what they used: `paddle.vision.transforms` on cv2 arrays, an
image at a time, through `paddle.io.DataLoader` without worker processes. Both sides run in one process with
one thread, in turns, on the same images; a third row has this project's with the threads it has by default.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import _cli  # noqa: E402

for threads in ("FLAGS_paddle_num_threads", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")
_cli.prepare_process()

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import paddle  # noqa: E402
from paddle.vision import transforms as T  # noqa: E402
from PIL import Image  # noqa: E402

from simam_repro.config import load_config  # noqa: E402
from simam_repro.data import build_loaders, prepare_data  # noqa: E402

# Batches a turn: about a second for each side.
CASES = {
    "Caltech101-16, 256 px, rotation": ("caltech_towernet", 12, 100),
    "CIFAR-10, 128 px, the AlexNet chain": ("alexnet", 5, 30),
}
# Long enough that the first batch, which nothing made ahead, weighs as little as in a real epoch.
TRAININGS = {
    "TowerNet, Caltech101-16, 256 px": ("caltech_towernet", 160),
    "AlexNet, CIFAR-10, 128 px": ("alexnet", 2560),
}


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


def measure(repeats: int) -> dict:
    """Rows with case, median_images_per_s, low and high; `ratio` to the original; `wait_fraction` of a training."""
    cv2.setNumThreads(0)
    rows = [row for case in CASES for row in _compare(case, repeats)]
    rows += [_train(case) for case in TRAININGS]
    return {"title": "Data loading", "rows": rows, "cv2": cv2.__version__, "paddle": paddle.__version__}


def _compare(case: str, repeats: int) -> list[dict]:
    name, few, many = CASES[case]
    config = load_config(ROOT / "configs" / f"{name}.yaml").data
    data = prepare_data(config, _cli.archive_folders())
    alone = build_loaders(data, config.model_copy(update={"num_workers": 0}), seed=0)
    threads = build_loaders(data, config, seed=0)
    one_by_one = ONE_BY_ONE[config.dataset](data.train, config)
    # Read to its end each turn: paddle's loader has a thread of its own that would work on during our turn.
    some = paddle.io.Subset(one_by_one, data.train.spread(few * config.batch_size).tolist())
    original = paddle.io.DataLoader(some, batch_size=config.batch_size, shuffle=True, num_workers=0)
    sides = {
        "original": (original, few),
        "ours": (alone.train, many),
        f"ours, {config.num_workers} threads": (threads.train, many),
    }
    speeds: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(repeats + 1):
        alone.set_epoch(turn)
        threads.set_epoch(turn)
        for side, (loader, batches) in sides.items():
            speed = _images_per_s(loader, batches)
            if turn:  # the first is the warm-up, which also makes the cache
                speeds[side].append(speed)
    return [_row(f"{case}: {side}", speeds[side], speeds["original"]) for side in sides]


def _images_per_s(loader, batches: int) -> float:
    begin = time.perf_counter()
    images = sum(len(labels) for _, labels in islice(loader, batches))
    return images / (time.perf_counter() - begin)


def _row(case: str, speeds: list[float], originals: list[float]) -> dict:
    ratios = np.array(speeds) / originals
    return {"case": case, **_spread(speeds), "ratio": float(np.median(ratios))}


def _spread(speeds: list[float]) -> dict:
    return {
        "median_images_per_s": float(np.median(speeds)),
        "low": float(np.min(speeds)),
        "high": float(np.max(speeds)),
        "repeats": len(speeds),
    }


def _train(case: str) -> dict:
    """One epoch on some of the images by the training command, on all cores."""
    name, images = TRAININGS[case]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "scripts/train.py", "-c", f"configs/{name}.yaml", "--run-dir", f"{folder}/run",
            "-o", "train.epochs=1", "-o", f"data.train_limit={images}", "-o", "data.eval_limit=32",
        ]  # fmt: skip
        # Threads as the command itself chooses them, not as this process has them.
        environment = {key: value for key, value in os.environ.items() if "NUM_THREADS" not in key.upper()}
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=environment)
        result = json.loads(Path(folder, "run", "result.json").read_text())
    speed = result["train_images_per_s"]
    return {"case": f"training {case}", **_spread([speed]), "wait_fraction": result["train_wait_fraction"]}


if __name__ == "__main__":
    for row in measure(int(sys.argv[1]) if len(sys.argv) > 1 else 7)["rows"]:
        share = f"  {row['ratio']:.1f} x" if "ratio" in row else f"  waited {row['wait_fraction']:.2%}"
        speed = f"{row['median_images_per_s']:8.1f} images/s ({row['low']:.1f} to {row['high']:.1f})"
        print(f"{row['case']:52s} {speed}{share}")
