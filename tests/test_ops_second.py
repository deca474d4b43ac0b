"""Second derivatives through the compiled operators, against Paddle's own: what a gradient penalty needs."""

import numpy as np
import paddle
import pytest
from paddle import nn
from small_networks import fused as chained

from simam_repro import ops
from simam_repro.attention import Site
from simam_repro.config import Model
from simam_repro.models import SimAM
from simam_repro.models.attention import attach


@pytest.fixture(autouse=True)
def fused():
    if not ops.load():
        pytest.skip("no compiler here")


def values(shape, seed=0, dtype="float64") -> np.ndarray:
    return np.random.default_rng(seed).normal(0.3, 1, shape).astype(dtype)


def penalised(network, x: np.ndarray, weights: bool = False) -> list[np.ndarray]:
    """Output, gradients and the gradients of their squares, with respect to x and to the parameters.

    weights: penalise the gradients of the parameters too.
    """
    tensor = paddle.to_tensor(x, stop_gradient=False)
    output = network(tensor)
    inputs = [tensor, *(network.parameters() if weights else [])]
    gradients = paddle.grad([(output * output).sum()], inputs, create_graph=True)
    (sum(gradient.square().sum() for gradient in gradients) + output.sum()).backward()
    second = [value.grad for value in [tensor, *network.parameters()]]
    found = [output, *gradients, *(gradient for gradient in second if gradient is not None)]
    arrays = [value.numpy().copy() for value in found]
    network.clear_gradients()
    return arrays


def assert_same(ours, theirs, close=1e-9) -> None:
    for mine, reference in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, reference, rtol=close, atol=close * np.abs(reference).max())


@pytest.mark.parametrize("shape", [(2, 3, 7, 7), (2, 3, 1, 1), (1, 2, 20, 33), (2, 4, 1, 5)], ids=str)
@pytest.mark.parametrize("e_lambda", [1e-4, 0.1])
def test_simam(shape, e_lambda):
    assert_same(*(penalised(SimAM(e_lambda, fused=fused), values(shape)) for fused in (True, False)))


def test_simam_in_single_precision():
    x = values((2, 3, 7, 7), dtype="float32")
    assert_same(*(penalised(SimAM(1e-2, fused=fused), x) for fused in (True, False)), 1e-4)


@pytest.mark.parametrize("weights", [False, True], ids=["of x", "of all"])
@pytest.mark.parametrize("relu", [False, True], ids=["", "relu"])
@pytest.mark.parametrize("attention", ["none", "simam"])
def test_convolution_bias_simam_relu(attention, relu, weights):
    paddle.seed(0)
    layer = nn.Conv2D(3, 5, 3, padding=1)
    layer.bias.set_value(paddle.to_tensor([0.0, 0.5, -0.5, 2.0, -2.0]))
    attach(layer, Model(attention=attention, e_lambda=1e-3).attention, Site(5))
    ours = chained(layer, *[nn.ReLU()] * relu).to(dtype="float64")
    plain = nn.Sequential(
        nn.Conv2D(3, 5, 3, padding=1), *[SimAM(1e-3, fused=False)] * (attention == "simam"), *[nn.ReLU()] * relu
    ).to(dtype="float64")
    plain[0].set_state_dict(layer.state_dict())
    x = values((2, 3, 7, 6))
    assert_same(penalised(ours, x, weights), penalised(plain, x, weights))


