"""One frozen `Experiment`: the schema with every default; config_files.py reads it from YAML.

A config is YAML with the sections `name`, `seed`, `data`, `model`, `optim`, `train`, `logging`.
"""

import pkgutil
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Optional, Union, get_args, get_origin

from pydantic import AfterValidator, Field, SerializeAsAny, create_model, field_validator, model_validator

from simam_repro.config_files import apply_override, dump_yaml, load_with_bases
from simam_repro.errors import UserError
from simam_repro.optimizers import OPTIMIZERS, SCHEDULES, own_keys
from simam_repro.places import PROJECT_ROOT as PROJECT_ROOT
from simam_repro.places import find_file
from simam_repro.sections import (
    DEVICE_PATTERN,
    NAME_PATTERN,
    NAMED_SECTIONS,
    AttentionConfig,
    PathText,
    Section,
    validated,
)

# Each file there is a backbone. To import one takes paddle, which a config is read without.
BACKBONE_FOLDERS = [str(Path(__file__).parent / "models" / "backbones")]

RGB = tuple[float, float, float]


class Augment(Section):
    """Random changes to a training image, in the order they are applied."""

    resize: Optional[int] = Field(
        None, ge=8, le=2048, description="side of the square before the rest; null: image_size"
    )
    color_jitter: float = Field(
        0.0, ge=0.0, lt=1.0, description="brightness, contrast, saturation: factor in 1 +- this"
    )
    jitter: Literal["pillow", "cv2"] = Field(
        "pillow", description="how color_jitter computes; cv2: as Paddle does with arrays, quirks included"
    )
    pad_crop: int = Field(
        0, ge=0, le=64, description="pad with so many black pixels, then crop at random to the size of before"
    )
    crop_scale: Optional[tuple[float, float]] = Field(
        None, strict=False, description="random resized crop to image_size: range of area fractions"
    )
    flip: float = Field(0.0, ge=0.0, le=1.0, description="probability of a horizontal flip")
    rotation: float = Field(0.0, ge=0.0, le=180.0, description="largest angle in degrees, both ways")

    @model_validator(mode="after")
    def _crop_is_a_range(self):
        if self.crop_scale and not 0.0 < self.crop_scale[0] <= self.crop_scale[1] <= 1.0:
            raise ValueError("crop_scale needs [low, high] with 0 < low <= high <= 1")
        return self


def _data_sets():
    # Imported when a config is validated: they import this module.
    from simam_repro.data import sets

    return sets


def _known_data_set(name: str) -> str:
    known = _data_sets().names()
    if name not in known:
        raise ValueError(f"no file of that name in simam_repro/data/sets/, which has {', '.join(known)}")
    return name


class Data(Section):
    dataset: Annotated[str, AfterValidator(_known_data_set)] = "caltech101_16"
    root: PathText = Field("data", description="where archives and unpacked sets live; relative to the project")
    archive: Optional[PathText] = Field(
        None, description="use this archive, the official or one's own; relative to the project; null: search, then "
        "download"
    )  # fmt: skip
    folder: Optional[PathText] = Field(
        None, description="for dataset: folder, which has {train,eval}/<class>/ or <class>/; relative to the project"
    )
    allow_miniature: bool = Field(
        False, description="accept an archive with other counts than the official; marked stand-in"
    )
    skip_damaged: bool = Field(
        False, description="leave out images that do not decode, and list them in result.json (data.skipped)"
    )
    split: int = Field(
        0, ge=0, le=4, description="of class folders, which fifth of each class is for evaluation: the images whose "
        "number there, modulo 5, is this; 0: the original's"
    )  # fmt: skip
    image_size: int = Field(256, ge=8, le=1024, description="side of the square the network sees, pixels")
    batch_size: int = Field(32, ge=1, le=65536)
    drop_last: bool = Field(False, description="drop the incomplete last training batch")
    num_workers: int = Field(2, ge=0, le=64, description="threads that make batches ahead; 0: none")
    mean: RGB = Field((0.485, 0.456, 0.406), strict=False, description="subtracted per R, G, B of images in [0, 1]")
    std: RGB = Field((0.229, 0.224, 0.225), strict=False, description="divided by, per R, G, B")
    augment: Augment = Augment()
    train_limit: Optional[int] = Field(None, ge=1, description="train on this many images, evenly spread; null: all")
    eval_limit: Optional[int] = Field(None, ge=1, description="evaluate on this many images, evenly spread; null: all")
    validation_fraction: float = Field(
        0.0, ge=0.0, le=0.5, description="share of the training images, evenly spread, that is not trained on: the "
        "best epoch is chosen on it, and the eval images are looked at when all is trained; 0: it is chosen on them"
    )  # fmt: skip

    @model_validator(mode="after")
    def _keys_fit_together(self):
        # In 32 bits a smaller std divides by zero, a larger mean is infinite.
        if min(self.std) < 1e-3 or max(map(abs, (*self.mean, *self.std))) > 1e3:
            raise ValueError("mean needs three numbers from -1000 to 1000, std three positive ones from 0.001 to 1000")
        sets = _data_sets()
        takes = sets.load(self.dataset).takes
        if ("folder" in takes) != (self.folder is not None):
            raise ValueError("data.folder names the folder of dataset: folder, and of that only")
        for key, nothing in (("archive", None), ("split", 0)):
            if getattr(self, key) != nothing and key not in takes:
                able = [name for name in sets.names() if key in sets.load(name).takes]
                made = "null" if nothing is None else nothing
                raise ValueError(f"data.{key} is for dataset: {', '.join(able)} only; make it {made}")
        return self


