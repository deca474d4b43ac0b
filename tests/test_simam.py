import numpy as np
import paddle
import pytest

from simam_repro import ops
from simam_repro.attention.simam import inverse_energy
from simam_repro.models import SimAM, simam

SHAPES = [(2, 3, 8, 8), (1, 2, 5, 9), (2, 1, 1, 7), (3, 4, 2, 2), (2, 3, 1, 1), (1, 1, 64, 3)]
LAMBDAS = [1e-4, 1e-5, 0.1]
EXACT = 1e-11  # so lambda is added with float64's digits, which Paddle 2.6 does not do by itself


@pytest.fixture(autouse=True, params=["fused", "plain"])
def both_ways(request, monkeypatch):
    """Every test runs with the compiled operator and with Paddle's own."""
    if request.param == "plain":
        monkeypatch.setattr(ops.fused, "load", lambda: False)
    elif not ops.load():
        pytest.skip("no compiler here")


@pytest.fixture(autouse=True)
def on_cpu():
    device = paddle.get_device()
    paddle.set_device("cpu")
    yield
    paddle.set_device(device)


def values(shape, seed=0, scale=1.0, offset=0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(offset, scale, shape)


def original(x, e_lambda) -> np.ndarray:
    """What both original experiments compute, plane by plane; n = H*W - 1, which 1x1 maps make 0."""
    result = np.empty_like(x)
    for plane, out in zip(x.reshape(-1, *x.shape[2:]), result.reshape(-1, *x.shape[2:])):
        d = (plane - plane.mean()) ** 2
        v = d.sum() / max(plane.size - 1, 1)
        out[...] = plane / (1 + np.exp(-(d / (4 * (v + e_lambda)) + 0.5)))
    return result


@pytest.mark.parametrize("e_lambda", LAMBDAS)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_is_the_originals_formula(shape, e_lambda):
    x = values(shape, offset=0.3)
    result = SimAM(e_lambda)(paddle.to_tensor(x))
    assert result.dtype == paddle.float64 and list(result.shape) == list(shape)
    np.testing.assert_allclose(result.numpy(), original(x, e_lambda), rtol=EXACT)


@pytest.mark.parametrize("shape", SHAPES)
def test_float32_forward(shape):
    x = values(shape).astype(np.float32)
    result = SimAM()(paddle.to_tensor(x))
    assert result.dtype == paddle.float32
    np.testing.assert_allclose(result.numpy(), original(x.astype(np.float64), 1e-4), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("e_lambda", LAMBDAS)
def test_inverse_energy_inverts_the_papers_minimal_energy(e_lambda):
    # e* = 4 (s2 + lambda) / ((t - mu)^2 + 2 s2 + 2 lambda)
    x = values((2, 3, 6, 5), scale=0.1)
    s2 = x.var(axis=(2, 3), ddof=1, keepdims=True)
    energy = 4 * (s2 + e_lambda) / ((x - x.mean(axis=(2, 3), keepdims=True)) ** 2 + 2 * s2 + 2 * e_lambda)
    np.testing.assert_allclose(inverse_energy(paddle.to_tensor(x), e_lambda).numpy(), 1 / energy, rtol=EXACT)


def test_default_lambda():
    x = paddle.to_tensor(values((1, 2, 3, 3), scale=0.01))
    assert np.array_equal(SimAM()(x).numpy(), SimAM(1e-4)(x).numpy())
    assert np.abs(SimAM()(x).numpy() - SimAM(1e-5)(x).numpy()).max() > 1e-5


def test_planes_do_not_mix():
    x = values((2, 3, 4, 4))
    whole = simam(paddle.to_tensor(x)).numpy()
    for image in range(2):
        for channel in range(3):
            alone = simam(paddle.to_tensor(x[image : image + 1, channel : channel + 1])).numpy()[0, 0]
            np.testing.assert_allclose(whole[image, channel], alone, rtol=1e-13)


@pytest.mark.parametrize("e_lambda", LAMBDAS)
@pytest.mark.parametrize("shape", [(1, 2, 3, 4), (2, 1, 2, 2), (1, 2, 1, 1), (1, 1, 1, 5)])
def test_gradient_is_the_slope(shape, e_lambda):
    x, weights = values(shape, seed=1), values(shape, seed=2)
    tensor = paddle.to_tensor(x, stop_gradient=False)
    (simam(tensor, e_lambda) * paddle.to_tensor(weights)).sum().backward()
    step = 1e-6
    slopes = np.empty(shape)
    for index in np.ndindex(*shape):
        offset = np.zeros(shape)
        offset[index] = step
        rise = ((original(x + offset, e_lambda) - original(x - offset, e_lambda)) * weights).sum()
        slopes[index] = rise / (2 * step)
    np.testing.assert_allclose(tensor.grad.numpy(), slopes, rtol=1e-6, atol=1e-8)


# planes without variance


def test_one_neuron_is_weighed_by_half():
    x = paddle.to_tensor(values((4, 3, 1, 1)).astype(np.float32), stop_gradient=False)
    result = SimAM()(x)
    result.sum().backward()
    np.testing.assert_allclose(result.numpy(), x.numpy() / (1 + np.exp(-0.5)), rtol=1e-6)
    assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("value", [0.0, 3.0, -1000.0])
def test_constant_plane(value):
    x = paddle.full([2, 3, 7, 7], value)
    x.stop_gradient = False
    result = SimAM(1e-5)(x)
    result.sum().backward()
    np.testing.assert_allclose(result.numpy(), np.full((2, 3, 7, 7), value / (1 + np.exp(-0.5))), rtol=1e-4)
    assert np.isfinite(x.grad.numpy()).all()


# float16 and bfloat16


def reduced(x, dtype):
    """x in float16 or bfloat16, and the float64 array of the same (rounded) values."""
    tensor = paddle.to_tensor(x.astype(np.float32)).astype(dtype)
    return tensor, tensor.astype("float32").numpy().astype(np.float64)


def cpu_multiplies(dtype) -> bool:
    try:
        paddle.ones([1]).astype(dtype) * paddle.ones([1]).astype(dtype)
        return True
    except RuntimeError:
        return False


# Beyond float16 (a plane's sum of squares is 4e8, its largest number 65504), and beyond bfloat16's digits.
LARGE = {"spread": values((1, 2, 64, 64), scale=300), "offset": values((1, 2, 64, 64), scale=3, offset=300)}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("x", LARGE.values(), ids=LARGE.keys())
def test_statistics_are_float32(x, dtype):
    tensor, rounded = reduced(x, dtype)
    result = inverse_energy(tensor)
    centred = (rounded - rounded.mean(axis=(2, 3), keepdims=True)) ** 2
    expected = centred / (4 * (rounded.var(axis=(2, 3), ddof=1, keepdims=True) + 1e-4)) + 0.5
    assert result.dtype == paddle.float32
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-3)


@pytest.mark.parametrize(("dtype", "digits"), [("float16", 2**-9), ("bfloat16", 2**-6)])
@pytest.mark.parametrize("x", LARGE.values(), ids=LARGE.keys())
def test_reduced_input_gives_reduced_output(x, dtype, digits):
    if not cpu_multiplies(dtype):
        pytest.skip(f"paddle {paddle.__version__} multiplies no {dtype} on a CPU")
    tensor, rounded = reduced(x, dtype)
    tensor.stop_gradient = False
    result = SimAM()(tensor)
    assert result.dtype == tensor.dtype
    np.testing.assert_allclose(result.astype("float32").numpy(), original(rounded, 1e-4), rtol=digits)
    result.sum().backward()
    assert tensor.grad.dtype == tensor.dtype
    assert np.isfinite(tensor.grad.astype("float32").numpy()).all()


# the layer


@pytest.mark.parametrize("shape", [[4], [2, 3, 4], [1, 2, 3, 4, 5]])
def test_input_must_be_4d(shape):
    with pytest.raises(ValueError, match="shape") as caught:
        SimAM()(paddle.zeros(shape))
    assert str(shape) in str(caught.value) and "[N, C, H, W]" in str(caught.value)


@pytest.mark.parametrize("e_lambda", [0, 0.0, -1e-4, float("nan")])
def test_lambda_must_be_positive(e_lambda):
    with pytest.raises(ValueError, match="e_lambda > 0"):
        SimAM(e_lambda)


def test_layer_has_no_state():
    layer = SimAM()
    assert list(layer.parameters()) == [] and dict(layer.state_dict()) == {} and list(layer.buffers()) == []


def test_layer_prints_its_lambda():
    assert SimAM(1e-5).extra_repr() == "e_lambda=1e-05"
    assert "SimAM(e_lambda=0.1)" in repr(SimAM(0.1))
