"""A linear layer in one operation: the gradient of a bias added by another takes Paddle's CPU half as long again."""

import paddle
from paddle import nn
from paddle.nn import functional as F

from simam_repro import ops


class Linear(nn.Linear):
    """`paddle.nn.Linear`; with `fused` the bias is added in the product, where Paddle runs step by step on a CPU."""

    fused = True

    def forward(self, x):
        return _linear(self, x)


@ops.traced_whole
def _linear(layer, x):
    if layer.fused and layer.bias is not None and x.ndim == 2 and ops.steps_on_cpu(x):
        return paddle.addmm(layer.bias, x, layer.weight)
    return F.linear(x, layer.weight, layer.bias)
