"""Convolution by the compiled operators: on a CPU Paddle's own leaves the processors waiting for much of a step."""

from paddle import nn
from paddle.nn import functional as F

from simam_repro import ops


class Conv2D(nn.Conv2D):
    """`paddle.nn.Conv2D`; with `fused` the compiled operators do it, and add its bias, where they are usable."""

    fused = True

    def forward(self, x):
        if not self.fused or self._padding_mode != "zeros":
            return nn.Conv2D.forward(self, x)  # super() is beyond Paddle 2.6 when it traces
        return _conv2d(x, self.weight, self.bias, self._stride, self._padding, self._dilation, self._groups)


@ops.traced_whole
def _conv2d(x, weight, bias, stride, padding, dilation, groups):
    if not ops.runs_in_place(x):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    y = _without_bias(x, weight, stride, padding, dilation, groups)
    if bias is None:
        return y
    return ops.add_bias_in_place(y, bias.astype(y.dtype)) if ops.runs_in_place(y) else y + bias.reshape([1, -1, 1, 1])


def _without_bias(x, weight, stride, padding, dilation, groups):
    pads = [padding] * 2 if isinstance(padding, int) else padding
    simple = groups == 1 and list(dilation) == [1, 1] and len(pads) == 2 and all(isinstance(pad, int) for pad in pads)
    if simple and ops.convolves(x, weight, stride, pads):
        return ops.convolve(x, weight, stride, pads)
    return F.conv2d(x, weight, None, stride, padding, dilation, groups)
