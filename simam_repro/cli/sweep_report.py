"""What a sweep shows while it works: a live table in a terminal, else a line for each event."""

import time
from collections import Counter
from datetime import timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from simam_repro.cli.jobs import COMPLETE, FAILED, IN_USE, RESUMED, RUNNING, Job
from simam_repro.errors import UserError
from simam_repro.evaluation.arms import arm_title
from simam_repro.sweeps import time_left, total_time_left

COLUMNS = ("run", "arm", "seed", "state", "epoch", "eval accuracy", "images/s", "elapsed", "ETA")
STYLES = {RUNNING: "bold", RESUMED: "bold", COMPLETE: "green", FAILED: "red", IN_USE: "yellow"}
# Below so many columns the table does without images/s and its frame, and cuts names.
NARROW, RUN_WIDTH, ARM_WIDTH = 110, 15, 11
REFRESH_SECONDS, STATUS_SECONDS = 1.0, 300.0
LINES_BESIDE_RUNS = 7  # of the table and the terminal


def progress_report(jobs: list[Job], limit: int):
    """The report for stdout as it is, for `jobs.work`, as a context."""
    console = Console()
    live = console.file.isatty() and not console.is_dumb_terminal
    return LiveTable(jobs, limit, console) if live else PlainLines(jobs, limit)


class _Report:
    def __init__(self, jobs: list[Job], limit: int, every: float):
        self.jobs, self.limit, self.every = jobs, limit, every
        self._last = time.monotonic()

    def update(self) -> None:
        if time.monotonic() - self._last >= self.every:
            self._last = time.monotonic()
            for job in self.jobs:
                if job.works:
                    job.read_records()
            self.show()

    def times_left(self) -> dict[Job, float | None]:
        """Seconds for each run that is not at its end, by the epochs that were trained here."""
        records = [[] if job.run.folder.kept else job.records for job in self.jobs]
        left = time_left([job.run for job in self.jobs], records)
        return {
            job: seconds if seconds is None or not job.works else max(seconds - job.seconds_in_epoch, 0.0)
            for job, seconds in zip(self.jobs, left)
            if job.works or job.waits
        }

    def status(self) -> str:
        """The sweep in a line."""
        counts = Counter(RUNNING if job.works else job.state for job in self.jobs)
        kept = sum(job.run.folder.kept for job in self.jobs)
        notes = {COMPLETE: f" ({kept} kept)"} if kept else {}
        left = self.times_left()
        told = ", ".join(f"{count} {state}{notes.get(state, '')}" for state, count in counts.items())
        if left and None not in left.values():
            halves = [[left[job] for job in left if job.works == working] for working in (True, False)]
            told += f"; all done in {duration(total_time_left(*halves, self.limit))}"
        return told


class PlainLines(_Report):
    """A line for each event, and one every few minutes for where all stand."""

    def __init__(self, jobs, limit):
        super().__init__(jobs, limit, STATUS_SECONDS)

    def __enter__(self):
        print(self.status(), flush=True)
        return self

    def __exit__(self, *_):
        pass

    def changed(self, job: Job) -> None:
        print(f"{job.run.name}: {news(job)}", flush=True)
        if not job.works:
            print(self.status(), flush=True)

    def show(self) -> None:
        for job in self.jobs:
            if job.works and job.records:
                *_, epoch, accuracy, _, _, _ = cells(job, None)
                print(f"{job.run.name}: epoch {epoch}, eval accuracy {accuracy}", flush=True)
        print(self.status(), flush=True)


class LiveTable(_Report):
    """One line a run, drawn anew every second; it stays when the sweep has ended."""

    def __init__(self, jobs, limit, console):
        super().__init__(jobs, limit, REFRESH_SECONDS)
        self.console = console

    def __enter__(self):
        self.live = Live(self.table(), console=self.console, auto_refresh=False, transient=True)
        self.live.start()
        return self

    def __exit__(self, *_):
        self.live.stop()
        self.console.print(self.table(whole=True))

    def changed(self, job: Job) -> None:
        if job.state in (FAILED, IN_USE):
            self.console.print(Text(f"{job.run.name}: {news(job)}"))
        self.show()

    def show(self) -> None:
        self.live.update(self.table(), refresh=True)

    def table(self, whole: bool = False) -> Group:
        left = self.times_left()
        shown = self.jobs if whole else most_telling(self.jobs, max(self.console.height - LINES_BESIDE_RUNS, 1))
        narrow = self.console.width < NARROW
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0)) if narrow else Table()
        columns = [column for column in COLUMNS if not (narrow and column == "images/s")]
        for column in columns:
            name = column.removeprefix("eval ") if narrow else column
            table.add_column(name, justify="left" if column in ("run", "arm", "state") else "right", no_wrap=True)
        for job in shown:
            row = dict(zip(COLUMNS, cells(job, left.get(job))))
            if narrow:  # the end of a name tells it from others, the beginning of an arm's title
                row |= {"run": cut(row["run"], RUN_WIDTH, keep="end"), "arm": cut(row["arm"], ARM_WIDTH)}
                row["state"] = row["state"].replace("(exit ", "(")
            table.add_row(*(Text(row[column]) for column in columns), style=STYLES.get(job.state))
        hidden = len(self.jobs) - len(shown)
        return Group(table, Text(self.status() + (f" ({hidden} not shown)" if hidden else "")))


def most_telling(jobs: list[Job], count: int) -> list[Job]:
    """At most `count` of the jobs, in order: those that work, failed or wait next rather than those long done."""
    rank = {RUNNING: 0, RESUMED: 0, FAILED: 1, COMPLETE: 3}
    chosen = sorted(jobs, key=lambda job: rank.get(job.state, 2))[:count]
    return [job for job in jobs if job in chosen]


def cut(text: str, width: int, keep: str = "beginning") -> str:
    """At most `width` characters of it, with … where it was cut."""
    if len(text) <= width:
        return text
    return f"…{text[1 - width :]}" if keep == "end" else f"{text[: width - 1]}…"


def cells(job: Job, left: float | None) -> tuple[str, ...]:
    """The table's line of a run, see COLUMNS."""
    experiment, last = job.run.experiment, job.records[-1] if job.records else None
    return (
        experiment.name,
        arm_title(experiment),
        str(experiment.seed),
        _state(job),
        f"{len(job.records)}/{experiment.train.epochs}",
        f"{last['eval_acc']:.2%}" if last else "",
        f"{last['train_images_per_s']:.1f}" if last else "",
        duration(job.seconds) if job.seconds else "",
        duration(left) if left is not None else "",
    )


def _state(job: Job) -> str:
    if job.state == FAILED:
        return f"{job.state} (exit {job.code})"
    return "kept" if job.state == COMPLETE and job.run.folder.kept else job.state


def news(job: Job) -> str:
    """What there is to say of a run whose state has changed."""
    if job.state == COMPLETE:
        try:
            accuracy = job.run.folder.read_result()["final"]["eval_acc"]
        except UserError as error:
            return f"complete, but {error}"
        return f"complete, final eval accuracy {accuracy:.2%}, {duration(job.seconds)}"
    details = {
        RESUMED: f" after epoch {len(job.records)}",
        IN_USE: ": another process trains it, perhaps of a sweep that was killed; it is waited for",
        FAILED: f" (exit {job.code}), see {job.log}",
    }
    return job.state + details.get(job.state, "")


def duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