def _known_backbone(name: str) -> str:
    known = sorted(module.name for module in pkgutil.iter_modules(BACKBONE_FOLDERS))
    if name not in known:
        raise ValueError(f"no file of that name in simam_repro/models/backbones/, which has {', '.join(known)}")
    return name


class Model(Section):
    backbone: Annotated[str, AfterValidator(_known_backbone)] = "towernet"
    e_lambda: Optional[float] = Field(
        None, ge=1e-12, le=1e6, exclude=True, description="of older configs, for attention: in new ones a key of it"
    )
    attention: SerializeAsAny[AttentionConfig] = Field(
        "none", validate_default=True, description="what the arms of a comparison differ in: a module's name, or "
        "{name: NAME, KEY: VALUE} with keys of its own",
    )  # fmt: skip
    fused: bool = Field(
        True, description="compiled operators on a CPU (attention, convolutions), where a compiler is there"
    )
    init: Literal["paddle", "torch", "he"] = Field(
        "paddle", description="of convolutions and linear layers. paddle: its default. torch: PyTorch's default. "
        "he: normal by fan-in, zero bias. Attention keeps its own",
    )  # fmt: skip
    weights: Optional[PathText] = Field(
        None, description="start from this .safetensors or .pdparams file; relative to the project; null: from `init`"
    )

    @field_validator("attention", mode="before")
    @classmethod
    def _section_of_the_module(cls, value, info):
        from simam_repro import attention  # whose modules' sections are made from this file's

        return attention.resolve(value, {key: info.data[key] for key in ("e_lambda",) if info.data.get(key)})

    @model_validator(mode="after")
    def _older_key_is_moved(self):
        self.__dict__["e_lambda"] = None  # it is in `attention` now; an experiment is the same either way
        return self


class _OptimOfAll(Section):
    name: Literal[tuple(OPTIMIZERS)] = "momentum"
    learning_rate: float = Field(0.01, gt=0.0, le=10.0)
    weight_decay: float = Field(
        0.0, ge=0.0, le=1.0, description="on every parameter; adamw: decoupled, else an L2 penalty in the gradient"
    )
    clip_norm: Optional[float] = Field(
        None, ge=1e-6, le=1e6, description="the largest norm of all gradients together; null: not clipped"
    )
    schedule: Literal[tuple(SCHEDULES)] = Field(
        "cosine",
        description="stepped every batch. cosine: to 0 over all steps of the run. cosine_swinging: to 0 over as many "
        "steps as the run has epochs, back, and so on (what the original Caltech code does). constant. step: times "
        "gamma after each of milestones",
    )
    warmup_epochs: float = Field(
        0.0, ge=0.0, description="first the rate rises linearly from 0; the schedule has the epochs that are left"
    )

    @model_validator(mode="after")
    def _needed_keys_are_there(self):
        for setting, functions in (("name", OPTIMIZERS), ("schedule", SCHEDULES)):
            for function in functions.values():
                for key, parameter in own_keys(function).items():
                    needed = key in own_keys(functions[getattr(self, setting)])
                    if parameter.default is parameter.empty and needed != (getattr(self, key) is not None):
                        problem = "missing" if needed else "unused; make it null"
                        raise ValueError(f"optim.{key} is for {setting}: {function.__name__} and here {problem}")
        return self

    def unused_keys(self) -> list[str]:
        """The keys of other optimizers and schedules that are not at their default, so that somebody has set them."""
        used = {*own_keys(OPTIMIZERS[self.name]), *own_keys(SCHEDULES[self.schedule])}
        others = {key: one for function in (*OPTIMIZERS.values(), *SCHEDULES.values())
                  for key, one in own_keys(function).items() if key not in used}  # fmt: skip
        return [key for key, one in others.items()
                if one.default is not one.empty and getattr(self, key) != one.default]  # fmt: skip


