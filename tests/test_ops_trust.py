"""What is loaded into the process: only what this user has built, unharmed, and what computes what Paddle does."""

import os
import stat

import numpy as np
import paddle
import pytest

from simam_repro import ops
from simam_repro.ops import build as building
from simam_repro.ops import check, fused
from simam_repro.ops.build import BuildError
from simam_repro.ops.private import why_not_private


@pytest.fixture(autouse=True)
def loaded():
    if not ops.load():
        pytest.skip("no compiler here")


@pytest.fixture
def compiled(monkeypatch):
    """Stands for the compiler; gives the folders that were built in."""
    folders = []

    def compile_(folder, library, log):
        folders.append(folder)
        library.unlink(missing_ok=True)
        library.write_bytes(b"built")
        library.with_suffix(building.DIGEST).write_text(building.checksum(library))

    monkeypatch.setattr(building, "_compile", compile_)
    return folders


@pytest.fixture
def caches(tmp_path):
    return [tmp_path / "project" / "ops", tmp_path / "home" / "ops"]


def test_built_once(caches, compiled):
    first, second = (building.build(caches, "1") for _ in range(2))
    assert first == second and first.is_relative_to(caches[0]) and len(compiled) == 1
    assert not stat.S_IMODE(first.parent.stat().st_mode) & 0o022


@pytest.mark.parametrize("harm", ["cut", "other bytes", "no digest", "a folder of others", "a file of others"])
def test_what_is_not_as_it_was_built_is_built_again(caches, compiled, harm):
    library = building.build(caches, "1")
    if harm == "cut":
        os.truncate(library, 2)
    elif harm == "other bytes":
        library.write_bytes(b"other")
    elif harm == "no digest":
        library.with_suffix(building.DIGEST).unlink()
    elif harm == "a folder of others":
        library.parent.chmod(0o777)
    else:
        library.chmod(0o666)
    again = building.build(caches, "1")
    assert again.read_bytes() == b"built" and len(compiled) == 2 and why_not_private(again) is None
    assert again.is_relative_to(caches[harm == "a folder of others"])


def test_a_folder_that_others_may_write_is_left_for_one_of_the_users_own(caches, compiled):
    caches[0].mkdir(parents=True)
    caches[0].parent.chmod(0o777)
    assert building.build(caches, "1").is_relative_to(caches[1])
    caches[1].parent.chmod(0o777)
    with pytest.raises(BuildError, match=f"others may write {caches[0].parent}"):
        building.build(caches, "1")


def test_who_else_may_write(tmp_path, monkeypatch):
    file = tmp_path / "a" / "b" / "file"
    file.parent.mkdir(parents=True)
    file.touch()
    assert why_not_private(file) is None
    monkeypatch.setattr("simam_repro.ops.private._is_own_group", lambda number: False)
    for path in (file, file.parent, file.parent.parent):
        usual = stat.S_IMODE(path.stat().st_mode)
        for bit in (0o020, 0o002):
            path.chmod(usual | bit)
            assert why_not_private(file) == f"others may write {path}"
        path.chmod(usual)
    file.parent.chmod(0o1777)  # as /tmp is
    assert why_not_private(file) is None
    if os.geteuid() == 0:
        os.chown(file.parent, 12345, 0)
        assert why_not_private(file) == f"{file.parent} belongs to user 12345"


def test_the_operators_are_right():
    assert check.wrong_operator() is None


@pytest.mark.parametrize("part", ["output", "gradient"])
@pytest.mark.parametrize(
    ("operator", "name"),
    [
        ("simam_fused", "SimAM"), ("simam_bias_fused", "SimAM with bias and ReLU"), ("bias_fused", "bias"),
        ("bias_relu_fused", "bias with ReLU"), ("max_pool_fused", "max-pooling"), ("conv_fused", "convolution"),
    ],
)  # fmt: skip
def test_an_operator_that_computes_wrongly_is_found(monkeypatch, operator, name, part):
    if name not in check._pairs():
        pytest.skip("this Paddle brings no MKL")
    real = fused._run

    def off(called, *inputs):
        first, *others = real(called, *inputs)
        if called == operator:
            change = np.zeros(first.shape, "float32")
            change.flat[1] = 1e-2
            change = paddle.to_tensor(change).astype(first.dtype)
            first = first + change if part == "output" else first + change * (first - first.detach())
        return first, *others

    monkeypatch.setattr(fused, "_run", off)
    assert check.wrong_operator() == f"{name} (float32)"


def test_operators_that_compute_wrongly_are_not_used(monkeypatch, capsys):
    monkeypatch.setattr(check, "wrong_operator", lambda: "SimAM (float32)")
    assert fused.load.__wrapped__() is False
    (line,) = capsys.readouterr().err.splitlines()
    assert "its SimAM (float32) computes something else" in line and "plain layer is used" in line


def test_nothing_is_drawn():
    paddle.seed(3)
    expected = paddle.randn([4]).numpy()
    paddle.seed(3)
    assert check.wrong_operator() is None
    assert np.array_equal(paddle.randn([4]).numpy(), expected)
