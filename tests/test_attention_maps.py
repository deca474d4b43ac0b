"""Weight maps and Grad-CAM against closed forms and hand computations, and the command that draws them."""

from types import SimpleNamespace

import commands
import numpy as np
import paddle
import pytest
from paddle import nn
from PIL import Image
from tiny_pair import train_tiny_pair
from visualdl import LogReader

from simam_repro.config import Model
from simam_repro.errors import UserError
from simam_repro.evaluation import load_trained
from simam_repro.evaluation.attention import grad_cam, grad_cam_layer, weighing_layers, weight_maps
from simam_repro.models import backbones, build_model
from simam_repro.reporting.attention import arms_beside, upsample, write_attention_figures
from simam_repro.runs import RunFolder

LOWEST = 1 / (1 + np.exp(-0.5))


def build(backbone="towernet", attention="simam", size=128, **keys):
    paddle.seed(5)
    network = build_model(Model(backbone=backbone, attention=attention, **keys), 4, size)
    network.eval()
    return network


def images(count=2, size=128):
    return np.random.default_rng(3).standard_normal((count, 3, size, size)).astype(np.float32)


def closed_form(x, e_lambda):
    """Mean over channels of sigmoid(1 / e*), from the energy as the paper prints it, in float64."""
    x = x.astype(np.float64)
    squared = (x - x.mean((2, 3), keepdims=True)) ** 2
    variance = squared.sum((2, 3), keepdims=True) / max(x.shape[2] * x.shape[3] - 1, 1)
    energy = 4 * (variance + e_lambda) / (squared + 2 * variance + 2 * e_lambda)
    return (1 / (1 + np.exp(-1 / energy))).mean(1)


@pytest.mark.parametrize(("backbone", "e_lambda"), [("towernet", 1e-4), ("alexnet", 0.1)])
def test_weight_maps_are_the_closed_form(backbone, e_lambda):
    network = build(backbone, e_lambda=e_lambda)
    inputs = {}
    for name, layer in weighing_layers(network).items():
        layer.register_forward_pre_hook(lambda layer, args, name=name: inputs.__setitem__(name, args[0].numpy()))
    maps = weight_maps(network, images())
    assert list(maps) == list(weighing_layers(network)) == list(inputs)
    for name, plane in maps.items():
        assert plane.shape == (2, *inputs[name].shape[2:])
        np.testing.assert_allclose(plane, closed_form(inputs[name], e_lambda), rtol=2e-5)


def test_weight_of_a_single_neuron_is_the_lowest():
    plane = weight_maps(build(), images())["inceptions.3"]
    assert plane.shape == (2, 1, 1)
    np.testing.assert_allclose(plane, LOWEST, rtol=1e-5)


def test_flat_channels_weigh_the_same_everywhere():
    network = build()
    flat = np.full((1, 3, 128, 128), 0.3, np.float32)
    for layer in network.sublayers():
        if isinstance(layer, nn.Conv2D):  # no padding effects: every map is the bias
            layer.weight.set_value(paddle.zeros_like(layer.weight))
    for plane in weight_maps(network, flat).values():
        np.testing.assert_allclose(plane, LOWEST, rtol=1e-5)


def test_chosen_layers_leave_no_hook_behind():
    network = build()
    assert list(weight_maps(network, images(1), ["stem.7"])) == ["stem.7"]
    assert not any(layer._forward_pre_hooks for layer in weighing_layers(network).values())


def test_no_simam_and_unknown_layers_are_refused():
    with pytest.raises(UserError, match="no attention that multiplies.*model.attention"):
        weight_maps(build(attention="none"), images(1))
    with pytest.raises(UserError, match="behind stem.6; there is one behind stem.5, stem.7"):
        weight_maps(build(), images(1), ["stem.6"])


class Linear(nn.Layer):
    """image [N, 3, 2, 2] -> itself (the feature map) -> one logit a class: sum of weights * map."""

    def __init__(self, weights):
        super().__init__()
        self.features = nn.Conv2D(3, 3, 1, bias_attr=False)
        self.features.weight.set_value(paddle.to_tensor(np.eye(3, dtype=np.float32)[..., None, None]))
        self.register_buffer("weights", paddle.to_tensor(weights))

    def forward(self, images):
        return (self.features(images).unsqueeze(1) * self.weights).sum(axis=[2, 3, 4])


