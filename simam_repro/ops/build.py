"""Compiling the operator: once for each source, Paddle and processor, kept below .cache/ops/.

Run as a program it compiles its first argument into the folder that is its second. `build` has that done by
a process of its own, so that nothing a compiler does or prints can disturb the one that trains.
"""

import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

NAME = "simam_ops"
SOURCE = Path(__file__).with_name(f"{NAME}.cc")
HEADERS = [Path(__file__).with_name(name) for name in ("lanes.h", "planes.h", "convolution.h", "pooling.h")]
FLAGS = ["-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math"]
COMPILER = "g++"
TIMEOUT_S = 600


class BuildError(Exception):
    """Why there is no operator, in a line."""


def build(cache: Path, paddle_version: str) -> Path:
    """The compiled operator in the folder `cache`, compiled first where it is not there yet.

    Processes that want it at the same time wait for the one that compiles. A build that failed is not
    tried again as long as its log is there.

    Raises:
        BuildError: no compiler, a folder that cannot be written, or a failed build.
    """
    # Not there where this is run as a program.
    from simam_repro.errors import UserError
    from simam_repro.locks import sole_writer

    folder = cache / _key(paddle_version)
    library, log = folder / f"{NAME}.so", folder / "build.log"
    if library.is_file():
        return library
    if platform.system() != "Linux" or shutil.which(COMPILER) is None:
        raise BuildError(f"it needs Linux and {COMPILER}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with sole_writer(library):
            if not library.is_file() and not log.is_file():
                _compile(folder, library, log)
    except (OSError, UserError) as error:
        raise BuildError(str(error)) from None
    if not library.is_file():
        raise BuildError(f"the build failed; see {log}, and remove it to try again")
    return library


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
    print("SimAM: compiling the fused operator, once (about 20 s)", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch, _without_spaces(Path(scratch)) as (place, python):
        for path in (SOURCE, *HEADERS):
            shutil.copy(path, place)
        output = _run([python, __file__, place / SOURCE.name, place])
        if output is None:
            shutil.copy(place / NAME / f"{NAME}.so", Path(scratch) / library.name)
            os.replace(Path(scratch) / library.name, library)
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
    from simam_repro.signals import end_with_parent  # not there where this is run as a program

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


def main() -> None:
    warnings.filterwarnings("ignore")  # Paddle's advice to install ccache
    from paddle.utils import cpp_extension

    # Who wants the result has died. (Paddle, when it is imported, takes this signal for itself.)
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))
    source, folder = sys.argv[1:]
    cpp_extension.load(NAME, [source], extra_cxx_cflags=FLAGS, build_directory=folder, verbose=True)


if __name__ == "__main__":
    main()
