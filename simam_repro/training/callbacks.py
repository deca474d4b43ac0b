"""What happens around `paddle.Model.fit` besides the records: checkpoints and the terminal.

hapi hands every callback one shared, mutable `logs` dict whose loss is the last batch's. `Recorder`
is the only one that reads it; the others read the Recorder. They stand behind it in the callback
list, and hapi calls them in order.
"""

import sys

import paddle
from tqdm import tqdm

from simam_repro.training.amp import scaler_state
from simam_repro.training.checkpoints import keep_best, save_checkpoint
from simam_repro.training.recorder import Recorder
from simam_repro.training.stopping import DeferredSignals

BAR_NAME = 24  # columns of the bar for the end of the experiment's name, which tells the arms apart
WAITED_WORTH_SAYING = 0.1


class Checkpoints(paddle.callbacks.Callback):
    """Saves after every epoch, every `steps` steps, and when a signal asks to stop, which it then delivers.

    Behind all callbacks that change something: what it saves is the state after a step, the schedule's and the log's
    included.
    """

    def __init__(self, run, recorder: Recorder, log, signals: DeferredSignals, steps: int | None):
        super().__init__()
        self.run, self.recorder, self.log, self.signals, self.steps = run, recorder, log, signals, steps
        self.ranks = recorder.ranks

    def on_train_batch_end(self, step, logs=None):
        asked = self._asked_to_stop()
        if asked or (self.steps and self.recorder.step % self.steps == 0):
            self.recorder.check_weights()
            self._save()
        self._stop(asked)

    def on_eval_batch_end(self, step, logs=None):
        asked = self._asked_to_stop()
        if asked:
            self._save()  # evaluation changes nothing: this is the state after the epoch's last step
        self._stop(asked)

    def on_eval_end(self, logs=None):
        asked = self._asked_to_stop()
        self._save()
        if self.ranks.first and self.recorder.best is self.recorder.records[-1]:
            keep_best(self.run)
        self._stop(asked)

    def _asked_to_stop(self) -> int:
        """The signal that any of the ranks has received; 0 for none."""
        return int(self.ranks.total(self.signals.received or 0, largest=True))

    def _save(self) -> None:
        """Everything that decides how the run goes on."""
        if not self.ranks.first:
            return
        state = {
            **self.recorder.state(),
            "loss_scaling": scaler_state(self.model._scaler),
            "visualdl_bytes": self.log.flush() if self.log else None,
        }
        save_checkpoint(self.run, self.model.network, self.model._optimizer, state)

    def _stop(self, signal_number: int) -> None:
        if signal_number:
            self.ranks.wait()  # for the checkpoint: none leaves before it is saved
            self.signals.deliver(signal_number)


class Terminal(paddle.callbacks.Callback):
    """A line an epoch on stdout and, on a terminal, a bar with the time left for the whole run.

    Behind Checkpoints: what is told is saved.
    """

    def __init__(self, recorder: Recorder, epochs: int, steps: int, name: str):
        super().__init__()
        self.recorder, self.epochs, self.steps, self.name = recorder, epochs, steps, name

    def on_train_begin(self, logs=None):
        self.bar = tqdm(
            total=self.epochs * self.steps, initial=self.recorder.step, desc=self.name[-BAR_NAME:], unit="step",
            disable=None, file=sys.stderr, dynamic_ncols=True, leave=False,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {remaining} left{postfix}",
        )  # fmt: skip

    def on_train_batch_end(self, step, logs=None):
        loss = self.recorder.so_far.last_batch_loss
        self.bar.set_postfix_str(f"epoch {self.recorder.epoch}, loss {loss:.3f}", refresh=False)
        self.bar.update()

    def on_eval_end(self, logs=None):
        with self.bar.external_write_mode():
            print(*epoch_lines(self.recorder.records[-1], self.recorder.best, self.epochs), sep="\n", flush=True)

    def on_train_end(self, logs=None):
        self.bar.close()


def epoch_lines(record: dict, best: dict, epochs: int) -> list[str]:
    """What the terminal shows of an epoch: losses and accuracies in 80 columns; a second line for long waits."""
    lines = [
        f"  epoch {record['epoch']:{len(str(epochs))}d}/{epochs}"
        f"  train {record['train_loss']:.3f} {record['train_acc']:6.2%}"
        f"  {'val' if record['evaluated_on'] == 'validation' else 'eval'} "
        f"{record['eval_loss']:.3f} {record['eval_acc']:6.2%}"
        f"  best {best['eval_acc']:6.2%}  {record['train_images_per_s']:.0f} img/s"
    ]
    waited = record["train_wait_seconds"] / record["train_seconds"]
    if waited > WAITED_WORTH_SAYING:
        lines.append(f"    {waited:.0%} of the training time went by waiting for images (see data.num_workers)")
    return lines
