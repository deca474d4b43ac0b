"""Every attention module of the package against its formula (attention_oracles.py), and what all modules promise."""

import inspect

import numpy as np
import paddle
import pytest
from attention_oracles import ORACLES, derivative

from simam_repro import attention
from simam_repro.attention import Site
from simam_repro.attention.parts import normalised
from simam_repro.errors import UserError

MODULES = [name for name, module in attention.known_modules().items() if module.build is not None]
CHANNELS = 16
SHAPES = [(2, 16, 1, 1), (2, 16, 1, 7), (2, 16, 2, 2), (2, 16, 7, 5), (2, 8, 32, 32), (1, 16, 1, 1), (1, 16, 7, 5)]
each_module = pytest.mark.parametrize("name", MODULES)
each_mode = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])


@pytest.fixture(autouse=True)
def seed():
    paddle.seed(0)


@pytest.fixture
def in_float64():
    """Layers are made with float64 parameters, and the compiled operators compute in it too."""
    paddle.set_default_dtype("float64")
    yield
    paddle.set_default_dtype("float32")


def section(name, **keys):
    return attention.resolve({"name": name, **keys})


def build(name, channels=CHANNELS, training=False, rng=None, **keys):
    """A layer; with `rng` none of its parameters and running statistics is as at the start."""
    layer = attention.build(section(name, **keys), Site(channels, name="b3"))
    for key, value in layer.state_dict().items() if rng else ():
        variance = key.endswith("_variance")
        drawn = rng.uniform(0.5, 2, value.shape) if variance else rng.normal(0, 0.5, value.shape)
        value.set_value(drawn.astype(value.numpy().dtype))
    (layer.train if training else layer.eval)()
    return layer


def oracle(name, layer, training):
    """{"x": x, parameters...} -> y, in float64, with what the layer has been built with."""
    formula = ORACLES[name]
    keys = {key: getattr(layer, key) for key in inspect.signature(formula).parameters if hasattr(layer, key)}
    keys.pop("training")
    return lambda arrays: formula(arrays["x"], arrays, training, **keys)


def state_of(layer) -> dict:
    return {key: value.numpy().astype(np.float64) for key, value in layer.state_dict().items()}


def check(name, layer, x, training, rtol, rng):
    """Values, and the gradients by x and by every parameter along three random directions.

    `rtol` is of what is checked, or of what a gate of 1 would pass on: a gate within rounding of 0 or 1 has no slope.
    """
    arrays = {"x": x.astype(np.float64), **state_of(layer)}
    formula = oracle(name, layer, training)
    cotangent = rng.normal(size=x.shape).astype(x.dtype)
    tensor = paddle.to_tensor(x, stop_gradient=False)
    y = layer(tensor)
    (y * paddle.to_tensor(cotangent)).sum().backward()
    expected = formula(arrays)
    assert y.dtype == tensor.dtype
    np.testing.assert_allclose(y.numpy(), expected, rtol=rtol, atol=rtol * np.abs(expected).max())
    slopes = {"x": tensor.grad.numpy()}
    slopes |= {key: value.grad.numpy() for key, value in layer.named_parameters() if value.grad is not None}
    assert all(np.isfinite(slope).all() for slope in slopes.values())
    for _ in range(3):
        direction = {key: rng.normal(size=slope.shape) for key, slope in slopes.items()}
        passed_on = {"x": np.abs(cotangent * direction["x"]).sum(), "parameters": np.abs(cotangent * x).sum()}
        for what, part in (("x", {"x": direction.pop("x")}), ("parameters", direction)):
            terms = derivative(formula, arrays, part) * cotangent
            found = sum((slopes[key].astype(np.float64) * part[key]).sum() for key in part)
            size = np.abs(terms).sum() + passed_on[what]
            assert found == pytest.approx(terms.sum(), rel=rtol, abs=rtol * size), what


# the formulas


def test_every_module_has_an_oracle():
    assert sorted(ORACLES) == sorted(MODULES)


@each_mode
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
@each_module
def test_formula(name, shape, training, in_float64):
    rng = np.random.default_rng(1)
    layer = build(name, shape[1], training, rng)
    normalises = any("norm" in key for key in layer.state_dict())
    # Paddle's norms have their epsilon in float32.
    check(name, layer, rng.normal(size=shape), training, 1e-7 if normalises else 1e-11, rng)


@each_mode
@pytest.mark.parametrize("plane", ["constants", "one constant", "zeros"])
@each_module
def test_flat_planes(name, plane, training):
    rng = np.random.default_rng(2)
    size = (2, CHANNELS, 1, 1) if plane == "constants" else (1, 1, 1, 1)
    values = rng.normal(size=size) * (plane != "zeros")
    x = np.broadcast_to(values, (2, CHANNELS, 7, 5)).astype(np.float32)
    check(name, build(name, CHANNELS, training, rng), x, training, 1e-3, rng)


