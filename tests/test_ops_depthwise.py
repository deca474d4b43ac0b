"""The compiled depthwise convolution against Paddle's own: values, first and second derivatives."""

import ctypes

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F
from small_networks import fused as chained
from test_ops_random import CLOSE, assert_same, results, window

from simam_repro import ops
from simam_repro.ops import fused as operators

# (images, channels, height, width), stride: MobileNetV2's, in part smaller than a vector; odd and even sizes.
LAYERS = [
    ((2, 3, 64, 64), 1), ((2, 3, 64, 64), 2), ((3, 5, 32, 32), 1), ((2, 7, 16, 16), 2), ((3, 70, 8, 8), 1),
    ((2, 65, 8, 8), 2), ((5, 300, 4, 4), 1), ((3, 4, 7, 7), 1), ((3, 4, 7, 7), 2), ((2, 5, 14, 14), 2),
    ((2, 3, 5, 33), 1), ((2, 3, 6, 70), 2), ((4, 9, 2, 2), 1), ((4, 9, 2, 2), 2), ((2, 33, 1, 1), 1),
    ((1, 3, 3, 10), 2), ((2, 3, 9, 6), 2), ((2, 2, 15, 17), 1),
]  # fmt: skip


@pytest.fixture(autouse=True)
def fused():
    if not ops.load():
        pytest.skip("no compiler here")


def both(stride, padding):
    """Functions of x [N, C, H, W] and weight [C, 1, h, w]: the compiled operator's and Paddle's."""

    def ours(x, weight):
        assert ops.convolves(x, weight, stride, padding, x.shape[1])
        return ops.convolve(x, weight, stride, padding, x.shape[1])

    return ours, lambda x, weight: F.conv2d(x, weight, None, stride, padding, groups=x.shape[1])


def numbers(shape, kernel, dtype, seed=0) -> list[np.ndarray]:
    """x and weight."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=size).astype(dtype) for size in (shape, (shape[1], 1, *kernel))]


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize(("shape", "stride"), LAYERS, ids=str)
def test_3x3(shape, stride, dtype):
    assert_same(*both([stride] * 2, [1, 1]), *numbers(shape, (3, 3), dtype))


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("seed", range(30))
def test_any_kernel_stride_and_padding(seed, dtype):
    rng = np.random.default_rng(seed)
    kernel, stride, padding, size = window(rng)
    if seed % 3 == 0:
        kernel[:], stride = 3, [1 + seed % 2] * 2
        size = np.maximum(size, 3)
    shape = (*rng.integers(2, 20, 2), *size)
    assert_same(*both(stride, padding), *numbers(shape, kernel, dtype, seed))


@pytest.mark.parametrize(("shape", "stride"), LAYERS, ids=str)
def test_the_number_of_threads_changes_no_bit(shape, stride):
    library = ctypes.CDLL(str(operators.built()))
    shape = (8, 60, *shape[2:])  # so much that several threads take part
    found = []
    try:
        for threads in (1, 2, 3):
            library.simam_set_num_threads(threads)
            found.append(results(both([stride] * 2, [1, 1])[0], *numbers(shape, (3, 3), "float32")))
    finally:
        library.simam_set_num_threads(paddle.get_flags("FLAGS_paddle_num_threads")["FLAGS_paddle_num_threads"])
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


def test_x_without_gradient():
    """The gradient of the weight is the same; that of x is not computed."""
    x, weight = numbers((4, 6, 9, 9), (3, 3), "float64")
    gradients = []
    for x_gradient in (True, False):
        kernel = paddle.to_tensor(weight, stop_gradient=False)
        tensor = paddle.to_tensor(x, stop_gradient=not x_gradient)
        both([1, 1], [1, 1])[0](tensor, kernel).square().sum().backward()
        assert (tensor.grad is None) != x_gradient
        gradients.append(kernel.grad.numpy())
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("inputs", [("x",), ("weight",), ("x", "weight")], ids=str)
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [((7, 6), (3, 3), 1, 1), ((8, 8), (3, 3), 2, 1), ((7, 9), (3, 3), 2, 1), ((6, 9), (2, 5), 3, 2)],
)
def test_second_derivatives(size, kernel, stride, padding, inputs):
    """Of the squares of the gradients of x, of the weight and of both. Against products with the matrix that takes out
    the windows: Paddle's depthwise convolution cannot be differentiated twice.
    """
    places = np.pad(np.arange(np.prod(size)).reshape(size), padding, constant_values=-1)
    windows = np.lib.stride_tricks.sliding_window_view(places, kernel)[::stride, ::stride]
    rows = windows.transpose(2, 3, 0, 1).reshape(-1)
    matrix = paddle.to_tensor((np.arange(np.prod(size))[:, None] == rows).astype("float64"))

    def products(x, weight):
        columns = (x.reshape([12, -1]) @ matrix).reshape([3, 4, weight[0].size, -1])
        return (columns * weight.reshape([1, 4, -1, 1])).sum(2).reshape([3, 4, *windows.shape[:2]])

    x, weight = numbers((3, 4, *size), kernel, "float64")
    found = []
    for function in (both([stride] * 2, [padding] * 2)[0], products):
        tensors = {"x": paddle.to_tensor(x), "weight": paddle.to_tensor(weight)}
        for tensor in tensors.values():
            tensor.stop_gradient = False
        output = function(*tensors.values())
        gradients = paddle.grad([(output**3).sum()], [tensors[name] for name in inputs], create_graph=True)
        sum(gradient.square().sum() for gradient in gradients).backward()
        found.append([value.numpy() for value in (*gradients, *(tensor.grad for tensor in tensors.values()))])
    for mine, reference in zip(*found, strict=True):
        np.testing.assert_allclose(mine, reference, rtol=1e-10, atol=1e-10 * np.abs(reference).max())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_number_spoils_its_own_channel_and_no_other(bad):
    x, weight = numbers((2, 40, 4, 4), (3, 3), "float32")
    x[1, 7, 3, 3] = bad
    output, grad_x, grad_weight = results(both([1, 1], [1, 1])[0], x, weight)
    spoiled = ~np.isfinite(output)
    assert spoiled[1, 7, 2:, 2:].all() and spoiled.sum() == 4 and np.isfinite(grad_x).all()
    assert np.isfinite(np.delete(grad_weight, 7, axis=0)).all() and not np.isfinite(grad_weight[7, 0, 1, 1])


def test_layers_take_it(monkeypatch):
    taken, run = [], operators._run
    monkeypatch.setattr(operators, "_run", lambda name, *rest: taken.append(name) or run(name, *rest))
    x = paddle.to_tensor(numbers((2, 6, 9, 9), (3, 3), "float32")[0])
    for groups, out_channels, dilation in ((6, 6, 1), (6, 12, 1), (3, 6, 1), (6, 6, 2)):
        layer = nn.Conv2D(6, out_channels, 3, 2, 1, dilation, groups, bias_attr=False)
        np.testing.assert_allclose(chained(layer)(x).numpy(), layer(x).numpy(), rtol=1e-5, atol=1e-5)
    assert taken == ["depthwise_fused"]
