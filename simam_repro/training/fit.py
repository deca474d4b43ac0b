"""Training one experiment into one run folder, through `paddle.Model.fit`."""

import shutil

import numpy as np
import paddle

from simam_repro.config import PROJECT_ROOT, Experiment
from simam_repro.data import build_loaders, prepare_data
from simam_repro.device import out_of_memory_explained, select_device
from simam_repro.errors import UserError
from simam_repro.locks import LOCK, locked
from simam_repro.models import build_model, count_parameters, predict_logits, start_from
from simam_repro.runs import RunFolder
from simam_repro.storage import (
    atomic_path,
    checksum,
    full_disk_explained,
    read_json,
    remove_temporaries,
    write_json,
    write_text,
)  # fmt: skip
from simam_repro.training.amp import check_amp, loss_scaler, use_amp
from simam_repro.training.callbacks import Checkpoints, Terminal
from simam_repro.training.checkpoints import keep_best, load_newest, load_weights
from simam_repro.training.divergence import stop_when_not_finite
from simam_repro.training.environment import describe_environment, header, write_environment
from simam_repro.training.metrics import EpochMeans
from simam_repro.training.objective import Objective
from simam_repro.training.optim import build_optimizer
from simam_repro.training.recorder import Recorder
from simam_repro.training.stopping import DeferredSignals
from simam_repro.training.visualdl_log import VisualDLLog


def fit(
    experiment: Experiment, run_dir, *, resume: bool = False, overwrite: bool = False, trust_pickle: bool = False
) -> dict:
    """Train `experiment` into `run_dir`; returns the content of its result.json.

    SIGINT and SIGTERM take effect after the current step, with a checkpoint saved; a second one takes effect at once.

    Args:
        resume: continue from the run's newest checkpoint, to the numbers of a run that was never stopped.
        overwrite: replace what the folder holds.
        trust_pickle: let a .pdparams file of model.weights run what it asks for.
    Raises:
        UserError: no data, a bad combination, no such device, a folder that holds a run already or is in use.
        RunError: the loss is not finite, the disk is full, the memory too small; the last checkpoint is kept.
    """
    run = RunFolder(run_dir)
    _refuse_foreign(run)
    # Paddle numbers parameters and optimizer states by a process-wide counter: each run counts anew,
    # so that a second run in a process (a notebook, a test) can load the checkpoint of the first.
    with paddle.utils.unique_name.guard(), full_disk_explained(run.path), out_of_memory_explained(), locked(run.path):
        return _fit(experiment, run, resume, overwrite, trust_pickle)


def _fit(experiment: Experiment, run: RunFolder, resume: bool, overwrite: bool, trust_pickle: bool) -> dict:
    # Everything that can be refused is refused before the run folder is touched.
    _check_folder(run, experiment, resume, overwrite)
    device = select_device(experiment.train.device)
    check_amp(experiment.train.amp, device)
    data = prepare_data(experiment.data)
    loaders = build_loaders(data, experiment.data, experiment.seed, experiment.train.mixup_alpha)
    if not len(loaders.train):
        raise UserError(
            f"data.batch_size: {experiment.data.batch_size} with drop_last leaves no batch of "
            f"{len(loaders.train.batch_sampler.indices)} training images; make it smaller"
        )
    loaders.open()  # images that do not decode are found out here
    paddle.seed(experiment.seed)
    network = build_model(experiment.model, len(data.classes), experiment.data.image_size)
    optimizer = build_optimizer(
        experiment.optim, network.parameters(), experiment.train.epochs, len(loaders.train)
    )  # fmt: skip
    if experiment.train.amp != "none":
        use_amp(experiment.train.amp, network, optimizer)

    state = load_newest(run, network, optimizer) if resume else None
    weights = None if state else _start_from(experiment, network, trust_pickle)
    recorder = Recorder(run, loaders, experiment, state)
    if state:
        _clear_up(run, recorder)
    else:
        # The folder: its config first, so that a run that dies says what it was.
        _start_afresh(run)
        write_text(run.config, experiment.to_yaml())
        if weights:  # a resumed run takes its weights from its checkpoint, and this from here
            write_json(run.initial_weights, weights)
    environment = describe_environment(device, experiment.model)
    write_environment(run, environment, recorder.step)
    print(f"{experiment.name}: {header(environment)}", flush=True)

    _train(experiment, run, network, optimizer, recorder, state or {})
    _write_predictions(run, network, loaders)
    result = _summarise(experiment, network, data, recorder, device)
    result["weights"] = read_json(run.initial_weights) if experiment.model.weights else None
    write_json(run.result, result)
    return result


