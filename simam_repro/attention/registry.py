"""The attention modules that there are: each file of this package, or of a user's, registers its own."""

import difflib
import functools
import importlib
import pkgutil
from dataclasses import dataclass
from typing import Any, Callable

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from simam_repro.attention.base import Site
from simam_repro.config import AttentionConfig


@dataclass(frozen=True)
class Module:
    """An attention module.

    Attributes:
        config: its section of a config; the default of its `name` is what configs call the module.
        build: (config, site) -> layer; None: nothing is put into the network.
        title: as figures and sentences call it.
    """

    config: type[AttentionConfig]
    build: Callable[[Any, Site], Any] | None
    title: str

    @property
    def name(self) -> str:
        return self.config.model_fields["name"].default


def register(config: type[AttentionConfig], layer: Callable[[Any, Site], Any] | None, title: str) -> None:
    """Make a module known: the last line of its file.

    Args:
        config: its section of a config, a subclass of `AttentionConfig` with `name: Literal["..."] = "..."`.
        layer: its class, or a function, called with (config, site); None puts nothing into the network.
        title: as figures and sentences call it.
    Raises:
        ValueError: the name is taken, or is not given.
    """
    module = Module(config, layer, title)
    if not isinstance(module.name, str):
        raise ValueError(f'{config.__name__} needs its name: name: Literal["mine"] = "mine"')
    if module.name in _modules:
        raise ValueError(f"an attention module {module.name} is there already; give this one another name")
    _modules[module.name] = module


_modules: dict[str, Module] = {}


@functools.cache
def known_modules() -> dict[str, Module]:
    """{name: module} of this package."""
    package = importlib.import_module(__package__)
    for file in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{__package__}.{file.name}")
    return dict(sorted(_modules.items(), key=lambda item: (item[1].build is not None, item[0])))


def resolve(value, older_keys: dict | None = None) -> AttentionConfig:
    """The section that `model.attention` of a config stands for.

    Args:
        value: a module's name, a mapping of it and keys of its own, or a section, which is returned as it is.
        older_keys: what a config of before has beside the name; the module takes those that it has, unless `value`
            gives them.
    Raises:
        ValueError: no such module (names the nearest).
        PydanticCustomError: wrong keys, for `simam_repro.config` to put into words.
    """
    if isinstance(value, AttentionConfig):
        return value
    values = {"name": value} if isinstance(value, str) else value
    if not isinstance(values, dict):
        raise ValueError("a module's name, or a mapping {name: NAME, KEY: VALUE}")
    schema = _module(values).config
    older = {key: number for key, number in (older_keys or {}).items() if key in schema.model_fields}
    try:
        return schema.model_validate({**older, **values})
    except ValidationError as error:
        context = {"section": schema, "problems": error.errors(), "text": str(error)}
        raise PydanticCustomError("section", "{text}", context) from None


def _module(values: dict) -> Module:
    modules = known_modules()
    if "name" not in values:
        raise ValueError(f"name: missing; add it, one of {', '.join(modules)}")
    name = values["name"]
    if isinstance(name, str) and name in modules:
        return modules[name]
    near = difflib.get_close_matches(str(name).lower()[:50], modules, n=1, cutoff=0.4)
    nearest = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"no attention module of this name (there are {', '.join(modules)}){nearest}")


def module_of(config: AttentionConfig) -> Module:
    return next(module for module in known_modules().values() if module.config is type(config))


def short_title(config: AttentionConfig) -> str:
    """ "SE": the module's title alone."""
    return module_of(config).title


def title(config: AttentionConfig) -> str:
    """ "SE", "SE (reduction 8, position act)": the module's title, with the keys that are not its defaults."""
    changed = [
        f"{key} {_as_text(value)}"
        for key, field in type(config).model_fields.items()
        if (value := getattr(config, key)) != field.default
    ]
    return short_title(config) + (f" ({', '.join(changed)})" if changed else "")


def _as_text(value) -> str:
    if isinstance(value, tuple):
        return "+".join(map(_as_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def build(config: AttentionConfig, site: Site):
    """The layer of the module of `config` at `site`; None for a module that puts nothing there."""
    make = module_of(config).build
    return None if make is None else make(config, site)
