"""CBAM: Convolutional Block Attention Module (Woo et al., ECCV 2018, arXiv 1807.06521)."""

from math import prod
from typing import Literal

from pydantic import Field

from simam_repro.attention.base import Attention, Site
from simam_repro.attention.lazy import F, nn
from simam_repro.attention.parts import (
    SIGMOID_FLOPS,
    KernelSize,
    Reduction,
    batch_norm,
    bottleneck,
    by,
    is_one,
    max_and_mean,
    plane_max,
    plane_mean,
    statistics,
)
from simam_repro.attention.registry import register
from simam_repro.config import AttentionConfig


class CBAMConfig(AttentionConfig):
    name: Literal["cbam"] = "cbam"
    reduction: Reduction = Field(16, description="r: the channel gate's hidden layer has max(C / r, 8) neurons")
    kernel_size: KernelSize = Field(7, description="side of the spatial gate's convolution, odd")


class CBAM(Attention):
    """First channels, then positions: y = x * Mc(x), then y * Ms(y) (section 3, equations 1 to 3); no residual inside.

    Mc = sigmoid(MLP(mean(x)) + MLP(max(x))) over the plane: [N, C, 1, 1]; one MLP, of width h = max(C / r, 8), with a
    ReLU and without biases, as the formula has it (the official code has biases).
    Ms = sigmoid(BN(conv([max(y), mean(y)]))) over the channels: [N, 1, H, W]; 7x7, zero padding, no bias. The
    BatchNorm is the official code's. 2 C h + 98 + 2 parameters. The usual place is SE's: after a block's last norm.
    """

    def __init__(self, config: CBAMConfig, site: Site):
        super().__init__()
        width, side = bottleneck(site.channels, config.reduction), config.kernel_size
        self.reduce = nn.Conv2D(site.channels, width, 1, bias_attr=False)
        self.expand = nn.Conv2D(width, site.channels, 1, bias_attr=False)
        self.conv = nn.Conv2D(2, 1, side, padding=side // 2, bias_attr=False)
        self.norm = nn.BatchNorm2D(1)

    def weights(self, x):
        x = statistics(x)
        by_channel = F.sigmoid(self._mlp(plane_mean(x)) + self._mlp(plane_max(x)))
        seen = by(self.conv, max_and_mean(x * by_channel.astype(x.dtype)))
        by_position = F.sigmoid(batch_norm(self.norm, seen, is_one(x.shape[0], *x.shape[2:])))
        return by_channel.astype(x.dtype) * by_position.astype(x.dtype)

    def _mlp(self, vector):
        return self.expand(F.relu(by(self.reduce, vector)))

    def flops(self, shape) -> int:
        """An element: mean and maximum of its plane, product, maximum and mean over the channels, product: 6.

        A channel: MLP twice, sum, sigmoid. A position: convolution, BatchNorm 2, sigmoid.
        """
        width, channels = self.reduce.weight.shape[:2]
        by_channel = 2 * (4 * channels * width + width) + (1 + SIGMOID_FLOPS) * channels
        return 6 * prod(shape) + by_channel + prod(shape[1:]) * (2 * self.conv.weight.size + 2 + SIGMOID_FLOPS)


register(CBAMConfig, CBAM, "CBAM")
