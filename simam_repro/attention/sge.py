"""SGE: Spatial Group-wise Enhance (Li, Hu and Yang, 2019, arXiv 1905.09646)."""

from math import prod
from typing import Annotated, Literal, Optional

from pydantic import Field

from simam_repro.attention.base import Attention, Site
from simam_repro.attention.lazy import F, nn, paddle
from simam_repro.attention.parts import (
    EPSILON,
    SIGMOID_FLOPS,
    group_count,
    normalised,
    plane_mean,
    shaped_like,
    statistics,
)
from simam_repro.attention.registry import register
from simam_repro.config import AttentionConfig

GROUPS = 64


class SGEConfig(AttentionConfig):
    name: Literal["sge"] = "sge"
    groups: Optional[Annotated[int, Field(ge=1, le=4096)]] = Field(
        None, description="G, a divisor of the channels; null: the paper's 64, or the most with 4 channels in each"
    )


class SGE(Attention):
    """Within each group, y = x * sigmoid(gamma n + beta), the same for its channels (section 3, equations 2 to 6).

    c = sum over the group's channels of x * mean(x): how like a position is to the mean of all, [N, G, H, W];
    n = (c - mean(c)) / std(c) over the plane. The deviation is the biased one; the paper's 1e-5 is added to it under
    the root, as its square, so that a flat map has a gradient. gamma starts from 0, beta from 1 (official code).
    2 G parameters. The usual place is after a block's last norm.

    Raises:
        UserError: the channels are no multiple of the groups.
    """

    def __init__(self, config: SGEConfig, site: Site):
        super().__init__()
        self.groups = group_count(config.groups, GROUPS, site)
        for name, value in (("weight", 0.0), ("bias", 1.0)):
            start = nn.initializer.Constant(value)
            setattr(self, name, self.create_parameter([self.groups], default_initializer=start))

    def weights(self, x):
        x = statistics(x)
        mean, members = plane_mean(x), x.shape[1] // self.groups
        # c - mean(c), of numbers that are small already: c's own digits are lost where the mean is large.
        likeness = ((x - mean) * mean).reshape([0, self.groups, members, -1]).sum(axis=2)  # [N, G, H W]
        scale, shift = (parameter.astype(x.dtype).unsqueeze(-1) for parameter in (self.weight, self.bias))
        gates = F.sigmoid(scale * normalised(likeness, 2, EPSILON**2) + shift).unsqueeze(2)
        by_channel = gates * paddle.ones([members, 1], dtype=x.dtype)
        return shaped_like(by_channel, x)

    def flops(self, shape) -> int:
        """An element: mean, product, sum, product: 4, less one sum for each position of a group.

        That has normalised 5, gate 2, sigmoid.
        """
        by_position = (6 + SIGMOID_FLOPS) * self.groups * prod(shape[1:])
        return 4 * prod(shape) + by_position + 2 * self.groups

    def extra_repr(self) -> str:
        return ", ".join(filter(None, [f"groups={self.groups}", super().extra_repr()]))


register(SGEConfig, SGE, "SGE")
