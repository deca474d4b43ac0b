"""The command lines and the Makefile, run for real."""

import json
import os
import re
import shlex
from dataclasses import replace
from pathlib import Path

import miniatures
import pytest
import yaml
from commands import ROOT, assert_refused, run, script

from simam_repro import cli
from simam_repro.cli.commands import train
from simam_repro.config import load_config
from simam_repro.data import archives, sets
from simam_repro.data.sets import shapes16
from simam_repro.runs import RunFolder

CONFIGS = [path for path in sorted((ROOT / "configs").rglob("*.yaml")) if path.parent.name != "_base_"]
TOWERNET = ROOT / "configs" / "caltech_towernet.yaml"


# Of a family whose configs differ in little, these run by default; VGG19's 140 million parameters take a minute each.
FAMILIES = {
    r"vgg19": set(),
    r"resnet(20|56|110)": {"cifar10_resnet20_simam", "cifar100_preresnet20"},
}
# Of the other pairs the arm with attention runs by default, and each network on one data set.
ELSEWHERE = {"cifar10_resnet50_simam", "cifar10_mobilenetv2_simam", "cifar10_towernet_simam", "caltech_alexnet_simam"}


def weight(config: Path):
    family = next((ours for family, ours in FAMILIES.items() if re.search(family, config.stem)), None)
    plain_arm = config.with_name(f"{config.stem}_simam.yaml").is_file() or config.stem in ELSEWHERE
    heavy = (plain_arm if family is None else config.stem not in family) or config.parent.name == "faithful"
    return pytest.param(config, marks=pytest.mark.slow if heavy else (), id=str(config.relative_to(ROOT / "configs")))


@pytest.mark.parametrize("config", map(weight, CONFIGS))
def test_smoke_of_every_config(config, smoke_data, miniature_data, tmp_path):
    options, environment = smoke_data
    sources, folders = sets.load(load_config(config).data.dataset).sources, archives.archive_folders()
    if any(archives.find(source, folders) is None for source in sources):
        options, environment = miniature_data
    done = script("train", "-c", config, "--smoke", "--run-dir", tmp_path / "run", *options, env=environment)
    assert done.returncode == 0, done.stderr
    folder = RunFolder(tmp_path / "run")
    result, experiment = folder.read_result(), folder.read_experiment()
    assert result["name"] == experiment.name
    assert result["epochs"] == 1 and result["data"]["train_images"] == result["data"]["eval_images"] == 8
    assert len(folder.read_predictions().labels) == 8
    assert {path.name for path in folder.figures.iterdir()} == {
        "curves.png", "samples.png", "predictions.png", "confusion.png",
    }  # fmt: skip
    assert list(folder.visualdl.glob("*.log")) and folder.last.is_dir() and folder.best.is_dir()
    assert result["data"]["stand_in"] == (bool(options) or experiment.data.dataset == "shapes16")


def test_a_training_prepares_its_data_once(tmp_path, monkeypatch):
    prepared = []
    counting = replace(shapes16.DATASET, prepare=lambda *args: prepared.append(shapes16.prepare(*args)) or prepared[-1])
    monkeypatch.setattr(shapes16, "DATASET", counting)
    monkeypatch.setattr(cli, "raise_on_termination", lambda: None)
    command = [
        "train.py",
        "-c",
        str(ROOT / "configs/demo_towernet.yaml"),
        "--smoke",
        "--run-dir",
        str(tmp_path / "run"),
    ]
    monkeypatch.setattr("sys.argv", [*command, "-o", "logging.visualdl=false"])
    train.main()
    assert RunFolder(tmp_path / "run").finished and len(prepared) == 1


