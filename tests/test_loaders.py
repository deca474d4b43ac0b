import time
from types import SimpleNamespace

import numpy as np
import plain_images
import pytest

from simam_repro.config import Augment, Data
from simam_repro.data import build_loaders
from simam_repro.data.loaders import BatchLoader, EpochSampler
from simam_repro.data.prepared import ArrayImages, PreparedData, Split

AUGMENT = Augment(resize=20, color_jitter=0.2, crop_scale=(0.6, 1.0), flip=0.5, rotation=20.0)


def split(count, seed) -> Split:
    """Each image's label is its index, so batches say which images they hold."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 18, 18, 3), dtype=np.uint8)
    return Split(ArrayImages(pixels), np.arange(count), tuple(f"image{index}" for index in range(count)))


DATA = PreparedData("numbers", "0" * 64, True, ("a", "b"), train=split(22, 1), eval=split(10, 2))


def loaders(seed=0, **keys):
    return build_loaders(DATA, Data(**{"image_size": 16, "batch_size": 4, "augment": AUGMENT, **keys}), seed)


def batches(loader) -> list:
    return [(images.numpy(), labels.numpy()) for images, labels in loader]


def train_batches(epoch=1, **keys) -> list:
    both = loaders(**keys)
    both.set_epoch(epoch)
    return batches(both.train)


def order(some_batches) -> list[int]:
    return [int(label) for _, labels in some_batches for label in labels]


def pixels_by_label(some_batches) -> dict:
    return {int(label): image for images, labels in some_batches for image, label in zip(images, labels)}


def same(first, second) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(a, b) for one, other in zip(first, second) for a, b in zip(one, other)
    )


def test_batch_shapes_and_types():
    images, labels = train_batches()[0]
    assert images.shape == (4, 3, 16, 16) and images.dtype == np.float32
    assert labels.shape == (4,) and labels.dtype == np.int64


def test_seed_and_epoch_decide_the_batches():
    assert same(train_batches(seed=3, epoch=2), train_batches(seed=3, epoch=2))


def test_workers_change_nothing():
    alone, two = train_batches(seed=3, epoch=2), train_batches(seed=3, epoch=2, num_workers=2)
    assert same(alone, two)


def test_workers_follow_the_epoch():
    both = loaders(num_workers=2)
    epochs = []
    for epoch in (1, 2):
        both.set_epoch(epoch)
        epochs.append(batches(both.train))
    assert same(epochs[0], train_batches(epoch=1)) and same(epochs[1], train_batches(epoch=2))


@pytest.mark.parametrize("other", [{"seed": 4, "epoch": 2}, {"seed": 3, "epoch": 1}])
def test_another_seed_or_epoch_is_another_order(other):
    assert order(train_batches(seed=3, epoch=2)) != order(train_batches(**other))


@pytest.mark.parametrize("other", [{"seed": 4, "epoch": 2}, {"seed": 3, "epoch": 1}])
def test_another_seed_or_epoch_augments_otherwise(other):
    first, second = pixels_by_label(train_batches(seed=3, epoch=2)), pixels_by_label(train_batches(**other))
    assert not any(np.array_equal(first[label], second[label]) for label in first)


def test_an_image_is_augmented_alike_whatever_the_batch_size():
    first, second = pixels_by_label(train_batches(batch_size=4)), pixels_by_label(train_batches(batch_size=7))
    assert all(np.array_equal(first[label], second[label]) for label in range(22))


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_every_image_once_an_epoch(epoch):
    assert sorted(order(train_batches(epoch=epoch))) == list(range(22))


def test_epochs_are_shuffled():
    assert order(train_batches()) != list(range(22))


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [4, 4, 4, 4, 4, 2]), (True, [4, 4, 4, 4, 4])])
def test_drop_last(drop_last, sizes):
    both = loaders(drop_last=drop_last)
    assert [len(labels) for _, labels in batches(both.train)] == sizes
    assert len(both.train) == len(sizes)


def test_drop_last_leaves_the_eval_set_whole():
    both = loaders(drop_last=True)
    assert [len(labels) for _, labels in batches(both.eval)] == [4, 4, 2]


def test_dropped_images_differ_from_epoch_to_epoch():
    assert set(order(train_batches(epoch=1, drop_last=True))) != set(order(train_batches(epoch=2, drop_last=True)))


def test_eval_keeps_the_order_and_augments_nothing():
    both = loaders()
    first = batches(both.eval)
    both.set_epoch(5)
    assert order(first) == list(range(10))
    assert same(first, batches(both.eval)) and same(first, batches(loaders(seed=9).eval))
    assert same(first, batches(loaders(augment=Augment()).eval))


def test_pixels_are_normalised():
    images, _ = batches(loaders(image_size=18, mean=[0.1, 0.2, 0.3], std=[0.5, 0.25, 2.0]).eval)[0]
    source = DATA.eval.images.array[:4].astype(np.float64) / 255
    expected = (source - [0.1, 0.2, 0.3]) / [0.5, 0.25, 2.0]
    np.testing.assert_allclose(images, expected.transpose(0, 3, 1, 2), atol=2e-6)


def test_limits():
    both = loaders(train_limit=8, eval_limit=5)
    both.set_epoch(1)
    assert sorted(order(batches(both.train))) == [0, 2, 5, 8, 11, 13, 16, 19]
    assert order(batches(both.eval)) == both.eval_indices.tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("limit", [1, 2, 7, 21])
def test_spread_is_even(limit):
    indices = DATA.train.spread(limit)
    assert len(indices) == limit and indices[0] == 0 and indices[-1] < 22
    gaps = np.diff([*indices, 22])
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("limit", [None, 22, 1000])
def test_spread_without_a_limit_is_everything(limit):
    assert DATA.train.spread(limit).tolist() == list(range(22))


def test_sampler_yields_its_epoch_with_each_index():
    sampler = EpochSampler(np.arange(5), 2, seed=0)
    sampler.set_epoch(7)
    keys = [key for batch in sampler for key in batch]
    assert {epoch for epoch, _ in keys} == {7}
    assert sorted(index for _, index in keys) == [0, 1, 2, 3, 4]


def test_batches_are_the_plain_chain_of_each_image():
    """The same seed, epoch and index, an image at a time with Pillow; normalised in float64."""
    both = loaders(seed=3, batch_size=22)
    both.set_epoch(2)
    ((images, labels),) = batches(both.train)
    mean, std = np.array(Data().mean), np.array(Data().std)
    for image, label in zip(images, labels):
        rng = np.random.default_rng([3, 2, label])
        expected = plain_images.train_image(DATA.train.images[label], 16, AUGMENT, rng)
        difference = np.abs(image - plain_images.normalised(expected, mean, std)) * 255 * std[:, None, None]
        assert np.median(difference) < 1.01 and (difference > 4).mean() < 0.02


class Slow:
    """Makes batches of nothing, each in `seconds`."""

    dataset = SimpleNamespace(images=SimpleNamespace(open=lambda: None))

    def __init__(self, seconds: float):
        self.seconds = seconds

    def __call__(self, keys):
        time.sleep(self.seconds)
        return np.zeros((len(keys), 3, 2, 2), np.float32), np.zeros(len(keys), np.int64)


def waited(num_workers: int) -> float:
    """Of four batches that take 50 ms to make and 200 ms to use."""
    loader = BatchLoader(Slow(0.05), EpochSampler(np.arange(8), 2), num_workers)
    for _ in loader:
        time.sleep(0.2)
    return loader.wait_seconds


def test_waiting_is_measured():
    assert 0.2 <= waited(0) < 0.6  # every batch is made while the consumer waits
    assert 0.05 <= waited(2) < 0.15  # the first only: the others are ready when they are asked for


def test_each_iteration_measures_its_own_waiting():
    loader = BatchLoader(Slow(0.05), EpochSampler(np.arange(4), 2))
    list(loader)
    first, loader.make.seconds = loader.wait_seconds, 0
    list(loader)
    assert first >= 0.1 > loader.wait_seconds


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_failure_reaches_the_consumer(num_workers):
    loader = BatchLoader(Slow("no number"), EpochSampler(np.arange(4), 2), num_workers)
    with pytest.raises(TypeError):
        list(loader)


def test_a_batch_is_the_consumers_own():
    """Batches that are kept are not written over by later ones."""
    both = loaders(num_workers=2)
    kept = list(both.eval)
    later = batches(both.eval)
    assert same([(images.numpy(), labels.numpy()) for images, labels in kept], later)
    assert all(images.stop_gradient for images, _ in kept)
