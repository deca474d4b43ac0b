"""Evaluation: reads run folders and their predictions."""

from simam_repro.evaluation.metrics import confusion_matrix, softmax

__all__ = ["confusion_matrix", "softmax"]
