"""Locks: one at a time, freed by death, named, in nobody's way."""

import errno
import multiprocessing
import os
import platform
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import filelock
import pytest
from commands import ROOT
from refusals import refusal

from simam_repro import locks
from simam_repro.locks import LOCK, holder, locked, sole_writer

FORK = multiprocessing.get_context("fork")
HERE = f"{os.getpid()} on {platform.node()}"


def enter(manager):
    with manager:
        pass


@pytest.fixture
def hold(tmp_path):
    """hold(statement) -> a process that has entered `with <statement>:` and sleeps."""
    started = []

    def start(statement):
        code = f"import time\nfrom simam_repro.locks import *\nwith {statement}:\n  print(flush=True)\n  time.sleep(99)"
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
        process.stdout.readline()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_holder_is_named_and_nothing_is_left(tmp_path):
    with locked(tmp_path / "runs" / "run"):
        assert holder(tmp_path / "runs" / "run") == HERE
        assert f"in use by process {HERE}; " in refusal(enter, locked(tmp_path / "runs" / "run"))
    assert holder(tmp_path / "runs" / "run") is None and names(tmp_path) == []
    with sole_writer(tmp_path / "data" / "set") as held:
        assert held and names(tmp_path / "data") == [".set.lock"]
    assert names(tmp_path) == []


def test_what_was_put_there_stays(tmp_path):
    with locked(tmp_path / "run"):
        (tmp_path / "run" / "config.yaml").touch()
    assert names(tmp_path / "run") == ["config.yaml"]


def test_asking_for_the_holder_makes_nobody_be_refused(tmp_path):
    done = threading.Event()

    def ask():
        while not done.is_set():
            assert holder(tmp_path / "run") in (None, HERE, "(unknown)")

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    try:
        for _ in range(200):
            enter(locked(tmp_path / "run"))
    finally:
        done.set()
        for thread in asking:
            thread.join()


def _count_up(path, times):
    for _ in range(times):
        with sole_writer(path):
            value = int(path.read_text())
            time.sleep(0.001)
            path.write_text(str(value + 1))


def test_one_at_a_time_though_the_file_goes_with_each_lock(tmp_path):
    path = tmp_path / "number"
    path.write_text("0")
    workers = [FORK.Process(target=_count_up, args=(path, 25)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert path.read_text() == "100" and [worker.exitcode for worker in workers] == [0] * 4
    assert names(tmp_path) == ["number"]


def _fail_in(path):
    try:
        with sole_writer(path):
            time.sleep(0.01)
            raise KeyError
    except KeyError:
        sys.exit(3)


def test_those_who_wait_go_on_when_the_folder_of_the_lock_goes(tmp_path):
    workers = [FORK.Process(target=_fail_in, args=(tmp_path / "new" / "deep" / "set",)) for _ in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [3] * 5 and not list(tmp_path.rglob("*.lock"))


def test_a_stopped_holder_is_waited_for_with_a_word_now_and_then(tmp_path, hold, capfd, monkeypatch):
    monkeypatch.setattr(locks, "WORD_AFTER_S", 0)
    monkeypatch.setattr(locks, "WORD_EVERY_S", 1)
    process = hold(f"sole_writer({str(tmp_path / 'set')!r})")
    process.send_signal(signal.SIGSTOP)
    threading.Timer(2, process.kill).start()
    enter(sole_writer(tmp_path / "set"))
    lines = capfd.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 3
    assert all(
        line.startswith(f"waiting for process {process.pid} on {platform.node()} to finish {tmp_path / 'set'}, ")
        for line in lines
    )
    assert names(tmp_path) == []


def test_a_short_wait_is_silent(tmp_path, hold, capfd):
    process = hold(f"sole_writer({str(tmp_path / 'set')!r})")
    process.kill()
    enter(sole_writer(tmp_path / "set"))
    assert capfd.readouterr().err == ""


# other people's files


def link(lock, precious):
    lock.symlink_to(precious)


def hard_link(lock, precious):
    os.link(precious, lock)


def dangling_link(lock, precious):
    lock.symlink_to(precious.with_name("new"))


def own_file(lock, precious):
    lock.write_text("poetry or whatever")


def fifo(lock, precious):
    os.mkfifo(lock)


def folder(lock, precious):
    lock.mkdir()


@pytest.mark.parametrize("foreign", [link, hard_link, dangling_link, own_file, fifo, folder])
def test_what_is_no_lock_file_is_refused_and_left_alone(tmp_path, foreign):
    precious = tmp_path / "precious"
    precious.write_text("my thesis")
    (tmp_path / "run").mkdir()
    lock = tmp_path / "run" / LOCK
    foreign(lock, precious)
    before = os.lstat(lock)
    assert f"{lock} is no lock file" in refusal(enter, locked(tmp_path / "run"))
    assert holder(tmp_path / "run") is None
    assert precious.read_text() == "my thesis" and names(tmp_path) == ["precious", "run"]
    assert os.lstat(lock) == before


def test_a_holders_name_with_terminal_codes_is_not_shown(tmp_path, hold):
    hold(f"locked({str(tmp_path / 'run')!r})")
    (tmp_path / "run" / LOCK).write_text("1 on \x1b[2J")
    assert holder(tmp_path / "run") == "(unknown)"


@pytest.mark.parametrize("mode", [0o755, 0o775, 0o777])
def test_who_may_write_in_the_folder_may_use_its_lock(tmp_path, mode):
    tmp_path.chmod(mode)
    old = os.umask(0o077)
    try:
        with sole_writer(tmp_path / "set"):
            assert stat.S_IMODE((tmp_path / ".set.lock").stat().st_mode) == mode & 0o666
    finally:
        os.umask(old)


def _as_nobody(path):
    os.setuid(65534)
    with sole_writer(path) as held:
        sys.exit(0 if held else 1)


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_another_user_takes_over_the_lock_of_a_killed_process(mode, hold):
    with tempfile.TemporaryDirectory() as shared:  # tmp_path is below a folder that is its user's alone
        os.chmod(shared, mode)
        path = Path(shared, "set")
        hold(f"sole_writer({str(path)!r})").kill()
        worker = FORK.Process(target=_as_nobody, args=(path,))
        worker.start()
        worker.join()
    assert worker.exitcode == 0


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_gives_a_warning(tmp_path, monkeypatch, capfd, number):
    def no_locks(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock._unix.fcntl, "flock", no_locks)
    with sole_writer(tmp_path / "set") as held:
        assert not held
    assert f"warning: no locks in {tmp_path}" in capfd.readouterr().err
    with locked(tmp_path / "run"):
        assert holder(tmp_path / "run") is None


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be written" in refusal(enter, locked(tmp_path / "file" / "run"))
    assert "cannot be written" in refusal(enter, locked(tmp_path / "file"))
