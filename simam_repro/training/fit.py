"""Training one experiment into one run folder, through `paddle.Model.fit`."""

import shutil
import time

import numpy as np
import paddle

from simam_repro.config import PROJECT_ROOT, Experiment
from simam_repro.data import build_loaders, prepare_data
from simam_repro.data.archives import checksum
from simam_repro.device import select_device
from simam_repro.errors import UserError
from simam_repro.models import build_model, count_parameters, predict_logits, start_from
from simam_repro.runs import RunFolder
from simam_repro.storage import atomic_path, read_json, write_json, write_text
from simam_repro.training.callbacks import Checkpoints, Recorder, Terminal
from simam_repro.training.checkpoints import load_checkpoint, load_weights
from simam_repro.training.environment import describe_environment
from simam_repro.training.metrics import EpochMeans
from simam_repro.training.objective import Objective
from simam_repro.training.optim import build_optimizer
from simam_repro.training.visualdl_log import VisualDLLog


def fit(
    experiment: Experiment, run_dir, *, resume: bool = False, overwrite: bool = False, trust_pickle: bool = False
) -> dict:
    """Train `experiment` into `run_dir`; returns the content of its result.json.

    Args:
        resume: continue from the run's last finished epoch.
        overwrite: replace what the folder holds.
        trust_pickle: let a .pdparams file of model.weights run what it asks for.
    Raises:
        UserError: no data, a bad combination, no such device, or a folder that holds a run already.
        RunError: the loss is not finite; the last checkpoint is kept.
    """
    # Paddle numbers parameters and optimizer states by a process-wide counter: each run counts anew,
    # so that a second run in a process (a notebook, a test) can load the checkpoint of the first.
    with paddle.utils.unique_name.guard():
        return _fit(experiment, RunFolder(run_dir), resume, overwrite, trust_pickle)


def _fit(experiment: Experiment, run: RunFolder, resume: bool, overwrite: bool, trust_pickle: bool) -> dict:
    # Everything that can be refused is refused before the run folder is touched.
    _check_folder(run, experiment, resume, overwrite)
    device = select_device(experiment.train.device)
    data = prepare_data(experiment.data)
    loaders = build_loaders(data, experiment.data, experiment.seed, experiment.train.mixup_alpha)
    if not len(loaders.train):
        raise UserError(
            f"data.batch_size: {experiment.data.batch_size} with drop_last leaves no batch of "
            f"{len(loaders.train.batch_sampler.indices)} training images; make it smaller"
        )
    paddle.seed(experiment.seed)
    network = build_model(experiment.model, len(data.classes), experiment.data.image_size)
    weights = None if resume else _start_from(experiment, network, trust_pickle)
    optimizer = build_optimizer(
        experiment.optim, network.parameters(), experiment.train.epochs, len(loaders.train)
    )  # fmt: skip

    # The folder: its config first, so that a run that dies says what it was.
    state = load_checkpoint(run.last, network, optimizer) if resume else {"records": []}
    if not resume:
        _start_afresh(run)
        write_text(run.config, experiment.to_yaml())
    if weights:  # a resumed run takes its weights from its checkpoint, and this from here
        write_json(run.initial_weights, weights)
    write_json(run.environment, describe_environment(device))

    recorder = Recorder(run, loaders, experiment, state["records"])
    begin = time.perf_counter()
    _train(experiment, run, network, optimizer, recorder)
    wall = time.perf_counter() - begin

    _write_predictions(run, network, loaders)
    result = _summarise(experiment, network, data, recorder, wall, device)
    result["weights"] = read_json(run.initial_weights) if experiment.model.weights else None
    write_json(run.result, result)
    return result


def _start_from(experiment: Experiment, network, trust_pickle: bool) -> dict | None:
    """Load model.weights into the network; the `weights` entry of result.json."""
    if experiment.model.weights is None:
        return None
    path = PROJECT_ROOT / experiment.model.weights
    fresh = start_from(path, network, trust_pickle)
    print(f"weights: {path}" + (f"; freshly initialised: {', '.join(fresh)}" if fresh else ""))
    return {"path": experiment.model.weights, "sha256": checksum(path), "fresh": fresh}


