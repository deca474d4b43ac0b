"""Disks that are full or read-only, and paths that cannot be: one message with the path, no traceback."""

import errno
import resource
import shutil
import sys
from contextlib import contextmanager

import numpy as np
import paddle
import pytest
from safetensors import SafetensorError

from simam_repro import cli
from simam_repro.cli.commands import evaluate, export, plot_curves, predict
from simam_repro.config import Data, Model
from simam_repro.data import prepare_data
from simam_repro.errors import RunError, UserError
from simam_repro.evaluation.export import export as export_network
from simam_repro.models import build_model
from simam_repro.storage import atomic_folder, atomic_path, disk_explained, write_json


@contextmanager
def files_of_at_most(size: int):
    """What a full disk or a quota does, without a mount."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def ended(main, capsys) -> tuple[int, str]:
    """Exit code and stderr of a command."""
    with pytest.raises(SystemExit) as left:
        cli.run(main, computes=False)
    return left.value.code, capsys.readouterr().err


FAILURES = {
    "full": (OSError(errno.ENOSPC, "No space left on device", "there/x.json"), 1, "there/x.json cannot be written: no"),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded", "there/x.json"), 1, "quota exceeded"),
    "full stdout": (OSError(errno.ENOSPC, "No space left on device"), 1, "the output cannot be written: no space left"),
    "safetensors": (SafetensorError("Error: I/O error: No space left on device (os error 28)"), 1, "no space left"),
    "several": (shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]), 1, "no space left"),
    "numpy": (OSError("100 requested and 3 written"), 1, "no space left"),
    "read-only": (OSError(errno.EROFS, "Read-only file system", "there/x"), 2, "there/x cannot be used: .*read-only"),
    "forbidden": (PermissionError(errno.EACCES, "Permission denied", "there/x"), 2, "there/x .*permission denied"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_command_says_what_the_disk_refuses(name, capsys):
    error, expected, words = FAILURES[name]

    def main():
        raise error

    with pytest.raises(UserError if expected == 2 else RunError, match=words), disk_explained():
        main()
    code, told = ended(main, capsys)
    assert code == expected and told.startswith("error: ") and told.count("\n") == 1


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "No such file", "x"), ValueError("28"), OSError()])
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught, disk_explained():
        raise error
    assert caught.value is error


LONG = "x" * 300


@pytest.mark.parametrize(
    "command, arguments",
    [
        (predict, ["RUN", LONG]),
        (plot_curves, [LONG]),
        (evaluate, [LONG]),
        (export, [LONG]),
        (evaluate, ["/".join([LONG] * 20)]),
    ],
)
def test_a_path_that_is_too_long_is_refused(command, arguments, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    code, told = ended(command.main, capsys)
    assert code == 2 and "name is too long" in told and told.count("\n") == 1 and len(told) < 400


def test_a_full_disk_while_data_is_prepared_is_no_wrong_input(caltech_archive, tmp_path, capsys):
    def main():
        with files_of_at_most(100):
            prepare_data(Data(root=str(tmp_path), allow_miniature=True), [caltech_archive.parent], progress=False)

    code, told = ended(main, capsys)
    assert code == 1 and "cannot be written: file size limit" in told and not list(tmp_path.iterdir())


def test_writers_name_the_file_that_was_asked_for(tmp_path):
    write_json(tmp_path / "x.json", "old")
    with files_of_at_most(1000):
        with pytest.raises(RunError, match=r"/x.json cannot be written: file size limit") as caught, disk_explained():
            write_json(tmp_path / "x.json", "new" * 1000)
        assert ".tmp" not in str(caught.value)
        with pytest.raises(RunError, match="/a.npz cannot be written"), disk_explained():
            with atomic_path(tmp_path / "a.npz") as temporary:
                np.savez_compressed(temporary, a=np.random.default_rng(0).random(10_000))
        with pytest.raises(RunError, match="/set cannot be written"), disk_explained():
            with atomic_folder(tmp_path / "set") as temporary, open(temporary / "b", "wb") as file:
                file.write(bytes(2000))
        (tmp_path / "large").symlink_to(paddle.__file__)
        with pytest.raises(RunError, match="^[^ ]+/copy/x cannot be written"), disk_explained():
            with atomic_folder(tmp_path / "copy") as temporary:
                shutil.copy(tmp_path / "large", temporary / "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large", "x.json"]
    assert (tmp_path / "x.json").read_text() == '"old"\n'


def network():
    paddle.seed(0)
    return build_model(Model(backbone="mobilenet_v2", attention="simam"), 4, 32)


def test_an_export_that_did_not_fit_replaces_nothing(tmp_path):
    """Paddle itself says nothing."""
    folder = tmp_path / "exported"
    export_network(network(), 32, folder)
    (folder / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with files_of_at_most(2_000_000), pytest.raises(RunError, match=r"exported cannot be read back; \d+ MB are free"):
        export_network(network(), 32, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_an_export_that_computes_something_else_is_none(tmp_path, monkeypatch):
    real = paddle.jit.load
    other = network()
    other.classifier[-1].bias.set_value(paddle.ones([4]))
    monkeypatch.setattr(paddle.jit, "load", lambda path: real(path) and other)
    with pytest.raises(RunError, match="other logits"):
        export_network(network(), 32, tmp_path / "exported")
    assert not list((tmp_path / "exported").iterdir())
