"""What only a GPU can show: the same numbers as the CPU, mixed precision, resuming, several cards.

`make gpu-check` runs these; without a GPU they are not collected by `make test`.
"""

import numpy as np
import paddle
import pytest
from commands import script
from paddle.nn import functional as F

from simam_repro.attention import known_modules
from simam_repro.config import build_experiment
from simam_repro.device import gpu_count
from simam_repro.models import backbones, build_model
from simam_repro.runs import RunFolder

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(gpu_count() == 0, reason="Paddle sees no GPU")]
SIZE, CLASSES = 128, 10
# Of the largest output, and of a gradient's norm: what float32 convolutions of another library may differ by.
OUTPUT_TOLERANCE, GRADIENT_TOLERANCE = 1e-3, 1e-2
SHORT = [
    "--device", "gpu", "-o", "data.train_limit=32", "-o", "data.eval_limit=16", "-o", "train.epochs=2",
    "-o", "data.batch_size=8",
]  # fmt: skip


def outputs_and_gradients(device: str, network, weights: dict, images, labels):
    paddle.set_device(device)
    network = network()
    network.set_state_dict(weights)
    network.eval()
    logits = network(paddle.to_tensor(images))
    F.cross_entropy(logits, paddle.to_tensor(labels)).backward()
    gradients = {name: one.grad.numpy() for name, one in network.named_parameters() if one.grad is not None}
    return logits.numpy(), gradients


@pytest.mark.parametrize("attention", sorted(known_modules()))
@pytest.mark.parametrize("backbone", backbones.names())
def test_a_gpu_computes_what_a_cpu_computes(backbone, attention):
    config = {"name": "gpu", "model": {"backbone": backbone, "attention": attention, "fused": False}}
    model = build_experiment(config).model

    def network():
        return build_model(model, CLASSES, SIZE)

    paddle.set_device("cpu")
    paddle.seed(0)
    weights = {name: tensor.numpy() for name, tensor in network().state_dict().items()}
    rng = np.random.default_rng(0)
    images = rng.standard_normal((4, 3, SIZE, SIZE)).astype(np.float32)
    labels = rng.integers(0, CLASSES, 4)
    here, ours = outputs_and_gradients("cpu", network, weights, images, labels)
    there, theirs = outputs_and_gradients("gpu:0", network, weights, images, labels)
    assert np.abs(there - here).max() <= OUTPUT_TOLERANCE * np.abs(here).max()
    assert ours.keys() == theirs.keys()
    largest = max(np.linalg.norm(gradient) for gradient in ours.values())
    for name in ours:
        assert np.linalg.norm(theirs[name] - ours[name]) <= GRADIENT_TOLERANCE * largest, name


@pytest.mark.parametrize("level", ["O1", "O2"])
def test_mixed_precision_trains(level, tmp_path):
    done = script(
        "train", "-c", "configs/demo_towernet_simam.yaml", *SHORT, "-o", f"train.amp={level}", "--run-dir", tmp_path
    )
    assert done.returncode == 0, done.stderr
    records = RunFolder(tmp_path).read_metrics()
    assert len(records) == 2 and all(np.isfinite(record["train_loss"]) for record in records)


def test_a_run_that_was_stopped_ends_like_one_that_was_not(tmp_path):
    config = ["-c", "configs/demo_towernet_simam.yaml", *SHORT]
    whole = script("train", *config, "--run-dir", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    half = script("train", *config, "--run-dir", tmp_path / "half")
    assert half.returncode == 0, half.stderr
    run = RunFolder(tmp_path / "half")
    run.result.unlink()  # as if it had died after its last checkpoint
    resumed = script("train", *config, "--run-dir", run.path, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    losses = [
        [record["train_loss"] for record in RunFolder(path).read_metrics()] for path in (tmp_path / "whole", run.path)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.skipif(gpu_count() < 2, reason="one GPU only")
def test_two_cards_train_one_network(tmp_path):
    done = script("train", "-c", "configs/demo_towernet_simam.yaml", *SHORT, "--nproc", "2", "--run-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert RunFolder(tmp_path).read_result()["nproc"] == 2
