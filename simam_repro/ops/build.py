"""Compiling the operator: once for each source, Paddle and processor, kept below .cache/ops/.

A process of its own (compiler.py) does it, so that nothing a compiler does or prints can disturb the one that trains.
"""

import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from simam_repro.errors import UserError
from simam_repro.locks import sole_writer
from simam_repro.ops import compiler
from simam_repro.ops.compiler import FLAGS, NAME
from simam_repro.ops.private import why_not_private
from simam_repro.signals import end_with_parent
from simam_repro.storage import atomic_path, checksum

SOURCE = Path(__file__).with_name(f"{NAME}.cc")
HEADERS = sorted(Path(__file__).parent.glob("*.h"))
COMPILER = "g++"
TIMEOUT_S = 600
LIBRARY, DIGEST = f"{NAME}.so", ".sha256"


class BuildError(Exception):
    """Why there is no operator, in a line."""


def build(caches: list[Path], paddle_version: str) -> Path:
    """The compiled operator, compiled first where it is not there yet.

    It is kept in the first of the folders `caches` that only this user or root may write; one that they alone may
    write and that is whole is taken from any. Processes that want it at the same time wait for the one that compiles.
    A build that failed is not tried again as long as its log is there.

    Raises:
        BuildError: no compiler, no folder that is private and can be written, or a failed build.
    """
    key = _key(paddle_version)
    for cache in caches:
        if _is_sound(cache / key / LIBRARY):
            return (cache / key / LIBRARY).resolve()
    if platform.system() != "Linux" or shutil.which(COMPILER) is None:
        raise BuildError(f"it needs Linux and {COMPILER}")
    folder = _private_folder(caches, key)
    library, log = folder / LIBRARY, folder / "build.log"
    try:
        with sole_writer(library):
            if not _is_sound(library) and not log.is_file():
                _compile(folder, library, log)
    except (OSError, UserError) as error:
        raise BuildError(str(error)) from None
    if log.is_file():
        raise BuildError(f"the build failed; see {log}, and remove it to try again")
    return library


def _is_sound(library: Path) -> bool:
    """Whether it is as it was when it was built, and nobody else could have written it."""
    try:
        written = library.with_suffix(DIGEST).read_text().strip()
        return written == checksum(library) and why_not_private(library.resolve()) is None
    except (OSError, UnicodeDecodeError):
        return False


def _private_folder(caches: list[Path], key: str) -> Path:
    reasons = []
    for folder in (cache.resolve() / key for cache in caches):
        try:
            for part in (*reversed(folder.parents), folder):
                if not part.exists():
                    part.mkdir(mode=0o755, exist_ok=True)
            reason = why_not_private(folder)
            if reason is None and not os.access(folder, os.W_OK):
                reason = f"{folder} cannot be written"
        except OSError as error:
            reason = str(error)
        if reason is None:
            return folder
        reasons.append(reason)
    raise BuildError("; ".join(reasons))


def _key(paddle_version: str) -> str:
    sources = [path.read_text(encoding="utf-8") for path in (SOURCE, *HEADERS)]
    parts = [*sources, *FLAGS, paddle_version, platform.python_version(), _processor()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """What -march=native looks at: model and instruction sets."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    about = ("vendor_id", "cpu family", "model", "flags", "Features")
    return "\n".join(sorted({line for line in lines if line.startswith(about)})) or platform.processor()


def _compile(folder: Path, library: Path, log: Path) -> None:
    print("SimAM: compiling the fused operator, once (about a minute)", file=sys.stderr, flush=True)
    library.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch, _without_spaces(Path(scratch)) as (place, python):
        for path in (SOURCE, *HEADERS):
            shutil.copy(path, place)
        output = _run([python, compiler.__file__, place / SOURCE.name, place])
        if output is None:
            with atomic_path(library) as new:
                shutil.copy(place / NAME / library.name, new)
                new.chmod(0o755)
                with atomic_path(library.with_suffix(DIGEST)) as digest:
                    digest.write_text(checksum(new))
        else:
            log.write_text(output, encoding="utf-8")


@contextmanager
def _without_spaces(scratch: Path):
    """(folder to build in, Python to build with) by paths that have no space: Paddle's tools take one for an end."""
    if not any(" " in str(path) for path in (scratch, sys.executable)):
        yield scratch, sys.executable
        return
    with tempfile.TemporaryDirectory(prefix="simam_repro-") as place:
        prefix, python = Path(place) / "env", Path(sys.executable)
        prefix.symlink_to(sys.prefix)
        yield Path(place), prefix / python.relative_to(sys.prefix) if python.is_relative_to(sys.prefix) else python


def _run(command: list) -> str | None:
    """None when the program succeeds, else what it says. It and the compilers that it starts never outlive this."""
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        start_new_session=True, preexec_fn=end_with_parent(),
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=TIMEOUT_S)
        return output if process.returncode else None
    except subprocess.TimeoutExpired:
        return f"no end after {TIMEOUT_S} s"
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
