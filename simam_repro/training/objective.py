"""The loss that training minimises."""

from paddle import nn
from paddle.nn import functional as F


class Objective(nn.Layer):
    """Mean cross-entropy with label smoothing: (1 - s) * nll + s * mean(-log p), as the original writes it.

    forward: logits float [N, C]; labels int64 [N], or float [N, C] (mixup), which are smoothed the same way.
    """

    def __init__(self, label_smoothing: float = 0.0):
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits, labels):
        return F.cross_entropy(
            logits, labels, soft_label=labels.ndim == 2, label_smoothing=self.label_smoothing
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"label_smoothing={self.label_smoothing}"
