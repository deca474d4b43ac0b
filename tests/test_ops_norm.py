"""Batch normalisation with what follows it, and residual sums with ReLU, against Paddle's own layers."""

import copy
import warnings

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F

from simam_repro import ops
from simam_repro.ops import fused

CLOSE = {"float32": 1e-4, "float64": 1e-10}
ACTIVATIONS = {"none": lambda x: x, "relu": F.relu, "relu6": F.relu6}
SHAPES = [(2, 3, 7, 7), (4, 5, 1, 1), (3, 20, 4, 4), (2, 17, 33, 5), (1, 2, 70, 70), (5, 300, 2, 3)]


@pytest.fixture(autouse=True)
def compiled():
    if not ops.load():
        pytest.skip("no compiler here")


def numbers(shape, dtype="float64", seed=0, mean=0.0):
    values = np.random.default_rng(seed).normal(mean, 2, shape).astype(dtype)
    return paddle.to_tensor(values, stop_gradient=False)


def norm(channels: int, dtype="float64", training=True, **options) -> nn.BatchNorm2D:
    """Scales, shifts and running statistics that all differ."""
    layer = nn.BatchNorm2D(channels, **options).to(dtype=dtype)
    steps = np.linspace(0.5, 2, channels).astype(dtype)
    for tensor, values in (
        (layer.weight, steps),
        (layer.bias, steps - 1),
        (layer._mean, steps),
        (layer._variance, steps),
    ):
        tensor.set_value(paddle.to_tensor(values))
    layer.training = training
    return layer


def plain(x, layer, activation, residual):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Paddle's remark on running statistics
        y = layer(x)
    return ACTIVATIONS[activation](y if residual is None else y + residual)


def results(function, x, layer, activation, residual, second=False) -> list[np.ndarray]:
    """Output, gradients, running statistics; with `second` the gradients of the gradients' squares."""
    inputs = [x, layer.weight, layer.bias, *([] if residual is None else [residual])]
    y = function(x, layer, activation, residual)
    gradients = paddle.grad([y], inputs, [numbers(y.shape, seed=1).astype(y.dtype)], create_graph=second)
    found = [y, *gradients, layer._mean, layer._variance]
    if second:
        found += paddle.grad([sum(gradient.square().sum() for gradient in gradients)], [x, layer.weight])
    return [value.numpy() for value in found]


def assert_same(ours, theirs, close) -> None:
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine.dtype == reference.dtype
        np.testing.assert_allclose(mine, reference, rtol=close, atol=close * np.abs(reference).max())


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("summed", [False, True], ids=["", "sum"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_norm(shape, activation, summed, training, dtype):
    x, residual = numbers(shape, dtype, mean=5), numbers(shape, dtype, seed=2) if summed else None
    ours, theirs = (
        results(function, x, norm(shape[1], dtype, training), activation, residual)
        for function in (fused.batch_norm, plain)
    )
    assert_same(ours, theirs, CLOSE[dtype])


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("summed", [False, True], ids=["", "sum"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_second_derivatives(activation, summed, training):
    """Against the same formulas from Paddle's elementary operators, which it differentiates itself."""

    def elementary(x, layer, activation, residual):
        mean, variance = layer._mean, layer._variance
        if training:
            mean = x.mean(axis=[0, 2, 3])
            variance = (x - mean.reshape([1, -1, 1, 1])).square().mean(axis=[0, 2, 3])
        mean, variance, weight, bias = (
            value.reshape([1, -1, 1, 1]) for value in (mean, variance, layer.weight, layer.bias)
        )
        y = (x - mean) / (variance + layer._epsilon).sqrt() * weight + bias
        y = y if residual is None else y + residual
        mask = {"none": y == y, "relu": y > 0, "relu6": (y > 0) & (y < 6)}[activation]
        ceiling = 6.0 * (y >= 6).astype(y.dtype) if activation == "relu6" else 0.0
        return y * mask.astype(y.dtype) + ceiling

    x, residual = numbers((3, 4, 5, 3)), numbers((3, 4, 5, 3), seed=2) if summed else None
    ours = results(fused.batch_norm, x, norm(4, training=training), activation, residual, second=True)
    theirs = results(elementary, x, norm(4, training=training), activation, residual, second=True)
    statistics = slice(-4, -2)  # Paddle's operators leave them
    del ours[statistics], theirs[statistics]
    assert_same(ours, theirs, 1e-9)


def test_large_means_cost_no_digits():
    """A mean of 10,000 standard deviations: the difference of two means of squares would have no digit left."""
    x = np.random.default_rng(0).normal(1e4, 1, (4, 3, 16, 16)).astype("float32")
    layer = norm(3, "float32", momentum=0.0)
    y = fused.batch_norm(paddle.to_tensor(x), layer).numpy()
    double = x.astype("float64")
    mean, variance = double.mean((0, 2, 3)), double.var((0, 2, 3))
    np.testing.assert_allclose(layer._variance.numpy(), variance, rtol=1e-4)
    scale, shift = (value.numpy().astype("float64").reshape(1, -1, 1, 1) for value in (layer.weight, layer.bias))
    expected = (double - mean.reshape(1, -1, 1, 1)) / np.sqrt(variance + 1e-5).reshape(1, -1, 1, 1) * scale + shift
    np.testing.assert_allclose(y, expected, atol=3e-3)  # the mean itself has 1e-3 of a standard deviation


def test_the_number_of_threads_changes_no_bit():
    x, layer = numbers((8, 24, 16, 16), "float32"), norm(24, "float32")
    library = fused.ctypes.CDLL(str(fused.built()))
    found = []
    for threads in (1, 2, 3):
        library.simam_set_num_threads(threads)
        found.append(results(fused.batch_norm, x, copy.deepcopy(layer), "relu", None))
    library.simam_set_num_threads(paddle.get_flags("FLAGS_paddle_num_threads")["FLAGS_paddle_num_threads"])
    for other in found[1:]:
        for mine, reference in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(mine, reference)


def test_not_a_number_stays_one():
    x = numbers((2, 3, 4, 4))
    with paddle.no_grad():
        x[0, 1, 2, 3] = float("nan")
    y = fused.batch_norm(x, norm(3), "relu6").numpy()
    assert np.isnan(y[:, 1]).all() and np.isfinite(y[:, [0, 2]]).all()


def test_layers_that_are_left_to_paddle():
    x = numbers((2, 3, 4, 4))
    assert fused.normalises(x, norm(3))
    assert not fused.normalises(x, nn.BatchNorm2D(3, weight_attr=False).to(dtype="float64"))
    assert not fused.normalises(x, nn.BatchNorm2D(3))  # of another dtype
    assert not fused.normalises(x, nn.BatchNorm2D(4, data_format="NHWC").to(dtype="float64"))


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("shape", [(2, 3, 7, 7), (1, 1, 1, 1), (3, 40, 17, 9)], ids=str)
def test_sum_with_relu(shape, dtype):
    x, y = numbers(shape, dtype), numbers(shape, dtype, seed=2)
    found = []
    for function in (fused.sum_relu, lambda x, y: F.relu(x + y)):
        output = function(x, y)
        first = paddle.grad([(output * output).sum()], [x, y], create_graph=True)
        second = paddle.grad([(first[0] * first[1]).sum()], [x, y])
        found.append([value.numpy() for value in (output, *first, *second)])
    assert_same(*found, CLOSE[dtype])