def _declared_keys(functions) -> dict:
    """Fields of the keys that optimizers or schedules declare; null stands for what is not given."""
    return {
        key: (Optional[one.annotation], None) if one.default is one.empty else (one.annotation, one.default)
        for function in functions
        for key, one in own_keys(function).items()
    }


Optim = create_model(
    "Optim", __base__=_OptimOfAll, __doc__="`optim`: the keys of all optimizers and schedules, and their own.",
    **_declared_keys([*OPTIMIZERS.values(), *SCHEDULES.values()]),
)  # fmt: skip


class Train(Section):
    epochs: int = Field(100, ge=1, le=100_000)
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    mixup_alpha: float = Field(0.0, ge=0.0, le=100.0, description="mixup with lambda from Beta(alpha, alpha); 0: off")
    best_from: float = Field(0.0, ge=0.0, lt=1.0, description="the best checkpoint has to beat this eval accuracy")
    checkpoint_steps: Optional[int] = Field(
        None, ge=1, description="save a checkpoint every this many steps too; null: after every epoch only"
    )
    amp: Literal["none", "O1", "O2"] = Field(
        "none", description="float16 on a GPU. O1: float32 weights; O2: float16 weights, float32 master weights"
    )
    to_static: bool = Field(False, description="train a traced program of the network; slower on a CPU")
    sync_batch_norm: bool = Field(
        False, description="BatchNorm over the whole batch when several processes share it (--nproc); on GPUs only"
    )
    device: str = Field("auto", pattern=DEVICE_PATTERN, description="auto: the GPU when there is one")

    @model_validator(mode="after")
    def _amp_is_eager(self):
        if self.to_static and self.amp != "none":
            raise ValueError("amp and to_static do not go together: traced attention might not keep float32; use one")
        return self


class Logging(Section):
    visualdl: bool = True
    step_interval: int = Field(10, ge=1, description="log loss and lr of every n-th training step")


# Keys (and whole sections) that shape no number, but for rounding: a name, and where and with what it is computed.
# A run may go on with others, and runs are compared across them.
SHAPES_NO_NUMBER = (
    "name", "data.root", "data.num_workers", "model.fused", "train.checkpoint_steps", "train.device", "logging",
)  # fmt: skip
# What the arms of a comparison differ in: equal in the rest of the recipe, they are paired by seed.
ARM_KEYS = ("model.attention",)


