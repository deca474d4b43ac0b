"""The pages that say how something is added: what they tell to write is written, what they tell to run is run."""

import importlib
import re
import shlex
import sys

import pytest
from commands import ROOT

from simam_repro import config
from simam_repro.cli import commands
from simam_repro.data import sets
from simam_repro.models import backbones


class Page:
    """A page of docs/: the one Python file that it has the reader save, where, and its commands."""

    def __init__(self, name: str):
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        (self.code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        self.place = re.search(r"Save this as `(.+?)`", text).group(1)
        self.commands = [
            line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()
        ]

    def run(self, line: str, monkeypatch, *more: str) -> None:
        python, script, *arguments = shlex.split(line)
        name = re.fullmatch(r"scripts/(\w+)\.py", script).group(1)
        monkeypatch.setattr(sys, "argv", [script, *arguments, *more])
        assert python == "python"
        importlib.import_module(f"{commands.__name__}.{name}").main()


@pytest.fixture
def save(tmp_path, monkeypatch):
    """save(page, package): its file is where the package finds it, for this test."""

    def run(page, package):
        folder, _, file = page.place.rpartition("/")
        assert (ROOT / folder).samefile(package.__path__[0]) and not (ROOT / page.place).exists()
        (tmp_path / "package").mkdir()
        (tmp_path / "package" / file).write_text(page.code, encoding="utf-8")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / "package")])
        module = f"{package.__name__}.{file.removesuffix('.py')}"
        monkeypatch.delitem(sys.modules, module, raising=False)
        return module

    return run


def test_a_data_set_is_added(save, monkeypatch, tmp_path, capsys):
    page = Page("add-a-data-set.md")
    save(page, sets)
    look, train = page.commands
    root = ["-o", f"data.root={tmp_path / 'data'}"]
    page.run(look, monkeypatch, *root)
    assert "halves (stand-in data): 2 classes, 200 train and 40 eval images" in capsys.readouterr().out
    page.run(train, monkeypatch, *root, "--run-dir", str(tmp_path / "run"), "-o", "logging.visualdl=false")
    assert (tmp_path / "run" / "result.json").is_file()
    assert sets.title("halves") == "Halves"


def test_a_backbone_is_added(save, monkeypatch, tmp_path, capsys, miniature_data):
    page = Page("add-a-backbone.md")
    module = save(page, backbones)
    monkeypatch.setattr(config, "BACKBONE_FOLDERS", backbones.__path__)
    run_dir = tmp_path / "run"
    summary, simam, plain, maps = page.commands
    page.run(summary, monkeypatch)
    text = capsys.readouterr().out
    assert "parameters   5,514 with 10 classes" in text and text.count(".attention  SimAM") == 2
    data, environment = miniature_data
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for line, name in ((simam, "tinynet_simam"), (plain, "tinynet")):
        page.run(line, monkeypatch, *data, "-o", "logging.visualdl=false", "--run-dir", str(run_dir / name))
    page.run(maps.replace(".smoke/tinynet_simam/seed0", str(run_dir / "tinynet_simam")), monkeypatch)
    assert {"attention_maps.png", "grad_cam.png"} <= {path.name for path in (run_dir / "tinynet_simam").rglob("*.png")}
    assert sys.modules[module].BACKBONE.title == "TinyNet"


def test_nothing_else_names_a_backbone_or_a_data_set():
    """Their own folders, the defaults of a config, the demo and the published figures aside."""
    names = {*backbones.names(), *sets.names()} - {"folder"}  # a word of many uses
    allowed = {'= "towernet"', '= "caltech101_16"'}
    found = []
    for path in sorted((ROOT / "simam_repro").rglob("*.py")):
        if path.parent.name in ("backbones", "sets") or path.name == "published.py":
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            if any(f'"{name}"' in line for name in names) and not any(line.endswith(end) for end in allowed):
                found.append(f"{path.relative_to(ROOT)}: {line.strip()}")
    assert found == []
