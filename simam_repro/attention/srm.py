"""SRM: A Style-based Recalibration Module for Convolutional Neural Networks (Lee et al., ICCV 2019)."""

from math import prod
from typing import Literal

from simam_repro.attention.base import Attention, Site
from simam_repro.attention.lazy import F, nn
from simam_repro.attention.parts import (
    EPSILON,
    SIGMOID_FLOPS,
    batch_norm,
    constant,
    is_one,
    per_channel,
    plane_mean,
    statistics,
)
from simam_repro.attention.registry import register
from simam_repro.config import AttentionConfig


class SRMConfig(AttentionConfig):
    name: Literal["srm"] = "srm"


class SRM(Attention):
    """y = x * sigmoid(BN(w1 mean(x) + w2 std(x))), with two weights for each channel (section 3.1, equations 1 to 6).

    mean and standard deviation of the plane, [N, C] each -> the channel's weights -> BatchNorm -> sigmoid: a gate for
    each channel. The deviation is the biased one with 1e-5 under the root: so one neuron has one, and a flat plane has
    a gradient. The weights start from 0, the gates from 1/2 (official code). BatchNorm sees one value an image and
    channel: training with a single image uses the running statistics. 2 C + 2 C (BatchNorm) parameters. The usual
    place is SE's: after a block's last norm.
    """

    def __init__(self, config: SRMConfig, site: Site):
        super().__init__()
        self.weight = self.create_parameter([site.channels, 2], default_initializer=nn.initializer.Constant(0.0))
        self.norm = nn.BatchNorm2D(site.channels)

    def weights(self, x):
        x = statistics(x)
        mean = plane_mean(x)
        deviation = (plane_mean((x - mean).square()) + constant(EPSILON, x)).sqrt()
        style = per_channel(self.weight[:, 0], x) * mean + per_channel(self.weight[:, 1], x) * deviation
        return F.sigmoid(batch_norm(self.norm, style.astype(self.norm.weight.dtype), is_one(x.shape[0])))

    def flops(self, shape) -> int:
        """An element: mean 1, variance 3, product 1. A channel: root 2, weights 3, BatchNorm 2, sigmoid."""
        return 5 * prod(shape) + (7 + SIGMOID_FLOPS) * shape[0]


register(SRMConfig, SRM, "SRM")
