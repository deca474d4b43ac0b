"""Attention as a plug-in: configs of before and of now, sites and positions, and what a module must not disturb."""

import re
import subprocess
import sys
from math import prod

import numpy as np
import paddle
import pytest
from paddle import nn
from safetensors.numpy import save_file
from small_networks import build, refused, smallest

from simam_repro import attention
from simam_repro.attention import Site
from simam_repro.config import PROJECT_ROOT, Model, load_config
from simam_repro.errors import UserError
from simam_repro.models import attention_layers, backbones, simam, start_from

MODULES = list(attention.known_modules())


@pytest.fixture(autouse=True)
def new_names():
    with paddle.utils.unique_name.guard():
        yield


# the config


def test_a_name_a_mapping_and_the_key_of_before_are_the_same_experiment(tmp_path):
    def read(model, *overrides):
        (tmp_path / "a.yaml").write_text(f"name: a\nmodel: {model}")
        return load_config(tmp_path / "a.yaml", overrides)

    now = read("{attention: {name: simam, e_lambda: 1e-5}}")
    assert now.model.attention.e_lambda == 1e-5
    for same in (
        read("{attention: simam, e_lambda: 1e-5}"),
        read("{e_lambda: 1e-5}", "model.attention=simam"),
        read("{attention: simam}", "model.e_lambda=1e-5"),
        read("{attention: {name: simam, e_lambda: 0.1}}", "model.e_lambda=1e-5"),
        read("{attention: simam, e_lambda: 0.1}", "model.attention.e_lambda=1e-5"),
        read("{attention: se}", "model.attention={name: simam, e_lambda: 1e-5}"),
    ):
        assert same == now and same.to_yaml() == now.to_yaml() and same.recipe() == now.recipe()
    assert read("{attention: none, e_lambda: 1e-5}") == read("{}") == read("{attention: {name: none}}")
    assert read("{attention: {name: se, reduction: 8}}") == read(
        "{}", "model.attention=se", "model.attention.reduction=8"
    )
    assert now.to_flat()["model.attention.e_lambda"] == 1e-5 and "model.e_lambda" not in now.to_flat()
    for experiment in (now, read("{attention: {name: gate, constant: [0.5, 2], sites: [b3, i1]}}")):
        (tmp_path / "again.yaml").write_text(experiment.to_yaml())
        assert load_config(tmp_path / "again.yaml") == experiment
        assert hash(experiment.model) == hash(load_config(tmp_path / "again.yaml").model)


def test_a_config_takes_the_keys_of_its_base_only_for_the_same_module(tmp_path):
    (tmp_path / "base.yaml").write_text("model: {attention: {name: se, reduction: 4, position: act}}")

    def above(value):
        (tmp_path / "a.yaml").write_text(f"base: base.yaml\nname: a\nmodel: {{attention: {value}}}")
        return load_config(tmp_path / "a.yaml").model.attention

    assert above("{position: norm}") == above("{name: se, position: norm}") != above("se")
    assert above("{position: norm}").reduction == above("se").reduction == 4
    assert above("simam") == above("{name: simam}") == Model(attention="simam").attention


def test_committed_runs_load_as_what_they_were():
    configs = sorted((PROJECT_ROOT / "results").rglob("config.yaml"))
    assert configs
    for config in configs:
        text, section = config.read_text(), load_config(config).model.attention
        if f"attention: {section.name}" in text and section.name != "none":  # as it was written before sections
            assert section.e_lambda == float(re.search(r"e_lambda: (\S+)", text).group(1))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("siman", "did you mean simam?"),
        ("SE", "did you mean se?"),
        ("xyz", "there are none, "),
        ({"name": "se", "reductoin": 8}, "reductoin: unknown key; did you mean model.attention.reduction?"),
        ({"name": "simam", "reduction": 8}, "model.attention.reduction: unknown key"),
        ({"name": "se", "reduction": "8"}, "model.attention.reduction: Input should be a valid integer, got '8'"),
        ({"name": "se", "position": "end"}, "model.attention.position: Input should be 'conv', 'norm', "),
        ({"reduction": 8}, "model.attention: name: missing"),
        (3, "model.attention: a module's name, or a mapping"),
        (None, "model.attention: a module's name, or a mapping"),
    ],
)  # fmt: skip
def test_wrong_attention_is_refused(value, words):
    assert words in refused(attention=value)


