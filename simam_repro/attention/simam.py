"""SimAM: A Simple, Parameter-Free Attention Module (Yang et al., ICML 2021)."""

from math import prod
from typing import Literal

from pydantic import Field

from simam_repro.attention.base import Attention, where
from simam_repro.attention.lazy import F, ops, paddle
from simam_repro.attention.registry import register
from simam_repro.config import AttentionConfig


class SimAMConfig(AttentionConfig):
    name: Literal["simam"] = "simam"
    # Far below 1e-12 its inverse square, which is in the gradient, overflows 32 bits.
    e_lambda: float = Field(1e-4, ge=1e-12, le=1e6, description="the paper's lambda")


def inverse_energy(x, e_lambda: float = 1e-4):
    """1 / e* of every neuron (the paper's equation 5), statistics over its channel plane.

    With mu and v the mean and the unbiased variance of a plane of M = H x W neurons,
    1/e* = (x - mu)^2 / (4 (v + lambda)) + 1/2. A plane of one neuron has v = 0, so 1/e* = 1/2.

    Args:
        x: float tensor [N, C, H, W].
    Returns:
        Tensor like x; float32 for float16 and bfloat16 input.
    """
    if x.dtype in (paddle.float16, paddle.bfloat16):
        x = x.astype("float32")
    height, width = x.shape[2:]
    if -1 in (height, width):  # free in a program that is traced
        degrees = (paddle.shape(x)[2:].prod() - 1).clip(min=1).astype(x.dtype)
    else:
        degrees = max(height * width - 1, 1)
    squared = (x - x.mean(axis=[2, 3], keepdim=True)).square()
    variance = squared.sum(axis=[2, 3], keepdim=True) / degrees
    # A tensor, because Paddle 2.6 adds a Python float to float64 with float32's digits.
    regulariser = paddle.full([1], e_lambda, dtype=x.dtype)
    return squared / (4 * (variance + regulariser)) + 0.5


def simam(x, e_lambda: float = 1e-4, fused: bool = True, bias=None, relu: bool = False):
    """x * sigmoid(1 / e*): the neurons that stand out from their channel weigh more.

    With the bias of the convolution before it and the ReLU behind it, relu((x + bias) * sigmoid(1 / e*)): one pass
    over the map for all three, by the compiled operator. A bias does not change e*.

    Args:
        x: float tensor [N, C, H, W].
        e_lambda: the paper's lambda, positive; it keeps flat channels from dividing by zero.
        fused: use the compiled operator (`simam_repro.ops`) where it is usable: many times faster on a CPU,
            equal but for rounding. False: Paddle's own operators everywhere.
        bias: None, or a tensor [C] of x's dtype, added to x.
        relu: whether a ReLU follows.
    Returns:
        Tensor of x's shape and dtype.
    Raises:
        ValueError: x is not 4-D; the bias has not a number for each channel.
    """
    return ops.traced_whole(_simam)(x, e_lambda, fused, bias, relu)


def _simam(x, e_lambda, fused, bias, relu):
    if x.ndim != 4:
        raise ValueError(f"SimAM needs a 4-D input [N, C, H, W], got {x.ndim}-D with shape {list(x.shape)}")
    if bias is not None and bias.shape != [x.shape[1]]:
        raise ValueError(f"SimAM needs a bias of {x.shape[1]} numbers, one a channel, got shape {bias.shape}")
    if fused and ops.usable(x):
        return ops.fused_simam(x, e_lambda, bias, relu)
    if bias is not None:
        x = x + bias.reshape([1, -1, 1, 1])
    y = x * F.sigmoid(inverse_energy(x, e_lambda)).astype(x.dtype)
    return F.relu(y) if relu else y


class SimAM(Attention):
    """input [N, C, H, W] -> input * sigmoid(1 / energy), same shape and dtype; no parameters.

    Args:
        e_lambda: the paper's lambda. 1e-4 in the module's definition and in the original Caltech
            experiment, 1e-5 in the original CIFAR-10 experiment.
        fused: as `simam` has it.
    Raises:
        ValueError: e_lambda is not positive; the input is not 4-D.
    """

    joins_conv = True

    def __init__(self, e_lambda: float = 1e-4, fused: bool = True):
        super().__init__()
        if not e_lambda > 0:
            raise ValueError(f"SimAM needs e_lambda > 0, got {e_lambda}")
        self.e_lambda = e_lambda
        self.fused = fused

    def forward(self, x, bias=None, relu=False):
        return simam(x, self.e_lambda, self.fused, bias, relu)

    def weights(self, x):
        """sigmoid(1 / e*): from sigmoid(1/2) = 0.62, a neuron at the mean of its channel, to 1."""
        return F.sigmoid(inverse_energy(x, self.e_lambda))

    def flops(self, shape) -> int:
        """An element: mean 1, difference 1, square 1, variance 1, quotient 1, + 1/2 1, sigmoid 3, product 1.

        A plane: variance + lambda, times 4.
        """
        return 10 * prod(shape) + 2 * shape[0]

    def extra_repr(self) -> str:
        fused = "" if self.fused else "fused=False"
        return ", ".join(filter(None, [f"e_lambda={self.e_lambda}", fused, where(self)]))


register(SimAMConfig, lambda config, site: SimAM(config.e_lambda, site.fused), "SimAM")
