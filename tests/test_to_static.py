"""Training a traced program gives the numbers of training layer by layer."""

import paddle
import pytest
from kill_test import outcome
from test_resume import experiment, stop, unlike

from simam_repro.config import Model
from simam_repro.models import build_model
from simam_repro.runs import RunFolder
from simam_repro.training import fit
from simam_repro.training.checkpoints import WEIGHTS, _read_tensors
from simam_repro.training.divergence import find_culprit

# Paddle 2.6 cannot trace the compiled SimAM: both sides train with the plain one.
PLAIN = {"model.fused": False} if paddle.__version__.startswith("2.") else {}


def losses(folder) -> list[float]:
    keys = ("train_loss", "train_acc", "eval_loss", "eval_acc", "train_last_batch_loss")
    return [record[key] for record in RunFolder(folder).read_metrics() for key in keys]


@pytest.mark.parametrize("name", ["towernet", "alexnet"])  # batch norm; dropout
def test_same_numbers(name, tmp_path):
    for folder, to_static in (("eager", False), ("traced", True)):
        changes = {"train.to_static": to_static, "optim.learning_rate": 1e-3, **PLAIN}
        fit(experiment(name, **changes), tmp_path / folder)
    assert losses(tmp_path / "traced") == pytest.approx(losses(tmp_path / "eager"), rel=1e-4)
    eager, traced = (RunFolder(tmp_path / folder) for folder in ("eager", "traced"))
    weights, traced_weights = (_read_tensors(run.best / WEIGHTS) for run in (eager, traced))
    assert weights.keys() == traced_weights.keys()
    for key, value in weights.items():
        assert traced_weights[key] == pytest.approx(value, rel=1e-3, abs=1e-3), key
    assert traced.read_predictions().logits_final == pytest.approx(
        eager.read_predictions().logits_final, rel=1e-3, abs=1e-4
    )


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
    assert not paddle.isfinite(network(images)).all()
    assert type(network.forward).__name__.endswith("StaticFunction")
