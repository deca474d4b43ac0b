"""Create a virtual environment with the packages for this machine: CUDA Paddle where a GPU can run it, else CPU.

Needs nothing but the standard library. `make setup` calls it.
"""

import argparse
import platform
import subprocess
import sys
import venv
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ((3, 10), (3, 12))
# What the paddlepaddle-gpu wheel on PyPI (2.6.2) has code for.
CAPABILITIES = (6.1, 8.9)
LOCKED_ON = ("Linux", "x86_64", (3, 11))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the virtual environment, for example .venv")
    parser.add_argument(
        "--paddle", choices=("auto", "cpu", "gpu", "2.6-cpu"), default="auto",
        help="auto: gpu when one can be used; 2.6-cpu: the gpu packages with the CPU wheel of the same Paddle",
    )  # fmt: skip
    arguments = parser.parse_args()

    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        fail(
            f"Python {platform.python_version()} is not one of 3.10 to 3.12: "
            "name another, as in `make setup PYTHON=python3.11`"
        )
    kind = choose(arguments.paddle, compute_capabilities())
    requirements = requirements_file(kind)
    print(f"installing {requirements.name} into {arguments.folder} (once; takes a few minutes)", flush=True)
    create(arguments.folder)
    if kind == "2.6-cpu":
        requirements = cpu_twin(requirements, arguments.folder / requirements.name)
    python = arguments.folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
    if subprocess.run(install).returncode:
        fail("pip could not install the packages (see above); is the network there?", code=1)
    if kind == "gpu":
        link_cuda_libraries(arguments.folder)


def create(folder: Path) -> None:
    """A new virtual environment; an older one in its place goes, anything else stays."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        fail(f"{folder} holds files and is no virtual environment; name another, as in `make setup VENV=.venv`")
    try:
        venv.create(folder, with_pip=True, clear=True)
    except subprocess.CalledProcessError:
        fail("this Python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv")


def compute_capabilities() -> list[float]:
    """Of each NVIDIA GPU that the driver shows; empty without driver or GPU."""
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [float(line) for line in done.stdout.split()] if done.returncode == 0 else []


def choose(wanted: str, capabilities: list[float]) -> str:
    """ "cpu" or "gpu"."""
    if wanted != "auto":
        return wanted
    low, high = CAPABILITIES
    if any(low <= capability <= high for capability in capabilities):
        return "gpu"
    if capabilities:
        print(
            f"note: the GPUs here have compute capability {', '.join(map(str, capabilities))}; the paddlepaddle-gpu\n"
            f"on PyPI has code for {low} to {high}. The CPU packages are installed instead. To use the GPU, replace\n"
            f"paddlepaddle in the environment by Paddle 3 for CUDA, as Paddle's installation guide describes."
        )
    return "cpu"


def requirements_file(kind: str) -> Path:
    """The lock on the platform that it was made for, elsewhere the ranges."""
    name = "requirements-cpu" if kind == "cpu" else "requirements"
    here = (platform.system(), platform.machine(), sys.version_info[:2])
    return PROJECT_ROOT / f"{name}.{'lock' if here == LOCKED_ON else 'txt'}"


def cpu_twin(requirements: Path, target: Path) -> Path:
    """Write `requirements` of the gpu environment with the CPU wheel and without NVIDIA's libraries."""
    lines = requirements.read_text().replace("paddlepaddle-gpu==", "paddlepaddle==").splitlines(keepends=True)
    target.write_text("".join(line for line in lines if not line.startswith("nvidia-")))
    return target


def link_cuda_libraries(folder: Path) -> None:
    """Gather NVIDIA's libraries in `<folder>/cuda`, also under the names without version.

    Paddle 2.6 opens `libcudnn.so`; the packages bring `libcudnn.so.8`. The command lines put this
    folder on LD_LIBRARY_PATH.
    """
    target = folder / "cuda"
    target.mkdir(exist_ok=True)
    for library in sorted(folder.resolve().glob("lib/python3*/site-packages/nvidia/*/lib/*.so*")):
        for name in (library.name, library.name.partition(".so")[0] + ".so"):
            if not (target / name).exists():
                (target / name).symlink_to(library)


def fail(message: str, code: int = 2):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
