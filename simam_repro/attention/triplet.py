"""Triplet: Rotate to Attend: Convolutional Triplet Attention Module (Misra et al., WACV 2021, arXiv 2010.03045)."""

from math import prod
from typing import Literal

from pydantic import Field

from simam_repro.attention.base import Attention, Site
from simam_repro.attention.lazy import F, nn
from simam_repro.attention.parts import (
    SIGMOID_FLOPS,
    KernelSize,
    batch_norm,
    by,
    is_one,
    max_and_mean,
    statistics,
)
from simam_repro.attention.registry import register
from simam_repro.config import AttentionConfig


class TripletConfig(AttentionConfig):
    name: Literal["triplet"] = "triplet"
    kernel_size: KernelSize = Field(7, description="side of the convolutions, odd")


class Triplet(Attention):
    """y = (x * g1 + x * g2 + x * g3) / 3, each gate over two of the three axes (section 3, equations 2 to 8).

    A gate turns the axis left out to the front, takes [max, mean] over it, a 7x7 convolution with zero padding and
    without bias, BatchNorm and sigmoid: g1 [N, 1, H, C], g2 [N, 1, C, W], g3 [N, 1, H, W].
    3 (98 + 2) = 300 parameters. The usual place is SE's: after a block's last norm.
    """

    def __init__(self, config: TripletConfig, site: Site):
        super().__init__()
        self.height_channel = _branch(config.kernel_size)
        self.channel_width = _branch(config.kernel_size)
        self.height_width = _branch(config.kernel_size)

    def weights(self, x):
        x = statistics(x)
        by_height_channel = _gate(self.height_channel, x.transpose([0, 3, 2, 1])).transpose([0, 3, 2, 1])
        by_channel_width = _gate(self.channel_width, x.transpose([0, 2, 1, 3])).transpose([0, 2, 1, 3])
        return (by_height_channel + by_channel_width + _gate(self.height_width, x)) / 3

    def flops(self, shape) -> int:
        """An element: three times maximum and mean, two sums of gates, a third of them, product: 10.

        A gate's position: convolution, BatchNorm 2, sigmoid.
        """
        channels, height, width = shape
        gates = height * channels + channels * width + height * width
        return 10 * prod(shape) + gates * (2 * self.height_width.conv.weight.size + 2 + SIGMOID_FLOPS)


def _branch(side: int):
    conv = nn.Conv2D(2, 1, side, padding=side // 2, bias_attr=False)
    return nn.Sequential(("conv", conv), ("norm", nn.BatchNorm2D(1)))


def _gate(branch, x):
    seen = by(branch.conv, max_and_mean(x))
    return F.sigmoid(batch_norm(branch.norm, seen, is_one(x.shape[0], *x.shape[2:])))


register(TripletConfig, Triplet, "Triplet")
