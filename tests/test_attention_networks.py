"""Attention modules, all of them, in networks: every site of the five, traced programs, saved programs."""

import subprocess
import sys

import numpy as np
import paddle
import pytest
from paddle import nn

from simam_repro import attention
from simam_repro.attention import Site
from simam_repro.models import SimAM, attention_layers, backbones
from simam_repro.models.attention import CHILD_NAME, attach, attach_attention

MODULES = [name for name, module in attention.known_modules().items() if module.build is not None]
each_module = pytest.mark.parametrize("name", MODULES)
CHANNELS = 16


@pytest.fixture(autouse=True)
def seed():
    paddle.seed(0)


def take_away(network) -> None:
    for layer in network.sublayers():
        if layer._sub_layers.pop(CHILD_NAME, None) is not None:
            layer._forward_pre_hooks.clear()
            layer._forward_post_hooks.clear()


# ResNet-56 and 110 are ResNet-20 with more of the same blocks.
@pytest.mark.parametrize("backbone", [name for name in backbones.names() if not name.endswith(("56", "110"))])
def test_every_module_at_the_default_sites(backbone):
    """Forward and backward in training; the plain keys stay, those of attention are below <layer>.attention."""
    declared = backbones.load(backbone)
    size = declared.smallest_image
    network = declared.build(10)
    for parameter in network.parameters():
        parameter.stop_gradient |= parameter.size > 1e6  # VGG19's linear layers would take most of the time
    plain = set(network.state_dict())
    images = paddle.randn([2, 3, size, size])
    for name in MODULES:
        attach_attention(network, declared, attention.resolve(name))
        layers = attention_layers(network)
        network.clear_gradients()
        loss = network(images).square().mean()
        loss.backward()
        assert len(layers) > 3 and np.isfinite(float(loss)), name
        added = set(network.state_dict()) - plain
        assert plain <= set(network.state_dict()) and all(f".{CHILD_NAME}." in key for key in added), name
        for key, parameter in network.named_parameters():
            if f".{CHILD_NAME}." in key and not parameter.stop_gradient:
                assert parameter.grad is not None and np.isfinite(parameter.grad.numpy()).all(), (name, key)
        take_away(network)
        assert set(network.state_dict()) == plain


def small_network(name) -> nn.Layer:
    """A convolution with attention behind it, whose parameters are not as at the start."""
    conv = nn.Conv2D(3, CHANNELS, 3)
    attach(conv, attention.resolve(name), Site(CHANNELS))
    for parameter in conv.parameters():
        if not parameter.stop_gradient:
            parameter.set_value(paddle.randn(parameter.shape) * 0.3)
    return nn.Sequential(conv, nn.ReLU())


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("shape", [[None, 3, 9, 7], [None, 3, None, None]], ids=["fixed", "free"])
@each_module
def test_traced(name, shape, training):
    """Values, gradients and running statistics of a traced program, for images of fixed and of free sizes."""
    images, results = paddle.randn([2, 3, 9, 7]), []
    for traced in (False, True):
        paddle.seed(0)
        network = small_network(name)
        (network.train if training else network.eval)()
        if traced:
            spec = [paddle.static.InputSpec(shape, "float32")]
            paddle.jit.to_static(network, input_spec=spec, full_graph=True)
        y = network(images)
        gradients = []
        if training:  # a traced program has no gradient in evaluation
            y.square().sum().backward()
            gradients = [parameter.grad.numpy() for parameter in network.parameters() if parameter.grad is not None]
        results.append([y.numpy(), *gradients, *(value.numpy() for value in network.state_dict().values())])
    for eager, static in zip(*results, strict=True):
        np.testing.assert_allclose(static, eager, rtol=1e-4, atol=1e-5)


RUN_PROGRAMS = """
import sys
import numpy as np
import paddle

folder, *names = sys.argv[1:]
images = paddle.to_tensor(np.load(f"{folder}/images.npy"))
np.savez(f"{folder}/found.npz", **{name: paddle.jit.load(f"{folder}/{name}")(images).numpy() for name in names})
assert not any(name.startswith("simam") for name in sys.modules)
"""


@pytest.mark.parametrize("site", ["a sublayer", "the whole"])
def test_a_model_of_hapi_saved_for_inference_runs_there_too(tmp_path, site):
    """`paddle.Model.save(training=False)` of a network with SimAM() in it, as a user writes it."""
    network = nn.Sequential(nn.Conv2D(3, 4, 3), SimAM(), nn.ReLU()) if site == "a sublayer" else SimAM()
    images = paddle.randn([2, 3, 9, 7])
    np.save(tmp_path / "images.npy", images.numpy())
    model = paddle.Model(network, [paddle.static.InputSpec([None, 3, 9, 7], "float32", "images")])
    model.prepare()
    expected = model.predict_batch([images])[0]
    model.save(str(tmp_path / "saved"), training=False)
    subprocess.run([sys.executable, "-c", RUN_PROGRAMS, str(tmp_path), "saved"], check=True, cwd=tmp_path)
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_allclose(found["saved"], expected, rtol=1e-4, atol=1e-5)


def test_saved_programs_run_where_nothing_of_this_project_is(tmp_path):
    """The layers are taken away from here: one behind another in a network of a user's own."""
    images = paddle.randn([2, 3, 9, 7])
    np.save(tmp_path / "images.npy", images.numpy())
    expected = {}
    for name in MODULES:
        network = nn.Sequential(nn.Conv2D(3, CHANNELS, 3), attention.build(attention.resolve(name), Site(CHANNELS)))
        network.eval()
        expected[name] = network(images).numpy()
        spec = [paddle.static.InputSpec([None, 3, None, None], "float32")]
        paddle.jit.save(network, str(tmp_path / name), input_spec=spec)
    subprocess.run([sys.executable, "-c", RUN_PROGRAMS, str(tmp_path), *MODULES], check=True, cwd=tmp_path)
    with np.load(tmp_path / "found.npz") as found:
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
