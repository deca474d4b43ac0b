"""ops.fuse: any plain network computes the same, however it is written and whatever happens to it afterwards."""

import copy

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F
from small_networks import build, smallest

from simam_repro import ops
from simam_repro.models import SimAM, backbones
from simam_repro.ops import patterns

CLOSE = {"float32": 2e-3, "float64": 1e-9}


@pytest.fixture(autouse=True)
def compiled():
    if not ops.load():
        pytest.skip("no compiler here")


def results(network, x) -> list[np.ndarray]:
    """Output, gradients and buffers after a pass."""
    paddle.seed(3)
    output = network(x)
    (output * output).sum().backward()
    gradients = [parameter.grad.numpy().copy() for parameter in network.parameters() if parameter.grad is not None]
    network.clear_gradients()
    return [output.numpy(), *gradients, *(buffer.numpy().copy() for buffer in network.buffers())]


def assert_same(ours, theirs, close) -> None:
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine.dtype == reference.dtype
        scale = max(np.abs(reference).max(), 1e-3 * np.abs(theirs[0]).max())
        np.testing.assert_allclose(mine, reference, rtol=close, atol=close * scale)


def check(plain, x, close=1e-10):
    """`plain` and its fused copy agree, training and not. Returns the fused one."""
    plain, x = plain.to(dtype="float64"), x.astype("float64")
    fused = ops.fuse(copy.deepcopy(plain))
    for mode in ("train", "eval"):
        for network in (plain, fused):
            getattr(network, mode)()
        assert_same(results(fused, x), results(plain, x), close)
    return fused


def images(shape=(2, 3, 8, 8), dtype="float32"):
    return paddle.to_tensor(np.random.default_rng(0).normal(size=shape).astype(dtype))


# A bias before a batch norm has no gradient but rounding, and two images make a norm of 1x1 maps a sign.
SIZES = {"resnet50": 64, "mobilenet_v2": 64}
SLOW = {"vgg19": pytest.mark.slow}
NAMES = [
    pytest.param(name, marks=SLOW.get(name, ()))
    for name in backbones.names() if "56" not in name and "110" not in name
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "mode"), [("float64", "train"), ("float32", "eval")])
@pytest.mark.parametrize("attention", ["none", "simam"])
@pytest.mark.parametrize("backbone", NAMES)
def test_backbones(backbone, attention, dtype, mode):
    fused = build(backbone, attention=attention).to(dtype=dtype)
    plain = build(backbone, attention=attention, fused=False).to(dtype=dtype)
    assert list(plain.state_dict()) == list(fused.state_dict())
    for network in (plain, fused):
        getattr(network, mode)()
    x = images((3, 3, *[SIZES.get(backbone, smallest(backbone))] * 2), dtype)
    assert_same(results(fused, x), results(plain, x), CLOSE[dtype])


