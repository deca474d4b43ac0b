"""CoordAtt: Coordinate Attention for Efficient Mobile Network Design (Hou et al., CVPR 2021, arXiv 2103.02907)."""

from math import prod
from typing import Literal

from pydantic import Field

from simam_repro.attention.base import Attention, Site
from simam_repro.attention.lazy import F, nn, paddle
from simam_repro.attention.parts import SIGMOID_FLOPS, Reduction, batch_norm, bottleneck, by, is_one, statistics
from simam_repro.attention.registry import register
from simam_repro.config import AttentionConfig

HARD_SWISH_FLOPS = 5  # x * clip(x + 3, 0, 6) / 6


class CoordAttConfig(AttentionConfig):
    name: Literal["coordatt"] = "coordatt"
    reduction: Reduction = Field(32, description="r: the hidden layer has max(C / r, 8) channels")


class CoordAtt(Attention):
    """y = x * gh * gw, a gate for each row and one for each column of a channel (section 3.2, equations 4 to 9).

    The means of the rows [N, C, H, 1] and those of the columns, turned, [N, C, W, 1] -> joined, 1x1 convolution to
    h = max(C / r, 8) channels, BatchNorm, h-swish -> split; each half a 1x1 convolution to C channels of its own and a
    sigmoid: gh [N, C, H, 1], gw [N, C, 1, W]. The first convolution has no bias, BatchNorm has one; the others have.
    3 C h + 2 h + 2 C parameters. Means over an axis, no adaptive pooling: exporters take any size. The usual place is
    MobileNetV2's depthwise convolution, after its activation.
    """

    def __init__(self, config: CoordAttConfig, site: Site):
        super().__init__()
        width = bottleneck(site.channels, config.reduction)
        self.reduce = nn.Conv2D(site.channels, width, 1, bias_attr=False)
        self.norm = nn.BatchNorm2D(width)
        self.rows = nn.Conv2D(width, site.channels, 1)
        self.columns = nn.Conv2D(width, site.channels, 1)

    def weights(self, x):
        x = statistics(x)
        height = x.shape[2] if x.shape[2] > 0 else paddle.shape(x)[2]  # free in a program that is traced
        rows, columns = x.mean(axis=3, keepdim=True), x.mean(axis=2, keepdim=True)
        joined = by(self.reduce, paddle.concat([rows, columns.transpose([0, 1, 3, 2])], axis=2))
        hidden = F.hardswish(batch_norm(self.norm, joined, is_one(x.shape[0], *x.shape[2:])))
        by_row = F.sigmoid(by(self.rows, hidden[:, :, :height]))
        by_column = F.sigmoid(by(self.columns, hidden[:, :, height:]))
        return by_row * by_column.transpose([0, 1, 3, 2])

    def flops(self, shape) -> int:
        """An element: two means, two products: 4. A row or column: two convolutions, BatchNorm 2, h-swish, sigmoid."""
        width, channels = self.reduce.weight.shape[:2]
        line = 4 * channels * width + (2 + HARD_SWISH_FLOPS) * width + SIGMOID_FLOPS * channels
        return 4 * prod(shape) + sum(shape[1:]) * line


register(CoordAttConfig, CoordAtt, "CoordAtt")
