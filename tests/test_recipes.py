"""The recipes: schedules, mixup, and what the faithful configs repeat of the original code."""

import numpy as np
import paddle
import pytest
from commands import ROOT
from paddle.nn import functional as F

from simam_repro.config import Data, Optim, load_config
from simam_repro.data.loaders import BatchMaker, ImageDataset, Mixup
from simam_repro.data.prepared import ArrayImages, Split
from simam_repro.training.metrics import EpochMeans
from simam_repro.training.objective import Objective
from simam_repro.training.optim import build_schedule

FAITHFUL = ROOT / "configs" / "faithful"


def learning_rates(schedule, steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        rates.append(schedule())
        schedule.step()
    return rates


def test_faithful_schedule_is_what_the_originals_calls_give():
    """CosineAnnealingDecay(0.01, T_max=100), stepped after every batch by hapi's default callback."""
    experiment = load_config(FAITHFUL / "caltech_towernet.yaml")
    steps_per_epoch, epochs = 45, experiment.train.epochs
    original = paddle.optimizer.lr.CosineAnnealingDecay(learning_rate=0.01, T_max=100)
    ours = learning_rates(build_schedule(experiment.optim, epochs, steps_per_epoch), epochs * steps_per_epoch)
    assert ours == learning_rates(original, epochs * steps_per_epoch)
    # It swings with a period of 200 steps instead of falling once.
    closed_form = 0.005 * (1 + np.cos(np.pi * np.arange(4500) / 100))
    assert np.allclose(ours, closed_form, atol=1e-6)
    assert ours[100] < 1e-6 < ours[200] and ours[200] == pytest.approx(0.01, rel=1e-3)


def test_originals_default_callback_steps_every_batch():
    callbacks = paddle.hapi.callbacks.config_callbacks(callbacks=None, model=None, verbose=0)
    (scheduler,) = [one for one in callbacks if isinstance(one, paddle.callbacks.LRScheduler)]
    assert scheduler.by_step and not scheduler.by_epoch


def test_corrected_cosine_falls_once():
    rates = learning_rates(build_schedule(Optim(learning_rate=0.01), 100, 45), 4501)
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 0.01 and rates[2250] == pytest.approx(0.005) and abs(rates[4500]) < 1e-9


def test_constant_schedule():
    assert set(learning_rates(build_schedule(Optim(schedule="constant"), 2, 3), 7)) == {0.01}


def test_faithful_configs_differ_from_the_corrected_in_their_quirks_only():
    def differing(name: str) -> dict:
        plain, faithful = (load_config(folder / f"{name}.yaml").to_flat() for folder in (ROOT / "configs", FAITHFUL))
        return {key: faithful[key] for key in plain if plain[key] != faithful[key]}

    quirks = {
        "data.mean": [0.50950350, 0.54632660, 0.57409690],
        "data.std": [0.26059777, 0.26041326, 0.29220656],
        "optim.schedule": "cosine_swinging",
        "train.best_from": 0.5,
    }
    for name in ("caltech_towernet", "caltech_towernet_simam"):
        assert differing(name) == {"name": f"faithful_{name}", **quirks}
    for name in ("caltech_resnet50", "caltech_vgg19", "caltech_mobilenetv2"):
        assert differing(name) == {"name": f"faithful_{name}", "optim.weight_decay": 1e-4, **quirks}
    for name in ("alexnet", "alexnet_simam"):
        assert differing(name) == {"name": f"faithful_{name}", "data.augment.jitter": "cv2"}


def test_original_lambdas_and_decays():
    caltech, cifar = (load_config(ROOT / f"configs/{name}_simam.yaml") for name in ("caltech_towernet", "alexnet"))
    assert (caltech.model.attention.e_lambda, cifar.model.attention.e_lambda) == (1e-4, 1e-5)
    assert (caltech.optim.weight_decay, cifar.optim.weight_decay) == (2e-4, 1e-5)
    assert cifar.seed == 42 and cifar.data.drop_last


def test_mixup_is_a_convex_mixture_of_image_and_label():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    split = Split(ArrayImages(pixels), np.arange(6) % 4, tuple("abcdef"))
    dataset, keys = ImageDataset(split, Data(dataset="cifar10", image_size=8)), [(3, index) for index in range(6)]
    plain, labels = BatchMaker(dataset)(keys)
    mixed, soft = BatchMaker(dataset, Mixup(0.4, classes=4, seed=5))(keys)
    assert soft.shape == (6, 4) and soft.dtype == np.float32 and np.allclose(soft.sum(1), 1)
    # The draw, repeated by hand.
    rng = np.random.default_rng([5, 3, 0, 6])
    weight, partner = rng.beta(0.4, 0.4), rng.permutation(6)
    assert 0 < weight < 1 and not np.array_equal(partner, np.arange(6))
    assert np.allclose(mixed, weight * plain + (1 - weight) * plain[partner], atol=1e-5)
    one_hot = np.eye(4)[labels]
    assert np.allclose(soft, weight * one_hot + (1 - weight) * one_hot[partner], atol=1e-6)


def test_mixup_with_label_smoothing_is_the_mixture_of_smoothed_losses():
    logits = paddle.to_tensor(np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32))
    first, second, weight = np.array([0, 1, 2, 3, 0]), np.array([1, 1, 0, 2, 3]), 0.3
    soft = paddle.to_tensor((weight * np.eye(4)[first] + (1 - weight) * np.eye(4)[second]).astype(np.float32))
    objective = Objective(0.1)
    expected = sum(
        share * float(objective(logits, paddle.to_tensor(labels)))
        for share, labels in ((weight, first), (1 - weight, second))
    )
    assert float(objective(logits, soft)) == pytest.approx(expected, rel=1e-5)


def test_metrics_of_a_mixed_batch():
    logits = paddle.to_tensor(np.array([[3.0, 0.0], [0.0, 2.0]], dtype=np.float32))
    soft = paddle.to_tensor(np.array([[0.8, 0.2], [0.6, 0.4]], dtype=np.float32))
    nll, hit = EpochMeans().compute(logits, soft)
    expected = -(soft * F.log_softmax(logits)).sum(axis=1).numpy()
    assert np.allclose(nll.numpy(), expected, rtol=1e-6) and hit.numpy().tolist() == [1.0, 0.0]
