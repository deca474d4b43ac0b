"""Training one experiment into one run folder, through `paddle.Model.fit`."""

import contextlib
import sys

import numpy as np
import paddle

from simam_repro.config import PROJECT_ROOT, Experiment
from simam_repro.data import PreparedData, build_loaders, prepare_data
from simam_repro.data.listing import left_out_line
from simam_repro.device import out_of_memory_explained, select_device
from simam_repro.errors import printable
from simam_repro.locks import locked
from simam_repro.models import build_model, count_parameters, predict_logits, start_from, weights_file
from simam_repro.run_files import or_warn
from simam_repro.runs import RunFolder
from simam_repro.storage import atomic_path, checksum, disk_explained, write_json
from simam_repro.training.amp import check_amp, loss_scaler, use_amp
from simam_repro.training.callbacks import Checkpoints, Terminal
from simam_repro.training.checkpoints import load_newest, load_weights
from simam_repro.training.checks import check_batches, check_start, refuse_foreign
from simam_repro.training.divergence import stop_when_not_finite
from simam_repro.training.environment import describe_environment, hardware, header, versions, write_environment
from simam_repro.training.folder import check_can_continue, continue_folder, start_folder
from simam_repro.training.metrics import EpochMeans
from simam_repro.training.objective import Objective
from simam_repro.training.optim import build_optimizer
from simam_repro.training.parallel import (
    Ranks,
    SharedStatistics,
    evaluate_locally,
    flags_not_listed,
    join_ranks,
    lost_rank_explained,
    weigh_by_share,
)  # fmt: skip
from simam_repro.training.recorder import Recorder
from simam_repro.training.stopping import DeferredSignals

ON_FULL_DISK = (
    "The last checkpoint and all results so far are intact; free some space (earlier runs, data/archives), then "
    "continue with --resume"
)


def fit(
    experiment: Experiment, run_dir, *, data: PreparedData | None = None,
    resume: bool = False, overwrite: bool = False, trust_pickle: bool = False,
) -> dict:  # fmt: skip
    """Train `experiment` into `run_dir`; returns the content of its result.json.

    SIGINT and SIGTERM take effect after the current step, with a checkpoint saved; a second one takes effect at once.
    Each of the processes of a `paddle.distributed.launch`, or of cli/launch.py, calls this: they share each batch, and
    the first writes.

    Args:
        data: the experiment's, from `prepare_data`; None: it is prepared here.
        resume: continue from the run's newest checkpoint, to the numbers of a run that was never stopped.
        overwrite: replace what the folder holds.
        trust_pickle: let a .pdparams file of model.weights run what it asks for.
    Raises:
        UserError: no data, a bad combination, no such device, a folder that holds a run already or is in use.
        RunError: the loss is not finite, the disk is full, the memory too small, another of the processes has died;
            the last checkpoint is kept.
    """
    run = RunFolder(run_dir)
    # Paddle numbers parameters and optimizer states by a process-wide counter: each run counts anew,
    # so that a second run in a process (a notebook, a test) can load the checkpoint of the first.
    with paddle.utils.unique_name.guard(), disk_explained(run.path, ON_FULL_DISK), out_of_memory_explained():
        with lost_rank_explained():
            ranks = join_ranks()
            with _only_writer(run, ranks):
                return _fit(experiment, run, ranks, data, resume, overwrite, trust_pickle)


@contextlib.contextmanager
def _only_writer(run: RunFolder, ranks: Ranks):
    if ranks.first:
        refuse_foreign(run)
        with locked(run.path):
            yield
    else:
        yield


