"""A published network: what its folder holds, the numbers on its card, and an ONNX file that computes the same."""

import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, assert_refused, script
from safetensors.numpy import load_file
from tiny_pair import train_tiny_pair

from simam_repro.runs import RunFolder
from simam_repro.storage import checksum
from simam_repro.training import fit

EVAL = 20


@pytest.fixture(scope="module")
def run(tmp_path_factory, caltech_archive) -> RunFolder:
    return RunFolder(train_tiny_pair(tmp_path_factory.mktemp("pair"), caltech_archive, EVAL) / "tiny_simam" / "seed0")


def fake_interpreter(path: Path, script_text: str) -> Path:
    path.write_text(f"#!{sys.executable}\n{script_text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_folder_has_weights_config_and_a_card_of_the_runs_numbers(run, tmp_path):
    done = script("publish", run.path, "--output", tmp_path / "published")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "published"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.yaml", "weights.safetensors"]
    ours, theirs = (load_file(path / "weights.safetensors") for path in (folder, run.best))
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)
    card, result = (folder / "README.md").read_text(), run.read_result()
    for text in (
        f"{result['best']['eval_acc']:.2%}".replace("%", " %"), f"{EVAL} eval images", "flatters", "stand-in data",
        result["data"]["sha256"], "Leopards", "1,362,176 parameters", "No ONNX file",
    ):  # fmt: skip
        assert text in card, text


def test_it_takes_the_place_of_an_earlier_one_only(run, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    assert_refused(script("publish", run.path, "--output", tmp_path), "holds other files", "--output")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.txt"]
    for _ in range(2):
        assert script("publish", run.path, "--output", tmp_path / "published").returncode == 0


def test_an_onnx_file_that_computes_something_else_is_not_published(run, tmp_path):
    python = fake_interpreter(
        tmp_path / "python",
        'import json\nprint(json.dumps({"images": 16, "largest_difference": 99.0, "same_classes": False}))\n',
    )
    done = script("publish", run.path, "--output", tmp_path / "published", "--onnx-python", python)
    assert done.returncode == 1 and "other logits" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "published").exists()
    assert_refused(script("publish", run.path, "--onnx-python", tmp_path / "none"), "no such interpreter")


def test_another_paddle2onnx_is_refused(tmp_path, monkeypatch, capsys):
    import importlib.metadata
    import types

    from simam_repro.evaluation import onnx_converter

    for name in ("paddle2onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.9.2")
    with pytest.raises(SystemExit, match="0.9.2 is there, 2.1.0 is needed"):
        onnx_converter.main("a", "b", "c", "d")


@pytest.mark.slow
def test_onnx_of_real_weights(run, tmp_path):
    python = Path(os.environ.get("ONNX_PYTHON", ROOT / ".venv-onnx" / "bin" / "python"))
    if not python.is_file():
        pytest.skip("no environment with paddle2onnx: `make .venv-onnx/.ready` makes it")
    done = script("publish", run.path, "--output", tmp_path / "published", "--onnx-python", python)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "published" / "model.onnx").stat().st_size > 5e6
    assert "all predicted classes are the same" in (tmp_path / "published" / "README.md").read_text()


def test_another_experiment_starts_from_the_folder(run, tmp_path):
    folder = tmp_path / "published"
    assert script("publish", run.path, "--output", folder).returncode == 0
    experiment = run.read_experiment()
    longer = experiment.model_copy(update={"model": experiment.model.model_copy(update={"weights": str(folder)})})
    result = fit(longer, tmp_path / "run")
    assert result["weights"]["sha256"] == checksum(folder / "weights.safetensors") and result["weights"]["fresh"] == []
