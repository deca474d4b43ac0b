"""What a sweep says of its runs while they are trained: times left, the live table, plain lines."""

import io
import json
import re
import time

import pytest
from rich.console import Console

from simam_repro.cli import jobs as sweep_jobs
from simam_repro.cli.sweep_report import LiveTable, PlainLines
from simam_repro.storage import write_json, write_text
from simam_repro.sweeps import read_sweep, time_left, total_time_left

OFF, ON = "configs/demo_towernet.yaml", "configs/demo_towernet_simam.yaml"
SMALL = {"data.train_limit": 8, "data.eval_limit": 4, "data.batch_size": 4, "train.checkpoint_steps": 1}
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def record(seconds: float, epoch: int = 1) -> dict:
    speeds = {"train_seconds": 0.75 * seconds, "eval_seconds": 0.25 * seconds, "train_images_per_s": 10.0}
    means = {"train_nll": 1.0, "train_acc": 0.5, "eval_loss": 1.0, "eval_acc": 0.5}
    return {"epoch": epoch, **means, **speeds}


def test_time_left_by_own_epochs_or_those_of_the_others(write_sweep_file):
    runs = read_sweep(write_sweep_file(seeds=[0, 1], overrides={"train.epochs": 4}), "x")
    assert time_left(runs, [[]] * 4) == [None] * 4
    assert time_left(runs, [[record(10), record(20)], [], [], []]) == [30, 60, 60, 60]
    assert time_left(runs, [[record(10)], [record(40)], [], []]) == [30, 120, 40, 160]


def test_total_time_is_that_of_the_last_to_end():
    assert total_time_left([], [5, 5, 5], 1) == 15
    assert total_time_left([2], [5, 5, 5], 2) == 10  # 0+5 and 2+5, then 5+5
    assert total_time_left([9, 1], [2], 2) == 9


# What is shown


@pytest.fixture
def jobs(write_sweep_file, tmp_path):
    """Nine jobs that wait, of 4 epochs each."""
    runs = read_sweep(write_sweep_file([OFF], list(range(9)), overrides={"train.epochs": 4}), tmp_path / "out")
    return [sweep_jobs.Job(run, tmp_path / f"{run.name}.log") for run in runs]


def test_table_fits_the_terminal_and_shows_what_matters(jobs):
    for job in jobs[:5]:
        job.state, job.records = sweep_jobs.COMPLETE, [record(60, epoch) for epoch in range(1, 5)]
        write_json(job.run.folder.result, {"wall_s": 240, "final": {"eval_acc": 0.5}})
    jobs[5].state, jobs[5].code = sweep_jobs.FAILED, 1
    jobs[6].state, jobs[6].records, jobs[6]._began = sweep_jobs.RUNNING, [record(60)], time.monotonic()
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=11, color_system=None)
    report = LiveTable(jobs, 1, console)
    with console.capture() as capture:
        console.print(report.table())
    shown = capture.get()
    assert len(shown.splitlines()) <= 10
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if "demo_towernet" in line]
    assert [row[1] for row in rows] == ["none"] * 4
    assert [row[2:6] for row in rows] == [
        ["5", "failed (exit 1)", "0/4", ""], ["6", "running", "1/4", "50.00%"],
        ["7", "waiting", "0/4", ""], ["8", "waiting", "0/4", ""],
    ]  # fmt: skip
    assert [row[8] for row in rows] == ["", "0:03:00", "0:04:00", "0:04:00"]
    assert "5 complete, 1 failed, 1 running, 2 waiting; all done in 0:11:00 (5 not shown)" in shown
    with console.capture() as capture:
        console.print(report.table(whole=True))
    assert capture.get().count("demo_towernet") == 9


def test_at_80_columns_runs_are_told_apart(write_sweep_file, tmp_path):
    path = write_sweep_file([OFF], [0, 1], arms=["none", {"name": "se", "reduction": 8}], variants={"a-long-one": {}})
    jobs = [sweep_jobs.Job(run, tmp_path / f"{run.name}.log") for run in read_sweep(path, tmp_path / "out")]
    jobs[0].state, jobs[0].records, jobs[0]._began = sweep_jobs.RUNNING, [record(60)], time.monotonic()
    jobs[1].state, jobs[1].code = sweep_jobs.FAILED, 143
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=30, color_system=None)
    with console.capture() as capture:
        console.print(LiveTable(jobs, 1, console).table())
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["run", "arm", "seed", "state", "epoch", "accuracy", "elapsed", "ETA"]
    rows = [line for line in lines if "a-long-one" in line]
    assert [row.split()[0] for row in rows[:2]] == ["…one-a-long-one", "…on8-a-long-one"]
    assert ["SE (reduct…" in row for row in rows] == [False, True, False, True]
    assert "failed (143)" in rows[1] and "50.00%" in rows[0]


def test_plain_report_tells_where_all_stand(jobs, capsys):
    write_text(jobs[0].run.folder.metrics, json.dumps(record(60)) + "\n")
    jobs[0].state, jobs[0]._began = sweep_jobs.RUNNING, time.monotonic()
    report = PlainLines(jobs[:2], 2)
    report.update()
    assert capsys.readouterr().out == ""  # not yet
    report.every = 0
    report.update()
    assert capsys.readouterr().out.splitlines() == [
        "demo_towernet-seed0: epoch 1/4, eval accuracy 50.00%",
        "1 running, 1 waiting; all done in 0:04:00",
    ]