def test_reading_a_config_imports_no_paddle():
    code = (
        "import sys; from simam_repro import attention; from simam_repro.config import Model\n"
        "for name in attention.known_modules(): attention.title(Model(attention=name).attention)\n"
        "assert 'paddle' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT_ROOT)


def test_titles():
    def title(value):
        return attention.title(Model(attention=value).attention)

    assert (title("simam"), title("se"), title("none")) == ("SimAM", "SE", "none")
    assert title({"name": "se", "reduction": 8, "sites": ["b3", "i1"]}) == "SE (sites b3+i1, reduction 8)"
    assert title({"name": "simam", "e_lambda": 1e-5}) == "SimAM (e_lambda 1e-05)"
    assert attention.short_title(Model(attention={"name": "se", "reduction": 8}).attention) == "SE"


# every module


@pytest.mark.parametrize("name", MODULES)
def test_the_plain_network_and_what_is_drawn_later_stay_the_same(name):
    plain = {key: value.numpy() for key, value in build(attention="none").state_dict().items()}
    later = paddle.rand([3]).numpy()
    state = build(attention=name).state_dict()
    assert np.array_equal(paddle.rand([3]).numpy(), later)
    assert list(plain) == [key for key in state if ".attention." not in key]
    assert all(np.array_equal(state[key].numpy(), plain[key]) for key in plain)
    again = build(attention=name).state_dict()
    assert all(np.array_equal(state[key].numpy(), again[key].numpy()) for key in state)


@pytest.mark.parametrize("name", [name for name in MODULES if name != "none"])
def test_a_layer_keeps_the_shape_and_multiplies_by_its_weights(name):
    layer = attention.build(Model(attention=name).attention, Site(16))
    assert isinstance(layer, nn.Layer)
    layer.eval()
    x = paddle.to_tensor(np.random.default_rng(0).normal(size=(2, 16, 5, 7)).astype(np.float32))
    y = layer(x)
    assert y.shape == x.shape and y.dtype == x.dtype
    assert layer.flops((16, 5, 7)) >= prod((16, 5, 7))
    if getattr(layer, "weights", None):
        np.testing.assert_allclose(y.numpy(), (x * layer.weights(x)).numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in MODULES if name != "none"])
def test_weights_load_into_any_arm_and_back(name, tmp_path):
    def save(network):
        save_file({key: value.numpy() for key, value in network.state_dict().items()}, tmp_path / "w.safetensors")
        return tmp_path / "w.safetensors"

    plain, arm = build(attention="none", seed=1), build(attention=name, seed=2)
    own = {key: value.numpy() for key, value in arm.state_dict().items() if ".attention." in key}
    assert start_from(save(plain), arm) == (sorted(own), [])
    state, source = arm.state_dict(), plain.state_dict()
    assert all(np.array_equal(state[key].numpy(), source[key].numpy()) for key in source)
    assert all(np.array_equal(state[key].numpy(), own[key]) for key in own)
    assert start_from(save(arm), build(attention=name, seed=3)) == ([], [])
    back = build(attention="none", seed=4)
    assert start_from(save(arm), back) == ([], sorted(own))
    assert all(np.array_equal(value.numpy(), source[key].numpy()) for key, value in back.state_dict().items())


# the controls


def test_the_gate_multiplies_by_its_constants_in_network_order():
    x = paddle.rand([2, 3, 4, 4])
    gate = attention.build(Model(attention="gate").attention, Site(3))
    np.testing.assert_allclose(gate(x).numpy(), x.numpy() / (1 + np.exp(-0.5)), rtol=1e-6)
    network = build(attention={"name": "gate", "constant": [0.5, 0.6, 0.7, 0.8]})
    assert [layer.constant for layer in attention_layers(network).values()] == [0.5, 0.6, 0.7, 0.8]
    assert [layer.site.name for layer in attention_layers(network).values()] == ["b3", "b4", "i1", "i2"]
    with pytest.raises(UserError, match="model.attention.constant: 3 numbers, but there are 4 sites"):
        build(attention={"name": "gate", "constant": [0.5, 0.6, 0.7]})


