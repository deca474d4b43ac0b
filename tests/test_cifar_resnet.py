"""The ResNets of 32x32 images: their size, their shape, where attention goes, and their protocol."""

import numpy as np
import paddle
import pytest
from commands import ROOT

from simam_repro.config import Model, load_config
from simam_repro.models import attention_layers, backbones, build_model, count_parameters
from simam_repro.models.cifar_resnet import CifarResNet, Shortcut
from simam_repro.training.optim import build_schedule

DEPTHS = {20: 0.27, 56: 0.85, 110: 1.7}  # millions of parameters in Table 6 of He et al. 2016 (CVPR)
ALL = [(f"{form}resnet{depth}", depth) for form in ("", "pre") for depth in DEPTHS]


def build(name, attention="none", classes=10):
    return build_model(Model(backbone=name, attention=attention), classes, 32)


def expected_parameters(depth: int, classes: int) -> int:
    """3x3 convs without bias, a scale and a shift per channel and norm, a linear layer; shortcuts have none."""
    n = (depth - 2) // 6
    convs = 9 * (3 * 16 + 2 * n * 16 * 16 + sum(c // 2 * c + (2 * n - 1) * c * c for c in (32, 64)))
    norms = 2 * (16 + 2 * n * (16 + 32 + 64))
    return convs + norms + 64 * classes + classes


@pytest.mark.parametrize(("name", "depth"), ALL)
def test_parameters_are_the_literatures(name, depth):
    count = count_parameters(build(name))
    assert count == expected_parameters(depth, 10)
    assert round(count / 1e6, 1 if depth == 110 else 2) == DEPTHS[depth]


def test_known_counts():
    assert [expected_parameters(depth, 10) for depth in DEPTHS] == [269_722, 853_018, 1_727_962]
    assert count_parameters(build("resnet20", classes=100)) == 269_722 + 90 * 65


@pytest.mark.parametrize(("name", "depth"), ALL)
def test_simam_follows_each_blocks_second_conv(name, depth):
    layers = list(attention_layers(build(name, "simam")))
    blocks = (depth - 2) // 6
    assert layers == [f"stages.{stage}.{block}.conv2" for stage in range(3) for block in range(blocks)]


def test_layers_of_the_depth_are_weighted_ones():
    """6n + 2: the 3x3 convs and the linear layer."""
    for name, depth in ALL:
        weighted = [one for one in build(name).sublayers() if isinstance(one, (paddle.nn.Conv2D, paddle.nn.Linear))]
        assert len(weighted) == depth


@pytest.mark.parametrize("pre_activation", [False, True])
def test_maps_are_32_16_8(pre_activation):
    network, shapes = CifarResNet(20, 10, pre_activation), []
    for stage in network.stages:
        stage.register_forward_post_hook(lambda layer, inputs, output: shapes.append(output.shape))
    assert network(paddle.zeros([2, 3, 32, 32])).shape == [2, 10]
    assert shapes == [[2, 16, 32, 32], [2, 32, 16, 16], [2, 64, 8, 8]]


def test_shortcut_is_every_second_pixel_and_zeros():
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32)
    expected = np.zeros((2, 5, 3, 3), np.float32)
    expected[:, :3] = x[:, :, ::2, ::2]
    assert np.array_equal(Shortcut(3, 5, 2)(paddle.to_tensor(x)).numpy(), expected)
    assert np.array_equal(Shortcut(3, 3, 1)(paddle.to_tensor(x)).numpy(), x)


def convolved(x, conv):
    """3x3 with padding 1, as a sum over the nine taps, in float64."""
    weight, stride = conv.weight.numpy().astype(np.float64), conv._stride[0]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    height, width = x.shape[2:]
    out = sum(
        np.einsum("nchw,oc->nohw", padded[:, :, i : i + height, j : j + width], weight[:, :, i, j])
        for i in range(3)
        for j in range(3)
    )
    return out[:, :, ::stride, ::stride]


def normed(x, norm):
    mean, variance, scale, shift = (
        tensor.numpy().astype(np.float64).reshape(1, -1, 1, 1)
        for tensor in (norm._mean, norm._variance, norm.weight, norm.bias)
    )
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + shift


def relu(x):
    return np.maximum(x, 0)


def simam(x):
    d = (x - x.mean((2, 3), keepdims=True)) ** 2
    v = d.sum((2, 3), keepdims=True) / (x.shape[2] * x.shape[3] - 1)
    return x / (1 + np.exp(-(d / (4 * (v + 1e-4)) + 0.5)))


@pytest.mark.parametrize("name", ["resnet20", "preresnet20"])
@pytest.mark.parametrize("attention", ["none", "simam"])
def test_a_block_is_its_formula(name, attention):
    """The first block of the second stage, which halves the map, with norms that have seen data."""
    network = build(name, attention)
    generator = np.random.default_rng(1)
    network(paddle.to_tensor(generator.normal(size=(8, 3, 32, 32)).astype(np.float32)))
    network.eval()
    block = network.stages[1][0]
    x = generator.normal(size=(2, 16, 8, 8)).astype(np.float32)
    attend = simam if attention == "simam" else lambda value: value
    shortcut = np.concatenate([x[:, :, ::2, ::2], np.zeros((2, 16, 4, 4))], axis=1)
    exact = x.astype(np.float64)
    if name == "resnet20":
        out = relu(normed(convolved(exact, block.conv1), block.norm1))
        expected = relu(normed(attend(convolved(out, block.conv2)), block.norm2) + shortcut)
    else:
        out = convolved(relu(normed(exact, block.norm1)), block.conv1)
        expected = attend(convolved(relu(normed(out, block.norm2)), block.conv2)) + shortcut
    with paddle.no_grad():
        np.testing.assert_allclose(block(paddle.to_tensor(x)).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_positions_of_every_block():
    sites = backbones.load("preresnet20").sites(build("preresnet20"))
    assert list(sites) == [f"stages.{stage}.{block}" for stage in range(3) for block in range(3)]
    assert all(list(places) == ["conv", "norm", "act", "block"] for places in sites.values())


def test_depth_is_6n_plus_2():
    with pytest.raises(ValueError, match="6n"):
        CifarResNet(21, 10)


# the protocol

CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("cifar*resnet*.yaml") if "resnet50" not in path.stem)


def test_each_network_has_its_pair_on_both_data_sets():
    names = {name for name, _ in ALL}
    assert set(CONFIGS) == {f"{data}_{name}{half}" for data in ("cifar10", "cifar100") for name in names
                            for half in ("", "_simam")}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_protocol_is_the_official_codes(name):
    experiment = load_config(ROOT / f"configs/{name}.yaml")
    data, optim = experiment.data, experiment.optim
    assert (data.dataset, experiment.model.backbone) == tuple(name.removesuffix("_simam").split("_"))
    assert (data.image_size, data.batch_size, data.drop_last) == (32, 128, False)
    assert (data.augment.pad_crop, data.augment.flip) == (4, 0.5)
    assert (optim.name, optim.learning_rate, optim.momentum, optim.weight_decay) == ("momentum", 0.1, 0.9, 5e-4)
    assert (experiment.train.epochs, optim.schedule, optim.milestones) == (164, "step", (82, 123))
    if name.endswith("_simam"):
        assert (experiment.model.attention.name, experiment.model.attention.e_lambda) == ("simam", 1e-4)


def test_learning_rates_of_all_164_epochs():
    """As the official code sets them before epoch 0, 1, ...: up to 81, up to 122, and from then on."""
    steps = 391
    schedule, rates = build_schedule(load_config(ROOT / "configs/cifar10_resnet20.yaml").optim, 164, steps), []
    for step in range(164 * steps):
        if step % steps == 0:
            rates.append(schedule())
        schedule.step()
    assert rates == pytest.approx([0.1] * 82 + [0.01] * 41 + [0.001] * 41)
