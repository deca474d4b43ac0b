"""Compiling the operator: once for each source, Paddle and processor, kept below .cache/ops/.

Run as a program it compiles its first argument into the folder that is its second. `build` has that done by
a process of its own, so that nothing a compiler does or prints can disturb the one that trains.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from filelock import FileLock

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
    folder = cache / _key(paddle_version)
    library, log = folder / f"{NAME}.so", folder / "build.log"
    if library.is_file():
        return library
    if platform.system() != "Linux" or shutil.which(COMPILER) is None:
        raise BuildError(f"it needs Linux and {COMPILER}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            if not library.is_file() and not log.is_file():
                _compile(folder, library, log)
    except OSError as error:
        raise BuildError(str(error)) from None
    if not library.is_file():
        raise BuildError(f"the build failed; see {log}, and remove it to try again")
    return library


def _key(paddle_version: str) -> str:
    sources = [path.read_text() for path in (SOURCE, *HEADERS)]
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
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            done = subprocess.run(
                [sys.executable, __file__, str(SOURCE), scratch], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, errors="replace", timeout=TIMEOUT_S,
            )  # fmt: skip
            compiled, output = done.returncode == 0, done.stdout
        except subprocess.TimeoutExpired:
            compiled, output = False, f"no end after {TIMEOUT_S} s"
        if compiled:
            os.replace(Path(scratch) / NAME / f"{NAME}.so", library)
        else:
            log.write_text(output)


def main() -> None:
    warnings.filterwarnings("ignore")  # Paddle's advice to install ccache
    from paddle.utils import cpp_extension

    source, folder = sys.argv[1:]
    cpp_extension.load(NAME, [source], extra_cxx_cflags=FLAGS, build_directory=folder, verbose=True)


if __name__ == "__main__":
    main()
