"""What happens around `paddle.Model.fit`: records, checkpoints, VisualDL, the terminal.

hapi hands every callback one shared, mutable `logs` dict whose loss is the last batch's. `Recorder`
is the only one that reads it; it makes an epoch's record, and the others read that. They stand behind
it in the callback list, and hapi calls them in order.
"""

import json
import math
import sys
import time

import numpy as np
import paddle
from tqdm import tqdm

from simam_repro.errors import RunError
from simam_repro.storage import write_text
from simam_repro.training.checkpoints import copy_checkpoint, save_checkpoint


class Recorder(paddle.callbacks.Callback):
    """Counts epochs from 1, seeds each, and keeps `records`: the lines of metrics.jsonl.

    A record: epoch, lr (of the last step), train_loss (the objective, label smoothing included),
    train_nll and eval_loss (plain cross-entropy), train_acc, eval_acc (fractions), all means over all
    samples; train_last_batch_loss, eval_last_batch_loss (the objective; what hapi, and so the original
    experiments, would report); train_seconds, eval_seconds, train_images_per_s, eval_images_per_s;
    train_wait_seconds, the part of train_seconds in which the network waited for images.
    """

    def __init__(self, run, loaders, experiment, records=()):
        super().__init__()
        self.run, self.loaders, self.seed = run, loaders, experiment.seed
        self.best_from = experiment.train.best_from
        self.records = list(records)
        self.step = len(self.records) * len(loaders.train)
        self.batch_loss = math.nan

    @property
    def epoch(self) -> int:
        return len(self.records) + 1

    @property
    def learning_rate(self) -> float:
        return self.model._optimizer.get_lr()

    def on_epoch_begin(self, epoch, logs=None):
        self.loaders.set_epoch(self.epoch)
        # An epoch's dropout follows from (seed, epoch): a resumed run draws what an unbroken one draws.
        paddle.seed(int(np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)[0]))
        self._loss_sum = self._images = 0
        self._train_begin = time.perf_counter()

    def on_train_batch_end(self, step, logs=None):
        self.step += 1
        self.batch_loss = float(logs["loss"][0])
        if not math.isfinite(self.batch_loss):
            raise RunError(
                f"the training loss is {self.batch_loss} at epoch {self.epoch}, step {step + 1} "
                f"(lr {self.learning_rate:g}); a lower optim.learning_rate usually cures it"
            )
        self._loss_sum += self.batch_loss * logs["batch_size"]
        self._images += logs["batch_size"]

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self._train_begin
        self._record = {
            "epoch": self.epoch,
            "lr": self._last_learning_rate,
            "train_loss": self._loss_sum / self._images,
            "train_last_batch_loss": self.batch_loss,
            "train_nll": logs["nll"],
            "train_acc": logs["acc"],
            "train_seconds": seconds,
            "train_wait_seconds": self.loaders.train.wait_seconds,
            "train_images_per_s": self._images / seconds,
        }

    def on_train_batch_begin(self, step, logs=None):
        # hapi's own callback steps the schedule after ours have run: this is the lr that the step uses.
        self._last_learning_rate = self.learning_rate

    def on_eval_begin(self, logs=None):
        self._eval_begin = time.perf_counter()

    def on_eval_end(self, logs=None):
        seconds = time.perf_counter() - self._eval_begin
        if not math.isfinite(logs["nll"]):
            raise RunError(
                f"the eval loss is {logs['nll']} after epoch {self.epoch} (lr {self._last_learning_rate:g}): "
                f"the weights are no numbers any more; a lower optim.learning_rate usually cures it"
            )
        images = len(self.loaders.eval_indices)
        self.records.append(
            {
                **self._record,
                "eval_loss": logs["nll"],
                "eval_acc": logs["acc"],
                "eval_last_batch_loss": float(logs["loss"][0]),
                "eval_seconds": seconds,
                "eval_images_per_s": images / seconds,
            }
        )
        write_text(self.run.metrics, "".join(json.dumps(record) + "\n" for record in self.records))

    @property
    def best(self) -> dict:
        """The record of the best eval accuracy, the earliest of equals; the last while none beats the target."""
        beating = [record for record in self.records if record["eval_acc"] > self.best_from]
        return max(beating, key=lambda record: record["eval_acc"]) if beating else self.records[-1]


class Checkpoints(paddle.callbacks.Callback):
    """Saves `checkpoints/last` after every epoch and `checkpoints/best` when eval accuracy is a new best."""

    def __init__(self, run, recorder: Recorder):
        super().__init__()
        self.run, self.recorder = run, recorder

    def on_eval_end(self, logs=None):
        state = {"epoch": self.recorder.records[-1]["epoch"], "records": self.recorder.records}
        save_checkpoint(self.run.last, self.model.network, self.model._optimizer, state)
        if self.recorder.best is self.recorder.records[-1]:
            copy_checkpoint(self.run.last, self.run.best)


class Terminal(paddle.callbacks.Callback):
    """A line an epoch on stdout and, on a terminal, a bar with the time left for the whole run."""

    def __init__(self, recorder: Recorder, epochs: int, steps: int, name: str):
        super().__init__()
        self.recorder, self.epochs, self.steps, self.name = recorder, epochs, steps, name

    def on_train_begin(self, logs=None):
        self.bar = tqdm(
            total=self.epochs * self.steps, initial=self.recorder.step, desc=self.name, unit="step",
            disable=None, file=sys.stderr, dynamic_ncols=True, leave=False,
        )  # fmt: skip

    def on_train_batch_end(self, step, logs=None):
        self.bar.set_postfix(epoch=self.recorder.epoch, loss=f"{self.recorder.batch_loss:.3f}", refresh=False)
        self.bar.update()

    def on_eval_end(self, logs=None):
        record, best = self.recorder.records[-1], self.recorder.best
        with self.bar.external_write_mode():
            print(
                f"{self.name}  epoch {record['epoch']:3d}/{self.epochs}  lr {record['lr']:.2e}  "
                f"train loss {record['train_loss']:.4f} acc {record['train_acc']:6.2%}  "
                f"eval loss {record['eval_loss']:.4f} acc {record['eval_acc']:6.2%} "
                f"(best {best['eval_acc']:6.2%} at {best['epoch']})  "
                f"{record['train_images_per_s']:.1f} images/s "
                f"(waited for data {record['train_wait_seconds'] / record['train_seconds']:.1%})",
                flush=True,
            )

    def on_train_end(self, logs=None):
        self.bar.close()
