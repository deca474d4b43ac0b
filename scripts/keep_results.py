"""Keep the small files of complete runs in results/, for committing: config, environment, metrics, result, robustness,
and the outcomes, right or wrong for each eval image, from which every interval can be computed again; of a sweep, which
need not be complete, also its comparison and robustness, and a small picture of what its arms predict. What was kept
before of another training stays as it is."""

import argparse
import shutil
import sys
from pathlib import Path

import _checkout  # noqa: F401

from simam_repro import cli
from simam_repro.config import PROJECT_ROOT


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="run folders, or folders of sweeps: their complete runs"
    )
    parser.add_argument("--to", type=Path, default=PROJECT_ROOT / "results", metavar="DIR", help="default: results/")
    arguments = parser.parse_args()

    from simam_repro.runs import RunFolder, complete_runs
    from simam_repro.sweeps import sweep_of

    for path in arguments.runs:
        complete = [] if RunFolder(path).started else complete_runs(path)
        if complete:
            target = arguments.to / path.resolve().name
            for run in complete:
                keep_run(run, target)
            keep_summaries(path, target)
            keep_gallery(complete, target)
        else:
            run = RunFolder(path)
            run.read_result()  # refuses a run that is not complete
            keep_run(run, arguments.to / sweep_of(path))


def keep_run(run, target: Path) -> None:
    from simam_repro.evaluation.outcomes import read_outcomes, write_outcomes
    from simam_repro.runs import default_run_dir
    from simam_repro.storage import atomic_folder

    outcomes = read_outcomes(run)
    target = default_run_dir(run.read_experiment(), target)
    before = target / run.result.name
    if before.is_file() and before.read_bytes() != run.result.read_bytes():
        print(f"{cli.relative(target)} is of another training and stays; to keep {run.path} instead, remove it first")
        return
    measured = [path for path in (run.path / "robustness.json",) if path.exists()]
    with atomic_folder(target) as temporary:
        for file in (run.config, run.environment, run.metrics, run.result, *measured):
            copy_file(file, temporary)
        write_outcomes(outcomes, temporary / run.outcomes.name)
    print(cli.relative(target))


def keep_summaries(sweep: Path, target: Path) -> None:
    from simam_repro.storage import atomic_path
    from simam_repro.sweeps import SUMMARIES

    for name in SUMMARIES:
        if (sweep / name).is_file():
            with atomic_path(target / name) as temporary:
                copy_file(sweep / name, temporary)
            print(cli.relative(target / name))


def keep_gallery(runs, target: Path) -> None:
    from simam_repro.reporting.gallery import NAME, write_gallery

    try:
        if write_gallery(runs, target / NAME):
            print(cli.relative(target / NAME))
    except cli.UserError as error:  # of data that is not on this machine: the numbers are kept all the same
        print(f"no picture of predictions: {error}", file=sys.stderr)


def copy_file(path: Path, place: Path) -> None:
    if path.is_symlink():  # in a stranger's run it may lead to any file of the user's, and results/ is for committing
        raise cli.UserError(f"{path} is a link; copy what it leads to into its place if it is the run's")
    shutil.copy(path, place)


if __name__ == "__main__":
    cli.run(main)
