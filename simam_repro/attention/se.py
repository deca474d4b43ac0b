"""SE: Squeeze-and-Excitation Networks (Hu et al., CVPR 2018, arXiv 1709.01507)."""

from math import prod
from typing import Literal

from pydantic import Field

from simam_repro.attention.base import Attention, Site
from simam_repro.attention.lazy import F, nn
from simam_repro.attention.parts import SIGMOID_FLOPS, Reduction, bottleneck, by, plane_mean, statistics
from simam_repro.attention.registry import register
from simam_repro.config import AttentionConfig


class SEConfig(AttentionConfig):
    name: Literal["se"] = "se"
    reduction: Reduction = Field(16, description="r: the hidden layer has max(C / r, 8) neurons")


class SE(Attention):
    """y = x * sigmoid(W2 relu(W1 mean(x) + b1) + b2) (section 3, equations 2 to 4).

    mean over the plane [N, C] -> W1: h -> ReLU -> W2: C -> sigmoid: a gate for each channel. With h = max(C / r, 8),
    which is the paper's C / r from 128 channels on, 2 C h + h + C parameters; both layers have biases. The usual
    place is after a block's last norm, before the residual sum.
    """

    def __init__(self, config: SEConfig, site: Site):
        super().__init__()
        width = bottleneck(site.channels, config.reduction)
        self.reduce = nn.Conv2D(site.channels, width, 1)
        self.expand = nn.Conv2D(width, site.channels, 1)

    def weights(self, x):
        hidden = F.relu(by(self.reduce, plane_mean(statistics(x))))
        return F.sigmoid(self.expand(hidden))

    def flops(self, shape) -> int:
        """The mean and the product 1 an element each; W1, ReLU, W2, sigmoid."""
        width, channels = self.reduce.weight.shape[:2]
        return 2 * prod(shape) + 4 * channels * width + width + SIGMOID_FLOPS * channels


register(SEConfig, SE, "SE")
