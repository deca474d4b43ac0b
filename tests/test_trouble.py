"""What a run does when the disk is full, the loss is no number, the memory too small, or someone reads along."""

import os
import re
import shutil
import subprocess

import kill_test
import numpy as np
import paddle
import pytest
from commands import ROOT, script
from visualdl import LogReader

from simam_repro.config import load_config
from simam_repro.device import out_of_memory_explained
from simam_repro.errors import RunError
from simam_repro.models.backbones.alexnet import AlexNet
from simam_repro.runs import RunFolder
from simam_repro.storage import is_temporary, read_json
from simam_repro.training import fit
from simam_repro.training.checkpoints import CHECKSUMS, STATE, load_newest
from simam_repro.training.divergence import find_culprit
from simam_repro.training.visualdl_log import open_log


def short_experiment(name: str):
    arguments = kill_test.train_arguments(name, "")
    overrides = [word for word in arguments if "=" in word]
    return load_config(ROOT / arguments[arguments.index("-c") + 1], overrides)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 40 MB: room for two checkpoints of TowerNet with Adam (16.4 MB each), not for three."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True) if shutil.which("mount") else None
    if done is None or done.returncode:
        pytest.skip("mounting a tmpfs is not allowed here; test_resume.py has a test without")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def assert_stopped_whole(done, folder: RunFolder, *words):
    """Exit code 1 and a message; every checkpoint that is there is whole, and no half-written file is left."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in (str(folder.path), "--resume", *words):
        assert word in done.stderr, done.stderr
    checkpoints = [path for path in folder.checkpoints.iterdir()]
    assert folder.last in checkpoints
    for checkpoint in checkpoints:
        assert (checkpoint / CHECKSUMS).is_file()
        assert read_json(checkpoint / STATE)["step"] >= 1
    assert not [path for path in folder.path.rglob(".*") if is_temporary(path)]
    assert not folder.complete


def test_a_full_disk_stops_the_run_and_resume_goes_on(small_disk, tmp_path):
    whole, run_dir = tmp_path / "whole", small_disk / "run"
    assert script("train", *kill_test.train_arguments("towernet", whole)).returncode == 0
    done = script("train", *kill_test.train_arguments("towernet", run_dir))
    assert_stopped_whole(done, RunFolder(run_dir), "no space left")
    subprocess.run(["mount", "-o", "remount,size=90m", str(small_disk)], check=True)
    done = script("train", *kill_test.train_arguments("towernet", run_dir))
    assert done.returncode == 0, done.stderr
    assert kill_test.differences(kill_test.outcome(whole), kill_test.outcome(run_dir)) == []


def test_a_disk_that_was_full_from_the_start(small_disk):
    (small_disk / "others").write_bytes(bytes(39 * 2**20))
    done = script("train", *kill_test.train_arguments("towernet", small_disk / "run"))
    assert done.returncode == 1 and "no space left" in done.stderr and "Traceback" not in done.stderr


def alexnet():
    paddle.seed(0)
    return AlexNet(4)


def test_the_culprit_is_the_weight_that_is_no_number():
    network = alexnet()
    name, weight = list(network.named_parameters())[4]
    values = weight.numpy()
    values.ravel()[: values.size // 4] = np.nan
    weight.set_value(values)
    told = find_culprit(network, [paddle.zeros([2, 3, 128, 128])])
    assert name in told and "25.00% not finite" in told and "values from -" in told


def test_the_culprit_is_the_layer_that_overflows():
    network = alexnet()
    layers = [(name, layer) for name, layer in network.named_sublayers() if isinstance(layer, paddle.nn.Conv2D)]
    name, layer = layers[2]
    layer.weight.set_value(paddle.full(layer.weight.shape, 3e38))
    told = find_culprit(network, [paddle.rand([2, 3, 128, 128])])
    assert f"layer {name} (Conv2D)" in told and "no finite value" in told and "its input values from" in told


def test_the_culprit_is_the_batch():
    images = paddle.rand([2, 3, 128, 128])
    images[0, 0, 0, 0] = float("inf")
    assert "the batch itself holds" in find_culprit(alexnet(), [images])


def failure_at(rate: float, run_dir) -> str:
    """The message of a run with a learning rate far above what a config may ask for."""
    short = short_experiment("towernet")
    optim = short.optim.model_copy(update={"name": "sgd", "learning_rate": rate})
    with pytest.raises(RunError) as caught:
        fit(short.model_copy(update={"optim": optim}), run_dir)
    return str(caught.value)


def test_divergence_names_step_rate_and_layer_and_keeps_the_good_checkpoint(tmp_path):
    """The first step throws the weights far away; they are numbers still, but the next step's products are none."""
    told = failure_at(1e18, tmp_path / "run")
    place = r"loss is 2.77\S+ of logits that are not finite at epoch 1, step 2 \(lr 9.33013e\+17\)"
    assert re.search(place + r": the output of layer \S+ \(\w+\) holds .*, its input values from", told), told
    folder = RunFolder(tmp_path / "run")
    assert not folder.complete and read_json(folder.last / STATE)["step"] == 1


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    told = failure_at(1e39, tmp_path / "run")
    assert re.search(r"after epoch 1, step 1 \(lr 1e\+39\) the weights \S+ hold .*not? finite", told), told
    assert not RunFolder(tmp_path / "run").last.exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("\n\nResourceExhaustedError: \n\nOut of memory error on GPU 0. Cannot allocate 2.0GB memory"),
        OSError("(External) CUDA error(2), out of memory."),
        SystemError("(Fatal) CUBLAS error: out of memory"),
        MemoryError(),
    ],
)
def test_too_little_memory_says_what_needs_less(error):
    with pytest.raises(RunError, match="data.batch_size smaller"), out_of_memory_explained():
        raise error


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("something else")])
def test_other_errors_are_no_lack_of_memory(error):
    with pytest.raises(type(error)), out_of_memory_explained():
        raise error


def test_visualdl_reads_while_training_writes(tmp_path):
    """A reader at any moment sees whole records only: all that were written, none of them half."""
    writer = open_log(tmp_path)
    (log,) = tmp_path.glob("*.log")
    for step in range(1, 30):
        writer.add_scalar("a", 1.0 * step, step)
        writer.add_image("b", np.full((40, 40, 3), step, np.uint8), step)
        reader = LogReader(file_path=str(log))
        assert [point.id for point in reader.get_data("scalar", "a")] == list(range(1, step + 1))
        assert len(reader.get_data("image", "b")) == step
    writer.close()


def test_visualdl_bears_a_torn_record(tmp_path):
    """What a kill in the middle of a write leaves, until the run is resumed."""
    with open_log(tmp_path) as writer:
        writer.add_scalar("a", 1.0, 1)
        size = writer.flush()
        writer.add_scalar("a", 2.0, 2)
    (log,) = tmp_path.glob("*.log")
    os.truncate(log, log.stat().st_size - 3)
    with open_log(tmp_path, size=size) as writer:
        writer.add_scalar("a", 3.0, 2)
    points = LogReader(file_path=str(log)).get_data("scalar", "a")
    assert [(point.id, point.value) for point in points] == [(1, 1.0), (2, 3.0)]


def test_newest_checkpoint_of_a_new_run_is_none(tmp_path):
    assert load_newest(RunFolder(tmp_path), None, None) is None