def test_a_convolution_of_images_by_the_gradients_of_its_weights():
    """The first layer of a network, of stride 2: its images need no gradient, and Paddle's own then loses that of the
    weights. Against a product of matrices.
    """
    images = values((2, 3, 9, 9))
    padded = np.pad(images, [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2]
    rows = paddle.to_tensor(np.ascontiguousarray(windows.transpose(0, 2, 3, 1, 4, 5)).reshape(-1, 27))
    layer, results = nn.Conv2D(3, 4, 3, stride=2, padding=1).to(dtype="float64"), []

    def products(images):
        return rows @ layer.weight.reshape([4, 27]).transpose([1, 0]) + layer.bias

    for function in (chained(layer), products):
        output = function(paddle.to_tensor(images))
        gradients = paddle.grad([(output * output * output).sum()], layer.parameters(), create_graph=True)
        sum(gradient.square().sum() for gradient in gradients).backward()
        found = [value.numpy().copy() for value in (*gradients, layer.weight.grad, layer.bias.grad)]
        layer.clear_gradients()
        results.append(found)
    assert_same(*results)


@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "padding"),
    [((2, 3, 9, 8), 2, 2, 0), ((1, 2, 7, 7), 3, 2, 1), ((2, 1, 6, 9), (2, 3), (1, 2), (0, 1))],
)
def test_max_pool(shape, kernel, stride, padding):
    """Against a matrix that picks the largest number of each window: Paddle's own cannot be differentiated twice."""
    x, (kernel, stride, padding) = values(shape), (np.broadcast_to(value, 2) for value in (kernel, stride, padding))
    places = np.arange(x.size).reshape(shape)
    around = [(0, 0), (0, 0), *((pad, pad) for pad in padding)]
    padded, places = np.pad(x, around, constant_values=-np.inf), np.pad(places, around, constant_values=-1)
    windows, where = (
        np.lib.stride_tricks.sliding_window_view(array, kernel, (2, 3))[:, :, :: stride[0], :: stride[1]]
        for array in (padded, places)
    )
    largest = windows.reshape(*windows.shape[:4], -1).argmax(-1, keepdims=True)
    chosen = np.take_along_axis(where.reshape(*where.shape[:4], -1), largest, -1).reshape(-1)
    matrix = paddle.to_tensor(np.eye(x.size)[chosen])

    class Picked(nn.Layer):
        def forward(self, x):
            return (matrix @ x.reshape([-1, 1])).reshape(windows.shape[:4])

    ours = chained(nn.MaxPool2D(*([int(value) for value in pair] for pair in (kernel, stride, padding))))
    assert_same(penalised(ours, x), penalised(Picked(), x))


def test_a_network():
    """A gradient penalty on a network of all of them: its derivative is what finite differences say."""
    paddle.seed(0)
    layers = [nn.Conv2D(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2D(2), nn.Conv2D(4, 3, 3), SimAM(1e-2)]
    network, images = chained(*layers).to(dtype="float64"), paddle.to_tensor(values((2, 2, 8, 8)))
    images.stop_gradient = False
    weight, direction = network[0].weight, paddle.to_tensor(values(network[0].weight.shape, seed=1))

    def penalty(step: float):
        weight.set_value(weight + step * direction)
        output = network(images)
        (gradient,) = paddle.grad([output.square().sum()], [images], create_graph=True)
        weight.set_value(weight - step * direction)
        return gradient.square().sum()

    step = 1e-6
    slope = (float(penalty(step)) - float(penalty(-step))) / (2 * step)
    penalty(0.0).backward()
    assert float((weight.grad * direction).sum()) == pytest.approx(slope, rel=1e-5)


def penalty(function, x) -> list[np.ndarray]:
    """Gradients of a loss of nothing but gradients, so that none comes from the output itself."""
    y = function(x)
    weights = paddle.to_tensor(values(y.shape, seed=1), stop_gradient=False)
    (gradient,) = paddle.grad([y], [x], [weights], create_graph=True)
    return [value.numpy() for value in paddle.grad([gradient.square().sum()], [x, weights])]


def test_a_penalty_alone_through_simam():
    x = paddle.to_tensor(values((2, 3, 7, 7)), stop_gradient=False)
    assert_same(penalty(SimAM(1e-2), x), penalty(SimAM(1e-2, fused=False), x))


def test_a_penalty_alone_through_max_pooling():
    """Each window's gradient goes to its largest number: d/dw sum(w^2) = 2 w, where windows do not overlap."""
    x = paddle.to_tensor(values((2, 3, 6, 6)), stop_gradient=False)
    of_x, of_weights = penalty(lambda x: ops.max_pool(x, [2, 2], [2, 2], [0, 0]), x)
    np.testing.assert_array_equal(of_x, np.zeros((2, 3, 6, 6)))
    np.testing.assert_allclose(of_weights, 2 * values((2, 3, 3, 3), seed=1), rtol=1e-12)
