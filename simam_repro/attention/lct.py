"""LCT: Linear Context Transform Block (Ruan et al., AAAI 2020, arXiv 1909.03834)."""

from math import prod
from typing import Annotated, Literal, Optional

from pydantic import Field

from simam_repro.attention.base import Attention, Site
from simam_repro.attention.lazy import F, nn
from simam_repro.attention.parts import (
    EPSILON,
    SIGMOID_FLOPS,
    group_count,
    normalised,
    per_channel,
    plane_mean,
    statistics,
)
from simam_repro.attention.registry import register
from simam_repro.config import AttentionConfig
from simam_repro.errors import UserError

GROUPS = 16


class LCTConfig(AttentionConfig):
    name: Literal["lct"] = "lct"
    groups: Optional[Annotated[int, Field(ge=1, le=4096)]] = Field(
        None, description="G, a divisor of the channels; null: 16, or the most with 4 channels in each"
    )


class LCT(Attention):
    """y = x * sigmoid(w z + b), a gate for each channel from nothing but its group (section 3).

    m = mean over the plane, [N, C]; z = (m - mean of its group's) / sqrt(biased variance of its group's + 1e-5), in
    two passes, because mean(m^2) - mean(m)^2 cancels. w starts from 0, b from 1. 2 C parameters. The usual place is a
    block's end.

    Raises:
        UserError: the channels are no multiple of the groups, or a group would have one channel, whose z is 0.
    """

    def __init__(self, config: LCTConfig, site: Site):
        super().__init__()
        self.groups = group_count(config.groups, GROUPS, site)
        if config.groups == site.channels:
            raise UserError(
                f"model.attention.groups: LCT normalises within groups, and {config.groups} groups of the "
                f"{site.channels} channels at the site {site.name or '(unnamed)'} have one channel each; give fewer"
            )
        for name, value in (("weight", 0.0), ("bias", 1.0)):
            start = nn.initializer.Constant(value)
            setattr(self, name, self.create_parameter([site.channels], default_initializer=start))

    def weights(self, x):
        means = plane_mean(statistics(x))
        z = normalised(means.reshape([0, self.groups, -1]), 2, EPSILON).reshape([0, x.shape[1], 1, 1])
        return F.sigmoid(per_channel(self.weight, z) * z + per_channel(self.bias, z))

    def flops(self, shape) -> int:
        """An element: mean, product: 2. A channel: normalised 5, w and b 2, sigmoid."""
        return 2 * prod(shape) + (7 + SIGMOID_FLOPS) * shape[0] + 2 * self.groups

    def extra_repr(self) -> str:
        return ", ".join(filter(None, [f"groups={self.groups}", super().extra_repr()]))


register(LCTConfig, LCT, "LCT")
