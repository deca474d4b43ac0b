"""Averaging gradients over processes of one machine through memory that they share.

gloo, Paddle's way on a CPU, sends them through sockets even from a process to its neighbour: for the 30 MB of AlexNet
an eighth of a step. Here it is three passes over memory.
"""

import contextlib
import ctypes
import mmap
import os

import numpy as np
import paddle

from simam_repro.training.parallel import Ranks

NAME = "simam_repro-gradients"
TOKEN_WORDS = 4


class GradientExchange:
    """Sets the gradients of `parameters` (float32, on the CPU) to their means over the ranks, when all ranks call it.

    All get the same numbers, so that they keep the same weights.
    """

    def __init__(self, parameters: list[paddle.Tensor], ranks: Ranks, memory: mmap.mmap):
        """`memory`: one float32 for each element of the parameters, for each rank; the ranks' own."""
        ends = np.cumsum([parameter.size for parameter in parameters])
        self.places = [slice(end - parameter.size, end) for parameter, end in zip(parameters, ends)]
        self.parameters, self.ranks = parameters, ranks
        self.shares = np.frombuffer(memory, np.float32).reshape(ranks.size, -1)
        bounds = np.linspace(0, self.shares.shape[1], ranks.size + 1).astype(int)
        self.piece = slice(*bounds[ranks.rank : ranks.rank + 2])

    def __call__(self) -> None:
        own, part = self.shares[self.ranks.rank], np.float32(1 / self.ranks.size)
        gradients = [_values(parameter.grad) for parameter in self.parameters]
        for gradient, place in zip(gradients, self.places):
            np.multiply(gradient, part, out=own[place])
        self.ranks.wait()
        # Each rank adds up its piece, into the first share: what all read does not grow with their number.
        means = self.shares[0, self.piece]
        with np.errstate(all="ignore"):  # what is not finite is told by the loss
            for share in self.shares[1:]:
                means += share[self.piece]
        self.ranks.wait()
        for gradient, place in zip(gradients, self.places):
            gradient[:] = self.shares[0, place]
        self.ranks.wait()  # nobody writes anew while another still reads


def _values(gradient: paddle.Tensor) -> np.ndarray:
    """A tensor's own memory, flat."""
    assert gradient.dtype == paddle.float32 and gradient.is_contiguous() and gradient.place.is_cpu_place()
    return np.ctypeslib.as_array((ctypes.c_float * gradient.size).from_address(gradient.data_ptr()))


def average_through_memory(model: paddle.Model, ranks: Ranks) -> None:
    """Have `model` average its gradients so instead of by DataParallel, if the ranks can; for all of them to call.

    They can on the CPU of one machine that has Linux.
    """
    parameters = [parameter for parameter in model.network.parameters() if not parameter.stop_gradient]
    if not parameters[0].place.is_cpu_place():
        return
    memory = _shared_memory(ranks.size * 4 * sum(parameter.size for parameter in parameters), ranks)
    if memory is None:
        return
    exchange, optimizer = GradientExchange(parameters, ranks, memory), model._optimizer
    minimize = optimizer.minimize

    def exchange_and_minimize(*arguments):
        exchange()
        return minimize(*arguments)

    optimizer.minimize = exchange_and_minimize
    model._adapter.ddp_model.grad_need_sync = False  # as in DataParallel.no_sync


def _shared_memory(size: int, ranks: Ranks) -> mmap.mmap | None:
    """`size` bytes that all ranks see, freed with the last of them; None for all where one of them cannot."""
    # A file of no folder: the others find it among the first's open files, and know it by what it begins with.
    memory, told = None, np.zeros(2 + TOKEN_WORDS, np.int64)
    with contextlib.ExitStack() as opened:
        if ranks.first:
            with contextlib.suppress(OSError, AttributeError):  # not on Linux, or not allowed
                file = os.memfd_create(NAME)
                opened.callback(os.close, file)
                os.ftruncate(file, size)
                memory = mmap.mmap(file, size)
                token = np.frombuffer(os.urandom(8 * TOKEN_WORDS), np.int64)
                _token(memory)[:] = token
                told = np.array([os.getpid(), file, *token])
        told = ranks.total(told)
        if not ranks.first:
            with contextlib.suppress(OSError, ValueError):  # of another machine, or not allowed
                path = f"/proc/{told[0]}/fd/{told[1]}"
                if not os.readlink(path).startswith(f"/memfd:{NAME}"):  # opening something else may do something
                    raise OSError
                file = os.open(path, os.O_RDWR)
                opened.callback(os.close, file)
                memory = mmap.mmap(file, size)
        found = memory is not None and np.array_equal(_token(memory), told[2:])
        everywhere = ranks.total(np.array([found], np.int64)).item() == ranks.size
    return memory if everywhere else None


def _token(memory: mmap.mmap) -> np.ndarray:
    return np.frombuffer(memory, np.int64, TOKEN_WORDS)
