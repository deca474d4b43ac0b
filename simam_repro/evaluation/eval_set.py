"""The images that a network is evaluated on: those of its run, or those of another data set."""

from dataclasses import dataclass, replace

import numpy as np

from simam_repro.config import Data
from simam_repro.data import PreparedData, prepare_data
from simam_repro.errors import UserError
from simam_repro.evaluation.trained import Trained

# What of another config's `data` says which images; how the network sees them stays the run's.
WHICH = ("dataset", "root", "archive", "folder", "allow_miniature", "skip_damaged", "split", "eval_limit")


@dataclass(frozen=True)
class EvalSet:
    """Eval images with the labels of a network.

    Attributes:
        config: the run's `data` section, with the keys that say which images.
        data: its `eval` has the network's labels, and -1 for images of a class that the network does not know.
        indices: of the images in `data.eval` that the network is evaluated on.
        left_out: {class that the network does not know: its number of images}.
        other: whether this is not the data of the run.
    """

    config: Data
    data: PreparedData
    indices: np.ndarray
    left_out: dict[str, int]
    other: bool


def run_eval_set(trained: Trained) -> EvalSet:
    """The eval images of the run."""
    config = trained.experiment.data
    return EvalSet(config, trained.data, trained.data.eval.spread(config.eval_limit), {}, other=False)


def other_eval_set(trained: Trained, other: Data) -> EvalSet:
    """The eval images of another data set; classes are matched by name, and those not known are left out.

    Raises:
        UserError: see `prepare_data`; or the network knows none of the classes.
    """
    config = trained.experiment.data.model_copy(update={key: getattr(other, key) for key in WHICH})
    data = prepare_data(config)
    known = {name: label for label, name in enumerate(trained.classes)}
    labels = np.array([known.get(name, -1) for name in data.classes])[data.eval.labels]
    if (labels < 0).all():
        raise UserError(
            f"the network of {trained.run.path} knows none of the classes of {data.name} ({_some(data.classes)}); it "
            f"knows {_some(trained.classes)}"
        )
    indices = data.eval.spread(config.eval_limit)
    unknown = [data.classes[label] for label in data.eval.labels[indices][labels[indices] < 0]]
    left_out = {name: unknown.count(name) for name in sorted(set(unknown))}
    matched = replace(data, classes=trained.classes, eval=replace(data.eval, labels=labels))
    return EvalSet(config, matched, indices[labels[indices] >= 0], left_out, other=True)


def _some(names) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
