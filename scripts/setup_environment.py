"""Create a virtual environment with the packages for this machine, or look whether the one that is there has them.

What was not installed by this script is never changed. Standard library only. `make setup` calls it.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import venv
from pathlib import Path

from _paddle_builds import FROM_INDEX, choose, find_gpus, index_address, index_answers

PROJECT_ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ((3, 10), (3, 13))
# paddlepaddle-gpu 2.6.2, and the numpy that it needs, have no wheels for newer ones.
NEWEST_FOR_PYPI_BUILD = (3, 12)
STAMP = ".ready"
KINDS = ("auto", "cpu", "gpu", *sorted(FROM_INDEX), "2.6-cpu")


def main():
    arguments = parse_arguments()
    check_machine()
    folder = arguments.folder
    stamp = read_stamp(folder)
    if is_environment(folder) and not stamp.get("made_here"):
        use_as_it_is(folder, "it was not made by this command")
        return
    kind = arguments.paddle if arguments.paddle == "2.6-cpu" else choose_paddle(arguments.paddle)
    requirements = requirement_lines(kind)
    digest = hashlib.sha256(json.dumps([kind, requirements, sys.version_info[:2]]).encode()).hexdigest()
    if stamp.get("digest") == digest:
        write_stamp(folder, stamp)
        return
    if not set(stamp.get("packages", ())) <= set(installed(folder) if stamp else ()):
        use_as_it_is(folder, "packages that were installed into it are gone or others now")
        return
    if not stamp:
        create(folder)
    install(folder, requirements, kind, arguments.wheels)
    if kind == "pypi":
        link_cuda_libraries(folder)
    write_stamp(folder, {"made_here": True, "paddle": kind, "digest": digest, "packages": installed(folder)})


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the virtual environment, for example .venv")
    parser.add_argument(
        "--paddle", choices=KINDS, default="auto",
        help="auto: a GPU build where one runs; cpu; gpu; cu126, cu129: the build of Paddle's package index for that "
        "CUDA; 2.6-cpu: the packages of the PyPI GPU build, with the CPU wheel of the same Paddle",
    )  # fmt: skip
    parser.add_argument(
        "--wheels", type=Path, metavar="DIR", help="install from the wheels in DIR only, without the network"
    )
    arguments = parser.parse_args()
    if arguments.wheels and not arguments.wheels.is_dir():
        fail(f"--wheels {arguments.wheels}: no such folder")
    return arguments


def check_machine() -> None:
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        fail(
            f"Python {platform.python_version()} is not one of 3.10 to 3.13: "
            "name another, as in `make setup PYTHON=python3.12`"
        )
    if os.name == "nt":
        fail("native Windows is not supported; use WSL2 (https://learn.microsoft.com/windows/wsl/install)")


def choose_paddle(wanted: str) -> str:
    """cpu, pypi or a folder of Paddle's index; says why."""
    kind, why = choose(wanted, find_gpus(), index_answers)
    print(f"Paddle: {kind} ({why})", flush=True)
    if kind == "pypi" and sys.version_info[:2] > NEWEST_FOR_PYPI_BUILD:
        fail(
            f"paddlepaddle-gpu 2.6.2 has no wheel for Python {platform.python_version()}: "
            "name an older one (make setup PYTHON=python3.12), or install for the CPU (make setup PADDLE=cpu)"
        )
    return kind


def requirement_lines(kind: str) -> list:
    """What pip installs, from the lock files (all Pythons and platforms in one)."""
    name = "requirements" if kind in ("pypi", "2.6-cpu") else "requirements-cpu"
    lines = (PROJECT_ROOT / f"{name}.lock").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    if kind == "2.6-cpu":  # the CPU wheel in the place of the CUDA one
        lines = [line.replace("paddlepaddle-gpu==", "paddlepaddle==") for line in lines if line[:7] != "nvidia-"]
    elif kind in FROM_INDEX:  # the GPU wheel of the same version in the place of the CPU one
        lines = [re.sub(r"^paddlepaddle==", "paddlepaddle-gpu==", line) for line in lines]
    return lines


def create(folder: Path) -> None:
    """A new virtual environment. Raises SystemExit where something else is in its place."""
    if folder.exists() and any(folder.iterdir()):
        fail(f"{folder} holds files and is no virtual environment; name another, as in `make setup VENV=.venv`")
    try:
        venv.create(folder, with_pip=True, symlinks=True)
    except subprocess.CalledProcessError:
        fail("this Python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv")
    # From now on it is ours, also when the installation is interrupted.
    write_stamp(folder, {"made_here": True}, ready=False)


