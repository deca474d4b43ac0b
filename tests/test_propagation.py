"""Signal propagation before the first step: against the same computed by hand, and the command."""

import math
import sys

import numpy as np
import paddle
import pytest
import yaml
from commands import run
from paddle.nn import functional as F

from simam_repro.config import build_experiment
from simam_repro.data import prepare_data
from simam_repro.data.loaders import build_eval_loader
from simam_repro.evaluation.propagation import measure_propagation, measure_start
from simam_repro.models import build_model
from simam_repro.reporting.propagation import plot_propagation, propagation_table
from simam_repro.storage import read_json


def experiment(attention="none", seed=0, **model):
    values = {
        "name": f"made-{attention if isinstance(attention, str) else 'gate'}", "seed": seed,
        "data": {"dataset": "shapes16", "image_size": 128, "batch_size": 4},
        "model": {"backbone": "towernet", "attention": attention, **model},
    }  # fmt: skip
    return build_experiment(values)


@pytest.fixture(scope="module")
def data():
    return prepare_data(experiment().data)


def test_against_the_network_taken_apart(data):
    made = experiment({"name": "gate", "constant": 0.5}, seed=3)
    found = measure_start(made, data)
    (images, labels), *_ = build_eval_loader(data, made.data, data.eval.spread(4))
    paddle.seed(3)
    network = build_model(made.model, 16, 128)
    x, maps = images, []
    for layer in network.stem:
        x = layer(x)
        maps.append(x)
    logits = network.classifier(paddle.flatten(network.average(network.inceptions(x)), 1))
    gradients = paddle.grad(F.cross_entropy(logits, labels), [maps[5], maps[7], logits], retain_graph=True)
    stages = found["stages"]
    assert list(stages) == ["b1", "b2", "b3", "b4", "i1", "i2", "i3", "logits"]
    for stage, value, gradient in zip(("b3", "b4", "logits"), (maps[5], maps[7], logits), gradients):
        np.testing.assert_allclose(stages[stage]["rms"], np.sqrt((value.numpy() ** 2).mean()), rtol=1e-4)
        channels = value.numpy().swapaxes(0, 1).reshape(value.shape[1], -1).mean(axis=1)
        found_channels = stages[stage]["channel_mean"], stages[stage]["channel_sd"]
        np.testing.assert_allclose(found_channels, (channels.mean(), channels.std(ddof=1)), rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(stages[stage]["gradient_rms"], np.sqrt((gradient.numpy() ** 2).mean()), rtol=1e-3)
    np.testing.assert_allclose(found["loss"], float(F.cross_entropy(logits, labels)), rtol=1e-5)
    assert found["attention"] == {site: {"gain": 0.5, "weight": 0.5} for site in ("b3", "b4", "i1", "i2")}


def test_a_module_without_weights_and_the_same_seed(data):
    """A module that adds has a gain and no weight; a module leaves the initial weights as they are."""
    adding = measure_start(experiment("gc"), data)
    assert {module["weight"] for module in adding["attention"].values()} == {None}
    plain, again, other = (measure_start(experiment(seed=seed), data) for seed in (0, 0, 1))
    assert plain == again and plain["loss"] != other["loss"]
    assert plain["attention"] == {}
    assert adding["stages"]["b2"]["rms"] == plain["stages"]["b2"]["rms"]


def test_groups_table_and_figure(tmp_path):
    made = [
        experiment(attention, seed, init=init)
        for init in ("paddle", "torch") for seed in (0, 1) for attention in ("none", "simam")
    ]  # fmt: skip
    content = measure_propagation(made)
    assert [group["varied"] for group in content["groups"]] == [{"model.init": "paddle"}, {"model.init": "torch"}]
    assert [[arm["title"] for arm in group["arms"]] for group in content["groups"]] == [["none", "SimAM"]] * 2
    assert [run["seed"] for run in content["groups"][0]["arms"][1]["runs"]] == [0, 1]
    assert content["chance_loss"] == math.log(16) and content["data"]["stand_in"] and content["images"] == 4
    assert propagation_table(content).count("\n") == 4 and "model.init: torch   SimAM" in propagation_table(content)
    plot_propagation(content, tmp_path / "propagation.png")
    assert (tmp_path / "propagation.png").stat().st_size > 20_000


def test_command(tmp_path):
    sweep = {"configs": ["configs/demo_towernet.yaml"], "arms": ["none", "se"], "seeds": [0]}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(sweep))
    words = f"SWEEP={tmp_path / 'small.yaml'}", f"ARGS=--to {tmp_path}"
    done = run(["make", "signal-propagation", "-o", f"{sys.prefix}/.ready", f"VENV={sys.prefix}", *words])
    assert done.returncode == 0 and "gain at each site" in done.stdout, done.stderr
    content = read_json(tmp_path / "propagation.json")
    assert [arm["title"] for arm in content["groups"][0]["arms"]] == ["none", "SE"]
    assert content["environment"]["operators"] == "plain" and (tmp_path / "propagation.png").is_file()
