"""`train.py --nproc N`: N processes of rank.py by way of paddle.distributed.launch, watched by this one.

The launcher gives each process its rank, its log and, on GPUs, its GPU, and stops all when one dies. It knows nothing
of checkpoints, though: it sends SIGTERM three times in half a second. So Ctrl-C and SIGTERM go from here to the
processes themselves, each signal once; they save a checkpoint together and leave.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from simam_repro.cli.process import THREADS, processors
from simam_repro.errors import RunError, UserError
from simam_repro.locks import locked

RANK = Path(__file__).with_name("rank.py")
TASK, CONFIG, FAILURE = "task.json", "experiment.yaml", "failure.json"
LIBC, PR_SET_PDEATHSIG = ctypes.CDLL(None), 1
ERRORS = {"UserError": UserError, "RunError": RunError}


def automatic_nproc(device: str) -> int:
    """One process for each GPU, where `device` means GPUs, else for each processor."""
    from simam_repro.device import gpu_count, wants_gpu

    return max(gpu_count() if wants_gpu(device) else processors(), 1)


def train_in_processes(nproc: int, experiment, run, data, *, resume=False, overwrite=False, trust_pickle=False) -> None:
    """`simam_repro.training.fit(experiment, run.path, ...)` in `nproc` processes; returns when it is done.

    What is wrong with the input is said before any is started. What the first process prints appears here.
    SIGINT and SIGTERM act when all processes have stopped.

    Args:
        data: the experiment's, prepared.
    Raises:
        UserError, RunError: as `fit` in the process that failed first does; RunError also when one was killed.
    """
    from simam_repro.device import wants_gpu
    from simam_repro.training import check_batches, check_start

    with locked(run.path):
        check_start(experiment, run, nproc, resume=resume, overwrite=overwrite)
    check_batches(experiment.data, data, nproc)
    task = {"run_dir": str(run.path), "resume": resume, "overwrite": overwrite, "trust_pickle": trust_pickle}
    with tempfile.TemporaryDirectory(prefix="simam_repro-") as folder:
        folder = Path(folder)
        (folder / CONFIG).write_text(experiment.to_yaml(), encoding="utf-8")
        (folder / TASK).write_text(json.dumps(task))
        with open(folder / "launch.log", "w") as log:
            launcher = subprocess.Popen(
                [
                    sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", str(nproc),
                    "--host", "127.0.0.1", "--log_dir", folder, "--log_level", "ERROR", "--enable_gpu_log", "false",
                    RANK, folder,
                ],
                env=_environment(nproc, wants_gpu(experiment.train.device)), stdout=log, stderr=log,
                start_new_session=True, preexec_fn=end_with_parent,
            )  # fmt: skip
        with _signals_passed_on(launcher) as received:
            _show(launcher, [(folder / "workerlog.0", sys.stdout), (folder / "stderr.0", sys.stderr)])
        if launcher.returncode:
            _raise_failure(folder, received)


def end_with_parent() -> None:
    """From now on this process gets SIGTERM when its parent dies (on Linux)."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _environment(nproc: int, gpu: bool) -> dict:
    """That of this process without another launcher's settings; its threads are divided among the ranks."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PADDLE_")}
    environment.setdefault("GLOG_minloglevel", "1")  # who connects to whom
    for name in THREADS:
        environment[name] = str(max(int(environment.get(name) or processors()) // nproc, 1))
    if not gpu:
        environment["PADDLE_DISTRI_BACKEND"] = "gloo"
        # The launcher insists on a device for each rank where it sees one: numbers that no GPU has.
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(["-1"] * nproc)
    return environment


@contextmanager
def _signals_passed_on(launcher: subprocess.Popen):
    """SIGINT and SIGTERM go to the ranks; gives the list of those received. The launcher never outlives this."""
    received, usual = [], {}

    def pass_on(number, frame):
        received.append(number)
        ranks = _children(launcher.pid)
        for process in ranks:
            os.kill(process, number)
        if not ranks:  # not started yet
            launcher.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            usual[number] = signal.signal(number, pass_on)
    try:
        yield received
    finally:
        if launcher.poll() is None:  # nobody reads what is shown any more
            launcher.terminate()
            launcher.wait()
        for number, handler in usual.items():
            signal.signal(number, handler)


def _children(process: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def _show(launcher: subprocess.Popen, streams) -> None:
    """Copy what is appended to files to streams until the launcher ends: [(file, stream)]."""
    shown = dict.fromkeys((path for path, _ in streams), 0)
    running = True
    while running:
        running = launcher.poll() is None
        if running:
            time.sleep(0.1)
        for path, stream in streams:
            if path.exists():
                with open(path, "rb") as file:
                    file.seek(shown[path])
                    content = file.read()
                shown[path] += len(content)
                stream.buffer.write(content)
                stream.flush()


def _raise_failure(folder: Path, received: list[int]) -> None:
    """Raise what the rank raised that failed first, or let the signal act that stopped all."""
    if not (folder / FAILURE).is_file():
        if received:
            signal.raise_signal(received[0])
        for told in sorted(folder.glob("stderr.[1-9]*")) or [folder / "launch.log"]:
            print(told.read_text(errors="replace"), end="", file=sys.stderr)
        raise RunError("a process of this run was killed, perhaps for want of memory; continue with --resume")
    failure = json.loads((folder / FAILURE).read_text())
    if failure["kind"] not in ERRORS:
        print(failure["message"], end="", file=sys.stderr)
        raise RunError(f"process {failure['rank']} of this run failed, see above")
    raise ERRORS[failure["kind"]](failure["message"])
