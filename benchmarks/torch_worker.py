"""PyTorch's side of the benchmarks, in eager mode, channels-last or compiled; see workers.py."""

import functools
import os
import time

import torch
import torch_networks
from torch.nn import functional as F
from workers import WARM_UP_CALLS, awake, serve, warmed_up

RANKS = int(os.environ.get("WORLD_SIZE", "1"))


@functools.cache
def network_and_batch(network: str, size: int, batch: int, attention: str, mode: str):
    torch.manual_seed(0)
    model = torch_networks.BUILD[network](16, attention == "simam")
    images, labels = torch.randn(batch // RANKS, 3, size, size), torch.randint(0, 16, (batch // RANKS,))
    if mode == "channels_last":
        model, images = (value.to(memory_format=torch.channels_last) for value in (model, images))
    if RANKS > 1:
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")
        model = torch.nn.parallel.DistributedDataParallel(model)
    return torch.compile(model) if mode == "compile" else model, images, labels


@functools.cache
def trainer(warm_up, *key):
    model, images, labels = network_and_batch(*key)
    momentum = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)

    def step():
        model.train()
        momentum.zero_grad()
        logits = model(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=0.1)
        loss.backward()
        momentum.step()
        # What the other side does too: the loss, the plain cross-entropy and the hits, as numbers.
        with torch.no_grad():
            return loss.item(), F.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).sum().item()

    return warmed_up(step, warm_up)


@functools.cache
def predictor(warm_up, *key):
    model, images, _ = network_and_batch(*key)

    def predict():
        model.eval()  # it may be one that a trainer has
        with torch.no_grad():
            return model(images).numpy()

    return warmed_up(predict, warm_up)


@functools.cache
def operator(mode: str, length: int):
    simam = torch_networks.SimAM(1e-4)
    layer = torch.compile(simam) if mode == "compile" else simam

    def apply(y):
        for _ in range(length):
            y = layer(y)
        return y

    return apply


@functools.cache
def tensors(shape):
    return torch.randn(shape, requires_grad=True), torch.randn(shape)


def chain(shape, mode, length):
    x, gradient = tensors(shape)
    return torch.autograd.grad([operator(mode, length)(x)], [x], [gradient])


def clones(shape):
    x, gradient = tensors(shape)
    with torch.no_grad():
        return x.clone(), gradient.clone(), x.clone()


def run(what, steps, mode="eager", network="", size=0, batch=0, attention="none", shape=(), length=1,
        warm_up=WARM_UP_CALLS):  # fmt: skip
    """Seconds for `steps` repetitions, after warming up."""
    if what == "op":
        shape = tuple(shape)
        work = functools.partial(clones, shape) if mode == "clones" else functools.partial(chain, shape, mode, length)
        awake(work)
    else:
        work = {"train": trainer, "infer": predictor}[what](warm_up, network, size, batch, attention, mode)
        work()  # as `awake`; processes that work together must agree on the number of calls
    began = time.perf_counter()
    for _ in range(steps):
        work()
    return {"seconds": time.perf_counter() - began}


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
    serve(run)
