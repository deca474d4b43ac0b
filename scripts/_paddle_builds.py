"""Which build of Paddle this machine can run. Standard library only: it is asked before anything is installed."""

import os
import re
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path

# Paddle's own package index: one folder per CUDA version. A mirror, or a folder of the same layout, by PADDLE_INDEX.
PADDLE_INDEX = os.environ.get("PADDLE_INDEX") or "https://www.paddlepaddle.org.cn/packages/stable"
INDEX_SECONDS = 10


@dataclass(frozen=True)
class Build:
    """A GPU build of Paddle.

    Attributes:
        capabilities: lowest and highest compute capability of the cards that it has code for.
        driver: the lowest CUDA version of the driver (as nvidia-smi prints it) that runs it.
    """

    capabilities: tuple
    driver: float

    def runs_on(self, gpus: "Gpus") -> bool:
        low, high = self.capabilities
        return all(low <= card <= high for card in gpus.capabilities) and gpus.driver >= self.driver


# In order of preference. A driver runs builds of its own major CUDA version; 12.4 is what Paddle asks for (550.54).
FROM_INDEX = {"cu129": Build((7.5, 12.1), 12.9), "cu126": Build((7.0, 9.0), 12.4)}
# Cards newer than Hopper have one build only; every driver that knows them (CUDA 12.8 and newer) runs it.
NEWEST_CARDS = Build((7.5, 12.1), 12.8)
# The newest on PyPI: paddlepaddle-gpu 2.6.2, CUDA 11.8. Also for drivers whose version is not known.
FROM_PYPI = Build((6.1, 8.9), 0.0)


@dataclass(frozen=True)
class Gpus:
    """What the NVIDIA driver shows: each card's compute capability, and the driver's CUDA version (0.0: unknown)."""

    capabilities: tuple = ()
    driver: float = 0.0


def find_gpus() -> Gpus:
    """No cards without a driver or a GPU."""
    cards = _nvidia_smi("--query-gpu=compute_cap", "--format=csv,noheader")
    capabilities = tuple(float(number) for number in re.findall(r"\d+\.\d+", cards))
    version = re.search(r"CUDA Version:\s*(\d+\.\d+)", _nvidia_smi() if capabilities else "")
    return Gpus(capabilities, float(version[1]) if version else 0.0)


def _nvidia_smi(*arguments: str) -> str:
    try:
        done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def choose(wanted: str, gpus: Gpus, index_answers) -> tuple:
    """(build, why): build is cpu, pypi (paddlepaddle-gpu of PyPI) or the name of a folder of Paddle's index.

    Args:
        wanted: auto, cpu, gpu (the best GPU build, whatever the driver says) or a folder of the index.
        index_answers: folder -> whether the index can be reached there; asked only where it matters.
    """
    if wanted == "cpu" or wanted in FROM_INDEX:
        return wanted, f"PADDLE={wanted} was asked for"
    if wanted == "auto" and not gpus.capabilities:
        return "cpu", "no NVIDIA GPU was found"
    folder = _folder_for(gpus) if gpus.capabilities else next(iter(FROM_INDEX))
    if folder and index_answers(folder):
        return folder, f"{_shown(gpus)}: the build for CUDA {folder[2:-1]}.{folder[-1]} of Paddle's package index"
    unreachable = f"Paddle's package index ({PADDLE_INDEX}/{folder}) did not answer" if folder else None
    if wanted == "gpu" or FROM_PYPI.runs_on(gpus):
        reason = unreachable or "no build of Paddle's package index runs on all cards with this driver"
        return "pypi", f"{_shown(gpus)}: {reason}, so paddlepaddle-gpu 2.6.2 from PyPI"
    return "cpu", f"{_shown(gpus)}: {_why_none(gpus, unreachable)}"


def _folder_for(gpus: Gpus):
    if max(gpus.capabilities) > FROM_INDEX["cu126"].capabilities[1] and NEWEST_CARDS.runs_on(gpus):
        return "cu129"
    return next((name for name, build in FROM_INDEX.items() if build.runs_on(gpus)), None)


def _why_none(gpus: Gpus, unreachable) -> str:
    low, high = FROM_PYPI.capabilities
    wheel = f"paddlepaddle-gpu 2.6.2 of PyPI has code for {low} to {high} only"
    if unreachable:
        command = f"make setup PADDLE={_folder_for(gpus)}"
        return f"{unreachable}, and {wheel}. When it can be reached: {command}"
    newest = next(iter(FROM_INDEX))
    return (
        f"no build runs on the weakest and the strongest card with this driver ({wheel}). With a newer driver, or one "
        f"card hidden (CUDA_VISIBLE_DEVICES): make setup PADDLE={newest}"
    )


def _shown(gpus: Gpus) -> str:
    if not gpus.capabilities:
        return "no NVIDIA GPU was found"
    cards = ", ".join(f"{card:.1f}" for card in sorted(set(gpus.capabilities)))
    driver = f"driver for CUDA {gpus.driver:.1f}" if gpus.driver else "driver of unknown version"
    return f"NVIDIA GPU of compute capability {cards}, {driver}"


def index_address(folder: str) -> str:
    """For pip: a URL, or a folder of the same layout on this machine."""
    path = Path(PADDLE_INDEX, folder)
    return path.resolve().as_uri() if path.is_dir() else f"{PADDLE_INDEX.rstrip('/')}/{folder}/"


def index_answers(folder: str) -> bool:
    address = index_address(folder)
    if address.startswith("file:"):
        return True
    try:
        with urllib.request.urlopen(f"{address}paddlepaddle-gpu/", timeout=INDEX_SECONDS):
            return True
    except (OSError, ValueError):
        return False
