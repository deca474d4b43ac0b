"""How the weights of convolutions and linear layers begin, other than as Paddle does by default."""

import math
from math import prod

import paddle
from paddle import nn


def initialise(network: nn.Layer, how: str) -> None:
    """Draw the weights of every convolution and linear layer of `network` anew, in network order.

    Norms stay as they are. Paddle's defaults are normal with variance 2 / fan-in for convolutions and Xavier uniform
    for linear layers, both with zero bias.

    Args:
        how: "paddle": nothing is drawn. "torch": PyTorch's default (`kaiming_uniform_` with a = sqrt(5)): weights and
            biases uniform within 1 / sqrt(fan-in), a standard deviation sqrt(6) times smaller than He's.
            "he": weights normal with variance 2 / fan-in (He et al., ICCV 2015), biases zero.
    """
    if how == "paddle":
        return
    for layer in network.sublayers():
        if isinstance(layer, (nn.Conv2D, nn.Linear)):
            _draw(layer, how)


def _draw(layer: nn.Layer, how: str) -> None:
    # Weights are [output channels, input channels / groups, height, width], or [inputs, outputs].
    shape = layer.weight.shape
    fan_in = prod(shape[1:]) if isinstance(layer, nn.Conv2D) else shape[0]
    bound = 1 / math.sqrt(fan_in)
    if how == "torch":
        layer.weight.set_value(paddle.uniform(shape, min=-bound, max=bound))
    else:
        layer.weight.set_value(paddle.normal(0.0, math.sqrt(2) * bound, shape))
    if layer.bias is not None:
        biases = layer.bias.shape
        layer.bias.set_value(paddle.uniform(biases, min=-bound, max=bound) if how == "torch" else paddle.zeros(biases))
