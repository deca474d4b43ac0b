"""Config files: YAML with bases, and overrides of single keys.

They run with the rights of who uses them (docs/trust.md): slips are found here, attacks are not.

`base: [_base_/x.yaml, ...]` (paths relative to the file) are merged first, in order.
"""

import difflib
import os
import re
from pathlib import Path

import yaml

from simam_repro.errors import UserError

MAX_BYTES = 2**20  # above, an archive or a log was named instead of a config


class _Loader(yaml.SafeLoader):
    """YAML that reads plain words as YAML 1.2 does and refuses a key given twice."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"given twice: {', '.join(sorted(twice))}", node.start_mark
            )
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node):
        text = self.construct_scalar(node)
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)


class _Dumper(yaml.SafeDumper):
    """Puts quotes around a text that `_Loader` would read as something else."""


def _read_words_as_yaml_1_2() -> None:
    """PyYAML has YAML 1.1, in which 010 is 8, 1:30 is 90 and 2024-01-02 is a date, but 1e-4 is a text."""
    int_tag, float_tag = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
    not_ours = (int_tag, float_tag, "tag:yaml.org,2002:timestamp")
    digits = "0123456789"
    ours = (
        (float_tag, r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", f"-+.{digits}"),
        (int_tag, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", f"-+{digits}"),
    )
    for side in (_Loader, _Dumper):
        side.yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in words if tag not in not_ours]
            for first, words in side.yaml_implicit_resolvers.items()
        }
    # An int is a float's text, too: the first that fits counts.
    for tag, pattern, first in reversed(ours):
        for side in (_Loader, _Dumper):
            side.add_implicit_resolver(tag, re.compile(f"^({pattern})$", re.ASCII), list(first))
    _Loader.add_constructor(int_tag, _Loader.construct_yaml_int)


_read_words_as_yaml_1_2()


def dump_yaml(value) -> str:
    """YAML text that `_Loader` reads as `value`."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _parse_yaml(text: str, origin: str):
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise UserError(f"{origin} is not valid YAML: nested too deeply; a config needs 3 levels") from None
    except Exception as error:  # PyYAML raises many kinds for odd values (!!bool x, !!timestamp x)
        raise UserError(f"{origin} is not valid YAML: {error or type(error).__name__}") from None


def _read_text(path: Path) -> str:
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise OSError("it is a folder or a device, not a file")
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise OSError(f"it is larger than {MAX_BYTES >> 20} MB, and no config is")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"cannot read config {path}: line {line} is not UTF-8 text; save the file as UTF-8") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read config {path}: {error}{_similar_configs(path)}") from None


def load_with_bases(path: Path, named_sections=()) -> dict:
    """The keys of a YAML file over those of its bases.

    Args:
        named_sections: dotted keys of sections with a `name`, where a text is short for {name: text}. One of another
            name replaces that of the base, whose keys are not its own.
    Raises:
        UserError: a file that cannot be read, is no YAML or no mapping, or leads back to itself.
    """
    return _load_with_bases(path, named_sections, seen=())


def _load_with_bases(path: Path, named_sections, seen: tuple) -> dict:
    text = _read_text(path)
    if path.resolve() in seen:
        raise UserError(f"{path}: its bases lead back to itself; remove one `base:` entry")
    values = _mapping(text, path, "a config", "name, seed, data, model, optim, train, logging")
    bases = values.pop("base", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"{path}: base: needs a list of YAML files, relative to this one")
    merged: dict = {}
    for base in bases:
        below = _load_with_bases(path.parent / base, named_sections, (*seen, path.resolve()))
        merged = _merge(merged, below, named_sections)
    return _merge(merged, values, named_sections)


def load_mapping(path: Path, what: str, keys: str) -> dict:
    """The keys of a YAML file that has no bases.

    Args:
        what: what the file is, for the message, and its `keys`.
    Raises:
        UserError: a file that cannot be read, is no YAML or no mapping.
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


def _merge(below: dict, above: dict, named_sections, prefix: str = "") -> dict:
    merged = dict(below)
    for key, value in above.items():
        other, path = merged.get(key), f"{prefix}{key}"
        if path in named_sections:
            value, other = _with_name(value), _with_name(other)
            other = other if _of_one_name(other, value) else None
        both_sections = isinstance(value, dict) and isinstance(other, dict)
        merged[key] = _merge(other, value, named_sections, f"{path}.") if both_sections else value
    return merged


def _with_name(value):
    return {"name": value} if isinstance(value, str) else value


def _of_one_name(below, above) -> bool:
    both_sections = isinstance(below, dict) and isinstance(above, dict)
    return both_sections and above.get("name", below.get("name")) == below.get("name")


def apply_override(values: dict, override: str, is_text, named_sections=()) -> None:
    """Set what "key.sub=value" says in nested `values`.

    The value is YAML where it begins as a list, a mapping or a quoted text; else it is one word to its end.

    Args:
        is_text: is_text(key): whether the values of that key are texts, so that 2024 means the text.
        named_sections: as `load_with_bases` has them.
    Raises:
        UserError: it is not of that form.
    """
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"-o {override}: an override is key.sub=value, for example train.epochs=2")
    *sections, last = key.strip().split(".")
    for depth, section in enumerate(sections, 1):
        if ".".join(sections[:depth]) in named_sections:
            values[section] = _with_name(values.get(section, {}))
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UserError(f"-o {override}: {section} is a value, not a section")
    values[last] = _parse_value(text.strip(), f"-o {override}", is_text(key.strip()))


def _parse_value(text: str, origin: str, is_text: bool):
    if text[:1] in ("'", '"') and text[-1:] == text[:1] or text[:1] in ("[", "{") and not is_text:
        return _parse_yaml(text, origin)
    loader = _Loader("")
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))
    if is_text and not tag.endswith(":null"):
        return text
    try:
        return loader.construct_object(yaml.ScalarNode(tag, text))
    except ValueError as error:  # a whole number of thousands of digits
        raise UserError(f"{origin}: {error}") from None
