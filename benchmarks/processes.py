"""Training images a second of one process with one thread, one with two, and two with one each (`--nproc 2`).

Each figure comes from the training command on generated images; the sides take turns.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]

# (config, batch size, images an epoch): five and ten steps, so that what an epoch costs besides them counts for little,
# as it does in a whole training. The first epoch warms up, each of the others is a sample.
CASES = {
    "TowerNet with SimAM, 256 px, batch 32": ("caltech_towernet_simam", 32, 160),
    "AlexNet with SimAM, 128 px, batch 128": ("alexnet_simam", 128, 1280),
}
EPOCHS = 3
SIDES = {  # threads of the whole run, processes
    "1 process x 1 thread": (1, 1),
    "1 process x 2 threads": (2, 1),
    "2 processes x 1 thread": (2, 2),
}


def measure(repeats: int) -> dict:
    """Rows with case, median_images_per_s, low, high, repeats, samples and `ratio` to one process of one thread."""
    rows = []
    for case in CASES:
        speeds: dict[str, list[list[float]]] = {side: [] for side in SIDES}
        for _ in range(repeats):
            for side in SIDES:
                speeds[side].append(_train(case, *SIDES[side]))
        baseline = speeds[next(iter(SIDES))]
        rows += [_row(f"{case}: {side}", speeds[side], baseline) for side in SIDES]
    return {"title": "Processes and threads", "rows": rows}


def _train(case: str, threads: int, processes: int) -> list[float]:
    name, batch_size, images = CASES[case]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "scripts/train.py", "-c", f"configs/{name}.yaml", "--run-dir", f"{folder}/run",
            "--device", "cpu", "--nproc", str(processes), "-o", "data.dataset=shapes16",
            "-o", f"data.batch_size={batch_size}", "-o", f"data.train_limit={images}", "-o", "data.eval_limit=8",
            "-o", f"train.epochs={EPOCHS}",
        ]  # fmt: skip
        own = {"FLAGS_paddle_num_threads": str(threads), "MKL_NUM_THREADS": str(threads)}
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env={**os.environ, **own})
        lines = Path(folder, "run", "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["train_images_per_s"] for line in lines[1:]]


def _row(case: str, speeds: list[list[float]], baseline: list[list[float]]) -> dict:
    samples = np.ravel(speeds)
    return {
        "case": case,
        "median_images_per_s": float(np.median(samples)),
        "low": float(samples.min()),
        "high": float(samples.max()),
        "repeats": len(speeds),
        "samples": samples.size,
        "ratio": float(np.median(samples) / np.median(baseline)),
    }


if __name__ == "__main__":
    for row in measure(int(sys.argv[1]) if len(sys.argv) > 1 else 2)["rows"]:
        speed = f"{row['median_images_per_s']:7.1f} images/s ({row['low']:.1f} to {row['high']:.1f})"
        print(f"{row['case']:62s} {speed}  {row['ratio']:.2f} x", flush=True)
