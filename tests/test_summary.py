"""Layer tables: FLOPs against hand computations and closed forms."""

from math import prod

import numpy as np
import pytest
from commands import ROOT, assert_refused, script
from paddle import nn

from simam_repro.config import Data, Model, load_config
from simam_repro.data import expected_classes
from simam_repro.data.sets import shapes16
from simam_repro.models import SimAM, build_model, summarise
from simam_repro.reporting import find_configs, network_table, overview_table


def flops_of(layer, size=8):
    """{layer type: FLOPs} of one image [3, size, size] through `layer`."""
    return {row.type: row.flops for row in summarise(nn.Sequential(layer), size).rows}


def network(backbone, attention="none", size=128):
    return build_model(Model(backbone=backbone, attention=attention), 10, size)


def test_first_conv_of_alexnet_by_hand():
    first = summarise(network("alexnet"), 128).rows[0]
    # 128 pixels, stride 4: 32 x 32 positions, 48 channels, 11 x 11 x 3 = 363 multiply-adds each.
    assert (first.name, first.type, first.output_shape) == ("features.0", "Conv2D", (48, 32, 32))
    assert first.flops == 2 * 363 * 48 * 32 * 32 == 35_684_352
    assert first.parameters == 363 * 48 + 48


def test_linear_is_two_per_weight():
    rows = {row.name: row for row in summarise(network("alexnet"), 128).rows}
    assert rows["classifier.0"].flops == 2 * 1152 * 2048
    assert rows["classifier.6"].flops == 2 * 2048 * 10


@pytest.mark.parametrize(
    "layer, expected",
    [
        (nn.Conv2D(3, 6, 3, padding=1, groups=3), {"Conv2D": 2 * 9 * 6 * 64}),
        (nn.BatchNorm2D(3), {"BatchNorm2D": 2 * 3 * 64}),
        (nn.ReLU(), {"ReLU": 3 * 64}),
        (nn.MaxPool2D(2), {"MaxPool2D": 3 * 64}),
        (nn.MaxPool2D(3, stride=1, padding=1), {"MaxPool2D": 9 * 3 * 64}),
        (nn.AdaptiveAvgPool2D(1), {"AdaptiveAvgPool2D": 3 * 64}),
        # 8 rows in 3 bins: 0 to 2, 2 to 5, 5 to 7.
        (nn.AdaptiveAvgPool2D(3), {"AdaptiveAvgPool2D": 3 * (3 + 4 + 3) ** 2}),
        (SimAM(), {"SimAM": 10 * 3 * 64 + 2 * 3}),
        (nn.Dropout(), {"Dropout": 0}),
    ],
)
def test_closed_forms(layer, expected):
    assert flops_of(layer) == expected


@pytest.mark.parametrize("backbone, giga_multiply_adds", [("resnet50", 4.09), ("vgg19", 19.63), ("mobilenet_v2", 0.30)])
def test_multiply_adds_are_the_published_ones(backbone, giga_multiply_adds):
    """Of convs and linear layers at 224 pixels with 1000 classes, as torchvision's model pages print them."""
    rows = summarise(build_model(Model(backbone=backbone), 1000, 224), 224).rows
    counted = sum(row.flops for row in rows if row.type in ("Conv2D", "Linear"))
    assert counted / 2e9 == pytest.approx(giga_multiply_adds, abs=0.006)


@pytest.mark.parametrize("backbone", ["towernet", "alexnet", "resnet50", "mobilenet_v2"])
def test_attention_adds_its_own_flops_and_nothing_else(backbone):
    plain, attended = (summarise(network(backbone, attention), 128) for attention in ("none", "simam"))
    rows = [row for row in attended.rows if row.type == "SimAM"]
    assert attended.flops - plain.flops == sum(row.flops for row in rows) > 0
    assert [row for row in attended.rows if row.type != "SimAM"] == plain.rows
    assert attended.parameters == plain.parameters
    assert sum(row.parameters for row in plain.rows) == plain.parameters
    assert not attended.not_counted


def test_rows_follow_the_calls_and_attention_follows_its_layer():
    names = [row.name for row in summarise(network("alexnet", "simam"), 128).rows]
    assert names[:4] == ["features.0", "features.0.attention", "features.1", "features.2"]
    assert names[-1] == "classifier.6"


