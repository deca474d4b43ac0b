import numpy as np
import paddle
import pytest
from paddle.nn import functional as F

from simam_repro.config import Model
from simam_repro.errors import UserError
from simam_repro.models import SimAM, attention_layers, backbones, build_model, count_parameters, predict_logits, simam

NETWORKS = [("towernet", 16, 128), ("alexnet", 10, 128)]
each_network = pytest.mark.parametrize(("backbone", "classes", "size"), NETWORKS, ids=[name for name, *_ in NETWORKS])
each_attention = pytest.mark.parametrize("attention", ["none", "simam"])


@pytest.fixture(autouse=True)
def seed():
    paddle.seed(0)


def build(backbone, attention="simam", classes=10, size=128, **keys):
    network = build_model(Model(backbone=backbone, attention=attention, **keys), classes, size)
    network.eval()
    return network


def images(size, count=2):
    return paddle.to_tensor(np.random.default_rng(0).normal(size=(count, 3, size, size)).astype(np.float32))


def watch(*layers) -> list:
    """Each layer's (input, output) of the next forward pass, in the order of `layers`."""
    seen = [None] * len(layers)

    def hook(index):
        def note(layer, inputs, output):
            seen[index] = (inputs[0], output)

        return note

    for index, layer in enumerate(layers):
        layer.register_forward_post_hook(hook(index))
    return seen


@each_attention
@pytest.mark.parametrize(("backbone", "classes", "count"), [("towernet", 16, 1_362_176), ("alexnet", 10, 7_524_042)])
def test_parameter_counts(backbone, classes, count, attention):
    assert count_parameters(build(backbone, attention, classes, 256)) == count


@pytest.mark.parametrize(
    ("backbone", "names"),
    [
        ("towernet", ["stem.5", "stem.7", "inceptions.1", "inceptions.3"]),
        ("alexnet", ["features.0", "features.3", "features.6", "features.8", "features.10"]),
    ],
)
def test_attention_layers(backbone, names):
    layers = attention_layers(build(backbone, "simam"))
    assert list(layers) == names
    assert all(isinstance(layer, SimAM) for layer in layers.values())
    assert attention_layers(build(backbone, "none")) == {}


def test_lambda_reaches_the_layers():
    layers = attention_layers(build("alexnet", "simam", e_lambda=0.1)).values()
    assert {layer.e_lambda for layer in layers} == {0.1}


@each_network
def test_weights_load_both_ways(backbone, classes, size):
    off, on = build(backbone, "none", classes), build(backbone, "simam", classes)
    assert list(off.state_dict()) == list(on.state_dict())
    x = images(size)
    for source, target in ((on, off), (off, on)):
        missing, unexpected = target.set_state_dict(source.state_dict())
        assert not missing and not unexpected
        with paddle.no_grad():
            assert np.abs(source(x).numpy() - target(x).numpy()).max() > 1e-4
            again = build(backbone, "simam" if source is on else "none", classes)
            again.set_state_dict(source.state_dict())
            assert np.array_equal(again(x).numpy(), source(x).numpy())


@each_attention
@each_network
def test_output_shape(backbone, classes, size, attention):
    for side in (size, 224):
        with paddle.no_grad():
            logits = build(backbone, attention, classes, side)(images(side))
        assert list(logits.shape) == [2, classes]
        assert np.isfinite(logits.numpy()).all()


@each_attention
@each_network
def test_every_parameter_gets_a_gradient(backbone, classes, size, attention):
    network = build(backbone, attention, classes)
    F.cross_entropy(network(images(size)), paddle.to_tensor([1, 2])).backward()
    # Paddle lists the running statistics of BatchNorm as parameters too, stopped ones.
    trainable = {name: parameter for name, parameter in network.named_parameters() if not parameter.stop_gradient}
    assert sum(parameter.size for parameter in trainable.values()) == count_parameters(network)
    for name, parameter in trainable.items():
        assert parameter.grad is not None and np.isfinite(parameter.grad.numpy()).all(), name


@pytest.mark.parametrize("backbone", backbones.names())
def test_too_small_images_are_refused(backbone):
    smallest = backbones.load(backbone).smallest_image
    with pytest.raises(UserError) as caught:
        build(backbone, size=smallest - 1)
    message = str(caught.value)
    assert all(text in message for text in ("data.image_size", str(smallest - 1), backbone, str(smallest)))