class Experiment(Section):
    """Everything that decides a run's numbers. Training twice from one Experiment gives them twice."""

    ELSEWHERE: ClassVar = {
    "lr": "optim.learning_rate", "base_lr": "optim.learning_rate", "wd": "optim.weight_decay", "bs": "data.batch_size",
    "workers": "data.num_workers", "grad_clip": "optim.clip_norm",
    "lambda": "model.e_lambda", "pretrained": "model.weights",
    }  # fmt: skip

    name: str = Field(pattern=NAME_PATTERN, max_length=100)
    seed: int = Field(0, ge=0, lt=2**31)
    data: Data = Field(default_factory=Data)
    model: Model = Field(default_factory=Model)  # which asks the modules, that are made from this file
    optim: Optim = Optim()
    train: Train = Train()
    logging: Logging = Logging()

    @model_validator(mode="after")
    def _warmup_ends(self):
        if self.optim.warmup_epochs >= self.train.epochs:
            raise ValueError("optim.warmup_epochs needs a number below train.epochs")
        return self

    def to_yaml(self) -> str:
        """The resolved experiment; `load_config` of this text gives an equal Experiment."""
        return dump_yaml(self.model_dump(mode="json"))

    def to_flat(self) -> dict:
        """{"data.batch_size": 32, ...}: one entry a key."""
        return _flatten(self.model_dump(mode="json"))

    def recipe(self, without: tuple[str, ...] = ()) -> dict:
        """The keys that shape a run's numbers, flat: runs of equal recipes are runs of the same experiment.

        Args:
            without: keys and sections to leave out, for what is the same in several runs: `("seed",)`.
        """
        left_out = (*SHAPES_NO_NUMBER, *without)
        return {key: value for key, value in self.to_flat().items() if not _is_below(key, left_out)}

    def differing_keys(self, other: "Experiment") -> list[str]:
        """The keys in which the recipes differ; a key that only one of the two has counts."""
        ours, theirs = self.recipe(), other.recipe()
        return [key for key in {**ours, **theirs} if key not in ours or key not in theirs or ours[key] != theirs[key]]


def load_config(path, overrides=(), of_a_run: bool = False) -> Experiment:
    """Read a YAML config, merge its bases, apply `overrides` ("key.sub=value"), validate.

    Args:
        of_a_run: it is what a run has recorded, so a key that is set and not used is what it was.
    Raises:
        UserError: unreadable file, bad YAML, unknown key (names the nearest), bad value, a key set in vain.
    """
    values = load_with_bases(find_file(path), NAMED_SECTIONS)
    for override in overrides:
        apply_override(values, override, _is_text, NAMED_SECTIONS)
        _prefer_older_key(values, override)
    experiment = build_experiment(values, origin=str(path))
    if not of_a_run:
        _check_all_used(experiment, path)
    return experiment


def _check_all_used(experiment: Experiment, path) -> None:
    """Raises UserError that names a key which has been set and changes nothing."""
    optim, augment = experiment.optim, experiment.data.augment
    unused = [f"optim.{key} ({optim.name}, {optim.schedule})" for key in optim.unused_keys()]
    if augment.jitter != "pillow" and not augment.color_jitter:
        unused.append("data.augment.jitter (color_jitter is 0)")
    if unused:
        raise UserError(f"{path}: set, but not used here: {', '.join(unused)}; leave it out, or at its default")


def _prefer_older_key(values: dict, override: str) -> None:
    """An override of model.e_lambda counts, although a config that has it in model.attention comes first."""
    model = values.get("model")
    if override.partition("=")[0].strip() == "model.e_lambda" and isinstance(model.get("attention"), dict):
        model["attention"].pop("e_lambda", None)


def build_experiment(values: dict, origin: str = "experiment") -> Experiment:
    """Validate a nested dict. Raises UserError that names every wrong key and its remedy."""
    return validated(Experiment, values, f"{origin} is not a valid experiment", "--print-config lists all keys")


def smoke(experiment: Experiment) -> Experiment:
    """The same experiment cut to 1 epoch of 2 train and 2 eval batches of at most 4 images."""
    batch_size = min(experiment.data.batch_size, 4)
    limits = {"batch_size": batch_size, "train_limit": 2 * batch_size, "eval_limit": 2 * batch_size}
    return experiment.model_copy(
        update={
            "data": experiment.data.model_copy(update=limits),
            "optim": experiment.optim.model_copy(update={"warmup_epochs": min(experiment.optim.warmup_epochs, 0.5)}),
            "train": experiment.train.model_copy(update={"epochs": 1}),
            "logging": experiment.logging.model_copy(update={"step_interval": 1}),
        }
    )


def _is_text(key: str) -> bool:
    """Whether the values of a key, "section.key", are texts."""
    schema, field = Experiment, None
    for name in key.split("."):
        field = getattr(schema, "model_fields", {}).get(name)
        schema = field and field.annotation
    kinds = {part for part in get_args(schema)} or {schema}
    return str in {get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in kinds}


def _is_below(key: str, sections) -> bool:
    """Whether a flat key is one of `sections`, or below one of them."""
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _flatten(values: dict, prefix="") -> dict:
    flat: dict[str, Union[str, int, float, list, None]] = {}
    for key, value in values.items():
        flat.update(_flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat
