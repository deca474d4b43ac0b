"""ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks (Wang et al., CVPR 2020)."""

from math import log2, prod
from typing import Literal, Optional

from pydantic import Field

from simam_repro.attention.base import Attention, Site
from simam_repro.attention.lazy import F, nn
from simam_repro.attention.parts import SIGMOID_FLOPS, KernelSize, by, plane_mean, statistics
from simam_repro.attention.registry import register
from simam_repro.config import AttentionConfig


class ECAConfig(AttentionConfig):
    name: Literal["eca"] = "eca"
    kernel_size: Optional[KernelSize] = Field(
        None, description="k, odd: how many channels a gate looks at; null: the paper's function of C"
    )


def adapted_kernel_size(channels: int) -> int:
    """The odd number nearest to log2(C) / 2 + 1 / 2 (section 3.2.3: gamma 2, b 1), the larger of two; at least 3."""
    below = int(log2(channels) / 2 + 0.5)
    return max(below + 1 - below % 2, 3)


class ECA(Attention):
    """y = x * sigmoid(conv1d(mean(x))), the convolution along the channels (section 3.2).

    mean over the plane [N, C] -> k weights for a channel and its neighbours, the same for all, zeros beyond both ends,
    no bias -> sigmoid: a gate for each channel. k parameters. The usual place is SE's: after a block's last norm.
    """

    def __init__(self, config: ECAConfig, site: Site):
        super().__init__()
        size = config.kernel_size or adapted_kernel_size(site.channels)
        self.conv = nn.Conv1D(1, 1, size, padding=size // 2, bias_attr=False)

    def weights(self, x):
        means = plane_mean(statistics(x)).flatten(2).transpose([0, 2, 1])  # [N, 1, C]
        return F.sigmoid(by(self.conv, means)).transpose([0, 2, 1]).unsqueeze(-1)

    def flops(self, shape) -> int:
        """The mean and the product 1 an element each; the convolution 2 k and the sigmoid 3 a channel."""
        return 2 * prod(shape) + shape[0] * (2 * self.conv.weight.size + SIGMOID_FLOPS)


register(ECAConfig, ECA, "ECA")
