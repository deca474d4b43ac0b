"""Accuracy of a run's network under corruptions and attacks, kept beside the run as it is measured.

Everything that is drawn follows from a fixed seed and the image's id, so all networks see the same corrupted images,
and a network's numbers do not depend on which others were measured, or in how many goes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle

from simam_repro.config import Data
from simam_repro.data import build_loaders
from simam_repro.data.cache import ResizedImages
from simam_repro.data.loaders import BatchLoader, BatchMaker, EpochSampler, ImageDataset
from simam_repro.data.prepared import Split
from simam_repro.errors import RunError, UserError
from simam_repro.evaluation.attacks import STEP_SHARE, STEPS, PixelSpace, fgsm, pgd
from simam_repro.evaluation.corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    check_corruptions,
    corruption_rng,
    describe_parameters,
)
from simam_repro.evaluation.outcomes import pack
from simam_repro.evaluation.trained import Trained, load_trained
from simam_repro.models import predict_logits
from simam_repro.runs import RunFolder, find_runs, readable
from simam_repro.storage import checksum, read_json, write_json
from simam_repro.training.checkpoints import WEIGHTS
from simam_repro.training.environment import describe_environment, hardware, versions

SCHEMA = 2
ATTACKS = ("fgsm", "pgd")
EPS = (0.5, 1, 2, 4, 8)  # in units of 1/255
# What a part costs in forward passes; a gradient is about two.
COSTS = {"clean": 1, "corruptions": 1, "fgsm": 4, "pgd": 3 * STEPS + 1}


@dataclass(frozen=True)
class Scope:
    """What to measure, on at most `images` eval images, evenly spread; `weights` is last (final epoch) or best."""

    corruptions: tuple[str, ...] = tuple(CORRUPTIONS)
    severities: tuple[int, ...] = SEVERITIES
    attacks: tuple[str, ...] = ATTACKS
    images: int = 1000
    weights: str = "last"

    def __post_init__(self):
        check_corruptions(self.corruptions)
        for severity in set(self.severities) - set(SEVERITIES):
            raise UserError(f"severity {severity}: it is one of {', '.join(map(str, SEVERITIES))}")
        for attack in set(self.attacks) - set(ATTACKS):
            raise UserError(f"no attack {attack!r}; there are {', '.join(ATTACKS)}")

    @property
    def file_name(self) -> str:
        """Of the numbers, beside a run and in the folder of several."""
        return "robustness.json" if self.weights == "last" else f"robustness_{self.weights}.json"

    def parts(self) -> list[tuple]:
        """What is measured and kept one at a time: (section, name, severity or eps)."""
        corrupted = [("corruptions", name, severity) for name in self.corruptions for severity in self.severities]
        return [("clean",), *corrupted, *(("attacks", name, eps) for name in self.attacks for eps in EPS)]


def runs_to_measure(paths) -> tuple[list[RunFolder], list[Path]]:
    """Complete runs: those of `paths` that are run folders, and those in and one below the other folders.

    Returns:
        The runs, and the folders of runs that are not complete and were found below a folder.
    Raises:
        UserError: a path that is not the folder of a complete run and has none below.
    """
    found, incomplete = [], []
    for path in map(Path, paths):
        if RunFolder(path).started:
            RunFolder(path).read_result()  # refuses a run that is not complete
            found.append(path)
            continue
        inside = readable(find_runs(path))
        complete = [run.path for run in inside if run.complete]
        if not complete:
            raise UserError(f"{path} is neither a run folder nor a folder with complete runs in NAME/seedN/")
        found += complete
        incomplete += [run.path for run in inside if not run.complete]
    return [RunFolder(path) for path in {path.resolve(): path for path in found}.values()], incomplete


class Measurement:
    """The numbers of one run: those that its file has, and the way to the missing ones.

    Args:
        run: of a complete run.
        anew: forget what the file has.
    Attributes:
        path: of the file, beside the run's other files.
        content: what the file holds: identity, `clean`, `corruptions` {name: {severity: accuracy}}, `attacks`
            {name: {eps: accuracy}}; the keys are texts, the accuracies fractions. `right` has the same parts, which
            images each network gets right, as `pack` packs them.
    """

    def __init__(self, run: RunFolder, scope: Scope, anew: bool = False):
        self.run, self.scope = run, scope
        self.checkpoint = run.checkpoints / scope.weights
        self.path = run.path / scope.file_name
        identity = self._identity()
        before = None if anew else _read(self.path)
        same = before is not None and all(before.get(key) == value for key, value in identity.items())
        nothing = {"measured_on": [], "corruptions": {}, "attacks": {}, "right": {"corruptions": {}, "attacks": {}}}
        self.content = before if same else {**identity, **nothing}

    @property
    def missing(self) -> list[tuple]:
        return [part for part in self.scope.parts() if self._value(part) is None]

    @property
    def work(self) -> int:
        """Forward passes of an image that are still to be done, about."""
        return self.content["images"] * sum(map(_cost, self.missing))

    def measure(self, device: str = "auto", advance=lambda passes: None) -> None:
        """Measure what is missing; the file is written after each part.

        Args:
            advance: called with the number of forward passes done since the last call.
        Raises:
            UserError: weights that are damaged or no data.
            RunError: the network's logits are not finite.
        """
        if not self.missing:
            return
        trained = load_trained(self.checkpoint, device)
        self._note_environment(describe_environment(trained.device, trained.experiment.model))
        examiner = _Examiner(trained, self.content["images"])
        for part in self.missing:
            self._keep(part, examiner.right(part, advance))
            write_json(self.path, self.content)

    def _identity(self) -> dict:
        """What the numbers depend on, and where they belong; read without the data or the network."""
        result, experiment = self.run.read_result(), self.run.read_experiment()
        weights = self.checkpoint / WEIGHTS
        if not weights.is_file():
            raise UserError(f"{self.checkpoint} is no whole checkpoint: it has no {WEIGHTS}")
        trained_on = self.run.read_environment()
        best = self.scope.weights == "best"
        return {
            "schema": SCHEMA,
            **{key: result[key] for key in ("name", "seed", "attention", "backbone", "epochs", "data")},
            "image_size": experiment.data.image_size,
            "images": min(self.scope.images, result["data"]["eval_images"]),
            "checkpoint": self.scope.weights,
            "epoch": result["best" if best else "final"]["epoch"],
            **({"chosen_on": result["best"].get("chosen_on", "eval")} if best else {}),
            "weights_sha256": checksum(weights),
            "severities": describe_parameters(),
            "attack_settings": attack_settings(),
            "trained_on": {"hardware": hardware(trained_on), "versions": versions(trained_on)},
        }

    def _note_environment(self, environment: dict) -> None:
        here = {"hardware": hardware(environment), "versions": versions(environment)}
        if here not in self.content["measured_on"]:
            self.content["measured_on"].append(here)

    def _value(self, part: tuple) -> float | None:
        if part == ("clean",):
            return self.content.get("clean")
        section, name, level = part
        return self.content[section].get(name, {}).get(str(level))

    def _keep(self, part: tuple, right: np.ndarray) -> None:
        for content, value in ((self.content, float(np.mean(right))), (self.content["right"], pack(right))):
            if part == ("clean",):
                content["clean"] = value
            else:
                section, name, level = part
                content[section].setdefault(name, {})[str(level)] = value


def attack_settings() -> dict:
    """The budgets and the constants of the attacks, of JSON's types."""
    return {"eps": list(EPS), "unit": "1/255", "norm": "L-infinity", "pgd": {"steps": STEPS, "step_share": STEP_SHARE}}


