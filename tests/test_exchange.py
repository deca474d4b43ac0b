"""Gradients averaged over processes through memory: what is written and read, by ranks that are slow in turns."""

import mmap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import paddle
import pytest

from simam_repro.training.exchange import GradientExchange

SHAPES = [[3, 5], [], [7], [2, 2, 2]]


class Threads:
    """Threads in the place of ranks; the last one sleeps after each wait, when the others go on."""

    def __init__(self, rank: int, size: int, barrier: threading.Barrier):
        self.rank, self.size, self.barrier = rank, size, barrier

    def wait(self):
        self.barrier.wait(timeout=10)
        if self.rank == self.size - 1:
            time.sleep(0.05)


def parameters_with(gradients: list[np.ndarray]) -> list[paddle.Tensor]:
    parameters = [paddle.zeros(gradient.shape) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients):
        parameter.stop_gradient = False
        (parameter * paddle.to_tensor(gradient)).sum().backward()
    return parameters


@pytest.mark.parametrize("size", [2, 3])
def test_every_rank_gets_the_mean_however_slow_another_is(size):
    steps = 3
    draw = np.random.default_rng(0).standard_normal
    gradients = [[[draw(shape, np.float32) for shape in SHAPES] for _ in range(size)] for _ in range(steps)]
    memory = mmap.mmap(-1, 4 * size * sum(gradient.size for gradient in gradients[0][0]))
    barrier = threading.Barrier(size)

    networks = [parameters_with(gradients[0][rank]) for rank in range(size)]

    def train(rank):
        parameters = networks[rank]
        exchange = GradientExchange(parameters, Threads(rank, size, barrier), memory)
        means = []
        for step in range(steps):
            for parameter, gradient in zip(parameters, gradients[step][rank]):
                parameter.grad.set_value(gradient)
            exchange()
            means.append([parameter.grad.numpy() for parameter in parameters])
        return means

    with ThreadPoolExecutor(size) as threads:
        results = list(threads.map(train, range(size)))
    for step in range(steps):
        for at in range(len(SHAPES)):
            expected = np.mean([gradients[step][rank][at].astype(np.float64) for rank in range(size)], axis=0)
            for rank in range(size):
                np.testing.assert_allclose(results[rank][step][at], expected, rtol=0, atol=1e-6)
                np.testing.assert_array_equal(results[rank][step][at], results[0][step][at])
