"""Training in several processes (gloo, on a CPU): the same batches, one writer, and one end for all."""

import contextlib
import importlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import kill_test
import numpy as np
import pytest
from commands import ROOT, assert_refused, script
from rank_without_dropout import without_dropout
from safetensors.numpy import load_file

from simam_repro.cli import launch
from simam_repro.config import load_config
from simam_repro.data import prepare_data
from simam_repro.data.loaders import EpochSampler
from simam_repro.errors import LostRank
from simam_repro.locks import locked
from simam_repro.runs import RunFolder
from simam_repro.storage import read_json
from simam_repro.training import fit
from simam_repro.training.checkpoints import STATE, WEIGHTS
from simam_repro.training.meeting import Meeting

# 4 epochs of 3 steps on 10 images, 4 a batch, a checkpoint after each step; 6 images to evaluate on.
CONFIGS = ROOT / "configs"
SHORT = [
    *kill_test.train_arguments("towernet", "")[:-2], "-c", CONFIGS / "demo_towernet_simam.yaml",
    "-o", "train.epochs=4", "--nproc", "2",
]  # fmt: skip
STEPS = 12


def train(run_dir, *arguments):
    return script("train", *SHORT, "--run-dir", run_dir, *arguments)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run of two processes that was never stopped."""
    folder = tmp_path_factory.mktemp("processes")
    done = script("train", *SHORT, "--run-dir", folder / "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("  epoch ") == 4 and "2 processes" in done.stdout
    assert "Traceback" not in done.stderr
    assert [path.name for path in folder.iterdir()] == ["run"]  # no log/ of the launcher
    return RunFolder(folder / "run")


@pytest.mark.parametrize("images, ranks", [(10, 2), (11, 3), (9, 1)])
def test_shares_make_up_the_batches_of_one_process(images, ranks):
    one, *shares = (
        EpochSampler(np.arange(images), 4, seed=3, share=share)
        for share in [(0, 1), *((rank, ranks) for rank in range(ranks))]
    )
    for epoch in (1, 2):
        for sampler in (one, *shares):
            sampler.set_epoch(epoch, skip=1)
        batches = list(zip(one, *shares, strict=True))
        for step, (batch, *parts) in enumerate(batches, 1):
            assert sorted(batch) == sorted(key for part in parts for key in part)
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
            assert len(batch) == one.batch_images(step) == shares[-1].batch_images(step)


@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_the_gradient_is_the_mean_over_the_batch_however_it_is_shared(processes, tmp_path, monkeypatch):
    """Without dropout and BatchNorm several processes give the losses, metrics and weights of one, but for rounding."""
    changes = [word for word in kill_test.EXPERIMENTS["alexnet"] if "=" in word]
    # Of two processes, shares of 3 and 2 images, in the last batch of 2 and 1. (Adam would blow up rounding.)
    changes += [
        "train.mixup_alpha=0", "optim.name=sgd", "optim.learning_rate=0.01", "data.batch_size=5",
        "data.train_limit=13", "data.eval_limit=8",
    ]  # fmt: skip
    experiment = load_config(CONFIGS / "alexnet_simam.yaml", changes)
    monkeypatch.setattr(launch, "RANK", Path(__file__).with_name("rank_without_dropout.py"))
    data = prepare_data(experiment.data)
    launch.train_in_processes(processes, experiment, RunFolder(tmp_path / "several"), data)
    module = importlib.import_module("simam_repro.training.fit")
    monkeypatch.setattr(module, "build_model", without_dropout(module.build_model))
    fit(experiment, tmp_path / "one")

    one, several = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "several")
    for ours, theirs in zip(several.read_metrics(), one.read_metrics(), strict=True):
        assert ours.pop("evaluated_on") == theirs.pop("evaluated_on") == "eval"
        numbers = {key: value for key, value in theirs.items() if "seconds" not in key and "per_s" not in key}
        assert {key: ours[key] for key in numbers} == pytest.approx(numbers, rel=1e-5)
    weights = [load_file(run.last / WEIGHTS) for run in (one, several)]
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(several.read_predictions().logits_best, one.read_predictions().logits_best, atol=1e-4)
    assert several.read_result()["nproc"] == read_json(several.environment)["nproc"] == processes
    assert one.read_result()["nproc"] == read_json(one.environment)["nproc"] == 1
    assert {path.name for path in several.path.iterdir()} == {path.name for path in one.path.iterdir()}


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--nproc", "0"], ["--nproc", "'0'"]),
        (["--nproc", "two"], ["--nproc", "'two'"]),
        (["--nproc", "3"], ["data.batch_size: 4", "training batch of 2", "3 processes"]),
        (["--nproc", "2", "-o", "train.sync_batch_norm=true"], ["train.sync_batch_norm", "GPU"]),
    ],
)
def test_refused(arguments, words, tmp_path):
    done = train(tmp_path / "run", *arguments)
    assert_refused(done, *words)
    assert not (tmp_path / "run").exists()


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def start(run_dir, *arguments):
    """The training, and its ranks' process numbers once two more steps are saved."""
    command = [sys.executable, ROOT / "scripts" / "train.py", *SHORT, "--run-dir", run_dir, *arguments]
    process = subprocess.Popen(
        [str(word) for word in command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    before = saved_step(run_dir)
    end = time.monotonic() + 120
    while saved_step(run_dir) < before + 2:
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.01)
    return process, children(process.pid)


def saved_step(run_dir) -> int:
    try:
        return read_json(Path(run_dir) / "checkpoints" / "last" / STATE)["step"]
    except OSError:
        return 0


def running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def assert_gone(processes):
    end = time.monotonic() + 5
    while any(map(running, processes)):
        assert time.monotonic() < end
        time.sleep(0.05)


def kill_one(run_dir):
    """Train until a rank is killed; the others stop, and the command says what to do."""
    process, ranks = start(run_dir)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    began = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 15
    assert process.returncode == 1 and "continue with --resume" in errors and "Traceback" not in errors, errors
    assert_gone(ranks)


def test_when_one_is_killed_all_stop(tmp_path):
    kill_one(tmp_path / "run")
    assert_refused(train(tmp_path / "run", "--resume", "--nproc", "1"), "--nproc 2")


def listening(process: int) -> set[str]:
    """The addresses at which a process waits for others, as in /proc/net/tcp: hexadecimal, 0100007F is loopback."""
    sockets = set()
    for file in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):
            sockets.add(os.readlink(file))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {line[1].partition(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets}


def test_one_machine_needs_no_name_and_no_address_and_the_ranks_die_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "nowhere.invalid")
    process, ranks = start(tmp_path / "run")
    settings = Path(f"/proc/{ranks[0]}/environ").read_bytes().split(b"\0")
    assert b"GLOO_SOCKET_IFNAME=lo" in settings and not any(line.startswith(b"MASTER_ADDR") for line in settings)
    assert listening(ranks[0]) <= {"0100007F"} and listening(ranks[1]) <= {"0100007F"}
    process.kill()
    process.wait()
    assert_gone(ranks)
    process.stdout.close()
    with locked(tmp_path / "run"):
        pass


