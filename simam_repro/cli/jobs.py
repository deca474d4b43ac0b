"""The runs of a sweep as processes of train.py, several at a time."""

import os
import shlex
import subprocess
import time
from pathlib import Path

from simam_repro import cli
from simam_repro.cli.process import set_threads
from simam_repro.config import PROJECT_ROOT
from simam_repro.errors import UserError
from simam_repro.locks import holder
from simam_repro.signals import end_with_parent
from simam_repro.sweeps import SweepRun

WAITING, IN_USE, RUNNING, RESUMED, COMPLETE, FAILED = "waiting", "in use", "running", "resumed", "complete", "failed"
POLL_SECONDS = 0.2


class Job:
    """A run and the process that works on it.

    Attributes:
        state: one of the names above; `resumed` is running, from a checkpoint of an earlier session.
        records: its epochs so far, as in metrics.jsonl.
        code: the exit code of its process, when it has ended.
    """

    def __init__(self, run: SweepRun, log: Path):
        self.run, self.log = run, log
        self.state = COMPLETE if run.finished else WAITING
        self.records: list[dict] = []
        self.code: int | None = None
        self.process: subprocess.Popen | None = None
        self._seconds = 0.0
        self.read_records()

    @property
    def works(self) -> bool:
        return self.state in (RUNNING, RESUMED)

    @property
    def waits(self) -> bool:
        return self.state in (WAITING, IN_USE)

    @property
    def seconds(self) -> float:
        """Of a complete run: of all its sessions; else of the present one."""
        if self.state == COMPLETE:
            try:
                return self.run.folder.read_result()["wall_s"]
            except UserError:  # damaged: `sweep_report.news` says so
                return 0.0
        return time.monotonic() - self._began if self.works else self._seconds

    @property
    def seconds_in_epoch(self) -> float:
        """How long it has been working since its last record."""
        metrics = self.run.folder.metrics
        last = metrics.stat().st_mtime if metrics.is_file() else 0.0
        return min(self.seconds, max(time.time() - last, 0.0))

    def read_records(self) -> None:
        """What cannot be read is not shown: the run writes it anew when it goes on."""
        try:
            self.records = self.run.folder.read_metrics() if self.run.folder.metrics.is_file() else []
        except UserError:
            self.records = []

    def may_start(self) -> bool:
        """Whether no other process works on it (one of a killed sweep may), nor has completed it meanwhile."""
        self.read_records()
        self.state = IN_USE if holder(self.run.folder.path) else COMPLETE if self.run.finished else WAITING
        return self.state == WAITING

    def start(self, command: list[str], environment: dict) -> None:
        state = RESUMED if self.run.folder.started else RUNNING
        self._began = time.monotonic()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "a", encoding="utf-8", errors="backslashreplace") as log:
            print(f"$ {shlex.join(command)}", file=log, flush=True)
            # A session of its own: Ctrl-C in the terminal reaches the sweep, which stops each process once.
            self.process = subprocess.Popen(
                command, cwd=PROJECT_ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=end_with_parent(),
            )  # fmt: skip
        self.state = state

    def ended(self) -> bool:
        """Whether its process has ended, which is then taken note of."""
        self.code = self.process.poll()
        if self.code is None:
            return False
        self._seconds = self.seconds
        self.state = FAILED if self.code else COMPLETE
        self.read_records()
        return True

    def stop(self) -> None:
        """Wait for the end of its process, which has been told to stop."""
        self.process.wait()
        self.read_records()
        self.state = COMPLETE if self.run.finished else WAITING


def train_command(run: SweepRun, smoke: bool) -> list[str]:
    """Trains what is missing of `run`, with the project as working directory."""
    options = [part for override in run.overrides for part in ("-o", override)]
    folder = ["--finish", "--run-dir", str(run.folder.path.resolve())]
    return [*cli.command("train"), "-c", run.config, *options, *folder, *["--smoke"] * smoke]


def work(jobs: list[Job], limit: int, smoke: bool, report) -> None:
    """Do what is missing of all `jobs`, `limit` at a time, in order; returns when none can be done any more.

    A run that fails stops no other. One that another process works on is waited for. When this is left by an
    exception (Ctrl-C), all processes have saved a checkpoint and ended; a second one ends them at once.

    Args:
        report: its `changed(job)` is called when the state of a run changes, its `update()` several times a second.
    """
    environment = dict(os.environ)
    set_threads(environment, limit)
    try:
        while any(job.works or job.waits for job in jobs):
            for job in filter(lambda job: job.works, jobs):
                if job.ended():
                    report.changed(job)
            for job in filter(lambda job: job.waits, jobs):
                if sum(job.works for job in jobs) < limit:
                    before = job.state
                    if job.may_start():
                        job.start(train_command(job.run, smoke), environment)
                    if job.state != before:
                        report.changed(job)
            report.update()
            time.sleep(POLL_SECONDS)
    finally:
        _stop([job for job in jobs if job.works])


def _stop(working: list[Job]) -> None:
    for job in working:
        job.process.terminate()
    try:
        for job in working:
            job.stop()
    finally:
        for job in working:
            job.process.kill()
