"""Compiled operators against Paddle's own at random: shapes, strides, paddings; values and gradients."""

import numpy as np
import paddle
import pytest
from paddle.nn import functional as F

from simam_repro import ops

CLOSE = {"float32": 1e-5, "float64": 1e-12}


@pytest.fixture(autouse=True)
def fused():
    if not ops.load():
        pytest.skip("no compiler here")


def results(function, *inputs: np.ndarray) -> list[np.ndarray]:
    """What `function` gives, and the gradients of its inputs for a weighted sum of the first output."""
    tensors = [paddle.to_tensor(value, stop_gradient=False) for value in inputs]
    output = function(*tensors)
    weights = np.random.default_rng(1).normal(size=output.shape).astype(inputs[0].dtype)
    gradients = paddle.grad([output], tensors, [paddle.to_tensor(weights)])
    return [value.numpy() for value in (output, *gradients)]


def assert_same(ours, theirs, *inputs: np.ndarray) -> None:
    close = CLOSE[inputs[0].dtype.name]
    for mine, reference in zip(results(ours, *inputs), results(theirs, *inputs), strict=True):
        assert mine.dtype == reference.dtype
        np.testing.assert_allclose(mine, reference, rtol=close, atol=close * np.abs(reference).max())


def window(rng) -> tuple[np.ndarray, list[int], list[int], np.ndarray]:
    """Kernel, stride, padding, and a map that holds the kernel at least once."""
    kernel, stride, padding = rng.integers(1, 6, 2), rng.integers(1, 4, 2), rng.integers(0, 4, 2)
    size = np.maximum(rng.integers(1, 30, 2), kernel - 2 * padding)
    return kernel, stride.tolist(), padding.tolist(), size


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("seed", range(32))
def test_convolution(seed, dtype):
    rng = np.random.default_rng(seed)
    kernel, stride, padding, size = window(rng)
    if seed % 4 == 0:
        kernel[:], stride, padding = 1, [1, 1], [0, 0]
    elif seed % 4 == 1:  # without im2col
        kernel[:], stride, padding = 3, [1, 1], np.minimum(padding, 2).tolist()
        size = np.maximum(size, 3)
    images, inputs, outputs = rng.integers(1, 20, 3)
    x = rng.normal(size=(images, inputs, *size)).astype(dtype)
    weight = rng.normal(size=(outputs, inputs, *kernel)).astype(dtype)
    if not ops.convolves(paddle.to_tensor(x), paddle.to_tensor(weight), stride, padding):
        pytest.skip("this Paddle brings no MKL")
    assert_same(
        lambda x, weight: ops.convolve(x, weight, stride, padding),
        lambda x, weight: F.conv2d(x, weight, None, stride, padding),
        x, weight,
    )  # fmt: skip
