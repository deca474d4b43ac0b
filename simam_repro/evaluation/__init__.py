"""Evaluation: reads run folders and their predictions."""

from simam_repro.evaluation.metrics import confusion_matrix, softmax
from simam_repro.evaluation.trained import Trained, load_trained

__all__ = ["Trained", "confusion_matrix", "load_trained", "softmax"]
