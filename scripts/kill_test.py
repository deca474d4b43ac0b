"""Kill training with SIGKILL, resume it, and compare what it leaves with a run that was never stopped."""

import argparse
import collections
import hashlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import _checkout  # noqa: F401

from simam_repro import cli
from simam_repro.config import PROJECT_ROOT

# Short runs on generated images. Both have mid-epoch checkpoints, an uneven last batch and shuffled, augmented images;
# AlexNet has dropout, label smoothing, mixup and threads that make batches ahead.
SHORT = ["train.epochs=2", "data.eval_limit=6", "logging.step_interval=1", "train.device=cpu"]
EXPERIMENTS = {
    "towernet": [
        "-c", "configs/demo_towernet_simam.yaml", "train.checkpoint_steps=1", "data.train_limit=10",
        "data.batch_size=4", *SHORT,
    ],
    "alexnet": [
        "-c", "configs/alexnet_simam.yaml", "data.dataset=shapes16", "train.checkpoint_steps=2", "data.train_limit=18",
        "data.batch_size=4", "data.drop_last=false", "train.mixup_alpha=0.4", *SHORT,
    ],
}  # fmt: skip
SPEEDS = {
    "train_seconds", "train_wait_seconds", "train_wait_fraction", "train_images_per_s", "eval_seconds",
    "eval_images_per_s", "wall_s",
}  # fmt: skip
CHANGES_OF_THE_DISK = ("mkdir", "rename", "replace", "link", "unlink", "rmdir", "fsync")


def train_arguments(name: str, run_dir) -> list[str]:
    """The command line of a short run, begun anew or resumed as the folder asks for."""
    options = [part for word in EXPERIMENTS[name] for part in (["-o", word] if "=" in word else [word])]
    resume = ["--resume"] if (Path(run_dir) / "config.yaml").exists() else []
    return [*options, "--run-dir", str(run_dir), *resume]


def outcome(run_dir) -> dict:
    """What must not depend on whether a run was stopped: each part as a digest or as numbers."""
    import numpy as np
    from safetensors.numpy import load_file
    from visualdl import LogReader

    from simam_repro.locks import LOCK
    from simam_repro.runs import RunFolder
    from simam_repro.storage import is_temporary

    def digest(arrays) -> str:
        content = hashlib.sha256()
        for key, value in sorted(arrays.items()):
            content.update(f"{key} {value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        return content.hexdigest()

    run = RunFolder(run_dir)
    (log,) = run.visualdl.glob("*.log")
    reader = LogReader(file_path=str(log))
    points = {tag: reader.get_data("scalar", tag) for tag in reader.get_tags()["scalar"]}
    return {
        **{
            f"{folder.name}/{file}": digest(load_file(folder / f"{file}.safetensors"))
            for folder, file in itertools.product((run.last, run.best), ("weights", "optimizer"))
        },
        "metrics": [{key: value for key, value in line.items() if key not in SPEEDS} for line in run.read_metrics()],
        "visualdl": {
            tag: [(point.id, None if tag.startswith("speed/") else point.value) for point in values]
            for tag, values in points.items()
        },
        "visualdl images": sorted(reader.get_tags().get("image", [])),
        "predictions": digest(vars(run.read_predictions())),
        "result": {key: value for key, value in run.read_result().items() if key not in SPEEDS},
        "files": sorted(
            str(path.relative_to(run.path))
            for path in run.path.rglob("*")
            if not path.name.startswith("vdlrecords") and path.name != LOCK  # freed by the system, not removed
        ),
        "left over": [path.name for path in run.path.rglob(".*") if is_temporary(path)],
    }


def finished(run_dir) -> bool:
    """Whether it died after its last file was there, so that nothing is left to resume."""
    from simam_repro.runs import RunFolder

    return RunFolder(run_dir).finished


def differences(expected: dict, found: dict) -> list[str]:
    return [key for key in expected if expected[key] != found[key]]


def phase(run_dir, epochs: int = 2) -> str:
    """What a run was doing when it died, by what it left."""
    from simam_repro.runs import RunFolder
    from simam_repro.storage import is_temporary, read_json
    from simam_repro.training.checkpoints import STATE

    run = RunFolder(run_dir)
    if not run.started:
        return "before the folder's first file"
    if run.complete:
        return "figures"
    if any(is_temporary(path) for path in run.checkpoints.glob("*")):
        return "writing a checkpoint"
    if any(is_temporary(path) for path in run.path.rglob(".*")):
        return "writing another file"
    if not run.last.is_dir():
        return "before the first checkpoint" if not run.previous.is_dir() else "writing a checkpoint"
    records = len(read_json(run.last / STATE)["records"])
    return "predictions and result" if records == epochs else "training and evaluation"


def die_at(count: int) -> None:
    """From now on this process kills itself instead of its `count`-th change of the disk."""
    calls = itertools.count(1)

    def dying(function):
        def call(*args, **keys):
            if next(calls) == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **keys)

        return call

    for name in CHANGES_OF_THE_DISK:
        setattr(os, name, dying(getattr(os, name)))


