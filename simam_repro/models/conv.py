"""Convolution by the compiled operators: on a CPU Paddle's own leaves the processors waiting for much of a step."""

from itertools import pairwise

from paddle import nn
from paddle.nn import functional as F

from simam_repro import ops

CHILD_NAME = "attention"


class Conv2D(nn.Conv2D):
    """`paddle.nn.Conv2D`, then the attention behind it, if any, then a ReLU, if `relu`.

    With `fused` the compiled operators do it where they are usable, and pass over the output once for bias, SimAM and
    ReLU together.
    """

    fused = True
    relu = False

    def forward(self, x):
        return _unit(self, x)


class JoinedReLU(nn.ReLU):
    """A ReLU that the convolution before it has applied already."""

    def forward(self, x):
        return x


def join_relus(network: nn.Layer) -> None:
    """Let every `Conv2D` of a Sequential apply the ReLU that follows it; names of layers stay."""
    for sequence in network.sublayers():
        if not isinstance(sequence, nn.Sequential):
            continue
        for (_, conv), (name, follower) in pairwise(list(sequence.named_children())):
            if isinstance(conv, Conv2D) and type(follower) is nn.ReLU:
                conv.relu = True
                setattr(sequence, name, JoinedReLU())


@ops.traced_whole
def _unit(layer, x):
    y, bias = _convolution(layer, x)
    attention = getattr(layer, CHILD_NAME, None)
    if attention is not None:
        return attention(y, bias, layer.relu)
    if bias is not None:
        return ops.add_bias_in_place(y, bias, layer.relu)
    return F.relu(y) if layer.relu else y


def _convolution(layer, x):
    """The output, and the bias if it is still to be added to it."""
    stride, padding, dilation, groups = layer._stride, layer._padding, layer._dilation, layer._groups
    if layer._padding_mode != "zeros":
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
