"""Run folders with made-up predictions, as training would leave them: what comparisons read, without any training."""

import json

import numpy as np

from simam_repro.config import build_experiment
from simam_repro.evaluation.metrics import cross_entropy
from simam_repro.runs import RunFolder
from simam_repro.storage import write_json

CLASSES = 4
ENVIRONMENT = {
    "python": "3.11.7", "paddle": "3.3.1", "numpy": "2.4.6", "device": "cpu", "gpu": None, "cpu": "A processor",
    "threads": 1, "nproc": 1, "git_commit": "1234567", "git_dirty": False,
}  # fmt: skip
DATA = {"name": "shapes16", "sha256": "ab" * 32, "stand_in": True, "classes": CLASSES, "train_images": 32}


def logits_of(right, seed=0) -> np.ndarray:
    """float32 [images, CLASSES], largest at the label (the image's number modulo CLASSES) where `right`."""
    right = np.asarray(right, bool)
    labels = np.arange(len(right)) % CLASSES
    logits = np.random.default_rng(seed).normal(0, 0.1, (len(right), CLASSES)).astype(np.float32)
    logits[np.arange(len(right)), np.where(right, labels, (labels + 1) % CLASSES)] += 2
    return logits


def write_run(
    folder, attention="none", seed=0, final=(1, 1, 0, 0), best=(1, 1, 1, 0), config=None, data=None, environment=None,
    chosen_on="eval",
) -> RunFolder:  # fmt: skip
    """A complete run with this attention; `final`, `best`: which eval images its networks get right."""
    run = RunFolder(folder)
    run.path.mkdir(parents=True)
    values = {
        "name": "made" if attention == "none" else "made_simam", "seed": seed,
        "data": {"dataset": "shapes16", "image_size": 128}, "train": {"epochs": 3},
        **(config or {}), "model": {"attention": attention, **(config or {}).get("model", {})},
    }  # fmt: skip
    experiment = build_experiment(values)
    run.config.write_text(experiment.to_yaml())
    labels = np.arange(len(final)) % CLASSES
    logits = {"final": logits_of(final, 2 * seed), "best": logits_of(best, 2 * seed + 1)}
    np.savez_compressed(
        run.predictions, sample_ids=np.array([f"image {index}" for index in range(len(final))]), labels=labels,
        logits_final=logits["final"], logits_best=logits["best"],
    )  # fmt: skip
    scores = {
        which: {"eval_acc": float(np.mean(right)), "eval_loss": cross_entropy(logits[which], labels)}
        for which, right in (("final", final), ("best", best))
    }
    write_json(run.result, {
        "name": experiment.name, "seed": seed, "epochs": 3, "attention": attention, "parameters": 100,
        "final": {"epoch": 3, "train_acc": 0.5, **scores["final"]},
        "best": {"epoch": 2, "chosen_on": chosen_on, **scores["best"]},
        "train_images_per_s": 10.0, "eval_images_per_s": 30.0, "wall_s": 60.0, "weights": None,
        "data": {**DATA, "eval_images": len(final), **(data or {})},
    })  # fmt: skip
    write_json(run.environment, {**ENVIRONMENT, **(environment or {})})
    record = {"train_nll": 1.0, "eval_loss": 1.0, "train_acc": 0.5, "eval_acc": 0.5}
    run.metrics.write_text("".join(json.dumps({"epoch": epoch, **record}) + "\n" for epoch in (1, 2, 3)))
    return run


def write_pair(folder, seed=0, off=(1, 1, 0, 0), on=(1, 1, 1, 0), **keys):
    """[off, on], final and best alike; keys of `write_run` for both, or {half: keys} for one."""
    halves = {"off": ("none", off), "on": ("simam", on)}
    own = {half: keys.pop(half) for half in ("off_keys", "on_keys") if half in keys}
    return [
        write_run(folder / half / f"seed{seed}", attention, seed, right, right, **keys, **own.get(f"{half}_keys", {}))
        for half, (attention, right) in halves.items()
    ]


def write_sweep(folder, seeds=3, images=200, gain=0.0, spread=0.03, **keys) -> list[RunFolder]:
    """Pairs at <folder>/<name>/seed<N>: images of different difficulty, seeds of different luck."""
    rng = np.random.default_rng(7)
    difficulty = rng.random(images)
    runs = []
    for seed in range(seeds):
        for attention, name in (("none", "made"), ("simam", "made_simam")):
            final, best = (
                difficulty + rng.normal(0, 0.1, images) + rng.normal(0, spread) < level + gain * (attention == "simam")
                for level in (0.7, 0.72)
            )
            runs.append(write_run(folder / name / f"seed{seed}", attention, seed, final, best, **keys))
    return runs