def test_print_config_is_a_config(tmp_path):
    done = script("train", "-c", TOWERNET, "-o", "optim.learning_rate=1e-3", "--seed", 7, "--print-config")
    values = yaml.safe_load(done.stdout)
    assert done.returncode == 0 and values["seed"] == 7 and values["optim"]["learning_rate"] == 0.001
    (tmp_path / "again.yaml").write_text(done.stdout)
    assert script("train", "-c", tmp_path / "again.yaml", "--print-config").stdout == done.stdout


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["-o", "optim.learnin_rate=1"], ["optim.learnin_rate", "did you mean optim.learning_rate"]),
        (["-o", "train.epochs=many"], ["train.epochs", "many"]),
        (["-o", "model.backbone=resnet51"], ["model.backbone", "resnet51", "towernet"]),
        (["-o", "train.epochs"], ["key.sub=value"]),
        (["--device", "tpu"], ["train.device", "tpu"]),
        (["--seed", "-1"], ["seed", "-1"]),
        (["-o", "data.archive=nowhere.zip"], ["nowhere.zip"]),
        (["-o", "data.image_size=64"], ["64", "towernet", "128"]),
    ],
)
def test_bad_input_is_refused(arguments, words, smoke_data, tmp_path):
    options, environment = smoke_data
    done = script(
        "train", "-c", TOWERNET, *options, *arguments, "--run-dir", tmp_path / "run", env=environment
    )  # fmt: skip
    assert_refused(done, *words)
    assert not (tmp_path / "run").exists()


def test_missing_config_suggests_a_near_one():
    assert_refused(script("train", "-c", "configs/caltech_towrnet.yaml"), "did you mean configs/caltech_towernet.yaml")


@pytest.mark.parametrize("config", ["caltech_towernet", "alexnet"])
def test_no_archive_and_no_network(config, tmp_path):
    archives = {"SIMAM_ARCHIVES": str(tmp_path / "x")}
    done = script("train", "-c", ROOT / f"configs/{config}.yaml", "-o", f"data.root={tmp_path}", env=archives)
    url = "caltech-101.zip" if config == "caltech_towernet" else "cifar-10-python.tar.gz"
    assert_refused(done, str(tmp_path / "archives"), str(tmp_path / "x"), url, "make demo")
    assert not any(tmp_path.iterdir()) or os.listdir(tmp_path) == ["archives"] and not os.listdir(tmp_path / "archives")


def test_a_finished_run_is_kept(smoke_data, tmp_path):
    options, environment = smoke_data
    command = ["train", "-c", TOWERNET, "--smoke", "--run-dir", tmp_path, *options]
    assert script(*command, env=environment).returncode == 0
    before = (tmp_path / "result.json").read_bytes()
    assert_refused(script(*command, env=environment), "--overwrite")
    assert_refused(script(*command, "--resume", env=environment), "complete")
    assert (tmp_path / "result.json").read_bytes() == before
    assert script(*command, "--overwrite", env=environment).returncode == 0
    assert json.loads(before)["final"] == json.loads((tmp_path / "result.json").read_bytes())["final"]


