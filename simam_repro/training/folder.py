"""The run folder before training: made anew, or brought to where its checkpoint is."""

import os
import shutil
import sys

from simam_repro.config import Experiment
from simam_repro.errors import UserError
from simam_repro.runs import RUN_FIGURES, RunFolder
from simam_repro.storage import remove_temporaries, write_json, write_text
from simam_repro.training.checkpoints import epoch_of, keep_best
from simam_repro.training.recorder import Recorder


def start_folder(experiment: Experiment, run: RunFolder, data: dict, weights: dict | None) -> None:
    """Remove what an earlier run left, and write what a run begins with.

    Args:
        data: as `PreparedData.describe` says.
        weights: the `weights` entry of result.json, where the run starts from a file.
    """
    _remove_earlier_run(run)
    # Its config first, so that a run that dies says what it was.
    write_text(run.config, experiment.to_yaml())
    write_json(run.data, data)
    if weights:  # a resumed run takes its weights from its checkpoint, and this from here
        write_json(run.initial_weights, weights)


def continue_folder(experiment: Experiment, run: RunFolder, data: dict, recorder: Recorder) -> dict:
    """Bring the folder to where its checkpoint is: a run that died may have been writing anything.

    Returns:
        The keys of the config that are others from now on: {key: {"from": value, "to": value}}.
    """
    remove_temporaries(run.path, run.trained)
    if run.complete:
        _set_result_aside(run)
    recorder.write_metrics()
    _repair_best(run, recorder)
    if run.read_data() is None or not run.data.is_file():
        write_json(run.data, data)
    before, now = run.read_experiment().to_flat(), experiment.to_flat()
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if keys:
        write_text(run.config, experiment.to_yaml())
    return {key: {"from": before.get(key), "to": now.get(key)} for key in keys}


def check_can_continue(run: RunFolder, state: dict | None) -> None:
    """Raises UserError for a complete run without a checkpoint: it would begin anew, and its result be lost."""
    if run.complete and state is None:
        raise UserError(f"{run.path} is complete and has no checkpoint to go on from; use another --run-dir")


def _remove_earlier_run(run: RunFolder) -> None:
    """Its result first: what remains of a failed removal is no complete run. What others put there stays.

    Its config stays until the new one replaces it: what remains is a run's folder still.
    """
    run.result.unlink(missing_ok=True)
    for path in filter(run.owns, list(run.path.iterdir())):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != run.config:
            path.unlink()


def _set_result_aside(run: RunFolder) -> None:
    """Keep the result of a run that goes on for more epochs: after_epoch5_result.json, after_epoch5_predictions.npz."""
    epochs = run.read_result()["epochs"]
    for file in (run.predictions, run.result):
        if file.is_file():
            os.replace(file, file.with_name(f"after_epoch{epochs}_{file.name}"))
    for name in RUN_FIGURES:
        (run.figures / name).unlink(missing_ok=True)


def _repair_best(run: RunFolder, recorder: Recorder) -> None:
    """Make `best` the checkpoint of the best epoch again; where none of it is left, the best is chosen anew."""
    if not recorder.records:
        return
    between_epochs, epoch = not recorder.so_far.steps, recorder.best["epoch"]
    if between_epochs and recorder.best is recorder.records[-1]:
        keep_best(run)
    elif epoch_of(run.best) == epoch:
        return
    elif epoch_of(run.previous) == epoch:
        keep_best(run, run.previous)
    else:
        print(
            f"warning: {run.best} is damaged or gone, and with it the weights of epoch {epoch}: the best epoch is "
            f"chosen among those that follow",
            file=sys.stderr,
        )
        recorder.best_after = len(recorder.records) - between_epochs
        if between_epochs:
            keep_best(run)
