"""`train.py --nproc N`: N processes of rank.py, started and watched by this one.

Each has its rank and, on GPUs, its GPU. The first one's output is the command's; what the others say is shown when
they fail. Signals go from here to all of them, each once; they save a checkpoint together and leave. None outlives
this process, however it ends.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from simam_repro.cli.process import THREADS
from simam_repro.errors import RunError, UserError
from simam_repro.locks import locked
from simam_repro.processors import processors
from simam_repro.signals import SAME_SIGNAL_SECONDS, end_with_parent

RANK = Path(__file__).with_name("rank.py")
TASK, CONFIG, FAILURE = "task.json", "experiment.yaml", "failure.json"
ERRORS = {"UserError": UserError, "RunError": RunError}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# How long the others may take to leave when one has failed, and to come when the others wait before that is said.
GRACE_SECONDS, LATE_SECONDS = 10.0, 60.0
JOINED = 2  # how often a rank has come to the meeting when it is connected to the others


def automatic_nproc(device: str) -> int:
    """One process for each GPU, where `device` means GPUs, else for each processor."""
    from simam_repro.device import gpu_count, wants_gpu

    return max(gpu_count() if wants_gpu(device) else processors(), 1)


def train_in_processes(nproc: int, experiment, run, data, *, resume=False, overwrite=False, trust_pickle=False) -> None:
    """`simam_repro.training.fit(experiment, run.path, ...)` in `nproc` processes; returns when it is done.

    What is wrong with the input is said before any is started. What the first process prints appears here.
    SIGINT, SIGTERM and SIGHUP act when all processes have stopped, with a checkpoint saved; a second one kills them.

    Args:
        data: the experiment's, prepared.
    Raises:
        UserError, RunError: as `fit` in the process that failed first does; RunError also when one was killed.
    """
    from simam_repro.device import wants_gpu
    from simam_repro.training import check_batches, check_start
    from simam_repro.training.meeting import Meeting

    with locked(run.path):
        check_start(experiment, run, nproc, resume=resume, overwrite=overwrite)
    check_batches(experiment.data, data, nproc)
    task = {"run_dir": str(run.path), "resume": resume, "overwrite": overwrite, "trust_pickle": trust_pickle}
    with tempfile.TemporaryDirectory(prefix="simam_repro-") as folder:
        folder = Path(folder)
        (folder / CONFIG).write_text(experiment.to_yaml(), encoding="utf-8")
        (folder / TASK).write_text(json.dumps(task))
        environments = _environments(nproc, wants_gpu(experiment.train.device), folder / "meeting")
        meeting = Meeting(folder / "meeting", nproc)
        with _started(folder, environments) as ranks:
            with _signals_passed_on(ranks, meeting) as received:
                _watch(ranks, meeting)
        if any(process.returncode for process in ranks):
            _raise_failure(folder, [process.returncode for process in ranks], received)


def _environments(nproc: int, gpu: bool, meeting: Path) -> list[dict]:
    """Those of the ranks: this process's without another launcher's settings, its threads divided among them."""
    from simam_repro.training.meeting import VARIABLE

    others = ("PADDLE_", "MASTER_ADDR", "MASTER_PORT", "FLAGS_selected_")
    common = {key: value for key, value in os.environ.items() if not key.startswith(others)}
    common.setdefault("GLOG_minloglevel", "1")  # who connects to whom
    for name in THREADS:
        common[name] = str(max(int(common.get(name) or processors()) // nproc, 1))
    if not gpu:
        common["PADDLE_DISTRI_BACKEND"] = "gloo"
        # By its own name, which may be unknown to it, gloo would look for the machine's address.
        common.update({"GLOO_SOCKET_IFNAME": name for _, name in socket.if_nameindex() if name in ("lo", "lo0")})
    master, *endpoints = [f"127.0.0.1:{port}" for port in _free_ports(1 + nproc)]
    common |= {
        VARIABLE: str(meeting), "PADDLE_MASTER": master, "PADDLE_TRAINERS_NUM": str(nproc), "PADDLE_NNODES": "1",
        "PADDLE_TRAINER_ENDPOINTS": ",".join(endpoints),
    }  # fmt: skip
    return [
        common
        | {"PADDLE_TRAINER_ID": str(rank), "PADDLE_CURRENT_ENDPOINT": endpoint, "PADDLE_RANK_IN_NODE": str(rank)}
        | ({"FLAGS_selected_gpus": str(rank)} if gpu else {})
        for rank, endpoint in enumerate(endpoints)
    ]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as opened:
        servers = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]


@contextmanager
def _started(folder: Path, environments: list[dict]):
    """The ranks as processes; none is left when this ends."""
    ranks: list[subprocess.Popen] = []
    try:
        for rank, environment in enumerate(environments):
            with open(folder / f"output.{rank}", "wb") as output:
                own = None if rank == 0 else output
                ranks.append(
                    subprocess.Popen(
                        [sys.executable, RANK, folder],
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=own,
                        stderr=own,
                        start_new_session=True,
                        preexec_fn=end_with_parent(signal.SIGKILL),
                    )  # fmt: skip
                )
        yield ranks
    finally:
        for process in ranks:
            process.kill()
            process.wait()


@contextmanager
def _signals_passed_on(ranks: list[subprocess.Popen], meeting):
    """SIGNALS go to the ranks; gives the list of those received."""
    received, times, usual = [], [], {}

    def pass_on(number, frame):
        again = received and number != signal.SIGHUP and time.monotonic() - times[0] > SAME_SIGNAL_SECONDS
        # Who is still joining waits in Paddle, where no signal is heard, and has nothing to save.
        deaf = min(meeting.counts) < JOINED
        for process in ranks:
            if again or deaf:
                process.kill()
            elif not received:
                process.send_signal(number)
        received.append(number)
        times.append(time.monotonic())

    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            usual[number] = signal.signal(number, pass_on)
    try:
        yield received
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def _watch(ranks: list[subprocess.Popen], meeting) -> None:
    """Return when all have ended; they do when one has failed. Says who is waited for when that takes long."""
    counts, changed, told, failed = None, time.monotonic(), LATE_SECONDS, None
    while None in [process.poll() for process in ranks]:  # each of them, whatever the first says
        now = time.monotonic()
        if counts != (counts := meeting.counts.tolist()):
            changed, told = now, LATE_SECONDS
        if now - changed > told and min(counts) < max(counts):
            late = counts.index(min(counts))
            who = f"process {late} (PID {ranks[late].pid})"
            print(f"{who} is late: the others have waited for it for {now - changed:.0f} s", file=sys.stderr)
            told *= 2
        if failed is None and any(process.returncode for process in ranks):
            failed = now
            meeting.give_up()
        if failed is not None and now - failed > GRACE_SECONDS:
            for process in ranks:
                process.kill()
        time.sleep(0.05)


def _raise_failure(folder: Path, codes: list[int], received: list[int]) -> None:
    """Raise what the rank raised that failed first, or let the signal act that stopped all."""
    if (folder / FAILURE).is_file():
        failure = json.loads((folder / FAILURE).read_text())
        if failure["kind"] in ERRORS:
            raise ERRORS[failure["kind"]](failure["message"])
        print(failure["message"], end="", file=sys.stderr)
        raise RunError(f"process {failure['rank']} of this run failed, see above")
    # A signal that a rank has got from elsewhere stops all of them, too.
    stopped = [number for number in SIGNALS if {128 + number, -number} & set(codes)]
    for number in received or stopped:
        signal.raise_signal(number)
    rank, code = next(
        ((rank, code) for rank, code in enumerate(codes) if code < 0), (codes.index(max(codes)), max(codes))
    )
    for output in sorted(folder.glob("output.[1-9]*")):
        print(output.read_text(errors="replace"), end="", file=sys.stderr)
    how = f"ended with exit code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
    why = ", perhaps for want of memory" if code == -signal.SIGKILL else ""
    raise RunError(f"process {codes.index(code)} of this run {how}{why}; continue with --resume")
