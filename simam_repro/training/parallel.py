"""Several processes that train one network (data parallel): who they are and what they tell each other.

Each process ("rank") has its share of every batch. hapi, where Paddle's environment says that there are several, makes
the network a `paddle.DataParallel`, which averages the gradients over the ranks, through gloo on CPUs and NCCL on GPUs.
What hapi and DataParallel leave to each rank is done here and in the callbacks: shares of different sizes, the running
statistics of BatchNorm, losses and metrics, and stopping. After each step all ranks hold the same weights, statistics
and sums, so the first can write them for all.
"""

import contextlib
import io
import os
import socket
from dataclasses import dataclass
from typing import Callable

import numpy as np
import paddle
from paddle import distributed

from simam_repro.errors import LostRank
from simam_repro.training.meeting import Meeting, meeting_of_environment


@dataclass(frozen=True)
class Ranks:
    """This process among `size`, counted from 0. Every method but `first` is for all of them to call together."""

    rank: int = 0
    size: int = 1
    meeting: Meeting | None = None

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def total(self, values, largest: bool = False) -> np.ndarray:
        """The sum (or the largest) over the ranks, element by element, in the dtype of `values` (an array's)."""
        values = np.asarray(values)
        if self.size == 1:
            return values
        tensor = paddle.to_tensor(values)
        self.meet()
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX if largest else distributed.ReduceOp.SUM)
        return tensor.numpy()

    def mean(self, value: float, weight: float = 1.0) -> float:
        """The mean over the ranks, each with its weight."""
        if self.size == 1:
            return value
        total, weights = self.total([value * weight, weight])
        return float(total / weights)

    def wait(self) -> None:
        """Until all are here and see what each has written to memory."""
        self.total([0.0])

    def meet(self) -> None:
        """Before a call of `distributed`, which may not wait for long: until all are here."""
        if self.meeting:
            self.meeting.wait(self.rank)

    @contextlib.contextmanager
    def first_before_others(self):
        """The first goes through the block alone, then the others."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()


def join_ranks() -> Ranks:
    """The ranks that Paddle's environment (see cli/launch.py) tells of, able to talk to each other."""
    environment = distributed.ParallelEnv()
    size = max(environment.nranks, 1)
    ranks = Ranks(environment.rank, size, meeting_of_environment(size) if size > 1 else None)
    if size > 1:
        ranks.meet()
        with flags_not_listed():
            distributed.init_parallel_env()
        if ranks.meeting and ranks.first:
            _close_to_other_machines(int(os.environ["PADDLE_MASTER"].rpartition(":")[2]))
    return ranks


def _close_to_other_machines(port: int) -> None:
    """Paddle's rendezvous listens on all addresses. All who should come are there: put a socket for nobody in place."""
    for number in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(number))) as found:
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and found.getsockname()[1] == port:
                with socket.create_server(("127.0.0.1", 0)) as loopback:
                    os.dup2(loopback.fileno(), int(number), inheritable=False)


def flags_not_listed():
    """`init_parallel_env`, which a `paddle.Model` calls too, writes Paddle's changed flags to stderr; not in here."""
    return contextlib.redirect_stderr(io.StringIO())


def evaluate_locally(model: paddle.Model) -> None:
    """Keep hapi from gathering logits in evaluation, which it can of equal shares only: the sums are shared instead."""
    adapter = model._adapter
    whole = adapter.eval_batch

    def eval_batch(inputs, labels=None):
        ranks, adapter._nranks = adapter._nranks, 1
        try:
            return whole(inputs, labels)
        finally:
            adapter._nranks = ranks

    adapter.eval_batch = eval_batch


def weigh_by_share(objective, network, ranks: Ranks, batch_images: Callable[[], int]) -> None:
    """Weigh the training loss so that its mean over the ranks is the mean over the images, whatever the shares.

    The ranks meet there, since the backward pass, which is next, asks the others for gradients.

    Args:
        batch_images: gives the number of images in the whole batch, of all ranks.
    """

    def weigh(layer, inputs, loss):
        if network.training:
            ranks.meet()
            return loss * (ranks.size * inputs[0].shape[0] / batch_images())
        return None

    objective.register_forward_post_hook(weigh)


class SharedStatistics(paddle.callbacks.Callback):
    """After each step the running statistics of every BatchNorm become their mean over the ranks."""

    def __init__(self, network, ranks: Ranks):
        super().__init__()
        self.ranks = ranks
        self.statistics = [tensor for tensor in network.state_dict().values() if tensor.stop_gradient]

    @paddle.no_grad()
    def on_train_batch_end(self, step, logs=None):
        if not self.statistics:
            return
        together = paddle.concat([tensor.flatten() for tensor in self.statistics])
        self.ranks.meet()
        distributed.all_reduce(together)
        pieces = paddle.split(together / self.ranks.size, [tensor.size for tensor in self.statistics])
        for tensor, piece in zip(self.statistics, pieces):
            paddle.assign(piece.reshape(tensor.shape), tensor)


@contextlib.contextmanager
def lost_rank_explained():
    """Turn the failure to reach another rank into LostRank."""
    try:
        yield
    except Exception as error:
        if not any(word in str(error).lower() for word in ("gloo", "nccl")):
            raise
        raise LostRank(
            "another process of this run has died, or did not answer in time. The last checkpoint is kept; "
            "continue with --resume"
        ) from error
