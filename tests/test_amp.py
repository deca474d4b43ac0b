"""Mixed precision, as far as a CPU can show: what it refuses, float32 statistics, loss scaling, master weights.

Paddle casts nothing on a CPU, and has no float16 convolution there. `pretended_gpu` makes it believe in a GPU where it
would switch off what does work: the scaler, and the casting of the weights.
"""

import functools
import importlib
import types

import numpy as np
import paddle
import pytest
from kill_test import outcome
from paddle.amp.auto_cast import amp_state
from paddle.base.layer_helper import LayerHelper
from test_resume import die, experiment, stop, unlike

from simam_repro.attention.simam import inverse_energy
from simam_repro.config import Model, build_experiment
from simam_repro.errors import UserError
from simam_repro.models import build_model, simam
from simam_repro.runs import RunFolder
from simam_repro.storage import read_json
from simam_repro.training import amp, fit
from simam_repro.training.checkpoints import STATE, load_newest, load_weights, save_checkpoint

SIZE = 128
AUTO_CAST = importlib.import_module("paddle.amp.auto_cast")
FIT = importlib.import_module("simam_repro.training.fit")  # both packages have a function by the name


@pytest.fixture
def pretended_gpu(monkeypatch):
    tracer = types.SimpleNamespace(
        _expected_place=types.SimpleNamespace(
            is_gpu_place=lambda: True, is_xpu_place=lambda: False, is_custom_place=lambda: False
        )
    )
    monkeypatch.setattr(paddle.amp.grad_scaler, "_dygraph_tracer", lambda: tracer)
    monkeypatch.setattr(FIT, "check_amp", lambda level, device: None)
    return tracer


@pytest.fixture
def casting(pretended_gpu, monkeypatch):
    """For building only: an auto_cast under this tracer would not know its operators."""
    monkeypatch.setattr(AUTO_CAST, "_dygraph_tracer", lambda: pretended_gpu)
    monkeypatch.setattr(AUTO_CAST, "_is_gpu_float16_supported", lambda: True)


@pytest.mark.parametrize("level", ["O1", "O2"])
def test_a_cpu_is_refused_before_anything_is_written(level, tmp_path):
    with pytest.raises(UserError, match=f"train.amp: {level} needs a GPU.*use none"):
        fit(experiment(**{"train.amp": level}), tmp_path / "run")
    assert not (tmp_path / "run").exists() or not RunFolder(tmp_path / "run").started


@pytest.mark.parametrize("capability", [(6, 1), (7, 0)])
def test_a_gpu_without_float16_is_refused(capability, monkeypatch):
    monkeypatch.setattr(paddle.device.cuda, "get_device_capability", lambda index: capability)
    amp.check_amp("none", "gpu:1")
    if capability >= (7, 0):
        amp.check_amp("O2", "gpu:1")
    else:
        with pytest.raises(UserError, match="gpu:1 has 6.1"):
            amp.check_amp("O2", "gpu:1")


def test_not_with_to_static():
    with pytest.raises(UserError, match="amp and to_static"):
        build_experiment({"name": "both", "train": {"amp": "O1", "to_static": True}})


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_statistics_are_float32(dtype):
    """Of a channel far from 0: in float16 its variance would have no digit left, or overflow."""
    values = np.random.default_rng(0).normal(300, 4, (2, 3, 16, 16)).astype("float32")
    half = paddle.to_tensor(values).astype(dtype)
    same = half.astype("float32")
    energy = inverse_energy(half)
    assert energy.dtype == paddle.float32
    np.testing.assert_array_equal(energy.numpy(), inverse_energy(same).numpy())
    if dtype == "float16":
        assert not np.isfinite((values.astype("float16") ** 2)).any()  # what float16 itself would have made of it
    else:  # a CPU multiplies no float16
        output = simam(half)
        assert output.dtype == half.dtype
        np.testing.assert_allclose(output.astype("float32").numpy(), simam(same, fused=False).numpy(), rtol=1.6e-2)


def test_evaluation_casts_as_training_does(pretended_gpu, tmp_path, monkeypatch):
    seen = set()

    def build(*arguments):
        network = build_model(*arguments)
        network.classifier.register_forward_pre_hook(
            lambda layer, inputs: seen.add((network.training, amp_state()["level"], amp_state()["dtype"]))
        )
        return network

    monkeypatch.setattr(FIT, "build_model", build)
    fit(experiment(**{"train.amp": "O1", "train.epochs": 1}), tmp_path / "run")
    assert seen == {(True, "O1", "float16"), (False, "O1", "float16")}


