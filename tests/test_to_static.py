"""Training a traced program gives the numbers of training layer by layer."""

import numpy as np
import paddle
import pytest
from kill_test import outcome
from test_resume import experiment, stop, unlike

from simam_repro.config import Model
from simam_repro.models import build_model
from simam_repro.runs import RunFolder
from simam_repro.training import fit
from simam_repro.training.divergence import find_culprit
from simam_repro.training.metrics import EpochMeans
from simam_repro.training.objective import Objective

# Paddle 2.6 cannot trace the compiled SimAM: both sides train with the plain one.
PLAIN = {"fused": False} if paddle.__version__.startswith("2.") else {}
MODEL = {f"model.{key}": value for key, value in PLAIN.items()}


def losses(folder) -> list[float]:
    keys = ("train_loss", "train_acc", "eval_loss", "eval_acc", "train_last_batch_loss")
    return [record[key] for record in RunFolder(folder).read_metrics() for key in keys]


def train(backbone: str, to_static: bool):
    """Losses of five batches (the last in eval mode, the one before it smaller), and the weights."""
    with paddle.utils.unique_name.guard():
        paddle.seed(0)
        network = build_model(Model(backbone=backbone, attention="simam", **PLAIN), 4, 128)
        spec = [paddle.static.InputSpec([None, 3, 128, 128], "float32", "images")]
        if to_static:
            paddle.jit.to_static(network, input_spec=spec, full_graph=True)
        optimizer = paddle.optimizer.Momentum(1e-3, parameters=network.parameters())
        model = paddle.Model(network, inputs=spec, labels=[paddle.static.InputSpec([None], "int64", "labels")])
        model.prepare(optimizer, Objective(0.1), EpochMeans())
    losses = []
    for step, count in enumerate((4, 4, 4, 2, 4)):
        paddle.seed(step)
        images, labels = paddle.randn([count, 3, 128, 128]), paddle.randint(0, 4, [count])
        run = model.eval_batch if step == 4 else model.train_batch
        losses.append(float(run([images], [labels])[0][0]))
    return losses, {name: value.numpy() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("backbone", ["towernet", "alexnet"])  # batch norm; dropout
def test_same_numbers(backbone):
    (expected, weights), (losses, traced) = (train(backbone, to_static) for to_static in (False, True))
    assert losses == pytest.approx(expected, rel=1e-5)
    assert list(traced) == list(weights)
    for key, value in weights.items():
        np.testing.assert_allclose(traced[key], value, rtol=1e-4, atol=1e-5, err_msg=key)


def test_a_run_is_traced_and_has_the_same_numbers(tmp_path, monkeypatch):
    traced, original = [], paddle.jit.to_static
    monkeypatch.setattr(paddle.jit, "to_static", lambda *a, **k: traced.append(a) or original(*a, **k))
    for folder, to_static in (("eager", False), ("traced", True)):
        changes = {"train.to_static": to_static, "train.epochs": 1, "optim.learning_rate": 1e-4, **MODEL}
        fit(experiment(**changes), tmp_path / folder)
        assert bool(traced) is to_static
    assert losses(tmp_path / "traced") == pytest.approx(losses(tmp_path / "eager"), rel=1e-3)


def test_resumed(tmp_path, monkeypatch):
    traced = experiment(**{"train.to_static": True})
    monkeypatch.setattr("test_resume.experiment", lambda name: traced)
    fit(traced, tmp_path / "whole")
    folder = stop(tmp_path / "stopped", monkeypatch, 5)
    fit(traced, folder.path, resume=True)
    assert unlike(folder.path, outcome(tmp_path / "whole")) == []


def test_the_layer_that_overflows_is_found():
    with paddle.utils.unique_name.guard():
        network = build_model(Model(backbone="alexnet", attention="simam"), 4, 128)
    images = paddle.rand([2, 3, 128, 128])
    paddle.jit.to_static(network, full_graph=True)
    network(images)
    layer = network.features[6]
    layer.weight.set_value(paddle.full(layer.weight.shape, 3e38))
    assert "layer features.6 (Conv2D)" in find_culprit(network, [images])
    called = []
    layer.register_forward_post_hook(lambda *_: called.append(1))
    network(images)
    assert not called  # it is traced still
