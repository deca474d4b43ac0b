"""Everything there is to measure about one trained network on its eval images."""

import time

import numpy as np
import paddle

from simam_repro.data.loaders import build_eval_loader
from simam_repro.errors import RunError
from simam_repro.evaluation.engine import ENGINES
from simam_repro.evaluation.eval_set import WHICH, EvalSet, run_eval_set
from simam_repro.evaluation.metrics import confusion_matrix, cross_entropy, per_class_accuracy, top_k_accuracy
from simam_repro.evaluation.throughput import network_throughput
from simam_repro.evaluation.trained import Trained
from simam_repro.models import count_parameters, predict_logits
from simam_repro.training.checkpoints import read_state
from simam_repro.training.environment import describe_environment

ENVIRONMENT = ("device", "gpu", "cpu", "threads", "paddle")


def evaluate(
    trained: Trained, batch_size: int | None = None, budget_s: float = 3.0, engine: str = "paddle",
    eval_set: EvalSet | None = None,
) -> dict:  # fmt: skip
    """The content of evaluation.json: accuracy, confusion matrix and speed on the eval images.

    Args:
        eval_set: other images than those of the run.
        batch_size: images in a batch; None: that of the run's config.
        budget_s: see `network_throughput`.
        engine: what runs the network, a key of ENGINES.
    Returns:
        name, seed, attention, backbone, parameters, data, engine; checkpoint, its epoch and the recorded_top1 of
        that epoch while training (None for a checkpoint within an epoch, with data.validation_fraction, or on other
        data); of other data also data_config, its keys, and left_out, the images of classes not known; images;
        loss (plain cross-entropy, nats), top1, top5 (fractions); classes, per_class_accuracy (None for a class without
        images), confusion_matrix (row true, column predicted); throughput in images/s, with the loading of
        the images (the measure of the original CIFAR-10 experiment) and of the network alone; environment.
    Raises:
        RunError: the weights give logits that are not finite.
    """
    eval_set = eval_set or run_eval_set(trained)
    config = eval_set.config.model_copy(update={"batch_size": batch_size} if batch_size else {})
    loader = build_eval_loader(eval_set.data, config, eval_set.indices)
    labels = eval_set.data.eval.labels[eval_set.indices]
    network = ENGINES[engine](trained)
    network_alone = network_throughput(network, _first_images(loader), budget_s)

    begin = time.perf_counter()
    logits = predict_logits(network, loader)
    seconds = time.perf_counter() - begin
    if not np.isfinite(logits).all():
        raise RunError(f"{trained.checkpoint} gives logits that are not finite: its training has diverged")

    environment = describe_environment(trained.device, trained.experiment.model)
    return {
        **_identity(trained, eval_set),
        "engine": engine,
        **_scores(logits, labels, trained.classes),
        "throughput": {"with_loading": {"images_per_s": len(labels) / seconds}, "network": network_alone},
        "environment": {key: environment[key] for key in ENVIRONMENT},
    }


def _first_images(loader):
    """The first batch of a loader as a tensor on the device, without starting the loader's threads."""
    images, _ = loader.make(next(iter(loader.batch_sampler)))
    return paddle.to_tensor(images)


def _identity(trained: Trained, eval_set: EvalSet) -> dict:
    experiment, data, state = trained.experiment, eval_set.data, read_state(trained.checkpoint)
    record = state["records"][-1] if state["records"] and not state["epoch_so_far"]["steps"] else {}
    same_images = record.get("evaluated_on", "eval") == "eval" and not eval_set.other
    return {
        "name": experiment.name,
        "seed": experiment.seed,
        "attention": experiment.model.attention.name,
        "backbone": experiment.model.backbone,
        "parameters": count_parameters(trained.network),
        "data": {"name": data.name, "sha256": data.sha256, "stand_in": data.stand_in},
        **(
            {"data_config": eval_set.config.model_dump(mode="json", include=set(WHICH)), "left_out": eval_set.left_out}
            if eval_set.other
            else {}
        ),
        "checkpoint": trained.checkpoint.name,
        "epoch": state["epoch"],
        "recorded_top1": record.get("eval_acc") if same_images else None,
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
