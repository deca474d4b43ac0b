"""The compiled SimAM against the plain layer, and what happens where it cannot be compiled."""

import copy
import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import paddle
import pytest
from commands import ROOT, run
from small_networks import fused as chained

from simam_repro import locks, ops
from simam_repro.config import Model
from simam_repro.models import SimAM, build_model, simam

# One vector, several, a rest; blocks of one plane and of many; more planes than a block takes.
SHAPES = [
    (1, 1, 1, 1), (2, 3, 1, 1), (300, 2, 1, 1), (2, 3, 4, 4), (3, 5, 7, 7), (40, 30, 7, 7), (2, 3, 3, 11),
    (2, 600, 2, 2), (1, 2, 64, 65), (2, 2, 200, 150),
]  # fmt: skip


@pytest.fixture
def fused():
    if not ops.load():
        pytest.skip("no compiler here")


def values(shape, dtype, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.3, 1, shape).astype(dtype)


def both(x: np.ndarray, e_lambda: float):
    """(output, gradient of x) of a weighted sum, by the operator and by the plain layer."""
    weights = paddle.to_tensor(values(x.shape, x.dtype, seed=1))
    for implementation in (True, False):
        tensor = paddle.to_tensor(x, stop_gradient=False)
        output = simam(tensor, e_lambda, fused=implementation)
        (gradient,) = paddle.grad([output], [tensor], [weights])
        yield output.numpy(), gradient.numpy()


@pytest.mark.parametrize("e_lambda", [1e-4, 1e-5, 0.1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "close"), [("float32", 2e-6), ("float64", 1e-13)])
def test_operator_is_the_plain_layer(fused, shape, dtype, close, e_lambda):
    ours, plain = both(values(shape, dtype), e_lambda)
    for mine, theirs in zip(ours, plain):
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, rtol=close, atol=close)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e5, 1e15])
def test_operator_is_the_plain_layer_at_any_scale(fused, scale):
    x = (values((2, 3, 9, 9), "float32") * scale).astype("float32")
    ours, plain = both(x, 1e-4)
    np.testing.assert_allclose(ours[0], plain[0], rtol=2e-6, atol=2e-6 * scale)


@pytest.mark.parametrize("size", [17, 20, 40, 64])  # the outlier's 1/e* is about 72, 100, 400 and 1024
def test_a_single_neuron_far_from_all_others(fused, size):
    x = values((2, 3, size, size), "float32") * np.float32(1e-3)
    x[1, 2, size // 2, 3] = 50
    ours, plain = both(x, 1e-4)
    assert ours[0][1, 2, size // 2, 3] == 50  # its weight is 1
    for mine, theirs in zip(ours, plain):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 15, 48])
def test_a_bad_number_spoils_its_plane_and_no_other(fused, bad, at):
    x = values((2, 3, 7, 7), "float32")
    x[1, 2].flat[at] = bad
    for output, gradient in both(x, 1e-4):
        for array in (output, gradient):
            spoiled = np.isnan(array).reshape(6, 49)
            assert spoiled[5].all() and not spoiled[:5].any()


@pytest.mark.skipif(paddle.__version__.startswith("2."), reason="Paddle 2 takes no mean of nothing")
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4)])
def test_nothing_gives_nothing(fused, shape):
    assert simam(paddle.zeros(shape)).shape == list(shape)


def test_any_strides(fused):
    x = values((2, 4, 6, 10), "float32")
    results = []
    for implementation in (True, False):
        tensor = paddle.to_tensor(x, stop_gradient=False)
        view = tensor.transpose([0, 3, 1, 2])[:, :, ::2]
        output = simam(view, 1e-4, implementation)
        (output * output).sum().backward()
        results.append((output.numpy(), tensor.grad.numpy()))
    for mine, theirs in zip(*results):
        np.testing.assert_allclose(mine, theirs, rtol=2e-6, atol=2e-6)


def test_twice_in_one_graph(fused):
    gradients = []
    for layer in (SimAM(), SimAM(fused=False)):
        x = paddle.to_tensor(values((2, 3, 5, 5), "float64"), stop_gradient=False)
        once = layer(x)
        (once * layer(once) + layer(x)).sum().backward()
        gradients.append(x.grad.numpy())
    np.testing.assert_allclose(*gradients, rtol=1e-12)