def test_unit_gate_has_mean_one():
    x = paddle.to_tensor(np.random.default_rng(0).normal(size=(2, 3, 6, 6)))
    unit, plain = (attention.build(Model(attention=name).attention, Site(3)) for name in ("simam_unit", "simam"))
    np.testing.assert_allclose(unit.weights(x).mean(axis=[2, 3]).numpy(), 1, rtol=1e-12)
    ratio = unit.weights(x) / plain.weights(x)
    np.testing.assert_allclose(ratio.numpy(), ratio.numpy()[:, :, :1, :1] * np.ones((6, 6)), rtol=1e-12)
    one = paddle.rand([1, 3, 1, 1])
    np.testing.assert_allclose(unit(one).numpy(), one.numpy(), rtol=1e-6)


# sites and positions


@pytest.mark.parametrize("backbone", backbones.names())
def test_every_position_of_every_site_has_the_channels_that_it_says(backbone):
    declared, seen = backbones.load(backbone), {}
    size, network = declared.smallest_image, declared.build(4)
    sites, layers = declared.sites(network), dict(network.named_sublayers())
    network.eval()
    for places in sites.values():
        for place in places.values():
            layer = layers[place.layer]
            if place.before:
                layer.register_forward_pre_hook(
                    lambda _, x, place=place: seen.setdefault(place, list(x[0].shape)) and None
                )
            else:
                layer.register_forward_post_hook(
                    lambda _, x, y, place=place: seen.setdefault(place, list(y.shape)) and None
                )
    with paddle.no_grad():
        network(paddle.zeros([1, 3, size, size]))
    assert set(declared.own_sites or ()) <= sites.keys()
    for name, places in sites.items():
        assert places.keys() <= {"conv", "norm", "act", "block"}, name
        assert declared.position in places or declared.own_sites
        for position, place in places.items():
            assert seen[place][1] == place.channels, (name, position)


@pytest.mark.parametrize(
    ("backbone", "position", "first", "count"),
    [
        ("towernet", "conv", "stem.4.0", 4), ("towernet", "norm", "stem.4.1", 2), ("towernet", "act", "stem.4.2", 4),
        ("towernet", "block", "stem.5", 4), ("alexnet", "conv", "features.0", 5), ("alexnet", "act", "features.1", 5),
        ("alexnet", "block", "features.2", 3), ("resnet50", "conv", "layer1.0.conv2", 16),
        ("resnet50", "norm", "layer1.0.bn3", 16), ("resnet50", "act", "layer1.0.conv3", 16),
        ("resnet50", "block", "layer1.0", 16), ("mobilenet_v2", "conv", "features.1.conv.0.0", 17),
        ("mobilenet_v2", "act", "features.1.conv.0.2", 17), ("mobilenet_v2", "norm", "features.1.conv.2", 17),
        ("mobilenet_v2", "block", "features.1", 17),
    ],
)  # fmt: skip
def test_positions(backbone, position, first, count):
    network = build(backbone, attention={"name": "gate", "constant": 0.5, "position": position})
    layers = attention_layers(network)
    assert list(layers)[0] == first and len(layers) == count
    assert {layer.site.position for layer in layers.values()} == {position}
    called = []
    for name, layer in layers.items():
        layer.register_forward_post_hook(lambda layer, x, y: called.append(layer.site.index))
    with paddle.no_grad():
        network(paddle.rand([1, 3, *[smallest(backbone)] * 2]))
    assert called == list(range(count))  # each once, in network order


