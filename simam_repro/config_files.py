"""Config files: YAML that a stranger may have written, with bases, and overrides of single keys.

`base: [_base_/x.yaml, ...]` (paths relative to the file) are merged first, in order.
"""

import difflib
import os
import re
from pathlib import Path

import yaml

from simam_repro.errors import UserError

# What a config may be. The largest one here has 40 keys in 3 levels and 2 bases.
MAX_BYTES, MAX_VALUES, MAX_DEPTH, MAX_FILES = 2**20, 5000, 20, 100


class _Loader(yaml.SafeLoader):
    """YAML that reads 1e-4 as a number (YAML 1.2) and refuses a key given twice."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"given twice: {', '.join(sorted(twice))}", node.start_mark
            )
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Puts quotes around a text that `_Loader` would read as a number."""


for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
    )


def dump_yaml(value) -> str:
    """YAML text that `_Loader` reads as `value`."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _parse_yaml(text: str, origin: str):
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        _count_values(node, {})
        return None if node is None else loader.construct_document(node)
    except RecursionError:
        raise UserError(f"{origin} is not valid YAML: nested too deeply; a config needs 3 levels") from None
    except Exception as error:  # PyYAML raises many kinds for odd values (!!bool x, !!timestamp x)
        raise UserError(f"{origin} is not valid YAML: {error or type(error).__name__}") from None


def _count_values(node, counts: dict, depth: int = 0) -> int:
    """How many values a node is, with each alias as what it stands for: a few lines can stand for billions."""
    if isinstance(node, (yaml.ScalarNode, type(None))):
        return 1
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels; a config needs 3")
    if id(node) not in counts:
        counts[id(node)] = MAX_VALUES  # until it is known: a node that holds itself has no end
        children = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
        counts[id(node)] = 1 + sum(_count_values(child, counts, depth + 1) for child in children)
    if counts[id(node)] > MAX_VALUES:
        raise ValueError(f"it stands for more than {MAX_VALUES} values; write it without so many aliases")
    return counts[id(node)]


def _read_text(path: Path) -> str:
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise OSError("it is a folder or a device, not a file")
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise OSError(f"it is larger than {MAX_BYTES >> 20} MB, and no config is")
        return content.decode("utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read config {path}: {error}{_similar_configs(path)}") from None


def load_with_bases(path: Path) -> dict:
    """The keys of a YAML file over those of its bases.

    Raises:
        UserError: a file that cannot be read, is no YAML or no mapping, stands for too much, or leads back to itself.
    """
    return _load_with_bases(path, seen=(), loaded=[])


def _load_with_bases(path: Path, seen: tuple, loaded: list) -> dict:
    text = _read_text(path)
    if path.resolve() in seen:
        raise UserError(f"{path}: its bases lead back to itself; remove one `base:` entry")
    loaded.append(path)
    if len(loaded) > MAX_FILES:
        raise UserError(f"{path}: more than {MAX_FILES} bases; remove some `base:` entries")
    values = _mapping(text, path, "a config", "name, seed, data, model, optim, train, logging")
    bases = values.pop("base", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"{path}: base: needs a list of YAML files, relative to this one")
    merged: dict = {}
    for base in bases:
        merged = _merge(merged, _load_with_bases(path.parent / base, (*seen, path.resolve()), loaded))
    return _merge(merged, values)


def load_mapping(path: Path, what: str, keys: str) -> dict:
    """The keys of a YAML file that has no bases.

    Args:
        what: what the file is, for the message, and its `keys`.
    Raises:
        UserError: a file that cannot be read, is no YAML or no mapping, or stands for too much.
    """
    return _mapping(_read_text(path), path, what, keys)


def _mapping(text: str, path: Path, what: str, keys: str) -> dict:
    values = _parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise UserError(f"{path}: {what} is a mapping with keys like {keys}")
    return values


def _similar_configs(path: Path) -> str:
    if os.path.exists(path) or not os.path.isdir(path.parent):  # which, unlike Path's, take any text for a path
        return ""
    names = [candidate.name for candidate in path.parent.glob("*.yaml")]
    close = difflib.get_close_matches(path.name, names, n=3)
    return f"; did you mean {', '.join(str(path.parent / name) for name in close)}?" if close else ""


def _merge(below: dict, above: dict) -> dict:
    merged = dict(below)
    for key, value in above.items():
        both_sections = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both_sections else value
    return merged


def apply_override(values: dict, override: str) -> None:
    """Set what "key.sub=value" says in nested `values`. Raises UserError when it is not of that form."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"-o {override}: an override is key.sub=value, for example train.epochs=2")
    *sections, last = key.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UserError(f"-o {override}: {section} is a value, not a section")
    values[last] = _parse_yaml(text, f"-o {override}")