@pytest.mark.parametrize("value", [12345.678, -3.3, 1e-20])
def test_a_constant_is_normalised_to_zero(value):
    """Not to its mean's rounding error over a small deviation."""
    assert not normalised(paddle.full([1, 2, 35], value), 2, 1e-10).any()


@each_mode
@pytest.mark.parametrize("scale", [1e-20, 1e4])
@each_module
def test_tiny_and_large_numbers(name, scale, training):
    rng = np.random.default_rng(3)
    x = (rng.normal(size=(2, CHANNELS, 7, 5)) * scale).astype(np.float32)
    check(name, build(name, CHANNELS, training, rng), x, training, 1e-3, rng)


@each_module
def test_one_image_in_training_moves_no_statistics_that_it_has_not(name):
    """One value a channel: BatchNorm goes by the running statistics, and keeps them."""
    layer = build(name, training=True, rng=np.random.default_rng(4))
    before = state_of(layer)
    layer(paddle.rand([1, CHANNELS, 1, 1]))
    after = state_of(layer)
    moved = [key for key in before if not np.array_equal(before[key], after[key])]
    # Triplet's two gates over the channels do see several values.
    assert all("channel" in key for key in moved)


# what all modules promise


@each_module
@pytest.mark.parametrize("shape", [(1, 64, 1, 1), (3, 48, 5, 4), (2, 24, 1, 9)], ids=str)
def test_shape_dtype_and_bits(name, shape):
    x = paddle.to_tensor(np.random.default_rng(5).normal(size=shape).astype(np.float32))

    def run():
        paddle.seed(0)
        layer, image = build(name, shape[1], training=True), x.clone()
        image.stop_gradient = False
        y = layer(image)
        y.square().sum().backward()
        gradients = [image.grad, *(parameter.grad for parameter in layer.parameters() if parameter.grad is not None)]
        return y, [gradient.numpy() for gradient in gradients]

    (y, gradients), (again, gradients_again) = run(), run()
    assert list(y.shape) == list(shape) and y.dtype == x.dtype
    assert np.isfinite(y.numpy()).all() and all(np.isfinite(gradient).all() for gradient in gradients)
    assert np.array_equal(y.numpy(), again.numpy())
    assert all(map(np.array_equal, gradients, gradients_again))


@each_module
def test_weights_are_what_x_is_multiplied_by(name):
    layer, x = build(name, rng=np.random.default_rng(6)), paddle.randn([2, CHANNELS, 5, 3])
    if layer.weights is None:
        pytest.skip("it adds")
    np.testing.assert_allclose((x * layer.weights(x)).numpy(), layer(x).numpy(), rtol=1e-5)


def cpu_multiplies(dtype) -> bool:
    try:
        paddle.ones([1]).astype(dtype) * paddle.ones([1]).astype(dtype)
        return True
    except RuntimeError:
        return False


# Beyond float16: a plane's sum of squares is 4e8, float16's largest number 65504.
@each_mode
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@each_module
def test_statistics_of_half_precision_are_float32(name, dtype, training):
    rng = np.random.default_rng(7)
    layer = build(name, CHANNELS, training, rng)
    x = paddle.to_tensor(rng.normal(0, 300, (2, CHANNELS, 64, 64)).astype(np.float32)).astype(dtype)
    exact = x.astype("float32").numpy().astype(np.float64)
    expected = oracle(name, layer, training)({"x": exact, **state_of(layer)})
    scale = np.abs(expected).max()
    if layer.weights is not None and not name == "gate":
        found = layer.weights(x)
        assert found.dtype == paddle.float32
        np.testing.assert_allclose(exact * found.numpy(), expected, rtol=1e-4, atol=1e-4 * scale)
    if not cpu_multiplies(dtype):
        return
    x.stop_gradient = False
    y = layer(x)
    assert y.dtype == x.dtype
    np.testing.assert_allclose(y.astype("float32").numpy(), expected, rtol=2**-6, atol=2**-6 * scale)
    y.sum().backward()
    assert x.grad.dtype == x.dtype and np.isfinite(x.grad.astype("float32").numpy()).all()


@each_module
def test_flops_are_said(name):
    assert build(name, 64).flops((64, 7, 5)) >= 64 * 7 * 5


# parameters


