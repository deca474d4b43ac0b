"""Convolution with its bias, attention that can join it, and ReLU; batch normalisation with ReLU or ReLU6; pooling."""

from paddle import nn
from paddle.nn import functional as F

from simam_repro.ops import fused
from simam_repro.ops.chain import RELU, RELU6, Plus, Step, computes, pattern


@pattern(nn.Conv2D.forward)
def convolution(steps: list[Step], x):
    """conv [, attention that joins it] [, ReLU]: one pass over the output for bias, attention and ReLU together."""
    layer = steps[0].layer
    if layer._padding_mode != "zeros" or layer._data_format != "NCHW" or not fused.runs_in_place(x):
        return None
    y, bias = _convolved(layer, x), layer.bias
    if bias is not None:
        bias = bias.astype(y.dtype)
        if not fused.runs_in_place(y):
            y, bias = y + bias.reshape([1, -1, 1, 1]), None
    if _joins(steps):
        relu = computes(steps, 2, *RELU)
        return steps[1].layer(y, bias, relu), 2 + relu
    if bias is None:
        return y, 1
    relu = computes(steps, 1, *RELU)
    return fused.add_bias_in_place(y, bias, relu), 1 + relu


def _joins(steps: list[Step]) -> bool:
    return len(steps) > 1 and steps[1].kind is not None and getattr(steps[1].layer, "joins_conv", False)


def _convolved(layer, x):
    """The output without the bias."""
    stride, padding, dilation, groups = layer._stride, layer._padding, layer._dilation, layer._groups
    pads = [padding] * 2 if isinstance(padding, int) else padding
    simple = list(dilation) == [1, 1] and len(pads) == 2 and all(isinstance(pad, int) for pad in pads)
    if simple and fused.convolves(x, layer.weight, stride, pads, groups):
        return fused.convolve(x, layer.weight, stride, pads, groups)
    return F.conv2d(x, layer.weight, None, stride, padding, dilation, groups)


@pattern(nn.BatchNorm2D.forward)
def batch_norm(steps: list[Step], x):
    """norm [, sum] [, ReLU or ReLU6]."""
    layer = steps[0].layer
    if not fused.normalises(x, layer):
        return None
    if not computes(steps, 1, Plus):
        activation = _activation(steps, 1)
        return fused.batch_norm(x, layer, activation), 1 + (activation != "none")
    residual = steps[1].call.term()
    if not fused.adds(x, residual):
        y = fused.batch_norm(x, layer)
        return residual + y if steps[1].call.first else y + residual, 2
    activation = _activation(steps, 2)
    return fused.batch_norm(x, layer, activation, residual), 2 + (activation != "none")


@pattern(Plus)
def sum_relu(steps: list[Step], x):
    if not (computes(steps, 1, *RELU) and fused.runs_in_place(x)):
        return None
    term = steps[0].call.term()
    if not fused.adds(x, term):
        return term + x if steps[0].call.first else x + term, 1
    return fused.sum_relu(x, term), 2


def _activation(steps: list[Step], index: int) -> str:
    return "relu" if computes(steps, index, *RELU) else "relu6" if computes(steps, index, *RELU6) else "none"


@pattern(nn.MaxPool2D.forward)
def max_pool(steps: list[Step], x):
    """Paddle's own runs on one thread."""
    layer = steps[0].layer
    sizes = [_pair(value) for value in (layer.ksize, layer.stride or layer.ksize, layer.padding)]
    simple = None not in sizes and not (layer.return_mask or layer.ceil_mode) and layer.data_format == "NCHW"
    return (fused.max_pool(x, *sizes), 1) if simple and fused.pools(x, *sizes) else None


@pattern(nn.AdaptiveAvgPool2D.forward)
def adaptive_average(steps: list[Step], x):
    """A map that has the size asked for is handed on: its means are of one number."""
    layer = steps[0].layer
    simple = layer._data_format == "NCHW" and x.ndim == 4
    return (x, 1) if simple and list(x.shape[2:]) == _pair(layer._output_size) else None


def _pair(value) -> list[int] | None:
    """[height, width]; None for what is said in another way ("same", a number for each of the four sides)."""
    pair = [value] * 2 if isinstance(value, int) else list(value)
    return pair if len(pair) == 2 and all(isinstance(number, int) for number in pair) else None