def test_totals_of_a_hand_made_network():
    layers = nn.Sequential(nn.Conv2D(3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 64, 4))
    summary = summarise(layers, 8)
    assert summary.flops == 2 * 3 * 2 * 64 + 2 * 64 + 2 * 128 * 4
    assert summary.parameter_bytes == 4 * (3 * 2 + 2 + 128 * 4 + 4)
    assert summary.activation_bytes == 4 * (128 + 128 + 128 + 4)
    assert [row.output_shape for row in summary.rows] == [(2, 8, 8), (2, 8, 8), (128,), (4,)]


def test_unknown_layer_is_named_not_guessed():
    summary = summarise(nn.Sequential(nn.Conv2D(3, 2, 1), nn.GELU()), 8)
    assert summary.not_counted == ["GELU"] and summary.rows[1].flops is None
    assert summary.flops == summary.rows[0].flops


def test_summary_leaves_the_network_as_it_was():
    layers = nn.Sequential(nn.Conv2D(3, 2, 1), nn.BatchNorm2D(2))
    before = {name: value.numpy().copy() for name, value in layers.state_dict().items()}
    first = summarise(layers, 8)
    assert layers.training and summarise(layers, 8) == first
    layers.eval()
    summarise(layers, 8)
    assert not layers.training
    assert all(np.array_equal(before[name], value.numpy()) for name, value in layers.state_dict().items())
    assert not any(layer._forward_post_hooks or layer._forward_pre_hooks for layer in layers.sublayers())


def test_expected_classes_are_those_of_the_data(prepare, cifar_archive, caltech_archive):
    folders = [cifar_archive.parent, caltech_archive.parent]
    for dataset in ("cifar10", "caltech101_16"):
        data = prepare(dataset, folders, allow_miniature=True)
        assert expected_classes(Data(dataset=dataset)) == len(data.classes)
    assert expected_classes(Data(dataset="shapes16")) == len(shapes16.FIGURES)


def test_network_table_adds_up():
    experiment = load_config(ROOT / "configs/caltech_towernet_simam.yaml")
    summary = summarise(build_model(experiment.model, 16, 256), 256)
    lines = network_table(experiment).splitlines()
    assert len(lines) == 1 + len(summary.rows) + 1 + 4
    assert lines[-4] == "attention    SimAM at b3, b4, i1, i2 (position block)"
    assert "1,362,176 with 16 classes (5.4 MB" in lines[-3]
    assert f"{summary.flops / 1e9:.3f} G for one image of 256 x 256" in lines[-2]
    outputs = sum(prod(row.output_shape) for row in summary.rows)
    assert f"{32 * 4 * outputs / 1e6:,.1f} MB for a batch of 32" in lines[-1]


def test_find_configs_leaves_out_bases(tmp_path):
    for name in ("b.yaml", "a.yaml", "_base_/c.yaml", "sub/d.yaml", "readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_configs(tmp_path) == [tmp_path / name for name in ("a.yaml", "b.yaml", "sub/d.yaml")]


def test_overview_has_a_line_for_each_experiment():
    names = ("alexnet", "alexnet_simam", "demo_towernet_simam")
    lines = overview_table([load_config(ROOT / f"configs/{name}.yaml") for name in names]).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == list(names)
    assert lines[1].split()[1:] == ["cifar10", "128", "alexnet", "7,524,042", "0.194", "none"]
    assert lines[2].endswith("  5 SimAM (e_lambda 1e-05)") and lines[3].endswith("  4 SimAM")


def test_command():
    done = script("summary", "-c", "configs/alexnet_simam.yaml", "-o", "data.batch_size=2")
    assert done.returncode == 0, done.stderr
    assert "features.10.attention" in done.stdout and "7,524,042 with 10 classes" in done.stdout
    assert "for a batch of 2" in done.stdout


def test_command_refuses():
    assert_refused(script("summary"), "either -c CONFIG or --all")
    assert_refused(script("summary", "--all", "-c", "configs/alexnet.yaml"), "either -c CONFIG or --all")
    assert_refused(script("summary", "-c", "configs/alexnet.yaml", "-o", "data.image_size=32"), "data.image_size: 32")
