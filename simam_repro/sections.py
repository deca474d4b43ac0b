"""What a section of a file is: strict keys, and messages that name the wrong one and its remedy."""

import difflib
import os
from typing import Annotated, ClassVar, Literal, Optional

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from simam_repro.errors import UserError

MOST_PROBLEMS = 20  # of a config are described: one with more is another kind of file
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
PATH_PATTERN = r"^[^\x00-\x1f]*$"
DEVICE_PATTERN = r"^(auto|cpu|gpu|gpu:[0-9]{1,3})$"
# What a text that fits them is, for messages.
PATTERNS = {
    NAME_PATTERN: "it needs letters, digits, _, . and - only, and begins with a letter or a digit",
    PATH_PATTERN: "it needs to be a path without control characters",
    DEVICE_PATTERN: "it is one of auto, cpu, gpu, gpu:N (the first CUDA device is gpu:0)",
}
# The keys where a text is short for {name: text}.
NAMED_SECTIONS = ("model.attention",)


def _without_tilde(path: str) -> str:
    """`~/x` and `~user/x` as the path that a shell makes of them."""
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise ValueError("no home folder is known for it; write the path out (or ./~... for a folder of that name)")
    return expanded


PathText = Annotated[str, Field(min_length=1, max_length=4000, pattern=PATH_PATTERN), AfterValidator(_without_tilde)]


class Section(BaseModel):
    """A part of a config, a sweep's file or a run's record.

    Attributes:
        ELSEWHERE: what other suites call some keys, too unlike ours to be found as similar.
    """

    # Strict: `epochs: yes` or `flip: "0.5"` is a mistake, not a number.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())
    ELSEWHERE: ClassVar[dict[str, str]] = {}


class AttentionConfig(Section):
    """What every attention module has in a config; its file in `simam_repro.attention` adds its own keys."""

    name: str
    position: Optional[Literal["conv", "norm", "act", "block"]] = Field(
        None,
        description="at each site: behind the convolution, before its norm or activation; behind the norm; behind the "
        "activation; at the block's end; null: as the original or the official code has it for the backbone",
    )
    sites: Optional[tuple[str, ...]] = Field(
        None, strict=False, min_length=1, description="which of the backbone's sites; null: those of its original"
    )
    file: Optional[PathText] = Field(
        None, description="the Python file that registers the module, which is run; relative to the project; null: a "
        "module of the package",
    )  # fmt: skip
    sha256: Optional[str] = Field(None, description="of `file`, filled in when it is read; another one is refused")


def validated(schema: type[Section], values: dict, refusal: str, all_keys: str) -> Section:
    """`values` as a `schema`.

    Args:
        refusal: how the message begins.
        all_keys: what it says of an unknown key that is like none.
    Raises:
        UserError: names every wrong key and its remedy.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        problems = error.errors()
        shown = problems[:MOST_PROBLEMS]
        lines = [f"  {line}" for problem in shown for line in _describe_all(problem, schema, all_keys)]
        if len(problems) > len(shown):
            lines.append(f"  and {len(problems) - len(shown)} more")
        raise UserError("\n".join([f"{refusal}:", *lines])) from None


def _describe_all(problem: dict, schema: type[Section], all_keys: str) -> list[str]:
    if problem["type"] != "section":
        return [_describe(problem, schema, all_keys)]
    # A section whose schema the value itself has chosen brings its own problems.
    section, keys = problem["ctx"]["section"], f"its keys are {', '.join(_known_keys(problem['ctx']['section']))}"
    inner = [{**inner, "loc": (*problem["loc"], *inner["loc"])} for inner in problem["ctx"]["problems"]]
    return [_describe(one, section, keys, f"{_key(problem)}.") for one in inner]


def _key(problem: dict) -> str:
    return ".".join(str(part) for part in problem["loc"])


def _describe(problem: dict, schema: type[Section], all_keys: str, prefix: str = "") -> str:
    key = _key(problem) or "(whole file)"
    if problem["type"] == "extra_forbidden":
        nearest = _nearest_key(key, schema, prefix)
        return f"{_cut(key)}: unknown key; " + (f"did you mean {nearest}?" if nearest else all_keys)
    if problem["type"] == "missing":
        return f"{key}: missing; add it"
    if problem["type"] == "model_type":
        return f"{key}: a section with keys below it, got {_shown(problem['input'])}"
    needs = PATTERNS.get(problem.get("ctx", {}).get("pattern"), problem["msg"].removeprefix("Value error, "))
    return f"{_cut(key)}: {needs}, got {_shown(problem['input'])}"


def _shown(value) -> str:
    try:
        return _cut(repr(value))
    except (ValueError, RecursionError):  # a whole number of thousands of digits, a nest of thousands of levels
        return f"a huge {type(value).__name__}"


def _cut(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:100]}... ({len(text)} characters)"


def _nearest_key(key: str, schema: type[Section], prefix: str = "") -> str | None:
    """The known key that `key` probably means; None rather than a wrong one."""
    section, _, last = key.rpartition(".")
    known = schema.ELSEWHERE.get(last)
    if known or len(key) > 100:
        return known
    keys = _known_keys(schema, prefix)
    sections = {candidate.rpartition(".")[0] for candidate in keys}.difference(NAMED_SECTIONS)
    likeness = {one: _likeness(section, last, one) for one in keys if not section or one not in sections}
    best = max(likeness.values())
    likely = [candidate for candidate in likeness if likeness[candidate] == best]
    return likely[0] if best > 0.6 and len(likely) == 1 else None


def _likeness(section: str, last: str, candidate: str) -> float:
    """0 to 1, of a key's last part and a candidate's; in another section only nearly the same counts."""
    home, _, name = candidate.rpartition(".")
    ratio = difflib.SequenceMatcher(None, last, name).ratio()
    if home != section:
        return ratio - 0.25
    begins = len(last) > 2 and (name.startswith(last) or last.startswith(name))
    return max(ratio, 0.7 * begins)


def _known_keys(section: type[Section], prefix="") -> list[str]:
    keys = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            keys += _known_keys(field.annotation, f"{prefix}{name}.")
    return keys
