"""Compiled operators against Paddle's own at random: shapes, strides, paddings; values and gradients."""

import ctypes

import numpy as np
import paddle
import pytest
from paddle.nn import functional as F

from simam_repro import ops
from simam_repro.ops.fused import built

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


# By Winograd's filtering: 3x3, stride 1, from 32 channels on. Maps smaller than a vector, odd ones, more than a chunk.
@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize(
    "images, inputs, outputs, size, padding",
    [
        (5, 32, 40, (7, 7), (1, 1)),
        (3, 33, 35, (2, 2), (1, 1)),
        (2, 64, 48, (9, 16), (0, 0)),
        (2, 48, 64, (12, 33), (2, 1)),
        (1, 32, 32, (17, 8), (0, 2)),
        (3, 32, 32, (100, 90), (1, 1)),
        (70, 96, 32, (16, 4), (1, 1)),
    ],
)
def test_winograd_convolution(images, inputs, outputs, size, padding, dtype):
    rng = np.random.default_rng(images)
    x = rng.normal(size=(images, inputs, *size)).astype(dtype)
    weight = rng.normal(size=(outputs, inputs, 3, 3)).astype(dtype)
    if not ops.convolves(paddle.to_tensor(x), paddle.to_tensor(weight), [1, 1], padding):
        pytest.skip("this Paddle brings no MKL")

    def ours(x, weight):
        return ops.convolve(x, weight, [1, 1], padding)

    def reference(x, weight):
        return F.conv2d(x, weight, None, 1, padding)

    exact = results(reference, x.astype("float64"), weight.astype("float64"))
    largest = [np.abs(value).max() for value in exact]
    for mine, value, most in zip(results(ours, x, weight), exact, largest, strict=True):
        assert mine.dtype == dtype and mine.shape == value.shape
        np.testing.assert_allclose(mine, value, rtol=0, atol=(3e-6 if dtype == "float32" else 1e-13) * most)


def test_winograd_loses_no_digits_to_a_large_mean():
    """Its sums and differences of neighbours are no less exact than Paddle's own products, within a factor of 4."""
    rng = np.random.default_rng(0)
    x = (100 + rng.normal(size=(4, 64, 14, 14))).astype("float32")
    weight = rng.normal(size=(64, 64, 3, 3)).astype("float32")
    tensors = paddle.to_tensor(x), paddle.to_tensor(weight)
    if not ops.convolves(*tensors, [1, 1], [1, 1]):
        pytest.skip("this Paddle brings no MKL")
    exact = F.conv2d(*(value.astype("float64") for value in tensors), None, 1, 1).numpy()
    errors = [
        np.sqrt(((value.numpy() - exact) ** 2).mean())
        for value in (ops.convolve(*tensors, [1, 1], [1, 1]), F.conv2d(*tensors, None, 1, 1))
    ]
    assert errors[0] < 4 * errors[1]


def test_the_number_of_threads_changes_no_bit_of_winograd():
    rng = np.random.default_rng(0)
    x, weight = (rng.normal(size=shape).astype("float32") for shape in ((6, 48, 50, 50), (40, 48, 3, 3)))
    library, bits = ctypes.CDLL(str(built())), set()
    for threads in (1, 2, 3):
        library.simam_set_num_threads(threads)
        values = results(lambda x, weight: ops.convolve(x, weight, [1, 1], [1, 1]), x, weight)
        bits.add(b"".join(value.tobytes() for value in values))
    library.simam_set_num_threads(paddle.get_flags("FLAGS_paddle_num_threads")["FLAGS_paddle_num_threads"])
    assert len(bits) == 1
