"""Copy the small files of complete runs (config, environment, metrics, result) to results/, for committing."""

import argparse
import shutil
from pathlib import Path

import _cli


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    parser.add_argument(
        "--to", type=Path, default=_cli.PROJECT_ROOT / "results", metavar="DIR", help="default: results/"
    )
    arguments = parser.parse_args()

    from simam_repro.runs import RunFolder, default_run_dir
    from simam_repro.storage import atomic_folder

    for run in map(RunFolder, arguments.runs):
        run.read_result()  # refuses a run that is not complete
        target = default_run_dir(run.read_experiment(), arguments.to)
        with atomic_folder(target) as temporary:
            for file in (run.config, run.environment, run.metrics, run.result):
                shutil.copy(file, temporary)
        print(_cli.relative(target))


if __name__ == "__main__":
    _cli.run(main)
