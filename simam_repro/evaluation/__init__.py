"""Evaluation: reads run folders and their predictions."""

from simam_repro.data.images import open_image
from simam_repro.evaluation.engine import ENGINES, InferenceEngine
from simam_repro.evaluation.eval_set import other_eval_set
from simam_repro.evaluation.evaluate import evaluate
from simam_repro.evaluation.export import export
from simam_repro.evaluation.metrics import confusion_matrix, softmax
from simam_repro.evaluation.predict import find_images, predict_files, predict_images
from simam_repro.evaluation.throughput import network_throughput
from simam_repro.evaluation.trained import Trained, load_trained

__all__ = [
    "ENGINES", "InferenceEngine", "Trained", "confusion_matrix", "evaluate", "export", "find_images", "load_trained",
    "network_throughput", "open_image", "other_eval_set", "predict_files", "predict_images", "softmax",
]  # fmt: skip
