"""What a run knows about itself: its records, and how far the epoch in progress has got."""

import json
import math
import random
import time
from dataclasses import asdict, dataclass

import numpy as np
import paddle

from simam_repro.errors import RunError
from simam_repro.storage import write_text
from simam_repro.training.divergence import REMEDY, broken_weights
from simam_repro.training.parallel import Ranks


@dataclass
class EpochSoFar:
    """Sums over the training steps of the epoch in progress, of all ranks."""

    steps: int = 0
    images: int = 0
    loss_sum: float = 0.0
    nll_sum: float = 0.0
    hits: float = 0.0
    last_batch_loss: float | None = None
    learning_rate: float | None = None
    seconds: float = 0.0
    wait_seconds: float = 0.0


@dataclass
class BatchMeans:
    """The evaluation as the original AlexNet experiment reports it, from one value per batch.

    Its accuracy is the unweighted mean over the batches, so an image of a smaller last batch counts more. Its loss is
    the sum of the batches' mean objectives (label smoothing included) times the batch size over the number of images.
    """

    batches: int = 0
    acc_sum: float = 0.0
    loss_sum: float = 0.0

    def add(self, hits: float, loss: float, images: int, batch_images: int) -> None:
        """One batch: `hits` and the mean objective of the `images` of it that this rank has."""
        self.batches += 1
        self.acc_sum += hits / batch_images
        self.loss_sum += loss * images / batch_images


