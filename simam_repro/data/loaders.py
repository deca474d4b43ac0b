"""Seeded loaders: the order and the augmentation of every epoch follow from (seed, epoch) alone.

`paddle.Model.fit` orders its own loaders by the epoch number, whatever the seed; these do not.
"""

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
from paddle.io import BatchSampler, Dataset

from simam_repro.config import PROJECT_ROOT, Data
from simam_repro.data import transforms
from simam_repro.data.cache import ResizedImages
from simam_repro.data.prepared import PreparedData, Split

ALL = (0, 1)  # the share of a process that is alone


class EpochSampler(BatchSampler):
    """Batches of (epoch, index) over `indices`; shuffled anew each epoch when `seed` is given.

    With `share` = (rank, ranks) it gives every ranks-th of each batch, from the rank-th on.
    """

    def __init__(
        self, indices: np.ndarray, batch_size: int, seed: int | None = None, drop_last: bool = False,
        share: tuple[int, int] = ALL,
    ):  # fmt: skip
        self.indices = np.asarray(indices)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.seed = seed
        self.share = share
        self.epoch = 0
        self.skip = 0

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """`epoch` counts from 1; its first `skip` batches are left out (a resumed run has had them)."""
        self.epoch, self.skip = epoch, skip

    def __iter__(self):
        order = self.indices
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        for start in range(self.skip * self.batch_size, len(self) * self.batch_size, self.batch_size):
            batch = order[start : start + self.batch_size]
            yield [(self.epoch, int(index)) for index in batch[self.share[0] :: self.share[1]]]

    def batch_images(self, step: int) -> int:
        """Images of a batch (`step` counts from 0), all shares together."""
        return min(self.batch_size, len(self.indices) - step * self.batch_size)

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        full, rest = divmod(len(self.indices), self.batch_size)
        return full + (1 if rest and not self.drop_last else 0)


class ImageDataset(Dataset):
    """(epoch, index) -> uint8 image [S, S, 3]. Augments when `seed` is given.

    With `cache_folder` the images of `indices` are decoded once, see `ResizedImages`.
    """

    def __init__(self, split: Split, config: Data, seed: int | None = None, cache_folder=None, indices=()):
        self.split = split
        self.config = config
        self.seed = seed
        side = config.image_size if seed is None else config.augment.resize or config.image_size
        self.images = ResizedImages(split.images, side, cache_folder, indices)

    def __getitem__(self, key: tuple[int, int]) -> np.ndarray:
        epoch, index = key
        pixels = self.images[index]
        if self.seed is None:
            return pixels
        # The draws are those of the list of the three; an array of this type is read faster.
        rng = np.random.default_rng(np.array([self.seed, epoch, index], np.uint32))
        return transforms.train_image(pixels, self.config.image_size, self.config.augment, rng)

    def __len__(self) -> int:
        return len(self.split)


@dataclass(frozen=True)
class BatchMaker:
    """[(epoch, index)] -> (float32 images [N, 3, S, S], int64 labels [N], or float32 [N, classes] with mixup)."""

    dataset: ImageDataset
    mixup: "Mixup | None" = None

    def __call__(self, keys: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        config = self.dataset.config
        images = transforms.normalise((self.dataset[key] for key in keys), config.mean, config.std, len(keys))
        labels = self.dataset.split.labels[[index for _, index in keys]].astype(np.int64)
        return self.mixup(images, labels, keys[0]) if self.mixup else (images, labels)


@dataclass(frozen=True)
class Mixup:
    """Each image of a batch mixed with another of it, their labels likewise (Zhang et al., ICLR 2018).

    One weight a batch, from Beta(alpha, alpha); the draw follows from the seed and the batch's first image.
    """

    alpha: float
    classes: int
    seed: int

    def __call__(self, images: np.ndarray, labels: np.ndarray, key: tuple[int, int]):
        rng = np.random.default_rng([self.seed, *key, len(labels)])
        weight = np.float32(rng.beta(self.alpha, self.alpha))
        partner = rng.permutation(len(labels))
        soft = np.eye(self.classes, dtype=np.float32)[labels]
        return tuple(value * weight + value[partner] * (1 - weight) for value in (images, soft))


class BatchLoader:
    """Iterates over batches as tensors on the current device, made ahead by `num_workers` threads.

    Threads, not paddle.io.DataLoader's processes: those now and then hang for ever under Paddle 2.6
    (a process that forks while VisualDL's writer thread runs), and OpenCV, Pillow and numpy do their work
    outside the interpreter's lock. With 0 threads each batch is made when it is asked for.

    The sampler says which images a batch has, `make` makes it; neither knows of the other.
    `wait_seconds` is how long the consumer of the latest iteration has waited for batches so far.
    """

    def __init__(self, make: BatchMaker, batch_sampler: EpochSampler, num_workers: int = 0):
        self.make = make
        self.batch_sampler = batch_sampler
        self.num_workers = num_workers
        self.wait_seconds = 0.0

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self):
        self.open()
        self.wait_seconds = 0.0
        batches = self._ahead() if self.num_workers else map(self.make, self.batch_sampler)
        while True:
            begin = time.perf_counter()
            batch = next(batches, None)
            tensors = batch and [_to_tensor(array) for array in batch]
            self.wait_seconds += time.perf_counter() - begin
            if batch is None:
                return
            yield tensors

    def open(self) -> None:
        """Do now what is done once for all epochs: decode the images into their cache, see `ResizedImages`."""
        self.make.dataset.images.open()

    def _ahead(self):
        pool, pending = ThreadPoolExecutor(self.num_workers), deque()
        try:
            for keys in self.batch_sampler:
                pending.append(pool.submit(self.make, keys))
                if len(pending) > 2 * self.num_workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _to_tensor(array: np.ndarray) -> paddle.Tensor:
    """On the current device; on a CPU without a copy, which Paddle is slow at (11 ms for 25 MB).

    Not by from_dlpack, which copies too under Paddle 2.6.
    """
    if paddle.get_device() != "cpu":
        return paddle.to_tensor(array)
    return paddle.Tensor(value=array, place=paddle.CPUPlace(), zero_copy=True, stop_gradient=True)


