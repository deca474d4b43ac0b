"""Training images a second: the originals' per-image loaders against this project's, and how long a network waits.

The originals' are written from the facts with what they used: `paddle.vision.transforms` on cv2 arrays, an
image at a time, through `paddle.io.DataLoader` without worker processes. Each side has a process of its own with
one thread, the originals' as Paddle comes, ours with our settings; they take turns on the same images. A third row
has this project's with the threads it has by default.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from workers import groups

ROOT = Path(__file__).resolve().parents[1]
ONE_THREAD = {"FLAGS_paddle_num_threads": "1", "MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
THREADS = 2  # data.num_workers of the configs

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


def measure(repeats: int) -> dict:
    """Rows with case, median_images_per_s, low and high; `ratio` to the original; `wait_fraction` of a training."""
    worker = {"program": "loader_worker.py"}
    original = {**worker, "environment": {**ONE_THREAD, "STOCK": "1"}}
    with groups(original=original, ours={**worker, "environment": ONE_THREAD}) as made:
        rows = [row for case in CASES for row in _compare(case, made, repeats)]
    rows += [_train(case) for case in TRAININGS]
    return {"title": "Data loading", "rows": rows}


def _compare(case: str, made: dict, repeats: int) -> list[dict]:
    name, few, many = CASES[case]
    sides = {
        "original": (made["original"], {"workers": None, "batches": few}),
        "ours": (made["ours"], {"workers": 0, "batches": many}),
        f"ours, {THREADS} threads": (made["ours"], {"workers": THREADS, "batches": many}),
    }
    speeds: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(repeats + 1):
        for side, (group, options) in sides.items():
            answer = group.run(name=name, turn=turn, **options)
            if turn:  # the first is the warm-up, which also makes the cache
                speeds[side].append(answer["images"] / answer["seconds"])
    return [_row(f"{case}: {side}", speeds[side], speeds["original"]) for side in sides]


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