def train_in_fork(name: str, run_dir, die_at_change: int | None = None) -> int:
    """Train in a child that has everything imported already; returns its exit code, -9 when it died."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            from simam_repro.cli.commands import train

            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.argv = ["train.py", *train_arguments(name, run_dir)]
            if die_at_change:
                die_at(die_at_change)
            train.main()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def sweep(name: str, folder: Path, expected: dict, every: int = 1) -> list[tuple[str, list[str]]]:
    """Die at each (or each `every`-th) change of the disk of one run, resume once; (phase, differences) of each."""
    found = []
    for count in itertools.count(1, every):
        run_dir = folder / f"{name}-change{count}"
        code = train_in_fork(name, run_dir, count)
        if code == 0:
            shutil.rmtree(run_dir)
            return found
        assert code == -signal.SIGKILL, f"exit code {code} where it was to die"
        when = phase(run_dir)
        code = 0 if finished(run_dir) else train_in_fork(name, run_dir)
        found.append((when, differences(expected, outcome(run_dir)) if code == 0 else [f"exit code {code}"]))
        _report(f"{name}, change {count}", *found[-1])
        shutil.rmtree(run_dir)


def kill_at_random(name: str, run_dir: Path, delay: float) -> bool:
    """Start training by its command line, kill it `delay` seconds after it took the folder; whether it was killed."""
    command = [sys.executable, str(PROJECT_ROOT / "scripts/train.py"), *train_arguments(name, run_dir)]
    process = subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL)
    lock = run_dir / ".lock"
    before = lock.stat().st_mtime_ns if lock.exists() else None
    while process.poll() is None and not (lock.exists() and lock.stat().st_mtime_ns != before):
        time.sleep(0.01)
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        process.kill()
    return process.wait() == -signal.SIGKILL


def random_kills(name: str, folder: Path, expected: dict, kills: int, per_run: int, seconds: float, rng):
    """`per_run` kills at random moments of one run, then the rest of it; again until there were `kills`."""
    found = []
    for number in itertools.count(1):
        run_dir, phases = folder / f"{name}-random{number}", []
        while (
            len(phases) < per_run and not finished(run_dir) and kill_at_random(name, run_dir, rng.uniform(0, seconds))
        ):
            phases.append(phase(run_dir))
        arguments = train_arguments(name, run_dir)
        command = [sys.executable, "scripts/train.py", *arguments]
        code = 0
        if not finished(run_dir):
            code = subprocess.run(command, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL).returncode
        unlike = differences(expected, outcome(run_dir)) if code == 0 else [f"exit code {code}"]
        found += [(when, unlike) for when in phases]
        _report(f"{name}, run {number}", ", ".join(phases), unlike)
        shutil.rmtree(run_dir)
        if len(found) >= kills:
            return found


def _report(what: str, when: str, unlike: list[str]) -> None:
    print(f"{what}: {when}: {'DIFFERS in ' + ', '.join(unlike) if unlike else 'identical'}", flush=True)


def table(found) -> dict:
    """{phase: {"kills": n, "identical": m}}"""
    kills = collections.Counter(when for when, _ in found)
    identical = collections.Counter(when for when, unlike in found if not unlike)
    return {when: {"kills": kills[when], "identical": identical[when]} for when in sorted(kills)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=EXPERIMENTS, help="one of the networks; default both")
    parser.add_argument("--kills", type=cli.positive, default=30, help="random kills of each network; default 30")
    parser.add_argument("--every", type=cli.positive, default=1, help="die at every N-th change of the disk; default 1")
    parser.add_argument("--output", type=Path, default=PROJECT_ROOT / "results/kill_test.json")
    arguments = parser.parse_args()

    import simam_repro.reporting  # noqa: F401  for the forks
    from simam_repro.errors import RunError
    from simam_repro.storage import write_json
    from simam_repro.training.environment import describe_environment

    rng = random.Random(0)
    report, failed = {"environment": describe_environment("cpu")}, 0
    names = [arguments.only] if arguments.only else list(EXPERIMENTS)
    for name in names:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            train_in_fork(name, folder / "whole")
            expected = outcome(folder / "whole")
            # The first may have had data to make and an operator to compile: the kills are to hit the second's time.
            began = time.perf_counter()
            train_in_fork(name, folder / "timed")
            seconds = time.perf_counter() - began
            swept = sweep(name, folder, expected, arguments.every)
            random_ = random_kills(name, folder, expected, arguments.kills, 3, seconds, rng)
        report[name] = {
            "every": arguments.every,
            "at changes of the disk": table(swept),
            "at random moments": table(random_),
        }
        failed += sum(bool(unlike) for _, unlike in swept + random_)
    write_json(arguments.output, report)
    for name, way in itertools.product(names, ("at changes of the disk", "at random moments")):
        print(f"\n{name}, killed {way}")
        for when, counts in report[name][way].items():
            print(f"  {when:32s} {counts['kills']:4d} kills  {counts['identical']:4d} identical")
    if failed:
        raise RunError(f"after {failed} kills the resumed run was another one")


if __name__ == "__main__":
    cli.run(main)