@dataclass(frozen=True)
class Loaders:
    """The loaders of a data set, with what is needed to name their samples.

    `validation` has the part of the training images that is set aside, None without data.validation_fraction.
    """

    data: PreparedData
    train: BatchLoader
    eval: BatchLoader
    eval_indices: np.ndarray
    validation: BatchLoader | None = None

    @property
    def watched(self) -> BatchLoader:
        """What every epoch is evaluated on and the best one chosen on."""
        return self.validation or self.eval

    @property
    def watched_name(self) -> str:
        return "validation" if self.validation else "eval"

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        self.train.batch_sampler.set_epoch(epoch, skip)

    def open(self) -> None:
        """Do the work that is done once now, not when a loader is first iterated over."""
        for loader in filter(None, (self.train, self.validation, self.eval)):
            loader.open()


def build_loaders(
    data: PreparedData, config: Data, seed: int, mixup_alpha: float = 0.0, share: tuple[int, int] = ALL
) -> Loaders:
    """Train and eval loaders. A batch is (float32 images [N, 3, S, S], int64 labels [N]).

    With mixup_alpha > 0 a training batch is mixed, and its labels are float32 [N, classes].
    Training batches follow (seed, epoch); the eval loader keeps the split's order and augments nothing.
    Decoded images are kept in `<root>/cache/<name of the set>/`. `share` is (rank, ranks), see `EpochSampler`;
    mixup mixes the images of a share.
    """
    cache = _cache_folder(data, config)
    train_indices, validation_indices = split_training(data.train, config)
    eval_indices = data.eval.spread(config.eval_limit)

    def plain_loader(split: Split, indices: np.ndarray) -> BatchLoader:
        return build_plain_loader(split, config, cache, indices, share)

    train = BatchLoader(
        BatchMaker(
            ImageDataset(data.train, config, seed, cache, train_indices),
            Mixup(mixup_alpha, len(data.classes), seed) if mixup_alpha else None,
        ),
        EpochSampler(train_indices, config.batch_size, seed, config.drop_last, share),
        config.num_workers,
    )
    validation = plain_loader(data.train, validation_indices) if len(validation_indices) else None
    return Loaders(data, train, plain_loader(data.eval, eval_indices), eval_indices, validation)


def build_eval_loader(data: PreparedData, config: Data, indices: np.ndarray) -> BatchLoader:
    """A loader of those images of `data.eval`, in their order."""
    return build_plain_loader(data.eval, config, _cache_folder(data, config), indices)


def build_plain_loader(
    split: Split, config: Data, cache: Path, indices: np.ndarray, share: tuple[int, int] = ALL
) -> BatchLoader:
    """A loader that neither shuffles nor augments."""
    make = BatchMaker(ImageDataset(split, config, None, cache, indices))
    return BatchLoader(make, EpochSampler(indices, config.batch_size, share=share), config.num_workers)


def _cache_folder(data: PreparedData, config: Data) -> Path:
    return PROJECT_ROOT / config.root / "cache" / data.name


def split_training(split: Split, config: Data) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the images to train on and of those set aside by data.validation_fraction (at least one of them)."""
    indices = split.spread(config.train_limit)
    if not config.validation_fraction:
        return indices, indices[:0]
    count = max(1, round(config.validation_fraction * len(indices)))
    aside = (2 * np.arange(count) + 1) * len(indices) // (2 * count)
    return np.delete(indices, aside), indices[aside]