def _read(path: Path) -> dict | None:
    try:
        return read_json(path)
    except (OSError, ValueError):  # not there, or damaged: it is measured anew
        return None


def _cost(part: tuple) -> int:
    return COSTS[part[1] if part[0] == "attacks" else part[0]]


@dataclass(frozen=True)
class ExaminedImages:
    """(epoch, index) -> uint8 image [S, S, 3] of `clean`, under a corruption if one is named; for `BatchMaker`.

    `config` says how a batch is normalised.
    """

    clean: ImageDataset
    config: Data
    corruption: str | None = None
    severity: int | None = None

    @property
    def split(self) -> Split:
        return self.clean.split

    @property
    def images(self) -> ResizedImages:
        return self.clean.images

    def __getitem__(self, key: tuple[int, int]) -> np.ndarray:
        image = self.clean[key]
        if self.corruption is None:
            return image
        rng = corruption_rng(self.corruption, self.severity, self.split.ids[key[1]])
        return CORRUPTIONS[self.corruption](image, self.severity, rng)


class _Examiner:
    """A network and the images that it is examined on: every `len / images`-th of the run's eval images."""

    def __init__(self, trained: Trained, images: int):
        self.trained, self.config = trained, trained.experiment.data
        loaders = build_loaders(trained.data, self.config, trained.experiment.seed)
        everything = loaders.eval_indices
        self.sampler = EpochSampler(everything[np.arange(images) * len(everything) // images], self.config.batch_size)
        self.clean: ImageDataset = loaders.eval.make.dataset

    def right(self, part: tuple, advance) -> np.ndarray:
        """bool [images]: which images are recognised under one part of a `Scope`."""
        if part[0] == "attacks":
            logits = self._attacked_logits(*part[1:], advance)
        else:
            dataset = ExaminedImages(self.clean, self.config, *part[1:])
            logits = predict_logits(self.trained.network, self._batches(dataset, advance))
        if not np.isfinite(logits).all():
            raise RunError(f"{self.trained.checkpoint} gives logits that are not finite: its training has diverged")
        return logits.argmax(axis=1) == self.clean.split.labels[self.sampler.indices]

    def _attacked_logits(self, name: str, eps: float, advance) -> np.ndarray:
        network = PixelSpace(self.trained.network, self.config.mean, self.config.std)
        in_pixels = ExaminedImages(self.clean, self.config.model_copy(update={"mean": (0.0,) * 3, "std": (1.0,) * 3}))
        batches = self._batches(in_pixels, advance, COSTS[name])

        def attacked():
            for keys, (images, labels) in zip(self.sampler, batches):
                if name == "fgsm":
                    yield (fgsm(network, images, labels, eps / 255),)
                else:
                    yield (pgd(network, images, labels, eps / 255, self._starts(keys, images.shape[1:])),)

        return predict_logits(network, attacked())

    def _starts(self, keys, shape) -> paddle.Tensor:
        """Where PGD begins: float32 [N, *shape] in [-1, 1], the same for every network and eps."""
        rngs = [corruption_rng("pgd", 0, self.clean.split.ids[index]) for _, index in keys]
        return paddle.to_tensor(np.stack([2 * rng.random(shape, np.float32) - 1 for rng in rngs]))

    def _batches(self, dataset: ExaminedImages, advance, cost: int = 1):
        """Yield the batches of the examined images, and tell of each when it is done."""
        for images, labels in BatchLoader(BatchMaker(dataset), self.sampler, self.config.num_workers):
            yield images, labels
            advance(cost * len(labels))