def test_no_grad_and_frozen_input(fused):
    x = paddle.to_tensor(values((2, 3, 5, 5), "float32"), stop_gradient=False)
    with paddle.no_grad():
        assert SimAM()(x).stop_gradient
    assert SimAM()(x.detach()).stop_gradient and not SimAM()(x).stop_gradient


def test_threads_do_not_change_a_bit(fused):
    code = (
        "import numpy as np, paddle; from simam_repro.models import simam\n"
        "x = np.random.default_rng(0).normal(size=(40, 30, 7, 7)).astype('float32')\n"
        "x = paddle.to_tensor(x, stop_gradient=False)\n"
        "y = simam(x); (g,) = paddle.grad([(y * y).sum()], [x])\n"
        "import hashlib; print(hashlib.sha256(y.numpy().tobytes() + g.numpy().tobytes()).hexdigest())"
    )
    prints = [
        run([sys.executable, "-c", code], env={"FLAGS_paddle_num_threads": n}).stdout.split()[-1]
        for n in ("1", "2", "3")
    ]
    assert len(set(prints)) == 1 and len(prints[0]) == 64


# Paddle 2.6 traces bytecode in its default mode, and stumbles over more than this layer.
MODES = [True] if paddle.__version__.startswith("2.") else [True, False]


@pytest.mark.parametrize("implementation", [True, False])
@pytest.mark.parametrize("sizes", [(6, 6), (None, 6), (None, None)])
@pytest.mark.parametrize("full_graph", MODES)
def test_to_static_and_export(fused, tmp_path, full_graph, sizes, implementation):
    x = paddle.to_tensor(values((2, 3, 6, 6), "float32"))
    layer = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), SimAM(fused=implementation))
    expected = layer(x).numpy()
    spec = [paddle.static.InputSpec([None, 3, *sizes], "float32")]
    traced = paddle.jit.to_static(layer, input_spec=spec, full_graph=full_graph)
    np.testing.assert_allclose(traced(x).numpy(), expected, rtol=2e-6, atol=1e-6)
    paddle.jit.save(traced, str(tmp_path / "layer"))
    np.testing.assert_allclose(paddle.jit.load(str(tmp_path / "layer"))(x).numpy(), expected, rtol=2e-6, atol=1e-6)


@pytest.mark.skipif(paddle.__version__.startswith("2."), reason="Paddle 2.6 stumbles in this mode")
@pytest.mark.parametrize("implementation", [True, False])
@pytest.mark.parametrize("attention", ["none", "simam"])
def test_to_static_as_paddle_does_it_by_itself(fused, attention, implementation):
    """Without full_graph; several sizes of maps go through the same layers, which Paddle then takes as free."""
    network = build_model(Model(backbone="alexnet", attention=attention, fused=implementation), 4, 128)
    network.eval()
    x = paddle.to_tensor(values((2, 3, 128, 128), "float32"), stop_gradient=False)
    expected = network(x).numpy()
    traced = paddle.jit.to_static(network, full_graph=False)
    for _ in range(2):
        np.testing.assert_allclose(traced(x).numpy(), expected, rtol=1e-4, atol=1e-5)


# The bias of a convolution


def convolved(layer, x: np.ndarray):
    """Output and gradients of a graph that uses the convolution's output three times."""
    tensor = paddle.to_tensor(x, stop_gradient=False)
    output = layer(tensor)
    (paddle.nn.functional.relu(output) * output + output).sum().backward()
    gradients = [value.grad for value in (tensor, *layer.parameters())]
    return [value.numpy() for value in (output, *gradients)]


