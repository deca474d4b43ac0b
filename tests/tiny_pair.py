"""The smallest pair of runs without and with SimAM, on a miniature of Caltech101-16."""

from pathlib import Path

from simam_repro.config import build_experiment
from simam_repro.training import fit


def train_tiny_pair(folder: Path, archive: Path, eval_limit: int) -> Path:
    """Trains `tiny` and `tiny_simam`, one epoch of one batch, seed 0; returns the folder that has them."""
    (folder / "data" / "archives").mkdir(parents=True)
    (folder / "data" / "archives" / archive.name).symlink_to(archive)
    for name, attention in (("tiny", "none"), ("tiny_simam", "simam")):
        values = {
            "name": name,
            "data": {
                "root": str(folder / "data"), "allow_miniature": True, "image_size": 128, "batch_size": 4,
                "train_limit": 4, "eval_limit": eval_limit,
            },
            "model": {"attention": attention},
            "train": {"epochs": 1, "device": "cpu"},
        }  # fmt: skip
        fit(build_experiment(values), folder / "runs" / name / "seed0")
    return folder / "runs"
