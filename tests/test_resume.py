"""A run that was stopped and resumed is the run that was never stopped; and what is refused, repaired and told."""

import os
import platform
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time

import kill_test
import pytest
from commands import ROOT, assert_refused, run, script
from kill_test import differences, outcome

from simam_repro.config import load_config
from simam_repro.errors import RunError, UserError
from simam_repro.locks import locked
from simam_repro.runs import RunFolder
from simam_repro.storage import is_temporary, read_json, write_json
from simam_repro.training import fit
from simam_repro.training.checkpoints import OPTIMIZER, STATE, WEIGHTS
from simam_repro.training.recorder import Recorder

NAME = "towernet"  # 2 epochs of 3 steps, a checkpoint after each step
STEPS = 3


def experiment(name=NAME, **changes):
    arguments = kill_test.train_arguments(name, "")
    overrides = [word for word in arguments if "=" in word] + [f"{key}={value}" for key, value in changes.items()]
    return load_config(ROOT / arguments[arguments.index("-c") + 1], overrides)


@pytest.fixture(autouse=True)
def not_in_the_background():
    """A shell starts what it runs in the background with SIGINT ignored, and what is ignored stays so."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """{network: outcome of a run that was never stopped}"""
    known = {}

    def run_once(name=NAME):
        if name not in known:
            run_dir = tmp_path_factory.mktemp("whole") / name
            fit(experiment(name), run_dir)
            known[name] = outcome(run_dir)
        return known[name]

    return run_once


class Died(BaseException):
    pass


def die(*_, **__):
    raise Died


def stop(run_dir, monkeypatch, step: int, how=die, name=NAME, event="on_train_batch_begin", resume=False):
    """Train into `run_dir`; `how` is called at an event of the Recorder when `step` steps are done."""
    original = getattr(Recorder, event)

    def at_the_step(self, *arguments, **keys):
        if self.step == step:
            how()
        return original(self, *arguments, **keys)

    with monkeypatch.context() as patched, pytest.raises((Died, KeyboardInterrupt)):
        patched.setattr(Recorder, event, at_the_step)
        fit(experiment(name), run_dir, resume=resume)
    return RunFolder(run_dir)


def interrupt():
    signal.raise_signal(signal.SIGINT)
    time.sleep(0)  # where KeyboardInterrupt would come up, were it not deferred


def unlike(run_dir, expected) -> list[str]:
    return differences(expected, outcome(run_dir))


@pytest.mark.parametrize("name, step", [("towernet", 5), ("alexnet", 7)])
def test_resumed_within_an_epoch(name, step, whole, tmp_path, monkeypatch):
    folder = stop(tmp_path / "run", monkeypatch, step, name=name)
    state = read_json(folder.last / STATE)
    every = experiment(name).train.checkpoint_steps
    done = len(state["records"]) * (STEPS if name == NAME else 5) + state["epoch_so_far"].get("steps", 0)
    assert step - every < done <= step
    fit(experiment(name), folder.path, resume=True)
    assert unlike(folder.path, whole(name)) == []


def test_resumed_in_a_warmup(tmp_path, monkeypatch):
    keys = {"optim.name": "adamw", "optim.warmup_epochs": 1.5, "optim.clip_norm": 1, "data.train_limit": 4}
    keys |= {"optim.schedule": "step", "optim.milestones": "[1]", "train.checkpoint_steps": 1, "data.eval_limit": 4}
    changed = experiment(**keys, **{"data.batch_size": 2})
    fit(changed, tmp_path / "whole")
    monkeypatch.setattr(f"{__name__}.experiment", lambda name: changed)
    folder = stop(tmp_path / "run", monkeypatch, 2)
    fit(changed, folder.path, resume=True)
    assert unlike(folder.path, outcome(tmp_path / "whole")) == []
    assert [record["lr"] for record in folder.read_metrics()] == pytest.approx([1e-3 / 3, 1e-4])


@pytest.mark.parametrize("times", [1, 2])
def test_resumed_in_the_evaluation(times, whole, tmp_path, monkeypatch):
    """Stopped there twice, the second session saves without having made a step."""
    folder = stop(tmp_path / "run", monkeypatch, STEPS, event="on_eval_begin")
    if times == 2:
        stop(folder.path, monkeypatch, STEPS, interrupt, event="on_eval_begin", resume=True)
    assert read_json(folder.last / STATE)["epoch_so_far"]["steps"] == STEPS
    fit(experiment(), folder.path, resume=True)
    assert unlike(folder.path, whole()) == []


@pytest.mark.parametrize("event", ["on_train_batch_begin", "on_eval_begin"])
def test_a_signal_saves_after_the_step_and_then_acts(event, whole, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    folder = stop(tmp_path / "run", monkeypatch, STEPS, interrupt, event=event)
    assert signal.getsignal(signal.SIGINT) is before
    state = read_json(folder.last / STATE)
    if event == "on_eval_begin":
        assert (len(state["records"]), state["epoch_so_far"]["steps"]) == (0, STEPS)
    else:
        assert (len(state["records"]), state["epoch_so_far"]["steps"]) == (1, 1)
    fit(experiment(), folder.path, resume=True)
    assert unlike(folder.path, whole()) == []


def test_a_run_without_a_checkpoint_yet_is_resumed_from_its_start(whole, tmp_path, monkeypatch):
    folder = stop(tmp_path / "run", monkeypatch, 0)
    assert not folder.last.exists()
    fit(experiment(), folder.path, resume=True)
    assert unlike(folder.path, whole()) == []


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", [WEIGHTS, OPTIMIZER, STATE])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(file, whole, tmp_path, monkeypatch, capsys):
    folder = stop(tmp_path / "run", monkeypatch, 4)
    damage(folder.last / file)
    fit(experiment(), folder.path, resume=True)
    told = capsys.readouterr().err
    assert f"checksum of {file} is wrong" in told and "the checkpoint before it" in told
    assert unlike(folder.path, whole()) == []


def test_two_damaged_checkpoints_are_refused(tmp_path, monkeypatch):
    folder = stop(tmp_path / "run", monkeypatch, 4)
    damage(folder.last / WEIGHTS)
    (folder.previous / OPTIMIZER).unlink()
    with pytest.raises(UserError, match=r"weights.safetensors is wrong.*no whole checkpoint.*--overwrite"):
        fit(experiment(), folder.path, resume=True)


def test_what_a_dead_writer_left_is_repaired(whole, tmp_path, monkeypatch):
    """Killed between `last` and `best`, with a torn VisualDL record, metrics ahead, and temporary files.

    AlexNet's first epoch stays the best.
    """
    folder = stop(tmp_path / "run", monkeypatch, 5, name="alexnet")
    assert whole("alexnet")["result"]["best"]["epoch"] == 1
    shutil.rmtree(folder.best)
    (log,) = folder.visualdl.glob("*.log")
    log.write_bytes(log.read_bytes() + (1000).to_bytes(8, "little") + b"torn")
    folder.metrics.write_text(folder.metrics.read_text() * 2)
    (folder.path / ".metrics.jsonl.0a.tmp.jsonl").write_text("half")
    (folder.checkpoints / ".last.0b.tmp").mkdir()
    fit(experiment("alexnet"), folder.path, resume=True)
    assert unlike(folder.path, whole("alexnet")) == []


def test_a_file_that_cannot_grow_stops_the_run(whole, tmp_path, monkeypatch):
    """What a quota or a full disk does, without a mount: no file above 3 MB, and the weights have 5."""
    folder = stop(tmp_path / "run", monkeypatch, 2)
    before = outcome_of_checkpoint(folder.last)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, hard))
    try:
        with pytest.raises(RunError, match=r"run cannot be written: file size limit.*--resume"):
            fit(experiment(), folder.path, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert outcome_of_checkpoint(folder.last) == before and folder.previous.is_dir()
    assert not [path for path in folder.path.rglob(".*") if is_temporary(path)]
    fit(experiment(), folder.path, resume=True)
    assert unlike(folder.path, whole()) == []


def outcome_of_checkpoint(folder) -> dict:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_no_temporary_file_makes_a_folder_foreign(tmp_path):
    (tmp_path / ".config.yaml.0a.tmp.yaml").write_text("half")
    result = fit(experiment(**{"train.epochs": 1, "train.checkpoint_steps": "null"}), tmp_path)
    assert result["epochs"] == 1


def test_time_and_machine_of_all_sessions_are_kept(tmp_path, monkeypatch):
    folder = stop(tmp_path / "run", monkeypatch, 4)
    state = read_json(folder.last / STATE)
    first = {**read_json(folder.environment), "cpu": "another processor"}
    write_json(folder.environment, first)
    began = time.perf_counter()
    result = fit(experiment(), folder.path, resume=True)
    assert state["seconds"] < result["wall_s"] < state["seconds"] + time.perf_counter() - began
    environment = read_json(folder.environment)
    (session,) = environment.pop("sessions")
    assert environment == first
    assert session["after_step"] == 4 and session["cpu"] != "another processor" and "python" not in session


def as_in_a_terminal():
    """Whoever started pytest (nohup, a shell's &) may have had signals ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def started(tmp_path):
    """A command that trains for long, started; it has a checkpoint."""
    options = [*kill_test.train_arguments(NAME, tmp_path / "run"), "-o", "train.epochs=200"]
    command = [sys.executable, "scripts/train.py", *options]
    process = subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=as_in_a_terminal,
    )  # fmt: skip
    folder = RunFolder(tmp_path / "run")
    for _ in range(600):
        if folder.previous.is_dir() or process.poll() is not None:
            break
        time.sleep(0.1)
    yield process, folder, options
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    "number, code",
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow)],
)
def test_a_signal_leaves_with_the_command_to_resume(number, code, started):
    process, folder, options = started
    refused = script("train", *options)
    assert_refused(refused, str(folder.path), f"process {process.pid}")
    began = time.perf_counter()
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == code and time.perf_counter() - began < 20
    assert "Traceback" not in told and not (folder.path / ".lock").exists()
    command = re.search(r"to continue: (.+)", told).group(1)
    assert shlex.split(command)[1:] == ["scripts/train.py", *options, "--resume"]
    before = read_json(folder.last / STATE)
    again = run([*shlex.split(command), "-o", "train.epochs=201"])
    assert_refused(again, "train.epochs: 200", "another experiment")
    assert read_json(folder.last / STATE) == before


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = """
import sys, time
from simam_repro.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(99)
"""
    holder = subprocess.Popen([sys.executable, "-c", code, tmp_path / "run"], cwd=ROOT, stdout=subprocess.PIPE)
    holder.stdout.readline()
    with pytest.raises(UserError, match=f"in use by process {holder.pid}"), locked(tmp_path / "run"):
        pass
    holder.kill()
    holder.wait()
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").read_text() == f"{os.getpid()} on {platform.node()}"
    assert not any((tmp_path / "run").iterdir())
    with locked(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_killed_by_sigkill_at_random_and_at_chosen_moments(tmp_path):
    """A handful; `make kill-test` does the rest."""
    options = ["--only", NAME, "--kills", 1, "--every", 160, "--output", tmp_path / "report.json"]
    done = script("kill_test", *options, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    report = read_json(tmp_path / "report.json")[NAME]
    assert report.pop("every") == 160
    counts = [count for way in report.values() for count in way.values()]
    assert sum(count["kills"] for count in counts) >= 3
    assert all(count["kills"] == count["identical"] for count in counts)