@pytest.mark.parametrize(("dtype", "close"), [("float32", 1e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("size", [1, 5, 16, 33])
def test_convolution_is_paddles(fused, size, dtype, close):
    paddle.seed(0)
    theirs = paddle.nn.Conv2D(3, 5, 3, stride=2, padding=1)
    theirs.bias.set_value(paddle.randn([5]))
    ours = chained(copy.deepcopy(theirs))
    x = values((4, 3, size, size), dtype)
    for mine, reference in zip(*(convolved(layer.to(dtype=dtype), x) for layer in (ours, theirs))):
        assert mine.dtype == reference.dtype
        np.testing.assert_allclose(mine, reference, rtol=close, atol=close * np.abs(reference).max())


# (images, channels, height, width), outputs, kernel, stride, padding: rows of an image at a time, all, several images.
CONVOLUTIONS = [
    ((2, 3, 70, 33), 4, 3, 1, 1), ((3, 4, 15, 15), 5, 5, 1, 2), ((150, 3, 7, 7), 4, 3, 1, 1),
    ((5, 6, 2, 2), 3, 1, 1, 0), ((3, 2, 9, 12), 4, (3, 5), 1, (0, 2)), ((2, 3, 40, 37), 4, 11, 4, 5),
    ((9, 3, 6, 6), 4, 3, 2, 1), ((2, 3, 8, 9), 2, 2, 3, 0),
]  # fmt: skip


@pytest.fixture
def no_convolution_of_paddles(fused, monkeypatch):
    if not ops.fused._has_gemm:
        pytest.skip("this Paddle brings no MKL")
    monkeypatch.setattr(paddle.nn.functional, "conv2d", None)
    yield
    monkeypatch.undo()


@pytest.mark.parametrize(("dtype", "close"), [("float32", 3e-6), ("float64", 1e-14)])
@pytest.mark.parametrize(("shape", "outputs", "kernel", "stride", "padding"), CONVOLUTIONS, ids=str)
def test_convolution_by_products_is_paddles(
    no_convolution_of_paddles, monkeypatch, shape, outputs, kernel, stride, padding, dtype, close
):
    layer = paddle.nn.Conv2D(shape[1], outputs, kernel, stride=stride, padding=padding).to(dtype=dtype)
    network = chained(layer)
    results = []
    for paddles in (False, True):
        if paddles:
            monkeypatch.undo()
            ops.unfuse(network)
        x = paddle.to_tensor(values(shape, dtype), stop_gradient=False)
        output = network(x)
        output.backward(paddle.to_tensor(values(output.shape, dtype, seed=1)))
        found = (output, layer.weight.grad, layer.bias.grad, x.grad)
        results.append([value.numpy().copy() for value in found])
        layer.clear_gradients()
    for mine, reference in zip(*results):
        np.testing.assert_allclose(mine, reference, rtol=close, atol=close * np.abs(reference).max())


def test_channels_that_do_not_fit_are_paddles_to_refuse(fused):
    with pytest.raises(ValueError):
        chained(paddle.nn.Conv2D(3, 4, 3))(paddle.ones([1, 2, 9, 9]))


def test_convolution_without_gradient(fused):
    x, layer = paddle.ones([1, 2, 4, 4]), chained(paddle.nn.Conv2D(2, 3, 1))
    with paddle.no_grad():
        assert layer(x).stop_gradient
    assert not layer(x).stop_gradient and np.array_equal(x.numpy(), np.ones((1, 2, 4, 4)))


def test_convolution_without_the_operator(fused, monkeypatch):
    layer, x = chained(paddle.nn.Conv2D(2, 3, 3)), paddle.ones([1, 2, 4, 4])
    layer[0].bias.set_value(paddle.to_tensor([1.0, 2.0, 3.0]))
    expected = layer(x).numpy()
    monkeypatch.setattr(ops.fused, "load", lambda: False)
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-6)


# Building. Each of these runs in a process of its own, with an empty cache.

TRY = """
import sys, pathlib, numpy as np, paddle
from simam_repro import ops
ops.fused.CACHE = pathlib.Path(sys.argv[1])
if len(sys.argv) > 2:
    ops.build.SOURCE = pathlib.Path(sys.argv[2])
from simam_repro.models import simam
x = paddle.to_tensor(np.arange(50, dtype="float32").reshape(1, 2, 5, 5))
for _ in range(2):
    same = np.allclose(simam(x).numpy(), simam(x, fused=False).numpy())
print("loaded" if ops.load() else "plain", same)
"""


def attempt(cache, *arguments, env=None):
    own = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": f"{cache}/own"}
    done = run([sys.executable, "-c", TRY, cache, *arguments], env={**own, **(env or {})})
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_processes_that_build_at_once_share_the_result(fused, tmp_path):
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda _: attempt(tmp_path), range(3)))
    assert [done.stdout for done in results] == ["loaded True\n"] * 3
    assert sum("SimAM: compiling" in done.stderr for done in results) == 1
    assert len(list(tmp_path.rglob("*.so"))) == 1
    assert not list(tmp_path.rglob("tmp*"))


