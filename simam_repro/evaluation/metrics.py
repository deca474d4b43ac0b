"""Numbers from logits and labels, in numpy."""

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities float64 [N, C] of logits [N, C]."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of `cross_entropies`."""
    return float(np.mean(cross_entropies(logits, labels)))


def cross_entropies(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-log softmax(logits)[label] in nats, float64 [N]; logits [N, C], labels int [N]."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_normaliser = np.log(np.exp(shifted).sum(axis=1))
    return log_normaliser - shifted[np.arange(len(labels)), labels]


def top_k_accuracy(logits: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """Share of samples whose label is among the k largest logits [N, C]; of equal logits the first counts as larger.

    So k = 1 agrees with argmax, and k >= C gives 1.
    """
    largest = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return float(np.mean((largest == labels[:, None]).any(axis=1)))


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int64 [C, C]: row true, column predicted."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def per_class_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Share of each class's images that were recognised, float64 [C]; NaN for a class without images.

    Args:
        matrix: a confusion matrix, row true, column predicted.
    """
    images = matrix.sum(axis=1)
    return np.where(images > 0, np.diag(matrix) / np.maximum(images, 1), np.nan)
