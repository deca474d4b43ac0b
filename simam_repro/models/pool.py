"""Pooling where Paddle's own takes longer than it must: on a CPU it runs on one thread."""

from paddle import nn
from paddle.nn import functional as F

from simam_repro import ops


class MaxPool2D(nn.MaxPool2D):
    """`paddle.nn.MaxPool2D`; with `fused` the compiled operator where it is usable."""

    fused = True

    def forward(self, x):
        return _max_pool(self, x)


@ops.traced_whole
def _max_pool(layer, x):
    sizes = [_pair(value) for value in (layer.ksize, layer.stride or layer.ksize, layer.padding)]
    simple = None not in sizes and not (layer.return_mask or layer.ceil_mode) and layer.data_format == "NCHW"
    if layer.fused and simple and ops.pools(x, *sizes):
        return ops.max_pool(x, *sizes)
    return F.max_pool2d(
        x, layer.ksize, layer.stride, layer.padding, layer.return_mask, layer.ceil_mode, layer.data_format
    )  # fmt: skip


def _pair(value) -> list[int] | None:
    """[height, width]; None for what is said in another way ("same", a number for each of the four sides)."""
    pair = [value] * 2 if isinstance(value, int) else list(value)
    return pair if len(pair) == 2 and all(isinstance(number, int) for number in pair) else None


class AdaptiveAvgPool2D(nn.AdaptiveAvgPool2D):
    """`paddle.nn.AdaptiveAvgPool2D` that hands on a map that has the size asked for: its means are of one number."""

    def forward(self, x):
        return _adaptive_average(self, x)


@ops.traced_whole
def _adaptive_average(layer, x):
    if layer._data_format == "NCHW" and list(x.shape[2:]) == _pair(layer._output_size):
        return x
    return nn.AdaptiveAvgPool2D.forward(layer, x)
