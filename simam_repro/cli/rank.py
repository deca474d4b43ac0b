"""One of the processes of `train.py --nproc N`, started by launch.py: python rank.py FOLDER."""

import json
import os
import signal
import sys
import traceback
from pathlib import Path

# Run by its path: its own folder is the first that Python looks in, and the package may be installed nowhere.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from simam_repro import cli  # noqa: E402
from simam_repro.cli import launch  # noqa: E402
from simam_repro.config import load_config  # noqa: E402
from simam_repro.errors import LostRank, RunError, UserError  # noqa: E402
from simam_repro.storage import disk_explained  # noqa: E402


def main(folder: Path) -> None:
    from simam_repro.training import fit

    cli.raise_on_termination()
    task = json.loads((folder / launch.TASK).read_text())
    fit(load_config(folder / launch.CONFIG), **task)


def note_failure(folder: Path, rank: int, error: BaseException) -> None:
    """Tell the watching process why this one leaves; the first to fail is the one that is heard."""
    if isinstance(error, LostRank):  # the lost one has the reason
        return
    if isinstance(error, MemoryError):  # before `fit`, which says more
        error = RunError(f"process {rank} gets too little memory to start; use a smaller --nproc")
    known = isinstance(error, (UserError, RunError))
    message = str(error) if known else "".join(traceback.format_exception(error))
    try:
        with open(folder / launch.FAILURE, "x") as file:
            json.dump({"rank": rank, "kind": type(error).__name__, "message": message}, file)
    except FileExistsError:
        pass


if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), int(os.environ["PADDLE_TRAINER_ID"])
    cli.prepare_process()
    cli.outlast_readers()
    try:
        with disk_explained():
            main(folder)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except cli.Terminated as error:
        sys.exit(128 + error.number)
    except Exception as error:
        note_failure(folder, rank, error)
        sys.exit(1)