def test_own_zip_of_any_sixteen_classes(tmp_path):
    archive = miniatures.write_images_zip(tmp_path / "mine.zip")
    done = script(
        "train", "-c", TOWERNET, "--smoke", "--run-dir", tmp_path / "run",
        "-o", f"data.archive={archive}", "-o", f"data.root={tmp_path / 'data'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert RunFolder(tmp_path / "run").read_result()["data"]["name"] == "mine"


def test_prepare_data_prints_the_counts(smoke_data):
    options, environment = smoke_data
    done = script("prepare_data", "-c", TOWERNET, *options, env=environment)
    assert done.returncode == 0, done.stderr
    assert "16 classes" in done.stdout and "grand_piano" in done.stdout
    if not options:
        assert "1436 train and 365 eval images" in done.stdout
        assert "45 and 12 batches of 32" in done.stdout


def planned(*arguments) -> str:
    """The commands that make would run."""
    done = run(["make", "-n", "-o", ".venv/.ready", *arguments])
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


def test_make_variables_reach_the_command():
    plan = planned("caltech-towernet", "EPOCHS=2", "SIMAM=off", "SEED=1", "DEVICE=cpu", "ARCHIVE=my.zip")
    assert "scripts/train.py -c configs/caltech_towernet.yaml" in plan
    for option in ("-o train.epochs=2", "--seed 1", "--device cpu", "-o 'data.archive=my.zip'"):
        assert option in plan
    assert "configs/caltech_towernet_simam.yaml" in planned("caltech-towernet")
    assert "configs/alexnet_simam.yaml" in planned("cifar-alexnet")
    assert "configs/alexnet.yaml" in planned("cifar-alexnet", "SIMAM=off")


def test_make_takes_spaces_in_paths(tmp_path):
    photo = tmp_path / "my photo's.png"
    photo.touch()
    for arguments, words in (
        (["caltech-towernet", "ARCHIVE=my data/a b.zip"], ["-o", "data.archive=my data/a b.zip"]),
        (["predict", "RUN=runs/my run", f"IMAGE={photo}"], ["scripts/predict.py", "runs/my run", str(photo)]),
        (["predict", "RUN=runs/a", "IMAGE=a.png b.png"], ["runs/a", "a.png", "b.png"]),
        (["evaluate", "RUN=runs/my run"], ["scripts/evaluate.py", "runs/my run"]),
        (["curves", "RUN=runs/a runs/b"], ["scripts/plot_curves.py", "runs/a", "runs/b"]),
        (["visualdl", "RUNS=my runs"], ["scripts/show_curves.py", "my runs", "--port", "8040"]),
    ):
        found = shlex.split(planned(*arguments))
        start = found.index(words[0])
        assert found[start : start + len(words)] == words


def test_make_refuses_a_wrong_switch():
    done = run(["make", "-n", "caltech-towernet", "SIMAM=maybe"])
    assert done.returncode == 2 and "it is on or off" in done.stderr


def test_make_help_lists_every_target():
    listed = {line.split()[0] for line in run(["make", "help"]).stdout.splitlines()}
    phony = re.search(r"^\.PHONY: (.+)$", run(["make", "-pn", "help"]).stdout, re.MULTILINE).group(1)
    assert {name for name in listed if "%" not in name} == set(phony.split())
    assert {"compare-%", "faithful-%"} <= listed


def test_requirements_files_agree():
    def names(path: Path) -> set[str]:
        lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
        return {re.split(r"[=<>;\[ ]", line)[0] for line in lines if line}

    own = {"paddlepaddle", "paddlepaddle-gpu", "pandas"}
    gpu, cpu = (names(ROOT / f"requirements{part}.txt") for part in ("", "-cpu"))
    assert {name for name in gpu - own if not name.startswith("nvidia-")} == cpu - own
    assert {"paddlepaddle-gpu", "numpy", "matplotlib", "visualdl", "pyyaml", "pillow"} <= gpu
    for part, wanted in (("", gpu), ("-cpu", cpu)):
        locked = (ROOT / f"requirements{part}.lock").read_text()
        assert all(f"\n{name}==" in locked for name in wanted)


def test_finish_does_what_is_missing_of_the_same_config(smoke_data, tmp_path):
    options, environment = smoke_data
    command = ["train", "-c", TOWERNET, "--smoke", "--run-dir", tmp_path / "run", "--finish", *options]
    assert script(*command, env=environment).returncode == 0
    again = script(*command, env=environment)
    assert again.returncode == 0 and "is complete" in again.stdout
    assert_refused(script(*command, "-o", "optim.momentum=0.5", env=environment), "optim.momentum")
    (tmp_path / "run" / "result.json").unlink()
    resumed = script(*command, env=environment)
    assert resumed.returncode == 0 and "  epoch " not in resumed.stdout  # its one epoch was there already
    assert RunFolder(tmp_path / "run").complete


def test_runs_on_different_data_are_not_compared(tmp_path):
    for name, limit in (("a", 8), ("b", 12)):
        options = ["-o", f"data.train_limit={limit}", "-o", "data.eval_limit=8", "-o", "train.epochs=1"]
        assert (
            script("train", "-c", "configs/demo_towernet.yaml", *options, "--run-dir", tmp_path / name).returncode == 0
        )
    assert_refused(script("compare", tmp_path / "a", tmp_path / "b"), "different data")
