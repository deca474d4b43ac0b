"""Epoch means over all samples, where hapi reports the last batch."""

import numpy as np
import paddle
from paddle.nn import functional as F


class EpochMeans(paddle.metric.Metric):
    """Mean plain cross-entropy (nats, no label smoothing) and accuracy over every sample since reset."""

    def __init__(self):
        super().__init__()
        self.reset()

    def name(self):
        return ["nll", "acc"]

    def compute(self, logits, labels):
        """logits [N, C], labels int64 [N] or float [N, C] (mixup) -> per-sample cross-entropy [N], hit [N].

        A mixed image is hit when its heavier class is.
        """
        soft = labels.ndim == 2
        nll = F.cross_entropy(logits.astype("float32"), labels, soft_label=soft, reduction="none")
        truth = labels.argmax(axis=1) if soft else labels
        return nll.flatten(), (logits.argmax(axis=1) == truth).astype("float32")

    def update(self, nll, hit):
        self.sums += [np.sum(nll, dtype=np.float64), np.sum(hit, dtype=np.float64)]
        self.count += len(hit)
        return self.accumulate()

    def accumulate(self):
        return (self.sums / max(self.count, 1)).tolist()

    def reset(self):
        self.sums = np.zeros(2)
        self.count = 0
