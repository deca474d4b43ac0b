"""Which Python files may be run because a run's config names them: those that a command of this user has named before.

A run folder may come from a stranger, with a module's file beside it; reading it (evaluate, predict, report) must not
run that file unasked.
"""

import contextlib
from contextvars import ContextVar
from pathlib import Path

from simam_repro.config import PROJECT_ROOT
from simam_repro.errors import UserError

# One sha256 a line. Removing it asks again.
KNOWN = PROJECT_ROOT / ".cache" / "attention_files.txt"
_reading_a_run: ContextVar[bool] = ContextVar("reading_a_run", default=False)


@contextlib.contextmanager
def reading_a_run():
    """In this block configs are those of run folders, which nobody has named as theirs."""
    token = _reading_a_run.set(True)
    try:
        yield
    finally:
        _reading_a_run.reset(token)


def check_trust(path: Path, sha256: str) -> None:
    """Remember a file that the user's own config names. Raises UserError where a run names one that no config has."""
    known = KNOWN.read_text().split() if KNOWN.is_file() else []
    if sha256 in known:
        return
    if _reading_a_run.get():
        raise UserError(
            f"model.attention.file: this run's config names {path}; reading the run would execute it, and no "
            "command of yours has named it yet. Look at it; if you trust it, say so once with "
            "`python scripts/summary.py -c RUN/config.yaml`"
        )
    with contextlib.suppress(OSError):  # a project that cannot be written: the next run that names it is refused
        KNOWN.parent.mkdir(parents=True, exist_ok=True)
        with open(KNOWN, "a") as file:
            file.write(f"{sha256}\n")