def _check_folder(run: RunFolder, experiment: Experiment, resume: bool, overwrite: bool) -> None:
    if resume:
        if run.complete:
            raise UserError(f"{run.path} is complete: nothing to resume")
        if not run.last.is_dir():
            raise UserError(f"{run.path} has no checkpoint to resume from; start it without --resume")
        run.check_experiment(experiment)
    elif run.path.exists() and not run.path.is_dir():
        raise UserError(f"{run.path} is a file; a run needs a folder")
    elif run.path.exists() and any(run.path.iterdir()):
        foreign = sorted(path.name for path in run.path.iterdir() if path.name not in run.names)
        if foreign or not run.started:
            raise UserError(
                f"{run.path} holds files that are not a run's ({', '.join(foreign[:3])}); choose another folder"
            )
        if not overwrite:
            what = "a finished run" if run.complete else "an unfinished run (--resume continues it)"
            raise UserError(f"{run.path} holds {what}; --overwrite replaces it, --run-dir or --seed goes elsewhere")


def _start_afresh(run: RunFolder) -> None:
    """Remove what an earlier run left, its result first: what remains of a failed removal is no complete run."""
    run.result.unlink(missing_ok=True)
    for path in run.path.iterdir() if run.path.exists() else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _train(experiment: Experiment, run: RunFolder, network, optimizer, recorder: Recorder) -> None:
    size = experiment.data.image_size
    model = paddle.Model(
        network,
        inputs=[paddle.static.InputSpec([None, 3, size, size], "float32", "images")],
        labels=[paddle.static.InputSpec([None], "int64", "labels")],
    )
    model.prepare(optimizer, Objective(experiment.train.label_smoothing), EpochMeans())
    callbacks = [recorder, Checkpoints(run, recorder)]
    if experiment.logging.visualdl:
        callbacks.append(VisualDLLog(run, experiment, recorder))
    loaders = recorder.loaders
    callbacks.append(Terminal(recorder, experiment.train.epochs, len(loaders.train), experiment.name))
    remaining = experiment.train.epochs - len(recorder.records)
    if remaining:
        model.fit(loaders.train, loaders.eval, epochs=remaining, verbose=0, callbacks=callbacks)


def _write_predictions(run: RunFolder, network, loaders) -> None:
    logits_final = predict_logits(network, loaders.eval)
    load_weights(run.best, network)
    split, indices = loaders.data.eval, loaders.eval_indices
    with atomic_path(run.predictions) as temporary:
        np.savez_compressed(
            temporary,
            sample_ids=np.array(split.ids)[indices],
            labels=split.labels[indices],
            logits_final=logits_final,
            logits_best=predict_logits(network, loaders.eval),
        )


def _summarise(experiment: Experiment, network, data, recorder: Recorder, wall: float, device: str) -> dict:
    records, final, best = recorder.records, recorder.records[-1], recorder.best

    def images_per_s(half: str) -> float:
        seconds = [record[f"{half}_seconds"] for record in records]
        images = [record[f"{half}_images_per_s"] * record[f"{half}_seconds"] for record in records]
        return sum(images) / sum(seconds)

    return {
        "name": experiment.name,
        "seed": experiment.seed,
        "epochs": len(records),
        "attention": experiment.model.attention,
        "backbone": experiment.model.backbone,
        "parameters": count_parameters(network),
        "final": {key: final[key] for key in ("epoch", "train_acc", "eval_acc", "eval_loss")},
        "best": {
            **{key: best[key] for key in ("epoch", "eval_acc", "eval_loss")},
            "target_reached": best["eval_acc"] > experiment.train.best_from,
        },
        "train_images_per_s": images_per_s("train"),
        "eval_images_per_s": images_per_s("eval"),
        "wall_s": wall,
        "device": device,
        "paddle": paddle.__version__,
        "data": {
            **data.describe(),
            "train_images": len(recorder.loaders.train.batch_sampler.indices),
            "eval_images": len(recorder.loaders.eval_indices),
        },
    }