def test_grad_cam_of_a_linear_network_by_hand():
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((4, 3, 2, 2)).astype(np.float32)
    x = rng.standard_normal((5, 3, 2, 2)).astype(np.float32)
    network = Linear(weights)
    cam = grad_cam(network, network.features, x)

    logits = np.einsum("nkij,ckij->nc", x.astype(np.float64), weights)
    best = logits.argmax(1)
    expected = [np.maximum(np.einsum("k,kij->ij", weights[c].mean((1, 2)), plane), 0) for c, plane in zip(best, x)]
    np.testing.assert_array_equal(cam.classes, best)
    np.testing.assert_allclose(cam.maps, expected, atol=1e-5)
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(cam.probabilities, softmax.max(1), rtol=1e-5)


def test_grad_cam_is_zero_where_everything_speaks_against_the_class():
    weights = np.stack([np.full((3, 2, 2), value, np.float32) for value in (-1, -2)])
    network = Linear(weights)
    cam = grad_cam(network, network.features, np.ones((1, 3, 2, 2), np.float32))
    assert cam.classes == [0] and not cam.maps.any()


def test_grad_cam_needs_a_feature_map():
    network = build()
    with pytest.raises(UserError, match=r"needs a feature map.*\[1, 4\]"):
        grad_cam(network, network.classifier, images(1))


@pytest.mark.parametrize("backbone", backbones.names())
def test_every_backbone_has_a_feature_layer(backbone):
    size = backbones.load(backbone).smallest_image
    network = build(backbone, size=size)
    cam = grad_cam(network, dict(network.named_sublayers())[backbones.load(backbone).map_layer], images(1, size))
    assert cam.maps.ndim == 3 and len(cam.maps) == 1 and np.isfinite(cam.maps).all()


def test_grad_cam_layer_by_name():
    trained = SimpleNamespace(network=build(), experiment=SimpleNamespace(model=Model()))
    assert grad_cam_layer(trained) is trained.network.stem
    assert grad_cam_layer(trained, "stem.7") is trained.network.stem[7]
    with pytest.raises(UserError, match="no layer stm.7; did you mean stem.7"):
        grad_cam_layer(trained, "stm.7")


def test_upsample_interpolates_between_cell_centres():
    (plane,) = upsample(np.array([[[0.0, 4.0]]]), 4)
    np.testing.assert_allclose(plane, np.tile([0, 1, 3, 4], (4, 1)))


@pytest.fixture(scope="module")
def pair(tmp_path_factory, caltech_archive):
    """A tiny run with SimAM and the same without it beside it, on a miniature data set: (on, off)."""
    runs = train_tiny_pair(tmp_path_factory.mktemp("pair"), caltech_archive, eval_limit=4)
    return runs / "tiny_simam" / "seed0", runs / "tiny" / "seed0"


def test_arms_beside(pair):
    on, off = pair
    assert [run.path for run in arms_beside(RunFolder(on))] == [off]
    assert [run.path for run in arms_beside(RunFolder(off))] == [on]


def test_command_writes_and_logs_both_figures(pair):
    on, _ = pair
    done = commands.script("attention_maps", on)
    assert done.returncode == 0, done.stderr
    for name in ("attention_maps", "grad_cam"):
        with Image.open(RunFolder(on).figures / f"{name}.png") as figure:
            assert figure.width > 500
        assert f"{name}.png" in done.stdout
    (log,) = RunFolder(on).visualdl.glob("*.log")
    reader = LogReader(file_path=str(log))
    assert {"attention/attention_maps", "attention/grad_cam"} <= set(reader.get_tags()["image"])
    assert reader.get_data("scalar", "train/loss")  # the curves are still there


def test_own_images_and_no_other_half(pair, tmp_path):
    on, _ = pair
    Image.new("L", (40, 30), 200).save(tmp_path / "flat $x$.png")
    alone = tmp_path / "alone" / "run"
    alone.parent.mkdir()
    alone.symlink_to(on)
    done = commands.script(
        "attention_maps", alone / "checkpoints" / "last", "--layers", "stem.5,inceptions.3", "--cam-layer", "stem",
        "--output-dir", tmp_path / "out", tmp_path / "flat $x$.png",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["attention_maps.png", "grad_cam.png"]


def test_run_without_simam_is_refused(pair):
    on, off = pair
    commands.assert_refused(commands.script("attention_maps", off), "model.attention: none", str(on))


def test_wrong_pairs_are_refused(pair):
    on = load_trained(pair[0])
    with pytest.raises(UserError, match="SimAM is there twice"):
        write_attention_figures(on, [on])
    with pytest.raises(UserError, match="too many for one figure"):
        write_attention_figures(on, files=[RunFolder(pair[0]).figures.parent / "config.yaml"] * 33)
