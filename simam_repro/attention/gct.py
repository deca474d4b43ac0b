"""GCT: Gated Channel Transformation for Visual Recognition (Yang et al., CVPR 2020, arXiv 1909.11519).

Another module, the Gaussian context transformer (CVPR 2021), has the same short name.
"""

from math import prod, sqrt
from typing import Literal

from simam_repro.attention.base import Attention, Site
from simam_repro.attention.lazy import nn, paddle
from simam_repro.attention.parts import EPSILON, constant, per_channel, statistics
from simam_repro.attention.registry import register
from simam_repro.config import AttentionConfig

TANH_FLOPS = 5  # 1 - 2 / (exp(2 x) + 1)


class GCTConfig(AttentionConfig):
    name: Literal["gct"] = "gct"


class GCT(Attention):
    """y = x * (1 + tanh(gamma s + beta)): channels compete by their norms (section 3, equations 2 to 4).

    e = alpha sqrt(sum of x^2 over the plane + 1e-5), s = sqrt(C) e / sqrt(sum of e^2 over the channels + 1e-5), [N, C].
    alpha starts from 1, gamma and beta from 0: the identity. 3 C parameters. The usual place is before every
    convolution.
    """

    def __init__(self, config: GCTConfig, site: Site):
        super().__init__()
        for name, value in (("alpha", 1.0), ("gamma", 0.0), ("beta", 0.0)):
            start = nn.initializer.Constant(value)
            setattr(self, name, self.create_parameter([site.channels], default_initializer=start))

    def weights(self, x):
        x = statistics(x)
        alpha, gamma, beta = (per_channel(parameter, x) for parameter in (self.alpha, self.gamma, self.beta))
        embedding = alpha * (x.square().sum(axis=[2, 3], keepdim=True) + constant(EPSILON, x)).sqrt()
        norm = (embedding.square().sum(axis=1, keepdim=True) + constant(EPSILON, x)).sqrt()
        return 1 + paddle.tanh(gamma * (constant(sqrt(x.shape[1]), x) * embedding / norm) + beta)

    def flops(self, shape) -> int:
        """An element: square, sum, product: 3. A channel: embedding 3, norm 2, s 2, gate 2, tanh 5, + 1."""
        return 3 * prod(shape) + (10 + TANH_FLOPS) * shape[0] + 2


register(GCTConfig, GCT, "GCT")
