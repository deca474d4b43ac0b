"""What a run ran on: versions, device, processor, threads, commit."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import paddle

from simam_repro.config import PROJECT_ROOT

PACKAGES = ("numpy", "pillow", "opencv-python-headless", "visualdl", "matplotlib", "pydantic", "safetensors", "scipy")


def describe_environment(device: str) -> dict:
    """The content of environment.json."""
    return {
        "python": platform.python_version(),
        "paddle": paddle.__version__,
        **{name: _version(name) for name in PACKAGES},
        "device": device,
        "gpu": paddle.device.cuda.get_device_name(int(device[4:])) if device.startswith("gpu") else None,
        "cpu": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "threads": paddle.get_flags("FLAGS_paddle_num_threads")["FLAGS_paddle_num_threads"],
        "platform": f"{platform.system()} {platform.machine()}",
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
