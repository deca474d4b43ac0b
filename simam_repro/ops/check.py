"""A look at the compiled operators before they are trusted: each against Paddle's own, on a small tensor."""

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from simam_repro.ops import fused

CLOSE = {"float32": 1e-4, "float64": 1e-10}
E_LAMBDA = 1e-2


def wrong_operator() -> str | None:
    """The first operator that computes something else than Paddle, forward or backward; None if none does. Quick."""
    with paddle.enable_grad(), paddle.amp.auto_cast(enable=False):
        for dtype, close in CLOSE.items():
            for name, (ours, plain) in _pairs().items():
                for mine, reference in zip(_results(ours, dtype), _results(plain, dtype)):
                    if not np.allclose(mine, reference, rtol=close, atol=close * np.abs(reference).max()):
                        return f"{name} ({dtype})"
    return None


def _pairs() -> dict:
    """{operator: (compiled, Paddle's own)}, functions of x, bias and weight."""
    from simam_repro.attention.simam import simam  # which imports this package

    pairs = {
        "SimAM": (
            lambda x, bias, weight: fused.fused_simam(x, E_LAMBDA),
            lambda x, bias, weight: simam(x, E_LAMBDA, fused=False),
        ),
        "SimAM with bias and ReLU": (
            lambda x, bias, weight: fused.fused_simam(x, E_LAMBDA, bias, relu=True),
            lambda x, bias, weight: simam(x, E_LAMBDA, False, bias, relu=True),
        ),
        "bias": (
            lambda x, bias, weight: fused.add_bias_in_place(x * 1, bias),
            lambda x, bias, weight: x + bias.reshape([1, -1, 1, 1]),
        ),
        "bias with ReLU": (
            lambda x, bias, weight: fused.add_bias_in_place(x * 1, bias, relu=True),
            lambda x, bias, weight: F.relu(x + bias.reshape([1, -1, 1, 1])),
        ),
        "max-pooling": (
            lambda x, bias, weight: fused.max_pool(x, [3, 3], [2, 2], [1, 1]),
            lambda x, bias, weight: F.max_pool2d(x, 3, 2, 1),
        ),
        "batch norm with ReLU6": (
            lambda x, bias, weight: fused.batch_norm(x, _norm(x), "relu6"),
            lambda x, bias, weight: F.relu6(_normalised(x)),
        ),
        "batch norm with a sum and ReLU": (
            lambda x, bias, weight: fused.batch_norm(x, _norm(x), "relu", x * 2),
            lambda x, bias, weight: F.relu(_normalised(x) + x * 2),
        ),
        "sum with ReLU": (
            lambda x, bias, weight: fused.sum_relu(x, x * -2),
            lambda x, bias, weight: F.relu(x + x * -2),
        ),
        "depthwise convolution": (
            lambda x, bias, weight: fused.convolve(x, weight[:3, :1], [1, 1], [1, 1], groups=3),
            lambda x, bias, weight: F.conv2d(x, weight[:3, :1], padding=1, groups=3),
        ),
        "depthwise convolution of stride 2": (
            lambda x, bias, weight: fused.convolve(x[:, :, 1:, 1:], weight[:3, :1], [2, 2], [1, 1], groups=3),
            lambda x, bias, weight: F.conv2d(x[:, :, 1:, 1:], weight[:3, :1], stride=2, padding=1, groups=3),
        ),
    }
    if fused.has_gemm():
        pairs["convolution"] = (
            lambda x, bias, weight: fused.convolve(x, weight, [1, 1], [1, 1]),
            lambda x, bias, weight: F.conv2d(x, weight, padding=1),
        )
    return pairs


def _norm(x) -> nn.BatchNorm2D:
    return nn.BatchNorm2D(x.shape[1]).to(dtype=x.dtype)


def _normalised(x):
    layer = _norm(x)
    return F.batch_norm(x, layer._mean, layer._variance, layer.weight, layer.bias, training=True)


def _results(function, dtype: str) -> list[np.ndarray]:
    """Output and gradients of a weighted sum of it."""
    inputs = [_numbers(shape, dtype) for shape in ([2, 3, 9, 11], [3], [4, 3, 3, 3])]
    for tensor in inputs:
        tensor.stop_gradient = False
    output = function(*inputs)
    gradients = paddle.grad([output], inputs, [_numbers(output.shape, dtype)], allow_unused=True)
    return [value.numpy() for value in (output, *gradients) if value is not None]


def _numbers(shape: list[int], dtype: str):
    """Between -1 and 1, all different; nothing is drawn, so that a seed gives what it gave."""
    return paddle.to_tensor(np.sin(np.arange(1, 1 + np.prod(shape))).reshape(shape).astype(dtype), place="cpu")
