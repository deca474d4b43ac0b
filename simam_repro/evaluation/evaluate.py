"""Everything there is to measure about one trained network on its eval images."""

import time

import numpy as np
import paddle

from simam_repro.data import build_loaders
from simam_repro.errors import RunError
from simam_repro.evaluation.engine import ENGINES
from simam_repro.evaluation.metrics import confusion_matrix, cross_entropy, per_class_accuracy, top_k_accuracy
from simam_repro.evaluation.throughput import network_throughput
from simam_repro.evaluation.trained import Trained
from simam_repro.models import count_parameters, predict_logits
from simam_repro.storage import read_json
from simam_repro.training.checkpoints import STATE
from simam_repro.training.environment import describe_environment

ENVIRONMENT = ("device", "gpu", "cpu", "threads", "paddle")


def evaluate(trained: Trained, batch_size: int | None = None, budget_s: float = 3.0, engine: str = "paddle") -> dict:
    """The content of evaluation.json: accuracy, confusion matrix and speed on the eval images.

    Args:
        batch_size: images in a batch; None: that of the run's config.
        budget_s: see `network_throughput`.
        engine: what runs the network, a key of ENGINES.
    Returns:
        name, seed, attention, backbone, parameters, data, engine; checkpoint, its epoch and the recorded_top1 of
        that epoch while training (None for a checkpoint within an epoch, or with data.validation_fraction); images;
        loss (plain cross-entropy, nats), top1, top5 (fractions); classes, per_class_accuracy (None for a class without
        images), confusion_matrix (row true, column predicted); throughput in images/s, with the loading of
        the images (the measure of the original CIFAR-10 experiment) and of the network alone; environment.
    Raises:
        RunError: the weights give logits that are not finite.
    """
    experiment = trained.experiment
    config = experiment.data.model_copy(update={"batch_size": batch_size} if batch_size else {})
    loaders = build_loaders(trained.data, config, experiment.seed)
    labels = trained.data.eval.labels[loaders.eval_indices]
    network = ENGINES[engine](trained)
    network_alone = network_throughput(network, _first_images(loaders.eval), budget_s)

    begin = time.perf_counter()
    logits = predict_logits(network, loaders.eval)
    seconds = time.perf_counter() - begin
    if not np.isfinite(logits).all():
        raise RunError(f"{trained.checkpoint} gives logits that are not finite: its training has diverged")

    environment = describe_environment(trained.device, trained.experiment.model)
    return {
        **_identity(trained),
        "engine": engine,
        **_scores(logits, labels, trained.data.classes),
        "throughput": {"with_loading": {"images_per_s": len(labels) / seconds}, "network": network_alone},
        "environment": {key: environment[key] for key in ENVIRONMENT},
    }


def _first_images(loader):
    """The first batch of a loader as a tensor on the device, without starting the loader's threads."""
    images, _ = loader.make(next(iter(loader.batch_sampler)))
    return paddle.to_tensor(images)


def _identity(trained: Trained) -> dict:
    experiment, state = trained.experiment, read_json(trained.checkpoint / STATE)
    record = state["records"][-1] if state["records"] and not state["epoch_so_far"]["steps"] else {}
    recorded = record.get("eval_acc") if record.get("evaluated_on", "eval") == "eval" else None
    return {
        "name": experiment.name,
        "seed": experiment.seed,
        "attention": experiment.model.attention,
        "backbone": experiment.model.backbone,
        "parameters": count_parameters(trained.network),
        "data": {"name": trained.data.name, "sha256": trained.data.sha256, "stand_in": trained.data.stand_in},
        "checkpoint": trained.checkpoint.name,
        "epoch": state["epoch"],
        "recorded_top1": recorded,
    }


def _scores(logits: np.ndarray, labels: np.ndarray, classes) -> dict:
    matrix = confusion_matrix(labels, logits.argmax(axis=1), len(classes))
    shares = per_class_accuracy(matrix).tolist()
    return {
        "images": len(labels),
        "loss": cross_entropy(logits, labels),
        "top1": top_k_accuracy(logits, labels, 1),
        "top5": top_k_accuracy(logits, labels, 5),
        "classes": list(classes),
        # JSON has no NaN.
        "per_class_accuracy": [None if np.isnan(share) else share for share in shares],
        "confusion_matrix": matrix.tolist(),
    }