@pytest.mark.parametrize("gpu", [True, False])
def test_each_rank_is_told_its_place_and_nothing_of_other_launchers(gpu, tmp_path, monkeypatch):
    for name in ("PADDLE_TRAINER_ID", "PADDLE_ELASTIC_SERVER", "MASTER_PORT", "FLAGS_selected_gpus"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("FLAGS_paddle_num_threads", "5")
    ranks = launch._environments(2, gpu, tmp_path / "meeting")
    endpoints = ranks[0]["PADDLE_TRAINER_ENDPOINTS"].split(",")
    assert len({*endpoints, ranks[0]["PADDLE_MASTER"]}) == 3
    for rank, environment in enumerate(ranks):
        assert environment["PADDLE_TRAINER_ID"] == str(rank) and environment["PADDLE_TRAINERS_NUM"] == "2"
        assert environment["PADDLE_CURRENT_ENDPOINT"] == endpoints[rank]
        assert environment.get("FLAGS_selected_gpus") == (str(rank) if gpu else None)
        assert environment.get("PADDLE_DISTRI_BACKEND") == (None if gpu else "gloo")
        assert environment["FLAGS_paddle_num_threads"] == "2"
        assert not {"PADDLE_ELASTIC_SERVER", "MASTER_PORT"} & set(environment)


def test_what_all_processes_of_a_job_are_told_at_once_saves_a_checkpoint(tmp_path):
    process, ranks = start(tmp_path / "run", "-o", "train.checkpoint_steps=null", "-o", "train.epochs=40")
    assert saved_step(tmp_path / "run") == 3  # of the first epoch's end
    for number in (process.pid, *ranks):
        os.kill(number, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143 and "to continue: " in errors and "Traceback" not in errors, errors
    assert_gone(ranks)
    assert saved_step(tmp_path / "run") > 3
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_rank_that_is_told_to_stop_is_not_said_to_lack_memory(tmp_path):
    process, ranks = start(tmp_path / "run")
    os.kill(ranks[1], signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143 and "terminated by SIGTERM" in errors and "memory" not in errors, errors
    assert "to continue: " in errors


@pytest.mark.parametrize("came, again, dies", [(1, False, True), (2, False, False), (2, True, True)])
def test_who_hears_no_signal_is_killed_while_joining_or_at_the_second(came, again, dies, tmp_path, monkeypatch):
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    process.stdout.readline()
    meeting = Meeting(tmp_path / "meeting", 1)
    meeting.counts[0] = came
    try:
        with launch._signals_passed_on([process], meeting) as received:
            os.kill(os.getpid(), signal.SIGTERM)
            now = time.monotonic()
            monkeypatch.setattr(time, "monotonic", lambda: now + 5)
            if again:
                os.kill(os.getpid(), signal.SIGTERM)
            monkeypatch.undo()
        assert set(received) == {signal.SIGTERM}
        if dies:
            assert process.wait(10) == -signal.SIGKILL
        else:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.2)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("failing", [0, 1])
def test_when_one_fails_the_others_are_not_waited_for(failing, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.2)
    codes = ["import time; time.sleep(60)", "raise SystemExit(3)"]
    ranks = [subprocess.Popen([sys.executable, "-c", codes[rank == failing]]) for rank in range(2)]
    meeting = Meeting(tmp_path / "meeting", 2)
    launch._watch(ranks, meeting)
    assert ranks[failing].returncode == 3 and ranks[1 - failing].returncode == -signal.SIGKILL
    meeting.counts[1] = -1
    with pytest.raises(LostRank):
        meeting.wait(0)


def test_ranks_wait_for_each_other_and_not_for_the_dead(tmp_path):
    first, second = Meeting(tmp_path / "meeting", 2), Meeting(tmp_path / "meeting", 2)
    came = []

    def late():
        time.sleep(0.2)
        came.append(True)
        second.wait(1)

    thread = threading.Thread(target=late)
    thread.start()
    first.wait(0)
    assert came
    thread.join()
    threading.Timer(0.1, second.give_up).start()
    with pytest.raises(LostRank):
        first.wait(0)


@pytest.mark.slow
def test_a_rank_that_stands_still_for_longer_than_gloo_waits_is_waited_for(whole, tmp_path, monkeypatch):
    process, ranks = start(tmp_path / "run")
    os.kill(ranks[0], signal.SIGSTOP)
    time.sleep(70)
    os.kill(ranks[0], signal.SIGCONT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert f"process 0 (PID {ranks[0]}) is late" in errors
    assert kill_test.differences(kill_test.outcome(whole.path), kill_test.outcome(tmp_path / "run")) == []


@pytest.mark.slow
def test_killed_and_stopped_it_goes_on_to_the_same_end(whole, tmp_path):
    kill_one(tmp_path / "run")
    process, ranks = start(tmp_path / "run", "--resume")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "to continue: " in errors and "--nproc 2" in errors and "Traceback" not in errors, errors
    assert_gone(ranks)
    assert 4 <= saved_step(tmp_path / "run") < STEPS

    (command,) = [line for line in errors.splitlines() if line.startswith("to continue: ")]
    done = subprocess.run(shlex.split(command.removeprefix("to continue: ")), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert kill_test.differences(kill_test.outcome(whole.path), kill_test.outcome(tmp_path / "run")) == []


@pytest.mark.slow
def test_what_one_process_fails_of_is_told(tmp_path):
    """The learning rate makes the loss infinite: an error of the run, told once."""
    done = train(tmp_path / "run", "-o", "optim.learning_rate=10", "-o", "optim.name=sgd", "-o", "train.epochs=40")
    assert done.returncode == 1 and done.stderr.count("error: ") == 1, done.stderr
    assert "finite" in done.stderr and "Traceback" not in done.stderr
