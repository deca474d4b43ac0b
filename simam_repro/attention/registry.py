"""The attention modules that there are: each file of this package, or of a user's, registers its own."""

import difflib
import functools
import importlib.util
import pkgutil
import sys
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from typing import Any, Callable

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from simam_repro.attention.base import Site
from simam_repro.attention.trust import check_trust
from simam_repro.config import PROJECT_ROOT, AttentionConfig
from simam_repro.errors import UserError
from simam_repro.storage import checksum


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
    if module.name in {**_modules, **_registering}:
        raise ValueError(f"an attention module {module.name} is there already; give this one another name")
    _registering[module.name] = _of_config[config] = module


_modules: dict[str, Module] = {}  # of this package
_registering = _modules  # where `register` puts a module: those of a user's file are apart
_of_config: dict[type[AttentionConfig], Module] = {}


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
    if values.get("file") is not None:
        values = {**values, "sha256": _check_file(values)}
    schema = _module(values).config
    older = {key: number for key, number in (older_keys or {}).items() if key in schema.model_fields}
    try:
        return schema.model_validate({**older, **values})
    except ValidationError as error:
        context = {"section": schema, "problems": error.errors(), "text": str(error)}
        raise PydanticCustomError("section", "{text}", context) from None


def _check_file(values: dict) -> str:
    """The checksum of the user's file. Raises UserError where the file is not there, not the one that is meant,
    or a stranger's (see trust.py)."""
    path, key = PROJECT_ROOT / str(values["file"]), "model.attention.file"
    if not path.is_file() or path.suffix != ".py":
        problem = "is no Python file" if path.exists() else "is not there (paths are relative to the project)"
        raise UserError(f"{key}: {path} {problem}; name the file that registers {values.get('name')}")
    found, expected = checksum(path), values.get("sha256")
    if expected not in (None, found):
        raise UserError(
            f"{key}: {path} has changed: its sha256 is {found}, not {expected}; restore it, or train anew with the "
            "file as it is now: in another run folder, and without sha256 in the config"
        )
    check_trust(path, found)
    return found


@functools.cache
def _modules_of(path: Path, sha256: str) -> dict[str, Module]:
    """Run a user's file; {name: module} of what it registers."""
    global _registering
    known_modules()
    name = f"simam_repro_attention_{sha256[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    _registering = {}
    try:
        spec.loader.exec_module(module)
        return _registering
    except Exception as error:  # whatever a user's code raises
        lines = [one.lineno for one in extract_tb(error.__traceback__) if one.filename == str(path)]
        where = f", line {lines[-1]}" if lines else ""
        raise UserError(f"model.attention.file: {path}{where}: {type(error).__name__}: {error}") from error
    finally:
        _registering = _modules


def _module(values: dict) -> Module:
    file = values.get("file")
    modules = _modules_of(PROJECT_ROOT / file, values["sha256"]) if file else known_modules()
    if "name" not in values:
        raise ValueError(f"name: missing; add it, one of {', '.join(modules)}")
    name = values["name"]
    if isinstance(name, str) and name in modules:
        return modules[name]
    near = difflib.get_close_matches(str(name).lower()[:50], modules, n=1, cutoff=0.4)
    nearest = f"; did you mean {near[0]}?" if near else ""
    here = f"{file} registers" if file else "there are"
    raise ValueError(f"no attention module of this name ({here} {', '.join(modules) or 'none'}){nearest}")


def module_of(config: AttentionConfig) -> Module:
    return _of_config[type(config)]


def short_title(config: AttentionConfig) -> str:
    """ "Mine": the module's title alone."""
    return module_of(config).title


def title(config: AttentionConfig) -> str:
    """ "Mine", "Mine (width 3, position act)": the module's title, with the keys that are not its defaults."""
    changed = [
        f"{key} {_as_text(value)}"
        for key, field in type(config).model_fields.items()
        if key not in ("file", "sha256") and (value := getattr(config, key)) != field.default
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