def test_a_position_is_where_it_says():
    """In ResNet50: the 3x3 conv's output, its ReLU's, the last norm's, the block's."""
    x = paddle.rand([2, 64, 8, 8])

    def first_block(attention):
        block = build("resnet50", attention=attention).layer1[0]
        for number, norm in enumerate((block.bn1, block.bn2, block.bn3)):
            norm.bias.set_value(paddle.full(norm.bias.shape, 0.3 + 0.1 * number))
        return block

    block = first_block("none")

    def attended(position):
        with paddle.no_grad():
            return first_block({"name": "simam", "position": position})(x).numpy()

    with paddle.no_grad():
        relu = nn.functional.relu
        first = relu(block.bn1(block.conv1(x)))
        conv = block.conv2(first)
        act = relu(block.bn2(conv))
        shortcut = block.downsample(x)
        for position, expected in {
            "conv": relu(block.bn3(block.conv3(relu(block.bn2(simam(conv))))) + shortcut),
            "act": relu(block.bn3(block.conv3(simam(act))) + shortcut),
            "norm": relu(simam(block.bn3(block.conv3(act))) + shortcut),
            "block": simam(relu(block.bn3(block.conv3(act)) + shortcut)),
        }.items():
            np.testing.assert_allclose(attended(position), expected.numpy(), rtol=1e-4, atol=1e-5, err_msg=position)


def test_sites_are_chosen_by_name():
    network = build(attention={"name": "simam", "sites": ["i3", "b1"]})
    assert list(attention_layers(network)) == ["stem.1", "inceptions.4"]
    for config, words in (
        ({"sites": ["b5"]}, "model.attention.sites: TowerNet has no site b5.*did you mean b4. It has b1, b2"),
        (
            {"sites": ["i1"], "position": "norm"},
            "no site i1 with position norm; did you mean b1. It has b1, b2",
        ),
    ):
        with pytest.raises(UserError, match=words):
            build(attention={"name": "simam", **config})
    with pytest.raises(UserError, match=r"no site nowhere with position block\. It has b1, b2"):
        build(attention={"name": "simam", "sites": ["nowhere"]})
    with pytest.raises(UserError, match="position: AlexNet has no norm; it has act, block, conv"):
        build("alexnet", attention={"name": "simam", "position": "norm"})


@pytest.mark.parametrize("backbone", ["towernet", "alexnet"])
@pytest.mark.parametrize("position", ["conv", "act"])
def test_fused_layers_leave_the_numbers_as_they_are(backbone, position):
    x = paddle.rand([2, 3, *[smallest(backbone)] * 2])
    with paddle.no_grad():
        fused, plain = (
            build(backbone, attention={"name": "se", "position": position}, fused=on)(x) for on in (True, False)
        )
    np.testing.assert_allclose(fused.numpy(), plain.numpy(), rtol=1e-4, atol=1e-5)


# where it went


def test_print_shows_where_attention_went():
    text = repr(build(attention="se"))
    assert text.count("SE(") == 4 and "site=b3, position=block" in text
    assert "SimAM(e_lambda=0.0001, site=i2, position=block)" in repr(build(attention="simam"))


# initialisation


@pytest.mark.parametrize("how", ["torch", "he"])
def test_initialisation_has_the_moments_of_its_formula(how):
    network = build("alexnet", init=how, attention="se")
    plain = build("alexnet", attention="se").state_dict()
    for name, layer in network.named_sublayers():
        if ".attention" in name or not isinstance(layer, (nn.Conv2D, nn.Linear)):
            continue
        weight, bias = layer.weight.numpy(), layer.bias.numpy()
        fan_in = prod(weight.shape[1:]) if weight.ndim == 4 else weight.shape[0]
        deviation = np.sqrt(2 / fan_in) if how == "he" else 1 / np.sqrt(3 * fan_in)
        assert weight.std() == pytest.approx(deviation, rel=0.05) and abs(weight.mean()) < 0.05 * deviation
        if how == "he":
            assert not bias.any() and np.abs(weight).max() > 2.5 * deviation
        else:
            assert np.abs(weight).max() <= 1 / np.sqrt(fan_in) and np.abs(bias).max() <= 1 / np.sqrt(fan_in)
            assert len(bias) < 100 or bias.std() == pytest.approx(1 / np.sqrt(3 * fan_in), rel=0.2)
        assert not np.array_equal(weight, plain[f"{name}.weight"].numpy())


def test_initialisation_is_the_same_in_all_arms_and_leaves_norms_alone():
    states = [build(init="torch", attention=name).state_dict() for name in ("none", "se")]
    assert all(np.array_equal(value.numpy(), states[1][key].numpy()) for key, value in states[0].items())
    assert np.array_equal(states[0]["stem.0.1.weight"].numpy(), np.ones(64, np.float32))