def _fit(
    experiment: Experiment, run: RunFolder, ranks: Ranks, data: PreparedData | None,
    resume: bool, overwrite: bool, trust_pickle: bool,
) -> dict:  # fmt: skip
    # Everything that can be refused is refused before the run folder is touched.
    if ranks.first:
        check_start(experiment, run, ranks.size, resume=resume, overwrite=overwrite)
    device = select_device(experiment.train.device, ranks.rank)
    check_amp(experiment.train.amp, device)
    data = data or prepare_data(experiment.data)
    if ranks.first:
        check_batches(experiment.data, data, ranks.size)
        if line := left_out_line(data.left_out):
            print(printable(f"{data.name}: {line}"), file=sys.stderr)
        if resume:
            run.check_data(data.describe())
    share = (ranks.rank, ranks.size)
    loaders = build_loaders(data, experiment.data, experiment.seed, experiment.train.mixup_alpha, share)
    loaders.open()  # images that do not decode are found out here
    paddle.seed(experiment.seed)
    network = _build_network(experiment, len(data.classes), ranks)
    optimizer = build_optimizer(experiment.optim, network.parameters(), experiment.train.epochs, len(loaders.train))
    if experiment.train.amp != "none":
        use_amp(experiment.train.amp, network, optimizer)

    with ranks.first_before_others():  # it may put back the checkpoint before the last
        state = load_newest(run, network, optimizer) if resume else None
    if resume and ranks.first:
        check_can_continue(run, state)
    weights = None if state else _start_from(experiment, network, trust_pickle)
    recorder = Recorder(run, loaders, experiment, state, ranks)
    environment = describe_environment(device, experiment.model, ranks.size)
    if ranks.first:
        if state:
            changed = continue_folder(experiment, run, data.describe(), recorder)
            write_environment(run, environment, recorder.step, changed)
        else:
            start_folder(experiment, run, data.describe(), weights)
            write_environment(run, environment, 0)
        print(f"{experiment.name}: {header(environment)}", flush=True)

    _train(experiment, run, network, optimizer, recorder, state or {})
    scores = _write_predictions(run, network, loaders, ranks)
    result = _summarise(experiment, network, data, recorder, device, scores)
    result["hardware"], result["versions"] = hardware(environment), versions(environment)
    result["weights"] = or_warn(run.read_initial_weights, None) if experiment.model.weights else None
    if ranks.first:
        write_json(run.result, result)
    return result


def _build_network(experiment: Experiment, classes: int, ranks: Ranks):
    network = build_model(experiment.model, classes, experiment.data.image_size)
    synchronised = experiment.train.sync_batch_norm and ranks.size > 1
    return paddle.nn.SyncBatchNorm.convert_sync_batchnorm(network) if synchronised else network


def _start_from(experiment: Experiment, network, trust_pickle: bool) -> dict | None:
    """Load model.weights into the network; the `weights` entry of result.json."""
    if experiment.model.weights is None:
        return None
    path = weights_file(PROJECT_ROOT / experiment.model.weights)
    fresh, left_out = start_from(path, network, trust_pickle)
    said = [f"weights: {path}", *[f"freshly initialised: {', '.join(fresh)}"] * bool(fresh)]
    print("; ".join([*said, *[f"left out: {', '.join(left_out)}"] * bool(left_out)]))
    of_attention = {"left_out": left_out} if left_out else {}
    return {"path": experiment.model.weights, "sha256": checksum(path), "fresh": fresh, **of_attention}


def _train(experiment: Experiment, run: RunFolder, network, optimizer, recorder: Recorder, state: dict) -> None:
    size, loaders, ranks = experiment.data.image_size, recorder.loaders, recorder.ranks
    remaining = experiment.train.epochs - len(recorder.records)
    if not remaining:
        return
    ranks.wait()  # for the first, which has written: what follows asks gloo, which is impatient
    images = paddle.static.InputSpec([None, 3, size, size], "float32", "images")
    if experiment.train.to_static:
        paddle.jit.to_static(network, input_spec=[images], full_graph=True)
    labels = paddle.static.InputSpec([None], "int64", "labels")
    with flags_not_listed():
        model = paddle.Model(network, inputs=[images], labels=[labels])
    objective = Objective(experiment.train.label_smoothing)
    amp = experiment.train.amp != "none"
    model.prepare(optimizer, objective, EpochMeans(), amp_configs="O1" if amp else None)  # the scaling; see use_amp
    model._scaler = loss_scaler(state.get("loss_scaling")) if amp else None
    stop_when_not_finite(network, objective, recorder)
    # hapi would add its schedule's callback after ours, and a checkpoint would miss the last step of it.
    callbacks, log = [recorder, paddle.callbacks.LRScheduler(by_step=True)], None
    if ranks.size > 1:
        evaluate_locally(model)
        weigh_by_share(objective, network, ranks, lambda: recorder.batch_images)
        callbacks.append(SharedStatistics(network, ranks))
    if ranks.first and experiment.logging.visualdl:
        from simam_repro.training.visualdl_log import VisualDLLog

        log = VisualDLLog(run, experiment, recorder, state.get("visualdl_bytes"))
        callbacks.append(log)
    with DeferredSignals(watched=ranks.size > 1) as signals:
        callbacks.append(Checkpoints(run, recorder, log, signals, experiment.train.checkpoint_steps))
        if ranks.first:
            callbacks.append(Terminal(recorder, experiment.train.epochs, len(loaders.train), experiment.name))
        model.fit(loaders.train, loaders.watched, epochs=remaining, verbose=0, callbacks=callbacks)


