"""The VisualDL log of a run: scalars per epoch and per step, config, hparams. Figures are added when they are drawn."""

import json
import os
import struct
import time
from pathlib import Path

import paddle

from simam_repro.training.recorder import Recorder
from simam_repro.visualdl_import import visualdl

EPOCH_TAGS = {
    "train/loss": "train_loss",  # the objective, label smoothing included
    "train/cross_entropy": "train_nll",  # comparable with eval/loss
    "train/accuracy": "train_acc",
    "eval/loss": "eval_loss",  # validation/... with data.validation_fraction
    "eval/accuracy": "eval_acc",
    "speed/train_images_per_s": "train_images_per_s",
    "speed/eval_images_per_s": "eval_images_per_s",
}
STEP_LOSS, STEP_LR = "step/train_loss", "step/learning_rate"
HPARAMS = (
    "seed", "data.dataset", "data.image_size", "data.batch_size", "model.backbone",
    "model.attention.", "optim.name", "optim.learning_rate", "optim.weight_decay", "optim.schedule",
    "train.epochs", "train.label_smoothing",
)  # fmt: skip


class _LogFile:
    """A log's file, for LogWriter: a record is in the file, whole, when `add_record` returns.

    VisualDL's own writes in a thread of its own, which loses records without a word when the disk is full.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = open(path, "ab", buffering=0)

    def add_record(self, record) -> None:
        content = record.SerializeToString()
        rest = memoryview(struct.pack("<Q", len(content)) + content)
        while rest:
            rest = rest[self._file.write(rest) :]

    def get_filename(self) -> str:
        return str(self._path)

    def flush(self) -> int:
        """Wait until the records are on the disk; returns the file's size in bytes."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


class _Log(visualdl.LogWriter):
    def __init__(self, path: Path):
        self._path = path
        # Without a display name VisualDL shows the folder, which no two runs share (of one name it shows one run).
        super().__init__(logdir=str(path.parent))

    def _get_file_writer(self):
        if self._file_writer is None:
            self._file_writer = _LogFile(self._path)
        return self._file_writer

    def flush(self) -> int:
        return self._file_writer.flush()

    def close(self) -> None:
        self._file_writer.close()


def open_log(folder, size: int | None = None) -> _Log:
    """A writer that continues the log in `folder`, or starts it.

    VisualDL shows one file of a folder, the newest: a second one would hide the first.

    Args:
        size: continue after this many bytes; what follows them is cut off.
    """
    logs = sorted(Path(folder).glob("vdlrecords.*"))
    path = logs[-1] if logs else Path(folder) / f"vdlrecords.{int(time.time()):010d}.log"
    if size is not None and path.exists():
        os.truncate(path, min(size, path.stat().st_size))
    return _Log(path)


class VisualDLLog(paddle.callbacks.Callback):
    """Writes `run.visualdl`. Epochs and steps on the x axis count from 1, over the whole run."""

    def __init__(self, run, experiment, recorder: Recorder, size: int | None = None):
        super().__init__()
        self.run, self.experiment, self.recorder, self.size = run, experiment, recorder, size

    def on_train_begin(self, logs=None):
        self.writer = open_log(self.run.visualdl, self.size)
        if self.size is not None:  # resumed: the log has the rest
            return
        self.writer.add_hparams(hparams(self.experiment), [self._tag(tag) for tag in EPOCH_TAGS])
        # The page joins the lines of a text: a section is one, as JSON (which is YAML, too).
        for section, values in self.experiment.model_dump(mode="json").items():
            self.writer.add_text(f"config/{section}", json.dumps(values, ensure_ascii=False), step=0)

    def on_train_batch_end(self, step, logs=None):
        if self.recorder.step % self.experiment.logging.step_interval == 0:
            so_far = self.recorder.so_far
            self.writer.add_scalar(STEP_LOSS, so_far.last_batch_loss, self.recorder.step)
            self.writer.add_scalar(STEP_LR, so_far.learning_rate, self.recorder.step)

    def on_eval_end(self, logs=None):
        record = self.recorder.records[-1]
        for tag, key in EPOCH_TAGS.items():
            self.writer.add_scalar(self._tag(tag), record[key], record["epoch"])

    def _tag(self, tag: str) -> str:
        return tag.replace("eval/", f"{self.recorder.loaders.watched_name}/")

    def flush(self) -> int:
        """See `_LogFile.flush`: what a checkpoint remembers, for the run to go on from."""
        return self.writer.flush()

    def on_train_end(self, logs=None):
        self.writer.close()


def hparams(experiment) -> dict:
    """What runs are compared by. The page takes a dot in a key for a path, so they have slashes."""
    named = {key: value for key, value in experiment.to_flat().items() if key.startswith(HPARAMS) and value is not None}
    # VisualDL takes numbers and texts.
    return {key.replace(".", "/"): value if type(value) in (int, float) else str(value) for key, value in named.items()}
