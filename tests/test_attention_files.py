"""A module is one file: a user's own, the page that says how to write one, and that nothing else names a module."""

import re

import numpy as np
import pytest
import yaml
from small_networks import build, refused

from simam_repro import attention
from simam_repro.attention import trust
from simam_repro.config import ARM_KEYS, PROJECT_ROOT, build_experiment, load_config
from simam_repro.errors import UserError
from simam_repro.evaluation.attention import weight_maps
from simam_repro.models import attention_layers, summarise
from simam_repro.runs import RunFolder
from simam_repro.sweeps import read_sweep

MINE = """
from typing import Literal
from paddle import nn
from simam_repro.attention import AttentionConfig, register

class MineConfig(AttentionConfig):
    name: Literal["{name}"] = "{name}"
    factor: float = 2.0

class Mine(nn.Layer):
    def __init__(self, config, site):
        super().__init__()
        self.factor = config.factor
    def forward(self, x):
        return self.factor * x

register(MineConfig, Mine, "Mine")
"""


def test_a_module_from_a_file(tmp_path):
    file = tmp_path / "my_attention.py"
    file.write_text(MINE.format(name="mine"))
    section = {"name": "mine", "file": str(file), "factor": 3.0}
    experiment = build_experiment({"name": "a", "model": {"attention": section}})
    layers = attention_layers(build(attention=section))
    assert [type(layer).__name__ for layer in layers.values()] == ["Mine"] * 4
    assert attention.title(experiment.model.attention) == "Mine (factor 3)"
    assert "no attention module of this name" in refused(attention="mine")  # without the key

    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.config.write_text(experiment.to_yaml())
    assert run.read_experiment() == experiment and len(experiment.model.attention.sha256) == 64
    file.write_text(file.read_text().replace("self.factor * x", "self.factor + x"))
    with pytest.raises(UserError, match="my_attention.py has changed"):
        run.read_experiment()
    changed = build_experiment({"name": "a", "model": {"attention": section}})
    assert changed.differing_keys(experiment) == ["model.attention.sha256"]


def test_a_strangers_run_executes_no_file_unasked(tmp_path, monkeypatch):
    monkeypatch.setattr(trust, "KNOWN", tmp_path / "known.txt")
    file, told = tmp_path / "my_attention.py", tmp_path / "executed"
    file.write_text(MINE.format(name="mine") + f"open({str(told)!r}, 'w')\n")
    section = {"name": "mine", "file": str(file)}
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.config.write_text(yaml.safe_dump({"name": "a", "model": {"attention": section}}))
    with pytest.raises(UserError, match="my_attention.py.*Look at it"):
        run.read_experiment()
    assert not told.exists()
    load_config(run.config)  # named by the user
    assert told.exists() and run.read_experiment().model.attention.name == "mine"


def test_a_wrong_file_is_refused(tmp_path):
    before = set(attention.known_modules())
    file = tmp_path / "my_attention.py"
    section = {"name": "mine", "file": str(file)}
    assert f"{file} is not there" in refused(attention=section)
    assert "is no Python file" in refused(attention={**section, "file": str(tmp_path)})
    for text, words in (
        ("x = 1\n1 / 0", "my_attention.py, line 2: ZeroDivisionError"),
        ("def", "SyntaxError"),
        (MINE.format(name="se"), "an attention module se is there already"),
        (MINE.format(name="other"), "my_attention.py registers other"),
        ("", "registers none"),
    ):
        file.write_text(text)
        assert words in refused(attention=section), text
    assert set(attention.known_modules()) == before


# the page on adding one


def blocks(kind: str) -> list[str]:
    text = (PROJECT_ROOT / "docs/add-a-module.md").read_text(encoding="utf-8")
    return re.findall(rf"```{kind}\n(.*?)```", text, re.S)


def test_the_pages_module_works_as_it_stands_there(tmp_path):
    (code,) = blocks("python")
    assert len(code.splitlines()) <= 45
    file = tmp_path / "my_attention.py"
    file.write_text(code)
    section = {"name": "spatial_gate", "file": str(file), "kernel": 3}
    assert "kernel: 4 is even" in refused(attention={**section, "kernel": 4})
    network = build(attention=section)
    layers = attention_layers(network)
    maps = weight_maps(network, np.zeros((2, 3, 128, 128), np.float32))
    assert list(maps) == list(layers) == ["stem.5", "stem.7", "inceptions.1", "inceptions.3"]
    added = summarise(network, 128).flops - summarise(build(attention="none"), 128).flops
    sides = (8, 4, 2, 1)
    assert added == sum(side * side * (3 * 256 + 2 * 18 + 3) for side in sides)
    assert "SpatialGate(site=b3, position=block" in repr(network)


def test_the_pages_sweep_trains_the_pages_module(tmp_path):
    (code,), (sweep,) = blocks("python"), blocks("yaml")
    (tmp_path / "my_attention.py").write_text(code)
    assert sweep.count("file: my_attention.py") == 1
    (tmp_path / "mine.yaml").write_text(sweep.replace("my_attention.py", str(tmp_path / "my_attention.py")))
    runs = read_sweep(tmp_path / "mine.yaml", tmp_path / "runs")
    titles = [attention.title(run.experiment.model.attention) for run in runs]
    assert titles == ["none", "SE (reduction 8)", "spatial gate (kernel 3)"] * 3
    plain, mine = (runs[index].experiment.recipe(("seed", *ARM_KEYS)) for index in (0, 2))
    assert plain == mine


# one file adds a module


def test_no_other_file_names_a_module():
    """What is not a module's own file calls it by its section and its title."""
    modules = [module for name, module in attention.known_modules().items() if name not in ("none", "gate")]
    words = {word for module in modules for word in (module.name, module.title)}
    named = re.compile(rf"(?<![A-Za-z_])({'|'.join(map(re.escape, sorted(words)))})(?![A-Za-z_])")
    package = PROJECT_ROOT / "simam_repro"
    offenders = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if named.search(file.read_text(encoding="utf-8"))
    }
    its_own = {f"attention/{module.name}.py" for module in modules} | {"attention/gate.py"}  # a control of another
    names = {"__init__.py", "__main__.py", "models/__init__.py"}  # the package's, the command's, and what they export
    offenders = {file for file in offenders - its_own - names if not file.startswith("ops/")}
    assert offenders <= {"evaluation/published.py"}
