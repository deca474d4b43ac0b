"""What is refused before a training starts."""

from simam_repro.config import Data, Experiment
from simam_repro.data.loaders import EpochSampler, split_training
from simam_repro.device import check_processes, wants_gpu
from simam_repro.errors import UserError
from simam_repro.run_files import or_warn
from simam_repro.runs import RunFolder


def check_start(experiment: Experiment, run: RunFolder, nproc: int, *, resume: bool, overwrite: bool) -> None:
    """Refuse what can be refused before anything is loaded.

    Raises:
        UserError: a folder that cannot take the run, a device that is not there for `nproc` processes.
    """
    refuse_foreign(run)
    _check_folder(run, experiment, resume, overwrite)
    if resume:
        _check_nproc(run, nproc)
    check_processes(experiment.train.device, nproc)
    if experiment.train.sync_batch_norm and not wants_gpu(experiment.train.device):
        raise UserError("train.sync_batch_norm: true needs GPUs, Paddle has it for them only; make it false")


def check_batches(config: Data, data, nproc: int) -> None:
    """Raises UserError when a batch of the prepared `data` has too few images, or none, for `nproc` processes."""
    train, validation = split_training(data.train, config)
    for what, indices, drop_last in (
        ("training", train, config.drop_last),
        ("validation", validation, False),
        ("eval", data.eval.spread(config.eval_limit), False),
    ):
        if what == "validation" and not config.validation_fraction:
            continue
        sampler = EpochSampler(indices, config.batch_size, drop_last=drop_last)
        if not len(sampler):
            raise UserError(
                f"data.batch_size: {config.batch_size} with drop_last leaves no batch of {len(indices)} {what} images; "
                f"make it smaller"
            )
        smallest = sampler.batch_images(len(sampler) - 1)
        if smallest < nproc:
            raise UserError(
                f"data.batch_size: {config.batch_size} leaves a {what} batch of {smallest} image(s), too few for "
                f"{nproc} processes; choose another, or a smaller --nproc"
            )


def refuse_foreign(run: RunFolder) -> None:
    if run.path.exists() and not run.path.is_dir():
        raise UserError(f"{run.path} is a file; a run needs a folder")
    foreign = run.foreign_files()
    if foreign:
        names = ", ".join(path.name for path in foreign[:3])
        raise UserError(f"{run.path} holds files that are not a run's ({names}); choose another folder")


def _check_folder(run: RunFolder, experiment: Experiment, resume: bool, overwrite: bool) -> None:
    if resume:
        if not run.started:
            raise UserError(f"{run.path} holds no run to resume; start it without --resume")
        run.check_experiment(experiment)
        if run.complete and not run.is_longer(experiment):
            raise UserError(f"{run.path} is complete: nothing to resume")
    elif (run.started or run.complete) and not overwrite:
        what = "a finished run" if run.complete else "an unfinished run (--resume continues it)"
        raise UserError(f"{run.path} holds {what}; --overwrite replaces it, --run-dir or --seed goes elsewhere")


def _check_nproc(run: RunFolder, nproc: int) -> None:
    # A run that died before it wrote its environment, or that an older version began, had one or has no number yet.
    environment = or_warn(run.read_environment, None) if run.environment.is_file() else None
    began = nproc if environment is None else environment.get("nproc", 1)
    if began != nproc:
        raise UserError(f"{run.path} was started with --nproc {began}, which shapes its numbers; resume it so")
