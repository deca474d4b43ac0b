"""What an arm costs: parameters, FLOPs, and the time for an image while its runs trained and were evaluated."""

import functools

import numpy as np

from simam_repro.config import Experiment
from simam_repro.evaluation import statistics
from simam_repro.models import build_model
from simam_repro.models.summary import summarise

# Key, and what of result.json it is the inverse of; both include the loading of the images.
TIMES = {"train_ms": "train_images_per_s", "eval_ms": "eval_images_per_s"}


def cost(experiment: Experiment, results: list[dict]) -> dict:
    """Of one arm.

    Args:
        results: what result.json of each of its runs says.
    Returns:
        parameters: trainable ones. flops: of one image, as `summarise` counts them. train_ms, eval_ms: milliseconds an
        image {values (one a run), mean, sd}. What else the machine did meanwhile is in them.
    """
    classes = results[0]["data"].get("classes") or len(results[0]["data"]["class_names"])
    times = {key: np.array([1000 / result[rate] for result in results]) for key, rate in TIMES.items()}
    return {
        "parameters": results[0]["parameters"],
        "flops": _flops(experiment.model, classes, experiment.data.image_size),
        **{key: _summary(values) for key, values in times.items()},
    }


def cost_ratios(baseline: list[dict], arm: list[dict], arms: int) -> dict:
    """{train_ms, eval_ms: the arm's time over the baseline's, seed by seed: values, mean, sd, t_interval}.

    Args:
        baseline, arm: as `results` above, of the same seeds.
        arms: how many share the level of the intervals.
    """
    ratios = {
        key: np.array([before[rate] / now[rate] for before, now in zip(baseline, arm)]) for key, rate in TIMES.items()
    }
    confidence = statistics.simultaneous(arms)
    return {
        key: {**_summary(values), "t_interval": statistics.t_interval(values, confidence)}
        for key, values in ratios.items()
    }


def _summary(values: np.ndarray) -> dict:
    return {"values": values.tolist(), "mean": float(values.mean()), "sd": statistics.sd(values)}


@functools.lru_cache(maxsize=64)
def _flops(model, classes: int, image_size: int) -> int:
    return summarise(build_model(model, classes, image_size), image_size).flops
