"""Seeded loaders: the order and the augmentation of every epoch follow from (seed, epoch) alone.

`paddle.Model.fit` orders its own loaders by the epoch number, whatever the seed; these do not.
"""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import paddle
from paddle.io import BatchSampler, Dataset

from simam_repro.config import Data
from simam_repro.data import transforms
from simam_repro.data.prepared import PreparedData, Split


class EpochSampler(BatchSampler):
    """Batches of (epoch, index) over `indices`; shuffled anew each epoch when `seed` is given."""

    def __init__(self, indices: np.ndarray, batch_size: int, seed: int | None = None, drop_last: bool = False):
        self.indices = np.asarray(indices)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.seed = seed
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
            yield [(self.epoch, int(index)) for index in order[start : start + self.batch_size]]

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        full, rest = divmod(len(self.indices), self.batch_size)
        return full + (1 if rest and not self.drop_last else 0)


class ImageDataset(Dataset):
    """(epoch, index) -> (uint8 image [S, S, 3], label, key). Augments when `seed` is given."""

    def __init__(self, split: Split, config: Data, seed: int | None = None):
        self.split = split
        self.config = config
        self.seed = seed

    def __getitem__(self, key: tuple[int, int]):
        epoch, index = key
        image, size = self.split.images[index], self.config.image_size
        if self.seed is None:
            pixels = transforms.eval_image(image, size)
        else:
            rng = np.random.default_rng([self.seed, epoch, index])
            pixels = transforms.train_image(image, size, self.config.augment, rng)
        return pixels, self.split.labels[index], key

    def __len__(self) -> int:
        return len(self.split)


@dataclass(frozen=True)
class Collate:
    """Samples -> (float32 images [N, 3, S, S], int64 labels [N], or float32 [N, classes] with mixup)."""

    mean: tuple
    std: tuple
    mixup: "Mixup | None" = None

    def __call__(self, samples):
        images, labels, keys = zip(*samples)
        images = transforms.normalise(np.stack(images), self.mean, self.std)
        labels = np.array(labels, dtype=np.int64)
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


@dataclass(frozen=True)
class BatchLoader:
    """Iterates over batches as tensors on the current device, made ahead by `num_workers` threads.

    Threads, not paddle.io.DataLoader's processes: those now and then hang for ever under Paddle 2.6
    (a process that forks while VisualDL's writer thread runs), and Pillow and numpy do their work
    outside the interpreter's lock. With 0 threads each batch is made when it is asked for.
    """

    dataset: ImageDataset
    batch_sampler: EpochSampler
    collate_fn: Collate
    num_workers: int = 0

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self):
        for batch in self._ahead() if self.num_workers else map(self._make, self.batch_sampler):
            yield [paddle.to_tensor(array) for array in batch]

    def _make(self, keys):
        return self.collate_fn([self.dataset[key] for key in keys])

    def _ahead(self):
        pool, pending = ThreadPoolExecutor(self.num_workers), deque()
        try:
            for keys in self.batch_sampler:
                pending.append(pool.submit(self._make, keys))
                if len(pending) > 2 * self.num_workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Loaders:
    """The loaders of a data set, with what is needed to name their samples."""

    data: PreparedData
    train: BatchLoader
    eval: BatchLoader
    eval_indices: np.ndarray

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        self.train.batch_sampler.set_epoch(epoch, skip)


def build_loaders(data: PreparedData, config: Data, seed: int, mixup_alpha: float = 0.0) -> Loaders:
    """Train and eval loaders. A batch is (float32 images [N, 3, S, S], int64 labels [N]).

    With mixup_alpha > 0 a training batch is mixed, and its labels are float32 [N, classes].
    Training batches follow (seed, epoch); the eval loader keeps the split's order and augments nothing.
    """

    def loader(dataset: ImageDataset, sampler: EpochSampler, mixup: Mixup | None = None) -> BatchLoader:
        return BatchLoader(dataset, sampler, Collate(config.mean, config.std, mixup), config.num_workers)

    train_indices, eval_indices = data.train.spread(config.train_limit), data.eval.spread(config.eval_limit)
    return Loaders(
        data,
        loader(
            ImageDataset(data.train, config, seed),
            EpochSampler(train_indices, config.batch_size, seed, config.drop_last),
            Mixup(mixup_alpha, len(data.classes), seed) if mixup_alpha else None,
        ),
        loader(ImageDataset(data.eval, config), EpochSampler(eval_indices, config.batch_size)),
        eval_indices,
    )
