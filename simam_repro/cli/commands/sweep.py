"""Run a sweep: configs x seeds, each in a process of train.py; at the end, the comparison.

What is complete is skipped, what is unfinished goes on: repeat the command after whatever stopped it.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from simam_repro import cli
from simam_repro.cli.jobs import COMPLETE, FAILED, Job, work
from simam_repro.processors import processors


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-c", "--config", required=True, metavar="SWEEP", help="YAML file, see sweeps/")
    parser.add_argument(
        "--jobs", type=cli.processes, default=1, metavar="N|auto",
        help="runs at the same time, which share the processors (and a GPU), so another N changes results by rounding; "
        "auto: one for each processor, at most one for each run; default 1",
    )  # fmt: skip
    parser.add_argument("--sweep-dir", type=Path, metavar="DIR", help="where to write; default runs/SWEEP")
    parser.add_argument(
        "--kept", type=Path, metavar="DIR",
        help="what keep_results.py has kept of this sweep, perhaps on another machine: those runs are copied, not "
        "trained, and the comparison has them, too",
    )  # fmt: skip
    cli.add_override_option(parser)
    parser.add_argument("--smoke", action="store_true", help="cut each run to 1 epoch of 2 batches; in .smoke/SWEEP")
    return parser.parse_args()


def main():
    arguments = parse_arguments()

    from simam_repro.cli.sweep_report import progress_report
    from simam_repro.locks import locked
    from simam_repro.runs import RUNS_ROOT, SMOKE_ROOT
    from simam_repro.sweeps import check_started, read_sweep, take_kept

    root = SMOKE_ROOT if arguments.smoke else RUNS_ROOT
    folder = arguments.sweep_dir or root / Path(arguments.config).stem
    runs = read_sweep(arguments.config, folder, arguments.override, arguments.smoke)
    cli.raise_on_termination()  # behind paddle, which the backbones of the runs take
    limit = arguments.jobs or min(processors(), len(runs))
    with locked(folder):
        check_started(runs)
        if arguments.kept:
            taken = len(take_kept(runs, arguments.kept))
            print(f"{taken} {'run' if taken == 1 else 'runs'} taken from {cli.relative(arguments.kept)}")
        jobs = [Job(run, folder / "logs" / f"{run.name}.log") for run in runs]
        try:
            with progress_report(jobs, limit) as report:
                work(jobs, limit, arguments.smoke, report)
        except (KeyboardInterrupt, cli.Terminated):
            print(f"\nto continue: {shlex.join(sys.orig_argv)}", file=sys.stderr)
            raise
        complete = sum(job.state == COMPLETE for job in jobs)
        compared = complete < 2 or subprocess.run(compare_command(folder)).returncode == 0
    check_outcome(jobs)
    if not compared:
        raise cli.RunError("the runs are complete; their comparison failed, see above")


def compare_command(folder: Path) -> list:
    return [*cli.command("compare"), "--sweep", folder]


def check_outcome(jobs: list[Job]) -> None:
    """Raises RunError when runs have failed, UserError when that was all and for wrong input."""
    failed = [job for job in jobs if job.state == FAILED]
    if failed:
        refused = len(failed) == len(jobs) and all(job.code == 2 for job in failed)
        logs = "\n".join(f"  {cli.relative(job.log)}: {_last_line(job.log)}" for job in failed)
        raise (cli.UserError if refused else cli.RunError)(f"{len(failed)} of {len(jobs)} runs failed:\n{logs}")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "(empty)"