class Block(nn.Layer):
    """A block whose forward is written in the ways that forwards are."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2D(3, 3, 3, padding=1)
        self.other = nn.Conv2D(3, 3, 3, padding=1)
        self.relu = nn.ReLU()
        self.norm = nn.BatchNorm2D(3)
        for conv in (self.conv, self.other):
            conv.bias.set_value(paddle.to_tensor([0.5, -0.5, 0.1]))


class Nested(Block):
    def forward(self, x):
        return F.relu(self.other(self.relu(self.conv(x))))


class Statements(Block):
    def forward(self, x):
        out = self.conv(x)
        out = self.relu(out)
        out = self.norm(out)
        return self.relu(out)


class UsedTwice(Block):
    def forward(self, x):
        out = self.conv(x)
        return self.relu(out) + out


class LookedAt(Block):
    def forward(self, x):
        out = self.conv(x)
        smallest_one = out.min()
        out = self.relu(out)
        return out + smallest_one


class CalledTwice(Block):
    def forward(self, x):
        return self.conv(self.relu(self.conv(x))) + self.conv(x)


class BySelf(Block):
    def forward(self, x):
        out = self.conv(x)
        out = out * self.relu(out)
        return self.relu(self.other(out))


class InPlace(Block):
    def forward(self, x):
        out = self.conv(x)
        out += x
        out = self.relu(out)
        return out


class Residual(Block):
    def forward(self, x):
        return self.relu(self.norm(self.conv(x)) + self.other(x))


class ResidualFirst(Block):
    def forward(self, x):
        return x + self.norm(self.conv(x))


class ResidualLater(Block):
    def forward(self, x):
        identity = x
        out = self.norm(self.conv(x))
        if self.training:
            identity = self.other(x)
        out += identity
        return self.relu(out)


class ResidualOfOneChannel(Block):
    def forward(self, x):
        return self.relu(self.norm(self.conv(x)) + x[:, :1])


class NumberAdded(Block):
    def forward(self, x):
        out = self.norm(self.conv(x)) + 1.5
        out += 0.5
        return F.relu6(out)


class ByMode(Block):
    def forward(self, x):
        out = self.conv(x)
        if self.training:
            out = self.norm(out)
        return self.relu(out)


class Handler(Block):
    def fails(self, x):
        raise ValueError

    def forward(self, x):
        try:
            out = self.conv(x)
            out = self.fails(out)
        except ValueError:
            out = out - 1
        return out


class Closure(Block):
    def forward(self, x):
        def twice(value):
            return value + out

        out = self.conv(x)
        out = twice(out)
        return self.relu(out)


class Ignored(Block):
    def forward(self, x):
        out = self.conv(x)
        out = self.relu(x)
        return out


class OfItself(Block):
    def forward(self, x):
        out = self.conv(x)
        out = self.relu(out + out)
        out = self.other(out)
        out = out.multiply(out)
        return out


class Super(Nested):
    def forward(self, x):
        return self.norm(super().forward(x))


class Helper(Block):
    def half(self, x):
        return self.conv(x) / 2

    def forward(self, x):
        return self.relu(self.half(x))


CLASSES = (
    Nested, Statements, UsedTwice, LookedAt, CalledTwice, BySelf, InPlace, ByMode, Handler, Closure, Ignored,
    OfItself, Super, Helper, Residual, ResidualFirst, ResidualLater, ResidualOfOneChannel, NumberAdded,
)  # fmt: skip


@pytest.mark.parametrize("cls", CLASSES)
def test_however_a_forward_is_written(cls):
    paddle.seed(0)
    check(cls(), images())


@pytest.mark.parametrize(("cls", "joined"), [(Nested, 2), (Statements, 1), (UsedTwice, 0), (LookedAt, 0), (InPlace, 0)])
def test_what_is_joined(cls, joined, monkeypatch):
    """A join is where a ReLU goes with the bias."""
    found, original = [], ops.fused.add_bias_in_place
    monkeypatch.setattr(
        patterns.fused, "add_bias_in_place", lambda x, bias, relu=False: found.append(relu) or original(x, bias, relu)
    )
    ops.fuse(cls())(images())
    assert sum(found) == joined


@pytest.mark.parametrize(
    ("cls", "joined"),
    [(Residual, ["norm"]), (ResidualFirst, ["norm"]), (ResidualLater, ["sum"]), (ResidualOfOneChannel, [])],
)
def test_what_sums_join(cls, joined, monkeypatch):
    found, norm, added = [], ops.fused.batch_norm, ops.fused.sum_relu

    def batch_norm(x, layer, activation="none", residual=None):
        found.extend(["norm"] * (residual is not None))
        return norm(x, layer, activation, residual)

    def sum_relu(x, y):
        found.append("sum")
        return added(x, y)

    monkeypatch.setattr(ops.fused, "batch_norm", batch_norm)
    monkeypatch.setattr(ops.fused, "sum_relu", sum_relu)
    ops.fuse(cls())(images())
    assert found == joined


def test_simam_joins_within_a_block_and_weights_see_what_they_saw():
    paddle.seed(0)
    block = nn.Sequential(nn.Conv2D(3, 3, 3), SimAM(), nn.ReLU())
    block[0].bias.set_value(paddle.to_tensor([0.5, -0.5, 0.1]))
    fused, seen = check(block, images()), []
    fused[1].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0].numpy()))
    fused(images(dtype="float64"))
    np.testing.assert_allclose(seen[0], block[0](images(dtype="float64")).numpy(), rtol=1e-4, atol=1e-5)


def changed(network, change) -> None:
    paddle.seed(1)
    change(network)


CHANGES = {
    "hook behind": lambda net: net.conv.register_forward_post_hook(lambda layer, inputs, output: output - 1),
    "hook before": lambda net: net.relu.register_forward_pre_hook(lambda layer, inputs: (inputs[0] + 1,)),
    "replaced": lambda net: setattr(net, "relu", nn.Tanh()),
    "another conv": lambda net: setattr(net, "conv", nn.Conv2D(3, 3, 3, padding=1, padding_mode="reflect")),
    "own forward": lambda net: setattr(net.relu, "forward", lambda x: x * 2),
    "own forward of a conv": lambda net: setattr(net.conv, "forward", lambda x: x * 2),
    "shared": lambda net: setattr(net, "other", net.conv),
    "a network": lambda net: setattr(net, "relu", nn.Sequential(nn.Tanh(), nn.ReLU())),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_after_it_was_fused(change):
    paddle.seed(0)
    plain = Nested()
    fused = ops.fuse(copy.deepcopy(plain))
    for network in (plain, fused):
        changed(network, CHANGES[change])
    assert_same(results(fused, images()), results(plain, images()), 1e-5)


def test_a_layer_called_alone_is_itself():
    fused = ops.fuse(Nested())
    assert float(fused.conv(images()).min()) < 0 and type(fused.conv) is nn.Conv2D


def test_undone():
    plain = build("resnet20", attention="simam", fused=False)
    classes, text = [type(layer) for layer in plain.sublayers(include_self=True)], repr(plain)
    fused = ops.fuse(plain)
    assert fused is plain and repr(fused) == text and ops.fuse(fused) is fused
    assert all(isinstance(layer, cls) for layer, cls in zip(fused.sublayers(include_self=True), classes))
    ops.unfuse(fused)
    assert [type(layer) for layer in plain.sublayers(include_self=True)] == classes


def test_a_source_that_is_not_what_runs_is_left_alone(tmp_path):
    """A module that was edited after it was imported."""
    import importlib.util

    path = tmp_path / "edited.py"
    text = "from paddle import nn\nclass Net(nn.Layer):\n    def __init__(self):\n        super().__init__()\n"
    text += (
        "        self.a = nn.Conv2D(3, 3, 3)\n        self.b = nn.ReLU()\n    def forward(self, x):\n        return "
    )
    path.write_text(text + "self.b(self.a(x)) - 1\n")
    spec = importlib.util.spec_from_file_location("edited", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network, x = module.Net(), images()
    expected = network(x).numpy()
    path.write_text(text + "self.b(self.a(x)) + 10\n")
    assert type(ops.fuse(network)) is module.Net
    np.testing.assert_array_equal(network(x).numpy(), expected)


class Branches(nn.Layer):
    """What a traced program converts: a condition on a tensor, within a layer of a Sequential."""

    def forward(self, x):
        if x.mean() > 0:
            y = x + 1
        else:
            y = x - 1
        return y


def test_a_condition_on_a_tensor_is_traced_as_one():
    network = ops.fuse(nn.Sequential(nn.ReLU(), Branches(), nn.Sequential(Branches())))
    traced = paddle.jit.to_static(copy.deepcopy(network), full_graph=True)
    for sign in (1, -1):
        x = paddle.full([1, 2, 2, 2], 0.5) * sign
        np.testing.assert_array_equal(traced(x).numpy(), network(x).numpy())


@pytest.mark.parametrize("factory", [paddle.vision.models.resnet18, paddle.vision.models.mobilenet_v2])
def test_paddles_own_and_saved(factory, tmp_path):
    paddle.seed(0)
    network, x = ops.fuse(factory(num_classes=4)), images((2, 3, 32, 32))
    network.eval()
    with paddle.no_grad():
        expected = ops.unfuse(copy.deepcopy(network))(x).numpy()
        np.testing.assert_allclose(network(x).numpy(), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
        paddle.jit.save(network, str(tmp_path / "net"), [paddle.static.InputSpec([None, 3, 32, 32], "float32")])
        loaded = paddle.jit.load(str(tmp_path / "net"))
        np.testing.assert_allclose(loaded(x).numpy(), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
        np.testing.assert_allclose(network(x).numpy(), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
