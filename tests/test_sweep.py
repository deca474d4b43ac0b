"""Sweeps: what a file stands for, what is refused, and runs that are skipped, killed, stopped and failing."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import keep_results
import pytest
import yaml
from commands import ROOT, SETTINGS, assert_refused, run, script
from kill_test import differences, outcome

from simam_repro import cli
from simam_repro.cli import jobs as sweep_jobs
from simam_repro.cli import process
from simam_repro.cli.commands import sweep
from simam_repro.cli.sweep_report import cells
from simam_repro.config import ARM_KEYS, load_config
from simam_repro.errors import RunError, UserError
from simam_repro.locks import holder, locked
from simam_repro.runs import RUNS_ROOT, RunFolder
from simam_repro.storage import read_json, write_json, write_text
from simam_repro.sweeps import read_sweep, sweep_of, take_kept

OFF, ON = "configs/demo_towernet.yaml", "configs/demo_towernet_simam.yaml"
SMALL = {"data.train_limit": 8, "data.eval_limit": 4, "data.batch_size": 4, "train.checkpoint_steps": 1}
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def names(runs) -> list[str]:
    return [run.name for run in runs]


# The file


def test_grid_has_seeds_outermost_and_pairs_together(write_sweep_file):
    configs = [OFF, "configs/alexnet.yaml", "configs/alexnet_simam.yaml", ON]
    runs = read_sweep(write_sweep_file(configs, [3, 1]), "somewhere")
    assert names(runs) == [
        f"{name}-seed{seed}"
        for seed in (3, 1)
        for name in ("demo_towernet", "demo_towernet_simam", "alexnet", "alexnet_simam")
    ]
    assert str(runs[1].folder.path) == "somewhere/demo_towernet_simam/seed3"


def test_variants_and_overrides_and_what_counts_before_what(write_sweep_file):
    changes = {"train.epochs": 7, "data.mean": [0.1, 0.2, 0.3], "optim.learning_rate": 1e-05}
    variants = {"plain": {}, "long.2": {"train.epochs": 9, "model.weights": "a: b.safetensors"}}
    runs = read_sweep(write_sweep_file(overrides=changes, variants=variants), "x", ["data.eval_limit=5"])
    assert names(runs) == [
        "demo_towernet-plain-seed0", "demo_towernet_simam-plain-seed0",
        "demo_towernet-long.2-seed0", "demo_towernet_simam-long.2-seed0",
    ]  # fmt: skip
    plain, long = (runs[index].experiment for index in (1, 3))
    assert (plain.train.epochs, long.train.epochs) == (7, 9) and long.model.weights == "a: b.safetensors"
    for experiment in (plain, long):
        assert experiment.data.mean == (0.1, 0.2, 0.3) and experiment.optim.learning_rate == 1e-05
        assert experiment.data.eval_limit == 5


def test_each_seed_may_have_a_split_of_its_own(write_sweep_file):
    runs = read_sweep(write_sweep_file([OFF, ON], [3, 1], splits=[0, 4]), "x")
    assert [(run.experiment.seed, run.experiment.data.split) for run in runs] == [(3, 0), (3, 0), (1, 4), (1, 4)]
    with pytest.raises(UserError, match="splits: 1 for 2 seeds"):
        read_sweep(write_sweep_file([OFF, ON], [3, 1], splits=[0]), "x")


ARMS = ["none", "simam", {"name": "se", "reduction": 8}, {"name": "simam", "e_lambda": 1.0e-3}]


def test_arms_are_each_config_with_each_attention(write_sweep_file):
    path = write_sweep_file([OFF, "configs/alexnet.yaml"], [3, 1], arms=ARMS, overrides={"train.epochs": 7})
    runs = read_sweep(path, "x", ["data.eval_limit=5"])
    arms = ("none", "simam", "se-reduction8", "simam-e_lambda0.001")
    assert names(runs) == [
        f"{name}-{arm}-seed{seed}" for seed in (3, 1) for name in ("demo_towernet", "alexnet") for arm in arms
    ]
    assert str(runs[2].folder.path) == "x/demo_towernet-se-reduction8/seed3"
    assert len({json.dumps(run.experiment.recipe(without=ARM_KEYS)) for run in runs[:4]}) == 1
    assert [run.experiment.model.attention.name for run in runs[:4]] == ["none", "simam", "se", "simam"]
    assert runs[2].experiment.model.attention.reduction == 8 and runs[3].experiment.model.attention.e_lambda == 1e-3
    assert {run.experiment.train.epochs for run in runs} == {7}
    # With variants the name has both; a variant may change the arm's keys, as position.
    variants = {"norm": {"model.attention.position": "norm"}}
    (_, run) = read_sweep(write_sweep_file([OFF], [0], arms=ARMS[1:3], variants=variants), "x")
    assert run.name == "demo_towernet-se-reduction8-norm-seed0" and run.experiment.model.attention.position == "norm"


def test_the_command_of_an_arm_trains_its_experiment(write_sweep_file):
    run = read_sweep(write_sweep_file([OFF], [0], arms=ARMS[2:]), "x")[0]
    words = sweep_jobs.train_command(run, smoke=False)
    overrides = [word for flag, word in zip(words, words[1:]) if flag == "-o"]
    assert load_config(run.config, overrides) == run.experiment


def test_the_command_of_a_run_trains_its_experiment(write_sweep_file):
    (*_, last) = read_sweep(
        write_sweep_file(overrides={"train.epochs": 3}, variants={"v": {"data.std": [1.0, 1.0, 1e-3]}}), "x"
    )
    done = run([*sweep_jobs.train_command(last, smoke=False), "--print-config"])
    assert yaml.safe_load(done.stdout) == last.experiment.model_dump(mode="json"), done.stderr


FILES = sorted((ROOT / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_sweep_is_valid_and_has_arms_and_a_target(path):
    comparisons = {}
    for experiment in [one.experiment for one in read_sweep(path, "x")]:
        comparisons.setdefault(json.dumps(experiment.recipe(ARM_KEYS)), []).append(experiment.model.attention)
    for attention in comparisons.values():
        assert attention[0].name == "none" and len(set(map(repr, attention))) == len(attention) > 1
    (words,) = re.findall(r"^# Run: +make (\S+(?: SWEEP=\S+)?)$", path.read_text(), re.MULTILINE)
    plan = run(["make", "-n", "-o", ".venv/.ready", *words.split(), "JOBS=3", "ARGS=--smoke"])
    command = "sweep.py" if words.startswith("sweep-") else "signal_propagation.py"
    jobs = " --jobs 3" if words.startswith("sweep-") else ""
    assert f"scripts/{command} -c sweeps/{path.name}{jobs} --smoke" in plan.stdout.replace("'", ""), plan.stderr


def test_the_full_recipes_are_the_originals():
    for name, config, seeds in (("caltech_towernet", "caltech_towernet", 5), ("cifar_alexnet", "alexnet", 5)):
        runs = read_sweep(ROOT / f"sweeps/{name}.yaml", "x")
        assert len({run.experiment.seed for run in runs}) == seeds and len(runs) == 2 * seeds
        plain = load_config(ROOT / f"configs/{config}.yaml", [f"seed={runs[0].experiment.seed}"])
        assert runs[0].experiment == plain


BAD = {
    "unknown key": ({"seed": 1}, ["seed: unknown key", "did you mean seeds"]),
    "key like none": ({"zzz": 1}, ["zzz: unknown key", "configs, arms, seeds, splits, overrides, variants"]),
    "no configs": ({"configs": []}, ["configs", "at least 1"]),
    "configs missing": ({"configs": None}, ["configs", "list"]),
    "config twice": ({"configs": [OFF, OFF]}, [OFF, "twice"]),
    "no such config": ({"configs": ["configs/demo_towrnet.yaml"]}, ["cannot read", "did you mean", OFF]),
    "seed twice": ({"seeds": [1, 1]}, ["seeds", "1 is there twice"]),
    "seed is text": ({"seeds": ["1"]}, ["seeds.0", "integer"]),
    "seed below 0": ({"seeds": [-1]}, ["seeds.0", "greater than or equal to 0"]),
    "seeds is a number": ({"seeds": 3}, ["seeds", "list"]),
    "section": ({"overrides": {"data": {"image_size": 128}}}, ["overrides.data", "flat", "data.image_size: 128"]),
    "unknown override": ({"overrides": {"train.epoch": 1}}, [OFF, "train.epoch", "did you mean train.epochs"]),
    "wrong override": ({"overrides": {"train.epochs": "many"}}, ["train.epochs", "integer", "many"]),
    "infinite": ({"overrides": {"optim.learning_rate": float("inf")}}, ["optim.learning_rate"]),
    "a date is a text": ("overrides: {data.folder: 2001-01-01}", ["data.folder names the folder of dataset: folder"]),
    "huge": (f"overrides: {{train.epochs: 0x{'f' * 9000}}}", ["overrides.train.epochs", "a number, a text"]),
    "name": ({"overrides": {"name": "x"}}, ["overrides", "name", "variant"]),
    "seed in variant": ({"variants": {"v": {"seed": 1}}}, ["variants.v", "seed", "seeds"]),
    "variant's name": ({"variants": {"a/b": {}}}, ["variants.a/b", "letters, digits"]),
    "wrong variant": ({"variants": {"ok": {}, "v": {"train.epochs": 0}}}, ["variant v", "train.epochs"]),
    "no such arm": ({"arms": ["none", "sima"]}, [OFF, "arm sima", "did you mean simam"]),
    "wrong key of an arm": (
        {"arms": [{"name": "se", "reductio": 8}]}, ["arm se-reductio8", "did you mean model.attention.reduction"]
    ),
    "arm without name": ({"arms": [{"reduction": 8}]}, ["model.attention", "name: missing"]),
    "arm is a number": ({"arms": [3]}, ["arms.0", "a module's name"]),
    "arm twice": ({"arms": ["none", "none"]}, ["arms", "none is there twice"]),
    "both configs of a pair": (
        {"arms": ["none", "simam"]}, ["demo_towernet-none", "demo_towernet_simam-none", "the same experiment"]
    ),
    "same names": ({"variants": {"v": {}}, "configs": [OFF, "COPY"]}, ["both named demo_towernet-v", "folder"]),
    "image too small": ({"overrides": {"data.image_size": 64}}, ["data.image_size", "64", "128", "towernet"]),
    "no mapping": ("- a", ["a sweep is a mapping", "configs"]),
    "no YAML": ("a: [", ["not valid YAML"]),
}  # fmt: skip


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """refused(path, *arguments) -> what sweep.py says; it has exit code 2 and left no folder."""

    def call(path, *arguments):
        monkeypatch.setattr(cli, "raise_on_termination", lambda: None)
        command = ["sweep.py", "-c", path, "--sweep-dir", tmp_path / "out", *arguments]
        monkeypatch.setattr(sys, "argv", [str(word) for word in command])
        with pytest.raises(SystemExit) as caught:
            cli.run(sweep.main, computes=False)
        assert caught.value.code == 2 and not (tmp_path / "out").exists()
        return capsys.readouterr().err

    return call


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_before_anything_runs(kind, write_sweep_file, refused, tmp_path):
    wrong, words = BAD[kind]
    if kind == "same names":
        shutil.copytree(ROOT / "configs", tmp_path / "configs")
        wrong = {**wrong, "configs": [OFF, str(tmp_path / OFF)]}
    path = write_sweep_file(**({} if isinstance(wrong, str) else wrong))
    if isinstance(wrong, str):
        path.write_text(wrong if "overrides" not in wrong else f"{path.read_text()}{wrong}")
    told = refused(path)
    assert "error: " in told and all(word in told for word in [str(path), *words]), told


def test_bad_arguments_are_refused(write_sweep_file, refused, tmp_path):
    assert "--jobs" in refused(write_sweep_file(), "--jobs", "0")
    assert "did you mean" in refused(tmp_path / "smal.yaml")
    assert "train.epoch" in refused(write_sweep_file(), "-o", "train.epoch=1")
    assert "named like its file" in refused(write_sweep_file(name="my sweep"))
    assert_refused(script("sweep", "-c", write_sweep_file(seeds=[]), "--sweep-dir", tmp_path / "out"), "seeds")


# Time


@pytest.fixture
def jobs(write_sweep_file, tmp_path):
    """Nine jobs that wait, of 4 epochs each."""
    runs = read_sweep(write_sweep_file([OFF], list(range(9)), overrides={"train.epochs": 4}), tmp_path / "out")
    return [sweep_jobs.Job(run, tmp_path / f"{run.name}.log") for run in runs]


def test_a_run_that_another_process_works_on_is_waited_for(jobs):
    job = jobs[0]
    assert job.may_start()
    with locked(job.run.folder.path):
        assert not job.may_start() and job.state == sweep_jobs.IN_USE and job.waits
    assert job.may_start() and job.state == sweep_jobs.WAITING


def test_processors_are_shared_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setattr(process, "processors", lambda: 8)
    for processes, threads in ((1, "8"), (3, "2"), (16, "1")):
        environment = {"MKL_NUM_THREADS": "5"}
        process.set_threads(environment, processes)
        assert environment == {"FLAGS_paddle_num_threads": threads, "MKL_NUM_THREADS": "5"}


# For real


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A small sweep that nothing disturbed: (its file, its folder, what it printed)."""
    folder = tmp_path_factory.mktemp("swept")
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({"configs": [OFF, ON], "seeds": [0], "overrides": SMALL}))
    done = sweep_command(path, folder / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    return path, folder / "out", done.stdout


def sweep_command(path, folder, *more):
    # FORCE_COLOR makes rich take anything for a terminal.
    return script("sweep", "-c", path, "--sweep-dir", folder, "--smoke", "--jobs", 2, *more, env={"FORCE_COLOR": "1"})


def run_folders(folder) -> dict:
    return {path.parent.name: path for path in sorted(folder.glob("*/seed*"))}


def results(folder) -> dict:
    return {name: outcome(path) for name, path in run_folders(folder).items()}


def test_a_sweep_leaves_complete_runs_logs_and_a_comparison(swept):
    _, folder, told = swept
    assert list(run_folders(folder)) == ["demo_towernet", "demo_towernet_simam"]
    threads = SETTINGS["FLAGS_paddle_num_threads"]
    for name, path in run_folders(folder).items():
        result = RunFolder(path).read_result()
        assert RunFolder(path).finished and result["epochs"] == 1 and result["data"]["train_images"] == 8
        assert read_json(path / "environment.json")["threads"] == int(threads)
        log = (folder / "logs" / f"{name}-seed0.log").read_text()
        assert "__main__.py train -c configs/" in log and "epoch 1/1" in log
        assert f"{name}-seed0: running\n" in told
        assert f"{name}-seed0: complete, final eval accuracy {result['final']['eval_acc']:.2%}" in told
    assert (folder / "comparison.png").is_file() and "comparison.png" in told
    assert not CONTROL.search(told)


def test_a_complete_sweep_is_skipped(swept):
    path, folder, _ = swept
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}
    done = sweep_command(path, folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 complete\n") and "running" not in done.stdout
    after = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}
    changed = {file.name for file in before.keys() | after.keys() if before.get(file) != after.get(file)}
    assert changed <= {"comparison.png", "comparison.json"}


