"""GC: GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond (Cao et al., ICCV workshops 2019)."""

from math import prod
from typing import Literal

from pydantic import Field

from simam_repro.attention.base import Attention, Site
from simam_repro.attention.lazy import F, nn, paddle
from simam_repro.attention.parts import Reduction, bottleneck, by, statistics
from simam_repro.attention.registry import register
from simam_repro.config import AttentionConfig


class GCConfig(AttentionConfig):
    name: Literal["gc"] = "gc"
    reduction: Reduction = Field(16, description="r: the hidden layer has max(C / r, 8) neurons")


class GC(Attention):
    """y = x + W2 relu(LN(W1 c)), the same for every position (section 3.4, equation 4): it adds and does not multiply.

    c = sum over the plane of x * softmax(key(x)), [N, C]; key is a 1x1 convolution to one map, without the bias, which
    softmax would take back. W1: h = max(C / r, 8) neurons, LayerNorm over them, ReLU, W2: C; both have biases. W2
    starts from 0: the identity (official code). C + 2 C h + 3 h + C parameters. The usual place is a block's end.
    """

    weights = None  # it adds

    def __init__(self, config: GCConfig, site: Site):
        super().__init__()
        width = bottleneck(site.channels, config.reduction)
        self.key = nn.Conv2D(site.channels, 1, 1, bias_attr=False)
        self.reduce = nn.Conv2D(site.channels, width, 1)
        self.norm = nn.LayerNorm([width, 1, 1])
        self.expand = nn.Conv2D(width, site.channels, 1, weight_attr=nn.initializer.Constant(0.0))

    def forward(self, x):
        wide = statistics(x)
        shares = F.softmax(by(self.key, wide).flatten(2).astype(wide.dtype), axis=-1)  # [N, 1, H W]
        context = paddle.matmul(wide.flatten(2), shares, transpose_y=True).unsqueeze(-1)
        added = self.expand(F.relu(by(self.norm, by(self.reduce, context))))
        return (wide + added.astype(wide.dtype)).astype(x.dtype)

    def flops(self, shape) -> int:
        """An element: key 2, context 2, sum 1. A position: softmax 5. W1, LayerNorm, ReLU, W2."""
        width, channels = self.reduce.weight.shape[:2]
        return 5 * prod(shape) + 5 * prod(shape[1:]) + 4 * channels * width + 8 * width + 2


register(GCConfig, GC, "GC")
