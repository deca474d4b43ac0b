"""The package as others install it: the `simam` command and the parts by name."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from commands import ROOT, run

import simam_repro
from simam_repro.places import find_file


def test_the_parts_have_names_of_their_own():
    import paddle

    from simam_repro import SimAM, attention_layer, fit, load_config

    x = paddle.ones([1, 8, 3, 3])

    assert callable(fit) and load_config("configs/alexnet.yaml").name == "alexnet" and SimAM.__name__ == "SimAM"
    assert attention_layer("none", 8)(x) is x and attention_layer("se", 8, reduction=2)(x).shape == [1, 8, 3, 3]
    with pytest.raises(ValueError, match="did you mean"):
        attention_layer("simamm", 8)
    with pytest.raises(AttributeError, match="no attribute nothing"):
        simam_repro.nothing


def test_importing_the_package_leaves_the_process_as_it_is():
    code = (
        "import os, sys; before = dict(os.environ); import simam_repro, simam_repro.config; "
        "assert dict(os.environ) == before and 'paddle' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def simam(*arguments, cwd=None):
    return run([sys.executable, ROOT / "simam_repro" / "__main__.py", *arguments], cwd=cwd)


def test_simam_lists_its_commands_and_runs_them(tmp_path):
    listed = simam().stdout
    for command in ("train", "evaluate", "prepare-data", "sweep"):
        assert re.search(rf"^  {command} +\w", listed, re.MULTILINE)
    printed = simam("train", "-c", "configs/alexnet_simam.yaml", "--print-config", cwd=tmp_path)
    assert printed.returncode == 0 and "name: alexnet_simam" in printed.stdout
    assert simam("prepare-data", "-h").stdout.startswith("usage: simam prepare-data")
    refused = simam("trian")
    assert refused.returncode == 2 and "no command trian" in refused.stderr and "Traceback" not in refused.stderr


def test_a_config_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_file("configs/alexnet.yaml") == ROOT / "configs" / "alexnet.yaml"
    own = tmp_path / "configs" / "alexnet.yaml"
    own.parent.mkdir()
    own.write_text("name: mine\n")
    assert find_file("configs/alexnet.yaml").read_text() == "name: mine\n"
    assert find_file("configs/none.yaml") == Path("configs/none.yaml")


def test_the_package_requires_what_the_environment_has():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has none")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["cpu"]]
    lines = (ROOT / "requirements-cpu.txt").read_text(encoding="utf-8").splitlines()
    needed = [line.partition("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]
    assert sorted(declared) == sorted(line for line in needed if not line.startswith("pytest"))


@pytest.mark.slow
def test_installed_it_needs_no_checkout(tmp_path):
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    work = tmp_path / "work"
    work.mkdir()
    environment = {"PYTHONPATH": str(site)}
    train = [sys.executable, "-m", "simam_repro", "train", "-c", "configs/demo_towernet_simam.yaml", "--smoke"]
    done = run([*train, "--run-dir", "mine"], env=environment, cwd=work, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (work / "mine" / "result.json").is_file() and (work / "data").is_dir()
    lines = "import paddle; from simam_repro import SimAM; print(SimAM()(paddle.ones([1, 2, 4, 4])).shape)"
    assert "4, 4" in run([sys.executable, "-c", lines], env=environment, cwd=work).stdout
