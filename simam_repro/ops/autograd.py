"""The compiled operators with their gradients: by compiled ones, and where a gradient is differentiated itself (a
gradient penalty, `paddle.grad(..., create_graph=True)`) by Paddle's own, which can be, again and again.
"""

from math import prod

import paddle
from paddle.autograd import PyLayer
from paddle.nn import functional as F

# Paddle 3 has moved it.
run = getattr(paddle._C_ops, "_run_custom_op", None) or paddle.base.core.eager._run_custom_op


def simam(x, bias, e_lambda: float, relu: bool):
    return _SimAM.apply(x, bias, e_lambda, relu)


def add_bias(x, bias, relu: bool):
    return _Bias.apply(x, bias, relu)


def convolve(x, weight, stride: list[int], padding: list[int]):
    return _Convolution.apply(x, weight, stride, padding)


def max_pool(x, kernel: list[int], stride: list[int], padding: list[int]):
    return _MaxPool.apply(x, kernel, stride, padding)


def _differentiated() -> bool:
    """Whether the gradients that a `backward` computes are differentiated: only then Paddle records what it does."""
    return paddle.is_grad_enabled()


def _without_gradient(tensor):
    tensor.stop_gradient = True  # which Paddle forgets for operators that it did not bring; `apply` sets what it is
    return tensor


def _needed(tensors, gradients):
    """What `backward` returns: Paddle wants None where nobody wants a gradient."""
    needed = tuple(None if x.stop_gradient else gradient for x, gradient in zip(tensors, gradients))
    return needed if len(needed) > 1 else needed[0]


def _per_channel(bias):
    return bias.reshape([1, -1, 1, 1])


class _SimAM(PyLayer):
    @staticmethod
    def forward(ctx, x, bias, e_lambda, relu):
        ctx.options = e_lambda, relu
        inputs = [x] if bias is None else [x, bias]
        ctx.name = "simam" if bias is None else "simam_bias"
        y, mean, scale = run(f"{ctx.name}_fused", *inputs, repr(e_lambda), relu)
        ctx.save_for_backward(*inputs, mean, scale)
        return _without_gradient(y)

    @staticmethod
    def backward(ctx, g):
        *inputs, mean, scale = ctx.saved_tensor()
        e_lambda, relu = ctx.options
        if _differentiated():
            gradients = _simam_gradients(g, *inputs, e_lambda=e_lambda, relu=relu)
        else:
            gradients = run(f"{ctx.name}_backward", *inputs, mean, scale, g, repr(e_lambda), relu)
        return _needed(inputs, gradients)


def _simam_gradients(g, x, bias=None, *, e_lambda, relu):
    """As planes.h derives them."""
    axes, neurons = {"axis": [2, 3], "keepdim": True}, prod(x.shape[2:])
    degrees = max(neurons - 1, 1)
    d = x - x.mean(**axes)
    c = 1 / (4 * (d.square().sum(**axes) / degrees + paddle.full([1], e_lambda, dtype=x.dtype)))
    s = F.sigmoid(c * d.square() + 0.5)
    biased = x if bias is None else x + _per_channel(bias)
    if relu:
        g = g * (biased > 0).astype(g.dtype)
    a = g * biased * s * (1 - s)
    of_mean = 2 * c * (a * d).mean(**axes)
    of_variance = 8 * c.square() * (a * d.square()).sum(**axes) / degrees
    of_x = g * s + 2 * c * a * d - of_mean - of_variance * d
    return [of_x, (g * s).sum([0, 2, 3])]


class _Bias(PyLayer):
    """In place: what comes out has x's memory. A convolution does not need its own output to go backward."""

    @staticmethod
    def forward(ctx, x, bias, relu):
        (y,) = run("bias_relu_fused" if relu else "bias_fused", x.detach(), bias)
        ctx.needs_x = not x.stop_gradient
        # Not y itself, which would hold this, and this y.
        ctx.save_for_backward(bias, *[y.detach()] * relu)
        return _without_gradient(y)

    @staticmethod
    def backward(ctx, g):
        bias, *y = ctx.saved_tensor()
        if _differentiated():
            of_x = g * (y[0] > 0).astype(g.dtype) if y else g
            of_bias = of_x.sum([0, 2, 3])
        elif y:
            of_x, of_bias = run("bias_relu_backward", bias, *y, g)
        else:
            of_x, (of_bias,) = g, run("bias_backward", bias, g)
        return of_x if ctx.needs_x else None, None if bias.stop_gradient else of_bias


class _Convolution(PyLayer):
    @staticmethod
    def forward(ctx, x, weight, stride, padding):
        ctx.options = stride, padding
        ctx.save_for_backward(x, weight)
        return _without_gradient(run("conv_fused", x, weight, stride, padding)[0])

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensor()
        stride, padding = ctx.options
        if _differentiated():
            gradients = _convolution_gradients(g, x, weight, stride, padding)
        else:
            gradients = run("conv_backward", x, weight, g, stride, padding, not x.stop_gradient)
        return _needed([x, weight], gradients)


def _convolution_gradients(g, x, weight, stride, padding):
    """Convolutions of the other two. `fused.convolves` lets no x with a gradient through for which that is none."""
    turned, size = [1, 0, 2, 3], weight.shape[2:]
    of_x = None
    if not x.stop_gradient:
        around = [kernel - 1 - pad for kernel, pad in zip(size, padding)]
        of_x = F.conv2d(g, weight.flip([2, 3]).transpose(turned), padding=around)
    of_weight = F.conv2d(x.transpose(turned), g.transpose(turned), padding=padding, dilation=stride)
    return of_x, of_weight[:, :, : size[0], : size[1]].transpose(turned)


class _MaxPool(PyLayer):
    @staticmethod
    def forward(ctx, x, kernel, stride, padding):
        ctx.options = x.shape[2:], kernel, stride, padding
        y, taps = run("max_pool_fused", x, *ctx.options)
        ctx.save_for_backward(taps)
        return _without_gradient(y)

    @staticmethod
    def backward(ctx, g):
        (taps,) = ctx.saved_tensor()
        if _differentiated():
            return _max_pool_gradient(g, taps, *ctx.options)
        return run("max_pool_backward", taps, g, *ctx.options)[0]


def _max_pool_gradient(g, taps, size, kernel, stride, padding):
    """Each number of g where the largest of its window was (`taps`: which of the window, row by row)."""
    taps, (height, width), planes = taps.astype("int64"), size, prod(g.shape[:2])
    rows = (paddle.arange(g.shape[2]) * stride[0] - padding[0]).reshape([-1, 1]) + taps // kernel[1]
    columns = paddle.arange(g.shape[3]) * stride[1] - padding[1] + taps % kernel[1]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)  # not the padding
    at = (paddle.arange(planes).reshape([*g.shape[:2], 1, 1]) * height + rows) * width + columns
    at, g = (at * inside.astype(at.dtype)).reshape([-1, 1]), (g * inside.astype(g.dtype)).reshape([-1])
    return paddle.scatter_nd(at, g, [planes * height * width]).reshape([*taps.shape[:2], height, width])
