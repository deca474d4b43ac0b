"""The command compare.py: what it prints, writes and refuses."""

import json

import numpy as np
import pytest
from commands import assert_refused, script
from made_runs import write_pair, write_run, write_sweep
from PIL import Image

from simam_repro.cli.commands.compare import sweep_runs
from simam_repro.config import build_experiment
from simam_repro.errors import UserError
from simam_repro.training import fit


def written(done) -> dict:
    assert done.returncode == 0, done.stderr
    return dict(line.split(": ", 1) for line in done.stdout.splitlines() if line.startswith(("figure: ", "numbers: ")))


def test_command_compares_a_sweep(tmp_path):
    write_sweep(tmp_path / "sweep", seeds=3)
    write_run(tmp_path / "sweep/made_simam/seed5", "simam", 5, [1] * 200, [1] * 200).result.unlink()
    write_run(tmp_path / "sweep/other/seed0", config={"model": {"backbone": "alexnet"}})
    done = script("compare", "--sweep", "sweep", cwd=tmp_path)
    assert written(done) == {"figure": "sweep/comparison.png", "numbers": "sweep/comparison.json"}
    (comparison,) = json.loads((tmp_path / "sweep/comparison.json").read_text())["comparisons"]
    (arm,) = comparison["arms"]
    assert arm["n"] == 3
    assert comparison["missing"] == ["made seed 5: not there", "made_simam seed 5: not complete"]
    said = " ".join(done.stdout.split())
    assert arm["final"]["sentence"] in said and arm["best"]["sentence"] in said
    assert "made_simam seed 5: not complete" in said and "or of its seeds: other/seed0." in said
    assert "Stand-in data" in said
    with Image.open(tmp_path / "sweep/comparison.png") as figure:
        assert figure.width > 1000


def test_command_compares_what_training_leaves(tmp_path):
    for number in range(20):
        file = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)
    data = {"dataset": "folder", "folder": str(tmp_path / "images"), "root": str(tmp_path / "data"), "image_size": 32}
    for attention in ("none", "simam"):
        model = {"backbone": "mobilenet_v2", "attention": attention, "fused": False}
        values = {
            "name": attention, "data": {**data, "num_workers": 0}, "model": model, "train": {"epochs": 1},
            "logging": {"visualdl": False},
        }  # fmt: skip
        fit(build_experiment(values), tmp_path / attention)
    done = script("compare", "none", "simam", "--json", "a/b.json", "--output", "a/b.png", cwd=tmp_path)
    assert written(done) == {"figure": "a/b.png", "numbers": "a/b.json"}
    (comparison,) = json.loads((tmp_path / "a/b.json").read_text())["comparisons"]
    (arm,) = comparison["arms"]
    assert arm["n"] == 1 and comparison["data"]["eval_images"] == 4
    result = json.loads((tmp_path / "simam/result.json").read_text())
    assert arm["final"]["arm"]["values"] == [pytest.approx(result["final"]["eval_acc"])]
    assert arm["final"]["loss"]["arm"]["mean"] == pytest.approx(result["final"]["eval_loss"], rel=1e-5)
    assert comparison["warnings"] == []


def test_command_puts_runs_that_are_no_pair_side_by_side(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", config={"model": {"backbone": "alexnet"}})
    done = script("compare", "a", "b", cwd=tmp_path)
    assert written(done) == {"figure": "a/figures/compare.png", "numbers": "a/figures/compare.json"}
    assert "final eval accuracy" in done.stdout and "One run each says nothing" in done.stdout
    assert "Stand-in data" in done.stdout


def test_command_refuses(tmp_path):
    off, on = write_pair(tmp_path / "pair")
    assert_refused(script("compare", off.path), "needs two runs or more")
    with pytest.raises(UserError, match="nowhere has no runs"):
        sweep_runs(str(tmp_path / "nowhere"))
    on.predictions.write_bytes(b"PK")
    assert_refused(script("compare", off.path, on.path), str(on.predictions), "cannot be read")
    on.result.unlink()
    assert_refused(script("compare", off.path, on.path), "on/seed0 has no result.json")
    assert_refused(script("compare", "--sweep", tmp_path / "pair"), "no two complete runs", "on/seed0 (not complete)")
    assert not (tmp_path / "pair/comparison.json").exists()