def _refuse_foreign(run: RunFolder) -> None:
    if run.path.exists() and not run.path.is_dir():
        raise UserError(f"{run.path} is a file; a run needs a folder")
    foreign = run.foreign_files()
    if foreign:
        names = ", ".join(path.name for path in foreign[:3])
        raise UserError(f"{run.path} holds files that are not a run's ({names}); choose another folder")


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
        if not run.started:
            raise UserError(f"{run.path} holds no run to resume; start it without --resume")
        run.check_experiment(experiment)
    elif (run.started or run.complete) and not overwrite:
        what = "a finished run" if run.complete else "an unfinished run (--resume continues it)"
        raise UserError(f"{run.path} holds {what}; --overwrite replaces it, --run-dir or --seed goes elsewhere")


def _start_afresh(run: RunFolder) -> None:
    """Remove what an earlier run left, its result first: what remains of a failed removal is no complete run.

    Its config stays until the new one replaces it: what remains is a run's folder still.
    """
    run.result.unlink(missing_ok=True)
    for path in run.path.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (LOCK, run.config.name):
            path.unlink()


def _clear_up(run: RunFolder, recorder: Recorder) -> None:
    """Bring the folder to where its checkpoint is: a run that died may have been writing anything."""
    remove_temporaries(run.path)
    recorder.write_metrics()
    if recorder.records and recorder.best is recorder.records[-1] and not recorder.so_far.steps:
        keep_best(run)


def _train(experiment: Experiment, run: RunFolder, network, optimizer, recorder: Recorder, state: dict) -> None:
    size, loaders = experiment.data.image_size, recorder.loaders
    remaining = experiment.train.epochs - len(recorder.records)
    if not remaining:
        return
    images = paddle.static.InputSpec([None, 3, size, size], "float32", "images")
    if experiment.train.to_static:
        paddle.jit.to_static(network, input_spec=[images], full_graph=True)
    model = paddle.Model(
        network,
        inputs=[images],
        labels=[paddle.static.InputSpec([None], "int64", "labels")],
    )
    objective = Objective(experiment.train.label_smoothing)
    amp = experiment.train.amp != "none"
    model.prepare(optimizer, objective, EpochMeans(), amp_configs="O1" if amp else None)  # the scaling; see use_amp
    model._scaler = loss_scaler(state.get("loss_scaling")) if amp else None
    stop_when_not_finite(network, objective, recorder)
    log = VisualDLLog(run, experiment, recorder, state.get("visualdl_bytes")) if experiment.logging.visualdl else None
    terminal = Terminal(recorder, experiment.train.epochs, len(loaders.train), experiment.name)
    with DeferredSignals() as signals:
        # hapi would add its schedule's callback after ours, and a checkpoint would miss the last step of it.
        callbacks = [recorder, paddle.callbacks.LRScheduler(by_step=True), log, terminal]
        callbacks.append(Checkpoints(run, recorder, log, signals, experiment.train.checkpoint_steps))
        model.fit(loaders.train, loaders.eval, epochs=remaining, verbose=0, callbacks=list(filter(None, callbacks)))


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


def _summarise(experiment: Experiment, network, data, recorder: Recorder, device: str) -> dict:
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
        "train_wait_fraction": _wait_fraction(records),
        "wall_s": recorder.seconds,
        "device": device,
        "paddle": paddle.__version__,
        "data": {
            **data.describe(),
            "train_images": len(recorder.loaders.train.batch_sampler.indices),
            "eval_images": len(recorder.loaders.eval_indices),
        },
    }


def _wait_fraction(records: list[dict]) -> float:
    """The share of the training time in which the network waited for images."""
    # A run that an older version began has epochs that do not say.
    timed = [record for record in records if "train_wait_seconds" in record]
    waited, seconds = (sum(record[f"train_{what}"] for record in timed) for what in ("wait_seconds", "seconds"))
    return waited / seconds if timed else 0.0
