"""The fused layers in networks, against Paddle's own: bias, SimAM and ReLU as one; pooling."""

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F
from small_networks import fused as chained

from simam_repro import ops
from simam_repro.attention import Site
from simam_repro.config import Model
from simam_repro.models import SimAM, build_model, simam
from simam_repro.models.attention import attach

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
    inputs = [tensor, *(parameter for parameter in layer.parameters() if not parameter.stop_gradient)]
    return [output.numpy()] + [
        gradient.numpy()
        for gradient in paddle.grad([output], inputs, [paddle.to_tensor(values(output.shape, x.dtype, seed=1))])
    ]


def assert_same(ours, reference, close) -> None:
    assert len(ours) == len(reference)
    for mine, theirs in zip(ours, reference):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=close, atol=close * np.abs(theirs).max())


def unit(attention: str, relu: bool, dtype: str, **conv) -> nn.Layer:
    paddle.seed(0)
    layer = nn.Conv2D(3, 5, 3, **conv)
    layer.bias.set_value(paddle.to_tensor([0.0, 0.5, -0.5, 2.0, -2.0]))
    attach(layer, Model(attention=attention, e_lambda=1e-3).attention, Site(5))
    return chained(layer, *[nn.ReLU()] * relu).to(dtype=dtype)


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
    reference[0].set_state_dict(layer[0].state_dict())
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


class Doubling(nn.Layer):
    """An attention that knows of no bias and no ReLU."""

    def forward(self, x):
        return x * 2


CHANGES = {
    "another convolution": lambda layers: layers.__setitem__("0", nn.Conv2D(3, 5, 3)),
    "a normalisation between": lambda layers: layers.__setitem__("0", nn.Sequential(layers["0"], nn.BatchNorm2D(5))),
    "another activation": lambda layers: layers.__setitem__("1", nn.LeakyReLU(0.1)),
    "a hook": lambda layers: layers["0"].register_forward_post_hook(lambda layer, inputs, output: output - 1),
    "another attention": lambda layers: layers["0"].add_sublayer("attention", Doubling()),
    "no bias": lambda layers: setattr(layers["0"], "bias", None),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("attention", ["none", "simam"])
def test_a_changed_network_does_what_it_says(attention, change):
    """A ReLU belongs to the convolution before it only as long as nothing comes between them."""
    ours = unit(attention, True, "float32")
    plain = ops.unfuse(unit(attention, True, "float32"))
    for network in (ours, plain):
        paddle.seed(1)
        CHANGES[change](network._sub_layers)
    x = values((2, 3, 9, 9))
    for mine, theirs in zip(run(ours, x), run(plain, x)):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


def test_hooks_see_what_is_between():
    seen = []
    layer = unit("simam", True, "float32")
    layer[0].register_forward_post_hook(lambda layer, inputs, output: seen.append(output.numpy()))
    output = run(layer, values((2, 3, 9, 9)))[0]
    assert (seen[0] < 0).any() and np.array_equal(np.maximum(seen[0], 0), output)


def test_other_layouts_and_ranks_are_paddles():
    x = paddle.to_tensor(values((2, 8, 8, 8)))
    theirs = nn.Conv2D(8, 5, 3, data_format="NHWC")
    ours = chained(theirs)
    np.testing.assert_allclose(ours(x).numpy(), theirs(x).numpy(), rtol=1e-5, atol=1e-5)
    conv, pool = nn.Conv2D(3, 5, 3), nn.MaxPool2D(2)
    for layer, bad in [(conv, [2, 3, 7, 7, 4]), (pool, [2, 3, 6, 6, 4]), (pool, [2, 3, 8])]:
        with pytest.raises(ValueError):
            chained(layer)(paddle.ones(bad))


def test_a_bias_of_another_size_is_refused():
    with pytest.raises(ValueError, match="a bias of 8 numbers"):
        simam(paddle.ones([1, 8, 3, 3]), bias=paddle.ones([3]))


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
    assert_same(run(chained(nn.MaxPool2D(kernel, stride, padding)), x), reference, CLOSE[dtype])


@pytest.mark.parametrize("at", [(0, 0), (0, 1), (1, 1)])
def test_nan_is_the_largest(at):
    x = values((1, 1, 4, 4))
    x[0, 0][at] = np.nan
    assert np.isnan(run(chained(nn.MaxPool2D(2)), x)[0][0, 0]).tolist() == [[True, False], [False, False]]


def test_a_window_of_nothing_but_minus_infinity():
    x = np.full((2, 3, 5, 5), -np.inf, np.float32)
    output, gradient = run(chained(nn.MaxPool2D(3, stride=1, padding=1)), x)
    assert (output == -np.inf).all() and np.isfinite(gradient).all()


@pytest.mark.parametrize("options", [{"ceil_mode": True}, {"padding": "SAME"}, {"padding": [0, 1, 0, 1]}])
def test_other_pools_are_left_to_paddle(options):
    x = values((2, 3, 7, 7))
    layer = nn.MaxPool2D(3, stride=2, **options)
    assert_same(run(chained(layer), x), run(layer, x), 1e-6)


def test_max_pool_without_gradient():
    x, pool = paddle.to_tensor(values((1, 2, 4, 4)), stop_gradient=False), chained(nn.MaxPool2D(2))
    with paddle.no_grad():
        assert pool(x).stop_gradient
    assert not pool(x).stop_gradient and pool(x.detach()).stop_gradient


@pytest.mark.parametrize("shape", [(2, 3, 3, 3), (2, 3, 3, 4), (2, 3, 7, 7), (2, 3, 2, 2)])
@pytest.mark.parametrize("size", [3, (3, 4), (None, 3)])
def test_adaptive_average(size, shape):
    x = values(shape)
    layer = nn.AdaptiveAvgPool2D(size)
    ours = chained(layer)
    for one, other in zip(run(ours, x), run(layer, x), strict=True):
        np.testing.assert_array_equal(one, other)
    tensor = paddle.to_tensor(x)
    assert (ours(tensor) is tensor) == (shape[2:] == (size if isinstance(size, tuple) else (3, 3)))


@pytest.mark.parametrize("attention", ["none", "simam"])
@pytest.mark.parametrize("backbone", ["alexnet", "towernet"])
def test_networks_are_paddles(backbone, attention):
    """Same names, same logits and same gradients, whether the compiled operators do it or Paddle's."""
    paddle.seed(0)
    networks = [build_model(Model(backbone=backbone, attention=attention, fused=on), 4, 128) for on in (True, False)]
    fused, plain = networks
    plain.set_state_dict(fused.state_dict())
    assert [name for name, _ in fused.named_sublayers()] == [name for name, _ in plain.named_sublayers()]
    x = paddle.to_tensor(values((3, 3, 128, 128)))
    results = []
    for network in networks:
        network.eval()  # without dropout
        logits = network(x)
        F.cross_entropy(logits, paddle.to_tensor([0, 1, 3])).backward()
        gradients = [parameter.grad.numpy() for parameter in network.parameters() if not parameter.stop_gradient]
        results.append([logits.numpy(), *gradients])
    assert_same(*results, 2e-4)