def test_a_long_wait_for_another_compile_is_said(fused, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(locks, "WORD_AFTER_S", 0)
    library = tmp_path / ops.build._key(paddle.__version__) / "simam_ops.so"

    def told() -> str:
        said = ""
        while "waiting" not in said:
            said += capfd.readouterr().err
        return said

    with ThreadPoolExecutor() as pool, locks.sole_writer(library):
        waiting = pool.submit(ops.build.build, [tmp_path], paddle.__version__)
        assert f"waiting for process {os.getpid()} on" in told()
        library.write_bytes(b"made by the other")
        library.with_suffix(".sha256").write_text(hashlib.sha256(b"made by the other").hexdigest())
    assert waiting.result() == library and library.read_bytes() == b"made by the other"


def one_line_about(done, *words) -> None:
    lines = [line for line in done.stderr.splitlines() if "no fused operator" in line]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


def test_without_a_compiler(tmp_path):
    done = attempt(tmp_path, env={"PATH": str(tmp_path)})
    assert done.stdout == "plain True\n"
    one_line_about(done, "g++", "plain layer")
    assert not list(tmp_path.iterdir())


def test_a_failed_build_is_told_once_and_not_repeated(fused, tmp_path):
    source = tmp_path / "broken.cc"
    source.write_text("#error this does not compile\n")
    first, second = attempt(tmp_path / "cache", source), attempt(tmp_path / "cache", source)
    (log,) = tmp_path.rglob("build.log")
    assert "this does not compile" in log.read_text()
    for done in (first, second):
        assert done.stdout == "plain True\n"
        one_line_about(done, str(log))
    assert "SimAM: compiling" in first.stderr and "SimAM: compiling" not in second.stderr


@pytest.mark.slow
def test_a_library_that_does_not_load(fused, tmp_path):
    """What is as it was built, and yet does not load here: the plain layer; what is not, is built again."""
    library = ops.build.build([ops.fused.CACHE], paddle.__version__)
    folder = tmp_path / library.parent.name
    folder.mkdir()
    bad = folder / library.name
    bad.write_bytes(b"not a library")
    bad.with_suffix(".sha256").write_text(hashlib.sha256(b"not a library").hexdigest())
    done = attempt(tmp_path)
    assert done.stdout == "plain True\n"
    one_line_about(done, "plain layer")
    bad.write_bytes(library.read_bytes()[:-1000])
    done = attempt(tmp_path)
    assert done.stdout == "loaded True\n" and "SimAM: compiling" in done.stderr


@pytest.mark.slow
def test_a_project_whose_path_has_spaces(fused, tmp_path):
    project = tmp_path / "my project"
    project.mkdir()
    (project / "env").symlink_to(sys.prefix)
    python = project / "env" / Path(sys.executable).relative_to(sys.prefix)
    done = run([python, "-c", TRY, project / "cache"], env={"PYTHONPATH": str(ROOT)})
    assert done.stdout == "loaded True\n", done.stderr
    assert len(list(project.rglob("*.so"))) == 1


def session(leader: int) -> set[int]:
    """The processes of a session."""
    found = set()
    for process in (path for path in Path("/proc").iterdir() if path.name.isdecimal()):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.add(int(process.name))
    return found


def test_a_killed_build_leaves_no_compiler_at_work(fused, tmp_path):
    command = [sys.executable, "-c", TRY, str(tmp_path)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        end = time.monotonic() + 120
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while len(found := set().union(*map(session, map(int, children.read_text().split())))) < 4:
            assert time.monotonic() < end
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
    end = time.monotonic() + 10
    while any(Path(f"/proc/{number}/exe").exists() for number in found):
        assert time.monotonic() < end
        time.sleep(0.1)
