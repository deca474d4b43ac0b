"""The backbones: each is one file of this folder, found by its name, and nothing else names it.

A file `NAME.py` holds `BACKBONE = Backbone(...)`, see `simam_repro.models.backbone`.
"""

import importlib
import pkgutil

from simam_repro.errors import UserError
from simam_repro.models.backbone import Backbone


def names() -> tuple[str, ...]:
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> Backbone:
    """The backbone of that name, one of `names()`."""
    return importlib.import_module(f"{__name__}.{name}").BACKBONE


def check_image_size(name: str, image_size: int) -> None:
    """Raises UserError when images of `image_size` x `image_size` pixels are too small for the backbone."""
    smallest = load(name).smallest_image
    if image_size < smallest:
        raise UserError(
            f"data.image_size: {image_size} is too small for model.backbone: {name}, which needs at least {smallest}"
        )