def test_a_changed_sweep_is_refused(swept):
    path, folder, _ = swept
    done = sweep_command(path, folder, "-o", "optim.learning_rate=0.5")
    assert_refused(done, "demo_towernet/seed0", "optim.learning_rate differ", "remove that folder")
    assert results(folder)  # still there


def test_runs_that_were_kept_elsewhere_count(swept, tmp_path, capsys):
    path, folder, _ = swept
    keep_results.keep_run(RunFolder(folder / "demo_towernet" / "seed0"), tmp_path / "kept")
    done = sweep_command(path, tmp_path / "out", "--kept", tmp_path / "kept")
    assert done.returncode == 0, done.stderr
    assert "1 run taken from" in done.stdout and "1 complete (1 kept), 1 waiting" in done.stdout
    taken, trained = run_folders(tmp_path / "out").values()
    assert not (taken / "checkpoints").exists() and (trained / "checkpoints").is_dir()
    numbers, before = (read_json(place / "comparison.json")["comparisons"] for place in (tmp_path / "out", folder))
    assert numbers[0]["arms"][0]["final"] == before[0]["arms"][0]["final"]
    # It is kept again as it was.
    keep_results.keep_run(RunFolder(taken), tmp_path / "again")
    files = {file.name: file.read_bytes() for file in taken.iterdir() if file.is_file()}
    again = RunFolder(tmp_path / "again" / "demo_towernet" / "seed0").path
    assert {file.name: file.read_bytes() for file in again.iterdir()} == files and len(files) == 5
    job = sweep_jobs.Job(read_sweep(path, tmp_path / "out", smoke_test=True)[0], tmp_path / "log")
    assert cells(job, None)[3] == "kept"
    # A second training of it stays out of the way.
    another = shutil.copytree(taken, tmp_path / "another")
    write_json(another / "result.json", {**read_json(again / "result.json"), "wall_s": 1.0})
    keep_results.keep_run(RunFolder(another), tmp_path / "again")
    assert "another training and stays" in capsys.readouterr().out
    assert (again / "result.json").read_bytes() == files["result.json"]


