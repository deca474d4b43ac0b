"""What the JSON files of a run have to hold for those who read them; they may hold more."""

import json
import sys
from pathlib import Path
from typing import Annotated, Optional

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from simam_repro.errors import UserError

RESTORE = "restore it, or train the run again"
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class FilePart(BaseModel):
    # Strict: the text "0.9" is no accuracy.
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class DataEntry(FilePart):
    """data.json, and `data` in result.json. Older runs have no class names, and no digest of sizes."""

    name: str
    sha256: str
    stand_in: bool
    train_images: int
    eval_images: int
    class_names: list[str] = []
    sizes_sha256: Optional[str] = None
    split: Optional[int] = None


class InitialWeights(FilePart):
    """initial_weights.json, and `weights` in result.json"""

    path: str
    sha256: str


class _Scores(FilePart):
    epoch: int
    eval_acc: Fraction
    eval_loss: float


class _Final(_Scores):
    train_acc: Fraction


class _Best(_Scores):
    chosen_on: str = "eval"


class Result(FilePart):
    """result.json"""

    name: str
    seed: int
    epochs: int
    parameters: int
    wall_s: float
    train_images_per_s: float
    eval_images_per_s: float
    final: _Final
    best: _Best
    data: DataEntry


class Environment(FilePart):
    """environment.json"""

    nproc: Annotated[int, Field(ge=1)] = 1
    gpu: Optional[str] = None
    cpu: Optional[str] = None
    sessions: list[dict] = []


class Record(FilePart):
    """A line of metrics.jsonl"""

    epoch: int
    train_nll: float
    train_acc: Fraction
    eval_loss: float
    eval_acc: Fraction


def read_checked(path: Path, schema, remedy: str = RESTORE) -> dict:
    """The content of a JSON file as it is, when it has what `schema` asks for. Raises UserError that names the key."""
    return _checked(path.read_bytes(), schema, path, remedy)


def read_lines_checked(path: Path, schema) -> list[dict]:
    """The same of a file with a JSON value on each line."""
    lines = path.read_bytes().splitlines()
    return [_checked(line, schema, f"{path}, line {number}", RESTORE) for number, line in enumerate(lines, 1)]


def _checked(content: bytes, schema, place, remedy: str) -> dict:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} cannot be read ({error}): {remedy}") from None
    check(value, schema, place, remedy)
    return value


def check(value, schema, place, remedy: str = RESTORE) -> None:
    """Raises UserError that names `place` and the first wrong key, unless `value` is what `schema` asks for."""
    try:
        TypeAdapter(schema).validate_python(value)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"])) or "its content"
        got = "" if problem["type"] == "missing" else f", got {str(problem['input'])[:60]!r}"
        raise UserError(f"{place}: {key}: {problem['msg']}{got}; {remedy}") from None


def or_warn(read, otherwise):
    """What `read()` gives; where it raises UserError, a warning with its message, and `otherwise`."""
    try:
        return read()
    except UserError as error:
        print(f"warning: {str(error).replace(RESTORE, 'going on without it')}", file=sys.stderr)
        return otherwise