def hidden(channels, reduction):
    return max(channels // reduction, 8)


BOTTLENECKS = [(48, 16), (256, 16), (576, 16), (256, 4)]


@pytest.mark.parametrize("channels, reduction", BOTTLENECKS)
@pytest.mark.parametrize(
    "name, expected",
    [
        ("se", lambda c, h: 2 * c * h + h + c),
        ("cbam", lambda c, h: 2 * c * h + 98 + 2),
        ("gc", lambda c, h: c + (c * h + h) + 2 * h + (h * c + c)),
        ("coordatt", lambda c, h: 3 * c * h + 2 * h + 2 * c),
    ],
)
def test_parameters_of_bottlenecks(name, expected, channels, reduction):
    assert count(build(name, channels, reduction=reduction)) == expected(channels, hidden(channels, reduction))


def test_parameters_of_se_are_the_papers_from_128_channels_on():
    c, r = 512, 16
    assert count(build("se", c)) == 2 * c * c / r + c / r + c


@pytest.mark.parametrize("channels", [48, 256])
@pytest.mark.parametrize(
    "name, expected",
    [
        ("simam", lambda c: 0),
        ("simam_unit", lambda c: 0),
        ("gate", lambda c: 0),
        ("srm", lambda c: 2 * c + 2 * c),
        ("gct", lambda c: 3 * c),
        ("triplet", lambda c: 300),
        ("lct", lambda c: 2 * c),
    ],
)
def test_parameters(name, expected, channels):
    assert count(build(name, channels)) == expected(channels)


def count(layer) -> int:
    return sum(parameter.size for parameter in layer.parameters() if not parameter.stop_gradient)


@pytest.mark.parametrize("channels, size", [(8, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)])
def test_eca_adapts_its_kernel(channels, size):
    """The odd numbers nearest to 2, 3.5, 4, 4.5, 5, 5.5 and 6."""
    assert count(build("eca", channels)) == size


def test_eca_sees_its_neighbours_only():
    layer, x = build("eca", kernel_size=5), paddle.rand([1, CHANNELS, 3, 3])
    moved = x.clone()
    moved[0, 8] += 1
    changed = np.flatnonzero((layer.weights(moved) - layer.weights(x)).abs().numpy().ravel() > 1e-7)
    assert list(changed) == [6, 7, 8, 9, 10]


# groups


@pytest.mark.parametrize(
    "name, channels, groups",
    [("sge", 256, 64), ("sge", 2048, 64), ("sge", 128, 32), ("sge", 48, 12), ("sge", 144, 36), ("sge", 7, 1)]
    + [("lct", 256, 16), ("lct", 48, 12), ("lct", 24, 6), ("lct", 2, 1)],
)
def test_usual_groups_fit_every_number_of_channels(name, channels, groups):
    assert build(name, channels).groups == groups
    assert build(name, channels, groups=groups).groups == groups


def test_parameters_of_sge_are_two_a_group():
    assert count(build("sge", 256, groups=32)) == 2 * 32


@pytest.mark.parametrize("name", ["sge", "lct"])
def test_groups_that_do_not_fit_are_refused(name):
    with pytest.raises(UserError) as caught:
        build(name, 48, groups=32)
    message = str(caught.value)
    assert all(text in message for text in ("model.attention.groups", "48 channels", "site b3", "32", "24"))


def test_lct_refuses_groups_of_one_channel():
    with pytest.raises(UserError, match="one channel each; give fewer"):
        build("lct", 48, groups=48)


@pytest.mark.parametrize("name", ["eca", "cbam", "triplet"])
def test_even_kernels_are_refused(name):
    with pytest.raises(Exception, match="even.*take 5 or 7"):
        section(name, kernel_size=6)


# how they start


@pytest.mark.parametrize("name", ["gct", "gc"])
def test_starts_as_the_identity(name):
    x = paddle.randn([2, CHANNELS, 5, 4])
    assert np.array_equal(build(name)(x).numpy(), x.numpy())


def test_gc_adds_the_same_to_every_position():
    layer, x = build("gc", rng=np.random.default_rng(8)), paddle.randn([2, CHANNELS, 5, 4])
    added = (layer(x) - x).numpy()
    assert layer.weights is None
    np.testing.assert_allclose(added, np.broadcast_to(added[:, :, :1, :1], added.shape), atol=1e-5)
    assert added[0].std() > 0.1


@pytest.mark.parametrize("name, gate", [("srm", 0.5), ("sge", 1 / (1 + np.exp(-1))), ("lct", 1 / (1 + np.exp(-1)))])
def test_gates_at_rest(name, gate):
    x = paddle.randn([2, CHANNELS, 5, 4])
    np.testing.assert_allclose(build(name).weights(x).numpy().ravel(), gate, rtol=1e-6)


def test_unit_mean():
    x = paddle.randn([2, CHANNELS, 5, 4])
    np.testing.assert_allclose(build("simam_unit").weights(x).mean(axis=[2, 3]).numpy(), 1, rtol=1e-5)
