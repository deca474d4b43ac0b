"""Convolution by the compiled operators: on a CPU Paddle's own leaves the processors waiting for much of a step."""

from itertools import pairwise

from paddle import nn
from paddle.nn import functional as F

from simam_repro import ops

CHILD_NAME = "attention"


class Conv2D(nn.Conv2D):
    """`paddle.nn.Conv2D`, then the attention behind it, if any, then a ReLU, if `relu`.

    With `fused` the compiled operators do it where they are usable, and pass over the output once for bias, attention
    that can join it, and ReLU together.
    """

    fused = True

    def forward(self, x, relu: bool = False):
        return _unit(self, x, relu)


class Sequential(nn.Sequential):
    """`paddle.nn.Sequential`, in which a fused `Conv2D` applies the ReLU behind it.

    Not where a hook on one of the two looks at what is between them.
    """

    def forward(self, x):
        return _in_turn(list(self.children()), x)


@ops.traced_whole
def _in_turn(layers, x):
    done = False
    for layer, follower in pairwise([*layers, None]):
        if not done:
            done = _joined(layer, follower)
            x = layer(x, relu=True) if done else layer(x)
        else:
            done = False
    return x


def _joined(layer, follower) -> bool:
    fused_relu = isinstance(layer, Conv2D) and layer.fused and type(follower) is nn.ReLU
    return fused_relu and not any(one._forward_pre_hooks or one._forward_post_hooks for one in (layer, follower))


@ops.traced_whole
def _unit(layer, x, relu):
    y, bias = _convolution(layer, x)
    attention = getattr(layer, CHILD_NAME, None)
    if getattr(attention, "joins_conv", False):
        return attention(y, bias, relu)
    if attention is None and bias is not None:
        return ops.add_bias_in_place(y, bias, relu)
    if bias is not None:
        y = ops.add_bias_in_place(y, bias)
    if attention is not None:
        y = attention(y)
    return F.relu(y) if relu else y


def _convolution(layer, x):
    """The output, and the bias if it is still to be added to it."""
    stride, padding, dilation, groups = layer._stride, layer._padding, layer._dilation, layer._groups
    if layer._padding_mode != "zeros" or layer._data_format != "NCHW":
        return nn.Conv2D.forward(layer, x), None
    if not (layer.fused and ops.runs_in_place(x)):
        return F.conv2d(x, layer.weight, layer.bias, stride, padding, dilation, groups), None
    pads = [padding] * 2 if isinstance(padding, int) else padding
    simple = groups == 1 and list(dilation) == [1, 1] and len(pads) == 2 and all(isinstance(pad, int) for pad in pads)
    if simple and ops.convolves(x, layer.weight, stride, pads):
        y = ops.convolve(x, layer.weight, stride, pads)
    else:
        y = F.conv2d(x, layer.weight, None, stride, padding, dilation, groups)
    if layer.bias is None:
        return y, None
    bias = layer.bias.astype(y.dtype)
    return (y, bias) if ops.runs_in_place(y) else (y + bias.reshape([1, -1, 1, 1]), None)
