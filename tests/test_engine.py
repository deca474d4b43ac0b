"""The inference engine and exported programs against the network that they come from."""

import sys

import numpy as np
import paddle
import pytest
from commands import assert_refused, run, script
from paddle import nn

from simam_repro import ops
from simam_repro.config import Model
from simam_repro.evaluation import ENGINES, InferenceEngine, export
from simam_repro.models import build_model

SIZE = 128


def trained_like(backbone: str, attention: str = "simam", fused: bool = True) -> nn.Layer:
    """A network whose batch norms, where it has any, have seen data."""
    paddle.seed(1)
    network = build_model(Model(backbone=backbone, attention=attention, fused=fused), 10, SIZE)
    network.train()
    network(paddle.randn([4, 3, SIZE, SIZE]))
    network.eval()
    return network


@pytest.fixture(params=["alexnet", "towernet"])
def network(request):
    return trained_like(request.param)


def assert_same_logits(logits, expected) -> None:
    logits, expected = logits.numpy(), expected.numpy()
    assert logits.dtype == expected.dtype and logits.shape == expected.shape
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(logits.argmax(axis=1), expected.argmax(axis=1))


def test_engine_gives_the_networks_logits(network):
    engine = InferenceEngine(network, SIZE)
    for count in (5, 1, 3):  # the last batch of a loader is smaller
        images = paddle.randn([count, 3, SIZE, SIZE])
        with paddle.no_grad():
            assert_same_logits(engine(images), network(images))


def test_engine_without_attention_and_with_the_plain_layer():
    images = paddle.randn([2, 3, SIZE, SIZE])
    for options in ({"attention": "none"}, {"fused": False}):
        plain = trained_like("towernet", **options)
        with paddle.no_grad():
            assert_same_logits(InferenceEngine(plain, SIZE)(images), plain(images))


def test_engine_runs_shortcuts_that_add_channels():
    network, images = trained_like("resnet20"), paddle.randn([2, 3, SIZE, SIZE])
    with paddle.no_grad():
        assert_same_logits(InferenceEngine(network, SIZE)(images), network(images))


def test_engine_leaves_the_network_as_it_was(network):
    images = paddle.randn([2, 3, SIZE, SIZE])
    with paddle.no_grad():
        before = network(images).numpy()
    network.train()
    InferenceEngine(network, SIZE)
    assert network.training and all(layer.training for layer in network.sublayers())
    network.eval()
    with paddle.no_grad():
        np.testing.assert_array_equal(network(images).numpy(), before)
    assert network.state_dict()[next(iter(network.state_dict()))].stop_gradient is False


def test_portable_program_runs_without_this_project(tmp_path):
    network, images = trained_like("towernet"), paddle.randn([2, 3, SIZE, SIZE])
    program, weights = export(network, SIZE, tmp_path / "program")
    assert program.is_file() and weights.is_file()
    np.save(tmp_path / "images.npy", images.numpy())
    code = (
        "import sys, numpy, paddle\n"
        "images = paddle.to_tensor(numpy.load(sys.argv[1] + '/images.npy'))\n"
        "numpy.save(sys.argv[1] + '/logits.npy', paddle.jit.load(sys.argv[1] + '/program/model')(images).numpy())\n"
        "assert 'simam_repro' not in sys.modules"
    )
    done = run([sys.executable, "-c", code, tmp_path], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with paddle.no_grad():
        assert_same_logits(paddle.to_tensor(np.load(tmp_path / "logits.npy")), network(images))


@pytest.mark.skipif(paddle.__version__.startswith("2."), reason="Paddle 2.6 cannot trace a compiled operator")
@pytest.mark.parametrize("portable", [True, False])
def test_only_the_engines_own_program_has_the_compiled_operator(tmp_path, portable):
    if not ops.load():
        pytest.skip("no compiler here")
    program, _ = export(trained_like("towernet"), SIZE, tmp_path, portable)
    assert ("simam_fused" in program.read_text()) is not portable


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine") / "run"
    done = script("train", "-c", "configs/demo_towernet_simam.yaml", "--smoke", "-o", "data.image_size=128",
                  "--device", "cpu", "--run-dir", folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_commands(finished, tmp_path):
    tables = {}
    for engine in ENGINES:
        done = script("evaluate", finished, "--engine", engine)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert any(line.split() == ["engine", engine] for line in lines)
        # All but the engine and the speeds is the same.
        tables[engine] = [line for line in lines if "images/s" not in line and "engine" not in line]
    assert tables["paddle"] == tables["inference"]
    assert_refused(script("evaluate", finished, "--engine", "onnx"), "inference")

    done = script("export", finished, "-o", tmp_path / "exported")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "exported").glob("model.*"))) >= 2
