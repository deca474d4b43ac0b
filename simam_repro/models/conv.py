"""Convolution with a fast bias: on a CPU Paddle spends much of a training step on adding it."""

from paddle import nn
from paddle.nn import functional as F

from simam_repro import ops


class Conv2D(nn.Conv2D):
    """`paddle.nn.Conv2D`; with `fused` its bias is added by the compiled operator where that is usable."""

    fused = True

    def forward(self, x):
        if not self.fused or self._padding_mode != "zeros":
            return nn.Conv2D.forward(self, x)  # super() is beyond Paddle 2.6 when it traces
        return _conv2d(x, self.weight, self.bias, self._stride, self._padding, self._dilation, self._groups)


@ops.traced_whole
def _conv2d(x, weight, bias, stride, padding, dilation, groups):
    if bias is None or not ops.runs_in_place(x):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    y = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    return ops.add_bias_in_place(y, bias.astype(y.dtype)) if ops.runs_in_place(y) else y + bias.reshape([1, -1, 1, 1])
