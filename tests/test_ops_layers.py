"""The compiled operators in layers and networks, against Paddle's own: bias, SimAM and ReLU as one; max-pooling."""

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F

from simam_repro import ops
from simam_repro.config import Model
from simam_repro.models import SimAM, build_model
from simam_repro.models.attention import attach_attention
from simam_repro.models.conv import Conv2D, JoinedReLU
from simam_repro.models.pool import MaxPool2D

CLOSE = {"float32": 1e-5, "float64": 1e-12}


@pytest.fixture(autouse=True)
def fused():
    if not ops.load():
        pytest.skip("no compiler here")


def values(shape, dtype="float32", seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.3, 1, shape).astype(dtype)


def run(layer, x: np.ndarray) -> list[np.ndarray]:
    """Output of `layer`, and the gradients of x and of its parameters for a weighted sum of the output."""
    tensor = paddle.to_tensor(x, stop_gradient=False)
    output = layer(tensor)
    inputs = [tensor, *layer.parameters()]
    return [output.numpy()] + [
        gradient.numpy()
        for gradient in paddle.grad([output], inputs, [paddle.to_tensor(values(output.shape, x.dtype, seed=1))])
    ]


def assert_same(ours, reference, close) -> None:
    assert len(ours) == len(reference)
    for mine, theirs in zip(ours, reference):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=close, atol=close * np.abs(theirs).max())


def unit(attention: str, relu: bool, dtype: str, **conv) -> Conv2D:
    paddle.seed(0)
    layer = Conv2D(3, 5, 3, **conv)
    layer.bias.set_value(paddle.to_tensor([0.0, 0.5, -0.5, 2.0, -2.0]))
    layer.relu = relu
    attach_attention([layer], Model(attention=attention, e_lambda=1e-3))
    return layer.to(dtype=dtype)


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("attention", ["none", "simam"])
@pytest.mark.parametrize(("images", "size"), [(2, 3), (40, 4), (7, 9), (3, 18), (1, 70)])
def test_convolution_bias_simam_relu(attention, relu, dtype, images, size):
    layer = unit(attention, relu, dtype)
    reference = nn.Sequential(nn.Conv2D(3, 5, 3), *[SimAM(1e-3, fused=False)] * (attention == "simam"))
    if relu:
        reference.add_sublayer("relu", nn.ReLU())
    reference.to(dtype=dtype)
    reference[0].set_state_dict(layer.state_dict())
    x = values((images, 3, size, size), dtype)
    assert_same(run(layer, x), run(reference, x), CLOSE[dtype])


@pytest.mark.parametrize("attention", ["none", "simam"])
def test_relu_lets_what_is_not_a_number_through(attention):
    layer, x = unit(attention, True, "float32", padding=1), values((2, 3, 9, 9))
    x[1, 0, 4, 4] = np.nan
    output, gradient = run(layer, x)[:2]
    assert np.isnan(output[1]).any() and np.isfinite(output[0]).all() and (output[0] >= 0).all()
    assert np.isfinite(gradient[0]).all()


def test_without_gradient():
    x = paddle.to_tensor(values((1, 3, 9, 9)))
    for layer in (unit("none", True, "float32"), unit("simam", True, "float32")):
        with paddle.no_grad():
            assert layer(x).stop_gradient
        assert not layer(x).stop_gradient


# (images, channels, height, width), kernel, stride, padding
POOLS = [
    ((2, 3, 7, 7), 3, 2, 0), ((9, 7, 31, 33), 3, 2, 0), ((2, 3, 16, 16), 2, None, 0), ((2, 3, 9, 40), 3, 1, 1),
    ((1, 1, 5, 5), 5, 1, 2), ((3, 2, 8, 9), (2, 3), (1, 3), (0, 1)), ((5, 4, 70, 70), 2, 2, 0),
    ((1, 1, 1, 1), 1, 1, 0), ((1, 2, 20, 50), 4, 3, 1),
]  # fmt: skip


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), POOLS, ids=str)
def test_max_pool_is_paddles(shape, kernel, stride, padding, dtype, monkeypatch):
    x = np.random.default_rng(0).integers(-3, 4, shape).astype(dtype)  # many are as large as the largest
    reference = run(nn.MaxPool2D(kernel, stride, padding), x)
    monkeypatch.setattr(F, "max_pool2d", None)  # ours it is
    assert_same(run(MaxPool2D(kernel, stride, padding), x), reference, CLOSE[dtype])


@pytest.mark.parametrize("at", [(0, 0), (0, 1), (1, 1)])
def test_nan_is_the_largest(at):
    x = values((1, 1, 4, 4))
    x[0, 0][at] = np.nan
    assert np.isnan(run(MaxPool2D(2), x)[0][0, 0]).tolist() == [[True, False], [False, False]]


def test_a_window_of_nothing_but_minus_infinity():
    x = np.full((2, 3, 5, 5), -np.inf, np.float32)
    output, gradient = run(MaxPool2D(3, stride=1, padding=1), x)
    assert (output == -np.inf).all() and np.isfinite(gradient).all()


@pytest.mark.parametrize("options", [{"ceil_mode": True}, {"padding": "SAME"}, {"padding": [0, 1, 0, 1]}])
def test_other_pools_are_left_to_paddle(options):
    x = values((2, 3, 7, 7))
    assert_same(run(MaxPool2D(3, stride=2, **options), x), run(nn.MaxPool2D(3, stride=2, **options), x), 1e-6)


def test_max_pool_without_gradient():
    x = paddle.to_tensor(values((1, 2, 4, 4)), stop_gradient=False)
    with paddle.no_grad():
        assert MaxPool2D(2)(x).stop_gradient
    assert not MaxPool2D(2)(x).stop_gradient and MaxPool2D(2)(x.detach()).stop_gradient


@pytest.mark.parametrize("attention", ["none", "simam"])
@pytest.mark.parametrize(("backbone", "joined"), [("alexnet", 5), ("towernet", 0)])
def test_networks_are_paddles(backbone, joined, attention):
    """Same names, same logits and same gradients, whether the compiled operators do it or Paddle's."""
    paddle.seed(0)
    networks = [build_model(Model(backbone=backbone, attention=attention, fused=on), 4, 128) for on in (True, False)]
    fused, plain = networks
    plain.set_state_dict(fused.state_dict())
    assert [name for name, _ in fused.named_sublayers()] == [name for name, _ in plain.named_sublayers()]
    relus = [sum(isinstance(layer, JoinedReLU) for layer in network.sublayers()) for network in networks]
    assert relus == [joined, 0]
    x = paddle.to_tensor(values((3, 3, 128, 128)))
    results = []
    for network in networks:
        network.eval()  # without dropout
        logits = network(x)
        F.cross_entropy(logits, paddle.to_tensor([0, 1, 3])).backward()
        gradients = [parameter.grad.numpy() for parameter in network.parameters() if not parameter.stop_gradient]
        results.append([logits.numpy(), *gradients])
    assert_same(*results, 2e-4)