class Recorder(paddle.callbacks.Callback):
    """Counts epochs and steps from 1, seeds each step, and keeps `records`: the lines of metrics.jsonl.

    A record: epoch, lr (of the last step), train_loss (the objective, label smoothing included),
    train_nll and eval_loss (plain cross-entropy), train_acc, eval_acc (fractions), all means over all
    samples; evaluated_on, whose samples those of eval_* are: "eval", or "validation" with data.validation_fraction;
    train_last_batch_loss, eval_last_batch_loss (the objective; what hapi, and so the original Caltech
    experiment, reports); eval_batch_mean_acc and eval_scaled_loss, what the original AlexNet experiment reports
    (see BatchMeans); train_seconds, eval_seconds, train_images_per_s, eval_images_per_s;
    train_wait_seconds, the part of train_seconds in which the network waited for images.

    `state()` is all of this as JSON values, at any moment between two batches; a Recorder made from it goes on.
    It is the same in all ranks, but for the times: those are the rank's own, except the wait, which is the mean.
    """

    def __init__(self, run, loaders, experiment, state: dict | None = None, ranks: Ranks = Ranks()):
        super().__init__()
        self.ranks = ranks
        self.run, self.loaders, self.seed = run, loaders, experiment.seed
        self.best_from = experiment.train.best_from
        state = state or {"records": [], "epoch_so_far": {}, "seconds": 0.0}
        self.records = list(state["records"])
        self.best_after = state.get("best_after", 0)
        self.so_far = EpochSoFar(**state["epoch_so_far"])
        self._began = time.perf_counter() - state["seconds"]

    def state(self) -> dict:
        return {
            "epoch": len(self.records),
            "step": self.step,
            "records": self.records,
            "best_after": self.best_after,
            "epoch_so_far": asdict(self.so_far),
            "seconds": self.seconds,
        }

    @property
    def seconds(self) -> float:
        """Wall time of the run up to now, over all sessions (what a session lost when it died is not in it)."""
        return time.perf_counter() - self._began

    @property
    def epoch(self) -> int:
        """The epoch in progress."""
        return len(self.records) + 1

    @property
    def step(self) -> int:
        """Training steps done in the whole run."""
        return len(self.records) * len(self.loaders.train) + self.so_far.steps

    @property
    def batch_images(self) -> int:
        """Images of the training batch in progress, of all ranks."""
        return self.loaders.train.batch_sampler.batch_images(self.so_far.steps)

    @property
    def best(self) -> dict:
        """The record of the best `eval_acc`, the earliest of equals; the last while none beats the target.

        Of the epochs behind `best_after`: the weights of the earlier ones are lost.
        """
        beating = [record for record in self.records[self.best_after :] if record["eval_acc"] > self.best_from]
        return max(beating, key=lambda record: record["eval_acc"]) if beating else self.records[-1]

    def write_metrics(self) -> None:
        if self.ranks.first:
            write_text(self.run.metrics, "".join(json.dumps(record) + "\n" for record in self.records))

    @property
    def _place(self) -> str:
        return f"after epoch {self.epoch}, step {self.so_far.steps} (lr {self.so_far.learning_rate:g})"

    def check_weights(self) -> None:
        """Raises RunError when the weights are not finite: such weights are not worth a checkpoint."""
        if broken := broken_weights(self.model.network):
            raise RunError(f"{self._place} {broken}. {REMEDY}")

    def on_epoch_begin(self, epoch, logs=None):
        so_far = self.so_far
        self.loaders.set_epoch(self.epoch, skip=so_far.steps)
        self._epoch_began = time.perf_counter() - so_far.seconds
        self._waited_before = so_far.wait_seconds

    def on_train_batch_begin(self, step, logs=None):
        # hapi's schedule moves on when the step ends: this is the lr that the step uses.
        self.so_far.learning_rate = self.model._optimizer.get_lr()
        self.model._metrics[0].reset()
        self.seed_step()

    def seed_step(self) -> None:
        """Every random generator follows from (seed, epoch, step), so a checkpoint needs none of their states."""
        entropy = [self.seed, self.epoch, self.so_far.steps + 1]
        if self.ranks.size > 1:
            entropy.append(self.ranks.rank)
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        paddle.seed(seed)

    def on_train_batch_end(self, step, logs=None):
        # hapi has the loss and the metrics of this rank's share; see `weigh_by_share` for the loss.
        so_far, ranks, images = self.so_far, self.ranks, self.batch_images
        own = [float(logs["loss"][0]), *self.model._metrics[0].sums, self.loaders.train.wait_seconds]
        losses, nll, hits, waits = ranks.total(own).tolist()
        loss = losses / ranks.size
        so_far.steps += 1
        so_far.images += images
        so_far.loss_sum += loss * images
        so_far.last_batch_loss = loss
        so_far.nll_sum += nll
        so_far.hits += hits
        so_far.seconds = time.perf_counter() - self._epoch_began
        so_far.wait_seconds = self._waited_before + waits / ranks.size

    def on_eval_begin(self, logs=None):
        self._eval_began = time.perf_counter()
        self._eval_sums, self._eval_images, self._batch_means = np.zeros(2), 0, BatchMeans()

    def on_eval_batch_end(self, step, logs=None):
        means = self.model._metrics[0]  # hapi empties it before the end of the evaluation
        self._last_batch_images = means.count - self._eval_images
        hits = float(means.sums[1] - self._eval_sums[1])
        batch_images = self.loaders.watched.batch_sampler.batch_images(self._batch_means.batches)
        self._batch_means.add(hits, float(logs["loss"][0]), self._last_batch_images, batch_images)
        self._eval_sums, self._eval_images = means.sums.copy(), means.count

    def on_eval_end(self, logs=None):
        so_far, ranks = self.so_far, self.ranks
        sampler, batches = self.loaders.watched.batch_sampler, self._batch_means
        images = len(sampler.indices)
        nll, accuracy = (ranks.total(self._eval_sums) / images).tolist()
        last_loss = ranks.mean(float(logs["loss"][0]), self._last_batch_images)
        acc_sum, loss_sum = ranks.total([batches.acc_sum, batches.loss_sum]).tolist()
        seconds = time.perf_counter() - self._eval_began
        if not math.isfinite(nll):
            self.check_weights()
            raise RunError(
                f"the {self.loaders.watched_name} loss is {nll} {self._place}: the network's outputs overflow. {REMEDY}"
            )
        self.records.append(
            {
                "epoch": self.epoch,
                "lr": so_far.learning_rate,
                "train_loss": so_far.loss_sum / so_far.images,
                "train_last_batch_loss": so_far.last_batch_loss,
                "train_nll": so_far.nll_sum / so_far.images,
                "train_acc": so_far.hits / so_far.images,
                "train_seconds": so_far.seconds,
                "train_wait_seconds": so_far.wait_seconds,
                "train_images_per_s": so_far.images / so_far.seconds,
                "evaluated_on": self.loaders.watched_name,
                "eval_loss": nll,
                "eval_acc": accuracy,
                "eval_last_batch_loss": last_loss,
                "eval_batch_mean_acc": acc_sum / batches.batches,
                "eval_scaled_loss": loss_sum * sampler.batch_size / images,
                "eval_seconds": seconds,
                "eval_images_per_s": images / seconds,
            }
        )
        self.so_far = EpochSoFar()
        self.write_metrics()