def test_kept_runs_that_are_refused(swept, tmp_path):
    path, folder, _ = swept
    runs = read_sweep(path, tmp_path / "out", smoke_test=True)
    with pytest.raises(UserError, match="seed0 has no outcomes.json"):
        take_kept(runs, folder)
    keep_results.keep_run(RunFolder(folder / "demo_towernet" / "seed0"), tmp_path / "kept")
    other = read_sweep(path, tmp_path / "out", ["optim.learning_rate=0.5"], smoke_test=True)
    with pytest.raises(UserError, match="another experiment: optim.learning_rate differ"):
        take_kept(other, tmp_path / "kept")
    with pytest.raises(UserError, match="no complete run of this sweep"):
        take_kept(runs, tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()


def start(path, folder, *more) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, ROOT / "scripts/sweep.py", "-c", path, "--sweep-dir", folder, *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def wait_for(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_killed_and_started_again_it_has_the_results_of_an_undisturbed_one(swept, tmp_path):
    path, whole, _ = swept
    process = start(path, tmp_path / "out", "--smoke", "--jobs", "2")
    wait_for(lambda: list((tmp_path / "out").glob("*/seed*/checkpoints/last")) or process.poll() is not None)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    done = sweep_command(path, tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    expected, found = results(whole), results(tmp_path / "out")
    assert list(found) == list(expected)
    assert [differences(expected[name], found[name]) for name in expected] == [[], []]


@pytest.mark.parametrize(
    "number, code",
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_no_run_goes_on_without_its_sweep(number, code, write_sweep_file, tmp_path):
    path, folder = write_sweep_file([OFF], overrides={**SMALL, "train.epochs": 2000}), tmp_path / "out"
    process, trained = start(path, folder), RunFolder(folder / "demo_towernet" / "seed0")
    wait_for(lambda: trained.previous.is_dir() or process.poll() is not None)
    if number == signal.SIGINT:
        assert_refused(script("sweep", "-c", path, "--sweep-dir", folder), str(folder), f"process {process.pid}")
    process.send_signal(number)
    told, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    if number == signal.SIGKILL:
        log = folder / "logs" / "demo_towernet-seed0.log"  # which its last words reach after the lock is gone
        wait_for(lambda: holder(trained.path) is None and "to continue" in log.read_text(), 30)
    else:
        assert "Traceback" not in errors and f"to continue: {sys.executable}" in errors
        assert "scripts/sweep.py -c" in errors and not (trained.path / ".lock").exists()
    assert not trained.complete and "to continue" in (folder / "logs" / "demo_towernet-seed0.log").read_text()


def test_a_failing_run_stops_no_other(write_sweep_file, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text(f"base: {ROOT / OFF}\nname: bad\nmodel: {{weights: nowhere.safetensors}}\n")
    path = write_sweep_file([str(bad), OFF], overrides=SMALL)
    done = sweep_command(path, tmp_path / "out")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "1 of 2 runs failed" in done.stderr and "bad-seed0.log: error: " in done.stderr
    assert "nowhere.safetensors" in done.stderr and "bad-seed0: failed (exit 2)" in done.stdout
    assert list(run_folders(tmp_path / "out")) == ["demo_towernet"]
    assert RunFolder(tmp_path / "out/demo_towernet/seed0").finished


def test_exit_code_2_when_all_runs_were_refused(jobs):
    for job in jobs:
        job.state, job.code = sweep_jobs.FAILED, 2
        write_text(job.log, "$ train.py\nerror: the reason\n")
    with pytest.raises(UserError, match=r"9 of 9 runs failed:\n.*demo_towernet-seed0.log: error: the reason"):
        sweep.check_outcome(jobs)
    jobs[0].code = 1
    with pytest.raises(RunError):
        sweep.check_outcome(jobs)


# Keeping


def test_results_of_a_sweep_are_kept_below_its_name(swept, tmp_path):
    _, folder, _ = swept
    done = script("keep_results", folder, folder / "demo_towernet" / "seed0", "--to", tmp_path)
    assert done.returncode == 0, done.stderr
    kept = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    files = ("config.yaml", "environment.json", "metrics.jsonl", "outcomes.json", "result.json")
    places = ("out/demo_towernet/seed0", "out/demo_towernet_simam/seed0", "demo_towernet/seed0")
    expected = {f"{place}/{file}" for place in places for file in files} | {"out/comparison.png", "out/predictions.jpg"}
    assert kept - {"out/comparison.json"} == expected
    assert_refused(script("keep_results", folder / "logs", "--to", tmp_path), "no result.json")


def test_a_run_belongs_to_a_sweep_by_its_place():
    assert str(sweep_of(RUNS_ROOT / "mine" / "alexnet" / "seed0")) == "mine"
    for other in (RUNS_ROOT / "alexnet" / "seed0", ROOT / "elsewhere" / "alexnet" / "seed0", "/run"):
        assert str(sweep_of(other)) == "."