def install(folder: Path, requirements: list, kind: str, wheels) -> None:
    command = [str(python_of(folder)), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    if wheels:
        command += ["--no-index", "--find-links", str(wheels.resolve())]
    elif kind in FROM_INDEX:
        command += ["--extra-index-url", index_address(kind)]
    file = folder / "requirements.txt"
    file.write_text("\n".join(requirements) + "\n", encoding="utf-8")
    print(f"installing into {folder} (once; takes a few minutes)", flush=True)
    if show_progress([*command, "-r", str(file)], len(requirements)):
        source = f"does {wheels} hold all of them?" if wheels else "is the network there? A mirror: PIP_INDEX_URL=..."
        fail(f"pip could not install the packages (see above); {source}", code=1)


def show_progress(command: list, count: int) -> int:
    """Run pip with one line that counts packages (a line for each tenth outside a terminal); returns its exit code."""
    seen, terminal, output = 0, sys.stdout.isatty(), []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            output.append(line)
            found = re.match(r"\s*(?:Collecting|Requirement already satisfied:) ([\w.-]+)|Installing collected", line)
            if not found:
                continue
            seen += bool(found[1])
            text = f"{min(seen, count)}/{count} {found[1]}" if found[1] else "unpacking all of them"
            if terminal:
                print(f"\r\033[K  {text}", end="", flush=True)
            elif not found[1] or seen % max(count // 10, 1) == 0:
                print(f"  {text}", flush=True)
    if terminal:
        print("\r\033[K", end="")
    if process.returncode:
        print("".join(output[-15:]), file=sys.stderr)
    return process.returncode


def use_as_it_is(folder: Path, why: str) -> None:
    """Accept an environment that is the user's when it has the packages; else say what it lacks, and change nothing."""
    missing = missing_packages(folder)
    if missing:
        fail(
            f"{folder} is left as it is ({why}). It lacks: {', '.join(dict.fromkeys(map(_short, missing)))}.\n"
            f"To add them: {python_of(folder)} -m pip install {' '.join(repr(name) for name in missing)}\n"
            f"For an environment of its own: make ... VENV=.venv-new (or move {folder} away)"
        )
    print(f"using {folder} as it is ({why}); it has the packages", flush=True)
    write_stamp(folder, {"made_here": False})


def _short(requirement: str) -> str:
    """Without the platforms that it is for, and without the version, which depends on them."""
    return re.split("[=<>]", requirement)[0] if ";" in requirement else requirement


CHECK = """
import importlib.metadata as metadata, json, re, sys
try:
    from packaging.specifiers import SpecifierSet
except ImportError:
    try:
        from pip._vendor.packaging.specifiers import SpecifierSet
    except ImportError:
        SpecifierSet = None  # then any version will do
def has(line):
    name, wanted = re.fullmatch(r"([\\w.-]+)([^;]*).*", line).groups()
    paddle = name.startswith("paddlepaddle")  # any build, any version that the code runs on
    for one in ["paddlepaddle", "paddlepaddle-gpu"] if paddle else [name]:
        try:
            version = metadata.version(one)
        except metadata.PackageNotFoundError:
            continue
        if SpecifierSet is None or version in SpecifierSet(">=2.6,<4" if paddle else wanted):
            return True
    return False
print(json.dumps([line for line in json.load(sys.stdin) if not has(line)]))
"""


def missing_packages(folder: Path) -> list:
    """The requirements that the environment does not meet. Paddle may be any build of 2.6 or 3."""
    lines = (PROJECT_ROOT / "requirements-cpu.txt").read_text(encoding="utf-8").splitlines()
    wanted = [re.split(r"\s*#", line)[0] for line in lines if line.strip() and not line.startswith("#")]
    return ask(folder, CHECK, json.dumps(list(dict.fromkeys(wanted))))


def installed(folder: Path) -> list:
    """name==version of everything in the environment."""
    code = (
        "import importlib.metadata as m, json; "
        "print(json.dumps(sorted({f\"{d.metadata['Name']}=={d.version}\" for d in m.distributions()})))"
    )
    return ask(folder, code)


def ask(folder: Path, code: str, text: str = "") -> list:
    done = subprocess.run([python_of(folder), "-c", code], input=text, capture_output=True, text=True)
    if done.returncode:
        fail(f"{python_of(folder)} does not work: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


def is_environment(folder: Path) -> bool:
    """A virtual environment, or one of conda."""
    return (folder / "pyvenv.cfg").is_file() or (folder / "conda-meta").is_dir()


def read_stamp(folder: Path) -> dict:
    """What this script wrote into an environment; empty where it has not been, or only before it kept notes."""
    for name in (STAMP, f"{STAMP}.partial"):
        try:
            return json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
    return {}


def write_stamp(folder: Path, stamp: dict, ready: bool = True) -> None:
    """make compares the time of the stamp with that of the requirements; a partial one it does not know."""
    partial = folder / f"{STAMP}.partial"
    partial.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    if ready:
        os.replace(partial, folder / STAMP)


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
