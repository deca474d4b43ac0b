"""The VisualDL log of a run: scalars per epoch and per step, sample images, config, hparams."""

import contextlib
import io
from pathlib import Path

import numpy as np
import paddle
import visualdl

from simam_repro.training.callbacks import Recorder

EPOCH_TAGS = {
    "train/loss": "train_loss",  # the objective, label smoothing included
    "train/cross_entropy": "train_nll",  # comparable with eval/loss
    "train/accuracy": "train_acc",
    "eval/loss": "eval_loss",
    "eval/accuracy": "eval_acc",
    "speed/train_images_per_s": "train_images_per_s",
    "speed/eval_images_per_s": "eval_images_per_s",
}
STEP_LOSS, STEP_LR = "step/train_loss", "step/learning_rate"
HPARAMS = (
    "seed", "data.dataset", "data.image_size", "data.batch_size", "model.backbone", "model.attention",
    "model.e_lambda", "optim.name", "optim.learning_rate", "optim.weight_decay", "optim.schedule",
    "train.epochs", "train.label_smoothing",
)  # fmt: skip
SAMPLES = 8


def open_log(folder, name: str = "") -> visualdl.LogWriter:
    """A writer that continues the log in `folder`, or starts it under the display name `name`.

    VisualDL shows one file of a folder, the newest: a second one would hide the first.
    """
    logs = sorted(Path(folder).glob("vdlrecords.*"))
    # LogWriter prints that it continues a file.
    with contextlib.redirect_stdout(io.StringIO()):
        return visualdl.LogWriter(logdir=str(folder), file_name=logs[-1].name if logs else "", display_name=name)


class VisualDLLog(paddle.callbacks.Callback):
    """Writes `run.visualdl`. Epochs and steps on the x axis count from 1, over the whole run."""

    def __init__(self, run, experiment, recorder: Recorder):
        super().__init__()
        self.run, self.experiment, self.recorder = run, experiment, recorder

    def on_train_begin(self, logs=None):
        name = f"{self.experiment.name} seed {self.experiment.seed}"
        self.writer = open_log(self.run.visualdl, name)
        if self.recorder.records:  # resumed: the log has the rest
            return
        flat = self.experiment.to_flat()
        self.writer.add_hparams({key: flat[key] for key in HPARAMS}, list(EPOCH_TAGS))
        self.writer.add_text("config", self.experiment.to_yaml(), step=0)
        split = self.recorder.loaders.data.train
        for position, index in enumerate(split.spread(SAMPLES)):
            image = np.asarray(split.images[index])
            self.writer.add_image(f"samples/{position}_{split.ids[index]}".replace("%", "_"), image, step=0)

    def on_train_batch_end(self, step, logs=None):
        if self.recorder.step % self.experiment.logging.step_interval == 0:
            self.writer.add_scalar(STEP_LOSS, self.recorder.batch_loss, self.recorder.step)
            self.writer.add_scalar(STEP_LR, self.recorder.learning_rate, self.recorder.step)

    def on_eval_end(self, logs=None):
        record = self.recorder.records[-1]
        for tag, key in EPOCH_TAGS.items():
            self.writer.add_scalar(tag, record[key], record["epoch"])

    def on_train_end(self, logs=None):
        self.writer.close()
