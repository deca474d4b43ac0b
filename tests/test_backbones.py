"""The networks that come from paddle.vision.models: their size, their attention, their weights."""

import numpy as np
import paddle
import pytest

from simam_repro.config import Model
from simam_repro.errors import UserError
from simam_repro.models import attention_layers, build_model, count_parameters

# Parameters with 16 classes; layers that SimAM follows (16 bottlenecks, 16 convs, 17 depthwise convs).
OFFICIAL = {
    "resnet50": (23_540_816, 16, paddle.vision.models.resnet50),
    "vgg19": (139_635_792, 16, paddle.vision.models.vgg19),
    "mobilenet_v2": (2_244_368, 17, paddle.vision.models.mobilenet_v2),
}


@pytest.fixture(scope="module", params=OFFICIAL)
def pair(request):
    """(name, network without, network with SimAM)."""
    return request.param, *(
        build_model(Model(backbone=request.param, attention=on), 16, 64) for on in ("none", "simam")
    )


def test_parameters(pair):
    name, off, on = pair
    assert count_parameters(off) == count_parameters(on) == OFFICIAL[name][0]


def test_attention_layers(pair):
    name, off, on = pair
    assert not attention_layers(off)
    followed = dict(on.named_sublayers())
    assert len(attention_layers(on)) == OFFICIAL[name][1]
    convs = [followed[layer] for layer in attention_layers(on)]
    assert all(isinstance(conv, paddle.nn.Conv2D) for conv in convs)
    if name == "resnet50":
        assert all(layer.endswith(".conv2") for layer in attention_layers(on))
    if name == "mobilenet_v2":
        assert all(conv._groups == conv._in_channels for conv in convs)


def test_weights_of_paddles_own_network_load_both_ways(pair):
    name, off, on = pair
    official = OFFICIAL[name][2](num_classes=16)
    images = paddle.to_tensor(np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32))
    for network in (off, on):
        missing, unexpected = network.set_state_dict(official.state_dict())
        assert not missing and not unexpected
        assert list(network.state_dict()) == list(official.state_dict())
        network.eval()
    official.eval()
    with paddle.no_grad():
        expected = official(images).numpy()
        scale = np.abs(expected).max()
        assert np.allclose(off(images).numpy(), expected, atol=1e-4 * scale)
        assert not np.allclose(on(images).numpy(), expected, atol=1e-2 * scale)
        # Back: what SimAM's half has learned is a plain network's too.
        official.set_state_dict(on.state_dict())
        assert np.allclose(official(images).numpy(), expected, atol=1e-4 * scale)


@pytest.mark.parametrize("name", OFFICIAL)
def test_too_small_images_are_refused(name):
    with pytest.raises(UserError, match=f"image_size: 31 .*{name}.* 32"):
        build_model(Model(backbone=name), 16, 31)