def test_resumed_with_the_scale_it_had(pretended_gpu, tmp_path, monkeypatch):
    """The scale doubles every two steps: a resumed run that began anew would end with another one."""
    monkeypatch.setattr(paddle.amp, "GradScaler", functools.partial(paddle.amp.GradScaler, incr_every_n_steps=2))
    mixed = experiment(**{"train.amp": "O1"})
    monkeypatch.setattr("test_resume.experiment", lambda name: mixed)
    fit(mixed, tmp_path / "whole")
    states = [read_json(RunFolder(tmp_path / "whole").last / STATE)["loss_scaling"]]
    assert states[0]["scale"] == 2.0**16 * 2**3 and states[0]["incr_count"] == 0  # 6 steps

    folder = stop(tmp_path / "stopped", monkeypatch, 5, how=die)
    assert read_json(folder.last / STATE)["loss_scaling"]["incr_count"] == 1
    fit(mixed, folder.path, resume=True)
    states.append(read_json(folder.last / STATE)["loss_scaling"])
    assert states[0] == states[1]
    assert unlike(folder.path, outcome(tmp_path / "whole")) == []


def mixed_pair(momentum=0.9):
    """TowerNet in O2 with an optimizer that has its master weights and moments, all different from one another."""
    with paddle.utils.unique_name.guard():
        network = build_model(Model(attention="simam"), 16, SIZE)
        optimizer = paddle.optimizer.Momentum(0.1, momentum, parameters=network.parameters())
        amp.use_amp("O2", network, optimizer)
    return network, optimizer


def first_step(network, optimizer) -> None:
    """What the optimizer begins its first step with: it makes what it has not loaded."""
    block = paddle.static.default_main_program().global_block()
    optimizer.helper = LayerHelper("momentum")
    with paddle.utils.unique_name.guard():
        optimizer._create_accumulators(block, [weight for weight in network.parameters() if not weight.stop_gradient])


def fill(network, optimizer) -> None:
    """What steps on a GPU would leave: master weights, their float16 casts, moments."""
    first_step(network, optimizer)
    rng = np.random.default_rng(0)
    for tensor in [*optimizer._master_weights.values(), *optimizer._accumulators["velocity"].values()]:
        tensor.set_value(rng.normal(size=tensor.shape).astype("float32"))
    for parameter in network.parameters():
        if parameter.dtype == paddle.float16:
            # numpy rounds as a GPU does; Paddle 2.6 cuts off on a CPU
            parameter.set_value(optimizer._master_weights[parameter.name].numpy().astype("float16"))


def test_master_weights_are_in_the_checkpoint(casting, tmp_path):
    network, optimizer = mixed_pair()
    assert network.classifier.weight.dtype == network.stem[0][0].weight.dtype == paddle.float16
    assert network.stem[0][1].weight.dtype == paddle.float32  # a batch norm's
    fill(network, optimizer)
    run = RunFolder(tmp_path)
    save_checkpoint(run, network, optimizer, {})

    again, its_optimizer = mixed_pair()
    load_newest(run, again, its_optimizer)
    first_step(again, its_optimizer)
    for ours, theirs in zip(network.state_dict().values(), again.state_dict().values()):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    for name, master in optimizer._master_weights.items():
        restored = its_optimizer._master_weights[name]
        assert restored.dtype == paddle.float32
        np.testing.assert_array_equal(master.numpy(), restored.numpy())
        assert (master.numpy() != master.numpy().astype("float16")).any()  # digits float16 lacks
    velocities, its_velocities = (o._accumulators["velocity"] for o in (optimizer, its_optimizer))
    assert velocities.keys() == its_velocities.keys() and len(velocities) == len(network.parameters()) - 8
    for name, velocity in velocities.items():
        np.testing.assert_array_equal(velocity.numpy(), its_velocities[name].numpy())


def test_evaluation_of_such_a_run_has_the_master_weights(casting, tmp_path):
    network, optimizer = mixed_pair()
    fill(network, optimizer)
    save_checkpoint(RunFolder(tmp_path), network, optimizer, {})
    plain = build_model(Model(attention="simam"), 16, SIZE)
    load_weights(RunFolder(tmp_path).last, plain)
    master = optimizer._master_weights[network.classifier.weight.name]
    assert plain.classifier.weight.dtype == paddle.float32
    np.testing.assert_array_equal(plain.classifier.weight.numpy(), master.numpy())


def test_logits_are_float32():
    class Half(paddle.nn.Layer):
        def forward(self, images):
            return images.astype("float16")

    network = Half()
    amp.use_amp("O1", network, None)
    assert network(paddle.ones([1, 3])).dtype == paddle.float32
