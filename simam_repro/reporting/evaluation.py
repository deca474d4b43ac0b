"""What an evaluation leaves behind: JSON and confusion matrix in the run folder, VisualDL, a table."""

import re
from pathlib import Path

import numpy as np

from simam_repro.errors import printable
from simam_repro.evaluation import Trained
from simam_repro.reporting.figures import plot_confusion
from simam_repro.reporting.visualdl import log_figure
from simam_repro.runs import STAND_IN_NOTE
from simam_repro.storage import write_json


def write_evaluation(trained: Trained, evaluation: dict) -> list[Path]:
    """Write evaluation.json and figures/confusion.png, and add the figure to the run's VisualDL log.

    For a checkpoint other than best its name joins: evaluation_last.json, confusion_last.png; for other data than the
    run's, that data's name and digest: evaluation_on_cifar10_1a2b3c4d.json.

    Returns:
        The paths written.
    """
    run, checkpoint = trained.run, evaluation["checkpoint"]
    suffix = "" if checkpoint == run.best.name else f"_{checkpoint}"
    if "left_out" in evaluation:
        data = evaluation["data"]
        suffix += f"_on_{re.sub(r'[^A-Za-z0-9_.-]', '_', data['name'])[:60]}_{data['sha256'][:8]}"
    numbers, figure = run.path / f"evaluation{suffix}.json", run.figures / f"confusion{suffix}.png"
    write_json(numbers, evaluation)
    matrix = np.array(evaluation["confusion_matrix"])
    plot_confusion(matrix, evaluation["classes"], figure, checkpoint, evaluation["data"]["stand_in"])
    log_figure(run, f"evaluation/confusion{suffix}", figure, evaluation["epoch"])
    return [numbers, figure]


def evaluation_table(evaluation: dict) -> str:
    """The numbers of `evaluate` as text: accuracy, speed, and a line for each class."""
    speed, network = evaluation["throughput"]["with_loading"], evaluation["throughput"]["network"]
    recorded = evaluation["recorded_top1"]
    comparison = f" (recorded while training: {recorded:.2%})" if recorded is not None else ""
    low, high = network["quartiles"]
    rows = {
        "network": f"{evaluation['backbone']}, attention: {evaluation['attention']}",
        "weights": f"{evaluation['checkpoint']} (epoch {evaluation['epoch']})",
        "eval images": f"{evaluation['images']} of {evaluation['data']['name']}",
        "cross-entropy": f"{evaluation['loss']:.4f} nats",
        "top-1 accuracy": f"{evaluation['top1']:.2%}{comparison}",
        "top-5 accuracy": f"{evaluation['top5']:.2%}",
        "throughput": f"{speed['images_per_s']:.1f} images/s with loading",
        "  network alone": f"{network['images_per_s']:.1f} images/s (median of {network['repeats']} batches of "
        f"{network['batch_size']}; quartiles {low:.1f} to {high:.1f})",
        "engine": evaluation["engine"],
        "device": f"{evaluation['environment']['gpu'] or evaluation['environment']['cpu']}, "
        f"paddle {evaluation['environment']['paddle']}",
    }
    lines = [f"{evaluation['name']}, seed {evaluation['seed']}"]
    lines += [f"  {name:16s}{value}" for name, value in rows.items()]
    if left_out := evaluation.get("left_out"):
        named = ", ".join(f"{name} ({count})" for name, count in left_out.items())
        lines += ["", f"Left out: {sum(left_out.values())} images of classes that the network does not know: {named}."]
    lines += ["", *_class_lines(evaluation)]
    if evaluation["data"]["stand_in"]:
        lines += ["", STAND_IN_NOTE[0].upper() + STAND_IN_NOTE[1:] + "."]
    return printable("\n".join(lines))


def _class_lines(evaluation: dict) -> list[str]:
    """Accuracy of each class, and what it is most often taken for."""
    classes, matrix = [*map(printable, evaluation["classes"])], np.array(evaluation["confusion_matrix"])
    width = max(len("class"), *map(len, classes))
    lines = [f"  {'class':{width}s}  right  of     share  mostly taken for"]
    for label, (name, share) in enumerate(zip(classes, evaluation["per_class_accuracy"])):
        wrong = matrix[label].copy()
        wrong[label] = 0
        mistaken = f"{classes[wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""
        shown = "-" if share is None else f"{share:.1%}"
        lines.append(f"  {name:{width}s}  {matrix[label, label]:5d}  {matrix[label].sum():5d}  {shown:>6s}  {mistaken}")
    return [line.rstrip() for line in lines]