def _write_predictions(run: RunFolder, network, loaders, ranks: Ranks) -> dict:
    """predictions.npz; returns {"final": {"eval_loss", "eval_acc"}, "best": ...}, of those predictions."""
    logits = {"final": _all_logits(network, loaders, ranks)}
    load_weights(run.best, network)
    logits["best"] = _all_logits(network, loaders, ranks)
    split, indices = loaders.data.eval, loaders.eval_indices
    labels = split.labels[indices]
    if ranks.first:
        with atomic_path(run.predictions) as temporary:
            np.savez_compressed(
                temporary,
                sample_ids=np.array(split.ids)[indices],
                labels=labels,
                logits_final=logits["final"],
                logits_best=logits["best"],
            )
    return {which: _scores(values, labels) for which, values in logits.items()}


def _scores(logits: np.ndarray, labels: np.ndarray) -> dict:
    means = EpochMeans()
    rows = means.compute(paddle.to_tensor(logits), paddle.to_tensor(labels.astype(np.int64)))
    return dict(zip(("eval_loss", "eval_acc"), means.update(*(row.numpy() for row in rows))))


def _all_logits(network, loaders, ranks: Ranks) -> np.ndarray:
    """float32 [eval images, classes]: each rank's of its share, put together."""
    own = predict_logits(network, loaders.eval)
    mine = [index for keys in loaders.eval.batch_sampler for _, index in keys]
    logits = np.zeros((len(loaders.eval_indices), own.shape[1]), own.dtype)
    logits[np.searchsorted(loaders.eval_indices, mine)] = own
    return ranks.total(logits)


def _summarise(experiment: Experiment, network, data, recorder: Recorder, device: str, scores: dict) -> dict:
    """The content of result.json. `scores`: what the predictions say of the eval images.

    Without a validation part the records say the same of them, as the epochs saw them.
    """
    records, watched = recorder.records, recorder.loaders.watched_name
    final, best = records[-1], recorder.best

    def eval_scores(which: str, record: dict) -> dict:
        if watched == "eval":
            return {key: record[key] for key in ("eval_acc", "eval_loss")}
        return {**scores[which], "validation_acc": record["eval_acc"]}

    def images_per_s(half: str) -> float:
        seconds = [record[f"{half}_seconds"] for record in records]
        images = [record[f"{half}_images_per_s"] * record[f"{half}_seconds"] for record in records]
        return sum(images) / sum(seconds)

    return {
        "name": experiment.name,
        "seed": experiment.seed,
        "epochs": len(records),
        "attention": experiment.model.attention.name,
        **_attention_file(experiment.model.attention),
        "backbone": experiment.model.backbone,
        "parameters": count_parameters(network),
        "final": {"epoch": final["epoch"], "train_acc": final["train_acc"], **eval_scores("final", final)},
        "best": {
            "epoch": best["epoch"],
            **eval_scores("best", best),
            "chosen_on": watched,
            **({"chosen_after_epoch": recorder.best_after} if recorder.best_after else {}),
            "target_reached": best["eval_acc"] > experiment.train.best_from,
        },
        "train_images_per_s": images_per_s("train"),
        "eval_images_per_s": images_per_s("eval"),
        "train_wait_fraction": _wait_fraction(records),
        "wall_s": recorder.seconds,
        "device": device,
        "nproc": recorder.ranks.size,
        "paddle": paddle.__version__,
        "data": {
            **data.describe(),
            "train_images": len(recorder.loaders.train.batch_sampler.indices),
            "eval_images": len(recorder.loaders.eval_indices),
            **_validation_images(recorder.loaders),
        },
    }


def _attention_file(section) -> dict:
    return {"attention_file": {"path": section.file, "sha256": section.sha256}} if section.file else {}


def _validation_images(loaders) -> dict:
    return {"validation_images": len(loaders.validation.batch_sampler.indices)} if loaders.validation else {}


def _wait_fraction(records: list[dict]) -> float:
    """The share of the training time in which the network waited for images."""
    # A run that an older version began has epochs that do not say.
    timed = [record for record in records if "train_wait_seconds" in record]
    waited, seconds = (sum(record[f"train_{what}"] for record in timed) for what in ("wait_seconds", "seconds"))
    return waited / seconds if timed else 0.0
