"""Squeeze-and-Excitation (Hu et al., CVPR 2018, arXiv 1709.01507)."""

from math import prod
from typing import Literal

from pydantic import Field

from simam_repro.attention.base import Attention, Site
from simam_repro.attention.lazy import F, nn
from simam_repro.attention.registry import register
from simam_repro.config import AttentionConfig


class SEConfig(AttentionConfig):
    name: Literal["se"] = "se"
    reduction: int = Field(16, ge=1, le=1024, description="the hidden layer has channels / reduction neurons, min. 8")


class SE(Attention):
    """x -> x * sigmoid(W2 relu(W1 mean(x) + b1) + b2), the mean over each channel's plane.

    W1 is [C, h], W2 [h, C] with h = max(C // reduction, 8), so 2 C h + h + C parameters. The paper has no lower bound
    of h.
    """

    def __init__(self, config: SEConfig, site: Site):
        super().__init__()
        hidden = max(site.channels // config.reduction, 8)
        self.squeeze = nn.Linear(site.channels, hidden)
        self.excite = nn.Linear(hidden, site.channels)

    def weights(self, x):
        pooled = x.astype(self.squeeze.weight.dtype).mean(axis=[2, 3])
        return F.sigmoid(self.excite(F.relu(self.squeeze(pooled)))).unsqueeze([2, 3])

    def flops(self, shape) -> int:
        """The mean and the product 1 an element; two linear layers, ReLU 1 and sigmoid 3 a neuron."""
        channels, hidden = self.squeeze.weight.shape
        return 2 * prod(shape) + 4 * channels * hidden + hidden + 3 * channels


register(SEConfig, SE, "SE")
