"""Train one experiment into a run folder: curves, checkpoints, predictions, result.json.

Ctrl-C, SIGTERM or a terminal that closes (unless nohup) stop it after the step, with a checkpoint saved and the command
to continue printed; a second Ctrl-C or SIGTERM stops it at once. When only the reader of its output goes away (head,
tee), it goes on to its end, says so once on stderr, and ends with 0.
"""

import argparse
import sys
from pathlib import Path

from simam_repro import cli
from simam_repro.cli.launch import automatic_nproc, train_in_processes


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_experiment_options(parser)
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="where to write; default runs/NAME/seedN")
    parser.add_argument(
        "--resume", action="store_true",
        help="continue an unfinished run from its last checkpoint, or one with more train.epochs where the schedule "
        "does not depend on them; keys that shape no number (threads, device, data.root, logging) may change",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace the run that the folder holds")
    parser.add_argument(
        "--finish", action="store_true",
        help="do what is missing: nothing for a complete run, --resume for an unfinished one, else a new run",
    )  # fmt: skip
    parser.add_argument(
        "--trust-pickle", action="store_true",
        help="let the .pdparams file of model.weights run what it asks for; not for files of strangers",
    )  # fmt: skip
    parser.add_argument(
        "--nproc", type=cli.processes, default=1, metavar="N|auto",
        help="share every batch among N processes; auto: one for each GPU, else for each processor; default 1",
    )  # fmt: skip
    parser.add_argument("--print-config", action="store_true", help="print the resolved YAML and exit")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    experiment = cli.read_experiment(arguments)
    if arguments.print_config:
        print(experiment.to_yaml(), end="")
        return

    from simam_repro.data import prepare_data
    from simam_repro.locks import locked
    from simam_repro.reporting import summary_line, write_figures
    from simam_repro.runs import RUNS_ROOT, SMOKE_ROOT, RunFolder, default_run_dir
    from simam_repro.storage import disk_explained
    from simam_repro.training import fit
    from simam_repro.training.fit import ON_FULL_DISK

    cli.raise_on_termination()
    nproc = arguments.nproc or automatic_nproc(experiment.train.device)
    run_dir = arguments.run_dir or default_run_dir(experiment, SMOKE_ROOT if arguments.smoke else RUNS_ROOT)
    run = RunFolder(run_dir)
    # A smoke run in its own place is there to be repeated; anything else is kept unless told.
    throwaway = arguments.smoke and arguments.run_dir is None
    finish = arguments.finish and not throwaway
    resume = arguments.resume or (finish and run.started)
    trained = resume and run.complete
    if trained:
        run.check_experiment(experiment)
        trained = not run.is_longer(experiment)
    if trained and finish and run.finished:
        print(f"{cli.relative(run_dir)} is complete")
        return
    data = prepare_data(experiment.data)
    try:
        if trained and not run.finished:  # it died while they were drawn
            result = run.read_result()
        else:
            how = {"resume": resume, "overwrite": arguments.overwrite or throwaway}
            how["trust_pickle"] = arguments.trust_pickle
            if nproc > 1:
                train_in_processes(nproc, experiment, run, data, **how)
                result = run.read_result()
            else:
                result = fit(experiment, run_dir, data=data, **how)
        with disk_explained(run_dir, ON_FULL_DISK), locked(run_dir):
            write_figures(run_dir, data)
    except (KeyboardInterrupt, cli.Terminated):
        if run.started:
            print(f"\nto continue: {cli.resume_command()}", file=sys.stderr)
        raise
    print(summary_line(result))
    print(f"run folder: {cli.relative(run_dir)}    curves: make visualdl")
