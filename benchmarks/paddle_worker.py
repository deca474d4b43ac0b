"""Paddle's side of the benchmarks; see workers.py. STOCK=1: Paddle as it comes, without this project's settings."""

import functools
import os
import resource
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from ablation import switched_off  # noqa: E402
from workers import WARM_UP_CALLS, awake, serve, warmed_up  # noqa: E402

from simam_repro.cli.process import prepare_process  # noqa: E402

if "STOCK" not in os.environ:
    prepare_process()

import paddle  # noqa: E402

from simam_repro.config import build_experiment  # noqa: E402
from simam_repro.evaluation import InferenceEngine  # noqa: E402
from simam_repro.models import build_model, simam  # noqa: E402
from simam_repro.training.metrics import EpochMeans  # noqa: E402
from simam_repro.training.objective import Objective  # noqa: E402
from simam_repro.training.parallel import join_ranks  # noqa: E402

RANKS = join_ranks()


@functools.cache
def network_and_batch(network: str, size: int, batch: int, attention: str, fused: bool):
    paddle.seed(0)
    config = {"name": "bench", "model": {"backbone": network, "attention": attention, "fused": fused}}
    model = build_model(build_experiment(config).model, 16, size)
    return model, paddle.randn([batch // RANKS.size, 3, size, size]), paddle.randint(0, 16, [batch // RANKS.size])


@functools.cache
def trainer(warm_up, *key):
    network, images, labels = network_and_batch(*key)
    model = paddle.Model(network)
    momentum = paddle.optimizer.Momentum(0.01, 0.9, parameters=network.parameters(), weight_decay=1e-4)
    model.prepare(momentum, Objective(0.1), EpochMeans())

    def step():
        return model.train_batch([images], [labels])

    return warmed_up(step, warm_up)


@functools.cache
def predictor(warm_up, *key):
    network, images, _ = network_and_batch(*key)

    def predict():
        network.eval()  # it may be one that a trainer has
        with paddle.no_grad():
            return network(images).numpy()

    return warmed_up(predict, warm_up)


@functools.cache
def engine(warm_up, *key):
    network, images, _ = network_and_batch(*key)
    predictor = InferenceEngine(network, images.shape[2])
    return warmed_up(lambda: predictor(images).numpy(), warm_up)


@functools.cache
def tensors(shape):
    x, gradient = paddle.randn(shape), paddle.randn(shape)
    x.stop_gradient = False
    return x, gradient


def chain(shape, implementation: str, length: int):
    x, gradient = tensors(shape)
    y = x
    for _ in range(length):
        y = simam(y, 1e-4, fused=implementation == "fused")
    return paddle.grad([y], [x], [gradient])


def product(shape):
    x, y = tensors(shape)
    return paddle.matmul(x.detach(), y)


def clones(shape):
    x, gradient = tensors(shape)
    return x.clone(), gradient.clone(), x.clone()


def run(what: str, steps: int, network="", size=0, batch=0, attention="none", fused=True, shape=(), implementation="",
        length=1, warm_up=WARM_UP_CALLS, without=None):  # fmt: skip
    """Seconds for `steps` repetitions, after warming up.

    Args:
        without: an operator to switch off meanwhile; see ablation.py.
    """
    with switched_off(without):
        return _run(what, steps, (warm_up, network, size, batch, attention, fused), shape, implementation, length)


def _run(what: str, steps: int, key: tuple, shape, implementation: str, length: int) -> dict:
    if what == "product":
        work = functools.partial(product, tuple(shape))
        awake(work)
    elif what == "op":
        shape = tuple(shape)
        work = functools.partial(clones, shape) if implementation == "clones" else functools.partial(
            chain, shape, implementation, length)  # fmt: skip
        awake(work)
    else:
        work = {"train": trainer, "infer": predictor, "engine": engine}[what](*key)
        work()  # as `awake`; processes that work together must agree on the number of calls
    began = time.perf_counter()
    for _ in range(steps):
        work()
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mib": peak}


if __name__ == "__main__":
    serve(run)