@each_attention
@pytest.mark.parametrize("backbone", ["towernet", "alexnet"])
def test_smallest_images_work(backbone, attention):
    smallest = backbones.load(backbone).smallest_image
    with paddle.no_grad():
        logits = build(backbone, attention, size=smallest)(images(smallest))
    assert np.isfinite(logits.numpy()).all()


# TowerNet


def test_towernet_stages_at_256():
    network = build("towernet", classes=16, size=256)
    stages = [network.stem[1], network.stem[3], network.stem[5], network.stem[7], network.inceptions]
    seen = watch(*stages)
    with paddle.no_grad():
        network(images(256, count=1))
    assert [list(output.shape[1:]) for _, output in seen] == [
        [64, 64, 64], [128, 32, 32], [256, 16, 16], [256, 8, 8], [256, 2, 2],
    ]  # fmt: skip


def test_towernet_attention_follows_the_pools():
    network = build("towernet", e_lambda=1e-3)
    pools = [network.stem[5], network.stem[7], network.inceptions[1], network.inceptions[3]]
    seen = watch(*pools)
    with paddle.no_grad():
        network(images(128))
        for before, output in seen:
            expected = simam(F.max_pool2d(before, 2), 1e-3)
            np.testing.assert_allclose(output.numpy(), expected.numpy(), rtol=1e-5, atol=1e-7)


def test_towernet_inception_by_hand():
    inception = build("towernet", "none").inceptions[0]
    x = paddle.rand([1, 256, 6, 6]) - 0.5

    def conv(name, value, padding=0):
        layer = getattr(inception, name)
        return F.relu(F.conv2d(value, layer.weight, layer.bias, padding=padding))

    with paddle.no_grad():
        branches = [
            conv("point", x),
            conv("conv3", conv("reduce3", x), 1),
            conv("conv5", conv("reduce5", x), 2),
            conv("project", F.max_pool2d(x, 3, stride=1, padding=1)),
        ]
        result = inception(x)
    assert [branch.shape[1] for branch in branches] == [64, 128, 32, 32]
    np.testing.assert_allclose(result.numpy(), paddle.concat(branches, axis=1).numpy(), rtol=1e-5, atol=1e-6)


def test_towernet_batch_norm_epsilon():
    norms = [layer for layer in build("towernet").sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
    assert [norm._epsilon for norm in norms] == [1e-3] * 4


# AlexNet


def test_alexnet_order_is_conv_simam_relu():
    network = build("alexnet", e_lambda=1e-5)
    convs = [network.features[index] for index in (0, 3, 6, 8, 10)]
    relus = [network.features[index + 1] for index in (0, 3, 6, 8, 10)]
    seen = watch(*convs, *relus)
    strides, paddings = (4, 1, 1, 1, 1), (5, 2, 1, 1, 1)
    with paddle.no_grad():
        network(images(128))
        for index, conv in enumerate(convs):
            plain = F.conv2d(seen[index][0], conv.weight, conv.bias, stride=strides[index], padding=paddings[index])
            expected = F.relu(simam(plain, 1e-5)).numpy()
            np.testing.assert_allclose(seen[5 + index][1].numpy(), expected, rtol=1e-4, atol=1e-6)
            # The other order gives something else: SimAM sees the negative half as well.
            assert np.abs(simam(F.relu(plain), 1e-5).numpy() - expected).max() > 1e-3 * expected.max()


def test_alexnet_maps_at_128():
    network = build("alexnet", "none")
    seen = watch(network.features[0], network.features[2], network.features[5], network.features[12], network.average)
    with paddle.no_grad():
        network(images(128))
    assert [output.shape[2] for _, output in seen] == [32, 15, 7, 3, 3]


def test_alexnet_averages_down_and_never_up():
    for size in (backbones.load("alexnet").smallest_image, 256):
        network = build("alexnet", "none", size=size)
        seen = watch(network.features)
        with paddle.no_grad():
            network(images(size, count=1))
        assert seen[0][1].shape[2] >= 3


def test_alexnet_dropout_only_in_training():
    network = build("alexnet")
    x = images(128)
    with paddle.no_grad():
        assert np.array_equal(network(x).numpy(), network(x).numpy())
        network.train()
        assert not np.array_equal(network(x).numpy(), network(x).numpy())


def test_predict_logits_keeps_the_order_and_evaluates():
    network = build("alexnet")
    network.train()
    x = images(128, count=5)
    loader = [(x[:3], None), (x[3:], None)]
    logits = predict_logits(network, loader)
    with paddle.no_grad():
        network.eval()
        expected = np.concatenate([network(x[:3]).numpy(), network(x[3:]).numpy()])
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
