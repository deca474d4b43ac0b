"""What a command does when its output goes away or cannot hold its text, and how wide an epoch's line is."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from commands import ROOT

from simam_repro.training.callbacks import epoch_lines
from simam_repro.training.stopping import DeferredSignals

PROGRAM = """
import sys, time
from simam_repro import cli

def main():
    for number in range(2000):
        print("line", number, flush=True)
    open(sys.argv[1], "w").write("done")

cli.run(main, computes=False)
"""
# Class and file names: Chinese, and a byte that is no UTF-8.
NAMES = """
from simam_repro import cli
cli.run(lambda: print("\\u732b \\u00e9 \\udcff"), computes=False)
"""


def start(code, *arguments, **keys) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, **keys)


@pytest.fixture
def done(tmp_path):
    return tmp_path / "done"


def test_a_command_goes_on_without_its_reader(done):
    process = start(PROGRAM, done, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "line 0\n"
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait() == 0 and done.read_text() == "done"
    assert errors.count("nothing can be written to the output") == 1 and "Traceback" not in errors


def test_a_command_goes_on_when_its_terminal_closes(done):
    reader, writer = pty.openpty()
    process = start(PROGRAM, done, stdin=writer, stdout=writer, stderr=writer, start_new_session=True)
    os.close(writer)
    assert os.read(reader, 4) == b"line"
    os.close(reader)
    assert process.wait() == 0 and done.read_text() == "done"


def test_a_full_disk_below_the_output_is_no_success(done):
    with open("/dev/full", "w") as full:
        process = start(PROGRAM, done, stdout=full, stderr=subprocess.PIPE, text=True)
        _, errors = process.communicate()
    assert process.returncode == 1 and done.read_text() == "done"
    assert "error: the output is not complete (No space left on device)" in errors and "Traceback" not in errors


@pytest.mark.parametrize("encoding", ["gbk", "ascii", "utf-8"])
def test_names_that_the_terminal_cannot_show_are_escaped(encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    process = start(NAMES, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert output.decode(encoding).endswith("\\udcff\n")


def record(**changes) -> dict:
    return {
        "epoch": 100, "train_loss": 2.34567, "train_acc": 0.98765, "evaluated_on": "eval", "eval_loss": 1.98765,
        "eval_acc": 0.87654, "train_images_per_s": 12345.6, "train_seconds": 10.0, "train_wait_seconds": 0.5, **changes,
    }  # fmt: skip


@pytest.mark.parametrize("evaluated_on", ["eval", "validation"])
def test_an_epochs_line_fits_80_columns(evaluated_on):
    (line,) = epoch_lines(record(evaluated_on=evaluated_on), record(), 100)
    assert len(line) <= 80 and "epoch 100/100" in line and "train 2.346 98.77%" in line and "best 87.65%" in line


def test_waiting_for_data_is_said_where_it_is_long():
    _, waited = epoch_lines(record(train_wait_seconds=4.2), record(), 100)
    assert "42%" in waited and len(waited) <= 80


def test_the_same_signal_twice_at_once_is_one():
    """timeout and clusters send it to a process and to its group; a terminal that closes sends SIGHUP twice."""
    with DeferredSignals() as signals:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
        assert signals.received == signal.SIGTERM


def test_a_later_signal_acts_at_once_but_not_on_one_of_several(monkeypatch):
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for watched in (False, True):
            with DeferredSignals(watched) as signals:
                os.kill(os.getpid(), signal.SIGINT)
                now = time.monotonic()
                monkeypatch.setattr(time, "monotonic", lambda: now + 5)
                if watched:
                    os.kill(os.getpid(), signal.SIGINT)
                else:
                    with pytest.raises(KeyboardInterrupt):
                        os.kill(os.getpid(), signal.SIGINT)
                monkeypatch.undo()
        assert signals.received == signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, usual)
